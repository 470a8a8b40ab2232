"""A container and a process of exec whose terminals are passed through a console socket.

usage: terminal.py RUNSC STATE WORK
"""
import array
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import termios
import time

runsc, state, work = sys.argv[1:]
bundle = f"{work}/b"
environment = dict(os.environ)


def run(*args):
    subprocess.run([runsc, "--root", state, *args], check=True, timeout=60, stdin=subprocess.DEVNULL)


def receive_master(listener):
    connection, _ = listener.accept()
    fds = array.array("i")
    _, control, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(fds.itemsize))
    fds.frombytes(control[0][2][: fds.itemsize])
    return fds[0]


pending = {}


def read_until(master, text, limit=20):
    seen, end = pending.pop(master, b""), time.time() + limit
    while text not in seen:
        left = end - time.time()
        if left <= 0 or not select.select([master], [], [], left)[0]:
            raise SystemExit(f"waited for {text!r}, got {seen!r}")
        try:
            seen += os.read(master, 4096)
        except OSError as e:
            raise SystemExit(f"waited for {text!r}, got {seen!r} and {e}")
    pending[master] = seen.split(text, 1)[1]


def resize(master, rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


with open(f"{bundle}/config.json") as file:
    config = json.load(file)
config["process"]["terminal"] = True
config["process"]["consoleSize"] = {"width": 90, "height": 30}
config["process"]["args"] = ["/bin/sh"]
config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/dev"]
config["mounts"] += [
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
]
with open(f"{bundle}/config.json", "w") as file:
    json.dump(config, file)

path = f"{work}/console"
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
run("create", "--bundle", bundle, "--console-socket", path, "tty")
master = receive_master(listener)
run("start", "tty")
os.write(master, b"test -t 0 && echo te''rminal; busybox stty size\n")
read_until(master, b"terminal\r\n")
read_until(master, b"30 90")
resize(master, 40, 100)
os.write(master, b"busybox stty size; echo si''ze\n")
read_until(master, b"40 100")

run("exec", "--tty", "--detach", "--console-socket", path, "--pid-file", f"{work}/epid", "tty", "/bin/sh")
second = receive_master(listener)
resize(second, 50, 120)
os.write(second, b"busybox stty size; busybox tty\n")
read_until(second, b"50 120")
read_until(second, b"/dev/pts/")
# Ctrl-C belongs to the program inside.
os.write(second, b"sleep 600\n")
read_until(second, b"sleep 600")
time.sleep(0.2)
os.write(second, b"\x03echo al''ive\n")
read_until(second, b"alive")
os.write(second, b"exit 4\n")
pid = int(open(f"{work}/epid").read())
end = time.time() + 20
while time.time() < end and os.path.exists(f"/proc/{pid}/stat"):
    if open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z":
        break
    time.sleep(0.02)
else:
    if os.path.exists(f"/proc/{pid}/stat"):
        raise SystemExit("the process that stands for exec does not end")
# A terminal that is hung up ends the shell on it, and the container.
os.close(master)
end = time.time() + 20
while time.time() < end:
    out = subprocess.run([runsc, "--root", state, "state", "tty"], capture_output=True, text=True)
    if json.loads(out.stdout)["status"] == "stopped":
        break
    time.sleep(0.05)
else:
    raise SystemExit("the container outlives its terminal")
run("delete", "tty")
config["process"]["terminal"] = False
config["process"].pop("consoleSize")
with open(f"{bundle}/config.json", "w") as file:
    json.dump(config, file)
print("terminal: ok")
