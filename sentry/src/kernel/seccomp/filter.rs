//! Filters of a task, and how they are installed.

use super::action;
use super::data::{self, Data};
use super::notify::Listener;
use crate::bpf::{Program, Raw};
use crate::errno::{Errno, Result};
use crate::kernel::task::syscall_work;
use crate::kernel::{CurrentTask, Task};
use crate::sync::{Mutex, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Most instructions of all filters of a task (`MAX_INSNS_PER_PATH`).
const MAX_PATH: usize = 32768;
/// What a filter counts for in that beyond its instructions.
const FILTER_COST: usize = 4;

bitflags::bitflags! {
    /// `SECCOMP_FILTER_FLAG_*`
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct FilterFlags: u32 {
        /// For every thread of the process.
        const TSYNC = 1;
        /// Log every action but ALLOW.
        const LOG = 2;
        /// Speculation stays allowed.
        const SPEC_ALLOW = 4;
        /// Return a descriptor for a supervisor.
        const NEW_LISTENER = 8;
        /// `TSYNC` fails with `ESRCH` instead of a thread id.
        const TSYNC_ESRCH = 16;
        /// Only fatal signals interrupt a call that a supervisor has received.
        const WAIT_KILLABLE_RECV = 32;
    }
}

/// How a task is restricted (`PR_GET_SECCOMP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Not at all.
    Disabled = 0,
    /// To four calls.
    Strict = 1,
    /// By filters.
    Filter = 2,
}

/// Numbers of system calls that are remembered as always allowed: a bit for each, 64 to a word.
const ALLOWED_WORDS: usize = 8;

/// A filter, and those that were there before it.
pub struct Filter {
    program: Program,
    earlier: Option<Arc<Filter>>,
    listener: Option<Arc<Listener>>,
    /// Calls that it and those before it allow whatever their arguments are: nobody has to run a program for them.
    allowed: [u64; ALLOWED_WORDS],
}

impl Filter {
    fn new(
        program: Program,
        earlier: Option<Arc<Filter>>,
        listener: Option<Arc<Listener>>,
    ) -> Arc<Filter> {
        let before = earlier.as_ref().map_or([u64::MAX; ALLOWED_WORDS], |f| f.allowed);
        let mut allowed = [0; ALLOWED_WORDS];
        for (i, (word, before)) in allowed.iter_mut().zip(before).enumerate() {
            for bit in (0..64).filter(|bit| before & 1 << bit != 0) {
                let value = data::constant(&program, (i * 64 + bit) as u32, super::ARCH);
                if value.is_some_and(|value| value & action::MASK == action::ALLOW) {
                    *word |= 1 << bit;
                }
            }
        }
        Arc::new(Filter { program, earlier, listener, allowed })
    }

    /// The first filter of a process that is started from outside. `EINVAL` for a bad program, `ENOMEM` for one
    /// that is too long.
    pub fn from_outside(program: &[Raw]) -> Result<Arc<Filter>> {
        let program = data::verify(program)?;
        if program.cost() + FILTER_COST > MAX_PATH {
            return Err(Errno::ENOMEM);
        }
        Ok(Self::new(program, None, None))
    }

    /// What it says about a call with these arguments.
    pub fn verdict(&self, nr: i32, args: [u64; 6]) -> u32 {
        let call = Data { nr, arch: super::ARCH, instruction_pointer: 0, args };
        data::run(&self.program, &call)
    }

    fn chain(&self) -> impl Iterator<Item = &Filter> {
        fn earlier<'a>(f: &&'a Filter) -> Option<&'a Filter> {
            f.earlier.as_deref()
        }
        std::iter::successors(Some(self), earlier)
    }

    /// Its supervisor's end.
    pub fn listener(&self) -> Option<&Arc<Listener>> {
        self.listener.as_ref()
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.hang_up();
        }
        // A long chain must not be dropped by recursion.
        let mut next = self.earlier.take();
        while let Some(mut filter) = next.and_then(Arc::into_inner) {
            next = filter.earlier.take();
        }
    }
}

/// The seccomp state of a task.
#[derive(Default)]
pub struct Seccomp {
    mode: AtomicU8,
    /// Those of the filters, to be read without the lock.
    allowed: [AtomicU64; ALLOWED_WORDS],
    filter: Mutex<Option<Arc<Filter>>, { rank::LEAF }>,
}

impl Seccomp {
    /// How it is restricted.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            1 => Mode::Strict,
            2 => Mode::Filter,
            _ => Mode::Disabled,
        }
    }

    /// True if the filters allow every call of this number.
    pub fn always_allows(&self, nr: u64) -> bool {
        let word = usize::try_from(nr / 64).ok().and_then(|i| self.allowed.get(i));
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (nr % 64) != 0)
    }

    fn filter(&self) -> Option<Arc<Filter>> {
        self.filter.lock().clone()
    }

    /// Number of filters (`Seccomp_filters` in `status`).
    pub fn filters(&self) -> usize {
        self.filter().map_or(0, |f| f.chain().count())
    }

    /// Runs the filters; the result that counts most, and the filter it came from: that of the most severe
    /// action, of equals that of the newest filter.
    pub fn evaluate(&self, call: &Data) -> Option<(u32, Arc<Filter>)> {
        let newest = self.filter()?;
        let severity = |value: u32| (value & action::MASK) as i32;
        let mut at = Some(newest.clone());
        let mut result = (action::ALLOW, newest);
        while let Some(filter) = at {
            let value = data::run(&filter.program, call);
            at = filter.earlier.clone();
            if severity(value) < severity(result.0) {
                result = (value, filter);
            }
        }
        Some(result)
    }
}

impl Task {
    fn assign(&self, mode: Mode, filter: Option<Arc<Filter>>) {
        let allowed = filter.as_ref().map_or([0; ALLOWED_WORDS], |f| f.allowed);
        for (word, bits) in self.seccomp.allowed.iter().zip(allowed) {
            word.store(bits, Ordering::Relaxed);
        }
        let old = std::mem::replace(&mut *self.seccomp.filter.lock(), filter);
        self.seccomp.mode.store(mode as u8, Ordering::Release);
        let work = if mode == Mode::Disabled { 0 } else { syscall_work::SECCOMP };
        self.change_syscall_work(0, work);
        drop(old);
    }

    /// Restricts a task that is started from outside, and has not run yet.
    pub(in crate::kernel) fn restrict(&self, filter: Arc<Filter>) {
        self.assign(Mode::Filter, Some(filter));
    }

    /// A new task has its maker's restrictions.
    pub(in crate::kernel) fn inherit_seccomp(&self, from: &Task) {
        if from.seccomp.mode() != Mode::Disabled {
            self.assign(from.seccomp.mode(), from.seccomp.filter());
        }
        let bound = from.no_new_privs.load(Ordering::Relaxed);
        self.no_new_privs.store(bound, Ordering::Relaxed);
    }
}

/// `SECCOMP_SET_MODE_STRICT`. `EINVAL` if there are filters.
pub fn set_strict(t: &CurrentTask) -> Result<()> {
    if t.task().seccomp.mode() == Mode::Filter {
        return Err(Errno::EINVAL);
    }
    t.task().assign(Mode::Strict, None);
    Ok(())
}

/// `SECCOMP_SET_MODE_FILTER`: adds a filter. `EINVAL` in strict mode, `EBUSY` for a second listener,
/// `ENOMEM` when the filters are too long in all. With `TSYNC`, the thread (its kernel id) that has filters
/// the caller does not have.
pub fn add(
    t: &CurrentTask,
    program: Program,
    flags: FilterFlags,
    listener: Option<Arc<Listener>>,
) -> Result<Option<i32>> {
    let task = t.task();
    // Held against clone(2), so that no thread escapes.
    let signals = t.group().signals();
    if task.seccomp.mode() == Mode::Strict {
        return Err(Errno::EINVAL);
    }
    let earlier = task.seccomp.filter();
    let chain = || earlier.iter().flat_map(|f| f.chain());
    let total: usize = chain().map(|f| f.program.cost() + FILTER_COST).sum();
    if total + program.cost() + FILTER_COST > MAX_PATH {
        return Err(Errno::ENOMEM);
    }
    if listener.is_some() && chain().any(|f| f.listener.is_some()) {
        return Err(Errno::EBUSY);
    }
    let others = || signals.tasks.iter().filter(|other| !Arc::ptr_eq(other, task));
    if flags.contains(FilterFlags::TSYNC) {
        // Others must have nothing that the caller does not have.
        let fits = |other: &Arc<Task>| match other.seccomp.mode() {
            Mode::Disabled => true,
            Mode::Strict => false,
            Mode::Filter => {
                other.seccomp.filter().is_some_and(|f| chain().any(|own| std::ptr::eq(own, &*f)))
            }
        };
        if let Some(other) = others().find(|other| !fits(other)) {
            return Ok(Some(other.tid()));
        }
    }
    let filter = Filter::new(program, earlier, listener);
    task.assign(Mode::Filter, Some(filter.clone()));
    if flags.contains(FilterFlags::TSYNC) {
        for other in others() {
            other.assign(Mode::Filter, Some(filter.clone()));
            if t.creds().no_new_privs {
                other.no_new_privs.store(true, Ordering::Relaxed);
            }
        }
    }
    Ok(None)
}
