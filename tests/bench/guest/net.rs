//! Connections: a server that accepts them, clients that make as many as they can, and one that holds them.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Outcome;

/// Clients that connect at the same time.
const CLIENTS: usize = 4;

/// Accepts connections at a port for ever; ends each at once, or keeps all.
pub fn accept(port: &str, keep: bool) -> Outcome<()> {
    many_files()?;
    let listener = TcpListener::bind(("0.0.0.0", port.parse()?))?;
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let stream = stream?;
        if keep {
            kept.push(stream);
        }
    }
    Ok(())
}

/// Makes `count` connections, each over when the server has ended it, and prints the nanoseconds for one.
pub fn connect(address: &str, count: &str) -> Outcome<()> {
    let each = count.parse::<usize>()? / CLIENTS;
    let start = Instant::now();
    thread::scope(|scope| {
        let client = || -> std::io::Result<()> {
            for _ in 0..each {
                let mut stream = TcpStream::connect(address)?;
                // The server's end may come as a reset, which ends it, too.
                let _ended = stream.read(&mut [0]);
            }
            Ok(())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| -> Outcome<()> {
            Ok(client.join().map_err(|_| "a client panicked")??)
        })
    })?;
    println!("connect {:.1}", start.elapsed().as_nanos() as f64 / (each * CLIENTS) as f64);
    Ok(())
}

/// Makes `count` connections, says so, and keeps them until standard input ends.
pub fn hold(address: &str, count: &str) -> Outcome<()> {
    many_files()?;
    let mut held = Vec::new();
    for _ in 0..count.parse::<usize>()? {
        held.push(TcpStream::connect(address)?);
    }
    println!("held {}", held.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Allows as many descriptors as may be had.
fn many_files() -> Outcome<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}
