//! The transcript: lines of text on standard output that describe what a case saw.
//!
//! Every line is one write(2), so lines of several processes do not mix. Nothing that may differ
//! between two runs goes into a line: no ids, addresses, times or paths of the host.

use crate::sys::{at, sc};
use std::fmt;

/// Writes one line.
pub fn line(args: fmt::Arguments<'_>) {
    let text = format!("{args}\n");
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let ret = sc!(SYS_write, 1, at(rest), rest.len());
        match ret.errno() {
            0 => rest = &rest[(ret.0 as usize).min(rest.len())..],
            libc::EINTR | libc::EAGAIN => {}
            _ => return,
        }
    }
}

/// The part of an expression that names it in a transcript: long ones, with closures, are cut.
pub fn label(expression: &str) -> &str {
    let first = expression.lines().next().unwrap_or("");
    first.char_indices().nth(110).map_or(first, |(i, _)| &first[..i])
}

/// Writes a line of formatted text.
macro_rules! say {
    ($($t:tt)*) => { $crate::transcript::line(format_args!($($t)*)) };
}

/// Writes each expression with its value (`Display`); returns the last value.
macro_rules! p {
    ($e:expr) => {
        match $e {
            value => {
                $crate::transcript::line(format_args!("{} = {value}", $crate::transcript::label(stringify!($e))));
                value
            }
        }
    };
    ($e:expr, $($rest:expr),+ $(,)?) => {{ p!($e); p!($($rest),+) }};
}

/// Writes each expression with `ok` or the error name; returns the last value.
macro_rules! ok {
    ($e:expr) => {{
        let value: $crate::sys::Ret = $e;
        if value.ok() {
            $crate::transcript::line(format_args!("{}: ok", $crate::transcript::label(stringify!($e))));
        } else {
            $crate::transcript::line(format_args!("{}: {value}", $crate::transcript::label(stringify!($e))));
        }
        value
    }};
    ($e:expr, $($rest:expr),+ $(,)?) => {{ ok!($e); ok!($($rest),+) }};
}
pub(crate) use {ok, p, say};
