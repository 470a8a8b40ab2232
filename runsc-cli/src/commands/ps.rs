//! `runsc ps`: lists the processes of a container.

use crate::cli::{Global, ListFormat, PsArgs};
use crate::container::Container;
use anyhow::bail;
use sentry::boot::protocol::{ProcessInfo, Reply, Request};
use std::fmt::Write;

/// Prints them. As JSON: the host process that stands for all of them, because container managers look its id
/// up among the host's processes.
pub fn run(global: &Global, args: &PsArgs) -> anyhow::Result<u8> {
    let container = Container::look(&global.state_root(), &args.id)?;
    let control = container.running()?;
    if args.format == ListFormat::Json {
        let pids: Vec<i32> = container.state()?.sandbox.iter().map(|process| process.pid).collect();
        println!("{}", serde_json::json!(pids));
        return Ok(0);
    }
    let Reply::Processes(processes) = control.ask(&Request::Processes, &[])? else {
        bail!("the sandbox does not answer the question");
    };
    let mut rows =
        vec![["UID", "PID", "PPID", "NLWP", "S", "ELAPSED", "TIME", "CMD"].map(String::from)];
    rows.extend(processes.iter().map(row));
    print!("{}", table(&rows));
    Ok(0)
}

fn row(process: &ProcessInfo) -> [String; 8] {
    [
        process.uid.to_string(),
        process.pid.to_string(),
        process.ppid.to_string(),
        process.threads.to_string(),
        process.state.to_string(),
        clock(process.age),
        clock(process.cpu),
        process.command.clone(),
    ]
}

/// Nanoseconds as `hours:minutes:seconds`.
fn clock(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Lines with columns of equal width.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{clock, table};

    #[test]
    fn tables() {
        let rows = [["A", "B"], ["long", "x"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "A     B\nlong  x\n");
        assert_eq!(clock(3_661_000_000_000), "01:01:01");
    }
}
