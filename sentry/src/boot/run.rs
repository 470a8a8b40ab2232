//! From configuration to exit status.

use super::config::{BootError, Config, ExitStatus, PlatformKind};
use super::container::{Container, Joined, Parts};
use super::log::{Log, LogFormat};
use super::pod::{Later, Pod};
use super::protocol::Reply;
use super::stdio::Console;
use super::{loopback, mounts, server};
use crate::fs::dev;
use crate::kernel::namespace::user::{Extent, UserNamespace};
use crate::kernel::{Kernel, KernelConfig, LogSink, panic};
use crate::socket::inet::uplink::{Network, Uplink};
use gofer::Client;
use platform::host::{io, seccomp, thread};
use platform::kvm::{KvmPlatform, Wanted};
use platform::ptrace::PtracePlatform;
use platform::systrap::SystrapPlatform;
use platform::{MemoryFile, Platform, PlatformError, safecopy};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Stack of the sentry's own small threads, in bytes.
const STACK: usize = 128 << 10;

/// Arenas of the allocator for each CPU: threads that run at a time seldom share one.
const ARENAS_PER_CPU: usize = 2;

/// Exit status of a sentry that had to give up.
const EXIT_FAILED: i32 = 128;

/// Runs a container to its end. The calling process has given up its privileges and has one thread.
pub fn run(mut config: Config) -> Result<ExitStatus, BootError> {
    panic::install(exit, config.panic_log.take());
    let what = "cannot install the handler for memory faults";
    safecopy::install()
        .map_err(|e| BootError::Host { what, source: PlatformError::host("sigaction", e) })?;
    let what = "cannot make the memory file";
    let memory = config.memory.take().and_then(|file| MemoryFile::in_tmpfs(file).ok());
    let memory = memory
        .map_or_else(MemoryFile::new, Ok)
        .map_err(|source| BootError::Host { what, source })?;
    // Before the first thread is started: stubs descend from a copy of this process.
    let device = config.kvm.take();
    // The filter's report needs the number of the descriptor, which stays open as long as the process lives.
    let report = config.log.as_ref().map_or(libc::STDERR_FILENO, AsRawFd::as_raw_fd);
    let log = config.log.take().map(|file| Log::new(file, config.log_format));
    if let Some(log) = &log {
        log.install(config.log_level);
    }
    let (platform, filter) = platform(config.platform, config.patching, device, &memory)?;
    let filter = match &config.network {
        Some(Network::User(_)) => filter.with_user_network(),
        Some(Network::Host(_)) => filter.with_host_network(),
        // Its name server may be reached through a proxy.
        Some(Network::Interfaces(spec)) if spec.names.is_some() => filter.with_user_network(),
        None if config.network_later => filter.with_user_network(),
        _ => filter,
    };
    confine(&config, filter, report)?;
    let client = Arc::new(Client::connect(config.channels).map_err(BootError::Gofer)?);
    let log = log.map(|log| Arc::new(log) as Arc<dyn LogSink>);
    let kernel = Kernel::new(
        KernelConfig {
            hostname: config.spec.hostname.clone().into_bytes(),
            domainname: config
                .spec
                .domainname
                .clone()
                .unwrap_or_else(|| "(none)".into())
                .into_bytes(),
            memory_total: config.memory_total,
            setuid_exec: config.spec.allow_suid,
            init_immune: config.spec.init_immune,
            container: config.spec.id.clone(),
            log: log.clone(),
            ..KernelConfig::default()
        },
        platform,
        memory,
    )
    .map_err(BootError::Kernel)?;
    if let Some(log) = log.filter(|_| config.strace) {
        kernel.log_calls(log, &config.strace_calls);
    }
    if let Some((file, kinds)) = config.trace {
        kernel.call_logs.add_events(Arc::new(Log::new(file, LogFormat::Text)), kinds);
    }
    dev::register();
    show_maps(&config.spec.id_maps);
    let mut later = None;
    match config.network {
        Some(mut network) => {
            let net = kernel.namespaces.net.net();
            let loopback = match &mut network {
                Network::Interfaces(spec) => spec.loopback.take(),
                _ => None,
            };
            Uplink::start(net, network, config.pcap).map_err(BootError::Network)?;
            if let Some(spec) = loopback {
                loopback::serve(net, spec).map_err(thread_failed)?;
            }
        }
        None if config.network_later => {
            later = Some(Later { egress: config.egress, pcap: config.pcap });
        }
        None => {}
    }
    let namespaces = Container::namespaces(&kernel, (*kernel.namespaces).clone(), &config.spec)?;
    let mounts = mounts::build(&kernel, &namespaces, &client, &config.spec)?;
    watch_gofer(&client)?;
    let joined = Joined::default();
    let container = Arc::new(Container::new(Parts {
        kernel: kernel.clone(),
        namespaces,
        mounts,
        cgroup: kernel.cgroup.clone(),
        owns_pids: true,
        joined: joined.clone(),
        files: config.files,
        spec: &config.spec,
    })?);
    container.limit(&config.spec.limits);
    let pod = Pod::new(container.clone(), joined, later);
    if config.start {
        container.start()?;
    } else {
        container.check()?;
        // Whoever started the sandbox may have gone, which the server notices.
        let _ = config.control.send(&Reply::Ready, &[]);
    }
    server::serve(&pod, config.control, config.listener).map_err(thread_failed)?;
    if config.console_signals {
        let console = container.console.clone();
        thread::spawn("console-size", STACK, move || follow_size(console.as_deref()))
            .map_err(thread_failed)?;
    }
    let status = kernel.wait_finished();
    if let Some(console) = &container.console {
        console.finish();
    }
    let status = match status & 0x7f {
        0 => ExitStatus::Exited((status >> 8 & 0xff) as u8),
        signal => ExitStatus::Signaled(signal as u8),
    };
    if let Some(file) = config.exit {
        // Who asks later learns less, if it cannot be written.
        let _ = io::write(file.as_fd(), status.for_shell().to_string().as_bytes(), None);
    }
    pod.wait_reports();
    Ok(status)
}

/// Lets the root user namespace look like the container's on the host.
fn show_maps(maps: &[Vec<(u32, u32, u32)>; 2]) {
    if maps.iter().all(|map| !map.is_empty()) {
        let extent = |&(first, lower, count): &(u32, u32, u32)| Extent { first, lower, count };
        UserNamespace::show_root_as(maps.each_ref().map(|map| map.iter().map(extent).collect()));
    }
}

/// The host's terminal is that of the sentry's session: its size changes with a signal, which is blocked in
/// every thread.
fn follow_size(console: Option<&Console>) {
    while let Some(console) = console {
        match thread::wait_signal(&[libc::SIGWINCH], None) {
            Ok(_) => console.follow_host(),
            Err(platform::host::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Gives up what only setting up needed. The process has one thread still, and its stubs descend from another.
fn confine(
    config: &Config,
    filter: &'static seccomp::Filter,
    report: RawFd,
) -> Result<(), BootError> {
    let failed =
        |what| move |e| BootError::Host { what, source: PlatformError::host("seccomp", e) };
    let cpus = thread::affinity(0).map_or(1, |set| set.cpus().count());
    seccomp::limit_arenas(cpus * ARENAS_PER_CPU);
    seccomp::hide_process().map_err(failed("cannot hide the process"))?;
    filter
        .install(config.host_seccomp, report)
        .map_err(failed("cannot install the filter of host calls"))
}

/// A platform, and the filter for the host calls that it needs.
type Backend = (Arc<dyn Platform>, &'static seccomp::Filter);

/// The platform that is wanted. Why `auto` passes one over is a line in the debug log.
fn platform(
    kind: PlatformKind,
    patching: bool,
    device: Option<OwnedFd>,
    memory: &Arc<MemoryFile>,
) -> Result<Backend, BootError> {
    let pass = |why: &str| tracing::info!("{why}");
    let explicit = kind == PlatformKind::Kvm;
    match device {
        Some(device) if explicit || kind == PlatformKind::Auto => {
            let wanted = if explicit { Wanted::Explicit } else { Wanted::Auto };
            match KvmPlatform::new(memory.clone(), device, wanted) {
                Ok(platform) => return Ok((platform, &seccomp::KVM)),
                Err(error) if explicit => return Err(BootError::Platform("kvm", error)),
                Err(error) => pass(&format!("not using kvm: {error}")),
            }
        }
        None if explicit => {
            let why = "/dev/kvm is not there or cannot be opened; use another platform".to_owned();
            return Err(BootError::Platform("kvm", PlatformError::Unsupported(why)));
        }
        _ => {}
    }
    if matches!(kind, PlatformKind::Auto | PlatformKind::Systrap) {
        match SystrapPlatform::new(memory.clone(), patching) {
            Ok(platform) => return Ok((platform, &seccomp::SYSTRAP)),
            Err(PlatformError::Unsupported(why)) if kind == PlatformKind::Auto => {
                pass(&format!("using the ptrace platform, which is slower: {why}"));
            }
            Err(error) => return Err(BootError::Platform("systrap", error)),
        }
    }
    match PtracePlatform::new(memory.clone()) {
        Ok(platform) => Ok((platform, &seccomp::PTRACE)),
        Err(error) => Err(BootError::Platform("ptrace", error)),
    }
}

pub(super) fn thread_failed(e: platform::host::Errno) -> BootError {
    let source = PlatformError::host("clone", e);
    BootError::Host { what: "cannot start a thread", source }
}

/// A sandbox without files is of no use: it ends with its gofer.
fn watch_gofer(client: &Arc<Client>) -> Result<(), BootError> {
    client.on_death(|| {
        eprintln!("runsc: the gofer has died; the sandbox ends");
        exit(EXIT_FAILED);
    });
    let watched = client.clone();
    thread::spawn("gofer-watch", STACK, move || watched.wait_for_death())
        .map(drop)
        .map_err(thread_failed)
}

/// Ends the sandbox at once. The first process of the pid namespace takes every stub with it.
pub(super) fn exit(status: i32) -> ! {
    std::process::exit(status)
}

#[cfg(test)]
mod tests {
    use platform::host::calls::{HOST_CALLS, Phase};

    /// The client of the gofer lives in the sentry, and under its filter.
    #[test]
    fn the_filter_allows_what_the_gofers_client_needs() {
        for call in gofer::client::calls::CALLS {
            let known = HOST_CALLS.iter().find(|known| known.number == call.number);
            assert_eq!(known.map(|known| known.phase), Some(Phase::Run), "{}", call.name);
        }
    }
}
