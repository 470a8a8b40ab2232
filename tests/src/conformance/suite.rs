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

/// The time a run of one case may take.
const CASE_LIMIT: Duration = Duration::from_secs(30);
/// The time a run of a whole area may take.
const AREA_LIMIT: Duration = Duration::from_secs(180);

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
        let (native, why) = self.transcripts(&scratch(0), unit);
        let (mut text, mut sum) = (String::new(), Totals::default());
        for platform in &self.platforms {
            let place = match platform.as_str() {
                "native" => scratch(round),
                _ => Place::Sandbox(platform.clone()),
            };
            let (ours, ours_why) = self.transcripts(&place, unit);
            for case in &unit.cases {
                let problem = match (native.get(case), ours.get(case)) {
                    (None, _) => Some(format!("    no native result: {why}\n")),
                    (_, None) => Some(format!("    no result: {ours_why}\n")),
                    (Some(n), _) if n.end == "timed out" => Some("    timed out natively\n".into()),
                    (Some(n), Some(o)) => difference(n, o),
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

    /// The transcripts of a unit's cases at a place, and why some are missing, if they are. When a
    /// run ends early, the cases without a result are run again, one by one.
    fn transcripts(&self, place: &Place, unit: &Unit) -> (BTreeMap<String, Transcript>, String) {
        let limit = if unit.cases.len() == 1 { CASE_LIMIT } else { AREA_LIMIT };
        let outcome = self.programs.run(place, &unit.cases, limit);
        let mut found = split(&outcome.stdout);
        let mut why = reason(&outcome);
        if unit.cases.len() > 1 {
            for case in unit.cases.iter().filter(|c| !found.contains_key(*c)).collect::<Vec<_>>() {
                let alone = self.programs.run(place, std::slice::from_ref(case), CASE_LIMIT);
                why = reason(&alone);
                found.extend(split(&alone.stdout));
            }
        }
        (found, why)
    }
}

fn reason(outcome: &Outcome) -> String {
    let ended = outcome.failure.as_deref().unwrap_or("ended without the case's closing line");
    match outcome.stderr.as_str() {
        "" => ended.to_string(),
        stderr => format!("{ended}; {}", stderr.replace('\n', "\n      ")),
    }
}
