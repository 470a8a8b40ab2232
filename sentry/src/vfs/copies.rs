//! Tests with a platform that answers calls on open files: its part is played in plain memory.

use super::{FdTable, File, OpenFlags};
use crate::errno::Errno;
use crate::fs::pipe;
use crate::io::{BufSink, BufSource};
use crate::kernel::Credentials;
use crate::wait::{EventMask, Waker};
use platform::answers::PIPE_PAGE;
use platform::{Descriptors, FileName, FilePosition, PipePlace};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

const READS: u64 = 1 << 8;
const WRITES: u64 = 1 << 9;

/// A lock that a failed test does not break.
fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The platform's place of a pipe.
struct Page {
    held: bool,
    page: [u8; PIPE_PAGE],
    bytes: Range<usize>,
}

impl Page {
    /// What the platform reads for a program; `None` if it passes the call on.
    fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        let end = self.bytes.end.min(self.bytes.start + max);
        let taken = self.bytes.start..end;
        if self.held || taken.is_empty() {
            return None;
        }
        self.bytes.start = end;
        Some(self.page[taken].to_vec())
    }

    /// Whether the platform writes for a program.
    fn write(&mut self, bytes: &[u8]) -> bool {
        if self.bytes.is_empty() {
            self.bytes = 0..0;
        }
        let end = self.bytes.end + bytes.len();
        let fits = !self.held && end <= PIPE_PAGE;
        if fits {
            self.page[self.bytes.end..end].copy_from_slice(bytes);
            self.bytes.end = end;
        }
        fits
    }
}

struct Place(Arc<Mutex<Page>>, u64);

impl PipePlace for Place {
    fn name(&self, reads: bool, writes: bool) -> FileName {
        FileName(self.1 | if reads { READS } else { 0 } | if writes { WRITES } else { 0 })
    }

    fn hold(&self, page: &mut [u8; PIPE_PAGE]) -> Option<Range<usize>> {
        let mut mine = lock(&self.0);
        if std::mem::replace(&mut mine.held, true) {
            return None;
        }
        page[mine.bytes.clone()].copy_from_slice(&mine.page[mine.bytes.clone()]);
        Some(mine.bytes.clone())
    }

    fn let_go(&self, page: &[u8; PIPE_PAGE], bytes: Range<usize>) {
        let mut mine = lock(&self.0);
        assert!(mine.held);
        mine.page[bytes.clone()].copy_from_slice(&page[bytes.clone()]);
        (mine.held, mine.bytes) = (false, bytes);
    }
}

/// A position, unless it is held.
struct Kept(Arc<Mutex<Option<u64>>>, u64);

impl FilePosition for Kept {
    fn name(&self) -> FileName {
        FileName(self.1)
    }

    fn hold(&self) -> Option<u64> {
        lock(&self.0).take()
    }

    fn let_go(&self, position: u64) {
        *lock(&self.0) = (position < 1000).then_some(position);
    }
}

/// All places that there are, in the order in which they were asked for.
#[derive(Default)]
struct Places {
    tables: Vec<Arc<Mutex<HashMap<u32, FileName>>>>,
    pages: Vec<Arc<Mutex<Page>>>,
    positions: Vec<Arc<Mutex<Option<u64>>>>,
}

struct Table(u32, Arc<Mutex<HashMap<u32, FileName>>>, Arc<Mutex<Places>>);

fn new_table(places: &Arc<Mutex<Places>>) -> Arc<dyn Descriptors> {
    let (words, mut all) = (Arc::<Mutex<HashMap<_, _>>>::default(), lock(places));
    all.tables.push(words.clone());
    Arc::new(Table(all.tables.len() as u32, words, places.clone()))
}

impl Descriptors for Table {
    fn number(&self) -> u32 {
        self.0
    }

    fn set(&self, fd: u32, file: Option<FileName>) {
        let mut words = lock(&self.1);
        match file {
            Some(name) => drop(words.insert(fd, name)),
            None => drop(words.remove(&fd)),
        }
    }

    fn another(&self) -> Option<Arc<dyn Descriptors>> {
        Some(new_table(&self.2))
    }

    fn position(&self) -> Option<Box<dyn FilePosition>> {
        let (place, mut all) = (Arc::default(), lock(&self.2));
        all.positions.push(Arc::clone(&place));
        Some(Box::new(Kept(place, all.positions.len() as u64)))
    }

    fn pipe(&self) -> Option<Box<dyn PipePlace>> {
        let page = Page { held: true, page: [0; PIPE_PAGE], bytes: 0..0 };
        let (page, mut all) = (Arc::new(Mutex::new(page)), lock(&self.2));
        all.pages.push(page.clone());
        Some(Box::new(Place(page, 100)))
    }
}

/// A table that a platform has a copy of.
fn copied() -> (FdTable, Arc<Mutex<Places>>) {
    let (table, places) = (FdTable::new(), Arc::default());
    table.set_copy(new_table(&places));
    (table, places)
}

/// A pipe with its ends in a table, and the platform's page of it.
fn piped(flags: OpenFlags) -> (FdTable, [Arc<File>; 2], Arc<Mutex<Page>>) {
    let (table, places) = copied();
    let (r, w) = pipe::pair(&Credentials::default(), flags);
    table.insert(r.clone(), false, 0, 100).unwrap();
    table.insert(w.clone(), false, 0, 100).unwrap();
    let page = lock(&places).pages[0].clone();
    (table, [r, w], page)
}

fn write(file: &File, bytes: &[u8]) -> crate::errno::Result<usize> {
    file.ops().write(file, &mut BufSource::new(bytes), 0)
}

fn read(file: &File, max: usize) -> crate::errno::Result<Vec<u8>> {
    let mut buf = vec![0; max];
    let n = file.ops().read(file, &mut BufSink::new(&mut buf), 0)?;
    buf.truncate(n);
    Ok(buf)
}

#[test]
fn the_copy_follows_the_table() {
    let (table, places) = copied();
    let [words, one] = [0, 1].map(|_| lock(&places).tables[0].clone());
    let (r, w) = pipe::pair(&Credentials::default(), OpenFlags::empty());
    let (r, w) = (table.insert(r, false, 0, 100), table.insert(w, true, 0, 100));
    assert_eq!((r, w, table.number()), (Ok(0), Ok(1), Some(1)));
    assert_eq!(lock(&words).get(&0), Some(&FileName(100 | READS)));
    assert_eq!(lock(&words).get(&1), Some(&FileName(100 | WRITES)));
    // Both ends have one place.
    assert_eq!(lock(&places).pages.len(), 1);
    let old = table.insert_at(7, table.get(0).unwrap(), false, 100).unwrap();
    assert!(old.is_none());
    let child = table.fork().unwrap();
    let theirs = lock(&places).tables[1].clone();
    assert_eq!((child.number(), lock(&theirs).len()), (Some(2), 3));
    child.close_on_exec();
    assert_eq!((lock(&theirs).get(&1), lock(&words).len()), (None, 3));
    table.insert_at(0, table.get(1).unwrap(), false, 100).unwrap();
    assert_eq!(lock(&words).get(&0), Some(&FileName(100 | WRITES)));
    assert_eq!(lock(&theirs).get(&0), Some(&FileName(100 | READS)));
    table.close(7).unwrap();
    assert_eq!(lock(&one).get(&7), None);
    table.close_range(0, u32::MAX);
    assert!(lock(&words).is_empty());
    assert_eq!(lock(&theirs).len(), 2);
    drop(child);
    assert!(lock(&theirs).is_empty());
}

#[test]
fn positions_are_one_whoever_moves_them() {
    let (table, places) = copied();
    let file = File::new(Arc::new(Seekable), None, OpenFlags::empty());
    *file.pos() = 5;
    table.insert(file.clone(), false, 0, 100).unwrap();
    table.insert(file.clone(), false, 0, 100).unwrap();
    assert_eq!(lock(&places).positions.len(), 1);
    let place = lock(&places).positions[0].clone();
    let (kept, pos) = (|| *lock(&place), || *file.pos());
    // It is held until somebody has had it.
    assert_eq!((kept(), pos(), kept()), (None, 5, Some(5)));
    *lock(&place) = Some(77);
    assert_eq!((file.peek_pos(), kept()), (77, Some(77)));
    let mut locked = file.pos();
    assert_eq!((*locked, kept()), (77, None));
    *locked += 3;
    assert_eq!(file.peek_pos(), 0);
    drop(locked);
    assert_eq!(kept(), Some(80));
    // One that the platform has no room for.
    *file.pos() = 5000;
    assert_eq!((kept(), pos()), (None, 5000));
    *file.pos() = 2;
    assert_eq!(kept(), Some(2));
}

struct Seekable;

impl super::FileOps for Seekable {
    fn seekable(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn a_pipe_is_let_go_while_nothing_follows_from_its_use() {
    let (table, [r, w], page) = piped(OpenFlags::NONBLOCK);
    let is_held = || lock(&page).held;
    assert!(is_held());
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
    assert!(!is_held());
    assert!(lock(&page).write(b"by the platform"));
    assert_eq!((read(&r, 6), is_held()), (Ok(b"by the".to_vec()), false));
    assert_eq!(lock(&page).read(4).as_deref(), Some(&b" pla"[..]));
    assert_eq!(r.poll(), EventMask::READABLE);
    // Two pages of bytes.
    write(&w, &[1; PIPE_PAGE]).unwrap();
    assert!(is_held());
    assert_eq!((read(&r, 5), is_held()), (Ok(b"tform".to_vec()), false));
    assert_eq!(read(&r, PIPE_PAGE).map(|bytes| bytes.len()), Ok(PIPE_PAGE));
    // Somebody waits, who has looked at it.
    let queue = r.ops().wait_queue().unwrap();
    let key = queue.add(EventMask::READABLE, Arc::new(Bell::default()));
    assert_eq!((r.poll(), is_held()), (EventMask::empty(), true));
    write(&w, b"x").unwrap();
    assert!(is_held());
    queue.remove(key);
    assert_eq!((read(&r, 5), is_held()), (Ok(b"x".to_vec()), false));
    // What has been spliced is not added to.
    let (other, others) = pipe::pair(&Credentials::default(), OpenFlags::NONBLOCK);
    write(&others, b"other").unwrap();
    let (from, to) = (pipe::of(&other).unwrap(), pipe::of(&w).unwrap());
    assert_eq!((pipe::tee_pipes(from, to, 3), is_held()), (Ok(3), true));
    assert_eq!((read(&r, 9), is_held()), (Ok(b"oth".to_vec()), false));
    // Packets may come, for ever.
    w.set_flags(OpenFlags::DIRECT, OpenFlags::DIRECT);
    w.set_flags(OpenFlags::DIRECT, OpenFlags::empty());
    assert!(is_held());
    drop((table, w));
    assert_eq!(read(&r, 1), Ok(vec![]));
}

#[test]
fn nobody_is_left_at_the_other_end() {
    let (table, [r, w], page) = piped(OpenFlags::NONBLOCK);
    write(&w, b"last").unwrap();
    assert!(!lock(&page).held);
    table.close(1).unwrap();
    drop(w);
    assert!(lock(&page).held);
    assert_eq!(read(&r, 9), Ok(b"last".to_vec()));
    assert_eq!((read(&r, 9), lock(&page).held), (Ok(vec![]), true));
    let (table, [r, w], page) = piped(OpenFlags::NONBLOCK);
    write(&w, b"lost").unwrap();
    table.close(0).unwrap();
    drop(r);
    assert_eq!((write(&w, b"x"), lock(&page).held), (Err(Errno::EPIPE), true));
}

#[test]
fn a_pipe_is_one_whoever_uses_it() {
    let (_table, [r, w], page) = piped(OpenFlags::NONBLOCK);
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let (mut model, mut byte) = (VecDeque::new(), 0u8);
    let (mut answered, mut passed) = (0, 0);
    for _ in 0..40_000 {
        let size = [random(8), random(300), random(9000)][random(3) as usize] as usize + 1;
        let bytes: Vec<u8> = (0..size).map(|i| byte.wrapping_add(i as u8)).collect();
        match random(4) {
            0 if size <= PIPE_PAGE && lock(&page).write(&bytes) => {
                answered += 1;
                model.extend(bytes);
                byte = byte.wrapping_add(size as u8);
            }
            0 | 1 => {
                passed += 1;
                let n = write(&w, &bytes).unwrap_or(0);
                model.extend(&bytes[..n]);
                byte = byte.wrapping_add(n as u8);
            }
            choice => {
                let mine = if choice == 2 { lock(&page).read(size) } else { None };
                let (got, own) = match mine {
                    Some(bytes) => (bytes, true),
                    None => (read(&r, size).unwrap_or_default(), false),
                };
                (answered, passed) = (answered + u32::from(own), passed + u32::from(!own));
                assert_eq!(got.len(), size.min(model.len()));
                assert!(model.drain(..got.len()).eq(got));
            }
        }
    }
    assert!(answered > 1000 && passed > 1000, "{answered} {passed}");
}

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Waker for Bell {
    fn wake(&self, _events: EventMask) {
        *lock(&self.rung) = true;
        self.changed.notify_all();
    }
}

impl Bell {
    /// Waits until it is rung.
    fn wait(&self) {
        let rung = lock(&self.rung);
        let limit = Duration::from_secs(60);
        let waited = self.changed.wait_timeout_while(rung, limit, |rung| !*rung);
        let (mut rung, result) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!result.timed_out(), "nobody has rung");
        *rung = false;
    }
}

/// Does something as a system call that the platform may answer does: here, then in the sentry, then after waiting.
fn until_done<T>(
    file: &File,
    events: EventMask,
    here: impl Fn() -> Option<T>,
    there: impl Fn() -> crate::errno::Result<T>,
) -> T {
    if let Some(done) = here() {
        return done;
    }
    if let Ok(done) = there() {
        return done;
    }
    let (queue, bell) = (file.ops().wait_queue().unwrap(), Arc::new(Bell::default()));
    let key = queue.add(events, bell.clone());
    let done = loop {
        if let Ok(done) = there() {
            break done;
        }
        bell.wait();
    };
    queue.remove(key);
    done
}

/// Who begins to wait while the other side is answered is woken.
#[test]
fn no_wake_up_is_lost() {
    const BYTES: usize = 60_000;
    let (_table, [r, w], page) = piped(OpenFlags::NONBLOCK);
    // Two pages, so that both sides wait.
    pipe::of(&r).unwrap().set_capacity(8192, false).unwrap();
    let theirs = page.clone();
    let writer = std::thread::spawn(move || {
        let mut at = 0;
        while at < BYTES {
            let size = [1, 7, 300][at % 3].min(BYTES - at);
            let bytes: Vec<u8> = (at..at + size).map(|i| i as u8).collect();
            let here = || lock(&theirs).write(&bytes).then_some(size);
            at += until_done(&w, EventMask::WRITABLE, here, || write(&w, &bytes));
        }
    });
    let mut at = 0;
    while at < BYTES {
        let size = [1, 2, 100, 5][at % 4];
        let here = || lock(&page).read(size);
        let got = until_done(&r, EventMask::READABLE, here, || read(&r, size));
        assert!(got.iter().enumerate().all(|(i, byte)| *byte == (at + i) as u8));
        at += got.len();
    }
    writer.join().unwrap();
}
