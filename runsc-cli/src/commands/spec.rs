//! `runsc spec`: writes a default config.json.

use crate::bundle;
use crate::cli::SpecArgs;
use anyhow::{Context, bail};
use std::fs::File;
use std::io::ErrorKind;

/// Writes `config.json` into the bundle directory; never over an existing one.
pub fn run(args: SpecArgs) -> anyhow::Result<u8> {
    let path = args.bundle.join(bundle::CONFIG);
    let file = match File::create_new(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists already: remove it first, or name another --bundle", path.display())
        }
        Err(e) => {
            return Err(e).with_context(|| format!("cannot create {}", path.display()));
        }
    };
    let command = if args.command.is_empty() { vec!["sh".into()] } else { args.command };
    let spec = bundle::default_spec(command, args.cwd, args.rootless)?;
    serde_json::to_writer_pretty(file, &spec)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}
