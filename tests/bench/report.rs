//! The samples of a run, and their presentation as text, Markdown and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

/// One row of the table: the samples of one benchmark in every system.
#[derive(Debug)]
pub struct Row {
    /// The benchmark's name.
    pub name: String,
    /// The unit of its samples.
    pub unit: &'static str,
    /// Samples per system; a system that could not run it has none.
    pub samples: BTreeMap<String, Vec<f64>>,
}

/// Everything that one run measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Report {
    /// Adds one sample.
    pub fn add(&mut self, name: &str, unit: &'static str, system: &str, value: f64) {
        let row = match self.rows.iter().position(|row| row.name == name) {
            Some(at) => self.rows.get_mut(at),
            None => {
                self.rows.push(Row { name: name.to_owned(), unit, samples: BTreeMap::new() });
                self.rows.last_mut()
            }
        };
        if let Some(row) = row {
            row.samples.entry(system.to_owned()).or_default().push(value);
        }
    }

    /// Notes that a measurement failed, once per distinct reason.
    pub fn fail(&mut self, name: &str, system: &str, error: &anyhow::Error) {
        let text = format!("{name} in {system}: {error:#}");
        if !self.failures.contains(&text) {
            self.failures.push(text);
        }
    }

    /// The table's cells: a heading and one line per benchmark.
    fn cells(&self, systems: &[String]) -> Vec<Vec<String>> {
        let mut lines = vec![vec!["benchmark".to_owned()]];
        if let Some(heading) = lines.first_mut() {
            for (column, system) in systems.iter().enumerate() {
                heading.push(system.clone());
                if column > 0 {
                    heading.push("ratio".to_owned());
                }
            }
        }
        for row in &self.rows {
            let native = systems.first().and_then(|s| row.median(s));
            let mut line = vec![format!("{} ({})", row.name, row.unit)];
            for (column, system) in systems.iter().enumerate() {
                let value = row.median(system);
                line.push(value.map_or_else(|| "–".to_owned(), figure));
                if column > 0 {
                    let ratio = match (value, native) {
                        (Some(value), Some(native)) if native > 0.0 => Some(value / native),
                        _ => None,
                    };
                    line.push(ratio.map_or_else(|| "–".to_owned(), |r| format!("{}×", figure(r))));
                }
            }
            lines.push(line);
        }
        lines
    }

    /// A table for a terminal.
    pub fn text(&self, systems: &[String]) -> String {
        let cells = self.cells(systems);
        let columns = cells.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|c| {
                cells.iter().filter_map(|l| l.get(c)).map(|t| t.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for line in &cells {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                text.push_str(&match column {
                    0 => format!("{cell}{padding}"),
                    _ => format!("  {padding}{cell}"),
                });
            }
            text.push('\n');
        }
        text
    }

    /// A Markdown table.
    pub fn markdown(&self, systems: &[String]) -> String {
        let mut text = String::new();
        for (number, line) in self.cells(systems).iter().enumerate() {
            text.push_str(&format!("| {} |\n", line.join(" | ")));
            if number == 0 {
                let rule = "---:|".repeat(line.len().saturating_sub(1));
                text.push_str(&format!("|---|{rule}\n"));
            }
        }
        text
    }

    /// All samples, medians and ratios to native.
    pub fn json(&self, systems: &[String], machine: Value) -> Value {
        let native = systems.first().cloned().unwrap_or_default();
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let medians: BTreeMap<_, _> =
                    systems.iter().filter_map(|s| Some((s, row.median(s)?))).collect();
                let ratios: BTreeMap<_, _> = systems
                    .iter()
                    .filter_map(|s| Some((s, row.median(s)? / row.median(&native)?)))
                    .filter(|(_, ratio)| ratio.is_finite())
                    .collect();
                json!({ "name": row.name, "unit": row.unit, "samples": row.samples,
                        "medians": medians, "ratios": ratios })
            })
            .collect();
        json!({ "machine": machine, "systems": systems, "results": rows,
                "failures": self.failures })
    }

    /// The failures, one a line.
    pub fn failures(&self) -> String {
        self.failures.iter().fold(String::new(), |mut text, failure| {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "not measured: {failure}");
            text
        })
    }
}

impl Row {
    /// The median of a system's samples.
    fn median(&self, system: &str) -> Option<f64> {
        let mut samples = self.samples.get(system)?.clone();
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let upper = samples.get(middle).copied()?;
        match samples.len() % 2 {
            0 => Some(f64::midpoint(upper, *samples.get(middle.checked_sub(1)?)?)),
            _ => Some(upper),
        }
    }
}

/// A number with three significant digits.
fn figure(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 0.1 => format!("{v:.3}"),
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}
