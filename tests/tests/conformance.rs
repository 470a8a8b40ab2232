//! Runs the conformance suite: `cargo test -p tests --test conformance -- [OPTIONS] [FILTER…]`.
//!
//! A filter is an area, a case (`AREA::CASE`) or a part of a case's name. See `--help`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tests::conformance::exec::Programs;
use tests::conformance::gaps::Gaps;
use tests::conformance::suite::{Plan, run};

const HELP: &str = "\
usage: conformance [OPTIONS] [AREA | AREA::CASE | TEXT]...
  --list             print the selected cases
  --each             one sandbox per case instead of one per area
  --jobs N           runs at a time (default: the number of CPUs)
  --repeat N         do everything N times
  --platforms LIST   platforms, separated by commas (default: $RUNSC_PLATFORMS or both, and
                     `systrap+volume`: what is about files, on a directory of the host);
                     `native` compares Linux with itself
environment: RUNSC names the runsc to test (default: the one built beside this test)";

/// The platforms that `runsc` offers.
const PLATFORMS: &str = "ptrace,systrap,systrap+volume";

fn main() -> ExitCode {
    match suite() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("conformance: {why}");
            ExitCode::from(2)
        }
    }
}

fn suite() -> Result<bool, String> {
    let guest = PathBuf::from(env!("CARGO_BIN_EXE_conformance"));
    let beside = || guest.with_file_name("runsc");
    let runsc = std::env::var_os("RUNSC").map_or_else(beside, PathBuf::from);
    let mut platforms = std::env::var("RUNSC_PLATFORMS").unwrap_or_else(|_| PLATFORMS.into());
    let mut jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut each, mut repeat, mut only_list, mut filters) = (false, 1, false, Vec::new());

    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value\n{HELP}"));
        match arg.as_str() {
            "--list" => only_list = true,
            "--each" => each = true,
            "--jobs" => jobs = number(&value()?)?,
            "--repeat" => repeat = number(&value()?)?,
            "--platforms" => platforms = value()?,
            "--help" => {
                println!("{HELP}");
                return Ok(true);
            }
            // What `cargo test` users pass to every test program.
            "--nocapture" | "--quiet" | "-q" => {}
            text if text.starts_with('-') => return Err(format!("unknown option {text}\n{HELP}")),
            _ => filters.push(arg),
        }
    }

    let programs = Programs { guest, runsc };
    let all = programs.list()?;
    let cases = select(&all, &filters)?;
    if only_list {
        cases.iter().for_each(|c| println!("{c}"));
        return Ok(true);
    }
    let platforms: Vec<String> =
        platforms.split([',', ' ']).filter(|p| !p.is_empty()).map(String::from).collect();
    if platforms.iter().any(|p| p != "native") && !programs.runsc.exists() {
        return Err(format!(
            "{} does not exist; build it with `cargo build -p runsc-cli` in the same profile, or name \
             one in RUNSC",
            programs.runsc.display()
        ));
    }
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance-gaps.txt");
    let text = std::fs::read_to_string(list).map_err(|e| format!("cannot read {list}: {e}"))?;
    let gaps = Gaps::parse(&text, |case| all.iter().any(|c| c == case))
        .map_err(|e| format!("{list}: {e}"))?;
    let scratch = scratch();
    let plan = Plan { programs, platforms, cases, gaps, each, jobs, repeat, scratch };
    let totals = run(&plan);
    println!(
        "conformance: {} passed, {} failed, {} known gaps",
        totals.passed, totals.failed, totals.gaps
    );
    Ok(totals.failed == 0)
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

/// The cases that a filter names exactly, by area or in part; all without filters.
fn select(all: &[String], filters: &[String]) -> Result<Vec<String>, String> {
    let mut wanted = vec![filters.is_empty(); all.len()];
    for filter in filters {
        let area = format!("{filter}::");
        let exact = all.iter().any(|c| c == filter || c.starts_with(&area));
        let hit = |case: &String| match exact {
            true => case == filter || case.starts_with(&area),
            false => case.contains(filter.as_str()),
        };
        if !all.iter().any(hit) {
            return Err(format!("no case matches {filter}; --list prints them"));
        }
        all.iter().zip(&mut wanted).for_each(|(case, w)| *w |= hit(case));
    }
    Ok(all.iter().zip(wanted).filter(|(_, w)| *w).map(|(c, _)| c.clone()).collect())
}

/// Where native runs work. The sandbox's writable layer is memory, so a memory file system comes
/// first; what must not depend on the file system is shown by repeating with the others.
fn scratch() -> Vec<PathBuf> {
    ["/dev/shm", "/tmp"]
        .iter()
        .map(Path::new)
        .filter(|d| d.is_dir())
        .map(Path::to_path_buf)
        .collect()
}
