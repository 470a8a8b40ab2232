//! Errors at the edge of this crate.

/// Result of a platform operation.
pub type Result<T, E = PlatformError> = std::result::Result<T, E>;

/// Why a platform operation failed.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The guest process behind this address space is gone (killed from outside or by the host's
    /// OOM killer). The guest process must be ended as by `SIGKILL`; the sentry goes on.
    #[error("the stub process has died")]
    StubDied,
    /// A host call failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried, and on what.
        what: &'static str,
        /// Why it failed.
        source: nix::errno::Errno,
    },
    /// The back end cannot work on this host.
    #[error("{0}")]
    Unsupported(String),
}

impl PlatformError {
    /// Wraps the failure of one host call.
    pub fn host(what: &'static str, source: nix::errno::Errno) -> Self {
        Self::Host { what, source }
    }
}

/// An access to guest memory that could not be done.
///
/// The range lies outside the frames, is misaligned for an atomic access, or the host could not
/// supply the page (out of memory, or a mapped host file that has been truncated).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("guest memory cannot be accessed")]
pub struct AccessError;

impl From<AccessError> for PlatformError {
    fn from(_: AccessError) -> Self {
        Self::host("access guest memory", nix::errno::Errno::EFAULT)
    }
}
