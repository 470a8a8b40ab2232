//! `runsc syscalls`: what this kernel has of each system call of Linux.

use super::ps::table;
use crate::cli::{SyscallsArgs, SyscallsFormat};
use sentry::syscalls::docs::rows;
use serde_json::json;

/// Prints them.
pub fn run(args: &SyscallsArgs) -> u8 {
    let rows = rows();
    match args.format {
        SyscallsFormat::Table => {
            let mut lines = vec![["NUM", "NAME", "SUPPORT", "NOTE"].map(String::from)];
            lines.extend(
                rows.iter().map(|r| {
                    [r.number.to_string(), r.name.into(), r.support.into(), r.note.into()]
                }),
            );
            print!("{}", table(&lines));
        }
        SyscallsFormat::Json => {
            let all: Vec<_> = rows
                .iter()
                .map(|r| {
                    json!({ "number": r.number, "name": r.name, "support": r.support, "note": r.note })
                })
                .collect();
            println!("{}", json!({ "linux": { "amd64": all } }));
        }
        SyscallsFormat::Csv => {
            println!("OS,Arch,Num,Name,Support,Note");
            for r in rows {
                let note = r.note.replace('"', "\"\"");
                println!("linux,amd64,{},{},{},\"{note}\"", r.number, r.name, r.support);
            }
        }
    }
    0
}
