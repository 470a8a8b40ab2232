//! `runsc list`: lists the containers.

use super::ps::table;
use crate::cli::{Global, ListArgs, ListFormat};
use crate::container::Container;
use crate::state;
use serde_json::Value;

/// Prints them.
pub fn run(global: &Global, args: &ListArgs) -> anyhow::Result<u8> {
    let root = global.state_root();
    let mut found = Vec::new();
    for id in state::list(&root)? {
        if args.quiet && !args.sandbox {
            println!("{id}");
            continue;
        }
        // One that was deleted meanwhile, or is damaged, must not hide the others.
        if let Ok(container) = Container::look(&root, &id) {
            if args.sandbox && container.state().is_ok_and(|state| state.pod.is_some()) {
                continue;
            }
            if args.quiet {
                println!("{id}");
                continue;
            }
            found.push(container.describe(container.phase()));
        }
    }
    match args.format {
        _ if args.quiet => {}
        ListFormat::Json => println!("{}", Value::Array(found)),
        ListFormat::Table => {
            let mut rows =
                vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
            rows.extend(found.iter().map(|container| {
                ["id", "pid", "status", "bundle", "created", "owner"].map(|key| {
                    match &container[key] {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    }
                })
            }));
            print!("{}", table(&rows));
        }
    }
    Ok(0)
}
