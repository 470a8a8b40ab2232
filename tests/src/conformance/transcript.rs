//! Splitting the guest's output into cases, and showing how two transcripts differ.

use std::collections::BTreeMap;

/// What one case wrote and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Its lines, without those that open and close it.
    pub body: String,
    /// How its process ended, as the guest's runner words it (`exited 0`).
    pub end: String,
}

/// Splits the output of `conformance run` by case. A case whose closing line is missing — because
/// the run ended in the middle of it — is left out.
pub fn split(output: &str) -> BTreeMap<String, Transcript> {
    let mut cases = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            open = Some((name.to_string(), String::new()));
        } else if let Some(end) = line.strip_prefix("--- ") {
            if let Some((name, body)) = open.take() {
                cases.insert(name, Transcript { body, end: end.to_string() });
            }
        } else if let Some((_, body)) = &mut open {
            body.push_str(line);
            body.push('\n');
        }
    }
    cases
}

/// The first lines in which two transcripts differ, `-` native and `+` sandbox, after the last two
/// lines they share; `None` when they are equal.
pub fn difference(native: &Transcript, ours: &Transcript) -> Option<String> {
    const SHOWN: usize = 6;
    if native == ours {
        return None;
    }
    let lines = |t: &Transcript| -> Vec<String> {
        t.body.lines().map(String::from).chain([format!("(case {})", t.end)]).collect()
    };
    let (want, have) = (lines(native), lines(ours));
    let same = want.iter().zip(&have).take_while(|(a, b)| a == b).count();
    let mut out = String::new();
    let shared = want[same.saturating_sub(2)..same].iter().map(|l| (' ', l));
    let missing = want[same..].iter().take(SHOWN).map(|l| ('-', l));
    let surplus = have[same..].iter().take(SHOWN).map(|l| ('+', l));
    for (mark, line) in shared.chain(missing).chain(surplus) {
        out.push_str(&format!("    {mark} {line}\n"));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_complete_cases_only() {
        let cases = split("noise\n=== a::x\none\ntwo\n--- exited 0\n=== a::y\nhalf\n");
        assert_eq!(cases.len(), 1);
        let x = &cases["a::x"];
        assert_eq!((x.body.as_str(), x.end.as_str()), ("one\ntwo\n", "exited 0"));
    }

    #[test]
    fn shows_the_first_difference() {
        let t = |body: &str| Transcript { body: body.into(), end: "exited 0".into() };
        assert_eq!(difference(&t("a\n"), &t("a\n")), None);
        let diff = difference(&t("a\nb\nc\n"), &t("a\nb\nd\n")).unwrap();
        assert!(diff.starts_with("      a\n      b\n    - c\n"), "{diff}");
        assert!(diff.contains("    + d\n"), "{diff}");
    }

    #[test]
    fn an_end_that_differs_is_a_difference() {
        let a = Transcript { body: String::new(), end: "exited 0".into() };
        let b = Transcript { body: String::new(), end: "killed by SIGSEGV".into() };
        assert!(difference(&a, &b).is_some());
    }
}
