//! `fanotify(7)`: who watches files, mounts or file systems is told with descriptors of what was touched, and
//! may be asked before it is.
//!
//! * [`Group`]: what a `fanotify_init(2)` descriptor stands for. [`marks`]: what it watches.
//!   [`handles`]: events that come with file handles.

pub mod handles;
pub mod marks;

use crate::errno::{Errno, Result};
use crate::fs::anon;
use crate::fs::ioctl::{FIONREAD, put_int};
use crate::io::{Sink, Source};
use crate::kernel::{Rlimit, Task};
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, File, FileOps, FileType, OpenFlags, Path};
use crate::wait::{EventMask, WaitQueue, Waker};
use handles::{Handles, Subject};
use marks::Marks;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// Events (`FAN_*`), with the values of `fanotify_mark(2)`.
pub mod event {
    /// Something was read.
    pub const ACCESS: u64 = 0x1;
    /// Something was written.
    pub const MODIFY: u64 = 0x2;
    /// A file open for writing was closed.
    pub const CLOSE_WRITE: u64 = 0x8;
    /// A file not open for writing was closed.
    pub const CLOSE_NOWRITE: u64 = 0x10;
    /// Something was opened.
    pub const OPEN: u64 = 0x20;
    /// A program was opened to be executed.
    pub const OPEN_EXEC: u64 = 0x1000;
    /// Attributes have changed.
    pub const ATTRIB: u64 = 0x4;
    /// A name has been moved away from a directory, or into one.
    pub const MOVED_FROM: u64 = 0x40;
    /// The other half.
    pub const MOVED_TO: u64 = 0x80;
    /// A name has been made in a directory.
    pub const CREATE: u64 = 0x100;
    /// A name has been removed from a directory.
    pub const DELETE: u64 = 0x200;
    /// The object itself is gone.
    pub const DELETE_SELF: u64 = 0x400;
    /// The object itself has been moved.
    pub const MOVE_SELF: u64 = 0x800;
    /// A file system has found itself damaged, which none does here.
    pub const FS_ERROR: u64 = 0x8000;
    /// A name has been moved: both halves at once.
    pub const RENAME: u64 = 0x1000_0000;
    /// Events were lost.
    pub const Q_OVERFLOW: u64 = 0x4000;
    /// Something is to be opened.
    pub const OPEN_PERM: u64 = 0x1_0000;
    /// Something is to be read.
    pub const ACCESS_PERM: u64 = 0x2_0000;
    /// A program is to be opened.
    pub const OPEN_EXEC_PERM: u64 = 0x4_0000;
    /// Events of what is directly in a directory, too.
    pub const ON_CHILD: u64 = 0x0800_0000;
    /// Events of directories, too.
    pub const ONDIR: u64 = 0x4000_0000;

    /// Those that only tell.
    pub const PLAIN: u64 = ACCESS | MODIFY | CLOSE_WRITE | CLOSE_NOWRITE | OPEN | OPEN_EXEC;
    /// Those of names in directories.
    pub const OF_NAMES: u64 = MOVED_FROM | MOVED_TO | CREATE | DELETE | RENAME;
    /// Those that come with handles only.
    pub const OF_HANDLES: u64 = OF_NAMES | ATTRIB | DELETE_SELF | MOVE_SELF | FS_ERROR;
    /// Those that ask.
    pub const PERMISSIONS: u64 = OPEN_PERM | ACCESS_PERM | OPEN_EXEC_PERM;
}

/// Flags of `fanotify_init(2)`.
pub mod init {
    /// Close on exec.
    pub const CLOEXEC: u32 = 0x1;
    /// Reading does not wait.
    pub const NONBLOCK: u32 = 0x2;
    /// May ask, about final contents.
    pub const CLASS_CONTENT: u32 = 0x4;
    /// May ask, before contents are final.
    pub const CLASS_PRE_CONTENT: u32 = 0x8;
    /// Any number of events waits.
    pub const UNLIMITED_QUEUE: u32 = 0x10;
    /// Any number of marks.
    pub const UNLIMITED_MARKS: u32 = 0x20;
    /// Threads, not processes, are told.
    pub const REPORT_TID: u32 = 0x100;

    /// Handles of objects instead of descriptors.
    pub const REPORT_FID: u32 = 0x200;
    /// Handles of directories.
    pub const REPORT_DIR_FID: u32 = 0x400;
    /// Names in them, too.
    pub const REPORT_NAME: u32 = 0x800;
    /// The object that a name stands for, too.
    pub const REPORT_TARGET_FID: u32 = 0x1000;

    /// With any of these, no descriptors.
    pub const HANDLES: u32 = REPORT_FID | REPORT_DIR_FID | REPORT_NAME | REPORT_TARGET_FID;
    /// What only a privileged user may ask for.
    pub const PRIVILEGED: u32 =
        CLASS_CONTENT | CLASS_PRE_CONTENT | UNLIMITED_QUEUE | UNLIMITED_MARKS | REPORT_TID;

    /// Those that are known here.
    pub const ALL: u32 = CLOEXEC
        | NONBLOCK
        | CLASS_CONTENT
        | CLASS_PRE_CONTENT
        | UNLIMITED_QUEUE
        | UNLIMITED_MARKS
        | REPORT_TID
        | HANDLES;
}

/// `fs.fanotify.max_queued_events`.
pub static MAX_QUEUED: AtomicU32 = AtomicU32::new(16_384);
/// `fs.fanotify.max_user_groups`.
pub static MAX_GROUPS: AtomicU32 = AtomicU32::new(128);
/// `fs.fanotify.max_user_marks`.
pub static MAX_MARKS: AtomicU32 = AtomicU32::new(524_288);
/// With `FAN_UNLIMITED_QUEUE` there is a bound nevertheless: events keep what they are about in memory.
const MOST_QUEUED: usize = 1 << 17;

/// Size of a `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// How many of the last events one that comes is merged with at most.
const MERGE_DEPTH: usize = 128;

/// Groups of each user, by user namespace and id.
static GROUPS: Mutex<BTreeMap<(u64, u32), u32>, { rank::LEAF }> = Mutex::new(BTreeMap::new());

/// What someone who asked is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Pending,
    Allow,
    Deny,
}

/// A task that waits for permission.
struct Question {
    answer: Mutex<Answer, { rank::LEAF }>,
    task: Arc<Task>,
}

impl Question {
    fn settle(&self, answer: Answer) {
        {
            let mut now = self.answer.lock();
            if *now != Answer::Pending {
                return;
            }
            *now = answer;
        }
        self.task.wake(EventMask::IN);
    }
}

/// What an event is about.
enum About {
    /// What is there comes with a descriptor.
    Path(Path),
    /// Handles.
    Handles(Handles),
    /// Events have been lost.
    Lost,
}

impl About {
    fn same(&self, other: &About) -> bool {
        match (self, other) {
            (About::Path(a), About::Path(b)) => a.same(b),
            (About::Handles(a), About::Handles(b)) => a.same(b),
            _ => false,
        }
    }
}

struct Event {
    mask: u64,
    about: About,
    pid: i32,
    question: Option<Arc<Question>>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Questions that have been read, by the descriptor that came with them.
    asked: Vec<(i32, Arc<Question>)>,
    released: bool,
}

/// See the module's head.
pub struct Group {
    this: Weak<Group>,
    /// Flags of `fanotify_init(2)`.
    flags: u32,
    /// How descriptors that come with events are opened.
    event_flags: OpenFlags,
    user: (u64, u32),
    /// Was made by a user without privileges, who is not told which process did something.
    unprivileged: bool,
    pub(super) marks: Mutex<Marks, { rank::INODE }>,
    state: Mutex<State, { rank::LEAF }>,
    queue: WaitQueue,
}

impl Group {
    /// An open, empty group of a user. `EMFILE` if the user has too many.
    pub fn open(
        user: (u64, u32),
        unprivileged: bool,
        flags: u32,
        event_flags: OpenFlags,
    ) -> Result<Arc<File>> {
        {
            let mut groups = GROUPS.lock();
            let count = groups.entry(user).or_default();
            if *count >= MAX_GROUPS.load(Ordering::Relaxed) {
                return Err(Errno::EMFILE);
            }
            *count += 1;
        }
        let ops = Arc::new_cyclic(|this| Group {
            this: this.clone(),
            flags,
            event_flags,
            user,
            unprivileged,
            marks: Mutex::default(),
            state: Mutex::default(),
            queue: WaitQueue::new(),
        });
        let mut file_flags = OpenFlags::RDWR;
        file_flags.set(OpenFlags::NONBLOCK, flags & init::NONBLOCK != 0);
        Ok(File::new(ops, None, file_flags))
    }

    /// Itself, as marks refer to it.
    pub(super) fn weak(&self) -> Weak<Group> {
        self.this.clone()
    }

    /// True if it may be asked for permission.
    pub fn may_ask(&self) -> bool {
        self.flags & (init::CLASS_CONTENT | init::CLASS_PRE_CONTENT) != 0
    }

    /// How its events say what they are about: flags among [`init::HANDLES`]; none for descriptors.
    pub fn handles(&self) -> u32 {
        self.flags & init::HANDLES
    }

    /// True if a user without privileges has made it.
    pub fn is_unprivileged(&self) -> bool {
        self.unprivileged
    }

    /// True without a bound on marks.
    pub(super) fn has_any_number_of_marks(&self) -> bool {
        self.flags & init::UNLIMITED_MARKS != 0
    }

    fn pid_of(&self, task: &Task) -> i32 {
        if self.flags & init::REPORT_TID != 0 { task.tid() } else { task.tgid() }
    }

    /// Something has happened that it wants to know, at `path` if that is known.
    pub(super) fn tell(&self, mask: u64, path: Option<&Path>, subject: &Subject) {
        let Some(task) = crate::kernel::current() else { return };
        let pid = self.pid_of(&task);
        let mask = mask | if subject.object.is_dir() { event::ONDIR } else { 0 };
        let about = match (self.handles(), path) {
            (0, None) => return,
            (0, Some(path)) => About::Path(path.clone()),
            (flags, _) if flags & init::REPORT_FID == 0 && !subject.has_dir() => return,
            (flags, _) => About::Handles(Handles::new(flags, mask, subject)),
        };
        {
            let mut state = self.state.lock();
            let same = |e: &&mut Event| {
                e.pid == pid
                    && e.question.is_none()
                    && (e.mask ^ mask) & (event::ONDIR | event::RENAME) == 0
                    && e.about.same(&about)
            };
            if let Some(old) = state.events.iter_mut().rev().take(MERGE_DEPTH).find(same) {
                old.mask |= mask;
                return;
            }
            let event = Event { mask, about, pid, question: None };
            self.push(&mut state, event);
        }
        self.queue.notify(EventMask::READABLE);
    }

    fn push(&self, state: &mut State, event: Event) {
        let most = match self.flags & init::UNLIMITED_QUEUE {
            0 => MAX_QUEUED.load(Ordering::Relaxed) as usize,
            _ => MOST_QUEUED,
        };
        if state.events.len() < most {
            state.events.push_back(event);
        } else if !matches!(state.events.back(), Some(Event { about: About::Lost, .. })) {
            let (mask, about) = (event::Q_OVERFLOW, About::Lost);
            let lost = Event { mask, about, pid: 0, question: None };
            state.events.push_back(lost);
        }
    }

    /// Asks whether the calling task may do something at `path`, and waits for the answer. `EPERM`. No lock is
    /// held.
    pub(super) fn ask(&self, mask: u64, path: &Path) -> Result<()> {
        let Some(task) = crate::kernel::current() else { return Ok(()) };
        let question =
            Arc::new(Question { answer: Mutex::new(Answer::Pending), task: task.clone() });
        {
            let mut state = self.state.lock();
            if state.released {
                return Ok(());
            }
            let event = Event {
                mask,
                about: About::Path(path.clone()),
                pid: self.pid_of(&task),
                question: Some(question.clone()),
            };
            state.events.push_back(event);
        }
        self.queue.notify(EventMask::READABLE);
        let answered = task.sleep_until(|| *question.answer.lock() != Answer::Pending, false);
        let gone = {
            let mut state = self.state.lock();
            let is_it = |q: &Arc<Question>| Arc::ptr_eq(q, &question);
            state.asked.retain(|(_, q)| !is_it(q));
            let at = state.events.iter().position(|e| e.question.as_ref().is_some_and(is_it));
            at.and_then(|i| state.events.remove(i))
        };
        drop(gone);
        let answer = *question.answer.lock();
        match answer {
            Answer::Deny => Err(Errno::EPERM),
            Answer::Allow => Ok(()),
            // It is to end: nobody sees the result.
            Answer::Pending => {
                if answered {
                    Ok(())
                } else {
                    Err(Errno::ERESTARTSYS)
                }
            }
        }
    }

    /// Opens what an event is about, for the calling task. Returns the descriptor.
    fn descriptor(&self, task: &Task, path: &Path) -> Result<i32> {
        let flags = self.event_flags;
        let ops = match path.dentry.file_type() {
            FileType::Regular | FileType::Directory => path.inode().clone().open(path, flags)?,
            FileType::CharDevice => crate::vfs::device::open(None, path, flags)?,
            _ => return Err(Errno::ENXIO),
        };
        let file = File::new_quiet(ops, path.clone(), flags);
        let cloexec = flags.contains(OpenFlags::CLOEXEC);
        task.files()?.insert(file, cloexec, 0, task.limit(Rlimit::Nofile).soft)
    }

    /// Gives one event to the reader. `EAGAIN` when there is none, or no room for it.
    fn give(&self, task: &Task, dst: &mut dyn Sink) -> Result<usize> {
        /// `FAN_NOFD`
        const NO_FD: i32 = -1;
        let mut event = self.state.lock().events.pop_front().ok_or(Errno::EAGAIN)?;
        let records = match &event.about {
            About::Handles(handles) => handles.records(task, self.flags, event.mask)?,
            _ => Vec::new(),
        };
        if METADATA + records.len() > dst.remaining() {
            self.state.lock().events.push_front(event);
            return Err(Errno::EINVAL);
        }
        let fd = match &event.about {
            About::Path(path) => self.descriptor(task, path),
            About::Handles(_) | About::Lost => Ok(NO_FD),
        };
        if self.unprivileged && event.pid != task.tgid() {
            event.pid = 0;
        }
        let mask = match self.handles() {
            0 => event.mask & !event::ONDIR,
            _ => event.mask,
        };
        let fd = match fd {
            Ok(fd) => fd,
            Err(e) => {
                // What cannot be shown is not asked about.
                if let Some(question) = &event.question {
                    question.settle(Answer::Deny);
                }
                return Err(e);
            }
        };
        let mut bytes = Vec::with_capacity(METADATA);
        bytes.extend_from_slice(&((METADATA + records.len()) as u32).to_ne_bytes());
        // Version 3, and the length again.
        bytes.extend_from_slice(&[3, 0]);
        bytes.extend_from_slice(&(METADATA as u16).to_ne_bytes());
        bytes.extend_from_slice(&mask.to_ne_bytes());
        bytes.extend_from_slice(&fd.to_ne_bytes());
        bytes.extend_from_slice(&task.local_id(event.pid).to_ne_bytes());
        bytes.extend_from_slice(&records);
        if let Some(question) = event.question.clone() {
            self.state.lock().asked.push((fd, question));
        }
        match dst.put(&bytes) {
            Ok(n) if n == bytes.len() => Ok(n),
            other => {
                if fd >= 0 {
                    let _ = task.files()?.close(fd);
                }
                if let Some(question) = &event.question {
                    question.settle(Answer::Deny);
                }
                other.and(Err(Errno::EFAULT))
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut groups = GROUPS.lock();
        if let Some(count) = groups.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                groups.remove(&self.user);
            }
        }
    }
}

impl FileOps for Group {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let task = crate::kernel::current().ok_or(Errno::EINVAL)?;
        let mut done = 0;
        loop {
            if dst.remaining() < METADATA {
                return match done {
                    0 if self.state.lock().events.is_empty() => Err(Errno::EAGAIN),
                    0 => Err(Errno::EINVAL),
                    done => Ok(done),
                };
            }
            match self.give(&task, dst) {
                Ok(n) => done += n,
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
    }

    /// Answers: a descriptor that came with a question, and what is to be done.
    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        const ALLOW: u32 = 1;
        const DENY: u32 = 2;
        if !self.may_ask() {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0u8; 8];
        if src.remaining() < bytes.len() {
            return Err(Errno::EINVAL);
        }
        if src.take(&mut bytes)? < bytes.len() {
            return Err(Errno::EFAULT);
        }
        let word = |b: &[u8]| b.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
        let (fd, response) = bytes.split_at(4);
        let (fd, response) = (word(fd) as i32, word(response));
        let answer = match response {
            ALLOW => Answer::Allow,
            DENY => Answer::Deny,
            _ => return Err(Errno::EINVAL),
        };
        if fd < 0 {
            return Err(Errno::EINVAL);
        }
        let question = {
            let mut state = self.state.lock();
            let at = state.asked.iter().position(|(asked, _)| *asked == fd);
            at.map(|i| state.asked.swap_remove(i).1).ok_or(Errno::ENOENT)?
        };
        question.settle(answer);
        Ok(bytes.len())
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

    fn ignores_position(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            FIONREAD => {
                // Linux does not count records either.
                let len = self.state.lock().events.len() * METADATA;
                put_int(task, arg, len)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[fanotify]".into())
    }

    fn fdinfo(&self) -> String {
        let (flags, events) = (self.flags, self.event_flags.bits());
        format!("fanotify flags:{flags:x} event-flags:{events:x}\n{}", self.marks.lock().show())
    }

    fn release(&self, _file: &File) {
        let marks = std::mem::take(&mut *self.marks.lock());
        marks.detach();
        let (events, asked) = {
            let mut state = self.state.lock();
            state.released = true;
            (std::mem::take(&mut state.events), std::mem::take(&mut state.asked))
        };
        // Nobody is left who could refuse.
        let unread = events.iter().filter_map(|e| e.question.as_ref());
        for question in unread.chain(asked.iter().map(|(_, q)| q)) {
            question.settle(Answer::Allow);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
