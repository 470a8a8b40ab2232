//! `bench`: measures native Linux, this workspace's sandbox on each platform and gVisor side by
//! side, round by round, so that a noisy machine disturbs all of them alike. Prints medians and
//! ratios to native.

mod measure;
#[path = "../programs/runner/processes.rs"]
mod processes;
mod report;
mod systems;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use report::Report;
use serde_json::json;
use systems::System;
use workloads::WORKLOADS;

/// The micro-benchmarks of `bench-guest`, and the unit and scale they are shown in.
const MICRO: &[(&str, &str, f64)] = &[
    ("getppid", "µs", 1e3),
    ("clock_gettime", "µs", 1e3),
    ("pread-4k", "µs", 1e3),
    ("open-close", "µs", 1e3),
    ("stat", "µs", 1e3),
    ("pipe", "µs", 1e3),
    ("futex-ping-pong", "µs", 1e3),
    ("process-ping-pong", "µs", 1e3),
    ("page-fault", "µs/page", 1e3),
    ("page-fault-small", "µs/page", 1e3),
    ("munmap", "µs/page", 1e3),
    ("mmap-munmap", "µs", 1e3),
    ("fork-exit-wait", "ms", 1e6),
    ("fork-exec-wait", "ms", 1e6),
    ("cpu-loop", "ns", 1.0),
];

/// Starts of `do true` in a whole run, at least.
const STARTS: usize = 20;

/// Compares native Linux, this sandbox and gVisor.
#[derive(Debug, Parser)]
struct Options {
    /// Platforms of this workspace's runsc to measure, comma separated; one that does not run here
    /// is left out, and that is said.
    #[arg(long, env = "RUNSC_PLATFORMS", value_delimiter = ',', default_value = "ptrace,systrap")]
    platforms: Vec<String>,
    /// This workspace's runsc; built in release mode when not given.
    #[arg(long)]
    runsc: Option<PathBuf>,
    /// gVisor's runsc; searched on PATH when not given.
    #[arg(long)]
    gvisor: Option<PathBuf>,
    /// Platforms of gVisor to measure; one that does not run is left out.
    #[arg(long, value_delimiter = ',', default_value = "systrap,ptrace")]
    gvisor_platforms: Vec<String>,
    /// Only these benchmarks, comma separated (names as in the table, or micro, start, idle,
    /// workloads).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds; every round measures every system.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
    /// Write all samples to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Options {
    /// Whether a benchmark of a group is asked for.
    fn wants(&self, group: &str, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == group || only == name)
    }
}

fn main() -> ExitCode {
    match bench(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs everything; whether all that was asked for could be measured.
fn bench(options: &Options) -> Result<bool> {
    let known = |only: &String| {
        ["micro", "start", "idle", "workloads", "start-up", "idle-memory", "idle-cpu"]
            .contains(&only.as_str())
            || MICRO.iter().any(|m| m.0 == only)
            || WORKLOADS.iter().any(|w| w.name == only)
    };
    if let Some(unknown) = options.only.iter().find(|only| !known(only)) {
        bail!("--only {unknown}: there is no such benchmark");
    }
    nix::sys::prctl::set_child_subreaper(true).context("becoming the reaper of orphans")?;
    let dir = Scratch(std::env::temp_dir().join(format!("bench.{}", std::process::id())));
    on_interrupt(&dir.0)?;
    let guest = build("tests", "bench-guest")?;
    fs::create_dir_all(&dir.0).with_context(|| format!("creating {}", dir.0.display()))?;
    let systems = systems(options, &dir.0)?;
    let names: Vec<String> = systems.iter().map(|s| s.name.clone()).collect();
    if WORKLOADS.iter().any(|w| options.wants("workloads", w.name)) {
        workloads::prepare(&dir.0)?;
    }
    let mut report = Report::default();
    for round in 1..=options.repeat.max(1) {
        eprintln!("round {round} of {}", options.repeat.max(1));
        micro(options, &systems, &dir.0, &guest, &mut report);
        starts(options, &systems, &dir.0, &mut report);
        workload(options, &systems, &dir.0, &guest, &mut report);
        if round == 1 {
            idle(options, &systems, &dir.0, &mut report);
        }
    }
    let table = if options.markdown { report.markdown(&names) } else { report.text(&names) };
    print!("{table}");
    eprint!("{}", report.failures());
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report.json(&names, machine()))?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report.failures.is_empty())
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("bench: removing {}: {error}", self.0.display());
        }
    }
}

/// Lets an interrupted run stop what it started and remove its directory.
fn on_interrupt(dir: &Path) -> Result<()> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].iter().for_each(|s| signals.add(*s));
    // Blocked here, before any thread exists; programs are started with an empty mask.
    signals.thread_block().context("blocking SIGINT, SIGTERM and SIGHUP")?;
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            let stopped = measure::kill_descendants();
            drop(Scratch(dir));
            let note = stopped.map_or_else(|error| format!(": {error:#}"), |()| String::new());
            eprintln!("bench: interrupted{note}");
            std::process::exit(130);
        }
    });
    Ok(())
}

/// The systems to compare, native first; gVisor's only as far as they run here.
fn systems(options: &Options, cwd: &Path) -> Result<Vec<System>> {
    let mut systems = vec![System::native()];
    if !options.platforms.iter().all(String::is_empty) {
        let runsc = match &options.runsc {
            Some(path) => {
                path.canonicalize().with_context(|| format!("--runsc {}", path.display()))?
            }
            None => build("runsc-cli", "runsc")?,
        };
        let ours = options.platforms.iter().map(|p| System::ours(&runsc, p));
        systems.extend(ours.filter(|system| runs(system, cwd)));
    }
    let Some(gvisor) = options.gvisor.clone().or_else(systems::find_gvisor) else {
        eprintln!("gVisor's runsc is not on PATH: its column is left out");
        return Ok(systems);
    };
    let gvisor = gvisor.canonicalize().with_context(|| format!("{}", gvisor.display()))?;
    let peers = options.gvisor_platforms.iter().filter(|p| !p.is_empty());
    let peers = peers.map(|p| System::gvisor(&gvisor, p));
    systems.extend(peers.filter(|system| runs(system, cwd)));
    Ok(systems)
}

/// Whether a system can run a program here; says why not.
fn runs(system: &System, cwd: &Path) -> bool {
    match measure::probe(system, cwd) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{} is left out: {error:#}", system.name);
            false
        }
    }
}

/// Builds one of the workspace's programs in release mode and returns its path.
fn build(package: &str, bin: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", package, "--bin", bin])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("building {bin} failed");
    }
    let own = std::env::current_exe().context("finding the benchmark's own program")?;
    let built = own.parent().and_then(Path::parent).context("the build has no directory")?;
    Ok(built.join("release").join(bin))
}

/// What identifies the machine in the JSON file.
fn machine() -> serde_json::Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("");
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model.trim_start_matches(['\t', ' ', ':']),
    })
}

fn micro(o: &Options, systems: &[System], cwd: &Path, guest: &Path, report: &mut Report) {
    // One program start per benchmark: a benchmark that fails must not hide the others.
    for (name, unit, scale) in MICRO.iter().filter(|m| o.wants("micro", m.0)) {
        for system in systems {
            let line = [guest.display().to_string(), "micro".to_owned(), (*name).to_owned()];
            match measure::guest(system, cwd, &line) {
                Ok(values) => {
                    values.values().for_each(|ns| report.add(name, unit, &system.name, ns / scale))
                }
                Err(error) => report.fail(name, &system.name, &error),
            }
        }
    }
}

fn starts(o: &Options, systems: &[System], cwd: &Path, report: &mut Report) {
    if !o.wants("start", "start-up") {
        return;
    }
    for _ in 0..STARTS.div_ceil(o.repeat.max(1)) {
        for system in systems {
            match measure::run(system, cwd, &["true".to_owned()]) {
                Ok(done) => {
                    report.add("start-up", "ms", &system.name, done.elapsed.as_secs_f64() * 1e3);
                }
                Err(error) => report.fail("start-up", &system.name, &error),
            }
        }
    }
}

fn idle(o: &Options, systems: &[System], cwd: &Path, report: &mut Report) {
    if !o.wants("idle", "idle-memory") && !o.wants("idle", "idle-cpu") {
        return;
    }
    for system in systems {
        match measure::idle(system, cwd) {
            Ok(idle) => {
                report.add("idle-memory", "MiB", &system.name, idle.pss_mib);
                report.add("idle-cpu", "% of a CPU", &system.name, idle.cpu_percent);
            }
            Err(error) => report.fail("idle", &system.name, &error),
        }
    }
}

fn workload(o: &Options, systems: &[System], cwd: &Path, guest: &Path, report: &mut Report) {
    for workload in WORKLOADS.iter().filter(|w| o.wants("workloads", w.name)) {
        for system in systems {
            let script = format!("export HOME={0}; cd {0} && {1}", cwd.display(), workload.script);
            let guest = guest.display().to_string();
            let line = [guest, "time".into(), "/bin/sh".into(), "-c".into(), script];
            match measure::guest(system, cwd, &line) {
                Ok(values) => values
                    .values()
                    .for_each(|ns| report.add(workload.name, "s", &system.name, ns / 1e9)),
                Err(error) => report.fail(workload.name, &system.name, &error),
            }
        }
    }
}
