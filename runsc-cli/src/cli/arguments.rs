//! The command line as gVisor's `runsc` reads it, turned into what [`clap`] reads.
//!
//! Go's flags may have one dash or two (`-platform=kvm`), switches may have values (`--strace=false`), and gVisor has
//! flags about things that do not exist here ([`gvisor`]).

use super::{Cli, gvisor};
use clap::{Arg, ArgAction, Command, CommandFactory};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command line for [`clap`], and what there is to say about it.
pub struct Normal {
    /// Its words.
    pub words: Vec<OsString>,
    /// Flags that have no effect.
    pub warnings: Vec<String>,
}

/// Turns a command line, whose first word is the program's name. An error says what is wrong with a flag.
pub fn normalise(words: impl IntoIterator<Item = OsString>) -> Result<Normal, String> {
    let mut root = Cli::command();
    root.build();
    let mut words = words.into_iter();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let mut warnings = Vec::new();
    let mut level = Level { command: &root, positionals: 0 };
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word);
            break;
        }
        if let Some(flag) = Flag::parse(&word) {
            warnings.extend(level.flag(flag, word, &mut words, &mut out)?);
        } else if let Some(command) = word.to_str().and_then(|w| level.command.find_subcommand(w)) {
            level = Level { command, positionals: 0 };
            out.push(word);
        } else {
            out.push(word);
            if level.is_last() {
                break;
            }
        }
    }
    out.extend(words);
    Ok(Normal { words: out, warnings })
}

/// A word that begins with one dash or two.
struct Flag {
    name: String,
    value: Option<OsString>,
    dashes: usize,
}

impl Flag {
    fn parse(word: &OsStr) -> Option<Flag> {
        let bytes = word.as_bytes();
        let body = bytes.strip_prefix(b"-").filter(|body| !body.is_empty())?;
        let long = body.strip_prefix(b"-");
        let (body, dashes) = (long.unwrap_or(body), if long.is_some() { 2 } else { 1 });
        let mut halves = body.splitn(2, |b| *b == b'=');
        let name = String::from_utf8(halves.next()?.to_vec()).ok()?;
        let value = halves.next().map(|value| OsString::from_vec(value.to_vec()));
        Some(Flag { name, value, dashes })
    }
}

/// Where in the command line we are.
struct Level<'a> {
    command: &'a Command,
    positionals: usize,
}

impl Level<'_> {
    /// Counts a word that is no flag: true if all that follows belongs to a command to be run.
    fn is_last(&mut self) -> bool {
        let here = self.command.get_positionals().nth(self.positionals);
        self.positionals += 1;
        here.is_some_and(Arg::is_trailing_var_arg_set)
    }

    fn find(&self, name: &str) -> Option<&Arg> {
        let fits = |arg: &&Arg| {
            arg.get_long() == Some(name)
                || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        self.command.get_arguments().find(fits)
    }

    fn flag(
        &self,
        flag: Flag,
        word: OsString,
        rest: &mut impl Iterator<Item = OsString>,
        out: &mut Vec<OsString>,
    ) -> Result<Option<String>, String> {
        let Flag { name, value, dashes } = flag;
        if dashes == 1 && name.chars().count() == 1 {
            // A short flag of ours; its value may be the next word.
            let takes = self.command.get_arguments().any(|arg| {
                arg.get_short() == name.chars().next() && arg.get_action().takes_values()
            });
            out.push(word);
            if takes && value.is_none() {
                out.extend(rest.next());
            }
            return Ok(None);
        }
        if let Some(arg) = self.find(&name) {
            let long = arg.get_long().unwrap_or(&name);
            match (arg.get_action(), value) {
                (ArgAction::SetTrue, Some(value)) => {
                    if truth(&name, &value)? {
                        out.push(format!("--{long}").into());
                    }
                }
                (action, None) if action.takes_values() && !arg.is_require_equals_set() => {
                    match rest.next() {
                        Some(value) => out.push(joined(long, &value)),
                        None => out.push(format!("--{long}").into()),
                    }
                }
                (_, Some(value)) => out.push(joined(long, &value)),
                (_, None) => out.push(format!("--{long}").into()),
            }
            return Ok(None);
        }
        let Some(known) = gvisor::find(self.command.get_name(), &name) else {
            out.push(word);
            return Ok(None);
        };
        let value = match (known.is_switch, value) {
            (true, None) => "true".into(),
            (true, Some(value)) => truth(&name, &value)?.to_string().into(),
            (false, Some(value)) => value,
            (false, None) => rest.next().ok_or_else(|| format!("--{name} needs a value"))?,
        };
        known.check(&value.to_string_lossy())
    }
}

fn joined(name: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{name}="));
    word.push(value);
    word
}

/// The value of a switch, as Go's `strconv.ParseBool` reads it.
fn truth(name: &str, value: &OsStr) -> Result<bool, String> {
    match value.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(false),
        _ => Err(format!("--{name} is true or false, not {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(line: &str) -> Result<String, String> {
        let normal = normalise(line.split(' ').map(OsString::from))?;
        Ok(normal.words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        let line = "runsc -platform=ptrace -root /r run -bundle /b -detach=true c1";
        assert_eq!(
            turned(line).as_deref(),
            Ok("runsc --platform=ptrace --root=/r run --bundle=/b --detach c1")
        );
        let line = "runsc --strace=false do --cwd -x -- sh -root";
        assert_eq!(turned(line).as_deref(), Ok("runsc do --cwd=-x -- sh -root"));
    }

    #[test]
    fn short_flags_and_the_guests_words_stay() {
        for line in [
            "runsc exec -t c1 sh",
            "runsc exec -it -e A=b c1 sh -platform=x",
            "runsc do -v /a:/b sh -strace=false",
            "runsc -V",
        ] {
            assert_eq!(turned(line).as_deref(), Ok(line));
        }
    }

    #[test]
    fn gvisors_flags() {
        let line = "runsc --directfs=false -num-network-channels 3 --ref-leak-mode=disabled list";
        assert_eq!(turned(line).as_deref(), Ok("runsc list"));
        assert!(turned("runsc --reproduce-nat do true").unwrap_err().contains("reproduce-nat"));
        assert_eq!(turned("runsc --reproduce-nat=false do true").as_deref(), Ok("runsc do true"));
        assert!(turned("runsc --strace=perhaps do true").is_err());
        let words = ["runsc", "--log-packets", "do", "true"].map(OsString::from);
        assert!(normalise(words).is_ok_and(|n| n.warnings.len() == 1 && n.words.len() == 3));
    }
}
