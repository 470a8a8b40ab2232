//! A guest program for the `rust-threads` case: the ways a Rust program uses threads, locks,
//! channels, processes, files and local sockets, with output that no schedule can change.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn Error>>;

/// The sum of the squares of `data`, computed by splitting it between `threads` scoped threads.
fn parallel_sum(data: &[u64], threads: usize) -> u64 {
    let chunk = data.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let parts: Vec<_> = data
            .chunks(chunk)
            .map(|part| {
                scope.spawn(move || {
                    part.iter().fold(0u64, |s, x| s.wrapping_add(x.wrapping_mul(*x)))
                })
            })
            .collect();
        parts.into_iter().filter_map(|part| part.join().ok()).fold(0, u64::wrapping_add)
    })
}

fn sums_and_counters() {
    let data: Vec<u64> = (0..2_000_000).collect();
    for threads in [1, 2, 7, 64] {
        println!("sum over {threads} threads {}", parallel_sum(&data, threads));
    }
    let (atomic, mutex, lock) = (AtomicU64::new(0), Mutex::new(0u64), RwLock::new(BTreeMap::new()));
    thread::scope(|scope| {
        for worker in 0..32u64 {
            let (atomic, mutex, lock) = (&atomic, &mutex, &lock);
            scope.spawn(move || {
                for step in 0..2000u64 {
                    atomic.fetch_add(step, Ordering::Relaxed);
                    *mutex.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    if step % 100 == 0 {
                        let mut map = lock.write().unwrap_or_else(PoisonError::into_inner);
                        *map.entry(step % 7).or_insert(0u64) += worker;
                    } else if step % 10 == 0 {
                        let map = lock.read().unwrap_or_else(PoisonError::into_inner);
                        std::hint::black_box(map.len());
                    }
                }
            });
        }
    });
    let count = mutex.into_inner().unwrap_or_else(PoisonError::into_inner);
    let map = lock.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("counters {} {count} {map:?}", atomic.into_inner());
}

fn turns_and_barriers() {
    let state = Arc::new((Mutex::new((0usize, Vec::new())), Condvar::new()));
    let players: Vec<_> = (0..5usize)
        .map(|me| {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for _ in 0..200 {
                    let guard = state.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut guard = state
                        .1
                        .wait_while(guard, |s| s.0 != me)
                        .unwrap_or_else(PoisonError::into_inner);
                    guard.1.push(me);
                    guard.0 = (me + 1) % 5;
                    state.1.notify_all();
                }
            })
        })
        .collect();
    let finished = players.into_iter().filter_map(|player| player.join().ok()).count();
    let log = state.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
    let ordered = log.iter().enumerate().all(|(i, me)| i % 5 == *me);
    println!("turns {finished} {} {ordered}", log.len());

    let (barrier, once, leaders) = (Barrier::new(6), Once::new(), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..100 {
                    once.call_once(|| println!("once"));
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("barrier rounds {}", leaders.into_inner());
}

fn channels() -> Outcome {
    let (request, inbox) = mpsc::sync_channel::<(u64, mpsc::Sender<u64>)>(4);
    let inbox = Arc::new(Mutex::new(inbox));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                loop {
                    let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((x, reply)) = next else { break };
                    if reply.send(x * x).is_err() {
                        break;
                    }
                }
            })
        })
        .collect();
    let (reply, replies) = mpsc::channel();
    for x in 0..3000 {
        request.send((x, reply.clone()))?;
    }
    drop((request, reply));
    println!("channel {}", replies.iter().sum::<u64>());
    println!("workers {}", workers.into_iter().filter_map(|w| w.join().ok()).count());
    let (_keep, silent) = mpsc::channel::<()>();
    let start = Instant::now();
    let outcome = silent.recv_timeout(Duration::from_millis(50));
    println!(
        "timed out {} {}",
        outcome == Err(RecvTimeoutError::Timeout),
        start.elapsed() >= Duration::from_millis(50)
    );
    let parked = thread::spawn(|| {
        thread::park();
        "unparked"
    });
    parked.thread().unpark();
    println!("{}", parked.join().unwrap_or("panicked"));
    let short = (0..500).filter(|&i: &i32| thread::spawn(move || i % 2).join().is_ok()).count();
    println!("short threads {short}");
    Ok(())
}

fn processes() -> Outcome {
    let mut child = Command::new("tr")
        .args(["a-z", "A-Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or("no stdin")?;
    let feeder = thread::spawn(move || (0..20_000).all(|i| writeln!(input, "line {i}").is_ok()));
    let output = child.wait_with_output()?;
    println!("tr {} {:?}", output.stdout.len(), feeder.join().unwrap_or(false));
    let statuses: Result<Vec<_>, _> = thread::scope(|scope| {
        let children: Vec<_> = (0..16)
            .map(|i| {
                scope.spawn(move || Command::new("sh").arg("-c").arg(format!("exit {i}")).status())
            })
            .collect();
        children.into_iter().filter_map(|c| c.join().ok()).collect()
    });
    println!("statuses {:?}", statuses?.iter().map(|s| s.code()).sum::<Option<i32>>());
    println!("missing {:?}", Command::new("/no/such").spawn().err().map(|e| e.kind()));
    let mut sleeper = Command::new("sleep").arg("60").spawn()?;
    sleeper.kill()?;
    println!("killed {}", sleeper.wait()?);
    Ok(())
}

fn files_and_sockets() -> Outcome {
    fs::create_dir_all("dir/sub")?;
    thread::scope(|scope| {
        for i in 0..100usize {
            scope.spawn(move || fs::write(format!("dir/sub/{i}"), vec![b'x'; i * 37]));
        }
    });
    let total: u64 =
        fs::read_dir("dir/sub")?.flatten().flat_map(|e| e.metadata()).map(|m| m.len()).sum();
    println!("files {total}");
    fs::remove_dir_all("dir")?;
    let listener = UnixListener::bind("rust.sock")?;
    let server = thread::spawn(move || {
        let connections = listener.incoming().take(20).flatten();
        let echoes: Vec<_> = connections
            .map(|stream| {
                thread::spawn(move || -> std::io::Result<()> {
                    let mut writer = stream.try_clone()?;
                    for line in BufReader::new(stream).lines() {
                        writeln!(writer, "{}", line?.to_uppercase())?;
                    }
                    Ok(())
                })
            })
            .collect();
        echoes.into_iter().filter_map(|echo| echo.join().ok()).flatten().count()
    });
    let good: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|i| {
                scope.spawn(move || -> std::io::Result<usize> {
                    let mut stream = UnixStream::connect("rust.sock")?;
                    let mut reader = BufReader::new(stream.try_clone()?);
                    let mut same = 0;
                    for k in 0..50 {
                        writeln!(stream, "client {i} line {k}")?;
                        let mut line = String::new();
                        reader.read_line(&mut line)?;
                        same += usize::from(line == format!("CLIENT {i} LINE {k}\n"));
                    }
                    Ok(same)
                })
            })
            .collect();
        clients.into_iter().filter_map(|c| c.join().ok()).flatten().sum()
    });
    println!("echoes {good} {}", server.join().unwrap_or(0));
    let (mut a, mut b) = UnixStream::pair()?;
    let sender = thread::spawn(move || a.write_all(&vec![7; 3_000_000]).is_ok());
    let mut received = Vec::new();
    b.read_to_end(&mut received)?;
    println!("pair {} {:?}", received.len(), sender.join().unwrap_or(false));
    let (left, right) = UnixDatagram::pair()?;
    right.set_read_timeout(Some(Duration::from_millis(20)))?;
    left.send(b"datagram")?;
    let mut buffer = [0; 64];
    println!(
        "datagram {} {:?}",
        right.recv(&mut buffer)?,
        right.recv(&mut buffer).map_err(|e| e.kind())
    );
    Ok(())
}

fn main() -> Outcome {
    sums_and_counters();
    turns_and_barriers();
    channels()?;
    processes()?;
    files_and_sockets()
}
