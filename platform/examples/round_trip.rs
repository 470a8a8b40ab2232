//! What the basic operations of a back end cost on this host.
//!
//! `cargo run --release -p platform --example round_trip [ROUNDS]` prints the median of each in
//! microseconds, for each back end.

use platform::ptrace::PtracePlatform;
use platform::systrap::SystrapPlatform;
use platform::{
    Event, MapSource, MemoryFile, PAGE_SIZE, Platform, PlatformError, Prot, Registers, Result,
};
use std::sync::Arc;
use std::time::Instant;

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x1000_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// `mov eax, 110; syscall; mov dword [DATA], 1; jmp CODE`
const PROGRAM: [u8; 20] =
    [0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc7, 0x04, 0x25, 0, 0, 0, 0x10, 1, 0, 0, 0, 0xeb, 0xec];
/// `syscall; jmp CODE`
const CALLS: [u8; 4] = [0x0f, 0x05, 0xeb, 0xfc];

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let memory = MemoryFile::new()?;
    run(rounds, memory.clone(), PtracePlatform::new(memory)?)?;
    let memory = MemoryFile::new()?;
    run(rounds, memory.clone(), SystrapPlatform::new(memory, true)?)
}

fn run(rounds: usize, memory: Arc<MemoryFile>, platform: Arc<dyn Platform>) -> Result<()> {
    println!("{}:", platform.name());
    let (space, pending) = platform.new_address_space()?;
    let code = memory.allocate(PAGE_SIZE)?;
    code.write(0, &CALLS)?;
    let rx = Prot::READ | Prot::EXEC;
    space.map(CODE, PAGE_SIZE, rx, MapSource::Frames(code.clone()), Vec::new());
    let mut context = pending.attach()?;
    let mut regs = Registers::at_entry(CODE, 0);
    let expect = |context: &mut dyn platform::Context, regs: &mut Registers, fault: bool| loop {
        match context.switch(regs)? {
            Event::Interrupted => {}
            Event::Syscall if !fault => return Ok(()),
            Event::Fault(_) if fault => return Ok(()),
            other => return Err(PlatformError::Unsupported(format!("unexpected {other:?}"))),
        }
    };

    measure("system call", rounds, || expect(&mut *context, &mut regs, false))?;
    measure("system call with all registers", rounds / 4, || {
        expect(&mut *context, &mut regs, false)?;
        context.load_registers(&mut regs)
    })?;

    let frames = memory.allocate(2 * PAGE_SIZE)?;
    let mut which = 0;
    measure("system call that maps a page", rounds / 4, || {
        which ^= 1;
        let part = frames.slice(which * PAGE_SIZE..(which + 1) * PAGE_SIZE);
        let source = MapSource::Frames(part.unwrap_or_else(|| frames.clone()));
        space.map(DATA, PAGE_SIZE, RW, source, Vec::new());
        expect(&mut *context, &mut regs, false)
    })?;

    measure("system call that maps 16 pages, each on its own", rounds / 16, || {
        for page in 0..16 {
            let source = MapSource::Frames(frames.clone());
            space.map(DATA + 4 * page * PAGE_SIZE, PAGE_SIZE, RW, source, Vec::new());
        }
        expect(&mut *context, &mut regs, false)
    })?;

    code.write(0, &PROGRAM)?;
    regs.rip = CODE;
    expect(&mut *context, &mut regs, false)?;
    measure("write fault that maps a fresh page, and system call", rounds / 4, || {
        space.unmap(DATA, 64 * PAGE_SIZE, Vec::new());
        expect(&mut *context, &mut regs, true)?;
        let fresh = memory.allocate(PAGE_SIZE)?;
        space.map(DATA, PAGE_SIZE, RW, MapSource::Frames(fresh.clone()), vec![fresh]);
        expect(&mut *context, &mut regs, false)
    })?;

    measure("fork and end", rounds / 40, || context.fork().map(drop))?;
    measure("fork, attach and end", rounds / 40, || {
        let (_space, pending) = context.fork()?;
        pending.attach().map(drop)
    })?;
    measure("new address space, attach and end", rounds / 40, || {
        let (_space, pending) = platform.new_address_space()?;
        pending.attach().map(drop)
    })?;
    measure("new thread, attach and end", rounds / 40, || context.new_thread()?.attach().map(drop))
}

/// Runs `body` some times and prints the median duration.
fn measure(what: &str, rounds: usize, mut body: impl FnMut() -> Result<()>) -> Result<()> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        body()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("{:8.2} µs  {what}", median.as_secs_f64() * 1e6);
    Ok(())
}
