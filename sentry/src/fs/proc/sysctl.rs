//! `/proc/sys`: the kernel's settings (`proc_sys(5)`).
//!
//! What can be written acts; everything else is read-only and true.

use super::net_settings;
use super::starting;
use super::system::of_kernel;
use crate::errno::{Errno, Result};
use crate::fs::mqueue::{HARD_MSGMAX, HARD_MSGSIZEMAX, Settings};
use crate::fs::pipe::PIPE_MAX_SIZE;
use crate::fs::pseudo::{Node, Rights, Text, directory, text};
use crate::fs::userfaultfd::UNPRIVILEGED;
use crate::fs::{fanotify, inotify};
use crate::kernel::ipc::{limits::Limits, msg, sem::SEMMNI, shm};
use crate::kernel::namespace::UtsNamespace;
use crate::kernel::tree::{self, PID_MAX};
use crate::kernel::{Kernel, version::UTS};
use crate::mm::MAX_MAP_COUNT;
use crate::vfs::{dnotify, fd_table, locks::lease, protected};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The tree.
pub fn tree(kernel: &Arc<Kernel>) -> Node {
    directory(vec![
        ("fs", fs(kernel)),
        ("kernel", kernel_settings(kernel)),
        (
            "net",
            directory(vec![
                ("core", net_core()),
                ("ipv4", net_settings::ipv4()),
                ("ipv6", net_settings::ipv6()),
                ("netfilter", net_settings::netfilter()),
                ("unix", directory(vec![("max_dgram_qlen", text(Constant("10\n")))])),
            ]),
        ),
        ("vm", vm()),
    ])
}

fn fs(kernel: &Arc<Kernel>) -> Node {
    directory(vec![
        ("aio-max-nr", text(AioMax(Arc::downgrade(kernel)))),
        ("aio-nr", of_kernel(kernel, |k| format!("{}\n", k.aio.nr()))),
        ("dir-notify-enable", text(Number { place: &dnotify::ENABLED, range: 0..=u32::MAX })),
        ("epoll", directory(vec![("max_user_watches", text(Constant("5000000\n")))])),
        ("file-max", text(Constant("9223372036854775807\n"))),
        ("file-nr", text(Constant("0\t0\t9223372036854775807\n"))),
        (
            "fanotify",
            directory(vec![
                (
                    "max_queued_events",
                    text(Number { place: &fanotify::MAX_QUEUED, range: 0..=1 << 17 }),
                ),
                (
                    "max_user_groups",
                    text(Number { place: &fanotify::MAX_GROUPS, range: 0..=1 << 20 }),
                ),
                (
                    "max_user_marks",
                    text(Number { place: &fanotify::MAX_MARKS, range: 0..=1 << 20 }),
                ),
            ]),
        ),
        (
            "inotify",
            directory(vec![
                ("max_queued_events", text(Constant("16384\n"))),
                (
                    "max_user_instances",
                    text(Number { place: &inotify::MAX_INSTANCES, range: 0..=1 << 20 }),
                ),
                ("max_user_watches", text(Constant("524288\n"))),
            ]),
        ),
        ("lease-break-time", text(Number { place: &lease::BREAK_TIME, range: 0..=u32::MAX })),
        ("leases-enable", text(Number { place: &lease::ENABLED, range: 0..=1 })),
        ("mqueue", mqueue()),
        ("nr_open", text(Number { place: &fd_table::NR_OPEN, range: 64..=fd_table::NR_OPEN_MAX })),
        ("overflowgid", text(Constant("65534\n"))),
        ("overflowuid", text(Constant("65534\n"))),
        ("pipe-max-size", text(PipeMax)),
        ("pipe-user-pages-hard", text(Constant("0\n"))),
        ("pipe-user-pages-soft", text(Constant("16384\n"))),
        ("protected_fifos", text(Private(Number { place: &protected::FIFOS, range: 0..=2 }))),
        (
            "protected_hardlinks",
            text(Private(Number { place: &protected::HARDLINKS, range: 0..=1 })),
        ),
        ("protected_regular", text(Private(Number { place: &protected::REGULAR, range: 0..=2 }))),
        ("protected_symlinks", text(Private(Number { place: &protected::SYMLINKS, range: 0..=1 }))),
        ("suid_dumpable", text(Constant("0\n"))),
    ])
}

/// A setting that cannot be changed.
pub(super) struct Constant(pub &'static str);

impl Text for Constant {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(self.0.as_bytes().to_vec())
    }
}

/// A setting that cannot be changed, from a function.
struct Shown<F>(F);

impl<F: Fn() -> String + Send + Sync> Text for Shown<F> {
    fn read(&self) -> Result<Vec<u8>> {
        Ok((self.0)().into_bytes())
    }
}

fn shown(f: impl Fn() -> String + Send + Sync + 'static) -> Node {
    text(Shown(f))
}

/// A number that acts where it stands.
struct Number {
    place: &'static AtomicU32,
    range: RangeInclusive<u32>,
}

impl Text for Number {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(format!("{}\n", self.place.load(Ordering::Relaxed)).into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let [n] = net_settings::numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = u32::try_from(n).ok().filter(|n| self.range.contains(n)).ok_or(Errno::EINVAL)?;
        self.place.store(n, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// A number that only root sees.
struct Private(Number);

impl Text for Private {
    fn read(&self) -> Result<Vec<u8>> {
        self.0.read()
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        self.0.write(data)
    }

    fn rights(&self) -> Rights {
        Rights::root(0o600)
    }
}

/// `fs.pipe-max-size`: a power of two, at least a page.
struct PipeMax;

impl Text for PipeMax {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(format!("{}\n", PIPE_MAX_SIZE.load(Ordering::Relaxed)).into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let [n] = net_settings::numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = u32::try_from(n).ok().filter(|n| (1..=1 << 31).contains(n)).ok_or(Errno::EINVAL)?;
        PIPE_MAX_SIZE.store(n.max(4096).next_power_of_two(), Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// A limit of System V objects in the IPC namespace of whoever looks.
struct IpcLimit {
    place: fn(&Limits) -> &AtomicU64,
    most: u64,
}

fn ipc_limit(place: fn(&Limits) -> &AtomicU64, most: u64) -> Node {
    text(IpcLimit { place, most })
}

impl Text for IpcLimit {
    fn read(&self) -> Result<Vec<u8>> {
        let namespaces = starting::namespaces()?;
        let value = (self.place)(&namespaces.ipc.limits).load(Ordering::Relaxed);
        Ok(format!("{value}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let namespaces = starting::namespaces()?;
        let line = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let n: u64 = line.trim_matches(['\0', '\n', ' ']).parse().map_err(|_| Errno::EINVAL)?;
        if n > self.most {
            return Err(Errno::EINVAL);
        }
        (self.place)(&namespaces.ipc.limits).store(n, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// Most of `msgmax` and `msgmnb`: as many bytes as all messages of a sandbox may have.
const MOST_OF_MESSAGES: u64 = msg::MOST as u64;

/// `kernel.sem`: the four limits of semaphores.
struct SemLimits;

/// Most of each. A set has fewer than 65,536, so that an operation's `sem_num` names each; operations of one call are copied
/// before they are looked at.
const MOST_SEM: [u64; 4] = [65536, i32::MAX as u64, 65536, SEMMNI as u64];

impl Text for SemLimits {
    fn read(&self) -> Result<Vec<u8>> {
        let namespaces = starting::namespaces()?;
        let [msl, mns, opm, mni] =
            namespaces.ipc.limits.sem.each_ref().map(|n| n.load(Ordering::Relaxed));
        Ok(format!("{msl}\t{mns}\t{opm}\t{mni}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let namespaces = starting::namespaces()?;
        let numbers = net_settings::numbers(data)?;
        let places = &namespaces.ipc.limits.sem;
        // As many as are given, the first ones.
        for ((n, place), most) in numbers.iter().zip(places).zip(MOST_SEM) {
            let n = u64::try_from(*n).ok().filter(|n| *n <= most).ok_or(Errno::EINVAL)?;
            place.store(n, Ordering::Relaxed);
        }
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// An identifier that the next System V object is to have (`msg_next_id` and its kin).
struct NextId(fn(&Limits) -> &AtomicI32);

impl Text for NextId {
    fn read(&self) -> Result<Vec<u8>> {
        let namespaces = starting::namespaces()?;
        let id = (self.0)(&namespaces.ipc.limits).load(Ordering::Relaxed);
        Ok(format!("{id}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let namespaces = starting::namespaces()?;
        let line = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let id: i32 = line.trim_matches(['\0', '\n', ' ']).parse().map_err(|_| Errno::EINVAL)?;
        if id < 0 {
            return Err(Errno::EINVAL);
        }
        (self.0)(&namespaces.ipc.limits).store(id, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `fs.aio-max-nr`.
struct AioMax(Weak<Kernel>);

impl Text for AioMax {
    fn read(&self) -> Result<Vec<u8>> {
        let kernel = self.0.upgrade().ok_or(Errno::ENOENT)?;
        Ok(format!("{}\n", kernel.aio.max_nr.load(Ordering::Relaxed)).into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let kernel = self.0.upgrade().ok_or(Errno::ENOENT)?;
        let [n] = net_settings::numbers(data)?[..] else { return Err(Errno::EINVAL) };
        // A guest must not exhaust the sentry: more than this is not believed.
        let n = u64::try_from(n).map_err(|_| Errno::EINVAL)?.min(1 << 24);
        kernel.aio.max_nr.store(n, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

fn mqueue() -> Node {
    let number = |place, range| text(QueueLimit { place, range });
    let (msgs, bytes) = (1..=HARD_MSGMAX, 128..=HARD_MSGSIZEMAX);
    directory(vec![
        ("msg_default", number(|s| &s.msg_default, msgs.clone())),
        ("msg_max", number(|s| &s.msg_max, msgs)),
        ("msgsize_default", number(|s| &s.msgsize_default, bytes.clone())),
        ("msgsize_max", number(|s| &s.msgsize_max, bytes)),
        ("queues_max", number(|s| &s.queues_max, i32::MIN..=i32::MAX)),
    ])
}

/// A limit of message queues in the IPC namespace of whoever looks.
struct QueueLimit {
    place: fn(&Settings) -> &AtomicI32,
    range: RangeInclusive<i32>,
}

impl Text for QueueLimit {
    fn read(&self) -> Result<Vec<u8>> {
        let namespaces = starting::namespaces()?;
        let value = (self.place)(namespaces.ipc.mqueue.settings()).load(Ordering::Relaxed);
        Ok(format!("{value}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let namespaces = starting::namespaces()?;
        let [n] = net_settings::numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = i32::try_from(n).ok().filter(|n| self.range.contains(n)).ok_or(Errno::EINVAL)?;
        (self.place)(namespaces.ipc.mqueue.settings()).store(n, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

fn kernel_settings(kernel: &Arc<Kernel>) -> Node {
    let weak = Arc::downgrade(kernel);
    let uuid = |bytes: [u8; 16]| {
        let hex = |range: std::ops::Range<usize>| -> String {
            bytes.get(range).unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect()
        };
        format!("{}-{}-{}-{}-{}\n", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
    };
    directory(vec![
        ("cap_last_cap", text(Constant("40\n"))),
        ("core_pattern", text(Core { kernel: weak.clone(), place: CorePlace::Pattern })),
        ("core_pipe_limit", text(Constant("0\n"))),
        ("core_uses_pid", text(Core { kernel: weak.clone(), place: CorePlace::UsesPid })),
        ("dmesg_restrict", text(Constant("1\n"))),
        ("domainname", text(Name { kernel: weak.clone(), domain: true })),
        ("hostname", text(Name { kernel: weak, domain: false })),
        ("io_uring_disabled", text(Constant("2\n"))),
        ("io_uring_group", text(Constant("-1\n"))),
        ("keys", super::keys::settings(kernel)),
        ("msg_next_id", text(NextId(|l| &l.msg_next_id))),
        ("msgmax", ipc_limit(|l| &l.msgmax, MOST_OF_MESSAGES)),
        ("msgmnb", ipc_limit(|l| &l.msgmnb, MOST_OF_MESSAGES)),
        ("msgmni", ipc_limit(|l| &l.msgmni, msg::MSGMNI as u64)),
        ("ngroups_max", text(Constant("65536\n"))),
        ("osrelease", shown(|| format!("{}\n", UTS.release))),
        ("ostype", shown(|| format!("{}\n", UTS.sysname))),
        ("overflowgid", text(Constant("65534\n"))),
        ("overflowuid", text(Constant("65534\n"))),
        ("perf_event_paranoid", text(Constant("4\n"))),
        ("pid_max", text(Number { place: &tree::PID_LIMIT, range: 301..=PID_MAX as u32 })),
        ("printk", text(Printk(Arc::downgrade(kernel)))),
        (
            "random",
            directory(vec![
                ("boot_id", of_kernel(kernel, move |k| uuid(k.boot_id))),
                ("entropy_avail", text(Constant("256\n"))),
                ("poolsize", text(Constant("256\n"))),
                (
                    "uuid",
                    shown(move || {
                        let mut bytes = [0; 16];
                        let _ = platform::host::random::fill(&mut bytes);
                        bytes[6] = bytes[6] & 0x0f | 0x40;
                        bytes[8] = bytes[8] & 0x3f | 0x80;
                        uuid(bytes)
                    }),
                ),
            ]),
        ),
        ("randomize_va_space", text(Constant("2\n"))),
        ("sched_child_runs_first", text(Constant("0\n"))),
        ("sched_rr_timeslice_ms", text(Constant("100\n"))),
        ("sem_next_id", text(NextId(|l| &l.sem_next_id))),
        ("sem", text(SemLimits)),
        ("seccomp", directory(vec![("actions_avail", text(Constant("\n")))])),
        ("shm_next_id", text(NextId(|l| &l.shm_next_id))),
        ("shm_rmid_forced", ipc_limit(|l| &l.shm_rmid_forced, 1)),
        ("shmall", ipc_limit(|l| &l.shmall, u64::MAX)),
        ("shmmax", ipc_limit(|l| &l.shmmax, u64::MAX)),
        ("shmmni", ipc_limit(|l| &l.shmmni, shm::SHMMNI as u64)),
        ("tainted", text(Constant("0\n"))),
        ("threads-max", of_kernel(kernel, |k| format!("{}\n", k.limits.tasks()))),
        ("version", shown(|| format!("{}\n", UTS.version))),
        ("yama", directory(vec![("ptrace_scope", text(Constant("0\n")))])),
    ])
}

fn net_core() -> Node {
    directory(vec![
        ("optmem_max", text(Constant("131072\n"))),
        ("rmem_default", text(Constant("212992\n"))),
        ("rmem_max", text(Constant("212992\n"))),
        ("somaxconn", net_settings::somaxconn()),
        ("wmem_default", text(Constant("212992\n"))),
        ("wmem_max", text(Constant("212992\n"))),
    ])
}

fn vm() -> Node {
    directory(vec![
        ("drop_caches", text(DropCaches)),
        ("max_map_count", text(Number { place: &MAX_MAP_COUNT, range: 0..=65530 })),
        ("mmap_min_addr", text(Constant("65536\n"))),
        ("nr_hugepages", text(Constant("0\n"))),
        ("overcommit_memory", text(Constant("0\n"))),
        ("overcommit_ratio", text(Constant("50\n"))),
        ("swappiness", text(Constant("60\n"))),
        ("unprivileged_userfaultfd", text(Number { place: &UNPRIVILEGED, range: 0..=1 })),
    ])
}

/// `vm.drop_caches`: there are none that could be dropped without losing something.
struct DropCaches;

impl Text for DropCaches {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(b"0\n".to_vec())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        match net_settings::numbers(data)?[..] {
            [1..=4] => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn rights(&self) -> Rights {
        Rights::root(0o200)
    }
}

/// Which setting of core dumps.
#[derive(Clone, Copy)]
enum CorePlace {
    Pattern,
    UsesPid,
}

/// `kernel.core_pattern` and `kernel.core_uses_pid`.
struct Core {
    kernel: Weak<Kernel>,
    place: CorePlace,
}

impl Text for Core {
    fn read(&self) -> Result<Vec<u8>> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let core = &kernel.core;
        Ok(match self.place {
            CorePlace::Pattern => [core.pattern().as_slice(), b"\n"].concat(),
            CorePlace::UsesPid => {
                format!("{}\n", core.uses_pid.load(Ordering::Relaxed)).into_bytes()
            }
        })
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let core = &kernel.core;
        match self.place {
            CorePlace::Pattern => {
                let line = data.split(|b| matches!(b, b'\n' | 0)).next().unwrap_or_default();
                core.set_pattern(line)
            }
            CorePlace::UsesPid => {
                let [n] = net_settings::numbers(data)?[..] else { return Err(Errno::EINVAL) };
                let n = u32::try_from(n).map_err(|_| Errno::EINVAL)?;
                core.uses_pid.store(n, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `kernel.printk`.
struct Printk(Weak<Kernel>);

impl Text for Printk {
    fn read(&self) -> Result<Vec<u8>> {
        let levels = self.0.upgrade().ok_or(Errno::ENOENT)?.log.levels.all();
        let [console, message, minimum, default] = levels;
        Ok(format!("{console}\t{message}\t{minimum}\t{default}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let kernel = self.0.upgrade().ok_or(Errno::ENOENT)?;
        let numbers = net_settings::numbers(data)?;
        let levels: Result<Vec<i32>> =
            numbers.iter().map(|n| i32::try_from(*n).map_err(|_| Errno::EINVAL)).collect();
        kernel.log.levels.set(&levels?);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `hostname` and `domainname`, which a process with `CAP_SYS_ADMIN` may write.
struct Name {
    kernel: Weak<Kernel>,
    domain: bool,
}

impl Name {
    /// The UTS namespace of whoever looks.
    fn uts(&self) -> Result<Arc<UtsNamespace>> {
        match starting::namespaces() {
            Ok(namespaces) => Ok(namespaces.uts.clone()),
            Err(_) => Ok(self.kernel.upgrade().ok_or(Errno::ENOENT)?.namespaces.uts.clone()),
        }
    }
}

impl Text for Name {
    fn read(&self) -> Result<Vec<u8>> {
        let uts = self.uts()?;
        let names = uts.names.read();
        let mut text = if self.domain { names.domain.clone() } else { names.host.clone() };
        text.push(b'\n');
        Ok(text)
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let uts = self.uts()?;
        let line = data.split(|b| matches!(b, b'\n' | 0)).next().unwrap_or_default();
        let name = line.get(..64).unwrap_or(line).to_vec();
        let mut names = uts.names.write();
        let place = if self.domain { &mut names.domain } else { &mut names.host };
        *place = name;
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}
