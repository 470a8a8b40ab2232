//! Test programs and suites.
