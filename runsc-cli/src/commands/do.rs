//! `runsc do`: a command in a sandbox, with nothing to set up.

use crate::bundle::{self, capabilities};
use crate::cli::{DoArgs, Global};
use crate::sandbox::{Exports, Life, Sandbox, standard_streams, terminal::Terminal};
use anyhow::{Context, bail};
use nix::unistd::{getegid, geteuid, getgroups};
use sentry::boot::{
    ContainerSpec, HooksSpec, Ids, LimitSpec, MountKind, MountSpec, ProcessSpec, RootSpec,
};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Runs the command; the result is its exit status.
pub fn run(global: &Global, args: DoArgs) -> anyhow::Result<u8> {
    let mut exports = Exports::default();
    let host_root = args.root == Path::new("/");
    // The guest has a /proc, /sys and /dev of its own; the host's must not shine through.
    let hidden: &[&str] = if host_root { &["proc", "sys", "dev"] } else { &[] };
    let root = exports.add(&args.root, true, hidden)?;
    let mut mounts = system_mounts();
    for volume in &args.volume {
        let volume = Volume::parse(volume)?;
        let export = exports.add(&volume.source, volume.read_only, &[])?;
        let flags = if volume.read_only { libc::MS_RDONLY } else { 0 };
        mounts.push(MountSpec {
            destination: volume.destination,
            kind: MountKind::Gofer { export, overlay: None },
            source: None,
            flags,
        });
    }
    if global.overlay().mounts {
        bundle::mounts::keep_inside(&mut mounts, global.overlay().size);
    }
    let mut process = process(&args, host_root)?;
    capabilities::heed_net_raw(global.net_raw, &mut process.capabilities);
    let spec = ContainerSpec {
        id: format!("do-{}", std::process::id()),
        root: RootSpec {
            export: root,
            image: false,
            read_only: false,
            overlay: Some(global.overlay().size),
            shared: false,
            propagation: 0,
        },
        mounts,
        hostname: "runsc".into(),
        domainname: None,
        devices: Vec::new(),
        sysctl: Vec::new(),
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        limits: LimitSpec::default(),
        clocks: None,
        id_maps: Default::default(),
        allow_suid: global.allow_suid,
        // A command that ends itself ends as it does outside, where it is no first process.
        init_immune: false,
        seccomp: Vec::new(),
        pids_of: None,
        hooks: HooksSpec::default(),
        process,
    };
    let files = standard_streams();
    let (network, publish, life) = (args.net_ns, args.publish, Life::Foreground);
    let (network_by_hooks, network_later) = (false, false);
    let egress = Vec::new();
    let sandbox = Sandbox {
        spec,
        exports,
        files,
        network,
        network_by_hooks,
        network_later,
        publish,
        egress,
        life,
    };
    sandbox.run(global)
}

/// The mounts every sandbox of `do` has.
fn system_mounts() -> Vec<MountSpec> {
    let secure = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let mount = |destination: &str, kind, flags| MountSpec {
        destination: destination.into(),
        kind,
        source: None,
        flags,
    };
    vec![
        mount("/proc", MountKind::Proc, secure),
        mount("/sys", MountKind::Sysfs, secure | libc::MS_RDONLY),
        mount("/sys/fs/cgroup", MountKind::Cgroup, secure),
        mount("/dev", MountKind::Dev { console: true }, libc::MS_NOSUID),
        mount(
            "/dev/pts",
            MountKind::Devpts { options: "newinstance,ptmxmode=0666,mode=0620".into() },
            libc::MS_NOSUID | libc::MS_NOEXEC,
        ),
        mount(
            "/dev/shm",
            MountKind::Tmpfs { options: "mode=1777".into(), copy_up: false },
            libc::MS_NOSUID | libc::MS_NODEV,
        ),
        mount("/dev/mqueue", MountKind::Mqueue, secure),
    ]
}

fn process(args: &DoArgs, host_root: bool) -> anyhow::Result<ProcessSpec> {
    let mut env: Vec<Vec<u8>> = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    for item in &args.env {
        set_env(&mut env, item);
    }
    let cwd = match &args.cwd {
        Some(cwd) if !cwd.starts_with('/') => {
            bail!("--cwd {cwd:?} is not absolute: name the directory from the sandbox's root")
        }
        Some(cwd) => cwd.clone().into_bytes(),
        None if host_root => {
            let cwd = std::env::current_dir().context("cannot tell the current directory")?;
            cwd.into_os_string().into_vec()
        }
        None => b"/".to_vec(),
    };
    let groups = getgroups().context("cannot tell the supplementary groups")?;
    let ids = Ids {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        groups: groups.into_iter().map(|g| g.as_raw()).collect(),
    };
    Ok(ProcessSpec {
        args: args.command.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env,
        cwd,
        ids,
        user: args.user.clone(),
        umask: 0o022,
        capabilities: capabilities::all(),
        terminal: Terminal::available(),
        terminal_size: Terminal::size(),
        ..ProcessSpec::default()
    })
}

/// `NAME=VALUE` sets, `NAME` is passed on from the caller (and is there already).
fn set_env(env: &mut Vec<Vec<u8>>, item: &str) {
    if let Some((name, _)) = item.split_once('=') {
        let prefix = format!("{name}=");
        env.retain(|old| !old.starts_with(prefix.as_bytes()));
        env.push(item.as_bytes().to_vec());
    }
}

/// A `--volume`.
struct Volume {
    source: PathBuf,
    destination: String,
    read_only: bool,
}

impl Volume {
    /// Reads `SRC[:DST][:ro|rw]`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (rest, read_only) = match text.rsplit_once(':') {
            Some((rest, "ro")) => (rest, true),
            Some((rest, "rw")) => (rest, false),
            _ => (text, false),
        };
        let (source, destination) = rest.split_once(':').unwrap_or((rest, ""));
        let source = std::path::absolute(source)
            .with_context(|| format!("--volume {text:?}: the source is empty"))?;
        let destination = match destination {
            "" => source.to_string_lossy().into_owned(),
            path if path.starts_with('/') => path.to_string(),
            path => bail!(
                "--volume {text:?}: {path:?} is neither an absolute path in the sandbox nor ro or rw"
            ),
        };
        Ok(Self { source, destination, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::{Volume, set_env};

    #[test]
    fn volumes() {
        let volume = Volume::parse("/a:/b:ro").unwrap();
        assert_eq!((volume.source.to_str(), &*volume.destination), (Some("/a"), "/b"));
        assert!(volume.read_only);
        let volume = Volume::parse("/a").unwrap();
        assert_eq!(volume.destination, "/a");
        assert!(!volume.read_only);
        assert!(Volume::parse("/a:b").is_err());
        assert!(Volume::parse("").is_err());
    }

    #[test]
    fn env_is_replaced() {
        let mut env = vec![b"A=1".to_vec(), b"AB=2".to_vec()];
        set_env(&mut env, "A=3");
        assert_eq!(env, [b"AB=2".to_vec(), b"A=3".to_vec()]);
    }
}
