//! The notes of a core dump: threads, the process, the signal, what was mapped (`elf(5)`, `core(5)`).

use super::Thread;
use super::areas::Area;
use crate::kernel::ptrace::{request::shown_xstate, user};
use crate::kernel::{CurrentTask, SigInfo};
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::time::Timeval;

const NT_PRSTATUS: u32 = 1;
const NT_PRFPREG: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_X86_XSTATE: u32 = 0x202;
const NT_FILE: u32 = 0x4649_4c45;
const NT_SIGINFO: u32 = 0x5349_4749;

/// Bytes of the names in `NT_FILE`, beyond which the note is left out.
const NAMES_MAX: usize = 4 << 20;

/// Notes, each with a header, its owner's name and a description.
#[derive(Default)]
struct Notes(Vec<u8>);

impl Notes {
    fn add(&mut self, owner: &str, kind: u32, description: &[u8]) {
        let sizes = [owner.len() as u32 + 1, description.len() as u32, kind];
        self.0.extend(sizes.iter().flat_map(|word| word.to_ne_bytes()));
        for part in [owner.as_bytes(), b"\0"] {
            self.0.extend_from_slice(part);
        }
        self.pad();
        self.0.extend_from_slice(description);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A structure of C under construction: values at their offsets.
struct Struct(Vec<u8>);

impl Struct {
    fn new(size: usize) -> Self {
        Struct(vec![0; size])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self
    }

    fn words(&mut self, at: usize, words: &[u64]) -> &mut Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.put(at, &bytes)
    }

    fn ints(&mut self, at: usize, ints: &[i32]) -> &mut Self {
        let bytes: Vec<u8> = ints.iter().flat_map(|int| int.to_ne_bytes()).collect();
        self.put(at, &bytes)
    }
}

/// All notes: the thread that took the signal first.
pub fn all(
    t: &CurrentTask,
    info: &SigInfo,
    own: &Thread,
    others: &[Thread],
    areas: &[Area],
) -> Vec<u8> {
    let mut notes = Notes::default();
    notes.add("CORE", NT_PRSTATUS, &status(t, info, own));
    notes.add("CORE", NT_PRPSINFO, &process(t));
    notes.add("CORE", NT_SIGINFO, &info.to_bytes());
    notes.add("CORE", NT_AUXV, &t.mm().exec_info().auxv);
    if let Some(files) = files(t, areas) {
        notes.add("CORE", NT_FILE, &files);
    }
    vectors(&mut notes, own);
    for other in others {
        notes.add("CORE", NT_PRSTATUS, &status(t, info, other));
        vectors(&mut notes, other);
    }
    notes.0
}

/// Floating-point and vector registers.
fn vectors(notes: &mut Notes, thread: &Thread) {
    if let Some(xstate) = &thread.xstate {
        notes.add("CORE", NT_PRFPREG, xstate.legacy());
        notes.add("LINUX", NT_X86_XSTATE, &shown_xstate(xstate));
    }
}

fn timeval(nanos: u64) -> [u64; 2] {
    let time = Timeval::from_nanos(nanos);
    [time.sec as u64, time.usec as u64]
}

/// `struct elf_prstatus`.
fn status(t: &CurrentTask, info: &SigInfo, thread: &Thread) -> Vec<u8> {
    let (group, task) = (t.group(), &thread.task);
    let pids = group.pid_ns();
    let (user, system) = task.cpu_times();
    let children = group.children_rusage();
    let mut out = Struct::new(336);
    out.ints(0, &[info.signal.number(), 0, 0])
        .put(12, &(info.signal.number() as i16).to_ne_bytes())
        .words(16, &[thread.pending.0, thread.blocked.0])
        .ints(32, &[task.ns_tid(), pids.local(group.ppid()), pids.local(group.pgid())])
        .ints(44, &[pids.local(group.sid())])
        .words(48, &timeval(user))
        .words(64, &timeval(system))
        .words(80, &timeval(children.user))
        .words(96, &timeval(children.system))
        .words(112, &user::words(&thread.regs))
        .ints(328, &[i32::from(thread.xstate.is_some())]);
    out.0
}

/// `struct elf_prpsinfo`.
fn process(t: &CurrentTask) -> Vec<u8> {
    const ARGS: u64 = 79;
    let (group, creds) = (t.group(), t.creds());
    let pids = group.pid_ns();
    let args = t.mm().exec_info().args.clone();
    let mut text = vec![0; args.end.saturating_sub(args.start).min(ARGS) as usize];
    if t.mm().read(UserAddr(args.start), &mut text).is_err() {
        text.clear();
    }
    for byte in text.iter_mut().filter(|byte| **byte == 0) {
        *byte = b' ';
    }
    let nice = t.sched.lock().nice as i8;
    let ns = &creds.user_ns;
    let mut out = Struct::new(136);
    out.put(1, &[b'R', 0, nice as u8])
        .ints(16, &[ns.show_uid(creds.uid) as i32, ns.show_gid(creds.gid) as i32])
        .ints(24, &[group.ns_tgid(), pids.local(group.ppid()), pids.local(group.pgid())])
        .ints(36, &[pids.local(group.sid())])
        .put(40, &t.comm_bytes())
        .put(56, &text);
    out.0
}

/// Which files were mapped where; `None` if their names are too long together.
fn files(t: &CurrentTask, areas: &[Area]) -> Option<Vec<u8>> {
    let root = t.fs().root();
    let mut table = Vec::new();
    let mut names = Vec::new();
    let mut count = 0_u64;
    for area in areas {
        let map = &area.map;
        let Some(path) = map.file.as_ref().and_then(|file| file.path()) else { continue };
        table.extend([map.start, map.end, map.offset / PAGE_SIZE]);
        names.extend(path.to_bytes(&root));
        names.push(0);
        count += 1;
        if names.len() > NAMES_MAX {
            return None;
        }
    }
    let words = [count, PAGE_SIZE].into_iter().chain(table);
    let mut out: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
    out.append(&mut names);
    Some(out)
}
