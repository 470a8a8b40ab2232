//! Test programs and suites.

pub mod conformance;
