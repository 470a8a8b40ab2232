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
