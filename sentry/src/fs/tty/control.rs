//! `ioctl(2)` commands of terminals (`tty_ioctl(2)`).

use super::slave::SlaveFile;
use super::termios::{TERMIOS_SIZE, Termios, WinSize};
use super::{Tty, packet};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::put_int;
use crate::kernel::{ControllingTty, Rlimit, SigInfo, Signal, Task};
use crate::mm::UserAddr;
use crate::vfs::permission::CAP_SYS_ADMIN;
use crate::vfs::{File, OpenFlags, Path};
use crate::wait::EventMask;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSF: u32 = 0x5404;
const TCGETA: u32 = 0x5405;
const TCSETA: u32 = 0x5406;
const TCSETAF: u32 = 0x5408;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCEXCL: u32 = 0x540c;
const TIOCNXCL: u32 = 0x540d;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCSTI: u32 = 0x5412;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCPKT: u32 = 0x5420;
const TIOCNOTTY: u32 = 0x5422;
const TIOCSETD: u32 = 0x5423;
const TIOCGETD: u32 = 0x5424;
const TCSBRKP: u32 = 0x5425;
const TIOCSBRK: u32 = 0x5427;
const TIOCCBRK: u32 = 0x5428;
const TIOCGSID: u32 = 0x5429;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSF2: u32 = 0x402c_542d;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TIOCGDEV: u32 = 0x8004_5432;
const TIOCSIG: u32 = 0x4004_5436;
const TIOCVHANGUP: u32 = 0x5437;
const TIOCGPKT: u32 = 0x8004_5438;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGEXCL: u32 = 0x8004_5440;
const TIOCGPTPEER: u32 = 0x5441;

/// Commands of the slave side.
pub fn slave(tty: &Arc<Tty>, task: &Task, file: &File, cmd: u32, arg: u64) -> Result<u64> {
    match cmd {
        TIOCSCTTY => {
            tty.set_controlling(task, arg == 1)?;
            Ok(0)
        }
        TIOCNOTTY => {
            tty.give_up(task)?;
            Ok(0)
        }
        TIOCGPGRP | TIOCGSID if !tty.controls(task) => Err(Errno::ENOTTY),
        FIONREAD => {
            // The terminal is not locked while guest memory is touched.
            let bytes = tty.state().discipline.readable();
            put_int(task, arg, bytes)
        }
        TIOCOUTQ => {
            // The terminal is not locked while guest memory is touched.
            let bytes = tty.state().discipline.pending_output();
            put_int(task, arg, bytes)
        }
        TCSETS..=TCSETSF
        | TCSETA..=TCSETAF
        | TCSETS2..=TCSETSF2
        | TCXONC
        | TCFLSH
        | TCSBRK
        | TCSBRKP => {
            tty.check_foreground(task, Signal::SIGTTOU)?;
            common(tty, task, file, cmd, arg)
        }
        _ => common(tty, task, file, cmd, arg),
    }
}

/// Commands of the master side.
pub fn master(tty: &Arc<Tty>, task: &Task, file: &File, cmd: u32, arg: u64) -> Result<u64> {
    let addr = UserAddr(arg);
    match cmd {
        TIOCGPTN => put_int(task, arg, tty.index as usize),
        TIOCSPTLCK => {
            let locked: i32 = task.mm()?.read_obj(addr)?;
            tty.set_locked(locked != 0);
            Ok(0)
        }
        TIOCGPTLCK => put_int(task, arg, usize::from(tty.locked.load(Ordering::Relaxed))),
        TIOCPKT => {
            let on: i32 = task.mm()?.read_obj(addr)?;
            let mut state = tty.state();
            state.packet = on != 0;
            state.packet_status = 0;
            Ok(0)
        }
        TIOCGPKT => {
            let packet = tty.state().packet;
            put_int(task, arg, usize::from(packet))
        }
        TIOCGPTPEER => peer(tty, task, file, arg as u32),
        TIOCSIG => {
            let signal = Signal::new(arg as i32).ok_or(Errno::EINVAL)?;
            let pgid = tty.foreground();
            if pgid > 0 {
                let _ = task.kernel().signal_process_group(pgid, &SigInfo::kernel(signal));
            }
            Ok(0)
        }
        FIONREAD => {
            // The terminal is not locked while guest memory is touched.
            let bytes = tty.state().discipline.pending_output();
            put_int(task, arg, bytes)
        }
        TIOCOUTQ => put_int(task, arg, 0),
        TIOCSCTTY | TIOCNOTTY => Err(Errno::ENOTTY),
        _ => common(tty, task, file, cmd, arg),
    }
}

/// Commands that mean the same on both sides.
fn common(tty: &Arc<Tty>, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
    let addr = UserAddr(arg);
    match cmd {
        TCGETS | TCGETS2 => {
            let termios = *tty.state().discipline.termios();
            let bytes = termios.as_bytes();
            let len = if cmd == TCGETS { TERMIOS_SIZE } else { bytes.len() };
            task.mm()?.write(addr, bytes.get(..len).unwrap_or(bytes))?;
            Ok(0)
        }
        TCSETS..=TCSETSF | TCSETS2..=TCSETSF2 => {
            let mut new = *tty.state().discipline.termios();
            let two = cmd >= TCSETS2;
            let len = if two { size_of::<Termios>() } else { TERMIOS_SIZE };
            let mut bytes = new.as_bytes().to_vec();
            task.mm()?.read(addr, bytes.get_mut(..len).unwrap_or_default())?;
            new = Termios::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)?;
            set(tty, new, cmd == TCSETSF || cmd == TCSETSF2);
            Ok(0)
        }
        TCGETA => {
            let t = *tty.state().discipline.termios();
            let words = [t.iflag as u16, t.oflag as u16, t.cflag as u16, t.lflag as u16];
            let mut out: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
            out.push(t.line);
            out.extend(t.cc.iter().take(8));
            out.push(0);
            task.mm()?.write(addr, &out)?;
            Ok(0)
        }
        TCSETA..=TCSETAF => {
            let bytes: [u8; 18] = task.mm()?.read_obj(addr)?;
            let mut new = *tty.state().discipline.termios();
            let flags = [&mut new.iflag, &mut new.oflag, &mut new.cflag, &mut new.lflag];
            for (flag, pair) in flags.into_iter().zip(bytes.chunks_exact(2)) {
                let low = pair.try_into().map(u16::from_ne_bytes).unwrap_or(0);
                *flag = *flag & 0xffff_0000 | u32::from(low);
            }
            for (to, from) in new.cc.iter_mut().zip(bytes.iter().skip(9).take(8)) {
                *to = *from;
            }
            set(tty, new, cmd == TCSETAF);
            Ok(0)
        }
        TIOCGWINSZ => {
            task.mm()?.write_obj(addr, &tty.size())?;
            Ok(0)
        }
        TIOCSWINSZ => {
            let size: WinSize = task.mm()?.read_obj(addr)?;
            tty.set_size(size);
            Ok(0)
        }
        TIOCGPGRP => put_int(task, arg, task.local_id(tty.foreground().max(0)) as usize),
        TIOCSPGRP => {
            tty.may_set_foreground(task)?;
            let pgid: i32 = task.mm()?.read_obj(addr)?;
            let pgid = if pgid > 0 { task.global_id(pgid) } else { pgid };
            tty.set_foreground(task, pgid)?;
            Ok(0)
        }
        TIOCGSID => match tty.session.load(Ordering::Relaxed) {
            0 => Err(Errno::ENOTTY),
            sid => put_int(task, arg, task.local_id(sid.max(0)) as usize),
        },
        TCXONC => flow(tty, arg),
        TCFLSH => flush(tty, arg),
        TCSBRK | TCSBRKP | TIOCSBRK | TIOCCBRK => Ok(0),
        TIOCEXCL | TIOCNXCL => {
            tty.exclusive.store(cmd == TIOCEXCL, Ordering::Relaxed);
            Ok(0)
        }
        TIOCGEXCL => put_int(task, arg, usize::from(tty.exclusive.load(Ordering::Relaxed))),
        TIOCSTI => {
            // As with `dev.tty.legacy_tiocsti` = 0.
            if !task.creds().has(CAP_SYS_ADMIN) {
                return Err(Errno::EIO);
            }
            let byte: u8 = task.mm()?.read_obj(addr)?;
            let _ = tty.type_in(&[byte]);
            Ok(0)
        }
        TIOCGETD => put_int(task, arg, 0),
        TIOCSETD => {
            let discipline: i32 = task.mm()?.read_obj(addr)?;
            if discipline == 0 { Ok(0) } else { Err(Errno::EINVAL) }
        }
        TIOCGDEV => put_int(task, arg, tty.dev() as usize),
        TIOCVHANGUP if !task.creds().has(CAP_SYS_ADMIN) => Err(Errno::EPERM),
        TIOCVHANGUP => {
            tty.hang_up();
            Ok(0)
        }
        _ => Err(Errno::ENOTTY),
    }
}

fn set(tty: &Tty, new: Termios, flush: bool) {
    use super::termios::bits::{EXTPROC, IXON};
    {
        let mut state = tty.state();
        if flush {
            state.discipline.flush_input();
        }
        let old = *state.discipline.termios();
        state.discipline.set_termios(new);
        if state.packet {
            let stops = |t: &Termios| t.i(IXON) && t.cc(8) == 0x11 && t.cc(9) == 0x13;
            if stops(&old) != stops(&new) {
                state.packet_status |= if stops(&new) { packet::DOSTOP } else { packet::NOSTOP };
            }
            if (old.lflag | new.lflag) & EXTPROC != 0 {
                state.packet_status |= packet::IOCTL;
            }
        }
    }
    tty.slave_queue.notify(EventMask::READABLE | EventMask::WRITABLE);
    tty.master_queue.notify(EventMask::READABLE | EventMask::WRITABLE | EventMask::PRI);
}

/// `tcflow(3)`.
fn flow(tty: &Tty, action: u64) -> Result<u64> {
    match action {
        0 | 1 => {
            let mut state = tty.state();
            state.discipline.stopped = action == 0;
            if state.packet {
                state.packet_status |= if action == 0 { packet::STOP } else { packet::START };
            }
            drop(state);
            tty.slave_queue.notify(EventMask::WRITABLE);
            tty.master_queue.notify(EventMask::READABLE | EventMask::PRI);
        }
        // There is no line whose other end could be asked to stop.
        2 | 3 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `tcflush(3)`.
fn flush(tty: &Tty, queue: u64) -> Result<u64> {
    if queue > 2 {
        return Err(Errno::EINVAL);
    }
    {
        let mut state = tty.state();
        if queue != 1 {
            state.discipline.flush_input();
        }
        if queue != 0 {
            state.discipline.flush_output();
        }
        if state.packet {
            state.packet_status |=
                [packet::FLUSHREAD, packet::FLUSHWRITE, packet::FLUSHREAD | packet::FLUSHWRITE]
                    .get(queue as usize)
                    .copied()
                    .unwrap_or(0);
        }
    }
    tty.slave_queue.notify(EventMask::WRITABLE);
    tty.master_queue.notify(EventMask::WRITABLE | EventMask::PRI);
    Ok(0)
}

/// `TIOCGPTPEER`: opens the slave side, wherever the file system of terminals is mounted.
fn peer(tty: &Arc<Tty>, task: &Task, file: &File, flags: u32) -> Result<u64> {
    let flags = OpenFlags::from_bits_truncate(flags);
    let at = file.path().ok_or(Errno::EIO)?;
    let root = at.dentry.parent().ok_or(Errno::EIO)?;
    let dentry = root.lookup(tty.index.to_string().as_bytes(), b"")?;
    let path = Path { mount: at.mount.clone(), dentry };
    let ops = SlaveFile::open(tty, None, flags)?;
    if !flags.contains(OpenFlags::NOCTTY) {
        tty.opened_by(task);
    }
    let opened = File::new(ops, Some(path), flags);
    let cloexec = flags.contains(OpenFlags::CLOEXEC);
    let limit = task.limit(Rlimit::Nofile).soft;
    Ok(task.files()?.insert(opened, cloexec, 0, limit)? as u64)
}
