//! `docs/syscalls.md`, generated from the table.

use super::entry::Support;
use super::table;
use std::fmt::Write;

/// Names of the groups, in the table's order.
const TITLES: [&str; 10] = [
    "Memory",
    "Processes",
    "Signals",
    "Futexes",
    "Time",
    "Paths and mounts",
    "Files",
    "Pipes, polling, notification, System V IPC",
    "Sockets",
    "Others",
];

/// What there is to say about a call.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// `full`, `partial` or `refused`.
    pub support: &'static str,
    /// What is missing of it, or why it is refused.
    pub note: &'static str,
}

/// Every call of Linux, by number.
pub fn rows() -> Vec<Row> {
    let row = |entry: &super::entry::Entry| {
        let (support, note) = match entry.support {
            Support::Full => ("full", ""),
            Support::Partial(note) => ("partial", note),
            Support::Refused(_, why) => ("refused", why),
            Support::Missing => ("missing", ""),
        };
        Row { number: entry.nr, name: entry.name, support, note }
    };
    let mut rows: Vec<_> = table::groups().iter().copied().flatten().map(row).collect();
    rows.sort_by_key(|row| row.number);
    rows
}

/// The page, in Markdown.
pub fn markdown() -> String {
    let mut counts = [0_usize; 4];
    for entry in table::groups().iter().copied().flatten() {
        let i = match entry.support {
            Support::Full => 0,
            Support::Partial(_) => 1,
            Support::Refused(..) => 2,
            Support::Missing => 3,
        };
        if let Some(n) = counts.get_mut(i) {
            *n += 1;
        }
    }
    let [full, partial, refused, missing] = counts;
    let mut out = String::from(
        "# System calls\n\n\
         Generated from `sentry/src/syscalls/table.rs`; `cargo test -p sentry docs` says when it is stale.\n\n",
    );
    let _ = writeln!(
        out,
        "Numbers are those of x86-64, up to Linux 6.17. {full} are full, {partial} partial, {refused} \
         refused on purpose with the error given, {missing} not written yet (`ENOSYS`).",
    );
    for (group, title) in table::groups().iter().zip(TITLES) {
        let _ =
            write!(out, "\n## {title}\n\n| number | call | support | note |\n|---|---|---|---|\n");
        let mut rows: Vec<_> = group.iter().collect();
        rows.sort_by_key(|e| e.nr);
        for entry in rows {
            let (support, note) = match entry.support {
                Support::Full => ("full".to_owned(), ""),
                Support::Partial(note) => ("partial".to_owned(), note),
                Support::Refused(errno, why) => (format!("`{errno}`"), why),
                Support::Missing => ("missing".to_owned(), ""),
            };
            let _ = writeln!(out, "| {} | {} | {support} | {note} |", entry.nr, entry.name);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the page with `UPDATE_DOCS=1`, else compares it.
    #[test]
    fn docs_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/syscalls.md");
        let page = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let current = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            current == page,
            "docs/syscalls.md is stale: run UPDATE_DOCS=1 cargo test -p sentry docs"
        );
    }

    #[test]
    fn every_number_has_a_row() {
        let missing: Vec<u32> = (0..=table::NEWEST)
            .filter(|nr| !(337..=423).contains(nr))
            .filter(|nr| table::lookup(u64::from(*nr)).is_none())
            .collect();
        assert!(missing.is_empty(), "numbers without a row: {missing:?}");
    }
}
