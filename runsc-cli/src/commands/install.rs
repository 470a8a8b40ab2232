//! `runsc install` and `runsc uninstall`: the entry of this runtime in Docker's or containerd's configuration.

use crate::cli::{InstallArgs, RuntimeEntry};
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use toml_edit::{DocumentMut, Item, Table, value};

/// The table of runtimes in containerd's configuration.
const CONTAINERD: [&str; 4] = ["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"];

/// The shim that containerd brings along, which is told of a binary.
const RUNC_SHIM: &str = "io.containerd.runc.v2";
/// What runsc's own shim is given, and where it reads runsc's flags.
const SHIM_OPTIONS: &str = "io.containerd.runsc.v1.options";
const SHIM_CONFIG: &str = "/etc/containerd/runsc.toml";

/// Adds the runtime.
pub fn install(args: &InstallArgs) -> anyhow::Result<u8> {
    let binary = std::env::current_exe().context("cannot tell where this program is")?;
    let binary = binary.to_str().context("the path of this program is not UTF-8")?;
    edit(&args.entry.config_file, |text, toml| {
        let shim = args.runtime_type.as_deref();
        if !args.runtime_args.is_empty() && (toml || shim.is_some()) {
            bail!(
                "containerd passes no flags on to a runtime: leave them out (a shim of runsc's own reads \
                 them in {SHIM_CONFIG})"
            );
        }
        let name = &args.entry.runtime;
        if toml {
            add_toml(text, name, binary, shim, args.clobber)
        } else {
            let entry = match shim {
                Some(shim) => {
                    json!({ "runtimeType": shim, "options": { "TypeUrl": SHIM_OPTIONS, "ConfigPath": SHIM_CONFIG } })
                }
                None if args.runtime_args.is_empty() => json!({ "path": binary }),
                None => json!({ "path": binary, "runtimeArgs": args.runtime_args }),
            };
            add_json(text, name, entry, args.clobber)
        }
    })?;
    println!(
        "{} has the runtime {:?} now; restart its daemon",
        args.entry.config_file.display(),
        args.entry.runtime
    );
    Ok(0)
}

/// Takes it away.
pub fn uninstall(entry: &RuntimeEntry) -> anyhow::Result<u8> {
    edit(&entry.config_file, |text, toml| {
        if toml { remove_toml(text, &entry.runtime) } else { remove_json(text, &entry.runtime) }
    })?;
    println!(
        "{} has no runtime {:?} any more; restart its daemon",
        entry.config_file.display(),
        entry.runtime
    );
    Ok(0)
}

/// Replaces a file as a whole by what `change` makes of it; a file that does not exist is empty.
fn edit(
    path: &Path,
    change: impl FnOnce(&str, bool) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let toml = path.extension().is_some_and(|extension| extension == "toml");
    let new = change(&text, toml).with_context(|| format!("cannot change {}", path.display()))?;
    let write = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        if let Ok(meta) = fs::metadata(path) {
            file.set_permissions(meta.permissions())?;
        }
        file.write_all(new.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn parse_json(text: &str) -> anyhow::Result<Map<String, Value>> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text).context("it is not valid JSON")? {
        Value::Object(map) => Ok(map),
        _ => bail!("it is not a JSON object"),
    }
}

fn print_json(config: Map<String, Value>) -> anyhow::Result<String> {
    let mut text =
        serde_json::to_string_pretty(&Value::Object(config)).context("cannot write JSON")?;
    text.push('\n');
    Ok(text)
}

fn add_json(text: &str, name: &str, entry: Value, clobber: bool) -> anyhow::Result<String> {
    let mut config = parse_json(text)?;
    let runtimes = config.entry("runtimes").or_insert_with(|| json!({}));
    let runtimes = runtimes.as_object_mut().context("\"runtimes\" is not an object")?;
    taken(runtimes.contains_key(name), name, clobber)?;
    runtimes.insert(name.into(), entry);
    print_json(config)
}

fn remove_json(text: &str, name: &str) -> anyhow::Result<String> {
    let mut config = parse_json(text)?;
    let runtimes = config.get_mut("runtimes").and_then(Value::as_object_mut);
    if runtimes.and_then(|runtimes| runtimes.remove(name)).is_none() {
        bail!("there is no runtime {name:?}");
    }
    if config.get("default-runtime").and_then(Value::as_str) == Some(name) {
        config.remove("default-runtime");
    }
    print_json(config)
}

fn add_toml(
    text: &str,
    name: &str,
    binary: &str,
    shim: Option<&str>,
    clobber: bool,
) -> anyhow::Result<String> {
    let mut config: DocumentMut = text.parse().context("it is not valid TOML")?;
    if config.get("version").is_none() {
        config.insert("version", value(2));
    }
    if config.get("version").and_then(Item::as_integer) != Some(2) {
        bail!("only version 2 of containerd's configuration is known");
    }
    let mut at = config.as_table_mut();
    for key in CONTAINERD {
        let mut table = Table::new();
        table.set_implicit(true);
        let next = at.entry(key).or_insert(Item::Table(table));
        at = next.as_table_mut().with_context(|| format!("{key:?} is not a table"))?;
    }
    taken(at.contains_key(name), name, clobber)?;
    let (mut runtime, mut options) = (Table::new(), Table::new());
    match shim.filter(|shim| *shim != RUNC_SHIM) {
        Some(_) => {
            options.insert("TypeUrl", value(SHIM_OPTIONS));
            options.insert("ConfigPath", value(SHIM_CONFIG));
        }
        None => {
            options.insert("BinaryName", value(binary));
        }
    }
    runtime.insert("runtime_type", value(shim.unwrap_or(RUNC_SHIM)));
    runtime.insert("options", Item::Table(options));
    at.insert(name, Item::Table(runtime));
    Ok(config.to_string())
}

fn remove_toml(text: &str, name: &str) -> anyhow::Result<String> {
    let mut config: DocumentMut = text.parse().context("it is not valid TOML")?;
    let mut at = Some(config.as_table_mut());
    for key in CONTAINERD {
        at = at.and_then(|table| table.get_mut(key)).and_then(Item::as_table_mut);
    }
    if at.and_then(|runtimes| runtimes.remove(name)).is_none() {
        bail!("there is no runtime {name:?}");
    }
    Ok(config.to_string())
}

fn taken(exists: bool, name: &str, clobber: bool) -> anyhow::Result<()> {
    if exists && !clobber {
        bail!(
            "there is a runtime {name:?} already: choose another --runtime, or say --clobber=true"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker() {
        let before = r#"{"debug":true,"runtimes":{"other":{"path":"/o"}}}"#;
        let entry = json!({ "path": "/bin/runsc", "runtimeArgs": ["--strace"] });
        let with = add_json(before, "runsc", entry.clone(), false).unwrap();
        let parsed: Value = serde_json::from_str(&with).unwrap();
        assert_eq!(parsed["runtimes"]["runsc"], entry);
        assert_eq!(
            (&parsed["debug"], &parsed["runtimes"]["other"]["path"]),
            (&json!(true), &json!("/o"))
        );
        assert!(add_json(&with, "runsc", entry.clone(), false).is_err());
        add_json(&with, "runsc", entry.clone(), true).unwrap();
        let without: Value = serde_json::from_str(&remove_json(&with, "runsc").unwrap()).unwrap();
        assert_eq!(without, serde_json::from_str::<Value>(before).unwrap());
        assert!(
            remove_json(before, "runsc").is_err()
                && add_json("[]", "r", entry.clone(), true).is_err()
        );
        assert!(add_json("", "runsc", entry, false).unwrap().contains("runsc"));
    }

    #[test]
    fn containerd() {
        let before = "# kept\nversion = 2\n\n[debug]\nlevel = \"warn\" # kept, too\n";
        let with = add_toml(before, "runsc", "/bin/runsc", None, false).unwrap();
        assert!(with.starts_with(before), "{with}");
        assert!(with.contains("runtimes.runsc.options]\nBinaryName = \"/bin/runsc\""), "{with}");
        assert!(add_toml(&with, "runsc", "/x", None, false).is_err());
        assert!(!remove_toml(&with, "runsc").unwrap().contains("runsc"));
        assert!(remove_toml(before, "runsc").is_err());
        assert!(add_toml("version = 3\n", "runsc", "/x", None, false).is_err());
        assert!(add_toml("", "runsc", "/x", None, false).unwrap().starts_with("version = 2"));
        let shim = add_toml("", "runsc", "/x", Some("io.containerd.runsc.v1"), false).unwrap();
        assert!(shim.contains("runtime_type = \"io.containerd.runsc.v1\""), "{shim}");
        assert!(shim.contains("TypeUrl") && !shim.contains("BinaryName"), "{shim}");
    }
}
