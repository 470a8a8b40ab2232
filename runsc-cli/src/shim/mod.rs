//! `containerd-shim-runsc-v1`: containerd's runtime v2 shim, this program under another name.
//!
//! containerd runs it with `start` for every container, and gets the address of a socket, behind which one process
//! answers the task API for a container or for all of a pod ([`task`]); and with `delete` when that process has
//! died. [`settings`] are what containerd's configuration says, [`process`] is a container's first process or one of
//! `exec`, [`stdio`] its streams, [`rootfs`] the mounts that containerd asks for, [`events`] what it is told, [`memory`] when memory
//! runs out.

mod events;
mod memory;
mod process;
mod rootfs;
mod settings;
mod stdio;
mod task;

use crate::container::Container;
use crate::log;
use anyhow::{Context, bail};
use containerd_shim_protos as protos;
use protos::protobuf::Message;
use protos::ttrpc::Server;
use rustix::io::dup;
use settings::Settings;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};

/// The name under which this program is the shim; containerd derives it from `io.containerd.runsc.v1`.
pub const NAME: &str = "containerd-shim-runsc-v1";
/// Where shims have their sockets, as those of containerd have.
const SOCKETS: &str = "/run/containerd/s";
/// The annotation that names the pod of a container.
const POD: &str = "io.kubernetes.cri.sandbox-id";
/// Exit status of a container whose shim died with it.
const KILLED: u32 = 137;

/// True if the program was called by this name.
pub fn is_wanted(name: &OsStr) -> bool {
    Path::new(name).file_name().is_some_and(|name| name == NAME)
}

/// What containerd says on the command line.
#[derive(Debug, Default)]
struct Flags {
    namespace: String,
    address: String,
    id: String,
    bundle: Option<PathBuf>,
    action: String,
}

/// Flags of Go's form: one or two dashes, the value after `=` or as the next argument.
fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Flags> {
    let mut flags = Flags::default();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--").or(arg.strip_prefix('-')) else {
            flags.action = arg;
            continue;
        };
        let (name, value) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v)));
        if ["debug", "v", "info"].contains(&name) {
            continue;
        }
        let value = match value {
            Some(value) => value.to_owned(),
            None => args.next().with_context(|| format!("-{name} needs a value"))?,
        };
        match name {
            "namespace" => flags.namespace = value,
            "address" => flags.address = value,
            "id" => flags.id = value,
            "bundle" => flags.bundle = Some(value.into()),
            // Of no use here: events go to the address in TTRPC_ADDRESS.
            "publish-binary" | "socket" => {}
            other => bail!("unknown flag -{other}"),
        }
    }
    if flags.namespace.is_empty() || flags.id.is_empty() {
        bail!("-namespace and -id are needed: containerd is to call this program");
    }
    crate::state::check_id(&flags.id)?;
    crate::state::check_id(&flags.namespace)?;
    Ok(flags)
}

/// Runs the shim.
pub fn main() -> anyhow::Result<u8> {
    let flags = parse(std::env::args().skip(1))?;
    match flags.action.as_str() {
        "start" => start(&flags),
        "delete" => delete(&flags),
        "" => serve(&flags),
        other => bail!("unknown action {other:?}: there are start and delete"),
    }?;
    Ok(0)
}

/// The socket of the shim for a container or its pod.
fn socket(flags: &Flags, group: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (&flags.address, &flags.namespace, group).hash(&mut hasher);
    Path::new(SOCKETS).join(format!("runsc-{:016x}", hasher.finish()))
}

/// The pod of the container whose bundle is the working directory, or its own id.
fn group(id: &str) -> anyhow::Result<String> {
    let text = fs::read("config.json").context("cannot read the bundle's config.json")?;
    let config: serde_json::Value =
        serde_json::from_slice(&text).context("config.json is not valid JSON")?;
    let pod = config.get("annotations").and_then(|all| all.get(POD)).and_then(|pod| pod.as_str());
    Ok(pod.unwrap_or(id).to_owned())
}

/// Starts a process that answers, unless the pod has one, and prints its address.
fn start(flags: &Flags) -> anyhow::Result<()> {
    let path = socket(flags, &group(&flags.id)?);
    if UnixStream::connect(&path).is_err() {
        fs::create_dir_all(SOCKETS).with_context(|| format!("cannot make {SOCKETS}"))?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Command::new("/proc/self/exe")
            .arg0(NAME)
            .args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address])
            // It listens already, so that nobody has to wait for it.
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the process that is to answer containerd")?;
    }
    let address = format!("unix://{}", path.display());
    // containerd finds it there when it is started again.
    fs::write("address", &address).context("cannot write the shim's address to the bundle")?;
    std::io::stdout().write_all(address.as_bytes()).context("cannot tell the shim's address")
}

/// Removes what is left of a container whose shim has died.
fn delete(flags: &Flags) -> anyhow::Result<()> {
    let bundle = match &flags.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().context("no bundle is named")?,
    };
    let settings = Settings::load(&bundle, &flags.namespace)?;
    // One that does not exist is no error.
    if let Ok(container) = Container::open(&settings.global.state_root(), &flags.id)
        .or_else(|_| Container::damaged(&settings.global.state_root(), &flags.id))
    {
        container.delete(true)?;
    }
    rootfs::unmount(&bundle);
    let mut response = protos::api::DeleteResponse::new();
    response.exit_status = KILLED;
    response.exited_at = Some(events::now()).into();
    let bytes = response.write_to_bytes().context("cannot encode the answer")?;
    std::io::stdout().write_all(&bytes).context("cannot answer containerd")
}

/// Answers on the socket that is the standard input, until containerd says that it is enough.
fn serve(flags: &Flags) -> anyhow::Result<()> {
    // containerd reads the FIFO of that name in the bundle. Without it nobody does.
    let _ = log::open(Path::new("log"), log::Format::Text);
    let listener = dup(std::io::stdin().as_fd()).context("cannot take the socket")?;
    let address = UnixListener::from(listener.try_clone().context("cannot copy the socket")?)
        .local_addr()
        .context("standard input is not the shim's socket")?;
    std::env::set_current_dir("/").context("cannot leave the bundle")?;
    let events = events::publisher(&flags.namespace)?;
    let (stop, stopped) = mpsc::channel();
    let service = Arc::new(task::Service::new(&flags.namespace, events, stop));
    let mut methods = protos::create_task(Arc::clone(&service) as _);
    // The same messages under their name of before containerd 2.
    let older = protos::create_task(service as _);
    methods.extend(older.into_iter().map(|(name, method)| (name.replace(".v3.", ".v2."), method)));
    let mut server = Server::new()
        .add_listener(listener.into_raw_fd())
        .context("cannot listen")?
        .register_service(methods);
    server.start().context("cannot answer containerd")?;
    // It ends with the service at the latest, which does not end.
    let _ = stopped.recv();
    if let Some(path) = address.as_pathname() {
        // Whoever starts a shim removes what is left there.
        let _ = fs::remove_file(path);
    }
    // Threads that copy terminals may wait for ever; nothing of theirs is left.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{is_wanted, parse};
    use std::ffi::OsStr;

    #[test]
    fn command_line() {
        let of = |text: &str| parse(text.split(' ').map(String::from));
        let flags =
            of("-namespace default -debug --address=/a -publish-binary /b -id x start").unwrap();
        assert_eq!((flags.namespace.as_str(), flags.address.as_str()), ("default", "/a"));
        assert_eq!((flags.id.as_str(), flags.action.as_str()), ("x", "start"));
        for bad in ["start", "-namespace n -id ../x start", "-namespace n -id", "-id x -nope y"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(is_wanted(OsStr::new("/x/containerd-shim-runsc-v1")));
        assert!(!is_wanted(OsStr::new("runsc")));
    }
}
