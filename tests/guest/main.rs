//! The guest of the conformance suite.
//!
//! `conformance list [AREA]` prints the cases, `conformance run AREA[::CASE]…` runs them. A case
//! exercises the kernel by real calls and writes what it saw as a deterministic transcript; the
//! harness runs the same program on Linux and in the sandbox and compares. `conformance helper …`
//! is what cases execute as another program.

mod cases;
mod fused;
mod helper;
mod prelude;
mod registry;
mod runner;
mod sys;
mod transcript;

use std::process::ExitCode;
use transcript::say;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => list(""),
        ["list", area] => list(area),
        ["run", filters @ ..] if !filters.is_empty() => {
            filters.iter().fold(ExitCode::SUCCESS, |code, f| if run(f) { code } else { 2.into() })
        }
        ["helper", rest @ ..] => ExitCode::from(helper::main(rest)),
        // As the interpreter of a script: arguments of a helper in the script's first line.
        [first, rest @ ..] if first.starts_with("helper ") => {
            let inner: Vec<&str> = first.split(' ').skip(1).chain(rest.iter().copied()).collect();
            ExitCode::from(helper::main(&inner))
        }
        _ => {
            eprintln!("usage: conformance list [AREA] | run AREA[::CASE]...");
            2.into()
        }
    }
}

fn list(filter: &str) -> ExitCode {
    for area in cases::AREAS.iter().filter(|a| filter.is_empty() || a.name == filter) {
        for case in area.cases {
            say!("{}::{}", area.name, case.name);
        }
    }
    ExitCode::SUCCESS
}

/// Runs the cases of `AREA` or `AREA::CASE`; false when there are none.
fn run(filter: &str) -> bool {
    let (area, case) = filter.split_once("::").unwrap_or((filter, ""));
    let mut found = false;
    for area in cases::AREAS.iter().filter(|a| a.name == area) {
        for case in area.cases.iter().filter(|c| case.is_empty() || c.name == case) {
            found = true;
            runner::run(area, case);
        }
    }
    if !found {
        eprintln!("conformance: no case {filter}; `conformance list` prints them");
    }
    found
}
