//! `exits RUNSC GUEST [OPERATION]...`: what operations of a guest program cost in exits of the virtual machine on `--platform=kvm`,
//! and in time on every platform and natively. Runs as root on a machine whose `/dev/kvm` works and on which no other
//! virtual machine runs: exits are those that the host's kernel counts (`kvm/exits` in debugfs).

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

/// Exits of all virtual machines that there are.
const COUNTER: &str = "/sys/kernel/debug/kvm/exits";

/// The guest's operations ([`bench-guest count`]), how many are made, and the exits that one may cost at most, where that
/// is settled.
///
/// [`bench-guest count`]: ../bench/guest/count.rs
const OPERATIONS: &[(&str, u64, f64)] = &[
    ("getpid", 2000, 0.01),
    ("gettid", 2000, 0.01),
    ("getppid", 2000, 0.01),
    ("getpgrp", 2000, 0.01),
    ("getuid", 2000, 0.01),
    ("getegid", 2000, 0.01),
    // A call where the time stamp counter is not invariant, as that of the emulated CPU; nothing elsewhere.
    ("clock_gettime", 2000, 1.1),
    ("umask", 1000, 1.1),
    ("lseek", 1000, 0.01),
    ("futex-wake", 1000, 0.01),
    ("futex-wait", 1000, 0.01),
    ("sigprocmask", 1000, 0.01),
    ("pipe", 500, 0.02),
    ("open-close", 300, 2.2),
    ("mmap-munmap", 300, f64::INFINITY),
    ("page", 4096, 0.1),
    ("page-small", 4096, f64::INFINITY),
    ("futex-switch", 300, f64::INFINITY),
    ("pipe-switch", 300, f64::INFINITY),
    ("fork-exit-wait", 40, 60.0),
    ("fork-exec-wait", 20, f64::INFINITY),
];

/// Where the operations are made.
const SYSTEMS: [&str; 4] = ["native", "kvm", "systrap", "ptrace"];

/// Times that all is measured; the least counts, for timers of the host end the machine's run now and then, too.
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [runsc, guest, names @ ..] = args.as_slice() else {
        eprintln!("usage: exits RUNSC GUEST [OPERATION]...");
        return ExitCode::from(2);
    };
    match report(runsc, guest, names) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("exits: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Prints a line for each operation, or for those that are named. False if one costs more exits than it may.
fn report(runsc: &str, guest: &str, names: &[String]) -> Result<bool> {
    let mut good = true;
    print!("{:<16} {:>10}", "operation", "exits");
    SYSTEMS.iter().for_each(|system| print!(" {:>12}", format!("{system} µs")));
    println!();
    for &(name, count, most) in OPERATIONS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let (mut exits, mut times) = (f64::NAN, Vec::new());
        for system in SYSTEMS {
            let measured = Guest::start(system, runsc, guest, name)
                .and_then(|mut guest| guest.measure(count))
                .with_context(|| format!("{name} on {system}"))?;
            times.push(measured.nanoseconds / 1000.0);
            if system == "kvm" {
                exits = measured.exits;
            }
        }
        print!("{name:<16} {exits:>10.3}");
        times.iter().for_each(|time| print!(" {time:>12.2}"));
        println!();
        if most.is_finite() {
            let ok = exits <= most;
            println!(
                "step {}: {name} costs at most {most} exits",
                if ok { "ok" } else { "failed" }
            );
            good &= ok;
        }
    }
    Ok(good)
}

/// What one operation costs.
struct Cost {
    exits: f64,
    nanoseconds: f64,
}

/// A guest that makes operations on demand.
struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Guest {
    fn start(system: &str, runsc: &str, guest: &str, name: &str) -> Result<Self> {
        let mut command = if system == "native" {
            Command::new(guest)
        } else {
            let mut command = Command::new(runsc);
            command.args(["do", &format!("--platform={system}"), "--", guest]);
            command
        };
        command.args(["count", name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the guest")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut guest = Self { child, input, output };
        ensure!(guest.line()? == "ready", "the guest has not started");
        Ok(guest)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("reading from the guest")?;
        Ok(line.trim().to_owned())
    }

    /// Exits and nanoseconds of `count` operations.
    fn operate(&mut self, count: u64) -> Result<(u64, u64)> {
        let before = exits()?;
        let input = self.input.as_mut().context("no input")?;
        writeln!(input, "{count}").context("writing to the guest")?;
        let nanoseconds = self.line()?.parse().context("the guest has ended")?;
        Ok((exits()?.saturating_sub(before), nanoseconds))
    }

    /// The cost of one operation, without that of asking for none.
    fn measure(&mut self, count: u64) -> Result<Cost> {
        self.operate(count.min(16))?;
        let (mut exits, mut nanoseconds, mut asking) = (u64::MAX, u64::MAX, u64::MAX);
        for _ in 0..ROUNDS {
            asking = asking.min(self.operate(0)?.0);
            let (e, n) = self.operate(count)?;
            (exits, nanoseconds) = (exits.min(e), nanoseconds.min(n));
        }
        let per = |total: u64| total as f64 / count as f64;
        Ok(Cost { exits: per(exits.saturating_sub(asking)), nanoseconds: per(nanoseconds) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends with its input; one that cannot be waited for has gone.
        let _status = self.child.wait();
    }
}

fn exits() -> Result<u64> {
    let text = std::fs::read_to_string(COUNTER).with_context(|| format!("reading {COUNTER}"))?;
    match text.trim().parse() {
        Ok(count) => Ok(count),
        Err(error) => bail!("{COUNTER}: {error}"),
    }
}
