//! `inotify(7)`: events of files and directories, in a queue.

use super::anon;
use super::ioctl::{FIONREAD, put_int};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::kernel::Task;
use crate::sync::{Mutex, rank};
use crate::vfs::notify::{self, Happened, Watcher};
use crate::vfs::{Attr, File, FileOps, OpenFlags, Path};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// `fs.inotify.max_queued_events`.
const MAX_QUEUED: usize = 16384;
/// `fs.inotify.max_user_watches`.
const MAX_WATCHES: usize = 65536;
/// `fs.inotify.max_user_instances`.
pub static MAX_INSTANCES: AtomicU32 = AtomicU32::new(128);
/// Size of `struct inotify_event` without the name.
const HEADER: usize = 16;

/// Flags of watches and events, with the values of `IN_*`; the events themselves are [`Happened`].
#[expect(missing_docs, reason = "the names are inotify(7)'s")]
pub mod flag {
    pub const ALL: u32 = 0xfff;
    pub const UNMOUNT: u32 = 0x2000;
    pub const Q_OVERFLOW: u32 = 0x4000;
    pub const IGNORED: u32 = 0x8000;
    pub const ONLYDIR: u32 = 0x0100_0000;
    pub const DONT_FOLLOW: u32 = 0x0200_0000;
    pub const EXCL_UNLINK: u32 = 0x0400_0000;
    pub const MASK_CREATE: u32 = 0x1000_0000;
    pub const MASK_ADD: u32 = 0x2000_0000;
    pub const ISDIR: u32 = 0x4000_0000;
    pub const ONESHOT: u32 = 0x8000_0000;
}

/// An inotify instance.
pub struct Inotify {
    this: Weak<Inotify>,
    state: Mutex<State, { rank::INOTIFY }>,
    queue: WaitQueue,
    /// Whose it is: user namespace and effective user.
    user: (u64, u32),
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    watches: BTreeMap<i32, Arc<Watch>>,
    last_wd: i32,
}

/// An event in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    /// Bytes of the name with its padding.
    fn name_len(&self) -> usize {
        match self.name.len() {
            0 => 0,
            n => (n + 1).next_multiple_of(HEADER),
        }
    }

    fn len(&self) -> usize {
        HEADER + self.name_len()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.extend_from_slice(&self.wd.to_ne_bytes());
        out.extend_from_slice(&self.mask.to_ne_bytes());
        out.extend_from_slice(&self.cookie.to_ne_bytes());
        out.extend_from_slice(&(self.name_len() as u32).to_ne_bytes());
        out.extend_from_slice(&self.name);
        out.resize(self.len(), 0);
        out
    }
}

/// Watches in the sandbox.
static WATCHES: AtomicUsize = AtomicUsize::new(0);

/// Open instances of each user, by user namespace and id.
static INSTANCES: Mutex<BTreeMap<(u64, u32), usize>, { rank::LEAF }> = Mutex::new(BTreeMap::new());

/// A watched inode.
struct Watch {
    this: Weak<Watch>,
    wd: i32,
    mask: AtomicU32,
    instance: Weak<Inotify>,
    /// It no longer watches.
    ended: AtomicBool,
    /// Keeps the inode in memory.
    path: Path,
}

impl Watch {
    /// Takes it off the inode. False if someone else has done so.
    fn detach(&self) -> bool {
        if self.ended.swap(true, Ordering::SeqCst) {
            return false;
        }
        if let Some(this) = self.this.upgrade() {
            let this: Arc<dyn Watcher> = this;
            notify::unwatch(&**self.path.inode(), &this);
        }
        WATCHES.fetch_sub(1, Ordering::Relaxed);
        true
    }
}

impl Watcher for Watch {
    fn excludes_unlinked(&self) -> bool {
        self.mask.load(Ordering::Relaxed) & flag::EXCL_UNLINK != 0
    }

    fn event(&self, what: Happened, cookie: u32, name: Option<&[u8]>) {
        let Some(instance) = self.instance.upgrade() else { return };
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        let wanted = self.mask.load(Ordering::Relaxed);
        let gone = what.contains(Happened::DELETE_SELF);
        let mut mask = what.bits() & (wanted & flag::ALL | flag::UNMOUNT);
        let mut once = false;
        if mask != 0 {
            // Programs do not expect the directory bit with what happens to the object itself.
            let own = Happened::DELETE_SELF | Happened::MOVE_SELF;
            if !what.intersects(own) {
                mask |= what.bits() & flag::ISDIR;
            }
            let name = name.unwrap_or_default().to_vec();
            instance.push(Event { wd: self.wd, mask, cookie, name });
            once = wanted & flag::ONESHOT != 0;
        }
        if once || gone {
            instance.drop_watch(self);
        }
    }
}

impl Inotify {
    /// An open, empty instance of a user (user namespace and id). `EMFILE` if the user has too many.
    pub fn open(user: (u64, u32), nonblock: bool) -> Result<Arc<File>> {
        {
            let mut instances = INSTANCES.lock();
            let count = instances.entry(user).or_default();
            if *count >= MAX_INSTANCES.load(Ordering::Relaxed) as usize {
                return Err(Errno::EMFILE);
            }
            *count += 1;
        }
        let ops = Arc::new_cyclic(|this| Inotify {
            this: this.clone(),
            state: Mutex::default(),
            queue: WaitQueue::new(),
            user,
        });
        let mut flags = OpenFlags::empty();
        flags.set(OpenFlags::NONBLOCK, nonblock);
        Ok(File::new(ops, None, flags))
    }

    fn push(&self, event: Event) {
        {
            let mut state = self.state.lock();
            // The same thing twice in a row is told once.
            if state.events.back() == Some(&event) {
                return;
            }
            if state.events.len() >= MAX_QUEUED {
                let overflow = Event { wd: -1, mask: flag::Q_OVERFLOW, cookie: 0, name: vec![] };
                if state.events.back() == Some(&overflow) {
                    return;
                }
                state.events.push_back(overflow);
            } else {
                state.events.push_back(event);
            }
        }
        self.queue.notify(EventMask::READABLE);
    }

    /// Ends a watch and says so in the queue.
    fn drop_watch(&self, watch: &Watch) {
        if !watch.detach() {
            return;
        }
        let old = self.state.lock().watches.remove(&watch.wd);
        drop(old);
        self.push(Event { wd: watch.wd, mask: flag::IGNORED, cookie: 0, name: vec![] });
    }

    /// `inotify_add_watch(2)`: watches what is at `path`, or changes the watch there is. `EEXIST`,
    /// `ENOSPC`.
    pub fn watch(&self, path: Path, mask: u32) -> Result<i32> {
        let wanted = mask & (flag::ALL | flag::EXCL_UNLINK | flag::ONESHOT);
        let mut state = self.state.lock();
        let same =
            state.watches.values().find(|w| Arc::ptr_eq(w.path.inode(), path.inode())).cloned();
        if let Some(watch) = same {
            if mask & flag::MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            let old = watch.mask.load(Ordering::Relaxed);
            let new = if mask & flag::MASK_ADD != 0 { old | wanted } else { wanted };
            watch.mask.store(new, Ordering::Relaxed);
            return Ok(watch.wd);
        }
        if WATCHES.load(Ordering::Relaxed) >= MAX_WATCHES || state.last_wd == i32::MAX {
            return Err(Errno::ENOSPC);
        }
        state.last_wd += 1;
        let wd = state.last_wd;
        let instance = self.this.clone();
        let watch = Arc::new_cyclic(|this| Watch {
            this: this.clone(),
            wd,
            mask: AtomicU32::new(wanted),
            instance,
            ended: AtomicBool::new(false),
            path,
        });
        state.watches.insert(wd, watch.clone());
        drop(state);
        WATCHES.fetch_add(1, Ordering::Relaxed);
        notify::watch(&**watch.path.inode(), watch.clone());
        Ok(wd)
    }

    /// `inotify_rm_watch(2)`. `EINVAL` if there is no such watch.
    pub fn unwatch(&self, wd: i32) -> Result<()> {
        let watch = self.state.lock().watches.get(&wd).cloned().ok_or(Errno::EINVAL)?;
        self.drop_watch(&watch);
        Ok(())
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let mut instances = INSTANCES.lock();
        if let Some(count) = instances.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                instances.remove(&self.user);
            }
        }
    }
}

impl FileOps for Inotify {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let mut done = 0;
        loop {
            let event = {
                let mut state = self.state.lock();
                match state.events.front() {
                    None if done == 0 => return Err(Errno::EAGAIN),
                    None => return Ok(done),
                    Some(event) if event.len() > dst.remaining() => {
                        return if done == 0 { Err(Errno::EINVAL) } else { Ok(done) };
                    }
                    Some(_) => {}
                }
                state.events.pop_front()
            };
            let Some(event) = event else { return Ok(done) };
            match dst.put(&event.bytes()) {
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => return Ok(done),
            }
        }
    }

    fn poll(&self, _file: &File) -> EventMask {
        match self.state.lock().events.is_empty() {
            true => EventMask::empty(),
            false => EventMask::READABLE,
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn async_io(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            FIONREAD => {
                let n = self.state.lock().events.iter().map(Event::len).sum();
                put_int(task, arg, n)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        // Without the brackets that the others have.
        Some("anon_inode:inotify".into())
    }

    fn fdinfo(&self) -> String {
        let watches: Vec<_> = self.state.lock().watches.values().cloned().collect();
        let line = |w: &Arc<Watch>| {
            let attr = w.path.inode().attr().ok();
            let (ino, dev) = attr.map_or((0, 0), |a| (a.ino, a.dev));
            let mask = w.mask.load(Ordering::Relaxed);
            format!(
                "inotify wd:{:x} ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0 \n",
                w.wd
            )
        };
        watches.iter().map(line).collect()
    }

    fn release(&self, _file: &File) {
        let watches = std::mem::take(&mut self.state.lock().watches);
        for watch in watches.values() {
            watch.detach();
        }
    }

    fn ignores_position(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::BufSink;

    fn event(mask: u32, name: &[u8]) -> Event {
        Event { wd: 1, mask, cookie: 0, name: name.to_vec() }
    }

    fn read(f: &File, n: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; n];
        let n = f.ops().read(f, &mut BufSink::new(&mut buf), 0)?;
        buf.truncate(n);
        Ok(buf)
    }

    #[test]
    fn queue() {
        let f = Inotify::open((0, 0), false).unwrap();
        let inotify: &Inotify = f.ops_as().unwrap();
        assert_eq!(read(&f, 100), Err(Errno::EAGAIN));
        inotify.push(event(0x100, b"name"));
        inotify.push(event(0x20, b""));
        inotify.push(event(0x20, b""));
        assert_eq!(read(&f, 31), Err(Errno::EINVAL));
        let bytes = read(&f, 100).unwrap();
        assert_eq!(bytes.len(), 48);
        assert_eq!(&bytes[16..21], b"name\0");
        assert_eq!(inotify.unwatch(7), Err(Errno::EINVAL));
    }

    #[test]
    fn overflow_is_told_once() {
        let f = Inotify::open((0, 0), false).unwrap();
        let inotify: &Inotify = f.ops_as().unwrap();
        for i in 0..20_000u32 {
            inotify.push(event(0x100, &i.to_ne_bytes()));
        }
        let state = inotify.state.lock();
        assert_eq!(state.events.len(), MAX_QUEUED + 1);
        assert_eq!(state.events.back().unwrap().mask, flag::Q_OVERFLOW);
    }
}
