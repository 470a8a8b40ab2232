//! Threads, copies and ends of guest processes.

use crate::guest::*;
use platform::{Context, Event, MapSource, MemoryFile, PAGE_SIZE, PlatformError, Prot, Registers};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;

const RW: Prot = Prot::READ.union(Prot::WRITE);

#[test]
fn fork_copies_the_address_space() {
    // Store to data, then a system call.
    let mut guest = Guest::new(&[&store(DATA, 7)[..], SYSCALL, &load(DATA), SYSCALL].concat());
    guest.data.store32(0, 1).unwrap();
    guest.space.protect(DATA, PAGE_SIZE, Prot::READ);
    let (child_space, pending) = guest.context.fork().unwrap();
    let child_data = guest.memory.allocate(PAGE_SIZE).unwrap();
    let (child_frames, mut regs) = (child_data.clone(), guest.regs);
    let child = on_thread(pending, move |mut context| {
        // Write-protected there as well; give it its own copy.
        assert!(matches!(step(&mut *context, &mut regs), Event::Fault(f) if f.addr == DATA));
        child_space.map(DATA, PAGE_SIZE, RW, MapSource::Frames(child_frames), Vec::new());
        assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
        regs.rax
    });
    child.join().unwrap();
    assert_eq!(child_data.load32(0), Ok(7));
    assert_eq!(guest.data.load32(0), Ok(1));
    assert!(matches!(guest.step(), Event::Fault(f) if f.addr == DATA && f.code == 2));
    guest.space.protect(DATA, PAGE_SIZE, RW);
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(guest.data.load32(0), Ok(7));
}

#[test]
fn a_copy_starts_with_the_parents_fp_state() {
    let mut guest = Guest::new(SYSCALL);
    let mut state = guest.context.xstate().unwrap();
    state.bytes[512] |= 3;
    state.bytes[160..168].copy_from_slice(b"fp state");
    guest.context.set_xstate(&state).unwrap();
    let (_space, process) = guest.context.fork().unwrap();
    let thread = guest.context.new_thread().unwrap();
    for pending in [process, thread] {
        let bytes = on_thread(pending, |mut context| context.xstate().unwrap().bytes);
        assert_eq!(&bytes.join().unwrap()[160..168], b"fp state");
    }
    // A fresh address space starts with a clean state.
    let (_space, pending) = guest.platform.new_address_space().unwrap();
    let fresh = on_thread(pending, |mut context| context.xstate().unwrap()).join().unwrap();
    assert_eq!(fresh.bytes[..28], platform::XState::initial().bytes[..28]);
    assert!(fresh.bytes[160..416].iter().all(|byte| *byte == 0));
}

#[test]
fn threads_share_memory_and_end_alone() {
    let code = [&load(DATA)[..], &[0x85, 0xc0, 0x74, 0xf5], SYSCALL].concat(); // wait until non-zero
    let mut guest = Guest::new(&code);
    let mut regs = guest.regs;
    let (attached, ready) = mpsc::channel();
    let thread = on_thread(guest.context.new_thread().unwrap(), move |mut context| {
        attached.send(()).unwrap();
        let event = step(&mut *context, &mut regs);
        (event, regs.orig_rax)
    });
    ready.recv().unwrap();
    // The first thread ends; the second goes on.
    let Guest { space, context, data, .. } = guest;
    drop(context);
    data.store32(0, 42).unwrap();
    assert_eq!(thread.join().unwrap(), (Event::Syscall, 42));
    drop(space);
}

#[test]
fn mapping_work_of_one_thread_is_seen_by_all() {
    let mut guest = Guest::new(&[&load(0x1000_0000)[..], SYSCALL].concat());
    let mut regs = guest.regs;
    let (space, frames) = (guest.space.clone(), guest.memory.allocate(PAGE_SIZE).unwrap());
    frames.store32(0, 5).unwrap();
    let _mapped = frames.clone();
    on_thread(guest.context.new_thread().unwrap(), move |mut context| {
        space.map(0x1000_0000, PAGE_SIZE, Prot::READ, MapSource::Frames(frames), Vec::new());
        assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
    })
    .join()
    .unwrap();
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(guest.regs.orig_rax, 5);
}

#[test]
fn a_spinning_guest_is_interrupted() {
    let mut guest = Guest::new(SPIN);
    let interrupter = guest.context.interrupter();
    // Before it runs: the next switch returns at once.
    interrupter.interrupt();
    assert_eq!(guest.context.switch(&mut guest.regs).unwrap(), Event::Interrupted);
    // While it runs.
    for _ in 0..20 {
        let other = interrupter.clone();
        let thread = std::thread::spawn(move || other.interrupt());
        while guest.context.switch(&mut guest.regs).unwrap() != Event::Interrupted {}
        thread.join().unwrap();
        assert_eq!(guest.regs.rip, CODE);
        assert_eq!(guest.regs.orig_rax, u64::MAX);
    }
    drop(guest);
    interrupter.interrupt();
}

#[test]
fn no_interrupt_is_lost() {
    // The guest makes system calls all the time; each interrupt must be seen.
    let mut guest = Guest::new(&[SYSCALL, &[0xeb, 0xfc]].concat());
    let interrupter = guest.context.interrupter();
    let (ask, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        for _ in 0..300 {
            interrupter.interrupt();
            tell.send(()).unwrap();
            asked.recv().unwrap();
        }
    });
    for _ in 0..300 {
        told.recv().unwrap();
        let mut seen = false;
        for _ in 0..3 {
            seen |= guest.context.switch(&mut guest.regs).unwrap() == Event::Interrupted;
        }
        assert!(seen);
        ask.send(()).unwrap();
    }
    thread.join().unwrap();
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

/// Process ids of the stubs that appear while `make` runs.
fn new_stubs<T>(make: impl FnOnce() -> T) -> (T, Vec<i32>) {
    let before = stubs();
    let made = make();
    (made, stubs().into_iter().filter(|pid| !before.contains(pid)).collect())
}

fn kill(pids: &[i32]) {
    for pid in pids {
        let pid = nix::unistd::Pid::from_raw(*pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

fn died<T>(result: platform::Result<T>) -> bool {
    matches!(result, Err(PlatformError::StubDied))
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
fn a_host_file_is_mapped_shared() {
    let mut guest = Guest::new(&[&store(0x1000_0010, 9)[..], SYSCALL].concat());
    let file = nix::sys::memfd::memfd_create("file", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::ftruncate(&file, 16 * PAGE_SIZE as i64).unwrap();
    let file: Arc<OwnedFd> = Arc::new(file);
    // More than one list takes, mixed with other work.
    for page in 0..40 {
        let source = MapSource::HostFd(file.clone(), (page % 16) * PAGE_SIZE);
        guest.space.map(0x1000_0000 + page * PAGE_SIZE, PAGE_SIZE, RW, source, Vec::new());
        guest.space.populate(0x1000_0000, PAGE_SIZE);
        guest.space.protect(0x1000_0000 + page * PAGE_SIZE, PAGE_SIZE, Prot::READ);
        guest.space.protect(0x1000_0000 + page * PAGE_SIZE, PAGE_SIZE, RW);
    }
    assert_eq!(guest.step(), Event::Syscall);
    let mut word = [0; 4];
    nix::sys::uio::pread(&file, &mut word, 16).unwrap();
    assert_eq!(word, [9, 0, 0, 0]);
    // Also in a copy, which has not received anything yet.
    let (space, pending) = guest.context.fork().unwrap();
    space.map(0x2000_0000, PAGE_SIZE, RW, MapSource::HostFd(file.clone(), PAGE_SIZE), Vec::new());
    guest.code.write(0, &[&store(0x2000_0000, 3)[..], SYSCALL].concat()).unwrap();
    on_thread(pending, |mut context| {
        assert_eq!(step(&mut *context, &mut Registers::at_entry(CODE, 0)), Event::Syscall);
    })
    .join()
    .unwrap();
    nix::sys::uio::pread(&file, &mut word, PAGE_SIZE as i64).unwrap();
    assert_eq!(word, [3, 0, 0, 0]);
    // A descriptor that cannot be mapped that way ends the guest process, nothing else.
    let event = nix::sys::eventfd::EventFd::new().unwrap();
    let source = MapSource::HostFd(Arc::new(event.into()), 0);
    guest.space.map(0x3000_0000, PAGE_SIZE, RW, source, Vec::new());
    assert!(matches!(
        guest.context.flush(),
        Err(PlatformError::Host { source: nix::errno::Errno::ENODEV, .. })
    ));
    assert!(guest.space.check().is_err());
    assert!(died(guest.context.switch(&mut guest.regs)));
}

#[test]
fn operations_take_effect_in_order() {
    let mut guest = Guest::new(&[&load(0x1000_0000)[..], SYSCALL].concat());
    let frames: Vec<_> = (0..3).map(|_| guest.memory.allocate(PAGE_SIZE).unwrap()).collect();
    for round in 0..200_u32 {
        for (index, frame) in frames.iter().enumerate() {
            frame.store32(0, round * 10 + index as u32).unwrap();
            guest.space.map(0x1000_0000, PAGE_SIZE, RW, MapSource::Frames(frame.clone()), vec![]);
        }
        if round % 3 == 0 {
            guest.space.unmap(0x1000_0000, PAGE_SIZE, vec![]);
            let source = MapSource::Frames(frames[1].clone());
            guest.space.map(0x1000_0000, PAGE_SIZE, Prot::READ, source, vec![]);
        }
        guest.regs.rip = CODE;
        assert_eq!(guest.step(), Event::Syscall);
        let expected = round * 10 + if round % 3 == 0 { 1 } else { 2 };
        assert_eq!(guest.regs.orig_rax, u64::from(expected));
    }
}

#[test]
fn outside_the_guest_range_nothing_is_mapped() {
    let mut guest = Guest::new(SYSCALL);
    let range = guest.platform.user_addresses();
    let frames = guest.memory.allocate(16 * PAGE_SIZE).unwrap();
    for addr in [0, range.end, 0x7fff_ffff_0000, !(PAGE_SIZE - 1)] {
        let source = MapSource::Frames(frames.clone());
        guest.space.map(addr, 16 * PAGE_SIZE, RW, source, vec![]);
        guest.space.unmap(addr, 16 * PAGE_SIZE, vec![]);
        guest.space.protect(addr, 16 * PAGE_SIZE, RW);
    }
    assert_eq!(guest.step(), Event::Syscall);
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
        with_list += usize::from(ours.len() == 3);
        // Where it is in the memory file.
        lists.extend(ours.get(1).and_then(|list| list.split(' ').nth(2)).map(str::to_owned));
        assert!(ours.len() == 1 || ours.len() == 3, "{maps}");
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
fn nothing_is_left_behind() {
    let _serial = serial();
    let memory = MemoryFile::new().unwrap();
    let ((), left) = new_stubs(|| {
        let platform = crate::new_platform(memory.clone()).unwrap();
        let (space, pending) = platform.new_address_space().unwrap();
        let mut context = pending.attach().unwrap();
        let frames = memory.allocate(4 * PAGE_SIZE).unwrap();
        space.map(DATA, 4 * PAGE_SIZE, RW, MapSource::Frames(frames), vec![]);
        for round in 0..1000 {
            let (space, pending) = context.fork().unwrap();
            match round % 4 {
                // In every order, attached or not.
                0 => drop((space, pending)),
                1 => drop((pending, space)),
                2 => drop((pending.attach().unwrap(), space)),
                _ => drop((space, pending.attach().unwrap())),
            }
            if round % 10 == 0 {
                drop(context.new_thread().unwrap());
                drop(context.new_thread().unwrap().attach().unwrap());
            }
            if round % 50 == 0 {
                let (space, pending) = platform.new_address_space().unwrap();
                drop(platform.new_address_space().unwrap());
                drop((space, pending.attach().unwrap()));
            }
        }
        drop(platform);
    });
    assert_eq!(left, [0; 0]);
    assert_eq!(memory.committed_bytes().unwrap(), 0);
}

#[test]
fn a_context_outlives_its_platform() {
    let mut guest = Guest::new(SYSCALL);
    guest.platform = crate::new_platform(guest.memory.clone()).unwrap();
    assert_eq!(guest.step(), Event::Syscall);
    let (_space, pending) = guest.context.fork().unwrap();
    on_thread(pending, |mut context: Box<dyn Context>| {
        assert_eq!(step(&mut *context, &mut Registers::at_entry(CODE, 0)), Event::Syscall);
    })
    .join()
    .unwrap();
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
        .args(["--exact", "processes::the_sentrys_death_ends_all_stubs", "--nocapture"])
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
