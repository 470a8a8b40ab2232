//! What is so because a host process is behind each guest process.

use crate::guest::*;
use platform::{Event, MapSource, PAGE_SIZE, PlatformError, Prot, Registers};
use std::sync::mpsc;

const RW: Prot = Prot::READ.union(Prot::WRITE);

fn kill(pids: &[i32]) {
    for pid in pids {
        let pid = nix::unistd::Pid::from_raw(*pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn signals_from_outside_do_no_harm() {
    let mut guest = Guest::new(&[&mov_eax(1)[..], SYSCALL].concat());
    let before = stubs();
    for signal in [libc::SIGTERM, libc::SIGSTOP, libc::SIGCONT, libc::SIGSEGV] {
        if crate::UNTRACED && signal == libc::SIGSTOP {
            // Nobody traces it, so it really stops; what it does then is the next test's.
            continue;
        }
        for pid in &before {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(*pid),
                nix::sys::signal::Signal::try_from(signal).unwrap(),
            )
            .unwrap();
        }
        guest.load(&[&mov_eax(1)[..], SYSCALL].concat());
        let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
        guest.space.map(0x1000_0000, PAGE_SIZE, RW, MapSource::Frames(frames), Vec::new());
        assert_eq!(guest.step(), Event::Syscall);
    }
    let (_space, pending) = guest.platform.new_address_space().unwrap();
    on_thread(pending, |mut context| context.xstate().unwrap()).join().unwrap();
}

#[test]
fn a_killed_stub_is_an_error() {
    let guest = Guest::new(&mov_eax(1));
    let (forked, pids) = new_stubs(|| {
        let mut guest = guest;
        let forked = guest.context.fork().unwrap();
        (guest, forked)
    });
    let (guest, (space, pending)) = forked;
    kill(&pids);
    assert!(died(pending.attach()));
    drop(space);

    // While its two threads are in guest code, and one is not.
    let (context, pids) = new_stubs(|| guest.platform.new_address_space().unwrap().1.attach());
    let mut context = context.unwrap();
    let space = context.address_space();
    space.map(
        CODE,
        PAGE_SIZE,
        Prot::READ | Prot::EXEC,
        MapSource::Frames(guest.code.clone()),
        vec![],
    );
    guest.code.write(0, SPIN).unwrap();
    let (attached, ready) = mpsc::channel();
    let (finish, finished) = mpsc::channel::<()>();
    let idle_attached = attached.clone();
    let idle = on_thread(context.new_thread().unwrap(), move |mut context| {
        idle_attached.send(()).unwrap();
        finished.recv().unwrap();
        died(context.switch(&mut Registers::at_entry(CODE, 0)))
    });
    let spinning = on_thread(context.new_thread().unwrap(), move |mut context| {
        attached.send(()).unwrap();
        loop {
            match context.switch(&mut Registers::at_entry(CODE, 0)) {
                Ok(_) => {}
                result => return died(result),
            }
        }
    });
    ready.recv().unwrap();
    ready.recv().unwrap();
    context.flush().unwrap();
    kill(&pids);
    // The first thread notices although another one has not been told yet.
    while !died(context.switch(&mut Registers::at_entry(CODE, 0))) {}
    assert!(died(context.new_thread()) && died(context.fork()) && died(context.xstate()));
    space.unmap(CODE, PAGE_SIZE, vec![]);
    assert!(died(context.flush()));
    assert!(spinning.join().unwrap());
    finish.send(()).unwrap();
    assert!(idle.join().unwrap());
    drop((context, space));
    // The platform goes on.
    assert!(guest.platform.new_address_space().unwrap().1.attach().is_ok());
}

#[test]
fn the_stub_holds_nothing_else() {
    let (guest, pids) = new_stubs(|| {
        let mut guest = Guest::new(SYSCALL);
        // Make it use its list pages, then copy itself.
        for page in 0..8 {
            let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
            let at = 0x1000_0000 + 2 * page * PAGE_SIZE;
            guest.space.map(at, PAGE_SIZE, RW, MapSource::Frames(frames), vec![]);
        }
        assert_eq!(guest.step(), Event::Syscall);
        let copy = guest.context.fork().unwrap();
        (guest, copy)
    });
    let (mut with_list, mut lists, all) = (0, Vec::new(), pids.len());
    for pid in pids {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let ours = maps.lines().filter(|line| {
            let start = line.split('-').next().unwrap();
            u64::from_str_radix(start, 16).unwrap() >= 0x7fff_ff00_0000
                && !line.ends_with("[vsyscall]")
        });
        // Signal stacks are below.
        let ours = ours.skip_while(|line| !line.starts_with("7fffffff0000"));
        let ours: Vec<_> = ours.collect();
        assert!(ours[0].starts_with("7fffffff0000-7fffffff1000 r-xs"), "{maps}");
        // The untraced back end has a gate behind its list.
        let full = if crate::UNTRACED { 4 } else { 3 };
        with_list += usize::from(ours.len() == full);
        // Where it is in the memory file.
        lists.extend(ours.get(1).and_then(|list| list.split(' ').nth(2)).map(str::to_owned));
        assert!(ours.len() == 1 || ours.len() == full, "{maps}");
        assert!(!maps.contains("[heap]") && !maps.contains("[stack]") && !maps.contains("[vdso]"));
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        // A guest thread's listener stays open until something else is.
        assert!(fds == 3 || crate::UNTRACED && fds == 4, "{fds}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"));
        assert!(status.contains("CapPrm:\t0000000000000000"));
    }
    if crate::UNTRACED {
        lists.sort_unstable();
        lists.dedup();
        assert_eq!((with_list, lists.len()), (all, all), "each has a list of its own");
    } else {
        assert_eq!(with_list, 1, "a copy must not inherit the list");
    }
    drop(guest);
}

#[test]
fn copies_of_a_process_use_its_stubs_again() {
    const OTHER: u64 = 0x1000_0000;
    // What one copy maps and writes is not there for the next one.
    let code = [&store(DATA, 7)[..], SYSCALL, &load(OTHER), SYSCALL, &store(OTHER, 9), SYSCALL];
    let mut guest = Guest::new(&code.concat());
    let (mut kept, mut used) = (0, 0);
    let (turn, left) = new_stubs(|| {
        for round in 0..24_u64 {
            // Changes of the original while its copies are away, some that they see.
            if round % 3 == 0 {
                let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
                let source = MapSource::Frames(frames);
                guest.space.map(OTHER + PAGE_SIZE * (1 + round), PAGE_SIZE, RW, source, vec![]);
            }
            guest.regs.rip = CODE;
            (guest.regs.rbx, guest.regs.fs_base) = (round, 0x5000 + round);
            let ((space, pending), new) = new_stubs(|| guest.context.fork().unwrap());
            let (code, memory) = (guest.code.clone(), guest.memory.clone());
            let own = [guest.memory.allocate(PAGE_SIZE), guest.memory.allocate(PAGE_SIZE)];
            let [data, other] = own.map(Result::unwrap);
            let stale = space.stale();
            used += usize::from(new.is_empty());
            assert_eq!(stale.is_empty(), !new.is_empty(), "{stale:x?} {new:?}");
            for range in stale {
                space.unmap(range.start, range.end - range.start, vec![]);
                if range.contains(&CODE) {
                    let rx = Prot::READ | Prot::EXEC;
                    space.map(CODE, PAGE_SIZE, rx, MapSource::Frames(code.clone()), vec![]);
                }
            }
            space.map(DATA, PAGE_SIZE, RW, MapSource::Frames(data.clone()), vec![]);
            let (mut regs, mapper) = (guest.regs, space.clone());
            let seen = data.clone();
            let child = on_thread(pending, move |mut context| {
                assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
                assert_eq!(seen.load32(0), Ok(7));
                assert_eq!((regs.rbx, regs.fs_base), (round, 0x5000 + round));
                assert!(
                    matches!(step(&mut *context, &mut regs), Event::Fault(f) if f.addr == OTHER)
                );
                mapper.map(OTHER, PAGE_SIZE, RW, MapSource::Frames(other.clone()), vec![]);
                assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
                assert_eq!(regs.orig_rax, 0);
                assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
                assert_eq!(other.load32(0), Ok(9));
                drop((memory, mapper));
            });
            child.join().unwrap();
            kept += usize::from(space.keep());
        }
        assert_eq!((kept > 20, used > 20), (crate::UNTRACED, crate::UNTRACED), "{kept} {used}");
        guest.end()
    });
    assert_eq!(left, [0; 0]);
    drop(turn);
}

#[test]
fn our_own_code_page_is_of_no_use_to_the_guest() {
    // Jumping into it makes system calls, which stop like any others, and traps.
    let text = 0x7fff_ffff_0000;
    let mut guest = Guest::new(&[]);
    for offset in 0..256 {
        let mut regs = Registers::at_entry(text + offset, DATA + 2048);
        (regs.rax, regs.rdi) = (libc::SYS_exit_group as u64, 1);
        for _ in 0..8 {
            match step(&mut *guest.context, &mut regs) {
                Event::Fault(_) => break,
                _ => regs.rax = 0,
            }
        }
    }
    guest.load(&store(DATA, 1));
    guest.regs.rip = text;
    // It cannot be written either.
    guest.load(&[0xc6, 0x07, 0x90]); // mov byte [rdi], 0x90
    guest.regs.rdi = text;
    assert!(matches!(guest.step(), Event::Fault(f) if f.addr == text && f.code == 2));
}

#[test]
fn too_many_mappings_end_the_guest_process_only() {
    let mut guest = Guest::new(SYSCALL);
    let limit: u64 =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
    let count = limit.min(300_000) + 10;
    for page in 0..count {
        let source = MapSource::Frames(frames.clone());
        guest.space.map(0x1_0000_0000 + page * PAGE_SIZE, PAGE_SIZE, Prot::READ, source, vec![]);
    }
    let result = guest.context.flush();
    if limit < 300_000 {
        let expected = nix::errno::Errno::ENOMEM;
        assert!(matches!(result, Err(PlatformError::Host { source, .. }) if source == expected));
        assert!(guest.space.check().is_err());
        assert!(guest.context.switch(&mut guest.regs).is_err());
    }
    let (_space, pending) = guest.platform.new_address_space().unwrap();
    assert!(pending.attach().is_ok());
}

/// The CPUs a thread of this process or its stubs may use, as Linux prints them.
fn allowed_cpus(pid: i32) -> String {
    // The youngest thread is the one that runs guest code.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let ids = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let tid = ids.map(|id| id.parse::<i32>().unwrap()).max().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
}

#[test]
fn two_that_compute_get_a_cpu_each() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let mut guest = Guest::new(&[&[0xff, 0x07][..], SPIN].concat()); // inc dword [rdi]; spin
    let ((_space, pending), pids) = new_stubs(|| guest.context.fork().unwrap());
    let first: Vec<_> = stubs();
    let (tell, told) = mpsc::channel();
    let child = on_thread(pending, move |mut context| {
        tell.send(context.interrupter()).unwrap();
        let mut regs = Registers::at_entry(CODE + 2, 0);
        while context.switch(&mut regs).unwrap() != Event::Interrupted {}
    });
    let other = told.recv().unwrap();
    let mine = guest.context.interrupter();
    let watcher = std::thread::spawn(move || {
        // Both spin; wait until they have been separated, for at most some seconds.
        let mut places = Vec::new();
        for _ in 0..500 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            // The first of all is the zygote.
            places = [&first[first.len() - 2..first.len() - 1], &pids[..]].concat();
            places.dedup();
            if cpus < 2 || allowed_cpus(places[0]) != allowed_cpus(*places.last().unwrap()) {
                break;
            }
        }
        mine.interrupt();
        other.interrupt();
        places.into_iter().map(allowed_cpus).collect::<Vec<_>>()
    });
    guest.regs.rip = CODE + 2;
    while guest.context.switch(&mut guest.regs).unwrap() != Event::Interrupted {}
    let places = watcher.join().unwrap();
    child.join().unwrap();
    assert!(cpus < 2 || places.first() != places.last(), "{places:?}");
}

/// Set for the process that plays the sentry in the test below.
const VICTIM: &str = "PLATFORM_TEST_VICTIM";

#[test]
fn the_sentrys_death_ends_all_stubs() {
    use std::io::{BufRead, BufReader};
    if std::env::var_os(VICTIM).is_some() {
        // One stub that spins, one whose tracer is idle, one nobody traces, and the zygote.
        let mut guest = Guest::new(SPIN);
        let (_space, pending) = guest.context.fork().unwrap();
        let (_space, _parked) = guest.context.fork().unwrap();
        let (tell, told) = mpsc::channel();
        let _idle = on_thread(pending, move |_context| {
            tell.send(()).unwrap();
            std::thread::park();
        });
        told.recv().unwrap();
        println!("\nstubs {:?}", stubs());
        loop {
            let _ = guest.context.switch(&mut guest.regs);
        }
    }
    let _serial = serial();
    // Orphans come to us, so that their end can be seen.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stubs::the_sentrys_death_ends_all_stubs", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let list = lines.map(Result::unwrap).find_map(|l| l.strip_prefix("stubs ").map(str::to_owned));
    let list = list.unwrap();
    let pids: Vec<i32> =
        list.trim_matches(['[', ']']).split(", ").map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 4);
    victim.kill().unwrap();
    victim.wait().unwrap();
    for pid in pids {
        let flags = Some(nix::sys::wait::WaitPidFlag::__WALL);
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), flags).unwrap();
    }
    nix::sys::prctl::set_child_subreaper(false).unwrap();
}
