//! Guests that misbehave, and hosts that refuse.

use crate::guest::*;
use crate::random::Random;
use platform::{Event, MapSource, MemoryFile, PAGE_SIZE, Prot, Registers};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

const RW: Prot = Prot::READ.union(Prot::WRITE);

#[test]
fn random_code_and_registers() {
    let mut guest = Guest::new(&[]);
    guest.space.map(CODE, PAGE_SIZE, Prot::all(), MapSource::Frames(guest.code.clone()), vec![]);
    let interrupter = guest.context.interrupter();
    let done = Arc::new(AtomicBool::new(false));
    let watched = done.clone();
    let watchdog = std::thread::spawn(move || {
        while !watched.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(1));
            interrupter.interrupt();
        }
    });
    let mut random = Random::new(0x2545_f491_4f6c_dd1d);
    for round in 0..3000 {
        let bytes: Vec<u8> = (0..64).map(|_| random.next() as u8).collect();
        guest.code.write(0, &bytes).unwrap();
        let mut regs = Registers::at_entry(CODE, DATA + 2048);
        (regs.rax, regs.rbx, regs.rdi) = (random.next(), DATA, DATA + random.next() % 8192);
        if round % 5 == 0 {
            // Nothing in the registers need make sense.
            (regs.cs, regs.ss, regs.ds) = (random.next(), random.next(), random.next());
            (regs.fs_base, regs.gs_base) = (random.next(), random.next());
            (regs.fs, regs.gs, regs.es) = (random.next() & 7, random.next(), random.next() & 3);
            (regs.eflags, regs.orig_rax) = (random.next(), random.next());
            (regs.rsp, regs.rcx, regs.r11) = (random.next(), random.next(), random.next());
        }
        regs.single_step = round % 7 == 0;
        for _ in 0..4 {
            match guest.context.switch(&mut regs).unwrap() {
                Event::Fault(_) => break,
                Event::Syscall | Event::Interrupted => {}
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    watchdog.join().unwrap();
    // Its memory is as it was told, and it can be used as before.
    guest.load(SYSCALL);
    assert_eq!(guest.step(), Event::Syscall);
}

#[test]
fn many_threads_at_once() {
    let mut guest = Guest::new(&[SYSCALL, &[0xeb, 0xfc]].concat());
    let (tell, told) = mpsc::channel();
    let threads: Vec<_> = (0..100)
        .map(|number| {
            let (tell, data) = (tell.clone(), guest.memory.allocate(PAGE_SIZE).unwrap());
            let space = guest.space.clone();
            on_thread(guest.context.new_thread().unwrap(), move |mut context| {
                let mut regs = Registers::at_entry(CODE, 0);
                for round in 0..20 {
                    let at = 0x1000_0000 + number * 16 * PAGE_SIZE;
                    if round % 2 == 0 {
                        space.map(at, PAGE_SIZE, RW, MapSource::Frames(data.clone()), vec![]);
                    } else {
                        space.unmap(at, PAGE_SIZE, vec![]);
                    }
                    context.set_blocked(round % 3 == 0);
                    context.set_blocked(false);
                    assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
                }
                tell.send(()).unwrap();
            })
        })
        .collect();
    // So that the end of a thread that fails is seen.
    drop(tell);
    for _ in 0..threads.len() {
        told.recv().unwrap();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(guest.step(), Event::Syscall);
}

#[test]
fn processes_made_from_many_threads() {
    let _serial = serial();
    let memory = MemoryFile::new().unwrap();
    let platform = crate::new_platform(memory.clone()).unwrap();
    let code = memory.allocate(PAGE_SIZE).unwrap();
    code.write(0, SYSCALL).unwrap();
    let file = nix::sys::memfd::memfd_create("f", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::ftruncate(&file, PAGE_SIZE as i64).unwrap();
    let file = Arc::new(file);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (platform, code, file) = (platform.clone(), code.clone(), file.clone());
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let (space, pending) = platform.new_address_space().unwrap();
                    let rx = Prot::READ | Prot::EXEC;
                    space.map(CODE, PAGE_SIZE, rx, MapSource::Frames(code.clone()), vec![]);
                    space.map(DATA, PAGE_SIZE, RW, MapSource::HostFd(file.clone(), 0), vec![]);
                    let mut context = pending.attach().unwrap();
                    let mut regs = Registers::at_entry(CODE, 0);
                    assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
                    let (_copy, pending) = context.fork().unwrap();
                    let mut copy = pending.attach().unwrap();
                    let mut regs = Registers::at_entry(CODE, 0);
                    assert_eq!(step(&mut *copy, &mut regs), Event::Syscall);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    drop(platform);
}
