#![expect(unsafe_code, reason = "requests of KVM that the library lacks, and its FP state")]
//! One virtual CPU: how it is set up, how it is made to run and to stop.
//!
//! Between two runs it sits at the shim's `hlt`; all registers but the FP state are in its area. What
//! the host's kernel keeps of it is the same for ever, so a run costs one host call.
//!
//! Host calls: `ioctl` (`KVM_RUN` and what sets a vCPU up), `rt_sigtimedwait`, `tgkill`.

use super::arena::{Arena, Page};
use super::shim::{self, Place, area, selector};
use crate::host::{Errno, thread};
use crate::registers::{EFLAGS_TRAP, USER_CS, USER_SS};
use crate::stub::interrupt::{SIGNAL, tgkill};
use crate::{PlatformError, Registers, Result, XState};
use kvm_bindings::{
    CpuId, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVM_VCPUEVENT_VALID_SHADOW, Msrs,
    kvm_device_attr, kvm_dtable, kvm_msr_entry, kvm_pre_fault_memory, kvm_regs, kvm_segment,
    kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use parking_lot::{Condvar, Mutex};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// `_IOW(KVMIO, 0x86, struct kvm_interrupt)`.
pub const KVM_INTERRUPT: u64 = 0x4004_ae86;
/// `_IOW(KVMIO, 0xe1, struct kvm_device_attr)`.
pub const KVM_SET_DEVICE_ATTR: u64 = 0x4018_aee1;
/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`.
pub const KVM_SET_SIGNAL_MASK: u64 = 0x4004_ae8b;

/// `_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)`.
pub const KVM_PRE_FAULT_MEMORY: u64 = 0xc040_aed5;

/// Bits of CR0: protection, FPU present and reporting its errors, write protection, alignment checks, paging.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
/// Bits of CR4 that every CPU of ours has: PAE, global pages, SSE, FSGSBASE, XSAVE.
const CR4: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18;
/// Bits of EFER: SYSCALL, long mode enabled and active, no-execute.
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SYSCALL_MASK: u32 = 0xc000_0084;
/// Flags that SYSCALL clears: all that user code can set but the result flags.
const SYSCALL_MASK: u64 = 0x0004_7700;

/// Failures in a row after which a run is given up.
const MAX_FAILURES: u32 = 16;

/// What others may know of a vCPU.
#[derive(Debug, Default)]
pub struct Presence {
    /// Guest code runs, or is about to.
    in_guest: AtomicBool,
    /// The address space it runs in.
    space: AtomicU64,
    /// The host thread that runs it.
    tid: AtomicI32,
    /// Counts stops.
    stops: AtomicU32,
    waiters: AtomicU32,
    lock: Mutex<()>,
    stopped: Condvar,
}

impl Presence {
    /// Announces that guest code of an address space is about to run. Flushes asked for before this are
    /// the caller's to see; later ones stop it.
    fn enter(&self, space: u64, tid: i32) {
        self.tid.store(tid, Ordering::Relaxed);
        self.space.store(space, Ordering::Relaxed);
        self.in_guest.store(true, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
        self.in_guest.store(false, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) != 0 {
            let _lock = self.lock.lock();
            self.stopped.notify_all();
        }
    }

    /// Whether guest code of the address space (or any) may run.
    pub fn runs(&self, space: Option<u64>) -> bool {
        self.in_guest.load(Ordering::SeqCst)
            && space.is_none_or(|space| self.space.load(Ordering::SeqCst) == space)
    }

    /// Makes it stop soon.
    pub fn kick(&self) {
        tgkill(std::process::id() as i32, self.tid.load(Ordering::Relaxed), SIGNAL);
    }

    /// Makes it stop, if it runs guest code of the address space, and waits until it has.
    pub fn stop(&self, space: u64) {
        let stops = self.stops.load(Ordering::SeqCst);
        if !self.runs(Some(space)) {
            return;
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.lock.lock();
        self.kick();
        while self.runs(Some(space)) && self.stops.load(Ordering::SeqCst) == stops {
            self.stopped.wait(&mut lock);
        }
        drop(lock);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What all vCPUs are made from.
#[derive(Debug)]
pub struct Model {
    /// What programs see of the CPU.
    pub cpuid: CpuId,
    /// Bits of CR4 besides the usual ones.
    pub cr4: u64,
    /// Components of the extended state.
    pub xcr0: u64,
    /// Page tables with nothing but the kernel half.
    pub kernel: Page,
}

/// A vCPU, exclusively its holder's.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    arena: Arc<Arena>,
    area: Page,
    place: Place,
    presence: Arc<Presence>,
    /// Address space and generation of its mappings that are loaded.
    loaded: (u64, u64),
    /// Selectors DS, ES, FS, GS and the bases as the vCPU has them; `None` when unknown.
    segments: Option<[u64; 6]>,
    /// The last stop was a SYSCALL, so SYSRET finds the stack segment as it needs it.
    by_syscall: bool,
    /// Interrupts are to be reported when they become possible.
    window: bool,
}

/// Why [`Vcpu::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// A vector or one of [`shim::kind`].
    pub kind: u64,
    /// The host had no page for an address that the guest used.
    pub no_memory: bool,
}

fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> PlatformError {
    move |error| PlatformError::host(what, Errno::from_raw(error.errno()))
}

impl Vcpu {
    /// Sets a new vCPU up, whose pages of the kernel half are mapped.
    pub fn new(
        fd: VcpuFd,
        model: &Model,
        arena: Arc<Arena>,
        area: Page,
        place: Place,
    ) -> Result<Self> {
        fd.set_cpuid2(&model.cpuid).map_err(failed("set up a vCPU (KVM_SET_CPUID2)"))?;
        set_segments(&fd, model, place)?;
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
        if let Some(xcr) = xcrs.xcrs.first_mut() {
            xcr.value = model.xcr0;
        }
        fd.set_xcrs(&xcrs).map_err(failed("set up a vCPU (KVM_SET_XCRS)"))?;
        let star =
            u64::from(selector::USER_CODE32 | 3) << 48 | u64::from(selector::KERNEL_CODE) << 32;
        let msrs = [
            (MSR_STAR, star),
            (MSR_LSTAR, place.syscall()),
            (MSR_CSTAR, place.syscall32()),
            (MSR_SYSCALL_MASK, SYSCALL_MASK),
        ]
        .map(|(index, data)| kvm_msr_entry { index, data, ..kvm_msr_entry::default() });
        let what = "set up a vCPU (KVM_SET_MSRS)";
        let list =
            Msrs::from_entries(&msrs).map_err(|_| PlatformError::host(what, Errno::E2BIG))?;
        if fd.set_msrs(&list).map_err(failed(what))? != msrs.len() {
            return Err(PlatformError::host(what, Errno::EINVAL));
        }
        // The guest's time stamps are the host's: our clocks are computed from them.
        let offset = 0u64;
        let attribute = kvm_device_attr {
            group: KVM_VCPU_TSC_CTRL,
            attr: KVM_VCPU_TSC_OFFSET.into(),
            addr: &raw const offset as u64,
            flags: 0,
        };
        // SAFETY: the request reads the structure and the number it points to, which both are there.
        let result =
            unsafe { libc::ioctl(fd.as_raw_fd(), KVM_SET_DEVICE_ATTR, &raw const attribute) };
        Errno::result(result).map_err(|error| {
            PlatformError::host("set up a vCPU (KVM_VCPU_TSC_OFFSET, since Linux 5.16)", error)
        })?;
        set_start(&fd, place)?;
        set_signal_mask(&fd)?;
        Ok(Self {
            fd,
            arena,
            area,
            place,
            presence: Arc::default(),
            loaded: (0, 0),
            segments: None,
            by_syscall: false,
            window: false,
        })
    }

    /// What others may know of it.
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    fn load(&self, offset: u64) -> u64 {
        self.arena.load(self.area, offset)
    }

    fn store(&self, offset: u64, value: u64) {
        self.arena.store(self.area, offset, value);
    }

    /// Writes the registers to go on with. They have been checked: selectors and bases are ones that a
    /// program could have, the addresses are canonical.
    pub fn set_registers(&mut self, regs: &Registers) {
        let trap = if regs.single_step { EFLAGS_TRAP } else { 0 };
        let flags = regs.eflags | trap;
        for (index, value) in general(regs).into_iter().enumerate() {
            self.store(area::BLOCK + 8 * index as u64, value);
        }
        let frame = [regs.rip, regs.cs, flags, regs.rsp, regs.ss];
        for (index, value) in frame.into_iter().enumerate() {
            self.store(area::RIP + 8 * index as u64, value);
        }
        let segments = [regs.ds, regs.es, regs.fs, regs.gs, regs.fs_base, regs.gs_base];
        let mut todo = 0;
        if self.segments != Some(segments) {
            let known = self.segments.and_then(|known| known.first_chunk::<4>().copied());
            if known != segments.first_chunk::<4>().copied() {
                todo |= area::LOAD_SELECTORS;
                for (index, value) in segments.into_iter().take(4).enumerate() {
                    self.store(area::SELECTORS + 8 * index as u64, value);
                }
            }
            todo |= area::LOAD_BASES;
            self.store(area::FS_BASE, regs.fs_base);
            self.store(area::GS_BASE, regs.gs_base);
            self.segments = Some(segments);
        }
        let plain = regs.cs == USER_CS && regs.rcx == regs.rip && regs.r11 == flags;
        if self.by_syscall && plain && flags & (EFLAGS_TRAP | 1 << 16) == 0 {
            todo |= area::SYSRET;
        }
        self.store(area::FLAGS, todo);
    }

    /// The registers as they were when guest code stopped.
    pub fn registers(&mut self, kind: u64, regs: &mut Registers) {
        let mut block = [0; 15];
        for (index, value) in block.iter_mut().enumerate() {
            *value = self.load(area::BLOCK + 8 * index as u64);
        }
        let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi] = block;
        let word = |index: u64| self.load(area::RIP + 8 * index);
        let selectors = |index: u64| self.load(area::SELECTORS + 8 * index) & 0xffff;
        let syscall = kind == shim::kind::SYSCALL || kind == shim::kind::SYSCALL32;
        *regs = Registers {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax: u64::MAX,
            rip: word(0),
            cs: word(1),
            eflags: word(2),
            rsp: word(3),
            ss: if syscall { USER_SS } else { word(4) },
            fs_base: self.load(area::FS_BASE),
            gs_base: self.load(area::GS_BASE),
            ds: selectors(0),
            es: selectors(1),
            fs: selectors(2),
            gs: selectors(3),
            single_step: regs.single_step,
        };
        self.segments = Some([regs.ds, regs.es, regs.fs, regs.gs, regs.fs_base, regs.gs_base]);
    }

    /// Address and error code of the page fault that stopped it; the error code of other exceptions.
    pub fn fault(&self) -> (u64, u64) {
        (self.load(area::CR2), self.load(area::ERROR))
    }

    /// Where ring 0 faulted.
    pub fn ring0_rip(&self) -> u64 {
        self.load(area::RING0_RIP)
    }

    /// What the shim answers system calls with: an address of the kernel half, see [`super::boards`].
    pub fn set_board(&self, address: u64) {
        self.store(area::BOARD, address);
    }

    /// Lets guest code go on as it was; for after a page fault that has been repaired.
    pub fn keep_registers(&mut self) {
        self.store(area::FLAGS, 0);
    }

    /// Runs guest code in an address space until the shim stops.
    ///
    /// `generation` is read once the vCPU can be seen to be in that address space: what is flushed
    /// later waits for it.
    pub fn run(
        &mut self,
        space: u64,
        root: Page,
        generation: &AtomicU64,
        tid: i32,
    ) -> Result<Stop> {
        self.presence.enter(space, tid);
        let now = (space, generation.load(Ordering::SeqCst));
        if self.loaded != now {
            self.loaded = now;
            self.store(area::CR3, root.address());
            self.store(area::FLAGS, self.load(area::FLAGS) | area::LOAD_CR3);
        }
        let result = self.run_to_stop();
        self.presence.leave();
        let stop = result?;
        self.by_syscall = stop.kind == shim::kind::SYSCALL;
        Ok(stop)
    }

    fn run_to_stop(&mut self) -> Result<Stop> {
        let (mut no_memory, mut failures) = (false, 0);
        loop {
            let failure = match self.fd.run() {
                Ok(VcpuExit::Hlt) => {
                    self.request_window(false);
                    return Ok(Stop { kind: self.load(area::KIND), no_memory });
                }
                Ok(VcpuExit::IrqWindowOpen | VcpuExit::Intr) => {
                    self.inject()?;
                    continue;
                }
                Ok(other) => format!("{other:?}"),
                Err(error) => match Errno::from_raw(error.errno()) {
                    Errno::EINTR => {
                        let _ = thread::wait_signal(&[SIGNAL], Some(0));
                        self.inject()?;
                        continue;
                    }
                    Errno::EAGAIN => continue,
                    Errno::EFAULT if failures < MAX_FAILURES => {
                        // No page for what guest code used. The interrupt takes it to the shim.
                        (no_memory, failures) = (true, failures + 1);
                        if !self.fix_up()? {
                            self.inject()?;
                        }
                        continue;
                    }
                    other => other.to_string(),
                },
            };
            let regs = self.fd.get_regs().unwrap_or_default();
            tracing::error!(
                "a vCPU failed with {failure} at {:#x}, stack {:#x}; its guest process ends",
                regs.rip,
                regs.rsp
            );
            return Err(PlatformError::StubDied);
        }
    }

    /// Ring 0, which no interrupt takes to the `hlt`, goes on without the memory of a program that it has tried to access and
    /// that the host does not have. False if guest code has tried it.
    fn fix_up(&self) -> Result<bool> {
        let what = "read where a vCPU has stopped (KVM_GET_REGS)";
        let mut regs = self.fd.get_regs().map_err(failed(what))?;
        let Some(next) = self.place.fix_up(regs.rip) else { return Ok(false) };
        regs.rip = next;
        self.fd.set_regs(&regs).map_err(failed("move a vCPU on (KVM_SET_REGS)"))?;
        Ok(true)
    }

    /// Address of the record of a pipe that it has locked, after it has failed there.
    pub fn locked(&self) -> Option<u64> {
        let regs = self.fd.get_regs().ok()?;
        self.place.is_writing(regs.rip).then_some(regs.rbx)
    }

    /// Makes it start over, after it has failed.
    pub fn restart(&mut self, model: &Model) -> Result<()> {
        set_segments(&self.fd, model, self.place)?;
        set_start(&self.fd, self.place)?;
        (self.loaded, self.segments, self.by_syscall) = ((0, 0), None, false);
        Ok(())
    }

    fn request_window(&mut self, wanted: bool) {
        if self.window != wanted {
            self.window = wanted;
            self.fd.get_kvm_run().request_interrupt_window = wanted.into();
        }
    }

    /// Makes the shim stop guest code before its next instruction.
    fn inject(&mut self) -> Result<()> {
        let run = self.fd.get_kvm_run();
        let (mut ready, flag) = (run.ready_for_interrupt_injection != 0, run.if_flag != 0);
        if !ready && flag {
            // Ring 3, behind an instruction that holds interrupts off for another one. That one must
            // not run: it could use what has just been unmapped.
            let what = "stop a vCPU (KVM_SET_VCPU_EVENTS)";
            let mut events = self.fd.get_vcpu_events().map_err(failed(what))?;
            if events.interrupt.shadow != 0 && events.exception.injected == 0 {
                events.interrupt.shadow = 0;
                events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
                self.fd.set_vcpu_events(&events).map_err(failed(what))?;
                ready = events.interrupt.injected == 0;
            }
        }
        if !ready {
            // Ring 0: the shim stops by itself, or returns to ring 3, where the window opens.
            self.request_window(true);
            return Ok(());
        }
        self.request_window(false);
        let vector = u32::from(shim::INTERRUPT);
        // SAFETY: the request reads a `struct kvm_interrupt`, which is this number.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_INTERRUPT, &raw const vector) };
        match Errno::result(result) {
            Ok(_) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(PlatformError::host("stop a vCPU (KVM_INTERRUPT)", error)),
        }
    }

    /// Has the host map what it has of guest-physical memory, as if guest code had read it. A hint: what is not mapped is
    /// mapped when it is used.
    pub fn pre_fault(&self, address: u64, len: u64) {
        let mut range =
            kvm_pre_fault_memory { gpa: address, size: len, ..kvm_pre_fault_memory::default() };
        while range.size != 0 {
            let before = range.size;
            // SAFETY: the request reads and writes the structure; the VM's memory is used as by guest code.
            let result =
                unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_PRE_FAULT_MEMORY, &raw mut range) };
            if result != 0 || range.size >= before {
                break;
            }
        }
    }

    /// The FP state.
    pub fn xstate(&self) -> Result<XState> {
        let area = self.fd.get_xsave().map_err(failed("read the FP state (KVM_GET_XSAVE)"))?;
        let mut state = XState { bytes: vec![0; XState::size()].into_boxed_slice() };
        let words = area.region.iter().flat_map(|word| word.to_le_bytes());
        state.bytes.iter_mut().zip(words).for_each(|(to, from)| *to = from);
        Ok(state)
    }

    /// Replaces the FP state. `EINVAL` for contents that the CPU would not load.
    pub fn set_xstate(&self, state: &XState) -> Result<()> {
        let mut area = kvm_xsave::default();
        for (to, from) in area.region.iter_mut().zip(state.bytes.chunks_exact(4)) {
            *to = from.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        }
        // SAFETY: the extended state is no larger than 4 KiB, as the platform has checked when it was set up,
        // so that the host reads nothing beyond the structure.
        let result = unsafe { self.fd.set_xsave(&area) };
        result.map_err(|_| PlatformError::host("set the FP state", Errno::EINVAL))
    }
}

fn general(regs: &Registers) -> [u64; 15] {
    [
        regs.r15, regs.r14, regs.r13, regs.r12, regs.rbp, regs.rbx, regs.r11, regs.r10, regs.r9,
        regs.r8, regs.rax, regs.rcx, regs.rdx, regs.rsi, regs.rdi,
    ]
}

fn set_start(fd: &VcpuFd, place: Place) -> Result<()> {
    let start = kvm_regs { rip: place.resume(), rflags: 2, ..kvm_regs::default() };
    fd.set_regs(&start).map_err(failed("set up a vCPU (KVM_SET_REGS)"))
}

fn set_segments(fd: &VcpuFd, model: &Model, place: Place) -> Result<()> {
    let what = "set up a vCPU (KVM_SET_SREGS)";
    let mut sregs = fd.get_sregs().map_err(failed(what))?;
    let code = kvm_segment {
        limit: u32::MAX,
        selector: selector::KERNEL_CODE,
        type_: 11,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let data = kvm_segment { selector: selector::KERNEL_DATA, type_: 3, db: 1, l: 0, ..code };
    (sregs.cs, sregs.ss) = (code, data);
    let none = kvm_segment { unusable: 1, ..kvm_segment::default() };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ldt) = (none, none, none, none, none);
    sregs.tr = kvm_segment {
        base: place.area() + area::TSS,
        limit: area::TSS_LEN as u32 - 1,
        selector: selector::TASK,
        type_: 11,
        present: 1,
        ..kvm_segment::default()
    };
    let table = |base, limit| kvm_dtable { base, limit, ..kvm_dtable::default() };
    sregs.gdt = table(place.area() + area::GDT, area::GDT_LEN as u16 - 1);
    sregs.idt = table(place.idt(), 0xfff);
    (sregs.cr0, sregs.cr4, sregs.efer) = (CR0, CR4 | model.cr4, EFER);
    sregs.cr3 = model.kernel.address();
    fd.set_sregs(&sregs).map_err(failed(what))
}

/// Lets nothing but our signal end a run; it is blocked otherwise.
fn set_signal_mask(fd: &VcpuFd) -> Result<()> {
    #[repr(C)]
    struct Mask {
        len: u32,
        set: [u8; 8],
    }
    let open = thread::SYNCHRONOUS.into_iter().chain([SIGNAL]);
    let set = open.fold(u64::MAX, |set, signal| set & !(1 << (signal - 1)));
    let mask = Mask { len: 8, set: set.to_le_bytes() };
    // SAFETY: the request reads a `struct kvm_signal_mask` with a set of the length it says.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const mask) };
    Errno::result(result)
        .map(drop)
        .map_err(|error| PlatformError::host("set up a vCPU (KVM_SET_SIGNAL_MASK)", error))
}
