//! exec: what is kept, what is reset, errors, scripts and the initial stack.

use crate::prelude::*;

fn arguments_and_environment() {
    p!(helper(&["args", "one", "", "three with spaces"]));
    p!(run(|| exec(&me(), &["x", "helper", "env"], &["A=1", "B=two", "EMPTY="]).errno()));
    p!(run(|| exec(&me(), &["argv zero", "helper", "argc", "x"], &[]).errno()));
}

fn missing_program() {
    p!(exec(c"nowhere", &["x"], &[]), exec(c"", &["x"], &[]), exec(0u64, &["x"], &[]));
    p!(exec(c"/nowhere/x", &["x"], &[]));
    put(c"file", "");
    p!(exec(c"file/x", &["x"], &[]));
}

fn no_permission() {
    put(c"plain", "#!/bin/true\n");
    mkdir(c"dir", 0o755);
    p!(exec(c"plain", &["x"], &[]), exec(c"dir", &["x"], &[]), exec(c"/dev/null", &["x"], &[]));
}

fn program(name: &CStr, content: impl AsRef<[u8]>) {
    put(name, content);
    chmod(name, 0o755);
}

fn unknown_formats() {
    program(c"empty", "");
    program(c"text", "hello world\n");
    program(c"short", "\x7fELF");
    program(c"zeroes", [0u8; 4096]);
    for name in [c"empty", c"text", c"short", c"zeroes"] {
        say!("{} {}", name.to_string_lossy(), exec(name, &["x"], &[]));
    }
}

fn elf_header() -> Vec<u8> {
    let fd = open(&me(), O_RDONLY, 0);
    rd(fd, 64).bytes().to_vec()
}

fn corrupt_elf_headers() {
    // Offset and value of what is broken in a header without program headers.
    for (what, offset, value) in [
        ("class", 4, 1u8),
        ("type", 16, 9),
        ("machine", 18, 40),
        ("phentsize", 54, 7),
        ("phnum zero", 56, 0),
        ("phnum huge", 57, 255),
        ("phoff beyond", 38, 99),
    ] {
        let mut header = elf_header();
        header[offset] = value;
        if what == "phnum zero" {
            header[57] = 0;
        }
        program(c"broken", &header);
        say!("{what}: {}", run(|| exec(c"broken", &["x"], &[]).errno()));
    }
}

fn truncated_elf() {
    let fd = open(&me(), O_RDONLY, 0);
    let all = rd(fd, 3000);
    for len in [20usize, 64, 100] {
        program(c"cut", &all.bytes()[..len]);
        say!("{len}: {}", run(|| exec(c"cut", &["x"], &[]).errno()));
    }
}

fn minimal_static_elf() {
    p!(run(|| {
        program(c"tiny", tiny_elf(&[0xb8, 60, 0, 0, 0, 0xbf, 42, 0, 0, 0, 0x0f, 0x05], 5));
        exec(c"tiny", &["tiny"], &[]).errno()
    }));
}

/// A program of one loaded segment with these permissions, whose code is `code`.
fn tiny_elf(code: &[u8], flags: u32) -> Vec<u8> {
    let base = 0x40_0000u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2u16, 62].iter().flat_map(|v| v.to_le_bytes()));
    elf.extend(1u32.to_le_bytes());
    elf.extend([base + 120, 64, 0].iter().flat_map(|v| v.to_le_bytes()));
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 56, 1, 0, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
    elf.extend([1u32, flags].iter().flat_map(|v| v.to_le_bytes()));
    let size = 120 + code.len() as u64;
    elf.extend([0, base, base, size, size, 4096].iter().flat_map(|v| v.to_le_bytes()));
    elf.extend(code);
    elf
}

fn segment_without_execute_permission() {
    program(c"noexec", tiny_elf(&[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05], 4));
    p!(run(|| exec(c"noexec", &["x"], &[]).errno()));
}

fn running_off_the_code_is_a_fault() {
    program(c"ud2", tiny_elf(&[0x0f, 0x0b], 5));
    program(c"null", tiny_elf(&[0x31, 0xc0, 0xff, 0xe0], 5));
    p!(run(|| exec(c"ud2", &["x"], &[]).errno()), run(|| exec(c"null", &["x"], &[]).errno()));
}

fn missing_interpreter() {
    let mut elf = tiny_elf(&[], 5);
    elf[56] = 2;
    let path = b"/no/such/ld.so\0";
    elf.extend([3u32, 4].iter().flat_map(|v| v.to_le_bytes()));
    let len = path.len() as u64;
    elf.extend([176, 0, 0, len, len, 1].iter().flat_map(|v| v.to_le_bytes()));
    elf.extend(path);
    program(c"dyn", elf);
    p!(run(|| exec(c"dyn", &["x"], &[]).errno()));
}

fn script(name: &CStr, line: &str) {
    program(name, format!("#!{line}\nrest\n"));
}

fn script_interpreter() {
    let me = me().to_string_lossy().into_owned();
    script(c"s", &format!("{me} helper args"));
    p!(run(|| exec(c"./s", &["zero", "one", "two"], &[]).errno()));
    script(c"s", &format!("  {me} \t helper args tail  "));
    p!(run(|| exec(c"./s", &["zero", "one"], &[]).errno()));
}

fn script_of_a_script() {
    let me = me().to_string_lossy().into_owned();
    script(c"inner", &format!("{me} helper args"));
    script(c"outer", "./inner opt");
    p!(run(|| exec(c"./outer", &["zero", "one"], &[]).errno()));
}

fn script_nesting_limit() {
    let me = me().to_string_lossy().into_owned();
    script(c"s0", &format!("{me} helper argc"));
    for i in 1..8 {
        let name = CString::new(format!("s{i}")).unwrap_or_default();
        script(&name, &format!("./s{}", i - 1));
        say!("{i}: {}", run(|| exec(&name, &["zero"], &[]).errno()));
    }
    script(c"self", "./self");
    p!(run(|| exec(c"./self", &["zero"], &[]).errno()));
}

fn script_errors() {
    for line in ["", "   ", "/no/such/interpreter", "./plain", "."] {
        put(c"plain", "x");
        script(c"s", line);
        say!("{line:?} {}", run(|| exec(c"./s", &["s"], &[]).errno()));
    }
    script(c"s", &"x".repeat(300));
    p!(run(|| exec(c"./s", &["s"], &[]).errno()));
    program(c"s", "#!");
    p!(run(|| exec(c"./s", &["s"], &[]).errno()));
}

fn script_with_closed_on_exec_descriptor() {
    let me = me().to_string_lossy().into_owned();
    script(c"s", &format!("{me} helper argc"));
    p!(run(|| {
        let fd = open(c"s", O_RDONLY | O_CLOEXEC, 0);
        let args = strings(&["zero"]);
        sc!(SYS_execveat, fd, c"", at(&*pointers(&args)), at(&[0u64]), AT_EMPTY_PATH).errno()
    }));
}

fn execveat_of_a_directory_descriptor() {
    let me = me().to_string_lossy().into_owned();
    mkdir(c"d", 0o755);
    symlink(&CString::new(me).unwrap_or_default(), c"d/prog");
    let dir = open(c"d", O_RDONLY | O_DIRECTORY, 0).fd();
    let at_flags = |name: &CStr, flags: i32| {
        run(|| {
            let args = strings(&["x", "helper", "exit", "6"]);
            sc!(SYS_execveat, dir, name, at(&*pointers(&args)), at(&[0u64]), flags).errno()
        })
    };
    p!(at_flags(c"prog", 0), at_flags(c"prog", AT_SYMLINK_NOFOLLOW), at_flags(c"none", 0));
    p!(at_flags(c"", 0), at_flags(c"prog", 0x10), at_flags(c"", AT_EMPTY_PATH));
}

fn null_argv_becomes_one_empty_argument() {
    p!(run(|| sc!(SYS_execve, &me(), 0u64, 0u64).errno()));
}

fn bad_argument_pointers() {
    let me = me();
    p!(sc!(SYS_execve, &me, 8u64, 0u64), sc!(SYS_execve, &me, at(&[8u64, 0]), 0u64));
    p!(sc!(SYS_execve, &me, at(&[0u64]), 8u64), sc!(SYS_execve, 8u64, 0u64, 0u64));
}

fn argument_limits() {
    let long = "a".repeat(131_071);
    let longer = "a".repeat(131_072);
    p!(helper(&["args", &long]), run(|| exec_helper(&["args", &longer]).errno()));
    let part = "b".repeat(100_000);
    let many: Vec<&str> = std::iter::repeat_n(part.as_str(), 60).collect();
    p!(run(|| exec(&me(), &many, &[]).errno()), run(|| exec(&me(), &["x"], &many).errno()));
}

fn argument_limit_follows_the_stack_limit() {
    p!(run(|| {
        let limit = 1u64 << 20;
        sc!(SYS_prlimit64, 0, RLIMIT_STACK, at(&[limit, limit]), 0u64);
        let part = "b".repeat(100_000);
        let some: Vec<&str> = std::iter::repeat_n(part.as_str(), 4).collect();
        exec(&me(), &some, &[]).errno()
    }));
}

fn signal_state_across_exec() {
    catch(SIGUSR1, SA_RESTART);
    ignore(SIGUSR2);
    block(&[SIGTERM, SIGUSR1, SIGRTMIN()]);
    raise(SIGTERM);
    p!(helper(&["signals"]));
    p!(run(|| {
        raise(SIGUSR1);
        exec_helper(&["signals"]).errno()
    }));
}

fn close_on_exec() {
    dup2(1, 10);
    sc!(SYS_dup3, 1, 11, O_CLOEXEC);
    dup2(1, 12);
    fcntl(12, F_SETFD, FD_CLOEXEC);
    p!(helper(&["fds", "10", "11", "12"]), fcntl(11, F_GETFD, 0));
    p!(run(|| {
        let fd = exec(c"nowhere", &["x"], &[]);
        p!(fd, fcntl(12, F_GETFD, 0));
        0
    }));
}

fn working_directory_umask_and_limits_are_kept() {
    put(c"here", "I am here");
    p!(helper(&["cat", "here"]));
    p!(run(|| {
        sc!(SYS_prlimit64, 0, RLIMIT_NOFILE, at(&[77u64, 99]), 0u64);
        exec_helper(&["limits"]).errno()
    }));
}

fn process_id_is_kept() {
    let pid = child(|| exec_helper(&["pause"]).errno());
    sc!(SYS_setpgid, pid, pid);
    p!(kill(pid, SIGTERM), wait(pid));
}

fn setpgid_after_exec_is_refused() {
    let fds = pipe(O_CLOEXEC);
    let pid = child(|| exec_helper(&["pause"]).errno());
    close(fds[1]);
    p!(rd(fds[0], 1), sc!(SYS_setpgid, pid, pid), kill(pid, SIGKILL), wait(pid));
}

fn name_changes() {
    prctl(PR_SET_NAME, c"old name");
    p!(helper(&["comm"]));
}

fn altstack_is_dropped() {
    p!(altstack(0x4_2000, 0), helper(&["altstack"]));
}

fn exec_by_a_thread_keeps_the_process() {
    p!(run(|| {
        let pid = getpid();
        let thread = std::thread::spawn(move || {
            p!(gettid() != pid);
            exec_helper(&["exit", "23"])
        });
        thread.join().map_or(98, |r| r.errno())
    }));
}

fn exec_ends_other_threads() {
    p!(run(|| {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    sc!(SYS_pause);
                }
            });
        }
        exec_helper(&["exit", "24"]).errno()
    }));
}

fn text_file_busy() {
    let fd = open(&me(), O_WRONLY, 0);
    p!(fd);
    program(c"prog", tiny_elf(&[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05], 5));
    let writer = open(c"prog", O_WRONLY, 0);
    p!(writer.ok(), run(|| exec(c"prog", &["x"], &[]).errno()), close(writer));
    p!(run(|| exec(c"prog", &["x"], &[]).errno()));
}

fn auxiliary_vector() {
    let raw = get(c"/proc/self/auxv");
    let (words, _) = raw.bytes().as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|w| u64::from_le_bytes(*w)).collect();
    let find = |key: u64| words.chunks(2).find(|p| p[0] == key).and_then(|p| p.get(1)).copied();
    p!(find(6) == Some(4096), find(17) == Some(100), find(11) == Some(0), find(14) == Some(0));
    p!(find(4) == Some(56), find(5).is_some_and(|n| n > 3), find(23) == Some(0));
    p!(find(33).is_some_and(|v| v % 4096 == 0), find(25).is_some_and(|v| v != 0), words.len() % 2);
    let entry = find(9).unwrap_or(0);
    let phdr = find(3).unwrap_or(0);
    p!(entry > phdr, entry - phdr < 64 << 20, words.ends_with(&[0, 0]));
    let name = find(31).unwrap_or(0);
    p!(copy(name, me().count_bytes()) == me().to_bytes());
    let platform = find(15).unwrap_or(0);
    p!(copy(platform, 7).escape_ascii().to_string());
}

fn random_bytes_differ_between_programs() {
    let raw = get(c"/proc/self/auxv");
    let (words, _) = raw.bytes().as_chunks::<8>();
    let at_random = words.chunks(2).find(|p| p[0][0] == 25).map_or(0, |p| u64::from_le_bytes(p[1]));
    p!(copy(at_random, 16) != vec![0; 16], at_random != 0);
}

cases![
    arguments_and_environment,
    missing_program,
    no_permission,
    unknown_formats,
    corrupt_elf_headers,
    truncated_elf,
    minimal_static_elf,
    segment_without_execute_permission,
    running_off_the_code_is_a_fault,
    missing_interpreter,
    script_interpreter,
    script_of_a_script,
    script_nesting_limit,
    script_errors,
    script_with_closed_on_exec_descriptor,
    execveat_of_a_directory_descriptor,
    null_argv_becomes_one_empty_argument,
    bad_argument_pointers,
    argument_limits,
    argument_limit_follows_the_stack_limit,
    signal_state_across_exec,
    close_on_exec,
    working_directory_umask_and_limits_are_kept,
    process_id_is_kept,
    setpgid_after_exec_is_refused,
    name_changes,
    altstack_is_dropped,
    exec_by_a_thread_keeps_the_process,
    exec_ends_other_threads,
    text_file_busy,
    auxiliary_vector,
    random_bytes_differ_between_programs,
];
