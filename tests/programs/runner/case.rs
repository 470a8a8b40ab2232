//! What there is to run: the case directories, their header comments, and the list of known gaps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Time a case may take when its header says nothing.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// One program test: a directory with an executable `run`, and optionally a `setup` that prepares
/// what it needs (a compiled program, say) outside the sandbox.
#[derive(Clone, Debug)]
pub struct Case {
    /// The directory's name, which names the case everywhere.
    pub name: String,
    /// The case's directory, absolute.
    pub dir: PathBuf,
    /// Time the program may take (`# limit: SECONDS` among the first lines of `run`).
    pub limit: Duration,
}

impl Case {
    /// The program that prepares the case, when it has one.
    pub fn setup(&self) -> Option<PathBuf> {
        let path = self.dir.join("setup");
        path.exists().then_some(path)
    }
}

/// All cases below `cases`, sorted by name; with `only`, exactly those.
///
/// # Errors
/// When the directory cannot be read, a case has no `run`, or a name in `only` does not exist.
pub fn discover(cases: &Path, only: &[String]) -> Result<Vec<Case>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(cases).with_context(|| format!("listing {}", cases.display()))?;
    for entry in entries {
        let dir = entry?.path();
        let Some(name) = dir.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
            continue;
        };
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let run = dir.join("run");
        let text = fs::read_to_string(&run)
            .with_context(|| format!("reading {}: a case needs a `run`", run.display()))?;
        found.push(Case { name, dir, limit: limit_of(&text)? });
    }
    for wanted in only {
        if !found.iter().any(|case| case.name == *wanted) {
            bail!("no case is named '{wanted}': `--list` prints the names");
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Reads the `limit:` line of a header.
fn limit_of(text: &str) -> Result<Duration> {
    for line in text.lines().take(5) {
        let line = line.trim_start_matches(['#', '/', ' ']);
        if let Some(seconds) = line.strip_prefix("limit:") {
            return Ok(Duration::from_secs(seconds.trim().parse().context("the limit line")?));
        }
    }
    Ok(DEFAULT_LIMIT)
}

/// The known gaps: for a platform and a case, the reason it does not pass yet.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<(String, String), String>);

impl Gaps {
    /// Reads lines of the form `platform NAME # reason`; `*` stands for every platform.
    ///
    /// # Errors
    /// When the file cannot be read or a line has another form.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut gaps = BTreeMap::new();
        for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
            let (key, reason) = line
                .split_once('#')
                .with_context(|| format!("a gap needs a reason after '#': {line}"))?;
            let mut words = key.split_whitespace();
            let (Some(platform), Some(name), None) = (words.next(), words.next(), words.next())
            else {
                bail!("a gap is written `platform NAME # reason`, not: {line}");
            };
            gaps.insert((platform.to_owned(), name.to_owned()), reason.trim().to_owned());
        }
        Ok(Self(gaps))
    }

    /// The reason for which `case` is known to fail on `platform`.
    pub fn reason(&self, platform: &str, case: &str) -> Option<&str> {
        [platform, "*"]
            .iter()
            .find_map(|p| self.0.get(&((*p).to_owned(), case.to_owned())))
            .map(String::as_str)
    }
}
