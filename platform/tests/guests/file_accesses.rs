//! System calls on open files that the back end answers itself.

use crate::accesses::{Call, OTHER, PASSED_ON, RW, answer, code, map, touch};
use crate::guest::*;
use platform::answers::PIPE_PAGE;
use platform::{Descriptors, Event, PAGE_SIZE, PipePlace, Prot, PureCall, Registers};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const READ: u64 = libc::SYS_read as u64;
const WRITE: u64 = libc::SYS_write as u64;
/// Descriptors.
const READER: u64 = 3;
const WRITER: u64 = 4;

/// A guest whose calls on open files are answered, and its table.
fn with_table() -> (Guest, Arc<dyn Descriptors>) {
    let mut guest = Guest::new(&code());
    touch(&mut guest, DATA);
    // The first table, record and page have the number 0.
    let _first = guest.platform.descriptors().unwrap();
    let table = guest.platform.descriptors().unwrap();
    answer_files(&guest, &*table);
    (guest, table)
}

fn answer_files(guest: &Guest, table: &dyn Descriptors) {
    let answers = guest.context.answers().unwrap();
    for call in [PureCall::Lseek, PureCall::Read, PureCall::Write] {
        answers.set(call, Some(table.number()));
    }
}

fn seek(fd: u64, offset: i64, whence: u64) -> Call {
    (libc::SYS_lseek as u64, [fd, offset as u64, whence, 10, 8, 9])
}

#[test]
fn positions_change_while_they_are_not_held() {
    let (mut guest, table) = with_table();
    let (first, position) = (table.position().unwrap(), table.position().unwrap());
    let fd = 511;
    assert_eq!(answer(&mut guest, seek(fd, 7, 0)), None);
    table.set(fd as u32, Some(position.name()));
    assert_eq!(answer(&mut guest, seek(fd, 7, 0)), None);
    position.let_go(5);
    assert_eq!(answer(&mut guest, seek(fd, 0, 1)), Some(5));
    assert_eq!(answer(&mut guest, seek(fd, 77, 0)), Some(77));
    // Upper halves of descriptors and of where it is from do not count.
    let high = 0xdead_beef_0000_0000;
    assert_eq!(answer(&mut guest, seek(high | fd, -70, high | 1)), Some(7));
    let most = (1 << 40) - 1;
    for (offset, whence, result) in [
        (-8, 1, None),
        (-1, 0, None),
        (i64::MIN, 0, None),
        (i64::MIN, 1, None),
        (i64::MAX, 0, None),
        (i64::MAX, 1, None),
        (most + 1, 0, None),
        (most, 1, None),
        (most, 0, Some(most)),
        (1, 1, None),
        (-most, 1, Some(0)),
        (0, 2, None),
        (0, 3, None),
        (0, 4, None),
        (0, 5, None),
        (9, 0, Some(9)),
    ] {
        assert_eq!(answer(&mut guest, seek(fd, offset, whence)), result, "{offset} {whence}");
    }
    for other in [0, 4, 510, 512, 512 + fd, 1 << 31, u64::MAX, u64::MAX << 9 | fd] {
        assert_eq!(answer(&mut guest, seek(other, 1, 0)), None, "{other}");
    }
    // It is no pipe.
    assert_eq!(answer(&mut guest, (READ, [fd, DATA, 1, 10, 8, 9])), None);
    assert_eq!(answer(&mut guest, (WRITE, [fd, DATA, 1, 10, 8, 9])), None);
    assert_eq!(position.hold(), Some(9));
    assert_eq!((position.hold(), first.hold()), (None, None));
    assert_eq!(answer(&mut guest, seek(fd, 0, 1)), None);
    // Too large for the word.
    position.let_go(1 << 40);
    assert_eq!((answer(&mut guest, seek(fd, 0, 1)), position.hold()), (None, None));
    position.let_go(3);
    assert_eq!(answer(&mut guest, seek(fd, 0, 1)), Some(3));
    table.set(fd as u32, None);
    assert_eq!(answer(&mut guest, seek(fd, 0, 1)), None);
}

#[test]
fn a_record_that_is_another_files_is_not_touched() {
    let (mut guest, table) = with_table();
    let old = table.position().unwrap();
    let name = old.name();
    table.set(3, Some(name));
    old.let_go(5);
    assert_eq!(answer(&mut guest, seek(3, 6, 0)), Some(6));
    drop(old);
    let new = table.position().unwrap();
    assert_ne!(name, new.name());
    new.let_go(5);
    assert_eq!(answer(&mut guest, seek(3, 6, 0)), None);
    assert_eq!(new.hold(), Some(5));
    // As with positions, so with pipes.
    let old = pipe(&*table);
    let name = old.name(true, true);
    table.set(5, Some(name));
    assert_eq!(answer(&mut guest, (WRITE, [5, DATA, 1, 10, 8, 9])), Some(1));
    drop(old);
    let new = pipe(&*table);
    assert_ne!(name, new.name(true, true));
    assert_eq!(answer(&mut guest, (WRITE, [5, DATA, 1, 10, 8, 9])), None);
    put(&*new, b"x");
    assert_eq!(answer(&mut guest, (READ, [5, DATA, 1, 10, 8, 9])), None);
    assert_eq!(take(&*new), b"x");
}

/// An empty pipe that nobody holds, with the ends as descriptors.
fn pipe(table: &dyn Descriptors) -> Box<dyn PipePlace> {
    let pipe = table.pipe().unwrap();
    assert_eq!(pipe.hold(&mut [0; PIPE_PAGE]), None);
    pipe.let_go(&[0; PIPE_PAGE], 0..0);
    table.set(READER as u32, Some(pipe.name(true, false)));
    table.set(WRITER as u32, Some(pipe.name(false, true)));
    pipe
}

/// What is in a pipe, which is empty then.
fn take(pipe: &dyn PipePlace) -> Vec<u8> {
    let mut page = [0; PIPE_PAGE];
    let bytes = pipe.hold(&mut page).unwrap();
    pipe.let_go(&page, 0..0);
    page[bytes].to_vec()
}

/// Puts bytes behind those of a pipe.
fn put(pipe: &dyn PipePlace, bytes: &[u8]) {
    let mut page = [0; PIPE_PAGE];
    let there = pipe.hold(&mut page).unwrap();
    let end = there.end + bytes.len();
    page[there.end..end].copy_from_slice(bytes);
    pipe.let_go(&page, there.start..end);
}

#[test]
fn a_pipe_that_nobody_holds_is_read_and_written() {
    let (mut guest, table) = with_table();
    let pipe = pipe(&*table);
    let read = |count| (READ, [READER, DATA + 100, count, 10, 8, 9]);
    let write = |count| (WRITE, [WRITER, DATA, count, 10, 8, 9]);
    guest.data.write(0, b"hello, world").unwrap();
    assert_eq!(answer(&mut guest, read(1)), None);
    assert_eq!(answer(&mut guest, write(5)), Some(5));
    assert_eq!(answer(&mut guest, write(7)), Some(7));
    for nothing in [0, 4097, 1 << 31, u64::MAX] {
        assert_eq!(answer(&mut guest, write(nothing)), None);
    }
    for nothing in [0, 1 << 31, u64::MAX, u64::MAX << 32 | 1] {
        assert_eq!(answer(&mut guest, read(nothing)), None);
    }
    assert_eq!(answer(&mut guest, read(3)), Some(3));
    assert_eq!(answer(&mut guest, read(65536)), Some(9));
    let mut seen = [0; 10];
    guest.data.read(100, &mut seen).unwrap();
    assert_eq!(&seen, b"lohello, \0");
    assert_eq!(answer(&mut guest, read(3)), None);
    // The wrong ends.
    assert_eq!(answer(&mut guest, (READ, [WRITER, DATA, 1, 10, 8, 9])), None);
    assert_eq!(answer(&mut guest, (WRITE, [READER, DATA, 1, 10, 8, 9])), None);
    assert_eq!(answer(&mut guest, seek(READER, 0, 1)), None);
    // A page that is full at its end is no longer written to, until it has been empty.
    assert_eq!(answer(&mut guest, write(4000)), Some(4000));
    assert_eq!(answer(&mut guest, read(100)), Some(100));
    assert_eq!(answer(&mut guest, write(97)), None);
    assert_eq!(answer(&mut guest, write(96)), Some(96));
    assert_eq!(answer(&mut guest, write(1)), None);
    assert_eq!(take(&*pipe).len(), 3996);
    assert_eq!(answer(&mut guest, write(4096)), Some(4096));
    assert_eq!(answer(&mut guest, (READ, [READER, DATA, 4096, 10, 8, 9])), Some(4096));
    assert_eq!(answer(&mut guest, write(4096)), Some(4096));
    // While it is held, nothing.
    let mut page = [0; PIPE_PAGE];
    assert_eq!(pipe.hold(&mut page), Some(0..4096));
    assert_eq!(pipe.hold(&mut page), None);
    assert_eq!(answer(&mut guest, write(1)), None);
    assert_eq!(answer(&mut guest, read(1)), None);
    pipe.let_go(&page, 10..20);
    assert_eq!(answer(&mut guest, read(100)), Some(10));
}

#[test]
fn a_pipes_memory_that_ring_0_cannot_access() {
    let (mut guest, table) = with_table();
    let pipe = pipe(&*table);
    put(&*pipe, b"0123456789");
    let kernel = 0xffff_8001_c000_0000;
    for bad in [0, OTHER, DATA + PAGE_SIZE, kernel, 1 << 47, (1 << 47) - 1, u64::MAX - 3] {
        assert_eq!(answer(&mut guest, (WRITE, [WRITER, bad, 8, 10, 8, 9])), None, "{bad:#x}");
        assert_eq!(answer(&mut guest, (READ, [READER, bad, 8, 10, 8, 9])), None, "{bad:#x}");
    }
    // What begins in memory and ends outside.
    let edge = DATA + PAGE_SIZE - 4;
    assert_eq!(answer(&mut guest, (WRITE, [WRITER, edge, 8, 10, 8, 9])), None);
    assert_eq!(answer(&mut guest, (READ, [READER, edge, 8, 10, 8, 9])), None);
    assert_eq!(answer(&mut guest, (READ, [READER, edge, 4, 10, 8, 9])), Some(4));
    let _frames = map(&guest, OTHER, RW);
    touch(&mut guest, OTHER);
    guest.space.protect(OTHER, PAGE_SIZE, Prot::READ);
    touch(&mut guest, OTHER);
    assert_eq!(answer(&mut guest, (READ, [READER, OTHER, 4, 10, 8, 9])), None);
    assert_eq!(answer(&mut guest, (WRITE, [WRITER, OTHER, 4, 10, 8, 9])), Some(4));
    assert_eq!(take(&*pipe), b"456789\0\0\0\0");
}

/// A few numbers that look random.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    }
}

#[test]
fn a_pipe_is_like_a_queue() {
    let (mut guest, table) = with_table();
    let pipe = pipe(&*table);
    let mut random = numbers(77);
    // What is in it, and how many bytes its page had from its start.
    let (mut model, mut end) = (VecDeque::<u8>::new(), 0);
    for round in 0..1500 {
        let size = [random(16), random(600), random(5000)][random(3) as usize] as usize + 1;
        match random(5) {
            0 | 1 => {
                let bytes: Vec<u8> = (0..size).map(|i| (round + i) as u8).collect();
                guest.data.write(0, &bytes[..size.min(4096)]).unwrap();
                let start = if model.is_empty() { 0 } else { end };
                let fits = start + size <= PIPE_PAGE;
                let wrote = answer(&mut guest, (WRITE, [WRITER, DATA, size as u64, 10, 8, 9]));
                assert_eq!(wrote, fits.then_some(size as i64), "{round}");
                if fits {
                    end = start + size;
                    model.extend(bytes);
                }
            }
            2 | 3 => {
                let n = size.min(model.len());
                let got = answer(&mut guest, (READ, [READER, DATA, size as u64, 10, 8, 9]));
                assert_eq!(got, (n > 0).then_some(n as i64), "{round}");
                let mut bytes = vec![0; n];
                guest.data.read(0, &mut bytes).unwrap();
                assert!(bytes.into_iter().eq(model.drain(..n)), "{round}");
            }
            _ => {
                let mut page = [0; PIPE_PAGE];
                let bytes = pipe.hold(&mut page).unwrap();
                assert!(model.iter().eq(&page[bytes.clone()]), "{round}");
                let start = if bytes.is_empty() { random(4097) as usize } else { bytes.start };
                pipe.let_go(&page, start..start + bytes.len());
            }
        }
    }
}

/// What two sides of a pipe do beyond what is answered: the sentry's part of it.
struct Sentry {
    pipe: Box<dyn PipePlace>,
    lock: Mutex<()>,
    passed: AtomicU64,
}

impl Sentry {
    fn write(&self, bytes: [u8; 4]) -> bool {
        let _lock = self.lock.lock().unwrap();
        self.passed.fetch_add(1, Ordering::Relaxed);
        let mut page = [0; PIPE_PAGE];
        let mut there = self.pipe.hold(&mut page).unwrap();
        if there.is_empty() {
            there = 0..0;
        }
        let fits = there.end + 4 <= PIPE_PAGE;
        if fits {
            page[there.end..there.end + 4].copy_from_slice(&bytes);
            there.end += 4;
        }
        self.pipe.let_go(&page, there);
        fits
    }

    fn read(&self) -> Option<[u8; 4]> {
        let _lock = self.lock.lock().unwrap();
        self.passed.fetch_add(1, Ordering::Relaxed);
        let mut page = [0; PIPE_PAGE];
        let mut there = self.pipe.hold(&mut page).unwrap();
        let first = page.get(there.start..there.end.min(there.start + 4)).unwrap();
        let bytes = first.first_chunk::<4>().copied();
        if bytes.is_some() {
            there.start += 4;
        }
        self.pipe.let_go(&page, there);
        bytes
    }
}

/// Two threads at the ends, and one that holds the pipe all the time: no byte is lost, doubled or out of order.
#[test]
fn both_ends_and_the_sentry_at_the_same_time() {
    const WORDS: u32 = 30_000;
    let (mut guest, table) = with_table();
    let sentry =
        Arc::new(Sentry { pipe: pipe(&*table), lock: Mutex::new(()), passed: AtomicU64::new(0) });
    let done = Arc::new(AtomicBool::new(false));
    // Writes the word at DATA, and adds one to it, until the call does not return 4.
    let writer = [
        &mov_eax(1)[..],
        SYSCALL,
        &[0x83, 0xf8, 0x04, 0x75, 0x09, 0xff, 0x04, 0x25],
        &(DATA as u32).to_le_bytes(),
        &[0xeb, 0xeb],
        SYSCALL,
    ]
    .concat();
    // Reads to OTHER until what is read is not one more than ebp, or the call does not return 4.
    let reader = [
        &[0x31, 0xc0][..],
        SYSCALL,
        &[0x83, 0xf8, 0x04, 0x75, 0x0b, 0xff, 0xc5, 0x3b, 0x2c, 0x25],
        &(OTHER as u32).to_le_bytes(),
        &[0x74, 0xec],
        &mov_eax(PASSED_ON as u32),
        SYSCALL,
    ]
    .concat();
    let memory = map(&guest, OTHER, RW);
    touch(&mut guest, OTHER);
    guest.data.store32(0, 1).unwrap();
    guest.code.write(0, &writer).unwrap();
    guest.code.write(2048, &reader).unwrap();
    let registers = |at, [fd, buffer]: [u64; 2]| {
        let mut r = Registers::at_entry(CODE + at, DATA + PAGE_SIZE);
        (r.rdi, r.rsi, r.rdx, r.rbp) = (fd, buffer, 4, 0);
        r
    };
    let (mine, number, start) = (sentry.clone(), table.number(), registers(2048, [READER, OTHER]));
    let other = on_thread(guest.context.new_thread().unwrap(), move |mut context| {
        context.answers().unwrap().set(PureCall::Read, Some(number));
        let mut regs = start;
        while regs.rbp < u64::from(WORDS) {
            assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
            assert_eq!(regs.orig_rax, READ, "{} {:?}", regs.rbp, memory.load32(0));
            // The call goes on as the sentry would have it.
            let word = loop {
                match mine.read() {
                    Some(bytes) => break u32::from_le_bytes(bytes),
                    None => std::thread::yield_now(),
                }
            };
            regs.rbp += 1;
            assert_eq!(u64::from(word), regs.rbp);
            regs.rip = CODE + 2048;
        }
    });
    let (mine, end) = (sentry.clone(), done.clone());
    let holder = std::thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            let lock = mine.lock.lock().unwrap();
            let mut page = [0; PIPE_PAGE];
            let bytes = mine.pipe.hold(&mut page).unwrap();
            mine.pipe.let_go(&page, bytes);
            drop(lock);
            std::thread::yield_now();
        }
    });
    guest.regs = registers(0, [WRITER, DATA]);
    while guest.data.load32(0).unwrap() <= WORDS {
        assert_eq!(guest.step(), Event::Syscall);
        assert_eq!(guest.regs.orig_rax, WRITE);
        let word = guest.data.load32(0).unwrap();
        while !sentry.write(word.to_le_bytes()) {
            std::thread::yield_now();
        }
        guest.data.store32(0, word + 1).unwrap();
        guest.regs.rip = CODE;
    }
    // What was written last may be more than what is waited for.
    other.join().unwrap();
    done.store(true, Ordering::Relaxed);
    holder.join().unwrap();
    let passed = sentry.passed.load(Ordering::Relaxed);
    assert!(passed > 0 && passed < 2 * u64::from(WORDS), "{passed}");
}
