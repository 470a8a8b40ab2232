//! Scripts: the line `#! interpreter [argument]`.

use super::HEAD;
use crate::errno::{Errno, Result};

/// What the first line of a script says.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Path of the interpreter.
    pub interpreter: Vec<u8>,
    /// Its one argument: the rest of the line, without blanks around it.
    pub argument: Option<Vec<u8>>,
}

fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let Some((&first, rest)) = text.split_first()
        && blank(first)
    {
        text = rest;
    }
    while let Some((&last, rest)) = text.split_last()
        && blank(last)
    {
        text = rest;
    }
    text
}

/// Parses the start of a file that begins with `#!`. `ENOEXEC` if there is no interpreter, or its path
/// may have been cut off; `EACCES` if the file ends before there is one.
pub fn parse(head: &[u8]) -> Result<Line> {
    let text = head.get(2..).unwrap_or_default();
    let end = text.iter().position(|&b| b == b'\n');
    let line = match end {
        Some(end) => text.get(..end).unwrap_or_default(),
        None => {
            let text = match text.iter().position(|&b| b == 0) {
                Some(nul) => text.get(..nul).unwrap_or_default(),
                None => text,
            };
            // Linux looks for the path in a buffer filled up with zeroes, finds an empty one and
            // opens the working directory.
            let short = text.len() + 2 < HEAD;
            let start = text.iter().position(|&b| !blank(b));
            let start = start.ok_or(if short { Errno::EACCES } else { Errno::ENOEXEC })?;
            let path = text.get(start..).unwrap_or_default();
            // A full buffer without the end of the path: the rest is unknown.
            if head.len() >= HEAD && text.len() + 2 >= HEAD && !path.iter().any(|&b| blank(b)) {
                return Err(Errno::ENOEXEC);
            }
            text
        }
    };
    let line = match line.iter().position(|&b| b == 0) {
        Some(nul) => line.get(..nul).unwrap_or_default(),
        None => line,
    };
    let line = trim(line);
    if line.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let split = line.iter().position(|&b| blank(b)).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(split);
    let rest = trim(rest);
    Ok(Line {
        interpreter: interpreter.to_vec(),
        argument: (!rest.is_empty()).then(|| rest.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(interpreter: &str, argument: Option<&str>) -> Result<Line> {
        Ok(Line {
            interpreter: interpreter.as_bytes().to_vec(),
            argument: argument.map(|a| a.as_bytes().to_vec()),
        })
    }

    #[test]
    fn lines() {
        assert_eq!(parse(b"#!/bin/sh\necho"), line("/bin/sh", None));
        assert_eq!(parse(b"#! \t/bin/sh  -e -x \t\n"), line("/bin/sh", Some("-e -x")));
        assert_eq!(parse(b"#!/bin/sh"), line("/bin/sh", None));
        assert_eq!(parse(b"#!\n/bin/sh\n"), Err(Errno::ENOEXEC));
        assert_eq!(parse(b"#!  "), Err(Errno::EACCES));
        assert_eq!(parse(b"#!"), Err(Errno::EACCES));
    }

    #[test]
    fn cut_off() {
        let mut long = b"#!/".to_vec();
        long.resize(HEAD, b'a');
        assert_eq!(parse(&long), Err(Errno::ENOEXEC));
        // With the path complete, a cut argument is accepted.
        long[20] = b' ';
        assert!(parse(&long).is_ok());
    }
}
