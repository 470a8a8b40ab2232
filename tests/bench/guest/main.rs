//! `bench-guest`: the static program that the benchmark runs natively and in every sandbox.
//!
//! `micro NAME…` prints one line `NAME NANOSECONDS` per benchmark, the median over several
//! repeats of the time one operation takes. `time COMMAND…` runs a command and prints how long
//! it took, so that a workload is measured without the sandbox's start-up. `count NAME` makes operations on
//! demand. `noop` does nothing. `accept`, `keep`, `connect` and `hold` are the ends of connections (`tests/bench/network`).

mod count;
mod net;
mod sys;

use std::error::Error;
use std::ffi::CString;
use std::fs::File;
use std::hint::black_box;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A repeat must last this long, so that the clock and the scheduler do not matter.
const REPEAT: Duration = Duration::from_millis(20);
/// Repeats of which the median is taken.
const REPEATS: usize = 5;
const PAGE: usize = 4096;
/// Touched by one repeat of the page-fault benchmark.
const REGION: usize = 64 << 20;
/// One of the areas that the benchmark of small ones touches as many pages of.
const SMALL: usize = 1 << 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((command, _)) if command == "noop" => return ExitCode::SUCCESS,
        Some((command, names)) if command == "micro" => names.iter().try_for_each(|name| {
            println!("{name} {:.2}", micro(name)?);
            Ok(())
        }),
        Some((command, line)) if command == "time" => time(line),
        Some((command, [name])) if command == "count" => count::count(name),
        Some((command, [port])) if command == "accept" => net::accept(port, false),
        Some((command, [port])) if command == "keep" => net::accept(port, true),
        Some((command, [address, count])) if command == "connect" => net::connect(address, count),
        Some((command, [address, count])) if command == "hold" => net::hold(address, count),
        _ => Err("usage: bench-guest micro NAME… | time COMMAND… | count NAME | noop | accept PORT | keep PORT | connect ADDRESS:PORT COUNT | hold ADDRESS:PORT COUNT".into()),
    };
    outcome.map_or_else(
        |error: Box<dyn Error>| {
            eprintln!("bench-guest: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Runs a command with its output discarded and prints its wall time in nanoseconds.
fn time(line: &[String]) -> Outcome<()> {
    let (program, args) = line.split_first().ok_or("time needs a command")?;
    let start = Instant::now();
    let status = Command::new(program).args(args).stdout(Stdio::null()).status()?;
    let elapsed = start.elapsed();
    if !status.success() {
        return Err(format!("{program} ended with {status}").into());
    }
    println!("time {}", elapsed.as_nanos());
    Ok(())
}

/// Nanoseconds that one operation of the benchmark called `name` takes.
fn micro(name: &str) -> Outcome<f64> {
    let own = CString::new(std::env::current_exe()?.into_os_string().into_vec())?;
    let noop = CString::new("noop")?;
    match name {
        "getppid" => repeat(|n| {
            (0..n).for_each(|_| {
                black_box(sys::getppid());
            });
            Ok(())
        }),
        "clock_gettime" => repeat(|n| {
            (0..n).for_each(|_| {
                black_box(Instant::now());
            });
            Ok(())
        }),
        "pread-4k" => {
            let (file, mut buffer) = (File::open(std::env::current_exe()?)?, [0; PAGE]);
            repeat(|n| (0..n).try_for_each(|_| Ok(file.read_exact_at(&mut buffer, 8192)?)))
        }
        "open-close" => repeat(|n| (0..n).try_for_each(|_| Ok(sys::open_close(&own)?))),
        "stat" => {
            let path = std::env::current_exe()?;
            repeat(|n| {
                (0..n).try_for_each(|_| {
                    black_box(std::fs::metadata(&path)?);
                    Ok(())
                })
            })
        }
        "pipe" => {
            let (mut reader, mut writer) = std::io::pipe()?;
            repeat(|n| (0..n).try_for_each(|_| write_read(&mut writer, &mut reader)))
        }
        "futex-ping-pong" => repeat(futex_ping_pong),
        "process-ping-pong" => process_ping_pong(),
        "fork-exit-wait" => repeat(|n| {
            (0..n).try_for_each(|_| {
                sys::wait(sys::fork(|| 0)?)?;
                Ok(())
            })
        }),
        "fork-exec-wait" => repeat(|n| {
            (0..n).try_for_each(|_| match sys::wait(sys::fork(|| sys::exec(&own, &noop))?)? {
                0 => Ok(()),
                status => Err(format!("the program ended with wait status {status:#x}").into()),
            })
        }),
        "page-fault" => per_page(|mapping| {
            let start = Instant::now();
            mapping.touch(PAGE);
            Ok(start.elapsed())
        }),
        // An area too small to be mapped in advance, as a program's heap grows by them.
        "page-fault-small" => per_page(|_| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..REGION / SMALL {
                let mut mapping = sys::Mapping::new(SMALL)?;
                let start = Instant::now();
                mapping.touch(PAGE);
                elapsed += start.elapsed();
            }
            Ok(elapsed)
        }),
        "munmap" => {
            let mut samples = Vec::new();
            for _ in 0..REPEATS {
                let mut mapping = sys::Mapping::new(REGION)?;
                mapping.touch(PAGE);
                let start = Instant::now();
                drop(mapping);
                samples.push(start.elapsed().as_nanos() as f64 / (REGION / PAGE) as f64);
            }
            median(samples)
        }
        "mmap-munmap" => repeat(|n| {
            (0..n).try_for_each(|_| {
                drop(sys::Mapping::new(16 * PAGE)?);
                Ok(())
            })
        }),
        "cpu-loop" => repeat(|n| {
            let mut x = 1u64;
            for i in 0..n.saturating_mul(1000) {
                x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i));
            }
            black_box(x);
            Ok(())
        })
        .map(|ns| ns / 1000.0),
        _ => Err(format!("there is no benchmark '{name}'").into()),
    }
}

/// Finds how many operations fill a repeat, then takes the median of several.
fn repeat(mut run: impl FnMut(u64) -> Outcome<()>) -> Outcome<f64> {
    let mut timed = |n: u64| -> Outcome<Duration> {
        let start = Instant::now();
        run(n)?;
        Ok(start.elapsed())
    };
    let mut n = 1u64;
    loop {
        let elapsed = timed(n)?;
        if elapsed >= REPEAT {
            break;
        }
        let missing = REPEAT.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
        n = n.saturating_mul(missing.ceil().clamp(2.0, 16.0) as u64);
    }
    let mut samples = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        samples.push(timed(n)?.as_nanos() as f64 / n as f64);
    }
    median(samples)
}

fn median(mut samples: Vec<f64>) -> Outcome<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().ok_or_else(|| "no samples".into())
}

/// The median over fresh regions of what `run` measures, per page.
fn per_page(mut run: impl FnMut(&mut sys::Mapping) -> Outcome<Duration>) -> Outcome<f64> {
    let mut samples = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let elapsed = run(&mut sys::Mapping::new(REGION)?)?;
        samples.push(elapsed.as_nanos() as f64 / (REGION / PAGE) as f64);
    }
    median(samples)
}

fn write_read(writer: &mut PipeWriter, reader: &mut PipeReader) -> Outcome<()> {
    let mut byte = [0];
    writer.write_all(b"x")?;
    Ok(reader.read_exact(&mut byte)?)
}

/// `n` round trips between two threads that sleep and wake each other by futexes.
fn futex_ping_pong(n: u64) -> Outcome<()> {
    let turn = AtomicU32::new(0);
    let play = |mine: u32, next: u32| {
        for _ in 0..n {
            while turn.load(Ordering::Acquire) != mine {
                sys::futex_wait(&turn, next);
            }
            turn.store(next, Ordering::Release);
            sys::futex_wake(&turn);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| play(1, 0));
        play(0, 1);
    });
    Ok(())
}

/// Round trips of one byte between two processes through two pipes.
fn process_ping_pong() -> Outcome<f64> {
    let (mut to_child_end, mut to_child) = std::io::pipe()?;
    let (mut from_child, mut from_child_end) = std::io::pipe()?;
    let echo = || {
        let mut byte = [0];
        while matches!(to_child_end.read(&mut byte), Ok(1)) && byte != *b"q" {
            if from_child_end.write_all(&byte).is_err() {
                return 1;
            }
        }
        0
    };
    let child = sys::fork(echo)?;
    let mut byte = [0];
    let result = repeat(|n| {
        (0..n).try_for_each(|_| {
            to_child.write_all(b"x")?;
            Ok(from_child.read_exact(&mut byte)?)
        })
    });
    to_child.write_all(b"q")?;
    sys::wait(child)?;
    result
}
