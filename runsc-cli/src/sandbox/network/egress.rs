//! The egress policy of a sandbox: from flags, a file, and an annotation of the bundle.

use super::resolver::Resolver;
use crate::cli::Global;
use crate::log;
use anyhow::{Context, bail};
use netproxy::policy::{Policy, Refused, Rule};
use netproxy::protocol::Protocol;
use sentry::boot::EgressSpec;
use std::collections::HashMap;
use std::path::Path;

/// The annotation with rules, separated by commas or lines. It can take from what the flags allow, not add to it.
pub const ANNOTATION: &str = "dev.runsc.egress";
/// Largest file of rules, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The rules of flags and file.
pub fn of_flags(global: &Global) -> anyhow::Result<Vec<Rule>> {
    let mut rules = global.egress.clone();
    if let Some(path) = &global.egress_file {
        let known = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        if known.len() > MAX_FILE {
            bail!("{} is larger than 1 MiB: is it a file of egress rules?", path.display());
        }
        let text = std::fs::read_to_string(path);
        rules.extend(parse(
            &text.with_context(|| format!("cannot read {}", path.display()))?,
            path,
        )?);
    }
    Ok(rules)
}

fn parse(text: &str, path: &Path) -> anyhow::Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let rule = line.parse().map_err(anyhow::Error::msg);
            rules.push(rule.with_context(|| format!("{}, line {}", path.display(), number + 1))?);
        }
    }
    Ok(rules)
}

/// The rules of a bundle's annotations.
pub fn of_annotations(annotations: &HashMap<String, String>) -> anyhow::Result<Vec<Rule>> {
    let text = annotations.get(ANNOTATION).map(String::as_str).unwrap_or_default();
    let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| part.parse().map_err(anyhow::Error::msg))
        .collect::<anyhow::Result<_>>()
        .with_context(|| format!("the annotation {ANNOTATION}"))
}

/// The policy of both.
pub fn policy(global: &Global, annotated: Vec<Rule>) -> anyhow::Result<Policy> {
    Ok(Policy::new(vec![of_flags(global)?, annotated]))
}

/// The policy of a sandbox that takes over interfaces; `None` without rules.
pub fn of_interfaces(global: &Global, policy: Policy) -> Option<EgressSpec> {
    if policy.is_empty() {
        return None;
    }
    let name_servers = match &global.egress_name_server[..] {
        [] => Resolver::remote_of_host(),
        given => given.to_vec(),
    };
    Some(EgressSpec { policy, name_servers, report })
}

/// Writes a line about something that was refused.
pub fn report(refused: &Refused<'_>) {
    let protocol = match refused.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Echo => "icmp",
    };
    let mut fields = vec![
        ("program", refused.program.name.clone()),
        ("pid", refused.program.pid.to_string()),
        ("protocol", protocol.into()),
        ("destination", refused.destination.to_string()),
    ];
    fields.extend(refused.name.map(|name| ("name", name.to_owned())));
    fields.push(("reason", refused.reason.into()));
    log::event("egress refused", &fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_annotations() {
        let rules = parse("# ours\nallow:example.com:443 # web\n\ndeny:*\n", Path::new("f"));
        assert_eq!(rules.unwrap().len(), 2);
        let error = format!("{:#}", parse("\nallow:\n", Path::new("f")).unwrap_err());
        assert!(error.starts_with("f, line 2: "), "{error}");
        let of = |text: &str| of_annotations(&HashMap::from([(ANNOTATION.into(), text.into())]));
        assert_eq!(of("allow:a.test, deny:10.0.0.0/8\n").unwrap().len(), 2);
        assert!(of("nonsense").is_err());
        assert!(of_annotations(&HashMap::new()).unwrap().is_empty());
    }
}
