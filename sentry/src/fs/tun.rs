//! `/dev/net/tun`: a program's end of a TUN or TAP interface ([`crate::socket::inet::links::tun`]).

use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::kernel::{CurrentTask, Task};
use crate::mm::UserAddr;
use crate::socket::inet::Net;
use crate::socket::inet::links::Wish;
use crate::socket::inet::links::tun::Tun;
use crate::socket::netlink::notify::Cause;
use crate::vfs::device::{self, Device};
use crate::vfs::{File, FileOps, OpenFlags, Path};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::{Arc, OnceLock};

const DEVICE: Device = Device { major: 10, minor: 200 };
/// Size of `struct ifreq`, and of the name at its start.
const IFREQ: usize = 40;
const IFNAMSIZ: usize = 16;
/// Size of `struct tun_pi`.
const INFO: usize = 4;
/// `TUN_PKT_STRIP`: not all of a packet fitted.
const STRIPPED: u16 = 1;
/// Largest packet, with its headers.
const LARGEST: usize = 65_535 + 14 + INFO;

/// `IFF_*` of `if_tun.h`
const IFF_TUN: u16 = 1;
const IFF_TAP: u16 = 2;
const IFF_NO_PI: u16 = 0x1000;
const IFF_ONE_QUEUE: u16 = 0x2000;
const IFF_TUN_EXCL: u16 = 0x8000;
/// What can be asked for.
const KNOWN: u16 = IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE | IFF_TUN_EXCL;

mod cmd {
    pub const SETNOCSUM: u32 = 0x4004_54c8;
    pub const SETIFF: u32 = 0x4004_54ca;
    pub const SETPERSIST: u32 = 0x4004_54cb;
    pub const SETOWNER: u32 = 0x4004_54cc;
    pub const SETGROUP: u32 = 0x4004_54ce;
    pub const GETFEATURES: u32 = 0x8004_54cf;
    pub const SETOFFLOAD: u32 = 0x4004_54d0;
    pub const GETIFF: u32 = 0x8004_54d2;
    pub const GETSNDBUF: u32 = 0x8004_54d3;
    pub const SETSNDBUF: u32 = 0x4004_54d4;
}

/// Registers the driver.
pub fn register() {
    device::register(DEVICE.major, DEVICE.minor..=DEVICE.minor, "misc", open);
}

fn open(
    t: Option<&CurrentTask>,
    _path: &Path,
    _flags: OpenFlags,
    _device: Device,
) -> Result<Arc<dyn FileOps>> {
    // It belongs to the network of who opens it, whoever uses it later.
    let net = Net::of(t.ok_or(Errno::ENXIO)?);
    Ok(Arc::new(TunFile { net, end: OnceLock::new(), idle: WaitQueue::new() }))
}

/// An interface, and how the program wants its packets.
struct End {
    tun: Arc<Tun>,
    flags: u16,
}

/// An open `/dev/net/tun`.
pub struct TunFile {
    net: Arc<Net>,
    end: OnceLock<End>,
    idle: WaitQueue,
}

impl TunFile {
    fn end(&self) -> Result<&End> {
        self.end.get().ok_or(Errno::EBADFD)
    }

    /// `TUNSETIFF`: makes an interface, or takes one that nobody has.
    fn set_interface(&self, task: &Task, arg: u64) -> Result<u64> {
        let mm = task.mm()?;
        let mut request: [u8; IFREQ] = mm.read_obj(UserAddr(arg))?;
        if self.end.get().is_some() {
            return Err(Errno::EEXIST);
        }
        let (name, value) = request.split_at(IFNAMSIZ);
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let flags = value.first_chunk().map_or(0, |b| u16::from_ne_bytes(*b));
        // Who asks for both gets the first.
        let tap = flags & IFF_TUN == 0;
        if tap && flags & IFF_TAP == 0 {
            return Err(Errno::EINVAL);
        }
        if flags & !KNOWN != 0 {
            return Err(Errno::EINVAL);
        }
        let (tun, name) = match self.net.tun_named(name) {
            Some(_) if flags & IFF_TUN_EXCL != 0 => return Err(Errno::EBUSY),
            Some(None) => return Err(Errno::EINVAL),
            Some(Some(tun)) => {
                if !tun.is_open_to(&task.creds()) && !Net::capable(task, CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                if tun.is_tap() != tap {
                    return Err(Errno::EINVAL);
                }
                if !tun.attach() {
                    return Err(Errno::EBUSY);
                }
                (tun, name.to_vec())
            }
            None => {
                if !Net::capable(task, CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                let wanted = match name {
                    [] if tap => b"tap%d",
                    [] => &b"tun%d"[..],
                    name => name,
                };
                let wish = Wish { name: wanted.to_vec(), ..Wish::default() };
                let made = self.net.make_tun(&wish, tap, Cause::default());
                made.map_err(|failure| failure.errno)?
            }
        };
        if let Err(End { tun, .. }) = self.end.set(End { tun, flags: flags & !IFF_TUN_EXCL }) {
            // Another thread was faster.
            self.give_back(&tun);
            return Err(Errno::EEXIST);
        }
        let mut padded = name;
        padded.resize(IFNAMSIZ, 0);
        for (to, from) in request.iter_mut().zip(padded) {
            *to = from;
        }
        mm.write(UserAddr(arg), &request)?;
        // Who waited on the file before there was an interface looks again.
        self.idle.notify(EventMask::WRITABLE | EventMask::READABLE);
        Ok(0)
    }

    fn give_back(&self, tun: &Tun) {
        if tun.detach()
            && let Some(home) = tun.home()
            && let Some(net) = home.net.upgrade()
        {
            // It may have been removed meanwhile.
            let _ = net.remove_link(home.index, Cause::default());
        }
    }
}

impl FileOps for TunFile {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let end = self.end()?;
        let room = dst.remaining();
        let with_info = end.flags & IFF_NO_PI == 0;
        if with_info && room < INFO {
            return Err(Errno::EINVAL);
        }
        let frame = end.tun.next()?;
        let mut out = Vec::with_capacity(frame.len() + INFO);
        if with_info {
            let protocol = match end.tun.is_tap() {
                true => {
                    frame.get(12..14).and_then(|b| b.first_chunk()).copied().unwrap_or_default()
                }
                false if frame.first().is_some_and(|first| first >> 4 == 6) => [0x86, 0xdd],
                false => [8, 0],
            };
            let flags = if frame.len() + INFO > room { STRIPPED } else { 0 };
            out.extend(flags.to_ne_bytes());
            out.extend(protocol);
        }
        out.extend(frame);
        let fitting = out.get(..room.min(out.len())).unwrap_or_default();
        if fitting.is_empty() { Ok(0) } else { dst.put(fitting) }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        let end = self.end()?;
        let len = src.remaining();
        let skip = if end.flags & IFF_NO_PI == 0 { INFO } else { 0 };
        if len < skip || len > LARGEST {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match src.take(bytes.get_mut(done..).unwrap_or_default())? {
                0 => return Err(Errno::EFAULT),
                n => done += n,
            }
        }
        end.tun.take_in(bytes.get(skip..).unwrap_or_default())?;
        Ok(len)
    }

    fn poll(&self, _file: &File) -> EventMask {
        let Ok(end) = self.end() else { return EventMask::ERR };
        if end.tun.home().is_none() {
            return EventMask::ERR;
        }
        let mut ready = EventMask::empty();
        ready.set(EventMask::WRITABLE, end.tun.is_up());
        ready.set(EventMask::READABLE, end.tun.is_readable());
        ready
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.end.get().map_or(&self.idle, |end| &end.tun.readers))
    }

    fn async_io(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            cmd::SETIFF => return self.set_interface(task, arg),
            cmd::GETFEATURES => {
                task.mm()?.write_obj(UserAddr(arg), &u32::from(KNOWN & !IFF_TUN_EXCL))?;
                return Ok(0);
            }
            _ => {}
        }
        let end = self.end()?;
        match cmd {
            cmd::GETIFF => {
                let home = end.tun.home().ok_or(Errno::EBADFD)?;
                let name = self.net.with_device(home.index, |i| i.name.clone());
                let mut out = name.unwrap_or_default();
                out.resize(IFNAMSIZ, 0);
                out.extend(end.flags.to_ne_bytes());
                out.resize(IFREQ, 0);
                task.mm()?.write(UserAddr(arg), &out)?;
            }
            cmd::SETPERSIST => end.tun.keep(arg != 0),
            cmd::SETOWNER => {
                let uid = task.creds().user_ns.uid_to_kernel(arg as u32).ok_or(Errno::EINVAL)?;
                end.tun.change_users(|users| users.owner = Some(uid));
            }
            cmd::SETGROUP => {
                let gid = task.creds().user_ns.gid_to_kernel(arg as u32).ok_or(Errno::EINVAL)?;
                end.tun.change_users(|users| users.group = Some(gid));
            }
            // Obsolete: checksums are always there.
            cmd::SETNOCSUM => {}
            // Nothing is left to the program but whole packets.
            cmd::SETOFFLOAD if arg == 0 => {}
            cmd::SETOFFLOAD => return Err(Errno::EINVAL),
            // What the program writes is taken in at once.
            cmd::GETSNDBUF => task.mm()?.write_obj(UserAddr(arg), &i32::MAX)?,
            cmd::SETSNDBUF => {
                let bytes: i32 = task.mm()?.read_obj(UserAddr(arg))?;
                if bytes <= 0 {
                    return Err(Errno::EINVAL);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    fn release(&self, _file: &File) {
        if let Some(end) = self.end.get() {
            self.give_back(&end.tun);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
