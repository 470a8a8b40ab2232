"""Threads, sockets, commands, and memory."""

import json
import socket
import subprocess
import threading

a, b = socket.socketpair()
sender = threading.Thread(target=lambda: a.sendall(json.dumps(list(range(5000))).encode()))
sender.start()
got = b""
while not got.endswith(b"]"):
    got += b.recv(65536)
sender.join()
print(sum(json.loads(got)), subprocess.run(["seq", "3"], capture_output=True).stdout)

counts = [0] * 4
lock = threading.Lock()


def count(index):
    for _ in range(2000):
        with lock:
            counts[index] += 1


threads = [threading.Thread(target=count, args=(i,)) for i in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(counts, len(bytearray(64 << 20)))
