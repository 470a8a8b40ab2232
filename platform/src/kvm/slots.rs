#![expect(unsafe_code, reason = "gives memory of the sentry to the VM")]
//! Guest-physical memory: which part of the sentry's memory is where.
//!
//! Page tables and the shim lie at the bottom. The memory file follows in chunks of 1 GiB, which get
//! their place when they are first used: the file is far larger than what a CPU can address, and the
//! host's bookkeeping grows with what a VM is given. Windows on host files lie in between. Nothing is
//! ever given to the VM but these three; an address outside is no memory, and its use ends the guest
//! process.
//!
//! Lock order: `state` is innermost but for `shown`, which is taken alone.
//!
//! Host calls: `ioctl` (`KVM_SET_USER_MEMORY_REGION`).

use super::arena::Arena;
use super::window::Window;
use crate::memory_file::ranges::FreeRanges;
use crate::{MemoryFile, PlatformError, Result};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// Part of the memory file that is given to the VM at once.
const CHUNK: u64 = 1 << 30;

/// Size and alignment of what windows and chunks take of guest-physical memory, so that huge pages fit.
const GRAIN: u64 = super::tables::HUGE_SIZE;

/// Where memory begins that is not page tables: above what the host's KVM wants for itself.
const BASE: u64 = 4 << 30;

/// Most bits of a guest-physical address that every host's nested tables translate.
const MAX_BITS: u32 = 46;

/// Windows that stay though nobody uses them.
const KEPT: usize = 32;

/// The VM's memory.
pub struct Slots {
    vm: VmFd,
    memory: Arc<MemoryFile>,
    arena: Arc<Arena>,
    state: Mutex<State>,
    shown: Mutex<Shown>,
}

struct State {
    /// Guest-physical memory above [`BASE`] that is free.
    free: FreeRanges,
    /// Chunk of the memory file → guest-physical address.
    chunks: HashMap<u64, u64>,
    /// Numbers of regions that came back, and the lowest never used.
    numbers: Vec<u32>,
    next: u32,
    most: u32,
}

#[derive(Default)]
struct Shown {
    all: Vec<Weak<Window>>,
    recent: VecDeque<Arc<Window>>,
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slots")
    }
}

impl Slots {
    /// Gives the arena to the VM. `bits` is the width of the CPU's physical addresses, `most` how many
    /// regions the host allows.
    pub fn new(
        vm: VmFd,
        memory: Arc<MemoryFile>,
        arena: Arc<Arena>,
        bits: u32,
        most: u32,
    ) -> Result<Arc<Self>> {
        let size = (1u64 << bits.clamp(36, MAX_BITS)) - BASE;
        let (base, len) = arena.host_range();
        let state = State {
            free: FreeRanges::new(size),
            chunks: HashMap::new(),
            numbers: Vec::new(),
            next: 1,
            most,
        };
        let slots = Self { vm, memory, arena, state: Mutex::new(state), shown: Mutex::default() };
        slots.set(0, 0, base, len, false).map_err(failed)?;
        Ok(Arc::new(slots))
    }

    /// The VM.
    pub fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// The memory file.
    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// Page tables.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Guest-physical address of a byte of the memory file, and how many bytes follow it there.
    pub fn physical(&self, offset: u64) -> Result<(u64, u64), Errno> {
        let (chunk, at) = (offset / CHUNK, offset % CHUNK);
        let mut state = self.state.lock();
        if let Some(base) = state.chunks.get(&chunk) {
            return Ok((base + at, CHUNK - at));
        }
        let file = self.memory.mapping();
        let start = chunk * CHUNK;
        let len = CHUNK.min(file.len().checked_sub(start).ok_or(Errno::EFAULT)?);
        let host = file.address() + start;
        let (_, base) = self.add(&mut state, host, CHUNK, len, false)?;
        state.chunks.insert(chunk, base);
        Ok((base + at, CHUNK - at))
    }

    /// Gives a window to the VM; returns its region's number and address.
    pub fn add_window(&self, window: &Window) -> Result<(u32, u64), Errno> {
        let (host, len, writable) = window.host_range();
        self.add(&mut self.state.lock(), host, room(len), len, !writable)
    }

    /// Takes a window away again.
    pub fn remove_window(&self, number: u32, address: u64, len: u64) {
        let mut state = self.state.lock();
        // A region that cannot be removed keeps its number and place for ever.
        if self.set(number, address, 0, 0, false).is_ok() {
            state.numbers.push(number);
            let start = address - BASE;
            state.free.put(start..start + room(len));
        }
    }

    fn add(
        &self,
        state: &mut State,
        host: u64,
        room: u64,
        len: u64,
        read_only: bool,
    ) -> Result<(u32, u64), Errno> {
        let number = match state.numbers.pop() {
            Some(number) => number,
            None if state.next < state.most => {
                state.next += 1;
                state.next - 1
            }
            None => return Err(Errno::ENOMEM),
        };
        let Some(start) = state.free.take(room) else {
            state.numbers.push(number);
            return Err(Errno::ENOMEM);
        };
        match self.set(number, BASE + start, host, len, read_only) {
            Ok(()) => Ok((number, BASE + start)),
            Err(error) => {
                state.numbers.push(number);
                state.free.put(start..start + room);
                Err(error)
            }
        }
    }

    fn set(
        &self,
        number: u32,
        address: u64,
        host: u64,
        len: u64,
        read_only: bool,
    ) -> Result<(), Errno> {
        let region = kvm_userspace_memory_region {
            slot: number,
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: address,
            memory_size: len,
            userspace_addr: host,
        };
        // SAFETY: the memory is a mapping of shared or page-table memory that no Rust reference covers, and it
        // stays mapped for as long as the region exists: the arena and the memory file as long as the VM, a
        // window until it has removed its region.
        unsafe { self.vm.set_user_memory_region(region) }
            .map_err(|error| Errno::from_raw(error.errno()))
    }

    /// A window that shows this range of a host file. Fails as `mmap(2)` does.
    pub fn window(
        self: &Arc<Self>,
        fd: &Arc<OwnedFd>,
        range: Range<u64>,
        writable: bool,
    ) -> Result<Arc<Window>, Errno> {
        let mut dropped = Vec::new();
        let mut shown = self.shown.lock();
        for window in shown.all.iter().filter_map(Weak::upgrade) {
            if window.shows(fd, &range, writable) {
                drop(shown);
                return Ok(window);
            }
            dropped.push(window);
        }
        // A whole number of grains, so that mappings of parts share it. Only files take that.
        let whole = range.start / GRAIN * GRAIN..room(range.end);
        let window = Window::new(self, fd.clone(), whole, writable)
            .or_else(|_| Window::new(self, fd.clone(), range, writable))?;
        let window = Arc::new(window);
        shown.all.retain(|window| window.strong_count() > 0);
        shown.all.push(Arc::downgrade(&window));
        shown.recent.push_back(window.clone());
        if shown.recent.len() > KEPT {
            dropped.extend(shown.recent.pop_front());
        }
        // Their ends take other locks.
        drop(shown);
        drop(dropped);
        Ok(window)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // Windows that are kept remove their regions by way of a weak reference, which is dead now; the
        // VM goes with us.
        self.shown.get_mut().recent.clear();
    }
}

fn room(len: u64) -> u64 {
    len.saturating_add(GRAIN - 1) / GRAIN * GRAIN
}

fn failed(error: Errno) -> PlatformError {
    PlatformError::host("give memory to the virtual machine (KVM_SET_USER_MEMORY_REGION)", error)
}
