//! What containerd's configuration says about the runtime: the options of a container, and the file they name.
//!
//! The file (`/etc/containerd/runsc.toml`) has a table `runsc_config` whose entries are runsc's flags, and `root`, the
//! directory for the state of containers.

use crate::cli::{Cli, Global, arguments};
use anyhow::{Context, bail};
use clap::Parser;
use containerd_shim_protos::protobuf::CodedInputStream;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use toml_edit::DocumentMut;

/// Where the file is if no option says so.
const DEFAULT: &str = "/etc/containerd/runsc.toml";
/// Directory for the states, in it one for each of containerd's namespaces.
const ROOT: &str = "/run/containerd/runsc";
/// File in the bundle that keeps the flags for `delete`.
const KEPT: &str = "runsc-flags.json";

/// How runsc is to be called for a container.
pub struct Settings {
    /// Flags before the sub-command.
    pub flags: Vec<String>,
    /// The same, parsed.
    pub global: Global,
}

impl Settings {
    /// Of the options of a container.
    pub fn of_options(options: Option<&Any>, namespace: &str) -> anyhow::Result<Self> {
        let (path, body) = match options {
            Some(any) if any.type_url.ends_with("runtimeoptions.v1.Options") => decode(&any.value)?,
            // Those of other runtimes, which clients send unasked.
            _ => (String::new(), String::new()),
        };
        let text = if !body.is_empty() {
            body
        } else if !path.is_empty() {
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?
        } else {
            match fs::read_to_string(DEFAULT) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(e) => return Err(e).with_context(|| format!("cannot read {DEFAULT}")),
            }
        };
        Self::parse(flags(&text, namespace)?)
    }

    fn parse(flags: Vec<String>) -> anyhow::Result<Self> {
        let whole = ["runsc"].into_iter().chain(flags.iter().map(String::as_str));
        let whole = arguments::normalise(whole.chain(["features"]).map(OsString::from));
        let cli = Cli::try_parse_from(whole.map_err(anyhow::Error::msg)?.words)
            .context("runsc_config has a flag that runsc does not know")?;
        Ok(Self { flags, global: cli.global })
    }

    /// Keeps them in the bundle.
    pub fn save(&self, bundle: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec(&self.flags).context("cannot encode the flags")?;
        fs::write(bundle.join(KEPT), text).context("cannot write the flags to the bundle")
    }

    /// Those that were kept, or of no options.
    pub fn load(bundle: &Path, namespace: &str) -> anyhow::Result<Self> {
        match fs::read(bundle.join(KEPT)) {
            Ok(text) => {
                Self::parse(serde_json::from_slice(&text).context("bad flags in the bundle")?)
            }
            Err(_) => Self::of_options(None, namespace),
        }
    }
}

/// `config_path` (2) and `config_body` (3) of `runtimeoptions.v1.Options`.
fn decode(bytes: &[u8]) -> anyhow::Result<(String, String)> {
    const BYTES: u32 = 2;
    let (mut path, mut body) = (String::new(), String::new());
    let mut input = CodedInputStream::from_bytes(bytes);
    let mut read = || -> containerd_shim_protos::protobuf::Result<()> {
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match (tag >> 3, tag & 7) {
                (2, BYTES) => path = input.read_string()?,
                (3, BYTES) => body = input.read_string()?,
                (_, BYTES) => drop(input.read_bytes()?),
                _ => drop(input.read_raw_varint64()?),
            }
        }
        Ok(())
    };
    read().context("cannot decode the runtime's options")?;
    Ok((path, body))
}

/// The flags that the file means.
fn flags(text: &str, namespace: &str) -> anyhow::Result<Vec<String>> {
    let config: DocumentMut = text.parse().context("runsc's configuration is not valid TOML")?;
    let root = config.get("root").and_then(|root| root.as_str()).unwrap_or(ROOT);
    let mut flags = vec![format!("--root={root}/{namespace}")];
    let Some(item) = config.get("runsc_config") else { return Ok(flags) };
    let table = item.as_table_like().context("runsc_config is not a table")?;
    for (name, item) in table.iter() {
        let value = item.as_value().with_context(|| format!("runsc_config.{name} is a table"))?;
        let value = match (value.as_str(), value.as_bool(), value.as_integer()) {
            (Some(text), ..) => text.to_owned(),
            (_, Some(value), _) => value.to_string(),
            (.., Some(value)) => value.to_string(),
            _ => bail!("runsc_config.{name} is neither a string, a boolean nor an integer"),
        };
        flags.push(format!("--{name}={value}"));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::{Settings, decode, flags};

    #[test]
    fn file() {
        let text = "[runsc_config]\nplatform = \"ptrace\"\nstrace = \"true\"\nallow-suid = false\n";
        let found = flags(text, "k8s.io").unwrap();
        assert_eq!(
            found,
            [
                "--root=/run/containerd/runsc/k8s.io",
                "--platform=ptrace",
                "--strace=true",
                "--allow-suid=false"
            ]
        );
        assert!(Settings::parse(found).unwrap().global.strace);
        assert!(Settings::parse(vec!["--nonsense".into()]).is_err());
        assert_eq!(flags("root = \"/r\"", "n").unwrap(), ["--root=/r/n"]);
        for bad in ["x", "runsc_config = 1", "[runsc_config.x]", "[runsc_config]\na = 1.5"] {
            assert!(flags(bad, "n").is_err(), "{bad}");
        }
    }

    #[test]
    fn options() {
        assert_eq!(decode(b"\x0a\x01t\x12\x02/p\x1a\x01b").unwrap(), ("/p".into(), "b".into()));
        assert!(decode(b"\x12\x7f/p").is_err());
    }
}
