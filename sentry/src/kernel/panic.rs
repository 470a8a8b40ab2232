//! What happens when the sentry itself has a bug: one line, and the sandbox ends.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// Exit status of a sentry that panicked.
pub const PANIC_STATUS: i32 = 128;

/// What ends the sentry, given by the process that hosts it.
static END: OnceLock<fn(i32) -> !> = OnceLock::new();

/// Makes a panic on any thread print one line on stderr, and to `log`, and end the sentry through `end`. The stubs
/// die with it. Only the first call has an effect.
pub fn install(end: fn(i32) -> !, log: Option<OwnedFd>) {
    if END.set(end).is_err() {
        return;
    }
    let log = log.map(std::fs::File::from);
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let what = info
            .payload()
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let report = format!(
            "runsc: bug in the sentry, the sandbox ends: {what} (at {place}, thread {}); \
             please report this line",
            thread.name().unwrap_or("unnamed"),
        );
        eprintln!("{report}");
        if let Some(mut log) = log.as_ref() {
            let _ = log.write_all(format!("{report}\n").as_bytes());
        }
        if let Some(end) = END.get() {
            end(PANIC_STATUS);
        }
    }));
}
