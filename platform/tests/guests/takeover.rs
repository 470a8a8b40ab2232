//! Guests that have taken over all of their stub that can be taken over: its code, its memory, its signals.

use crate::guest::*;
use crate::random::Random;
use platform::{Event, Frames, Interrupter, MapSource, PAGE_SIZE, PendingContext, Prot, Registers};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The stub's code, its list of calls, its writable page and its gate follow each other.
const TEXT: u64 = 0x7fff_ffff_0000;
const SCRATCH: u64 = TEXT + 2 * PAGE_SIZE;
const GATE: u64 = TEXT + 3 * PAGE_SIZE;
/// The first thread's signal stack.
const STACK: u64 = 0x7fff_0000_0000;

/// Calls that guest threads may make from our code: they concern themselves only.
const HARMLESS: [i64; 3] = [libc::SYS_futex, libc::SYS_rt_sigreturn, libc::SYS_exit];

/// `uretprobe` and `uprobe`: newer hosts do not ask filters about them, and refuse them outside of their own probes;
/// what is behind the instruction then runs.
const PROBES: [i64; 2] = [335, 336];

/// Calls that the stub's agent may make, with arguments that its filter lets through.
fn agents_calls() -> Vec<(i64, [u64; 6])> {
    let map = u64::from((libc::MAP_SHARED | libc::MAP_FIXED) as u32);
    let thread = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let receive = (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) as u64;
    vec![
        (libc::SYS_mmap, [CODE, PAGE_SIZE, 3, map, 0, 0]),
        (libc::SYS_munmap, [DATA, PAGE_SIZE, 0, 0, 0, 0]),
        (libc::SYS_mprotect, [TEXT, PAGE_SIZE, 3, 0, 0, 0]),
        (libc::SYS_madvise, [DATA, PAGE_SIZE, libc::MADV_DONTFORK as u64, 0, 0, 0]),
        (libc::SYS_clone, [thread as u64, DATA + 2048, 0, 0, 0, 0]),
        (libc::SYS_clone, [libc::CLONE_PARENT as u64, 0, 0, 0, 0, 0]),
        (libc::SYS_recvmsg, [1, DATA, receive, 0, 0, 0]),
        (libc::SYS_close, [3, 0, 0, 0, 0, 0]),
        (libc::SYS_read, [2, DATA, 1, 0, 0, 0]),
        (libc::SYS_sendto, [2, DATA, 1, 0, 0, 0]),
        (libc::SYS_dup3, [3, 2, 0, 0, 0, 0]),
        (libc::SYS_sigaltstack, [DATA, 0, 0, 0, 0, 0]),
        (libc::SYS_seccomp, [1, 4 | 8 | 32, DATA, 0, 0, 0]),
        (libc::SYS_exit_group, [0; 6]),
    ]
}

/// A process that shares the platform with the guest.
fn process(guest: &Guest, code: &[u8]) -> (Box<dyn PendingContext>, [Frames; 2]) {
    let (space, pending) = guest.platform.new_address_space().unwrap();
    let frames = [(); 2].map(|()| guest.memory.allocate(PAGE_SIZE).unwrap());
    let [text, data] = &frames;
    text.write(0, code).unwrap();
    let all = Prot::all();
    space.map(CODE, PAGE_SIZE, all, MapSource::Frames(text.clone()), vec![]);
    space.map(DATA, PAGE_SIZE, all, MapSource::Frames(data.clone()), vec![]);
    (pending, frames)
}

/// Checks that another process of the platform runs as it should.
fn others_live(guest: &Guest) {
    let (pending, [_text, data]) = process(guest, &[&store(DATA, 77)[..], SYSCALL].concat());
    let mut context = pending.attach().unwrap();
    let mut regs = Registers::at_entry(CODE, 0);
    assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
    let mut found = [0];
    data.read(0, &mut found).unwrap();
    assert_eq!(found, [77]);
}

/// What the host has of a stub: descriptors, and mappings of ours by address, rights and offset.
fn belongings(pid: i32) -> (BTreeSet<String>, Vec<String>) {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = fds.map(|fd| {
        let path = fd.unwrap().path();
        format!("{} {}", path.display(), std::fs::read_link(&path).unwrap().display())
    });
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let maps = maps.lines().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "));
    (links.collect(), maps.collect())
}

/// Interrupts a context every millisecond until it is dropped.
struct Nagger(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Nagger {
    fn new(interrupter: Arc<dyn Interrupter>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                interrupter.interrupt();
            }
        });
        Self(done, Some(thread))
    }
}

impl Drop for Nagger {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            thread.join().unwrap();
        }
    }
}

/// Where there is a `syscall` instruction, intended or not, in our code.
fn calls_in_our_code(guest: &mut Guest) -> Vec<u64> {
    let mut found = Vec::new();
    for page in [TEXT, GATE] {
        // rep movsb; syscall
        guest.load(&[&[0xf3, 0xa4][..], SYSCALL].concat());
        (guest.regs.rsi, guest.regs.rdi, guest.regs.rcx) = (page, DATA, PAGE_SIZE);
        assert_eq!(guest.step(), Event::Syscall);
        let mut bytes = vec![0; PAGE_SIZE as usize];
        guest.data.read(0, &mut bytes).unwrap();
        let pairs = bytes.windows(2).enumerate();
        found.extend(pairs.filter(|(_, pair)| pair == &SYSCALL).map(|(at, _)| page + at as u64));
    }
    assert!(found.len() > 10, "{found:x?}");
    found
}

#[test]
fn every_call_from_our_code_reaches_the_sentry() {
    let (mut guest, pids) = new_stubs(|| Guest::new(SYSCALL));
    let places = calls_in_our_code(&mut guest);
    let before: Vec<_> = pids.iter().map(|pid| belongings(*pid)).collect();
    let numbers = (0..600).chain([0x4000_0000, 0x4000_0101, 0x3fff_ffff, 0xffff_ffff]);
    let plain = numbers.map(|number| (number, [0; 6]));
    let calls: Vec<_> = plain.chain(agents_calls()).collect();
    for rip in places.iter().copied().chain([CODE]) {
        for (number, args) in &calls {
            if rip != CODE && (HARMLESS.contains(number) || PROBES.contains(number)) {
                continue;
            }
            guest.regs = Registers::at_entry(rip, DATA + 2048);
            let regs = &mut guest.regs;
            regs.rax = *number as u64;
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = *args;
            let event = guest.step();
            if PROBES.contains(number) {
                continue;
            }
            assert_eq!(event, Event::Syscall, "{number} at {rip:x}");
            assert_eq!(guest.regs.orig_rax as u32, *number as u32, "at {rip:x}");
        }
    }
    let after: Vec<_> = pids.iter().map(|pid| belongings(*pid)).collect();
    assert_eq!(before, after);
    others_live(&guest);
}

#[test]
fn our_code_can_be_entered_anywhere() {
    let mut guest = Guest::new(SYSCALL);
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let calls = agents_calls();
    let mut offset = 0;
    let mut died = 0;
    while offset < 2 * PAGE_SIZE {
        // A thread that ends itself takes its process with it, which is its only one.
        let ((pending, _frames), pids) = new_stubs(|| process(&guest, SYSCALL));
        let mut context = pending.attach().unwrap();
        let nagger = Nagger::new(context.interrupter());
        let mut before = None;
        while offset < 2 * PAGE_SIZE {
            let at = if offset < PAGE_SIZE { TEXT + offset } else { GATE + offset - PAGE_SIZE };
            offset += 1;
            let mut regs = Registers::at_entry(at, DATA + 2048);
            let (number, args) = calls[random.next() as usize % calls.len()];
            (regs.rbx, regs.rbp, regs.r12) = (DATA, random.next(), random.next());
            (regs.rcx, regs.r11) = (random.next(), random.next());
            regs.gs_base = [0, STACK, DATA, random.next() >> 17][random.next() as usize % 4];
            regs.rax = number as u64;
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
            let result = (0..6).try_for_each(|_| context.switch(&mut regs).map(drop));
            if result.is_err() {
                died += 1;
                break;
            }
            // All is there once it has run for the first time.
            let now: Vec<_> = pids.iter().map(|pid| belongings(*pid)).collect();
            assert_eq!(before.get_or_insert_with(|| now.clone()), &now, "after {at:x}");
        }
        drop(nagger);
    }
    assert!(died < 2048, "{died}");
    guest.load(SYSCALL);
    assert_eq!(guest.step(), Event::Syscall);
    others_live(&guest);
}

/// Writes random bytes to `rdi` and what follows, up to the mask `rsi`, for ever: xorshift in `rax`.
const SCRIBBLE: &[u8] = &[
    0x48, 0x89, 0xc2, 0x48, 0xc1, 0xe2, 0x0d, 0x48, 0x31, 0xd0, // rax ^= rax << 13
    0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 0x07, 0x48, 0x31, 0xd0, // rax ^= rax >> 7
    0x48, 0x89, 0xc2, 0x48, 0xc1, 0xe2, 0x11, 0x48, 0x31, 0xd0, // rax ^= rax << 17
    0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 0x14, 0x48, 0x21, 0xf2, // rdx = rax >> 20 & rsi
    0x88, 0x04, 0x17, // mov [rdi + rdx], al
    0xeb, 0xd3, // jmp SCRIBBLE
];

#[test]
fn spoilt_memory_hurts_but_its_own_process() {
    let guest = Guest::new(SYSCALL);
    let mut random = Random::new(0x0123_4567_89ab_cdef);
    for round in 0..24 {
        let code = [SCRIBBLE, SYSCALL, &[0xeb, 0xfc]].concat();
        let (pending, [text, _data]) = process(&guest, &code);
        let mut context = pending.attach().unwrap();
        let space = context.address_space();
        // The page that agents and new threads use, a sibling's signal stack, or its own.
        let target = [SCRATCH, STACK, STACK + 0x1000][round % 3];
        let seed = random.next();
        let scribbler = on_thread(context.new_thread().unwrap(), move |mut context| {
            let mut regs = Registers::at_entry(CODE, DATA + 2048);
            (regs.rdi, regs.rsi, regs.rax) = (target, 0xfff, seed);
            let nagger = Nagger::new(context.interrupter());
            for _ in 0..60 {
                if context.switch(&mut regs).is_err() {
                    break;
                }
            }
            drop(nagger);
        });
        let nagger = Nagger::new(context.interrupter());
        for turn in 0..300_u64 {
            let mut regs = Registers::at_entry(CODE + SCRIBBLE.len() as u64, DATA + 2048);
            let at = 0x1000_0000 + turn % 8 * PAGE_SIZE;
            space.map(at, PAGE_SIZE, Prot::READ, MapSource::Frames(text.clone()), vec![]);
            let mut go_on = || {
                context.switch(&mut regs)?;
                context.load_registers(&mut regs)?;
                match turn % 16 {
                    3 => drop(context.fork()?.1.attach()?),
                    7 => drop(context.new_thread()?.attach()?),
                    11 => drop(context.xstate()?),
                    _ => {}
                }
                context.flush()
            };
            if go_on().is_err() {
                break;
            }
        }
        drop(nagger);
        drop(context);
        scribbler.join().unwrap();
        others_live(&guest);
    }
}

/// A `ucontext_t` that blocks all signals and goes on at the start of the code.
fn deaf() -> Vec<u8> {
    let mut words = [0_u64; 38];
    words[0] = 6; // UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
    words[5 + 15] = DATA + 2048;
    words[5 + 16] = CODE;
    words[5 + 17] = 0x202;
    words[5 + 18] = 0x33 | 0x2b << 48;
    words[37] = u64::MAX;
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_stub_that_does_not_heed_the_sentry_is_not_used_again() {
    let mut guest = Guest::new(SYSCALL);
    let rip = *calls_in_our_code(&mut guest).first().unwrap();
    // Blocks all signals by a call that the sentry does not see, and goes on with system calls, with reports of its own,
    // or computes for ever.
    let report = [&mov_eax(0x3fff_fffe)[..], SYSCALL, &[0xeb, 0xfc]].concat();
    for code in [[SYSCALL, &[0xeb, 0xfc]].concat(), report, [SYSCALL, SPIN].concat()] {
        let (pending, [_text, data]) = process(&guest, &code);
        data.write(0, &deaf()).unwrap();
        let mut context = pending.attach().unwrap();
        let start = Instant::now();
        for _ in 0..6 {
            let (space, pending) = context.fork().unwrap();
            assert!(space.stale().is_empty());
            let child = on_thread(pending, move |mut context| {
                let mut regs = Registers::at_entry(rip, DATA);
                regs.rax = libc::SYS_rt_sigreturn as u64;
                assert_eq!(context.switch(&mut regs).unwrap(), Event::Syscall);
            });
            child.join().unwrap();
            assert!(!space.keep());
        }
        // Its end was not waited for.
        assert!(start.elapsed() < Duration::from_secs(10));
        others_live(&guest);
    }
}

#[test]
fn who_does_not_heed_the_sentry_is_ended() {
    let mut guest = Guest::new(SYSCALL);
    let rip = *calls_in_our_code(&mut guest).first().unwrap();
    // Loads a state that blocks all signals, by a call that the sentry does not see.
    let become_deaf = move || {
        let mut regs = Registers::at_entry(rip, DATA);
        regs.rax = libc::SYS_rt_sigreturn as u64;
        regs
    };

    // One that computes for ever, and is interrupted.
    let (pending, [_text, data]) = process(&guest, SPIN);
    data.write(0, &deaf()).unwrap();
    let interrupted = on_thread(pending, move |mut context| {
        let nagger = Nagger::new(context.interrupter());
        let mut regs = become_deaf();
        let end = loop {
            match context.switch(&mut regs) {
                Ok(Event::Interrupted) if regs.rip == rip => {}
                Ok(event) => panic!("{event:?} at {:x}", regs.rip),
                Err(error) => break died(Err::<(), _>(error)),
            }
        };
        drop(nagger);
        end
    });

    // One whose registers are wanted in a system call, and which then computes for ever.
    let (pending, [_other, data]) = process(&guest, &[SYSCALL, SPIN].concat());
    data.write(0, &deaf()).unwrap();
    let asked = on_thread(pending, move |mut context| {
        assert_eq!(context.switch(&mut become_deaf()).unwrap(), Event::Syscall);
        died(context.xstate())
    });

    // One that somebody on the host has stopped, in guest code, before mapping work and before it is copied.
    let stopped = [0, 1, 2].map(|case| {
        let ((pending, [text, data]), pids) = new_stubs(|| process(&guest, SYSCALL));
        on_thread(pending, move |mut context| {
            let _data = data;
            let mut regs = Registers::at_entry(CODE, 0);
            assert_eq!(context.switch(&mut regs).unwrap(), Event::Syscall);
            for pid in pids {
                let pid = nix::unistd::Pid::from_raw(pid);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
            }
            match case {
                0 => {
                    let nagger = Nagger::new(context.interrupter());
                    while context.switch(&mut regs).is_ok() {}
                    drop(nagger);
                    true
                }
                1 => {
                    let source = MapSource::Frames(text);
                    context.address_space().map(DATA, PAGE_SIZE, Prot::READ, source, vec![]);
                    died(context.flush())
                }
                _ => died(context.fork()),
            }
        })
    });
    others_live(&guest);
    assert!(interrupted.join().unwrap());
    assert!(asked.join().unwrap());
    for thread in stopped {
        assert!(thread.join().unwrap());
    }
    others_live(&guest);
}
