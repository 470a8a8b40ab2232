//! /proc, read for relations that hold on every Linux.

use crate::prelude::*;

fn text(path: &str) -> String {
    get(&CString::new(path).unwrap_or_default()).text()
}
/// The value of a `Name:` line of a status file.
fn field(file: &str, name: &str) -> String {
    let all = text(file);
    let found = all.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or("missing").split_whitespace().collect::<Vec<_>>().join(" ")
}
/// The fields of a stat file behind the name, the first of which is number 3.
fn stat_fields(file: &str) -> Vec<String> {
    let all = text(file);
    all.rsplit_once(") ").map_or("", |p| p.1).split_whitespace().map(String::from).collect()
}
fn link_of(path: &str) -> String {
    readlink(&CString::new(path).unwrap_or_default(), 4096).text()
}

fn self_is_a_link_to_the_process() {
    p!(link_of("/proc/self") == getpid().to_string());
    p!(link_of("/proc/thread-self") == format!("{0}/task/{0}", getpid()));
    p!(run(|| i32::from(link_of("/proc/self") != getpid().to_string())));
    p!(lstat(c"/proc/self").st.st_mode & S_IFMT == S_IFLNK);
}

fn stat_line() {
    let s = stat_fields("/proc/self/stat");
    p!(s.len() >= 50, &s[0], s[1] == getppid().to_string(), s[2] == getpid().to_string());
    p!(s[3] == getpid().to_string());
    p!(text("/proc/self/stat").starts_with(&format!("{} (conformance) ", getpid())), &s[4], &s[5]);
    p!(&s[17], s[18].parse::<u64>().is_ok());
    p!(s[20].parse::<u64>().unwrap_or(0) > 1 << 20, s[21].parse::<u64>().unwrap_or(0) > 10);
}

fn stat_shows_states() {
    let pid = child(|| {
        raise(SIGSTOP);
        exit(0)
    });
    wait_opt(pid, WUNTRACED);
    let state =
        |pid: i32| stat_fields(&format!("/proc/{pid}/stat")).first().cloned().unwrap_or_default();
    p!(state(pid), kill(pid, SIGCONT), waitid(P_PID, pid, WEXITED | WNOWAIT), state(pid));
    p!(wait(pid), text(&format!("/proc/{pid}/stat")));
    let fds = pipe(0);
    let pid = child(|| {
        rd(fds[0], 1);
        0
    });
    p!(until(|| state(pid) == "S"), wr(fds[1], "x"), wait(pid));
}

fn status_ids() {
    let f = |name: &str| field("/proc/self/status", name);
    p!(f("Name"), f("Pid") == getpid().to_string(), f("Tgid") == f("Pid"));
    p!(f("PPid") == getppid().to_string(), f("TracerPid"));
    p!(f("Uid"), f("Gid"), f("Umask"), f("Threads"), f("NoNewPrivs"), f("State"));
    p!(run(|| {
        sc!(SYS_setgroups, 2, at(&[7u32, 8]));
        sc!(SYS_setresgid, 1, 2, 3);
        sc!(SYS_setresuid, 4, 5, 6);
        p!(field("/proc/self/status", "Uid"), field("/proc/self/status", "Gid"));
        p!(field("/proc/self/status", "Groups"));
        0
    }));
}

fn status_signals() {
    catch(SIGUSR1, 0);
    ignore(SIGUSR2);
    block(&[SIGHUP]);
    raise(SIGHUP);
    kill(getpid(), SIGHUP);
    let f = |name: &str| field("/proc/self/status", name);
    p!(f("SigPnd"), f("ShdPnd"), f("SigBlk"), f("SigIgn"), f("SigCgt"));
}

fn status_memory_fields() {
    for name in ["VmSize", "VmRSS", "VmPeak", "VmHWM", "VmData", "VmStk"] {
        let value = field("/proc/self/status", name);
        let number = value.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        p!(name, value.ends_with(" kB"), number.unwrap_or(0) > 0);
    }
}

fn status_capabilities() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(field("/proc/self/status", "CapEff"), field("/proc/self/status", "CapPrm"));
        p!(field("/proc/self/status", "CapInh"));
        p!(field("/proc/self/status", "CapBnd").len(), field("/proc/self/status", "CapAmb"));
        0
    }));
}

fn command_line_and_environment() {
    let me = me().to_string_lossy().into_owned();
    p!(text("/proc/self/cmdline").starts_with(&format!("{me}\0run\0")));
    p!(text("/proc/self/environ").split('\0').any(|v| v.starts_with("PATH=")));
    p!(run(
        || exec(me_c(), &["zero", "helper", "cat", "/proc/self/cmdline"], &["A=b", "C="]).errno()
    ));
    p!(run(
        || exec(me_c(), &["zero", "helper", "cat", "/proc/self/environ"], &["A=b", "C="]).errno()
    ));
}
fn me_c() -> &'static CStr {
    Box::leak(me().into_boxed_c_str())
}

fn comm_can_be_written() {
    p!(text("/proc/self/comm"), put(c"/proc/self/comm", "renamed by a write\n"));
    p!(text("/proc/self/comm"));
    let mut name = [0u8; 16];
    p!(prctl(PR_GET_NAME, &mut name), name.escape_ascii().to_string());
    p!(field("/proc/self/status", "Name"));
    p!(text("/proc/self/stat").contains("(renamed by a wr)"));
}

fn links_to_files() {
    mkdir(c"d", 0o755);
    let here = getcwd(4096).text();
    p!(link_of("/proc/self/exe") == me().to_string_lossy(), link_of("/proc/self/cwd") == here);
    p!(link_of("/proc/self/root"));
    chdir(c"d");
    p!(link_of("/proc/self/cwd") == format!("{here}/d"));
    p!(get(c"/proc/self/exe").bytes().len() > 1000);
    rmdir(c"../d");
    p!(link_of("/proc/self/cwd") == format!("{here}/d (deleted)"));
}

fn descriptors() {
    put(c"f", "x");
    let here = getcwd(4096).text();
    let fd = open(c"f", O_RDONLY | O_CLOEXEC, 0).fd();
    let fds = pipe(0);
    p!(list(c"/proc/self/fd")
        .split(' ')
        .filter(|n| !n.starts_with('.'))
        .collect::<Vec<_>>()
        .join(" "));
    p!(link_of(&format!("/proc/self/fd/{fd}")) == format!("{here}/f"));
    p!(link_of(&format!("/proc/self/fd/{}", fds[0])).starts_with("pipe:["));
    p!(link_of(&format!("/proc/self/fd/{}", epoll(0))));
    p!(link_of(&format!("/proc/self/fd/{}", sc!(SYS_eventfd2, 0, 0)))
        .starts_with("anon_inode:[eventfd"));
    p!(link_of(&format!("/proc/self/fd/{}", socket(SOCK_STREAM))).starts_with("socket:["));
    p!(link_of(&format!("/proc/self/fd/{}", sc!(SYS_memfd_create, c"m", 0))));
    unlink(c"f");
    p!(link_of(&format!("/proc/self/fd/{fd}")) == format!("{here}/f (deleted)"));
    p!(link_of("/proc/self/fd/999"), stat(c"/proc/self/fd/999").ret);
    p!(lstat(c"/proc/self/fd/3").st.st_mode & 0o777 == 0o500);
    p!(lstat(c"/proc/self/fd/5").st.st_mode & 0o777);
}

/// Closing what a piece of the list named must hide nothing of the next piece.
fn closing_while_listing() {
    for fd in 40..80 {
        sc!(SYS_dup2, 0, fd);
    }
    let dir = open(c"/proc/self/fd", O_RDONLY | O_DIRECTORY, 0).fd();
    let mut buf = [0u8; 256];
    let mut seen = Vec::new();
    loop {
        let n = sc!(SYS_getdents64, dir, &mut buf, buf.len());
        if n.0 <= 0 {
            p!(n);
            break;
        }
        let piece = dirents(&buf[..n.0 as usize]);
        for fd in piece.iter().filter_map(|d| d.name.parse::<i32>().ok()).filter(|fd| *fd >= 40) {
            seen.push(fd);
            close(fd);
        }
    }
    p!(seen.len(), seen == (40..80).collect::<Vec<_>>());
}

fn descriptor_info() {
    put(c"f", "abcdef");
    let fd = open(c"f", O_RDONLY | O_CLOEXEC, 0).fd();
    rd(fd, 2);
    let info = format!("/proc/self/fdinfo/{fd}");
    p!(field(&info, "pos"), field(&info, "flags"));
    let event = sc!(SYS_eventfd2, 5, 0).fd();
    p!(field(&format!("/proc/self/fdinfo/{event}"), "eventfd-count"));
    p!(list(c"/proc/self/fdinfo").split(' ').count());
}

fn maps() {
    put(c"f", vec![1; 8192]);
    let here = getcwd(4096).text();
    let fd = open(c"f", O_RDWR, 0).fd();
    let file = mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 4096).addr();
    let anonymous = anon(3);
    mprotect(anonymous + PAGE, PAGE, PROT_NONE);
    let all = text("/proc/self/maps");
    let at = |addr: u64| {
        let line =
            all.lines().find(|l| l.starts_with(&format!("{addr:08x}-"))).unwrap_or("missing");
        line.split_whitespace().map(String::from).collect::<Vec<_>>()
    };
    let f = at(file);
    p!(f[0] == format!("{file:08x}-{:08x}", file + 8192), &f[1], &f[2]);
    p!(f[4] == stat(c"f").st.st_ino.to_string(), f[5] == format!("{here}/f"));
    p!(at(anonymous + PAGE)[1..5].join(" "), at(anonymous + 2 * PAGE)[1..].join(" "));
    let whole = all.lines().find(|l| l.starts_with(&format!("{anonymous:08x}-"))).unwrap_or("");
    p!(whole.len() - whole.trim_end().len());
    p!(all.lines().any(|l| l.ends_with("[stack]")), all.lines().any(|l| l.ends_with("[heap]")));
    p!(all.lines().any(|l| l.ends_with("[vdso]")));
    let starts: Vec<u64> =
        all.lines().filter_map(|l| u64::from_str_radix(l.split('-').next()?, 16).ok()).collect();
    p!(starts.is_sorted(), starts.len() > 8);
    p!(all.lines().any(|l| l.contains(" r-xp ") && l.ends_with("/conformance")));
    munmap(file, 8192);
    p!(!text("/proc/self/maps").contains(&format!("{here}/f")));
}

fn smaps_and_statm() {
    let a = anon(100);
    (0..100).for_each(|i| {
        poke(a + i * PAGE, 1);
    });
    let all = text("/proc/self/smaps");
    let mut lines =
        all.lines().skip_while(|l| !l.starts_with(&format!("{a:x}-")) && !l.contains(" rw-p "));
    p!(lines.any(|l| l.starts_with("Rss:")), lines.any(|l| l.starts_with("Private_Dirty:")));
    p!(lines.any(|l| l.starts_with("VmFlags:")));
    let statm = text("/proc/self/statm");
    let numbers: Vec<u64> = statm.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    p!(numbers.len(), numbers[0] >= numbers[1], numbers[1] > 100);
}

fn memory_file() {
    let a = anon(1);
    fill(a, b"in memory");
    let fd = open(c"/proc/self/mem", O_RDWR, 0).fd();
    p!(fd >= 0, pread(fd, 9, a as i64), pwrite(fd, "IN", a as i64));
    p!(copy(a, 9).escape_ascii().to_string(), pread(fd, 1, 0));
    mprotect(a, PAGE, PROT_READ);
    p!(pwrite(fd, "forced", a as i64), copy(a, 9).escape_ascii().to_string());
}

fn tasks() {
    let tasks = || list(c"/proc/self/task").split(' ').filter(|n| !n.starts_with('.')).count();
    let page = anon(1);
    let t = std::thread::spawn(move || await_change(page, 0));
    p!(tasks(), field("/proc/self/status", "Threads"));
    p!(stat(c"/proc/self/task").st.st_nlink);
    publish(page, 1);
    p!(t.join().is_ok(), until(|| tasks() == 1));
    p!(access(
        &CString::new(format!("/proc/self/task/{}/status", gettid())).unwrap_or_default(),
        F_OK
    ));
}

fn children_list() {
    let pid = child(|| {
        sc!(SYS_pause);
        0
    });
    p!(text(&format!("/proc/self/task/{}/children", getpid())) == format!("{pid} "));
    p!(kill(pid, SIGKILL), wait(pid));
}

fn limits_file() {
    p!(run(|| {
        sc!(SYS_prlimit64, 0, RLIMIT_NOFILE, at(&[55u64, 66]), 0u64);
        let all = text("/proc/self/limits");
        let line = all.lines().find(|l| l.starts_with("Max open files")).unwrap_or_default();
        p!(line.split_whitespace().collect::<Vec<_>>().join(" "), all.lines().count());
        p!(all.lines().next().unwrap_or_default().trim_end());
        0
    }));
}

fn io_and_sched() {
    p!(text("/proc/self/io")
        .lines()
        .map(|l| l.split(':').next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join(" "));
    p!(put(c"/proc/self/oom_score_adj", "500"), text("/proc/self/oom_score_adj"));
    p!(put(c"/proc/self/oom_score_adj", "5000"));
    p!(text("/proc/self/loginuid").is_empty()
        || text("/proc/self/loginuid").parse::<u32>().is_ok());
}

fn mount_tables() {
    let mounts = text("/proc/self/mounts");
    p!(mounts.lines().all(|l| l.split(' ').count() == 6));
    p!(mounts.lines().any(|l| l.split(' ').nth(1) == Some("/proc")));
    p!(mounts.lines().any(|l| l.split(' ').nth(1) == Some("/")));
    let info = text("/proc/self/mountinfo");
    p!(info.lines().all(|l| l.contains(" - ")), info.lines().count() == mounts.lines().count());
    p!(link_of("/proc/mounts"));
}

fn namespaces() {
    for name in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let link = link_of(&format!("/proc/self/ns/{name}"));
        p!(name, link.starts_with(&format!("{name}:[")));
        p!(run(|| i32::from(link_of(&format!("/proc/self/ns/{name}")) != link)));
    }
}

fn other_processes() {
    let pid = child(|| {
        sc!(SYS_pause);
        0
    });
    p!(field(&format!("/proc/{pid}/status"), "PPid") == getpid().to_string());
    p!(list(c"/proc").contains(&format!(" {pid}/ ")), stat(c"/proc/99999999").ret);
    p!(access(c"/proc/1/status", R_OK), kill(pid, SIGKILL), wait(pid));
    p!(access(&CString::new(format!("/proc/{pid}")).unwrap_or_default(), F_OK));
}

fn environment_of_others_is_private() {
    let pid = child(|| {
        sc!(SYS_pause);
        0
    });
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        let p = |name: &str| CString::new(format!("/proc/{pid}/{name}")).unwrap_or_default();
        p!(open(&p("environ"), O_RDONLY, 0), open(&p("mem"), O_RDONLY, 0));
        p!(open(&p("status"), O_RDONLY, 0).ok(), readlink(&p("exe"), 100));
        p!(open(&p("fd"), O_RDONLY, 0));
        0
    }));
    p!(kill(pid, SIGKILL), wait(pid));
}

fn system_files() {
    let numbers = |s: &str| s.split_whitespace().all(|w| w.parse::<f64>().is_ok());
    p!(numbers(&text("/proc/uptime")), text("/proc/loadavg").split(' ').count());
    p!(text("/proc/version").starts_with("Linux version "));
    p!(text("/proc/stat").starts_with("cpu  "));
    p!(text("/proc/stat").lines().any(|l| l.starts_with("btime ")));
    p!(text("/proc/cpuinfo").contains("model name"));
    p!(text("/proc/meminfo").starts_with("MemTotal:"));
    p!(text("/proc/meminfo").contains("\nMemAvailable:"));
    p!(text("/proc/filesystems").contains("\ttmpfs\n")
        || text("/proc/filesystems").contains("tmpfs"));
    p!(text("/proc/vmstat").contains("pgfault "), text("/proc/swaps").starts_with("Filename"));
    p!(text("/proc/cmdline").ends_with('\n'));
}

fn sysctl_files() {
    p!(text("/proc/sys/kernel/ostype"));
    p!(text("/proc/sys/kernel/pid_max").trim().parse::<u32>().unwrap_or(0) > 1000);
    p!(text("/proc/sys/kernel/cap_last_cap").trim().parse::<u32>().unwrap_or(0) >= 37);
    p!(text("/proc/sys/fs/pipe-max-size"));
    p!(text("/proc/sys/vm/overcommit_memory").trim().parse::<u32>().is_ok());
    p!(text("/proc/sys/kernel/random/boot_id").len());
    p!(text("/proc/sys/kernel/random/uuid") != text("/proc/sys/kernel/random/uuid"));
    p!(text("/proc/sys/kernel/hostname").trim_end().is_empty());
    p!(text("/proc/sys/fs/file-max").trim().parse::<u64>().is_ok());
    p!(text("/proc/sys/kernel/ngroups_max"));
    p!(text("/proc/sys/kernel/threads-max").trim().parse::<u32>().is_ok());
}

fn proc_is_read_only_in_shape() {
    p!(mkdir(c"/proc/new", 0o755), put(c"/proc/new", ""), unlink(c"/proc/self/status"));
    p!(rename(c"/proc/self", c"/proc/x"), rmdir(c"/proc/self"));
    p!(put(c"/proc/self/status", "x"), sc!(SYS_truncate, c"/proc/self/stat", 0).ok());
    p!(chmod(c"/proc/self/status", 0o777));
}

fn reading_in_pieces() {
    let fd = open(c"/proc/self/status", O_RDONLY, 0).fd();
    let whole = text("/proc/self/status");
    let mut pieces = String::new();
    loop {
        let part = rd(fd, 7);
        if part.bytes().is_empty() {
            break;
        }
        pieces.push_str(&part.text());
    }
    let stable = |s: &str| {
        s.lines()
            .filter(|l| !l.contains("ctxt") && !l.starts_with("Vm") && !l.starts_with("Rss"))
            .map(String::from)
            .collect::<Vec<_>>()
    };
    p!(stable(&pieces) == stable(&whole), lseek(fd, 0, SEEK_SET), rd(fd, 5));
    p!(pread(fd, 4, 6).bytes() == &whole.as_bytes()[6..10]);
}

/// What `numa_maps` says of the policy, if it says the same of all areas.
fn policy_shown() -> String {
    let all = text("/proc/self/numa_maps");
    let of = |line: &str| line.split(' ').nth(1).unwrap_or("none").to_owned();
    let mut shown: Vec<_> = all.lines().map(of).collect();
    shown.dedup();
    shown.join(" ")
}

fn cpus_allowed() {
    let only = [1u64; 1];
    p!(
        sc!(SYS_sched_setaffinity, 0, 8, at(&only)),
        field("/proc/self/status", "Cpus_allowed_list")
    );
    p!(run(|| i32::from(field("/proc/self/status", "Cpus_allowed_list") != "0")));
}

/// Whether an address, as a number in hexadecimal digits, lies in an area of a process with these rights.
fn in_area(pid: i32, address: &str, rights: &str) -> bool {
    let number = |digits: &str| u64::from_str_radix(digits.trim_start_matches("0x"), 16);
    let Ok(address) = number(address) else { return false };
    text(&format!("/proc/{pid}/maps")).lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap_or_default();
        let (from, to) = range.split_once('-').unwrap_or_default();
        let area = number(from).unwrap_or(1)..number(to).unwrap_or(0);
        area.contains(&address) && rest.starts_with(rights)
    })
}

fn system_call_that_a_process_waits_in() {
    let [r, w] = pipe(0);
    let pid = child(|| {
        sc!(SYS_read, r, &mut [0u8; 4], 4, 0x11, 0x1_0000_0022u64, -1i64);
        loop {
            std::hint::spin_loop();
        }
    });
    let file = format!("/proc/{pid}/syscall");
    p!(until(|| text(&file).starts_with("0 ")));
    let line = text(&file);
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, fd, at, rest @ .., sp, pc] = &words[..] else { return };
    p!(*fd == format!("{r:#x}"), in_area(pid, at, "rw-p"), rest.join(" "));
    p!(in_area(pid, sp, "rw-p"), in_area(pid, pc, "r-xp"));
    p!(kill(pid, SIGSTOP), wait_opt(pid, WUNTRACED), text(&file) == line);
    p!(kill(pid, SIGCONT), sc!(SYS_write, w, b"x", 1), until(|| text(&file) == "running\n"));
    p!(kill(pid, SIGKILL), wait(pid));
    let own = text("/proc/self/syscall");
    p!(own.starts_with("0 0x"), own.split_whitespace().count());
}

fn writing_at_a_position() {
    let sequences = ["stat", "status", "limits", "maps", "mountinfo", "comm", "cgroup", "uid_map"];
    let plain = ["environ", "auxv", "cmdline", "oom_score_adj", "coredump_filter"];
    let own = sequences.iter().chain(&plain).map(|name| format!("/proc/self/{name}"));
    let others = ["/proc/stat", "/proc/meminfo", "/proc/version", "/proc/sys/kernel/ostype"];
    let system =
        ["/proc/filesystems", "/proc/sys/kernel/hostname", "/sys/devices/system/cpu/online"];
    for name in own.chain(others.into_iter().chain(system).map(String::from)) {
        let path = CString::new(name.as_str()).unwrap_or_default();
        let fd = open(&path, O_RDONLY, 0).fd();
        say!("{name}: {} {}", sc!(SYS_pwrite64, fd, b"x", 1, 0), sc!(SYS_pwritev, fd, 8u64, 1, 0));
        p!(sc!(SYS_pread64, fd, &mut [0u8; 1], 1, 0).ok());
    }
    let fd = open(c"/proc/self/comm", O_RDWR, 0).fd();
    p!(
        sc!(SYS_pwrite64, fd, b"x", 1, 0),
        sc!(SYS_pwrite64, fd, b"x", 1, -1i64),
        sc!(SYS_write, fd, b"name", 4)
    );
}

fn numa_policies_of_areas() {
    const STATIC: u32 = 1 << 15;
    let (start, nodes, beyond) = (anon(4), [1u64, 0], [1u64 << 63, 0]);
    let bind = |page: u64, count: u64, mode: u32, mask: &[u64]| {
        let mask = if mask.is_empty() { 0 } else { at(mask) };
        sc!(SYS_mbind, start + page * PAGE, count * PAGE, mode, mask, 64, 0)
    };
    let kept = |page: u64, flags: u64| {
        let (mut mode, mut mask) = (7u32, [7u64; 2]);
        let at_page = start + page * PAGE;
        let r = sc!(SYS_get_mempolicy, at_mut(&mut mode), at_mut(&mut mask), 128, at_page, flags);
        format!("{r} {mode:x} {} {}", mask[0], mask[1])
    };
    let home = |page: u64, count: u64| {
        sc!(SYS_set_mempolicy_home_node, start + page * PAGE, count * PAGE, 0, 0)
    };
    let shown = || {
        let all = text("/proc/self/numa_maps");
        let line = |page: u64| {
            let address = format!("{:08x} ", start + page * PAGE);
            let rest = all.lines().find_map(|line| line.strip_prefix(&address));
            rest.unwrap_or("-").split(' ').next().unwrap_or("").to_string()
        };
        [0, 1, 2, 3].map(line).join(" ")
    };
    // Neighbours of the same kind are one area with it.
    p!(mprotect(start, 4 * PAGE, PROT_READ), shown());
    p!(bind(1, 2, 2, &nodes), kept(0, 2), kept(1, 2), kept(2, 2), kept(3, 2), shown());
    p!(bind(2, 1, 3 | STATIC, &nodes), kept(2, 2), shown(), kept(2, 3), kept(1, 1));
    p!(home(0, 1), home(1, 1), home(0, 2), home(2, 1), home(1, 2), home(3, 1), home(1, 0));
    p!(run(|| i32::from(kept(2, 2) != kept(1, 2))), run(|| i32::from(kept(2, 2).ends_with("1 0"))));
    p!(
        bind(1, 1, 4, &[]),
        kept(1, 2),
        bind(1, 1, 1, &[]),
        kept(1, 2),
        bind(2, 1, 1, &nodes),
        kept(2, 2)
    );
    p!(bind(0, 4, 0, &[]), kept(2, 2), shown());
    p!(bind(0, 1, 0, &nodes), bind(0, 1, 2, &[]), bind(0, 1, 2, &beyond), bind(0, 1, 77, &nodes));
    p!(bind(0, 0, 2, &nodes), bind(0, u64::MAX / PAGE, 2, &nodes), kept(0, 8), kept(0, 6));
    p!(munmap(start + PAGE, PAGE), bind(0, 3, 2, &nodes), kept(0, 2), kept(1, 2), home(1, 1));
    p!(
        sc!(SYS_mbind, start + 1, PAGE, 2, at(&nodes), 64, 0),
        sc!(SYS_mbind, start, 1, 2, at(&nodes), 64, 8)
    );
}

fn numa_policy() {
    const STATIC: u32 = 1 << 15;
    const RELATIVE: u32 = 1 << 14;
    let nodes = [1u64, 0];
    let set =
        |mode: u32, mask: bool| sc!(SYS_set_mempolicy, mode, if mask { at(&nodes) } else { 0 }, 64);
    let kept = || {
        let (mut mode, mut mask) = (7u32, [7u64; 16]);
        let r = sc!(SYS_get_mempolicy, at_mut(&mut mode), at_mut(&mut mask), 1024, 0, 0);
        format!("{r} {mode:x} {} {}", mask[0], mask[1])
    };
    p!(policy_shown());
    for (mode, mask) in [
        (0, false),
        (1, false),
        (4, false),
        (1 | RELATIVE, true),
        (2 | STATIC, true),
        (3, true),
        (5, true),
    ] {
        p!(set(mode, mask), kept(), policy_shown());
    }
    p!(set(2 | STATIC, true), run(|| i32::from(policy_shown() != "bind=static:0")));
    for (mode, mask) in [
        (0, true),
        (4, true),
        (2, false),
        (2 | STATIC | RELATIVE, true),
        (3 | 1 << 13, true),
        (1 | STATIC, false),
        (9, true),
    ] {
        p!(set(mode, mask));
    }
    p!(policy_shown(), set(0, false), policy_shown());
}

cases![
    self_is_a_link_to_the_process,
    stat_line,
    stat_shows_states,
    status_ids,
    status_signals,
    status_memory_fields,
    status_capabilities,
    command_line_and_environment,
    comm_can_be_written,
    links_to_files,
    descriptors,
    closing_while_listing,
    descriptor_info,
    cpus_allowed,
    maps,
    numa_policy,
    numa_policies_of_areas,
    system_call_that_a_process_waits_in,
    writing_at_a_position,
    smaps_and_statm,
    memory_file,
    tasks,
    children_list,
    limits_file,
    io_and_sched,
    mount_tables,
    namespaces,
    other_processes,
    environment_of_others_is_private,
    system_files,
    sysctl_files,
    proc_is_read_only_in_shape,
    reading_in_pieces,
];
