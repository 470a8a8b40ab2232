//! `runsc kill`: sends a signal.

use crate::cli::{Global, KillArgs};
use crate::container::Container;
use anyhow::bail;
use nix::sys::signal::Signal;
use sentry::boot::protocol::Target;

/// Highest signal number of Linux.
const SIGNAL_MAX: i32 = 64;

/// Sends it.
pub fn run(global: &Global, args: &KillArgs) -> anyhow::Result<u8> {
    let number = number(&args.signal)?;
    let to = match (args.all, args.pid, args.pgid) {
        (true, None, None) => Target::All,
        (false, None, Some(pgid)) => Target::Group(pgid),
        (false, Some(pid), None) => Target::Process(pid),
        // The container's first process, which need not have the number 1.
        (false, None, None) => Target::Own,
        _ => bail!("--all, --pid and --pgid exclude each other"),
    };
    // Not locked: a container that hangs in another command must still be killed.
    Container::look(&global.state_root(), &args.id)?.kill(to, number)?;
    Ok(0)
}

/// The number of a signal given as `9`, `KILL` or `SIGKILL`; real-time ones as `RTMIN+1` too.
pub fn number(text: &str) -> anyhow::Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        if !(0..=SIGNAL_MAX).contains(&number) {
            bail!("invalid signal {number}: there are 1 to {SIGNAL_MAX}");
        }
        return Ok(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    // RTMIN and RTMAX as the C library counts them.
    let relative = |base: i32, rest: &str| match rest {
        "" => Some(base),
        rest => {
            rest.parse::<i32>().ok().map(|n| base + n).filter(|n| (34..=SIGNAL_MAX).contains(n))
        }
    };
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => relative(34, rest),
        (_, Some(rest)) => relative(SIGNAL_MAX, rest),
        _ => None,
    };
    match (real_time, format!("SIG{name}").parse::<Signal>()) {
        (Some(number), _) => Ok(number),
        (None, Ok(signal)) => Ok(signal as i32),
        (None, Err(_)) => bail!("invalid signal {text:?}: use a number or a name such as TERM"),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals() {
        for (text, expected) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+1", 35), ("RTMAX-1", 63), ("0", 0)]
        {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for bad in ["65", "-1", "NOPE", "RTMIN+99", ""] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
