//! The list of known gaps.
//!
//! One gap a line: the platform or `*`, the case, and after `#` the reason. A gap's case must fail: a
//! listed case that passes fails the suite, so that the list can only shrink.

/// The known gaps.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Gap>);

#[derive(Debug)]
struct Gap {
    platform: String,
    case: String,
    reason: String,
}

impl Gaps {
    /// Reads a list. Fails with the offending line when a line is not a gap, has no reason or names
    /// a case for which `exists` is false.
    pub fn parse(text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, String> {
        let mut gaps = Vec::new();
        for (i, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (entry, reason) = line.split_once('#').unwrap_or((line, ""));
            let words: Vec<&str> = entry.split_whitespace().collect();
            let &[platform, case] = words.as_slice() else {
                return Err(format!("line {i}: want `PLATFORM AREA::CASE  # reason`: {line}"));
            };
            if reason.trim().is_empty() {
                return Err(format!("line {i}: no reason is given for {case}"));
            }
            if !exists(case) {
                return Err(format!("line {i}: there is no case {case}; remove the line"));
            }
            gaps.push(Gap {
                platform: platform.into(),
                case: case.into(),
                reason: reason.trim().into(),
            });
        }
        Ok(Self(gaps))
    }

    /// Why this case is expected to fail on this platform, if it is.
    pub fn reason(&self, platform: &str, case: &str) -> Option<&str> {
        let hit = |g: &&Gap| g.case == case && (g.platform == "*" || g.platform == platform);
        self.0.iter().find(hit).map(|g| g.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_matches_platforms() {
        let text = "# comment\n\n* a::x  # everywhere\nptrace a::y  # only here\n";
        let gaps = Gaps::parse(text, |_| true).unwrap();
        assert_eq!(gaps.reason("kvm", "a::x"), Some("everywhere"));
        assert_eq!(gaps.reason("ptrace", "a::y"), Some("only here"));
        assert_eq!(gaps.reason("kvm", "a::y"), None);
    }

    #[test]
    fn refuses_lines_without_reason_or_case() {
        assert!(Gaps::parse("* a::x\n", |_| true).is_err());
        assert!(Gaps::parse("a::x # r\n", |_| true).is_err());
        assert!(Gaps::parse("* a::gone # r\n", |_| false).is_err());
    }
}
