"""Control groups inside a sandbox, held against what cgroups(7) and cgroup-v2.rst say: run in the sandbox.

The hosts of the tests may have version 1 only, so that there is no native result to compare with.
"""

import ctypes
import errno
import os
import select
import signal
import struct
import subprocess
import sys
import time

TOP = "/sys/fs/cgroup"
failed = 0


def check(name, got, want):
    global failed
    if got != want:
        failed += 1
        print(f"{name}: got {got!r}, want {want!r}")


def get(path):
    with open(f"{TOP}/{path}") as f:
        return f.read().strip()


def put(path, text):
    """Writes; the result is 0 or the name of the error."""
    try:
        fd = os.open(f"{TOP}/{path}", os.O_WRONLY)
        try:
            os.write(fd, str(text).encode())
        finally:
            os.close(fd)
        return 0
    except OSError as e:
        return errno.errorcode[e.errno]


def attempt(call, *args):
    try:
        call(*args)
        return 0
    except OSError as e:
        return errno.errorcode[e.errno]


def events(path):
    return dict(line.split() for line in get(path).splitlines())


def born_in(group):
    """Has a child made in a group, which says whether it is there: clone3 with CLONE_INTO_CGROUP."""
    directory = os.open(f"{TOP}/{group}", os.O_PATH)
    args = struct.pack("11Q", 1 << 33, 0, 0, 0, signal.SIGCHLD, *[0] * 5, directory)
    pid = ctypes.CDLL(None, use_errno=True).syscall(435, args, len(args))
    if pid == 0:
        os._exit(open("/proc/self/cgroup").read() != f"0::/{group}\n")
    os.close(directory)
    return errno.errorcode[ctypes.get_errno()] if pid < 0 else os.waitpid(pid, 0)[1]


def tree():
    check("path at start", open("/proc/self/cgroup").read(), "0::/\n")
    check("controllers", get("cgroup.controllers"), "cpuset cpu io memory pids")
    os.mkdir(f"{TOP}/a")
    check("a new group has no controllers", get("a/cgroup.controllers"), "")
    check("nor their files", os.path.exists(f"{TOP}/a/pids.max"), False)
    check("enabling beside processes", put("cgroup.subtree_control", "+pids"), "EBUSY")
    check("move", put("a/cgroup.procs", 0), 0)
    check("path", open("/proc/self/cgroup").read(), "0::/a\n")
    check("members", get("a/cgroup.procs").split().count(str(os.getpid())), 1)
    for pid in get("cgroup.procs").split():
        put("a/cgroup.procs", pid)
    check("enabling", put("cgroup.subtree_control", "+cpuset +cpu +io +memory +pids"), 0)
    check("unknown controller", put("cgroup.subtree_control", "+net"), "EINVAL")
    check("processes beside groups with controllers", put("cgroup.procs", 0), "EBUSY")
    os.mkdir(f"{TOP}/a/b")
    check("controller that the parent lacks", put("a/b/cgroup.subtree_control", "+pids"), "ENOENT")
    check("removing a group with processes", attempt(os.rmdir, f"{TOP}/a"), "EBUSY")
    check("removing", attempt(os.rmdir, f"{TOP}/a/b"), 0)
    check("making a file", attempt(os.mknod, f"{TOP}/a/file"), "EPERM")
    check("removing a file", attempt(os.unlink, f"{TOP}/a/cgroup.procs"), "EPERM")
    check("a process that does not exist", put("a/cgroup.procs", 99999), "ESRCH")
    check("no number", put("a/cgroup.procs", "x"), "EINVAL")
    put("a/cgroup.max.descendants", 1)
    os.mkdir(f"{TOP}/a/b")
    check("too many groups", attempt(os.mkdir, f"{TOP}/a/c"), "EAGAIN")
    os.rmdir(f"{TOP}/a/b")
    check("a child born in a group", born_in("a"), 0)


def sleeper(group):
    def enter():
        put(f"{group}/cgroup.procs", 0)

    return subprocess.Popen(["sleep", "100"], preexec_fn=enter)


def populated():
    os.mkdir(f"{TOP}/p")
    events_file = open(f"{TOP}/p/cgroup.events")
    poll = select.poll()
    poll.register(events_file, select.POLLPRI)
    child = sleeper("p")
    check("populated", events("p/cgroup.events"), {"populated": "1", "frozen": "0"})
    check("poll", bool(poll.poll(5000)), True)
    check("nothing new", poll.poll(0), [])
    child.kill()
    check("poll tells the end", bool(poll.poll(5000)), True)
    check("empty", events("p/cgroup.events")["populated"], "0")
    child.wait()
    os.rmdir(f"{TOP}/p")


def freezer_and_kill():
    os.mkdir(f"{TOP}/f")
    counter = subprocess.Popen(
        ["sh", "-c", f"echo 0 > {TOP}/f/cgroup.procs; while :; do echo; done"],
        stdout=subprocess.PIPE,
    )
    counter.stdout.readline()
    events_file = open(f"{TOP}/f/cgroup.events")
    poll = select.poll()
    poll.register(events_file, select.POLLPRI)
    check("freeze", put("f/cgroup.freeze", 1), 0)
    # It says so when the call that was under way has ended, and tells who polls.
    while events("f/cgroup.events")["frozen"] != "1":
        check("poll tells that it is frozen", bool(poll.poll(5000)), True)
    os.set_blocking(counter.stdout.fileno(), False)
    while counter.stdout.read():
        pass
    check("stands still", select.select([counter.stdout], [], [], 0.2)[0], [])
    put("f/cgroup.freeze", 0)
    check("goes on", bool(select.select([counter.stdout], [], [], 5)[0]), True)
    put("f/cgroup.freeze", 1)
    check("kill", put("f/cgroup.kill", 1), 0)
    check("killed though frozen", counter.wait(10), -9)
    counter.stdout.close()
    os.rmdir(f"{TOP}/f")


def pids():
    os.mkdir(f"{TOP}/n")
    children = [sleeper("n") for _ in range(3)]
    check("count", get("n/pids.current"), "3")
    check("bad limit", put("n/pids.max", "-1"), "EINVAL")
    put("n/pids.max", 3)
    code = "import os\ntry: os.fork()\nexcept OSError as e: os._exit(e.errno)\nos._exit(0)"
    enter = f"echo 0 > {TOP}/n/cgroup.procs; exec /usr/bin/env python3 -c '{code}'"
    child = subprocess.run(["sh", "-c", enter])
    check("limit", child.returncode, errno.EAGAIN)
    check("events", int(events("n/pids.events")["max"]) >= 1, True)
    for child in children:
        child.kill()
        child.wait()
    check("nobody left", get("n/pids.current"), "0")
    os.rmdir(f"{TOP}/n")


def cpu():
    os.mkdir(f"{TOP}/c")
    check("quota", put("c/cpu.max", "20000 100000"), 0)
    check("as written", get("c/cpu.max"), "20000 100000")
    check("too short", put("c/cpu.max", "10"), "EINVAL")
    code = "import time\nwhile time.process_time() < 0.3: pass"
    start = time.monotonic()
    subprocess.run(["sh", "-c", f"echo 0 > {TOP}/c/cgroup.procs; exec python3 -c '{code}'"])
    # 0.3 s of work at a fifth of a CPU: at least four periods must be waited out.
    check("throttled", time.monotonic() - start > 0.8, True)
    check("counted", int(events("c/cpu.stat")["nr_throttled"]) > 3, True)
    # Whoever leaves a throttled group goes on.
    put("c/cpu.max", "1000 1000000")
    leaver = subprocess.Popen(
        ["sh", "-c", f"echo 0 > {TOP}/c/cgroup.procs; exec python3 -c '{code}'"]
    )
    before = int(events("c/cpu.stat")["nr_throttled"])
    while int(events("c/cpu.stat")["nr_throttled"]) == before:
        time.sleep(0.01)
    os.mkdir(f"{TOP}/d")
    check("leave while throttled", put("d/cgroup.procs", leaver.pid), 0)
    check("goes on elsewhere", leaver.wait(20), 0)
    os.rmdir(f"{TOP}/d")
    check("usage", int(events("c/cpu.stat")["usage_usec"]) > 250_000, True)
    os.rmdir(f"{TOP}/c")


def cpuset():
    everything = os.sched_getaffinity(0)
    last = max(everything)
    os.mkdir(f"{TOP}/s")
    check("nothing of its own", (get("s/cpuset.cpus"), get("s/cpuset.mems")), ("", ""))
    check("of the parent", get("s/cpuset.cpus.effective"), get("cpuset.cpus.effective"))
    check("one node", get("s/cpuset.mems.effective"), "0")
    check("no such CPU", put("s/cpuset.cpus", last + 1), "ERANGE")
    check("no list", put("s/cpuset.cpus", "1-0"), "EINVAL")
    check("no such node", put("s/cpuset.mems", "1"), "EINVAL")
    check("node", (put("s/cpuset.mems", "0"), get("s/cpuset.mems")), (0, "0"))
    check("one CPU", put("s/cpuset.cpus", f"{last}-{last}"), 0)
    check("as a list", get("s/cpuset.cpus"), str(last))
    check("effective", get("s/cpuset.cpus.effective"), str(last))
    report = "grep Cpus_allowed_list /proc/self/status; nproc; cat /proc/self/cpuset"
    enter = f"echo 0 > {TOP}/s/cgroup.procs"
    child = subprocess.run(["sh", "-c", f"{enter}; {report}"], stdout=subprocess.PIPE)
    check("what a program sees", child.stdout.decode().split()[1:], [str(last), "1", "/s"])
    child = sleeper("s")
    while str(child.pid) not in get("s/cgroup.procs").split():
        time.sleep(0.01)
    check("affinity", os.sched_getaffinity(child.pid), {last})
    check("CPUs in use", put("s/cpuset.cpus", ""), "ENOSPC")
    if len(everything) > 1:
        check("others", attempt(os.sched_setaffinity, child.pid, {min(everything)}), "EINVAL")
        check("more", put("s/cpuset.cpus", f"{min(everything)}-{last}"), 0)
        check("at once", os.sched_getaffinity(child.pid), everything)
        os.sched_setaffinity(child.pid, {min(everything)})
        put("s/cpuset.cpus", last)
        check("a wish that cannot be had", os.sched_getaffinity(child.pid), {last})
        put("s/cpuset.cpus", "all")
        check("is not forgotten", os.sched_getaffinity(child.pid), {min(everything)})
    check("partition", get("s/cpuset.cpus.partition"), "member")
    check("root", put("s/cpuset.cpus.partition", "root"), 0)
    check(
        "refused",
        get("s/cpuset.cpus.partition"),
        "root invalid (Parent is not a partition root)",
    )
    child.kill()
    child.wait()
    check("none", (put("s/cpuset.cpus", ""), get("s/cpuset.cpus")), (0, ""))
    os.rmdir(f"{TOP}/s")


def memory():
    os.mkdir(f"{TOP}/m")
    check("limit", put("m/memory.max", "64M"), 0)
    check("in bytes", get("m/memory.max"), str(64 << 20))
    code = "import time; x = bytearray(160 << 20); time.sleep(20)"
    child = subprocess.run(["sh", "-c", f"echo 0 > {TOP}/m/cgroup.procs; exec python3 -c '{code}'"])
    check("killed", child.returncode, -9)
    check("counted", events("m/memory.events")["oom_kill"], "1")
    os.rmdir(f"{TOP}/m")


def moved(group, device):
    for line in get(f"{group}/io.stat").splitlines():
        name, *fields = line.split()
        if name == device:
            return {key: int(value) for key, value in (field.split("=") for field in fields)}
    return {"rbytes": 0, "rios": 0}


def io():
    os.mkdir(f"{TOP}/i")
    check("nothing moved", get("i/io.stat"), "")
    # The host's files are below the overlay: their device is that of a directory of the host's, which statistics name.
    read = f"echo 0 > {TOP}/i/cgroup.procs; exec python3 -c 'open(\"/usr/bin/perl\", \"rb\").read(2 << 20)'"
    check("reading", subprocess.run(["sh", "-c", read]).returncode, 0)
    used = [line.split()[0] for line in get("i/io.stat").splitlines()]
    most = max(used, key=lambda device: moved("i", device)["rbytes"])
    check("counted", moved("i", most)["rbytes"] >= 2 << 20, True)
    check("no limit", get("i/io.max"), "")
    check("limit", put("i/io.max", f"{most} rbps=2097152 riops=max"), 0)
    check("as written", get("i/io.max"), f"{most} rbps=2097152 wbps=max riops=max wiops=max")
    for text, error in [("8:999 rbps=1", "ENODEV"), (f"{most} rbps=0", "ERANGE"), (f"{most} x=1", "EINVAL")]:
        check(text, put("i/io.max", text), error)
    before, start = moved("i", most)["rbytes"], time.monotonic()
    check("reading slowly", subprocess.run(["sh", "-c", read]).returncode, 0)
    # Two megabytes at least, and all of them paid for before the program went on.
    least = (moved("i", most)["rbytes"] - before) / 2097152 * 0.9
    check("throttled", time.monotonic() - start >= least >= 0.9, True)
    check("the rest of the sandbox is not", get("io.max"), "")
    put("i/io.max", f"{most} rbps=1000")
    child = subprocess.Popen(["sh", "-c", read])
    while moved("i", most)["rbytes"] == before:
        time.sleep(0.01)
    child.kill()
    check("who pays can be killed", child.wait(10), -9)
    check("no limit again", (put("i/io.max", f"{most} rbps=max"), get("i/io.max")), (0, ""))
    total = moved("i", most)["rbytes"]
    os.rmdir(f"{TOP}/i")
    check("not forgotten", moved(".", most)["rbytes"] >= total, True)


for part in (tree, populated, freezer_and_kill, pids, cpu, cpuset, io, memory):
    part()
print("all as it should be" if failed == 0 else f"{failed} failed")
sys.exit(failed != 0)
