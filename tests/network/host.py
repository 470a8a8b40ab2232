"""Run natively and in a sandbox: sockets of the host's. Prints nothing that differs between two runs."""
import errno, fcntl, os, select, socket, struct, termios, threading, time
V4, V6, STREAM, DGRAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
def attempt(what, f):
    try: print(what, f(), flush=True)
    except OSError as e: print(what, errno.errorcode.get(e.errno, str(e)), flush=True)
def pair(at="127.0.0.1", family=V4):
    l = socket.socket(family); l.bind((at, 0)); l.listen(8); c = socket.socket(family); c.connect(l.getsockname()); return l, c, l.accept()[0]
def transfer(family, at):
    l, c, s = pair(at, family); data = os.urandom(3 << 20); got = []
    t = threading.Thread(target=lambda: got.append(b"".join(iter(lambda: s.recv(65536), b"")))); t.start()
    c.sendall(data); c.shutdown(1); t.join(); return got[0] == data, s.getpeername() == c.getsockname(), c.getpeername() == l.getsockname()
attempt("tcp4", lambda: transfer(V4, "10.99.0.1")); attempt("tcp6", lambda: transfer(V6, "fd99::1"))
def machine(family, at, kind=STREAM):
    s = socket.socket(family, kind); s.settimeout(5); s.connect(at); s.sendall(b"abc")
    if kind == STREAM: s.shutdown(1)
    return s.recv(9)
attempt("machine", lambda: machine(V4, ("10.99.0.1", 7000))); attempt("machine6", lambda: machine(V6, ("fd99::1", 7000)))
attempt("machine udp", lambda: machine(V4, ("10.99.0.1", 7000), DGRAM)); attempt("loopback", lambda: machine(V4, ("127.0.0.1", 7000)))
attempt("refused", lambda: machine(V4, ("10.99.0.1", 1))); attempt("no route", lambda: machine(V4, ("203.0.113.9", 1)))
attempt("udp refused", lambda: machine(V4, ("10.99.0.1", 1), DGRAM)); attempt("taken", lambda: socket.socket().bind(("0.0.0.0", 7000)))
attempt("not ours", lambda: socket.socket().bind(("203.0.113.9", 0))); attempt("family", lambda: socket.socket(V6).bind(("127.0.0.1", 1)))
attempt("raw", lambda: socket.socket(V4, STREAM, 99)); attempt("unconnected", lambda: socket.socket().getpeername())
l, c, s = pair(); p = select.epoll(); p.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
def events(): return [e for _, e in p.poll(1)]
print("edges", events(), p.poll(0)); c.send(b"a"); print(events(), p.poll(0)); c.send(b"b"); print(events(), s.recv(1), p.poll(0)); c.shutdown(1); print(events(), s.recv(9), s.recv(9), p.poll(0))
c.close(); s.close(); n = socket.socket(); n.setblocking(False); print("nonblocking", errno.errorcode[n.connect_ex(("10.99.0.1", 7000))])
q = select.poll(); q.register(n, select.POLLOUT); print([e for _, e in q.poll(5000)], n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), n.connect_ex(("10.99.0.1", 7000)))
n = socket.socket(); n.setblocking(False); n.connect_ex(("10.99.0.1", 1)); q = select.poll(); q.register(n, select.POLLOUT); print("failed", [e for _, e in q.poll(5000)], n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
l, c, s = pair(); c.send(b"12!", socket.MSG_OOB); q = select.poll(); q.register(s, select.POLLPRI); print("urgent", q.poll(5000)[0][1], s.recv(1, socket.MSG_OOB), s.recv(9))
mark = fcntl.ioctl(s, 0x8905, b"\0" * 4); c.send(b"x" * 1000); time.sleep(0.1); print("waiting", struct.unpack("i", fcntl.ioctl(s, termios.FIONREAD, b"\0" * 4))[0], mark, s.recv(5, socket.MSG_PEEK), len(s.recv(2000, socket.MSG_WAITALL | socket.MSG_DONTWAIT)))
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close(); attempt("reset", lambda: s.recv(1)); attempt("then", lambda: s.recv(1)); attempt("pipe", lambda: s.send(b"x"))
s = socket.socket(); s.settimeout(0.05); s.bind(("127.0.0.1", 0)); s.listen(1)
try: s.accept()
except TimeoutError: print("no one came")
for level, name, value in (1, socket.SO_KEEPALIVE, 1), (6, socket.TCP_NODELAY, 1), (6, socket.TCP_KEEPIDLE, 77), (0, socket.IP_TOS, 16), (0, socket.IP_TTL, 9), (1, socket.SO_REUSEPORT, 1), (1, socket.SO_RCVBUF, 9000), (6, 99, 1), (1, 12345, 1), (77, 1, 1):
    def both():
        s.setsockopt(level, name, value); return s.getsockopt(level, name)
    attempt(f"option {level} {name}", both)
u = socket.socket(V4, DGRAM); u.bind(("127.0.0.1", 0)); u.setsockopt(0, 8, 1); u.setsockopt(0, 12, 1); v = socket.socket(V4, DGRAM)
v.sendmsg([b"12", b"345"], [(0, socket.IP_TTL, struct.pack("i", 33))], 0, u.getsockname()); d, a, f, w = u.recvmsg(3, 200); print("datagram", d, [x for x in a if x[1] == socket.IP_TTL], len(a), f == socket.MSG_TRUNC, w[0])
v.sendto(b"abcdef", u.getsockname()); print(u.recv_into(bytearray(2), 2, socket.MSG_TRUNC)); attempt("long", lambda: v.sendto(b"x" * 65508, u.getsockname())); attempt("empty", lambda: (v.sendto(b"", u.getsockname()), u.recv(9)))
e = socket.socket(V4, DGRAM); e.setsockopt(0, 11, 1); e.connect(("10.99.0.1", 1)); e.send(b"q"); time.sleep(0.1); d, a, f, w = e.recvmsg(99, 300, 0x2000); print("error queue", d, f & 0x2000, struct.unpack("I4B", a[0][2][:8]), w)
i = socket.socket(V4, DGRAM, 1); i.settimeout(5); i.sendto(b"\x08\0\0\0\0\0\0\1data", ("10.99.0.1", 0)); print("echo", i.recv(99)[0], i.getsockname()[1] != 0)
print("names", [n for _, n in socket.if_nameindex()], socket.getaddrinfo("localhost", 80, V4, STREAM)[0][4])
many = [pair() for _ in range(200)]
for _, c, s in many: c.send(b"y")
print("many", sum(s.recv(1) == b"y" for _, _, s in many))
