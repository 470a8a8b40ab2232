//! `bench-guest count NAME`: makes a number of operations whenever it is told to, so that whoever tells it can
//! count what the host does meanwhile.

use crate::{Outcome, PAGE, futex_ping_pong, sys, write_read};
use std::ffi::CString;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, PipeReader, PipeWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

/// Reads a number from each line of standard input, makes so many operations and prints how many nanoseconds they took.
pub fn count(name: &str) -> Outcome<()> {
    let mut operation = operation(name)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let n: u64 = line?.trim().parse()?;
        let start = Instant::now();
        operation(n)?;
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(())
}

type Operation = Box<dyn FnMut(u64) -> Outcome<()>>;

/// `n` times what needs no more than a call.
fn each(mut call: impl FnMut() -> Outcome<()> + 'static) -> Operation {
    Box::new(move |n| (0..n).try_for_each(|_| call()))
}

/// A system call without pointers, whatever it returns.
fn plain(number: i64, args: [u64; 3]) -> Operation {
    each(move || {
        black_box(sys::plain_call(number, args));
        Ok(())
    })
}

fn operation(name: &str) -> Outcome<Operation> {
    let own = CString::new(std::env::current_exe()?.into_os_string().into_vec())?;
    let noop = CString::new("noop")?;
    Ok(match name {
        "getpid" => plain(libc::SYS_getpid, [0; 3]),
        "gettid" => plain(libc::SYS_gettid, [0; 3]),
        "getppid" => plain(libc::SYS_getppid, [0; 3]),
        "getpgrp" => plain(libc::SYS_getpgrp, [0; 3]),
        "getuid" => plain(libc::SYS_getuid, [0; 3]),
        "getegid" => plain(libc::SYS_getegid, [0; 3]),
        // A call that nothing but the sentry answers.
        "umask" => plain(libc::SYS_umask, [0o22, 0, 0]),
        "lseek" => {
            let mut file = File::open(std::env::current_exe()?)?;
            let mut to = 0;
            each(move || {
                to = (to + 1) % 100;
                black_box(file.seek(SeekFrom::Start(to))?);
                Ok(())
            })
        }
        "clock_gettime" => each(|| {
            black_box(Instant::now());
            Ok(())
        }),
        "futex-wake" => {
            let word = AtomicU32::new(0);
            each(move || {
                sys::futex_wake(&word);
                Ok(())
            })
        }
        "futex-wait" => {
            let word = AtomicU32::new(0);
            each(move || {
                sys::futex_wait(&word, 1);
                Ok(())
            })
        }
        "sigprocmask" => {
            let mut how = [libc::SIG_BLOCK, libc::SIG_UNBLOCK];
            each(move || {
                sys::change_mask(how[0]);
                how.swap(0, 1);
                Ok(())
            })
        }
        "pipe" => {
            let (mut reader, mut writer) = std::io::pipe()?;
            each(move || write_read(&mut writer, &mut reader))
        }
        "open-close" => each(move || Ok(sys::open_close(&own)?)),
        "mmap-munmap" => each(|| {
            drop(sys::Mapping::new(16 * PAGE)?);
            Ok(())
        }),
        // All of one area, or of areas of 64 KiB, as programs map them.
        "page" => Box::new(|n| {
            sys::Mapping::new((n as usize).max(1) * PAGE)?.touch(PAGE);
            Ok(())
        }),
        "page-small" => Box::new(|n| {
            let mut areas = Vec::new();
            for _ in 0..n.div_ceil(16) {
                let mut area = sys::Mapping::new(16 * PAGE)?;
                area.touch(PAGE);
                areas.push(area);
            }
            Ok(())
        }),
        "futex-switch" => Box::new(futex_ping_pong),
        "pipe-switch" => pipe_switch()?,
        "fork-exit-wait" => each(|| {
            sys::wait(sys::fork(|| 0)?)?;
            Ok(())
        }),
        "fork-exec-wait" => each(move || match sys::wait(sys::fork(|| sys::exec(&own, &noop))?)? {
            0 => Ok(()),
            status => Err(format!("the program ended with wait status {status:#x}").into()),
        }),
        _ => return Err(format!("there is nothing to count called '{name}'").into()),
    })
}

/// Round trips of one byte between two processes through two pipes. The other one ends with its pipe.
fn pipe_switch() -> Outcome<Operation> {
    let (to_child_end, mut to_child) = std::io::pipe()?;
    let (mut from_child, from_child_end) = std::io::pipe()?;
    let writer = to_child.try_clone()?;
    sys::fork(move || {
        drop(writer);
        echo(to_child_end, from_child_end)
    })?;
    Ok(each(move || {
        to_child.write_all(b"x")?;
        Ok(from_child.read_exact(&mut [0])?)
    }))
}

fn echo(mut from: PipeReader, mut to: PipeWriter) -> i32 {
    let mut byte = [0];
    while matches!(from.read(&mut byte), Ok(1)) {
        if to.write_all(&byte).is_err() {
            return 1;
        }
    }
    0
}
