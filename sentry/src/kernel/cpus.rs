//! Sets of CPUs, a bit each and 64 to a word, and how they are written as lists of ranges.

use crate::errno::{Errno, Result};

/// The set of so many CPUs.
pub fn all_cpus(cpus: u32) -> Vec<u64> {
    let words = cpus.div_ceil(64).max(1);
    (0..words)
        .map(|w| match cpus.saturating_sub(w * 64) {
            n if n >= 64 => u64::MAX,
            n => (1_u64 << n).wrapping_sub(1),
        })
        .collect()
}

/// Whether there is none in the set.
pub fn is_empty(set: &[u64]) -> bool {
    set.iter().all(|word| *word == 0)
}

/// What both sets have; `second` if that is nothing.
pub fn common_or(first: &[u64], second: Vec<u64>) -> Vec<u64> {
    let both: Vec<u64> = first.iter().zip(&second).map(|(a, b)| a & b).collect();
    if is_empty(&both) { second } else { both }
}

/// The set as a list of ranges (`%*pbl`).
pub fn list(set: &[u64]) -> String {
    let has = |cpu: usize| set.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 != 0);
    let mut ranges = Vec::new();
    let mut cpu = 0;
    while cpu < set.len() * 64 {
        let first = cpu;
        while has(cpu) {
            cpu += 1;
        }
        match cpu - first {
            0 => cpu += 1,
            1 => ranges.push(first.to_string()),
            _ => ranges.push(format!("{first}-{}", cpu - 1)),
        }
    }
    ranges.join(",")
}

/// What [`list`] writes, with `N` for the last CPU, `all`, and `:USED/GROUP` behind a range. `EINVAL` for anything
/// else, `ERANGE` for a CPU that there is not.
pub fn parse(text: &str, cpus: u32) -> Result<Vec<u64>> {
    let last = cpus.saturating_sub(1);
    let number = |word: &str| match word {
        "N" => Ok(last),
        _ if word.bytes().all(|c| c.is_ascii_digit()) => word.parse().map_err(|_| Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    };
    let mut set = vec![0_u64; all_cpus(cpus).len()];
    let words = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
    for word in words.filter(|word| !word.is_empty()) {
        let (range, pattern) = match word.split_once(':') {
            Some((range, pattern)) => (range, Some(pattern)),
            None => (word, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "all" => (0, last),
            Some((from, to)) => (number(from)?, number(to)?),
            None if pattern.is_some() => return Err(Errno::EINVAL),
            None => (number(range)?, number(range)?),
        };
        let (used, group) = match pattern {
            Some(pattern) => {
                let (used, group) = pattern.split_once('/').ok_or(Errno::EINVAL)?;
                (number(used)?, number(group)?)
            }
            None => (1, 1),
        };
        if from > to || group == 0 || used > group {
            return Err(Errno::EINVAL);
        }
        if to > last {
            return Err(Errno::ERANGE);
        }
        for cpu in (from..=to).filter(|cpu| (cpu - from) % group < used) {
            if let Some(word) = set.get_mut(cpu as usize / 64) {
                *word |= 1 << (cpu % 64);
            }
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::{all_cpus, common_or, list, parse};
    use crate::errno::Errno;

    #[test]
    fn lists_are_read_and_written() {
        for text in ["", "0", "0-3", "1,3-5,70", "127"] {
            assert_eq!(list(&parse(text, 128).unwrap()), text);
        }
        assert_eq!(list(&parse("0-9:2/4 N", 16).unwrap()), "0-1,4-5,8-9,15");
        assert_eq!(parse("all", 70).unwrap(), all_cpus(70));
        for wrong in ["x", "1-", "-1", "2-1", "1:1/2", "0-3:1/0", "0-3:3/2", "+1", "0x1"] {
            assert_eq!(parse(wrong, 8), Err(Errno::EINVAL), "{wrong}");
        }
        for beyond in ["8", "0-8", "4000000000"] {
            assert_eq!(parse(beyond, 8), Err(Errno::ERANGE), "{beyond}");
        }
    }

    #[test]
    fn a_wish_without_a_cpu_is_no_wish() {
        assert_eq!(common_or(&[0b110], vec![0b011]), [0b010]);
        assert_eq!(common_or(&[0b100], vec![0b011]), [0b011]);
    }
}
