//! Measures what calls to a gofer cost here: `cargo run --release -p gofer --example round_trips`.

use std::io::Write;
use std::time::{Duration, Instant};

use gofer::process::{Options, spawn};
use gofer::server::Export;
use gofer::{Client, CreateFlags, ListOptions, NodeId, OpenFlags};

type Failure = Box<dyn std::error::Error>;

const LIBC: [&[u8]; 4] = [b"usr", b"lib", b"x86_64-linux-gnu", b"libc.so.6"];
const BIN: [&[u8]; 2] = [b"usr", b"bin"];

fn main() -> Result<(), Failure> {
    let start = Instant::now();
    let temporary = std::env::temp_dir().join(format!("gofer-bench-{}", std::process::id()));
    std::fs::create_dir(&temporary)?;
    let result = measure(start, &temporary);
    std::fs::remove_dir_all(&temporary)?;
    result
}

fn measure(start: Instant, temporary: &std::path::Path) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let gofer = spawn(Options::new(vec![Export::host_root(), Export::new(temporary, false)]))?;
    let spawned = start.elapsed();
    let isolation = gofer.wait_ready()?;
    let ready = start.elapsed();
    let client = Client::connect(gofer.channels)?;
    let (root, ..) = client.attach(0)?;
    let (writable, ..) = client.attach(1)?;
    writeln!(out, "started in {spawned:?}, ready after {ready:?}, {isolation:?}")?;
    let idle = memory(gofer.pid.as_raw_nonzero().get())?;
    writeln!(out, "memory after attach: {idle} KiB PSS")?;

    let mut print = |what: &str, samples: Vec<Duration>| -> Result<(), Failure> {
        let median = |samples: &[Duration]| samples.get(samples.len() / 2).copied();
        let first = samples.first().copied().unwrap_or_default();
        let mut sorted = samples;
        sorted.sort();
        let median = median(&sorted).unwrap_or_default();
        Ok(writeln!(out, "{what:<44} median {median:>10.1?}   first {first:>10.1?}")?)
    };
    print(
        "walk usr/lib/x86_64-linux-gnu/libc.so.6",
        time(2000, || client.walk(root, &LIBC, false).map(drop))?,
    )?;
    print(
        "… with an identifier, given back",
        time(2000, || forget(&client, client.walk(root, &LIBC, true)?.node))?,
    )?;
    let libc = client.walk(root, &LIBC, true)?.node.ok_or("no libc")?;
    print("stat of a node", time(2000, || client.stat(libc, &[]).map(drop))?)?;
    let python: [&[u8]; 3] = [b"usr", b"bin", b"env"];
    print(
        "open + close usr/bin/env",
        time(2000, || client.open(root, &python, OpenFlags::READ).map(drop))?,
    )?;
    let env = client.walk(root, &python, true)?.node.ok_or("no env")?;
    print(
        "open + close of a node",
        time(2000, || client.open(env, &[], OpenFlags::READ).map(drop))?,
    )?;
    let entries = client.list(root, &BIN, false, ListOptions::default())?.entries.len();
    print(
        &format!("list usr/bin, {entries} entries"),
        time(50, || client.list(root, &BIN, false, ListOptions::default()).map(drop))?,
    )?;
    let names = ListOptions { attr_limit: 0, targets: false };
    print("… names only", time(50, || client.list(root, &BIN, false, names).map(drop))?)?;
    print(
        "create + unlink",
        time(500, || {
            let flags = CreateFlags::OPEN;
            client.create(writable, &[b"file"], 0o644, flags, None)?;
            client.unlink(writable, &[b"file"])
        })?,
    )?;

    print(
        "host: open + close usr/bin/env",
        time(2000, || {
            // To compare with; these exist, so failing is not expected.
            std::fs::File::open("/usr/bin/env").map(drop).map_err(|_| gofer::ClientError::GoferDied)
        })?,
    )?;
    print(
        "host: the same listing",
        time(50, || {
            let entries =
                std::fs::read_dir("/usr/bin").map_err(|_| gofer::ClientError::GoferDied)?;
            for entry in entries.flatten() {
                let metadata = entry.metadata().map_err(|_| gofer::ClientError::GoferDied)?;
                if metadata.is_symlink() {
                    std::hint::black_box(std::fs::read_link(entry.path()).ok());
                }
            }
            Ok(())
        })?,
    )?;
    let busy = memory(gofer.pid.as_raw_nonzero().get())?;
    writeln!(out, "memory after all of it: {busy} KiB PSS")?;
    client.close();
    rustix::process::waitpid(Some(gofer.pid), rustix::process::WaitOptions::empty())?;
    Ok(())
}

fn forget(client: &Client, node: Option<NodeId>) -> gofer::client::Result<()> {
    if let Some(node) = node {
        client.forget(node);
    }
    Ok(())
}

fn time(
    count: usize,
    mut call: impl FnMut() -> gofer::client::Result<()>,
) -> Result<Vec<Duration>, Failure> {
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        call()?;
        samples.push(start.elapsed());
    }
    Ok(samples)
}

fn memory(pid: i32) -> Result<u64, Failure> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(pss.trim().trim_end_matches(" kB").parse()?)
}
