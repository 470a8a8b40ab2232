"""The machine's servers: TCP answers with what it got, reversed, or resets; UDP likewise; a name server."""
import socket, struct, threading
def tcp(family, at):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(at); s.listen(512)
    def serve(c):
        try: data = b"".join(iter(lambda: c.recv(65536), b""))
        except OSError: return
        if data == b"reset": c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else: c.sendall(data[::-1])
        c.close()
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
def udp(family, at, answer=lambda d: d[::-1]):
    s = socket.socket(family, socket.SOCK_DGRAM); s.bind(at)
    while True:
        data, who = s.recvfrom(65536); s.sendto(answer(data), who)
def name(query):
    end = query.index(0, 12) + 5; labels, at = [], 12
    while query[at]: labels.append(query[at + 1:at + 1 + query[at]].decode()); at += 1 + query[at]
    asked, kind = ".".join(labels), struct.unpack(">H", query[end - 4:end - 2])[0]
    known = {"server.test": "10.99.0.1", "other.test": "10.99.0.2"}.get(asked) if kind == 1 else None
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(known) if known else b""
    rcode = 0 if known or asked.endswith("server.test") or asked.endswith("other.test") else 3
    return query[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, 1 if known else 0, 0, 0) + query[12:end] + record
def names_over_tcp(at):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(at); s.listen(9)
    def serve(c):
        f = c.makefile("rb")
        while head := f.read(2):
            # In two pieces, which nobody may mind.
            out = name(f.read(int.from_bytes(head, "big"))); c.sendall(len(out).to_bytes(2, "big") + out[:5]); c.sendall(out[5:])
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
def silent(at):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(at); threading.Event().wait()
def greeting(at):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(at); s.listen(9)
    while True: c = s.accept()[0]; c.sendall(b"welcome"); c.close()
V4, V6 = socket.AF_INET, socket.AF_INET6
for f, *rest in (greeting, ("0.0.0.0", 7002)), (tcp, V4, ("0.0.0.0", 7000)), (tcp, V6, ("fd99::1", 7000)), (udp, V4, ("10.99.0.1", 7000)), \
        (udp, V6, ("fd99::1", 7000)), (udp, V4, ("10.99.0.1", 53), name), (names_over_tcp, ("10.99.0.1", 53)), (silent, ("10.99.0.5", 53)):
    threading.Thread(target=f, args=rest, daemon=True).start()
import time; time.sleep(0.2); print("ready", flush=True); threading.Event().wait()
