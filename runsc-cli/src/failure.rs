//! Errors that bring an exit status of their own.

/// A failure that the sandbox has described.
#[derive(Debug)]
pub struct Failure {
    /// One line: what was tried and why it failed.
    pub message: String,
    /// Exit status for the caller.
    pub status: u8,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
