//! `linux.seccomp` of a config.json: from a profile to the filter program that the sandbox's kernel runs.
//!
//! The meaning of a profile is runc's with libseccomp: names that this kernel does not know are skipped, a call
//! without a condition is decided by its first entry, conditions of one call are tried in order, and calls that are
//! newer than all that the profile names fail with `ENOSYS`, so that C libraries fall back to older ones.

mod assemble;

use anyhow::bail;
use assemble::{Assembler, Condition};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use sentry::boot::FilterInstruction;
use sentry::kernel::seccomp::action;
use std::collections::{BTreeMap, HashMap};

/// Longest program (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// Names of the actions that a profile may have, for `features`.
pub const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Names of the operators, for `features`.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Names of the flags, for `features`. None of them changes anything here.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// What becomes of the calls of one number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// The same for all of them.
    Always(u32),
    /// The first alternative whose conditions all hold decides, without one the profile's default.
    Conditional(Vec<(Vec<Condition>, u32)>),
}

/// Compiles a profile. Empty if it allows everything.
pub fn compile(profile: &LinuxSeccomp) -> anyhow::Result<Vec<FilterInstruction>> {
    let default = value_of(profile.default_action(), profile.default_errno_ret())?;
    let syscalls = profile.syscalls().as_deref().unwrap_or_default();
    let numbers = numbers();
    let mut rules = BTreeMap::new();
    let mut newest = None;
    for entry in syscalls {
        let value = value_of(entry.action(), entry.errno_ret())?;
        for name in entry.names() {
            let Some(&number) = numbers.get(name.as_str()) else { continue };
            newest = newest.max(Some(number));
            // The profile's default needs no rule, and must not hide others.
            if value != default {
                add(&mut rules, number, entry, value)?;
            }
        }
    }
    if rules.is_empty() && default == action::ALLOW {
        return Ok(Vec::new());
    }
    let architectures = profile.architectures().as_deref().unwrap_or_default();
    let x32 = architectures.contains(&Arch::ScmpArchX32);
    let program = emit(&rules, default, newest, x32);
    if program.len() > MAX_INSTRUCTIONS {
        bail!(
            "\"linux.seccomp\": the profile makes a filter of {} instructions, {MAX_INSTRUCTIONS} are the most: give \
             calls fewer conditions",
            program.len()
        );
    }
    Ok(program)
}

/// The value that a filter returns for an action.
fn value_of(action: LinuxSeccompAction, errno: Option<u32>) -> anyhow::Result<u32> {
    use LinuxSeccompAction as A;
    let data = errno.unwrap_or(libc::EPERM as u32);
    if matches!(action, A::ScmpActErrno | A::ScmpActTrace) && data > u32::from(u16::MAX) {
        bail!("\"linux.seccomp\": errnoRet {data} is no error number");
    }
    Ok(match action {
        A::ScmpActKill | A::ScmpActKillThread => action::KILL_THREAD,
        A::ScmpActKillProcess => action::KILL_PROCESS,
        A::ScmpActTrap => action::TRAP,
        A::ScmpActErrno => action::ERRNO | data,
        A::ScmpActTrace => action::TRACE | data,
        A::ScmpActLog => action::LOG,
        A::ScmpActAllow => action::ALLOW,
        A::ScmpActNotify => bail!(
            "\"linux.seccomp\": SCMP_ACT_NOTIFY is not supported: the calls are those of the sandbox's own kernel, of \
             which no descriptor can be sent to \"listenerPath\""
        ),
    })
}

/// The numbers of all system calls by their names.
fn numbers() -> HashMap<&'static str, u32> {
    let rows = sentry::syscalls::table::groups().iter().copied().flatten();
    rows.map(|row| (row.name, row.nr)).collect()
}

/// Adds what an entry says about a call.
fn add(
    rules: &mut BTreeMap<u32, Rule>,
    number: u32,
    entry: &LinuxSyscall,
    value: u32,
) -> anyhow::Result<()> {
    let args = entry.args().as_deref().unwrap_or_default();
    let conditions: Vec<Condition> = args.iter().map(condition).collect::<Result<_, _>>()?;
    let rule = rules.entry(number).or_insert_with(|| Rule::Conditional(Vec::new()));
    let Rule::Conditional(alternatives) = rule else { return Ok(()) };
    let mut seen: Vec<u8> = conditions.iter().map(|c| c.argument).collect();
    seen.sort_unstable();
    let twice = seen.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
    match conditions.is_empty() {
        true => *rule = Rule::Always(value),
        // As with libseccomp, which knows one condition for each argument: any of them does.
        false if twice => alternatives.extend(conditions.into_iter().map(|c| (vec![c], value))),
        false => alternatives.push((conditions, value)),
    }
    Ok(())
}

fn condition(arg: &LinuxSeccompArg) -> anyhow::Result<Condition> {
    let Some(argument) = u8::try_from(arg.index()).ok().filter(|index| *index < 6) else {
        bail!(
            "\"linux.seccomp\": a call has the arguments 0 to 5, none with index {}",
            arg.index()
        );
    };
    let operator = arg.op();
    // A mask comes first, then what is to be left of the argument.
    let (mask, value) = match operator {
        LinuxSeccompOperator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0)),
        _ => (u64::MAX, arg.value()),
    };
    Ok(Condition { argument, operator, mask, value })
}

/// Bit of the numbers of x32 calls.
const X32: u32 = 0x4000_0000;

fn emit(
    rules: &BTreeMap<u32, Rule>,
    default: u32,
    newest: Option<u32>,
    x32: bool,
) -> Vec<FilterInstruction> {
    let permissive =
        [action::ALLOW, action::LOG, action::TRACE].contains(&(default & action::MASK));
    let unknown = if permissive { default } else { action::ERRNO | libc::ENOSYS as u32 };
    let end = newest.map_or(0, |newest| newest + 1);
    // From each number on, until the next one.
    let mut ranges: Vec<(u32, Rule)> = Vec::new();
    for number in 0..end {
        let rule = rules.get(&number).cloned().unwrap_or(Rule::Always(default));
        if ranges.last().is_none_or(|(_, last)| *last != rule) {
            ranges.push((number, rule));
        }
    }
    ranges.push((end, Rule::Always(unknown)));
    let mut out = Assembler::default();
    out.load_number();
    match x32 {
        true => out.and(!X32),
        false => out.refuse_from(X32, action::KILL_THREAD),
    }
    out.search(&ranges, &|out, rule| match rule {
        Rule::Always(value) => out.give(*value),
        Rule::Conditional(alternatives) => {
            for (conditions, value) in alternatives {
                out.when(conditions, *value);
            }
            out.give(default);
        }
    });
    out.finish()
}

#[cfg(test)]
mod tests;
