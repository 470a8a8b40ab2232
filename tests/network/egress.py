"""In the sandbox: what a policy lets through. Names each attempt, and what became of it."""
import errno, socket, ssl
def hello(name):
    out = ssl.MemoryBIO(); tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try: tls.do_handshake()
    except ssl.SSLWantReadError: return out.read()
def attempt(what, f):
    try: print(what, f(), flush=True)
    except OSError as e: print(what, errno.errorcode.get(e.errno, str(e)) if not isinstance(e, socket.gaierror) else "no such name", flush=True)
def send(at, data, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind); s.settimeout(5); s.connect(at); s.sendall(data)
    if kind == socket.SOCK_DGRAM: return s.recv(99)
    try: s.shutdown(socket.SHUT_WR)
    except OSError: pass  # It has been refused already, which the next call says.
    return b"".join(iter(lambda: s.recv(65536), b"")) == data[::-1]
attempt("before", lambda: send(("10.99.0.1", 7000), b"x"))
attempt("named", lambda: send(("server.test", 7000), b"plain"))
attempt("address", lambda: send(("10.99.0.1", 7000), b"x" * 100000))
attempt("port", lambda: send(("10.99.0.1", 7001), b"x"))
attempt("udp", lambda: send(("10.99.0.1", 7000), b"ab", socket.SOCK_DGRAM))
attempt("tls", lambda: send(("10.99.0.1", 7000), hello("server.test")))
attempt("other tls", lambda: send(("10.99.0.1", 7000), hello("other.test")))
attempt("nameless tls", lambda: send(("10.99.0.1", 7000), hello("10.99.0.1")))
attempt("other name", lambda: send(("other.test", 7000), b"x"))
attempt("other address", lambda: send(("10.99.0.3", 7000), b"x"))
attempt("network", lambda: send(("10.99.0.2", 7000), b"x"))
def over_tcp(name, server):
    s = socket.create_connection((server, 53), 5); f = s.makefile("rb")
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0\0\1\0\1"
    s.sendall(len(query).to_bytes(2, "big") + query[:7]); s.sendall(query[7:])
    out = f.read(int.from_bytes(f.read(2), "big")); return out[:2] == query[:2], out[3] & 15
server = next(l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver"))
attempt("name over TCP", lambda: over_tcp("server.test", server))
attempt("other name over TCP", lambda: over_tcp("other.test", server))
attempt("silent", lambda: socket.create_connection(("server.test", 7002)).recv(9))
