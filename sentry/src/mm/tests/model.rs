//! Random operations in several processes, compared with a list of pages each.

use super::fake::{Machine, Random};
use super::{P, RW};
use crate::mm::protect::Grows;
use crate::mm::{Advice, Backing, MapFlags, MapRequest, RemapFlags, SharedMemory, UserAddr};
use platform::Prot;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

const BASE: u64 = 0x10_0000_0000;
const N: u64 = 96;

#[derive(Clone)]
struct Page {
    prot: Prot,
    shared: bool,
    value: Rc<Cell<u8>>,
}

struct Process {
    machine: Machine,
    pages: Vec<Option<Page>>,
}

impl Process {
    fn fork(&mut self) -> Process {
        let copy = |page: &Page| match page.shared {
            true => page.clone(),
            false => Page { value: Rc::new(Cell::new(page.value.get())), ..page.clone() },
        };
        let pages = self.pages.iter().map(|p| p.as_ref().map(copy)).collect();
        Process { machine: self.machine.fork(), pages }
    }

    fn step(&mut self, random: &mut Random) {
        let start = random.below(N);
        let len = 1 + random.below((N - start).min(24));
        let (from, to) = (start as usize, (start + len) as usize);
        let addr = UserAddr(BASE + start * P);
        let prot = [RW, RW, Prot::READ, Prot::empty()][random.below(4) as usize];
        match random.below(16) {
            0 | 1 => {
                let shared = random.below(3) == 0;
                let mut request = MapRequest::anonymous(addr.0, len * P, prot, MapFlags::FIXED);
                if shared {
                    let memory = SharedMemory::new(self.machine.mm.memory_file(), len * P).unwrap();
                    request.shared = true;
                    request.backing =
                        Some(Backing { mappable: Arc::new(memory), file: None, offset: 0 });
                }
                self.machine.mm.mmap(request).unwrap();
                for page in &mut self.pages[from..to] {
                    *page = Some(Page { prot, shared, value: Rc::default() });
                }
            }
            2 => {
                self.machine.mm.munmap(addr, len * P).unwrap();
                self.pages[from..to].fill(None);
            }
            3 | 4 => {
                let covered = self.pages[from..to].iter().all(Option::is_some);
                let result = self.machine.mm.mprotect(addr, len * P, prot, Grows::No);
                assert_eq!(result.is_ok(), covered);
                for page in self.pages[from..to].iter_mut().map_while(|p| p.as_mut()) {
                    page.prot = prot;
                }
            }
            5 => {
                let _ = self.machine.mm.madvise(addr, len * P, Advice::DontNeed { locked: false });
                for page in self.pages[from..to].iter_mut().flatten().filter(|p| !p.shared) {
                    page.value = Rc::default();
                }
            }
            6 => self.remap(random, start, len),
            7..=10 => {
                for page in start..start + len {
                    self.store(page, random.below(256) as u8, false);
                }
            }
            11 | 12 => self.store(start, random.below(256) as u8, true),
            _ => self.store(start, random.below(256) as u8, false),
        }
    }

    /// Moves a stretch of like pages to where nothing is.
    fn remap(&mut self, random: &mut Random, start: u64, len: u64) {
        let to = random.below(N - len);
        let alike = |a: &Page, b: &Page| a.prot == b.prot && a.shared == b.shared;
        let Some(Some(first)) = self.pages.get(start as usize).cloned() else { return };
        let range = start as usize..(start + len) as usize;
        let ok = self.pages[range.clone()].iter().flatten().filter(|p| alike(p, &first)).count();
        if ok as u64 != len || first.shared || to < start + len && start < to + len {
            return;
        }
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let (old, new) = (UserAddr(BASE + start * P), UserAddr(BASE + to * P));
        assert_eq!(self.machine.mm.mremap(old, len * P, len * P, flags, new), Ok(new));
        let moved: Vec<_> = range.map(|i| self.pages[i].take()).collect();
        for (i, page) in moved.into_iter().enumerate() {
            self.pages[to as usize + i] = page;
        }
    }

    fn store(&mut self, page: u64, value: u8, by_kernel: bool) {
        let addr = BASE + page * P + 17;
        let allowed = self.pages[page as usize].as_ref().filter(|p| p.prot.contains(Prot::WRITE));
        let done = match by_kernel {
            true => self.machine.mm.write(UserAddr(addr), &[value]).is_ok(),
            false => self.machine.store(addr, value).is_ok(),
        };
        assert_eq!(done, allowed.is_some());
        if let Some(page) = allowed {
            page.value.set(value);
        }
    }

    fn check(&self) {
        for (i, page) in self.pages.iter().enumerate() {
            let addr = BASE + i as u64 * P + 17;
            let expected = page.as_ref().filter(|p| !p.prot.is_empty()).map(|p| p.value.get());
            assert_eq!(self.machine.load(addr).ok(), expected, "page {i}");
            let mut byte = [0];
            let read = self.machine.mm.read(UserAddr(addr), &mut byte).ok().map(|()| byte[0]);
            assert_eq!(read, expected, "page {i}, read by the kernel");
        }
    }
}

#[test]
fn processes_against_lists_of_pages() {
    let mut random = Random::new(99);
    for _ in 0..20 {
        let mut processes =
            vec![Process { machine: Machine::new(), pages: vec![None; N as usize] }];
        let memory = processes[0].machine.mm.memory_file().clone();
        for step in 0..400 {
            let i = random.below(processes.len() as u64) as usize;
            match random.below(60) {
                0 if processes.len() < 5 => {
                    let child = processes[i].fork();
                    processes.push(child);
                }
                1 if processes.len() > 1 => drop(processes.swap_remove(i)),
                _ => processes[i].step(&mut random),
            }
            if step % 8 == 0 {
                processes.iter().for_each(Process::check);
            }
        }
        processes.iter().for_each(Process::check);
        processes.clear();
        assert_eq!(memory.committed_bytes().unwrap(), 0, "frames leaked");
    }
}
