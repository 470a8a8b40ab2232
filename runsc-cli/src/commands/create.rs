//! `runsc create`: a container up to its first process.

use crate::cli::{BundleArgs, Global};
use crate::container::create::{Options, create, detach};

/// Creates it; it waits for `start`.
pub fn run(global: &Global, args: &BundleArgs) -> anyhow::Result<u8> {
    let (_container, running) = create(global, &args.id, &options(args, false, false))?;
    detach(running)?;
    Ok(0)
}

/// What the flags ask for.
pub fn options(args: &BundleArgs, attached: bool, own_terminal: bool) -> Options {
    Options {
        bundle: args.bundle.clone(),
        config: args.config.clone(),
        pid_file: args.pid_file.clone(),
        console_socket: args.console_socket.clone(),
        preserve_fds: args.preserve_fds,
        pass_fds: args.pass_fd.clone(),
        publish: args.publish.clone(),
        attached,
        own_terminal,
    }
}
