//! A guest that means harm: what it does to itself is of no matter, but the sandbox must go on.
//!
//! `fault fuzz` makes random system calls (see [`fuzz`]), `fault threads`, `storm` and `forks` have much of something (see
//! [`many`]), `fault takeover` attacks the process it runs in (see [`takeover`]). It refuses to run outside of a sandbox, because
//! some of what it does would harm the machine.

mod fuzz;
mod many;
mod random;
#[path = "../../guest/sys/mod.rs"]
#[expect(dead_code, reason = "shared with the conformance suite, which uses all of it")]
mod sys;
mod takeover;

use std::process::ExitCode;

const USAGE: &str = "usage: fault fuzz [--seed N] [--rounds N] [--seconds N] [--calls LIST]
       fault threads|storm|forks [--count N]
       fault takeover";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = Options { args: args.get(1..).unwrap_or_default() };
    if !in_sandbox() {
        eprintln!("fault: this is not a sandbox; nothing done");
        return ExitCode::from(2);
    }
    let done = match args.first().map(String::as_str) {
        Some("fuzz") => fuzz::main(&options),
        Some("threads") => many::threads(&options),
        Some("storm") => many::storm(&options),
        Some("forks") => many::forks(&options),
        Some("takeover") => takeover::main(),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fault: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the kernel is ours.
fn in_sandbox() -> bool {
    std::fs::read_to_string("/proc/version").is_ok_and(|text| text.contains("runsc"))
}

/// Options of the form `--name value`.
struct Options<'a> {
    args: &'a [String],
}

impl Options<'_> {
    /// The value of an option.
    fn text(&self, name: &str) -> Option<&str> {
        let at = self.args.iter().position(|arg| arg == name)?;
        self.args.get(at + 1).map(String::as_str)
    }

    /// The value of an option that is a number.
    fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}
