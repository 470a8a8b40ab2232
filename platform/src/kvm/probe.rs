//! A miniature guest that shows whether `/dev/kvm` does what it should.
//!
//! It makes system calls, touches memory for the first time, loses a right to it, faults, computes with the vector unit and
//! is interrupted while it spins: all that has been seen to fail or hang somewhere. Hosts that shadow the machine's page
//! tables, for want of nested ones, do not see that the sentry changes them. It runs on a thread of
//! its own, as a host that hangs may do so in a way that no signal ends.

use super::KvmPlatform;
use crate::host::{thread, time::Clock};
use crate::{
    Context, Event, Interrupter, MapSource, PAGE_SIZE, Platform, PlatformError, Prot, Registers,
    Result, XState,
};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Where the guest's code and data are.
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x60_0000;
/// Where nothing is.
const NOTHING: u64 = 0x70_0000;

/// The guest, in parts that begin at these offsets.
const PROGRAM: &[u8] = &[
    // 0: addps xmm0, xmm0; syscall
    0x0f, 0x58, 0xc0, 0x0f, 0x05, //
    // 5: mov dword [DATA], 42; syscall
    0xc7, 0x04, 0x25, 0x00, 0x00, 0x60, 0x00, 42, 0, 0, 0, 0x0f, 0x05, //
    // 18: mov eax, [NOTHING]
    0x8b, 0x04, 0x25, 0x00, 0x00, 0x70, 0x00, //
    // 25: jmp .
    0xeb, 0xfe, //
    // 27: syscall; jmp 27
    0x0f, 0x05, 0xeb, 0xfc,
];
const STORE: u64 = 5;
const FAULT: u64 = 18;
const SPIN: u64 = 25;
const CALLS: u64 = 27;

/// System calls that are timed; the fastest counts.
const TIMED: u32 = 32;

/// How often a guest that may be stuck is interrupted.
const TICK: Duration = Duration::from_millis(2);

/// Stack of the thread that runs the guest, in bytes.
const STACK: usize = 256 << 10;

fn unsupported(why: String) -> PlatformError {
    PlatformError::Unsupported(format!("the kvm platform does not work on this host: {why}"))
}

/// Runs the guest. Fails with one line when something is not as it should be, or takes longer than `limit`.
/// Returns how long a system call takes, in nanoseconds.
pub fn run(platform: &Arc<KvmPlatform>, limit: Duration) -> Result<u64> {
    let (tell, told) = mpsc::channel();
    let (hand, handed) = mpsc::channel();
    let probed = platform.clone();
    let start = Instant::now();
    let guest = move || {
        let result = guest(&probed, &hand, start + limit);
        drop(probed);
        let _ = tell.send(result);
    };
    let thread = thread::spawn("kvm-probe", STACK, guest)
        .map_err(|e| PlatformError::host("start a thread that probes KVM", e))?;
    let mut interrupter: Option<Arc<dyn Interrupter>> = None;
    loop {
        match told.recv_timeout(TICK) {
            Ok(result) => {
                let _ = thread.join();
                return result;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(unsupported("the guest's thread has ended".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        interrupter = interrupter.or_else(|| handed.try_recv().ok());
        if let Some(interrupter) = &interrupter {
            interrupter.interrupt();
        }
        if start.elapsed() > limit + 10 * TICK {
            // The host does not let go of the thread.
            return Err(unsupported(format!("a guest hangs for {} ms", limit.as_millis())));
        }
    }
}

struct Guest {
    context: Box<dyn Context>,
    regs: Registers,
    end: Instant,
}

impl Guest {
    /// Runs from an offset of the program to the next event but interrupts.
    fn run(&mut self, from: u64) -> Result<Event> {
        self.regs.rip = CODE + from;
        loop {
            match self.switch()? {
                Event::Interrupted => {}
                event => return Ok(event),
            }
        }
    }

    fn switch(&mut self) -> Result<Event> {
        if Instant::now() > self.end {
            return Err(unsupported("a guest makes no progress".to_owned()));
        }
        self.context.switch(&mut self.regs)
    }
}

fn expect(what: &str, right: bool, seen: &impl std::fmt::Debug) -> Result<()> {
    if right { Ok(()) } else { Err(unsupported(format!("{what} ended with {seen:x?}"))) }
}

fn guest(
    platform: &Arc<KvmPlatform>,
    hand: &mpsc::Sender<Arc<dyn Interrupter>>,
    end: Instant,
) -> Result<u64> {
    let memory = platform.machine.slots().memory().clone();
    let (code, data) = (memory.allocate(PAGE_SIZE)?, memory.allocate(PAGE_SIZE)?);
    code.write(0, PROGRAM)?;
    let (space, pending) = platform.new_address_space()?;
    let map =
        |addr, prot, frames| space.map(addr, PAGE_SIZE, prot, MapSource::Frames(frames), vec![]);
    map(CODE, Prot::READ | Prot::EXEC, code.clone());
    map(DATA, Prot::READ | Prot::WRITE, data.clone());
    let context = pending.attach()?;
    let _ = hand.send(context.interrupter());
    let regs = Registers::at_entry(CODE, DATA + PAGE_SIZE);
    let mut guest = Guest { context, regs, end };

    let mut state = XState::initial();
    if let Some(lane) = state.bytes.get_mut(160..164) {
        lane.copy_from_slice(&1.5f32.to_le_bytes());
    }
    guest.context.set_xstate(&state)?;
    guest.regs.rax = 39;
    let event = guest.run(0)?;
    let call = event == Event::Syscall && guest.regs.orig_rax == 39;
    expect("a system call", call && guest.regs.rip == CODE + STORE, &(event, guest.regs))?;
    let state = guest.context.xstate()?;
    let lane = state.bytes.get(160..164).unwrap_or_default();
    expect("a floating-point addition", lane == 3f32.to_le_bytes(), &lane)?;

    let event = guest.run(STORE)?;
    let stored = data.load32(0)?;
    expect("a store to fresh memory", event == Event::Syscall && stored == 42, &(event, stored))?;

    space.protect(DATA, PAGE_SIZE, Prot::READ);
    let event = guest.run(STORE)?;
    let denied = matches!(event, Event::Fault(f) if f.signal == libc::SIGSEGV && f.addr == DATA);
    expect("a store to memory that has become read-only", denied, &(event, guest.regs.rip))?;
    let fresh = memory.allocate(PAGE_SIZE)?;
    let rights = Prot::READ | Prot::WRITE;
    space.map(DATA, PAGE_SIZE, rights, MapSource::Frames(fresh.clone()), vec![data]);
    let event = guest.run(STORE)?;
    let stored = fresh.load32(0)?;
    let moved = event == Event::Syscall && stored == 42;
    expect("a store to memory that was mapped anew", moved, &(event, stored))?;

    let event = guest.run(FAULT)?;
    let fault = matches!(event, Event::Fault(f) if f.signal == libc::SIGSEGV && f.addr == NOTHING);
    expect("a page fault", fault, &(event, guest.regs))?;

    guest.regs.rip = CODE + SPIN;
    let event = guest.switch()?;
    let stopped = event == Event::Interrupted && guest.regs.rip == CODE + SPIN;
    expect("an interrupt", stopped, &(event, guest.regs))?;

    let mut fastest = u64::MAX;
    guest.run(CALLS)?;
    for _ in 0..TIMED {
        let before = Clock::Monotonic.now();
        // Back to where it makes the next one.
        guest.run(CALLS)?;
        fastest = fastest.min(Clock::Monotonic.now().saturating_sub(before));
    }
    Ok(fastest)
}
