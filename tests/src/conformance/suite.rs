//! Scheduling the runs, comparing them and reporting.

use super::exec::{Outcome, Place, Programs};
use super::gaps::Gaps;
use super::transcript::{Transcript, difference, split};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How long a run may write nothing. The guest ends a case after 25 s by itself.
const SILENCE: Duration = Duration::from_secs(30);
/// How often in a row a run may bring no result before the rest of its cases is given up.
const FRUITLESS: usize = 4;

/// Follows a platform's name: its scratch directories lie on a directory of the host (`--volume`), not on the sandbox's own
/// memory file system.
const ON_VOLUME: &str = "+volume";
/// The areas that are run so: those about files.
const ABOUT_FILES: [&str; 15] = [
    "aio",
    "attributes",
    "exec",
    "fanotify",
    "file_kinds",
    "filemap",
    "files",
    "handles",
    "inotify",
    "landlock",
    "leases",
    "locks",
    "paths",
    "splices",
    "unix",
];

/// What to run.
#[derive(Debug)]
pub struct Plan {
    /// The programs.
    pub programs: Programs,
    /// Platforms to compare with native; `native` compares native with itself.
    pub platforms: Vec<String>,
    /// The full names of the cases to run.
    pub cases: Vec<String>,
    /// Known gaps.
    pub gaps: Gaps,
    /// Whether every case gets a sandbox of its own.
    pub each: bool,
    /// How many runs go on at a time.
    pub jobs: usize,
    /// How often everything is repeated.
    pub repeat: usize,
    /// Directories for native scratch directories, taken in turn by repetition.
    pub scratch: Vec<PathBuf>,
}

/// The verdicts so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Cases whose transcripts are equal.
    pub passed: usize,
    /// Cases that differ, or are listed as gaps and do not.
    pub failed: usize,
    /// Known gaps that still differ.
    pub gaps: usize,
}

/// One piece of work: some cases of one area.
struct Unit {
    area: String,
    cases: Vec<String>,
}

/// Runs a plan, printing a line for each case; returns the totals.
pub fn run(plan: &Plan) -> Totals {
    let units = units(plan);
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let (round, Some(unit)) = (i / units.len().max(1), units.get(i % units.len().max(1)))
            else {
                break;
            };
            if round >= plan.repeat {
                break;
            }
            let (text, sum) = plan.unit(unit, round);
            // One lock for output and totals keeps the lines of a unit together.
            let mut all = totals.lock().unwrap_or_else(|e| e.into_inner());
            print!("{text}");
            all.passed += sum.passed;
            all.failed += sum.failed;
            all.gaps += sum.gaps;
        }
    };
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(work);
        }
    });
    *totals.lock().unwrap_or_else(|e| e.into_inner())
}

fn units(plan: &Plan) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for case in &plan.cases {
        let area = case.split("::").next().unwrap_or(case);
        match units.last_mut() {
            Some(unit) if unit.area == area && !plan.each => unit.cases.push(case.clone()),
            _ => units.push(Unit { area: area.into(), cases: vec![case.clone()] }),
        }
    }
    units
}

impl Plan {
    /// Runs a unit natively and on every platform; returns the report and its totals.
    fn unit(&self, unit: &Unit, round: usize) -> (String, Totals) {
        let scratch = |i: usize| Place::Native(self.scratch[i % self.scratch.len()].clone());
        let native = self.transcripts(&scratch(0), unit);
        let (mut text, mut sum) = (String::new(), Totals::default());
        for platform in &self.platforms {
            let place = match platform.strip_suffix(ON_VOLUME) {
                Some(_) if !ABOUT_FILES.contains(&unit.area.as_str()) => continue,
                Some(name) => {
                    let dir = &self.scratch[round % self.scratch.len()];
                    Place::Sandbox(name.into(), Some(dir.clone()))
                }
                None if platform == "native" => scratch(round),
                None => Place::Sandbox(platform.clone(), None),
            };
            let ours = self.transcripts(&place, unit);
            for case in &unit.cases {
                let problem = match (native.get(case), ours.get(case)) {
                    (Err(why), _) => Some(format!("    no native result: {why}\n")),
                    (_, Err(why)) => Some(format!("    no result: {why}\n")),
                    (Ok(n), _) if n.end == "timed out" => Some("    timed out natively\n".into()),
                    (Ok(n), Ok(o)) => difference(n, o),
                };
                self.judge(platform, case, problem, &mut text, &mut sum);
            }
        }
        (text, sum)
    }

    fn judge(
        &self,
        platform: &str,
        case: &str,
        problem: Option<String>,
        text: &mut String,
        sum: &mut Totals,
    ) {
        let line = match (problem, self.gaps.reason(platform, case)) {
            (None, None) => {
                sum.passed += 1;
                format!("ok      {platform} {case}\n")
            }
            (None, Some(_)) => {
                sum.failed += 1;
                format!("FAILED  {platform} {case}: passes; remove it from the list of gaps\n")
            }
            (Some(_), Some(reason)) => {
                sum.gaps += 1;
                format!("gap     {platform} {case}: {reason}\n")
            }
            (Some(problem), None) => {
                sum.failed += 1;
                format!("FAILED  {platform} {case}\n{problem}")
            }
        };
        text.push_str(&line);
    }

    /// The transcripts of a unit's cases at a place, and why each of the others is missing. When a
    /// run ends in the middle of a case, that case is run again alone and the rest in a new run.
    fn transcripts(&self, place: &Place, unit: &Unit) -> Found {
        let mut found = Found::default();
        let mut rest = unit.cases.clone();
        let mut fruitless = 0;
        while !rest.is_empty() && fruitless < FRUITLESS {
            let outcome = self.programs.run(place, &rest, SILENCE);
            found.cases.extend(split(&outcome.stdout));
            let before = rest.len();
            rest.retain(|case| !found.cases.contains_key(case));
            fruitless = if rest.len() < before { 0 } else { fruitless + 1 };
            if rest.is_empty() {
                break;
            }
            // Cases run in order: the first without a result is the one that ended the run.
            let culprit = rest.remove(0);
            let alone = match before {
                1 => outcome,
                _ => self.programs.run(place, std::slice::from_ref(&culprit), SILENCE),
            };
            match split(&alone.stdout).remove(&culprit) {
                Some(transcript) => _ = found.cases.insert(culprit, transcript),
                None => _ = found.missing.insert(culprit, reason(&alone)),
            }
        }
        for case in rest {
            found
                .missing
                .insert(case, format!("not run: {FRUITLESS} runs in a row brought nothing"));
        }
        found
    }
}

/// What the runs of a unit at one place brought.
#[derive(Default)]
struct Found {
    cases: BTreeMap<String, Transcript>,
    missing: BTreeMap<String, String>,
}

impl Found {
    fn get(&self, case: &str) -> Result<&Transcript, &str> {
        let why = || self.missing.get(case).map_or("it did not run", String::as_str);
        self.cases.get(case).ok_or_else(why)
    }
}

fn reason(outcome: &Outcome) -> String {
    let ended = outcome.failure.as_deref().unwrap_or("ended without the case's closing line");
    match outcome.stderr.as_str() {
        "" => ended.to_string(),
        stderr => format!("{ended}; {}", stderr.replace('\n', "\n      ")),
    }
}
