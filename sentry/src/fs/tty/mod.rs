//! Terminals (`tty(4)`, `pty(7)`): a line discipline between a master and a slave side.
//!
//! * [`discipline`]: editing, echo, signals. [`job`]: controlling terminals and job control.
//! * [`slave`], [`master`]: the open files. [`control`]: their `ioctl(2)` commands.
//! * [`console`]: a terminal whose master side is a terminal of the host.

pub mod console;
pub mod control;
pub mod device;
pub mod discipline;
pub mod job;
pub mod master;
pub mod slave;
pub mod termios;

use crate::errno::{Errno, Result};
use crate::kernel::{ControllingTty, Kernel, SigInfo, Signal};
use crate::sync::{Mutex, MutexGuard, rank};
use crate::vfs::device::Device;
use crate::wait::{EventMask, WaitQueue};
use discipline::{Discipline, Effect};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use termios::WinSize;

/// Major number of pseudo-terminal slaves.
pub const PTS_MAJOR: u32 = 136;

/// A terminal: both sides of it.
pub struct Tty {
    this: Weak<Tty>,
    kernel: Weak<Kernel>,
    index: u32,
    state: Mutex<State, { rank::INODE }>,
    /// Those who wait at the slave side.
    slave_queue: WaitQueue,
    /// Those who wait at the master side.
    master_queue: WaitQueue,
    /// The session that it controls; 0 for none.
    session: AtomicI32,
    /// The foreground process group; 0 for none.
    foreground: AtomicI32,
    /// Slave files opened before the last hang-up are dead: they have an older number.
    generation: AtomicU64,
    /// `TIOCSPTLCK`: the slave cannot be opened.
    locked: AtomicBool,
    /// `TIOCEXCL`.
    exclusive: AtomicBool,
}

#[derive(Default)]
struct State {
    discipline: Discipline,
    size: WinSize,
    /// Open slave files.
    slaves: usize,
    /// The slave has been open at some time.
    slave_seen: bool,
    master_open: bool,
    /// `TIOCPKT` is on; and what has happened since the master last looked (`TIOCPKT_*` bits).
    packet: bool,
    packet_status: u8,
}

/// `TIOCPKT_*`.
mod packet {
    pub const FLUSHREAD: u8 = 1;
    pub const FLUSHWRITE: u8 = 2;
    pub const STOP: u8 = 4;
    pub const START: u8 = 8;
    pub const NOSTOP: u8 = 16;
    pub const DOSTOP: u8 = 32;
    pub const IOCTL: u8 = 64;
}

impl Tty {
    /// A new terminal with an open master side and a locked slave side.
    pub fn new(kernel: &Arc<Kernel>, index: u32) -> Arc<Tty> {
        Arc::new_cyclic(|this| Tty {
            this: this.clone(),
            kernel: Arc::downgrade(kernel),
            index,
            state: Mutex::new(State { master_open: true, ..State::default() }),
            slave_queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
            session: AtomicI32::new(0),
            foreground: AtomicI32::new(0),
            generation: AtomicU64::new(0),
            locked: AtomicBool::new(true),
            exclusive: AtomicBool::new(false),
        })
    }

    /// Number in `/dev/pts`.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Unlocks the slave side (`unlockpt(3)`), or locks it.
    pub fn set_locked(&self, locked: bool) {
        self.locked.store(locked, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The window's size.
    pub fn size(&self) -> WinSize {
        self.state().size
    }

    /// Changes the window's size; the foreground is told (`SIGWINCH`).
    pub fn set_size(&self, size: WinSize) {
        {
            let mut state = self.state();
            if state.size == size {
                return;
            }
            state.size = size;
        }
        self.signal_foreground(Signal::SIGWINCH);
    }

    /// Erases whole characters of UTF-8 text (`IUTF8`): what a user's terminal does.
    fn set_utf8(&self) {
        let mut state = self.state();
        let mut termios = *state.discipline.termios();
        termios.iflag |= termios::bits::IUTF8;
        state.discipline.set_termios(termios);
    }

    fn signal_foreground(&self, signal: Signal) {
        let pgid = self.foreground.load(Ordering::Relaxed);
        if let Some(kernel) = self.kernel.upgrade()
            && pgid > 0
        {
            let _ = kernel.signal_process_group(pgid, &SigInfo::kernel(signal));
        }
    }

    /// Bytes are typed at the master side. Returns how many were taken; `EAGAIN` if none was.
    pub fn type_in(&self, data: &[u8]) -> Result<usize> {
        let mut effects = Vec::new();
        let mut done = 0;
        {
            let mut state = self.state();
            state.discipline.begin();
            for &byte in data {
                if state.discipline.room() == 0 {
                    break;
                }
                done += 1;
                let Some(effect) = state.discipline.input(byte) else { continue };
                if state.packet {
                    state.packet_status |= match effect {
                        Effect::Stopped => packet::STOP,
                        Effect::Started => packet::START,
                        _ => packet::FLUSHREAD | packet::FLUSHWRITE,
                    };
                }
                effects.push(effect);
            }
        }
        if done == 0 && !data.is_empty() {
            return Err(Errno::EAGAIN);
        }
        for effect in effects {
            match effect {
                Effect::Interrupt => self.signal_foreground(Signal::SIGINT),
                Effect::Quit => self.signal_foreground(Signal::SIGQUIT),
                Effect::Suspend => self.signal_foreground(Signal::SIGTSTP),
                Effect::Stopped | Effect::Started => {}
            }
        }
        self.slave_queue.notify(EventMask::READABLE | EventMask::WRITABLE);
        self.master_queue.notify(EventMask::READABLE | EventMask::PRI);
        Ok(done)
    }

    /// Takes bytes that are to be shown at the master side.
    pub fn take_output(&self, max: usize) -> Vec<u8> {
        let out = self.state().discipline.take_output(max);
        if !out.is_empty() {
            self.slave_queue.notify(EventMask::WRITABLE);
        }
        out
    }

    /// Where the master side waits for output and room.
    pub fn master_queue(&self) -> &WaitQueue {
        &self.master_queue
    }

    /// Cuts every open slave file off, as when a telephone line is hung up. The session is told if
    /// it still has its leader.
    pub fn hang_up(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.state().discipline.flush_input();
        let sid = self.session.swap(0, Ordering::SeqCst);
        self.foreground.store(0, Ordering::SeqCst);
        if let Some(kernel) = self.kernel.upgrade()
            && sid > 0
        {
            let owned = kernel.session_tty(sid).is_some_and(|tty| tty.dev() == self.dev());
            if owned {
                drop(kernel.set_session_tty(sid, None));
            }
            if let Some(leader) = kernel.thread_group(sid) {
                leader.send_signal(&kernel, &SigInfo::kernel(Signal::SIGHUP));
                leader.send_signal(&kernel, &SigInfo::kernel(Signal::SIGCONT));
            }
        }
        let all = EventMask::READABLE | EventMask::WRITABLE | EventMask::HUP | EventMask::ERR;
        self.slave_queue.notify(all);
        self.master_queue.notify(all);
    }
}

impl ControllingTty for Tty {
    fn dev(&self) -> u64 {
        Device { major: PTS_MAJOR, minor: self.index }.rdev()
    }

    fn foreground(&self) -> i32 {
        self.foreground.load(Ordering::Relaxed)
    }

    fn session_ended(&self, sid: i32) {
        // As Linux does with pseudo-terminals: open files go on working, without a session.
        let mine =
            self.session.compare_exchange(sid, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if mine {
            self.foreground.store(0, Ordering::SeqCst);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
