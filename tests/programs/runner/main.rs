//! `programs`: runs real programs natively and in the sandbox and compares what they print and
//! how they end. A case is a directory under `tests/programs/cases`; see `case.rs` for its form.

mod case;
mod processes;
mod supervise;

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use case::{Case, Gaps};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use supervise::{Cancel, Ended};

/// Runs real programs natively and in the sandbox and compares them.
#[derive(Debug, Parser)]
struct Options {
    /// Run every case twice natively and compare, to prove that it is deterministic.
    #[arg(long)]
    native_only: bool,
    /// Platforms to run the sandbox on, comma separated.
    #[arg(long, env = "RUNSC_PLATFORMS", value_delimiter = ',', default_value = "ptrace,systrap")]
    platform: Vec<String>,
    /// The sandbox's command; by default the release build of this workspace, or $RUNSC.
    #[arg(long, env = "RUNSC")]
    runsc: Option<PathBuf>,
    /// Cases to run at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Multiplies every time limit (a slow machine, a debug build).
    #[arg(long, default_value_t = 1.0)]
    patience: f64,
    /// Print the names of the cases.
    #[arg(long)]
    list: bool,
    /// Cases to run; all when none is named.
    names: Vec<String>,
}

/// Directories that the cases share.
struct Places {
    /// Where the runner's own program and the guest programs are.
    bin: PathBuf,
    /// Prepared programs, one directory per case; kept between runs.
    prepared: PathBuf,
    /// What each run printed; kept for looking at failures.
    outputs: PathBuf,
    /// Working directories, removed at the end.
    work: PathBuf,
}

/// The verdict on one case on one platform.
enum Verdict {
    Passed,
    Failed(String),
    KnownGap(String),
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let outcome = if args.next().as_deref() == Some("supervise") {
        supervise_arguments(args.collect())
    } else {
        suite(&Options::parse())
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("programs: {error:#}");
        ExitCode::from(2)
    })
}

/// The hidden sub-command `supervise SECONDS OUT ERR -- COMMAND…`.
fn supervise_arguments(args: Vec<String>) -> Result<ExitCode> {
    let [seconds, out, err, dashes, command @ ..] = args.as_slice() else {
        bail!("supervise needs SECONDS OUT ERR -- COMMAND…");
    };
    if dashes != "--" {
        bail!("supervise needs '--' before the command");
    }
    let limit = Duration::from_secs(seconds.parse()?);
    supervise::supervise(limit, Path::new(out), Path::new(err), command)?;
    Ok(ExitCode::SUCCESS)
}

fn suite(options: &Options) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let cases = case::discover(&root.join("cases"), &options.names)?;
    let gaps = Gaps::read(&root.join("gaps.txt"))?;
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    let own = std::env::current_exe().context("finding the runner's own program")?;
    let bin = own.parent().context("the runner has no directory")?.to_owned();
    let kept = bin.parent().context("the build has no directory")?.join("programs");
    let places = Places {
        prepared: kept.join("prepared"),
        outputs: kept.join("outputs"),
        work: std::env::temp_dir().join(format!("programs.{}", std::process::id())),
        bin,
    };
    for dir in [&places.prepared, &places.outputs, &places.work] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let runsc = match &options.runsc {
        Some(path) => path.canonicalize().with_context(|| format!("{}", path.display()))?,
        None => kept.with_file_name("release").join("runsc"),
    };
    if !options.native_only && !runsc.exists() {
        bail!("{} does not exist: build it, or name it with --runsc", runsc.display());
    }
    let cancel = Arc::new(Cancel::default());
    on_interrupt(&cancel)?;
    let (next, totals) = (AtomicUsize::new(0), Mutex::new((0usize, 0usize, 0usize)));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdicts = run_case(case, options, &places, &gaps, &runsc, &cancel);
                    if cancel.stopped() {
                        break;
                    }
                    report(case, verdicts, &totals, &failures);
                }
            });
        }
    });
    fs::remove_dir_all(&places.work)
        .with_context(|| format!("removing {}", places.work.display()))?;
    if cancel.stopped() {
        bail!("interrupted");
    }
    let (passed, failed, known) = totals.into_inner().unwrap_or_default();
    let failures = failures.into_inner().unwrap_or_default();
    if !failures.is_empty() {
        println!("failed: {}", failures.join(", "));
    }
    println!("known gaps: {known}\n{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lets an interrupted run stop its programs and clean up behind itself.
fn on_interrupt(cancel: &Arc<Cancel>) -> Result<()> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].iter().for_each(|s| signals.add(*s));
    // Blocked here, before any thread exists; programs are started with an empty mask.
    signals.thread_block().context("blocking SIGINT, SIGTERM and SIGHUP")?;
    let cancel = Arc::clone(cancel);
    std::thread::spawn(move || signals.wait().map(|_| cancel.stop()));
    Ok(())
}

/// Prints a case's verdicts at once, so that parallel cases do not mix, and counts them.
fn report(
    case: &Case,
    verdicts: Vec<(String, u128, Verdict)>,
    totals: &Mutex<(usize, usize, usize)>,
    failures: &Mutex<Vec<String>>,
) {
    let Ok(mut totals) = totals.lock() else { return };
    let mut stdout = std::io::stdout().lock();
    let (red, reset) = if stdout.is_terminal() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    for (target, millis, verdict) in verdicts {
        let label = format!("{target} {} ({:.1} s)", case.name, millis as f64 / 1000.0);
        let line = match verdict {
            Verdict::Passed => {
                totals.0 = totals.0.saturating_add(1);
                format!("PASS {label}")
            }
            Verdict::KnownGap(reason) => {
                totals.2 = totals.2.saturating_add(1);
                format!("GAP  {label}: {reason}")
            }
            Verdict::Failed(why) => {
                totals.1 = totals.1.saturating_add(1);
                if let Ok(mut failures) = failures.lock() {
                    failures.push(format!("{target} {}", case.name));
                }
                format!("{red}FAIL{reset} {label}: {}", why.trim_end().replace('\n', "\n     "))
            }
        };
        // A closed stdout cannot be reported anywhere; the exit status still tells.
        let _unwritable = writeln!(stdout, "{line}");
    }
}

/// Runs one case natively and then on every platform (or natively twice).
fn run_case(
    case: &Case,
    options: &Options,
    places: &Places,
    gaps: &Gaps,
    runsc: &Path,
    cancel: &Cancel,
) -> Vec<(String, u128, Verdict)> {
    let failed = |target: &str, error: anyhow::Error| {
        vec![(target.to_owned(), 0, Verdict::Failed(format!("{error:#}")))]
    };
    let limit = case.limit.mul_f64(options.patience.max(0.1));
    let run = |target: &str, prefix: &[String]| -> Result<Ended> {
        let work = places.work.join(&case.name);
        make_work(&work)?;
        let line = command(case, places, &work, prefix);
        let ended = supervise::run(limit, &output_files(places, case, target), &line, cancel)?;
        if !prefix.is_empty() && fs::read_dir(&work)?.next().is_some() {
            bail!("the sandbox wrote to the host's {}", work.display());
        }
        remove_work(&work)?;
        Ok(ended)
    };
    let native = prepare(case, places).and_then(|()| run("native", &[]));
    let native = match native {
        Ok(Ended { status: None, .. }) => {
            return failed("native", anyhow::anyhow!("no end within {limit:?}"));
        }
        Ok(Ended { leftover, .. }) if !leftover.is_empty() => {
            return failed("native", anyhow::anyhow!("left processes behind: {leftover}"));
        }
        Ok(native) => native,
        Err(error) => return failed("native", error),
    };
    if options.native_only {
        return match run("again", &[]) {
            Ok(ended) => {
                let verdict = judge(case, places, "again", &native, &ended, limit);
                vec![("native".to_owned(), ended.millis, verdict)]
            }
            Err(error) => failed("native", error),
        };
    }
    let on_platform = |platform: &String| {
        let prefix = [
            runsc.display().to_string(),
            "--allow-suid".into(),
            "do".into(),
            format!("--platform={platform}"),
            "--".into(),
        ];
        let (millis, verdict) = match run(platform, &prefix) {
            Ok(ended) => (ended.millis, judge(case, places, platform, &native, &ended, limit)),
            Err(error) => (0, Verdict::Failed(format!("{error:#}"))),
        };
        let verdict = match (verdict, gaps.reason(platform, &case.name)) {
            (Verdict::Failed(_), Some(reason)) => Verdict::KnownGap(reason.to_owned()),
            (Verdict::Passed, Some(_)) => {
                Verdict::Failed("passes, but is listed in gaps.txt: remove the line".into())
            }
            (verdict, _) => verdict,
        };
        (platform.clone(), millis, verdict)
    };
    options.platform.iter().map(on_platform).collect()
}

/// The files that take a run's stdout and stderr.
fn output_files(places: &Places, case: &Case, target: &str) -> [PathBuf; 2] {
    ["out", "err"].map(|kind| places.outputs.join(format!("{}.{target}.{kind}", case.name)))
}

/// The command line of a case: a clean environment, the working directory, then the case.
fn command(case: &Case, places: &Places, work: &Path, prefix: &[String]) -> Vec<String> {
    let mut line = prefix.to_vec();
    // The runner may have been started with signals ignored, which programs would inherit.
    line.extend(["/usr/bin/env", "-i", "--default-signal"].map(str::to_owned));
    let variables = [
        ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("TZ", "UTC".to_owned()),
        ("HOME", work.display().to_string()),
        ("TMPDIR", work.display().to_string()),
        ("CASE", case.dir.display().to_string()),
        ("PREP", places.prepared.join(&case.name).display().to_string()),
        ("BIN_DIR", places.bin.display().to_string()),
    ];
    line.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    line.extend(["/bin/sh", "-c", "cd \"$HOME\" && exec \"$CASE/run\""].map(str::to_owned));
    line
}

/// Makes the working directory, empty, and readable by the unprivileged users of some cases.
fn make_work(work: &Path) -> Result<()> {
    fs::create_dir(work).with_context(|| format!("creating {}", work.display()))?;
    fs::set_permissions(work, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Removes a working directory; the programs may have left directories that deny it.
fn remove_work(work: &Path) -> Result<()> {
    let status = Command::new("chmod").args(["-R", "u+rwX"]).arg(work).status();
    drop(status); // The removal below reports what is wrong.
    fs::remove_dir_all(work).with_context(|| format!("removing {}", work.display()))
}

/// Runs a case's `setup`, unless what it made is newer than all of the case's files.
fn prepare(case: &Case, places: &Places) -> Result<()> {
    let Some(setup) = case.setup() else { return Ok(()) };
    let dir = places.prepared.join(&case.name);
    let stamp = dir.join(".done");
    let mut newest = None;
    for entry in fs::read_dir(&case.dir)? {
        newest = newest.max(Some(entry?.metadata()?.modified()?));
    }
    if fs::metadata(&stamp).and_then(|m| m.modified()).ok().is_some_and(|t| Some(t) > newest) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let output = Command::new(&setup)
        .current_dir(&dir)
        .env("CASE", &case.dir)
        .env("HOME", &dir)
        .output()
        .with_context(|| format!("starting {}", setup.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", setup.display(), output.status, head(&text, 10));
    }
    fs::write(&stamp, "")?;
    Ok(())
}

/// Compares a run with the native one.
fn judge(
    case: &Case,
    places: &Places,
    target: &str,
    native: &Ended,
    ended: &Ended,
    limit: Duration,
) -> Verdict {
    let [native_out, _] = output_files(places, case, "native");
    let [out, err] = output_files(places, case, target);
    let mut complaints = Vec::new();
    match ended.status {
        None => complaints.push(format!("no end within {limit:?}")),
        Some(status) if Some(status) != native.status => complaints
            .push(format!("exit status {status}, natively {}", native.status.unwrap_or(-1))),
        Some(_) => {}
    }
    if fs::read(&native_out).ok() != fs::read(&out).ok() {
        let diff = Command::new("diff").arg("-ua").args([&native_out, &out]).output();
        let text = diff.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        complaints.push(format!("output differs\n{}", head(&text.unwrap_or_default(), 30)));
    }
    if !ended.leftover.is_empty() {
        complaints.push(format!("left processes behind: {}", ended.leftover));
    }
    if complaints.is_empty() {
        return Verdict::Passed;
    }
    let stderr = fs::read(&err).unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr);
    if !stderr.trim().is_empty() {
        complaints.push(format!("stderr ({}):\n{}", err.display(), head(&stderr, 12)));
    }
    Verdict::Failed(complaints.join("\n"))
}

/// The first `lines` lines of a text, each cut to a readable width.
fn head(text: &str, lines: usize) -> String {
    let cut = |line: &str| line.chars().take(200).collect::<String>();
    let mut all = text.lines();
    let mut shown: Vec<_> = all.by_ref().take(lines).map(cut).collect();
    let rest = all.count();
    if rest > 0 {
        shown.push(format!("… {rest} more lines"));
    }
    shown.join("\n")
}
