//! `runsc run`: create, start, wait and delete in one.

use super::create::options;
use crate::cli::{Global, RunArgs};
use crate::container::create::{create, detach};
use crate::log;
use crate::sandbox::supervise;
use crate::sandbox::terminal::Terminal;

/// Runs the bundle to its end, or only starts it; the result is the exit status of its program.
pub fn run(global: &Global, args: &RunArgs) -> anyhow::Result<u8> {
    let foreground = !args.detach;
    let own_terminal = foreground && args.bundle.console_socket.is_none();
    if foreground {
        supervise::block_signals()?;
    }
    let options = options(&args.bundle, foreground, own_terminal);
    let (container, running) = create(global, &args.bundle.id, &options)?;
    if !foreground {
        detach(running)?;
        if let Err(e) = container.start(global.host_seccomp) {
            if let Err(e) = container.delete(true) {
                log::warn(&format!("{e:#}"));
            }
            return Err(e);
        }
        return Ok(0);
    }
    let terminal = own_terminal && container.has_terminal();
    let terminal = terminal.then(Terminal::open).transpose();
    let status = terminal.and_then(|terminal| {
        container.start_on(&running.control, global.host_seccomp)?;
        supervise::wait(running, terminal)
    });
    if args.keep {
        return status;
    }
    // The program's status is what counts; what is left is said all the same.
    if let Err(e) = container.delete(true) {
        log::warn(&format!("{e:#}"));
    }
    status
}
