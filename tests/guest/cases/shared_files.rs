//! Descriptors, positions and pipes that threads and processes use at the same time.

use crate::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// A file of so many numbers, four bytes each.
fn numbered(count: u32) -> i32 {
    let bytes: Vec<u8> = (0..count).flat_map(u32::to_le_bytes).collect();
    put(c"numbers", bytes);
    open(c"numbers", O_RDWR, 0).fd()
}

fn position_moves_while_others_read() {
    let fd = numbered(512);
    let reader = move || {
        let mut good = true;
        for _ in 0..1500 {
            let got = rd(fd, 4);
            let word = got.bytes().first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
            good &= word.map_or(got.bytes().is_empty(), |n| n < 512);
        }
        good
    };
    let mover = move || {
        let mut good = true;
        for turn in 0..1500 {
            let to = turn % 500 * 4;
            good &= lseek(fd, to, SEEK_SET).0 == to;
            let now = lseek(fd, 0, SEEK_CUR).0;
            good &= now % 4 == 0 && (0..=2048).contains(&now);
            // Another one may have been at the start already.
            let back = lseek(fd, -4, SEEK_CUR);
            good &= back.0 % 4 == 0 || back.errno() == EINVAL;
        }
        good
    };
    let threads = [thread::spawn(reader), thread::spawn(mover), thread::spawn(mover)];
    p!(threads.into_iter().all(|t| t.join().unwrap_or(false)));
    p!(lseek(fd, 0, SEEK_CUR).0 % 4, lseek(fd, 9, SEEK_SET), rd(fd, 3), lseek(fd, 0, SEEK_CUR));
}

/// Every number is read once, whoever reads it.
fn readers_of_one_position_get_each_number_once() {
    let fd = numbered(2000);
    let reader = move || {
        let mut seen = Vec::new();
        while let Some(word) = rd(fd, 4).bytes().first_chunk::<4>() {
            seen.push(u32::from_le_bytes(*word));
            lseek(fd, 0, SEEK_CUR);
        }
        seen
    };
    let threads = [thread::spawn(reader), thread::spawn(reader), thread::spawn(reader)];
    let all: Vec<u32> = threads.into_iter().flat_map(|t| t.join().unwrap_or_default()).collect();
    p!(all.len(), all.iter().collect::<HashSet<_>>().len(), lseek(fd, 0, SEEK_CUR));
}

fn position_is_shared_with_children_and_duplicates() {
    let fd = numbered(100);
    let (copy, other) = (dup(fd).fd(), open(c"numbers", O_RDONLY, 0).fd());
    let (to, from) = (pipe(0), pipe(0));
    let pid = child(|| {
        close(to[1]);
        while rd(to[0], 1).bytes() == b"x" {
            lseek(fd, 4, SEEK_CUR);
            wr(from[1], "y");
        }
        0
    });
    close(to[0]);
    for turn in 0..200 {
        if lseek(copy, 0, SEEK_CUR).0 != turn * 4 {
            say!("turn {turn}: {}", lseek(copy, 0, SEEK_CUR));
            break;
        }
        wr(to[1], "x");
        rd(from[0], 1);
    }
    close(to[1]);
    p!(wait(pid), lseek(fd, 0, SEEK_CUR), lseek(copy, 0, SEEK_CUR), lseek(other, 0, SEEK_CUR));
    let far = 1i64 << 40;
    p!(lseek(fd, far - 1, SEEK_SET), lseek(copy, 1, SEEK_CUR), lseek(fd, 5, SEEK_CUR));
    p!(lseek(fd, -far, SEEK_CUR), lseek(copy, 1, SEEK_CUR));
    p!(lseek(fd, 8, SEEK_SET), lseek(copy, -9, SEEK_CUR), lseek(copy, i64::MIN, SEEK_CUR));
    p!(rd(copy, 1), pread(copy, 1, 8), lseek(fd, 0, SEEK_CUR), lseek(fd, 0, SEEK_END));
    p!(lseek(1 << 9 | fd, 0, SEEK_CUR), lseek(-1, 0, SEEK_CUR), lseek(fd, 0, 5));
}

/// A descriptor stands for one file after another: no position but those of its files is ever seen or changed.
fn descriptor_changes_its_file() {
    let fd = 300;
    let keep = numbered(64);
    lseek(keep, 7, SEEK_SET);
    dup2(keep, fd);
    lseek(fd, 1, SEEK_SET);
    let quiet = open(c"numbers", O_RDONLY, 0).fd();
    lseek(quiet, 55, SEEK_SET);
    let stop = Arc::new(AtomicBool::new(false));
    let end = stop.clone();
    let mover = thread::spawn(move || {
        let mut good = true;
        while !end.load(Ordering::Relaxed) {
            let at = lseek(fd, 0, SEEK_CUR);
            good &= [1, 20, 30].contains(&at.0) || at.errno() == EBADF || at.errno() == ESPIPE;
            sc!(SYS_sched_yield);
        }
        good
    });
    let mut good = true;
    for turn in 0..400 {
        let new = open(c"numbers", O_RDONLY, 0).fd();
        good &= lseek(new, [20, 30][turn % 2], SEEK_SET).ok();
        match turn % 4 {
            0 => good &= close(fd).ok() && dup2(new, fd).ok(),
            1 => good &= dup2(pipe_end(), fd).ok() && dup2(new, fd).ok(),
            2 => good &= sc!(SYS_close_range, fd, fd, 0).ok() && dup2(new, fd).ok(),
            _ => good &= dup2(new, fd).ok(),
        }
        good &= close(new).ok() && lseek(fd, 0, SEEK_CUR).0 == [20, 30][turn % 2];
    }
    stop.store(true, Ordering::Relaxed);
    p!(good, mover.join().unwrap_or(false), lseek(quiet, 0, SEEK_CUR), lseek(keep, 0, SEEK_CUR));
}

/// An end of a pipe whose other end has been closed.
fn pipe_end() -> i32 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let last = LAST.load(Ordering::Relaxed) as i32;
    if last != 0 {
        return last;
    }
    let fds = pipe(0);
    close(fds[1]);
    LAST.store(fds[0] as u64, Ordering::Relaxed);
    fds[0]
}

fn table_of_ones_own() {
    let fd = numbered(10);
    lseek(fd, 5, SEEK_SET);
    let there = Arc::new(AtomicU64::new(0));
    let (mine, turn) =
        (there.clone(), move |there: &AtomicU64, n| until(|| there.load(SeqCst) == n));
    let other = thread::spawn(move || {
        p!(sc!(SYS_unshare, CLONE_FILES), lseek(fd, 0, SEEK_CUR));
        mine.store(1, SeqCst);
        turn(&mine, 2);
        p!(lseek(fd, 1, SEEK_CUR), close(fd), lseek(fd, 0, SEEK_CUR));
        mine.store(3, SeqCst);
    });
    turn(&there, 1);
    let copy = dup(fd).fd();
    p!(close(fd), lseek(fd, 0, SEEK_CUR));
    there.store(2, SeqCst);
    p!(other.join().is_ok(), lseek(copy, 0, SEEK_CUR));
    p!(run(|| i32::from(lseek(copy, 0, SEEK_CUR).0 != 6)));
}

/// Bytes go there and back; the other side waits in each of the ways that there are.
fn small_writes_wake_whoever_waits() {
    for way in ["read", "poll", "epoll", "select"] {
        let (to, from) = (pipe(0), pipe(0));
        let other = thread::spawn(move || {
            let watch = epoll(0);
            if way == "epoll" {
                epoll_ctl(watch, EPOLL_CTL_ADD, to[0], EPOLLIN, 0);
            }
            let mut got = 0;
            loop {
                match way {
                    "poll" => drop(poll(&[(to[0], POLLIN)], -1)),
                    "epoll" => drop(epoll_wait(watch, 1, -1)),
                    "select" => {
                        let mut set = [0u64; 16];
                        set[to[0] as usize / 64] = 1 << (to[0] % 64);
                        sc!(SYS_select, to[0] + 1, at_mut(&mut set), 0u64, 0u64, 0u64);
                    }
                    _ => {}
                }
                let n = rd(to[0], 16).bytes().len();
                if n == 0 {
                    close(watch);
                    break got;
                }
                got += n;
                wr(from[1], vec![7; n]);
            }
        });
        let (mut sent, mut back) = (0, 0);
        for turn in 0..600 {
            // Now and then it has time to begin to wait.
            if turn % 3 == 0 {
                sc!(SYS_sched_yield);
            }
            sent += wr(to[1], vec![1; turn % 5 + 1]).0 as usize;
            while turn % 2 == 1 && back < sent {
                back += rd(from[0], 3).bytes().len();
            }
        }
        close(to[1]);
        p!(way, sent, other.join().unwrap_or(0));
        close(from[1]);
        loop {
            match rd(from[0], 100).bytes().len() {
                0 => break,
                n => back += n,
            }
        }
        p!(back);
        close(to[0]);
        close(from[0]);
    }
}

/// Two write, two read: as much comes out as goes in, and each piece in one piece.
fn pieces_stay_whole() {
    let fds = pipe(0);
    let writer = move |mark: u8| {
        (0..3000usize).map(|turn| wr(fds[1], vec![mark; 8 * (turn % 4 + 1)]).0).sum::<i64>()
    };
    let reader = move || {
        let (mut total, mut good) = (0, true);
        loop {
            // Pieces are multiples of eight bytes, and so is what is taken.
            let got = rd(fds[0], 24);
            if got.bytes().is_empty() {
                return (total, good);
            }
            total += got.bytes().len() as i64;
            let (eights, rest) = got.bytes().as_chunks::<8>();
            good &= rest.is_empty() && eights.iter().all(|e| e.iter().all(|b| *b == e[0]));
        }
    };
    let writers = [b'a', b'b'].map(|mark| thread::spawn(move || writer(mark)));
    let readers = [thread::spawn(reader), thread::spawn(reader)];
    let wrote: i64 = writers.into_iter().map(|t| t.join().unwrap_or(0)).sum();
    close(fds[1]);
    let read: Vec<_> = readers.into_iter().map(|t| t.join().unwrap_or((0, false))).collect();
    p!(wrote, read.iter().map(|r| r.0).sum::<i64>(), read.iter().all(|r| r.1));
}

fn last_reader_closes_beside_a_writer() {
    ignore(SIGPIPE);
    let mut good = true;
    for turn in 0..150 {
        let fds = pipe(0);
        let closer = thread::spawn(move || {
            for _ in 0..turn % 7 {
                rd(fds[0], 100);
                sc!(SYS_sched_yield);
            }
            close(fds[0]).ok()
        });
        let end = loop {
            let ret = wr(fds[1], "some");
            if ret.0 != 4 {
                break ret;
            }
        };
        good &= end.errno() == EPIPE && closer.join().unwrap_or(false) && close(fds[1]).ok();
    }
    p!(good);
    default(SIGPIPE);
    p!(run(|| {
        let fds = pipe(0);
        p!(wr(fds[1], "one"), rd(fds[0], 2), close(fds[0]));
        wr(fds[1], "two").0 as i32
    }));
}

/// A descriptor goes from a pipe to a file and back: what is written is in one of them.
fn writes_go_to_what_the_descriptor_is() {
    let (fds, fd) = (pipe(0), 301);
    let file = open(c"sink", O_CREAT | O_RDWR | O_APPEND, 0o644).fd();
    dup2(fds[1], fd);
    let writer = thread::spawn(move || (0..4000).map(|_| wr(fd, "12345678").0).sum::<i64>());
    let taken = thread::spawn(move || {
        let mut total = 0;
        loop {
            match rd(fds[0], 512).bytes().len() {
                0 => break total,
                n => total += n as i64,
            }
        }
    });
    while !writer.is_finished() {
        dup2(file, fd);
        sc!(SYS_sched_yield);
        dup2(fds[1], fd);
        sc!(SYS_sched_yield);
    }
    let wrote = writer.join().unwrap_or(0);
    close(fd);
    close(fds[1]);
    p!(wrote, taken.join().unwrap_or(0) + stat(c"sink").st.st_size == wrote);
}

/// All that looks at a pipe sees what small writes and reads have left.
fn small_transfers_and_everything_else() {
    let (fds, more) = (pipe(0), pipe(0));
    let left = || {
        let mut n = 0i32;
        ioctl(fds[0], FIONREAD, at_mut(&mut n));
        n
    };
    for round in 0..3 {
        p!(wr(fds[1], "hello"), left(), rd(fds[0], 2), left(), wr(fds[1], " world"), left());
        p!(poll(&[(fds[0], POLLIN), (fds[1], POLLOUT)], 0));
        p!(sc!(SYS_tee, fds[0], more[1], 4, 0), rd(more[0], 10), left());
        p!(sc!(SYS_splice, fds[0], 0u64, more[1], 0u64, 3, 0), rd(more[0], 10), left());
        p!(rd(fds[0], 100), left(), poll(&[(fds[0], POLLIN), (fds[1], POLLOUT)], 0));
        p!(fcntl(fds[round % 2], F_SETPIPE_SZ, [4096, 65536, 8192][round]));
        p!(wr(fds[1], vec![b'x'; 4000]), wr(fds[1], vec![b'y'; 96]), left());
        p!(rd(fds[0], 4095).bytes().len(), rd(fds[0], 10));
        p!(writev(fds[1], &[b"a", b"b"]), rd(fds[0], 1), rd(fds[0], 1));
    }
    p!(fcntl(fds[0], F_SETFL, O_NONBLOCK), rd(fds[0], 1), wr(fds[1], "z"), rd(fds[0], 1));
    p!(fcntl(fds[1], F_SETFL, O_DIRECT), wr(fds[1], "two"), wr(fds[1], "packets"));
    p!(rd(fds[0], 100), rd(fds[0], 3), rd(fds[0], 100));
    p!(wr(fds[1], 8u64.to_le_bytes()), rd(fds[0], 0), rd(fds[1], 1), wr(fds[0], "x"));
    p!(wr(more[1], "kept"), sc!(SYS_read, more[0], 8u64, 4));
    p!(sc!(SYS_write, more[1], 8u64, 4), rd(more[0], 10), close(more[1]), rd(more[0], 1));
}

cases![
    position_moves_while_others_read,
    readers_of_one_position_get_each_number_once,
    position_is_shared_with_children_and_duplicates,
    descriptor_changes_its_file,
    table_of_ones_own,
    small_writes_wake_whoever_waits,
    pieces_stay_whole,
    last_reader_closes_beside_a_writer,
    writes_go_to_what_the_descriptor_is,
    small_transfers_and_everything_else,
];
