//! The virtual machine: all guest processes of a sandbox run in one.
//!
//! Its vCPUs are made when they are needed, as many as threads run guest code at a time, and then
//! belong to nobody: a thread keeps one until it blocks. What a vCPU still holds of the thread that
//! used it last is that thread's FP state ([`Home`]), which is fetched when another takes it.
//!
//! Lock order: that of a [`Pool`], `most`, `vcpus`, `mapping`; `free`, then a [`Home`]'s state.
//!
//! Host calls: `ioctl`.

use super::arena::{Arena, Page};
use super::pipes::Pipe;
use super::pool::Pool;
use super::shim::{self, Place};
use super::slots::Slots;
use super::tables::bit;
use super::vcpu::{Model, Presence, Vcpu};
use super::{boards, cpuid, descriptors, masks, pipes, positions};
use crate::cpu::xsave_layout;
use crate::host::Errno;
use crate::{MemoryFile, PlatformError, Result, XState};
use kvm_bindings::{
    CpuId, KVM_CAP_DISABLE_QUIRKS, KVM_CAP_PRE_FAULT_MEMORY, KVM_MAX_CPUID_ENTRIES, kvm_enable_cap,
};
use kvm_ioctls::Kvm;
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Most memory for page tables, in bytes.
const ARENA: u64 = 1 << 30;

/// Most vCPUs, if the host allows that many.
const MOST_VCPUS: u32 = 512;

/// What a vCPU's holder may use it for while others wait, unless it blocks before.
const TURN: Duration = Duration::from_millis(10);

/// Where the host's KVM keeps what it needs to emulate real mode (Intel); below [`super::slots`]' part.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP: u64 = 0xfffb_c000;

/// `KVM_X86_QUIRK_FIX_HYPERCALL_INSN`: rewriting of the other vendor's hypercall instruction.
const FIX_HYPERCALL: u64 = 1 << 5;

/// Where the FP state of a context is: here, or (`None`) in the vCPU that ran it last.
#[derive(Debug)]
pub struct Home {
    state: Mutex<Option<XState>>,
}

impl Home {
    /// Of a context that starts with a state.
    pub fn new(state: XState) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(Some(state)) })
    }

    /// Replaces the state.
    pub fn set(&self, state: XState) {
        *self.state.lock() = Some(state);
    }

    /// The state, if it is here.
    pub fn get(&self) -> Option<XState> {
        self.state.lock().clone()
    }

    fn take(&self) -> Option<XState> {
        self.state.lock().take()
    }
}

/// A vCPU and whose FP state it has.
#[derive(Debug)]
pub struct Lent {
    /// The vCPU.
    pub vcpu: Vcpu,
    owner: Option<Arc<Home>>,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    slots: Arc<Slots>,
    model: Model,
    /// The shim's code.
    code: Page,
    free: Mutex<Vec<Lent>>,
    freed: Condvar,
    /// Threads that wait for a vCPU.
    waiting: AtomicU32,
    /// Held while one is made: how many there may be.
    most: Mutex<u32>,
    vcpus: RwLock<Vec<Arc<Presence>>>,
    next_space: AtomicU64,
    boards: Pool,
    masks: Pool,
    descriptors: Pool,
    positions: Pool,
    pipes: Pool,
    rings: Pool,
    waiters: Page,
    /// Held while pages of the kernel half are mapped.
    mapping: Mutex<()>,
    pre_faults: bool,
    /// Runs of vCPUs so far.
    pub runs: AtomicU64,
}

fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> PlatformError {
    move |error| PlatformError::host(what, Errno::from_raw(error.errno()))
}

impl Machine {
    /// Makes a virtual machine without vCPUs.
    pub fn new(kvm: &Kvm, memory: Arc<MemoryFile>) -> Result<Arc<Self>> {
        let unsupported = |why: &str| Err(PlatformError::Unsupported(why.to_owned()));
        if kvm.get_api_version() != 12 {
            return unsupported("/dev/kvm does not speak version 12 of its interface");
        }
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("read what KVM supports (KVM_GET_SUPPORTED_CPUID)"))?;
        let layout = xsave_layout();
        let xcr0 = layout.features;
        if cpuid::xcr0(&supported) & xcr0 != xcr0 {
            return unsupported("KVM does not keep all FP state that programs of the host may use");
        }
        if layout.size > size_of::<[u32; 1024]>() {
            return unsupported("the FP state is larger than KVM_GET_XSAVE transfers");
        }
        let entries = cpuid::masked(&supported, xcr0);
        if !cpuid::has_fsgsbase(&entries) {
            return unsupported("KVM does not support FSGSBASE");
        }
        let vm = kvm.create_vm().map_err(failed("make a virtual machine (KVM_CREATE_VM)"))?;
        // Needed on some Intel hosts, refused nowhere that matters.
        let _ = vm.set_identity_map_address(IDENTITY_MAP);
        let _ = vm.set_tss_address(TSS_ADDRESS);
        let mut quirks = kvm_enable_cap { cap: KVM_CAP_DISABLE_QUIRKS, ..Default::default() };
        if let Some(first) = quirks.args.first_mut() {
            *first = FIX_HYPERCALL;
        }
        let _ = vm.enable_cap(&quirks);
        let pre_faults = vm.check_extension_raw(KVM_CAP_PRE_FAULT_MEMORY.into()) > 0;
        let arena = Arc::new(Arena::new(ARENA)?);
        let kernel = arena.allocate_root().ok_or_else(exhausted)?;
        // One table below the root for the whole kernel half, so that later roots need but its entry.
        let below = arena.allocate().ok_or_else(exhausted)?;
        arena.store(kernel, 256 * 8, below.address() | TABLE);
        let code = shim::code_page(&arena).ok_or_else(exhausted)?;
        let waiters = arena.allocate().ok_or_else(exhausted)?;
        let most = u32::try_from(kvm.get_max_vcpus()).unwrap_or(1).min(MOST_VCPUS);
        let regions = u32::try_from(kvm.get_nr_memslots()).unwrap_or(0);
        let cpuid = CpuId::from_entries(&entries)
            .map_err(|_| PlatformError::host("reduce the CPU's features", Errno::E2BIG))?;
        let model = Model { cr4: cpuid::cr4(&entries), cpuid, xcr0, kernel };
        let bits = cpuid::physical_bits(&supported);
        let machine = Self {
            slots: Slots::new(vm, memory, arena, bits, regions)?,
            model,
            code,
            free: Mutex::default(),
            freed: Condvar::new(),
            waiting: AtomicU32::new(0),
            most: Mutex::new(most),
            vcpus: RwLock::default(),
            next_space: AtomicU64::new(1),
            boards: boards::pool(),
            masks: masks::pool(),
            descriptors: descriptors::pool(),
            positions: positions::pool(),
            pipes: pipes::pool(),
            rings: pipes::rings(),
            mapping: Mutex::new(()),
            pre_faults,
            waiters,
            runs: AtomicU64::new(0),
        };
        machine.map_kernel(shim::WAITERS_BASE, waiters, bit::NO_EXECUTE)?;
        Ok(Arc::new(machine))
    }

    /// Guest-physical memory.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// The page tables that have the kernel half only.
    pub fn kernel_tables(&self) -> Page {
        self.model.kernel
    }

    /// Whether the host maps memory before it is used ([`Vcpu::pre_fault`]).
    pub fn pre_faults(&self) -> bool {
        self.pre_faults
    }

    /// Where threads' answers are.
    pub fn boards(&self) -> &Pool {
        &self.boards
    }

    /// The page with counters of who waits at futexes.
    pub fn waiters_page(&self) -> Page {
        self.waiters
    }

    /// Where threads' signal masks are.
    pub fn masks(&self) -> &Pool {
        &self.masks
    }

    /// Where the words of descriptors are.
    pub fn descriptors(&self) -> &Pool {
        &self.descriptors
    }

    /// Where positions of open files are.
    pub fn positions(&self) -> &Pool {
        &self.positions
    }

    /// Where the records of pipes are.
    pub fn pipes(&self) -> &Pool {
        &self.pipes
    }

    /// Where bytes in pipes are.
    pub fn rings(&self) -> &Pool {
        &self.rings
    }

    /// Maps a new page of zeroes in the kernel half, with these rights for ring 0.
    pub fn map_new_page(&self, address: u64, rights: u64) -> Result<Page> {
        let page = self.slots.arena().allocate().ok_or_else(exhausted)?;
        self.map_kernel(address, page, rights)?;
        Ok(page)
    }

    /// A number for an address space that no other has or had.
    pub fn next_space(&self) -> u64 {
        self.next_space.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes every vCPU that runs in an address space stop there, and waits until they have. What was
    /// cached of its mappings is flushed before they go on.
    pub fn flush(&self, space: u64) {
        for presence in self.vcpus.read().iter() {
            presence.stop(space);
        }
    }

    /// A vCPU with this FP state in it. Waits when there are no more to be had.
    pub fn acquire(&self, home: &Arc<Home>) -> Result<Lent> {
        let mut lent = loop {
            if let Some(lent) = self.take(home)? {
                break lent;
            }
            match self.make()? {
                Some(vcpu) => break Lent { vcpu, owner: None },
                None => self.wait(),
            }
        };
        let mine = lent.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, home));
        match home.take() {
            Some(state) => lent.vcpu.set_xstate(&state)?,
            None if mine => {}
            // Cannot be: whoever took the vCPU that had it has put it home.
            None => lent.vcpu.set_xstate(&XState::initial())?,
        }
        lent.owner = Some(home.clone());
        Ok(lent)
    }

    /// Takes a free vCPU, best the one that has the FP state, and puts what another one has home.
    fn take(&self, home: &Arc<Home>) -> Result<Option<Lent>> {
        let mut free = self.free.lock();
        let mine = |lent: &Lent| lent.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, home));
        let unowned = |lent: &Lent| lent.owner.is_none();
        let found = free.iter().rposition(mine).or_else(|| free.iter().rposition(unowned));
        let Some(index) = found.or_else(|| free.len().checked_sub(1)) else { return Ok(None) };
        let mut lent = free.swap_remove(index);
        if !mine(&lent)
            && let Some(owner) = lent.owner.take()
        {
            // Whoever looks for its state holds the lock of the list first.
            let mut state = owner.state.lock();
            if state.is_none() && Arc::strong_count(&owner) > 1 {
                *state = Some(lent.vcpu.xstate()?);
            }
        }
        Ok(Some(lent))
    }

    /// Waits until a vCPU may have become free; asks for one now and then.
    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut free = self.free.lock();
        if free.is_empty() && self.freed.wait_for(&mut free, TURN).timed_out() {
            drop(free);
            self.vcpus.read().iter().filter(|vcpu| vcpu.runs(None)).for_each(|vcpu| vcpu.kick());
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a thread waits for a vCPU, so that who has one shall give it back.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Gives a vCPU back. `forget` the FP state when nobody is to use it again.
    pub fn release(&self, mut lent: Lent, forget: bool) {
        if forget {
            lent.owner = None;
        }
        self.free.lock().push(lent);
        if self.is_wanted() {
            self.freed.notify_one();
        }
    }

    /// Takes a vCPU back that has failed. It starts over with whom it is given to next, or is never used again.
    pub fn failed(&self, mut lent: Lent) {
        if let Some(record) = lent.vcpu.locked() {
            Pipe::abandon(self, record);
        }
        match lent.vcpu.restart(&self.model) {
            Ok(()) => self.release(lent, true),
            Err(error) => tracing::error!("a vCPU is lost: {error}"),
        }
    }

    /// Makes another vCPU; `None` when there may be no more.
    fn make(&self) -> Result<Option<Vcpu>> {
        let mut most = self.most.lock();
        let index = u32::try_from(self.vcpus.read().len()).unwrap_or(u32::MAX);
        if index >= *most {
            return Ok(None);
        }
        match self.make_number(index) {
            Ok(vcpu) => Ok(Some(vcpu)),
            Err(error) if index == 0 => Err(error),
            Err(error) => {
                tracing::warn!("going on with {index} vCPUs: {error}");
                *most = index;
                Ok(None)
            }
        }
    }

    fn make_number(&self, index: u32) -> Result<Vcpu> {
        let arena = self.slots.arena();
        let page = || arena.allocate().ok_or_else(exhausted);
        let (area, idt, copies, place) = (page()?, page()?, page()?, Place::new(index));
        shim::write_area(arena, area, place);
        shim::write_idt(arena, idt, place);
        self.map_kernel(place.code(), self.code, 0)?;
        self.map_kernel(place.area(), area, bit::WRITE | bit::NO_EXECUTE)?;
        self.map_kernel(place.idt(), idt, bit::NO_EXECUTE)?;
        self.map_kernel(place.copies(), copies, bit::WRITE | bit::NO_EXECUTE)?;
        let fd = self
            .slots
            .vm()
            .create_vcpu(u64::from(index))
            .map_err(failed("make a vCPU (KVM_CREATE_VCPU)"))?;
        let vcpu = Vcpu::new(fd, &self.model, arena.clone(), area, place)?;
        self.vcpus.write().push(vcpu.presence().clone());
        Ok(vcpu)
    }

    /// Maps a page in the kernel half of every address space, for ring 0 only.
    pub fn map_kernel(&self, address: u64, page: Page, rights: u64) -> Result<()> {
        let _mapping = self.mapping.lock();
        let arena = self.slots.arena();
        let mut table = self.model.kernel;
        for shift in [39, 30, 21] {
            let slot = (address >> shift & 511) * 8;
            let entry = arena.load(table, slot);
            table = if entry & bit::PRESENT != 0 {
                Page::at(entry & bit::ADDRESS)
            } else {
                let below = arena.allocate().ok_or_else(exhausted)?;
                arena.store(table, slot, below.address() | TABLE);
                below
            };
        }
        let bits = bit::PRESENT | bit::ACCESSED_DIRTY | bit::GLOBAL | rights;
        arena.store(table, (address >> 12 & 511) * 8, page.address() | bits);
        Ok(())
    }
}

/// An entry for a table of the kernel half.
const TABLE: u64 = bit::PRESENT | bit::WRITE | bit::ACCESSED_DIRTY;

fn exhausted() -> PlatformError {
    PlatformError::host("allocate page tables", Errno::ENOMEM)
}
