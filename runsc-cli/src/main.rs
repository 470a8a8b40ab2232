//! The `runsc` command.
fn main() {}
