//! What can go wrong with a call.

use nix::errno::Errno;

use crate::protocol::TransportError;

/// Why a call to the gofer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The gofer answered with an errno: the host's answer, or its own refusal.
    #[error("{0}")]
    Errno(Errno),
    /// The gofer is gone. Every call fails with this from then on.
    #[error("the gofer has died; no host file can be reached any more")]
    GoferDied,
    /// The gofer does not keep to the protocol. Only [`crate::Client::connect`] returns this;
    /// later, such a gofer counts as dead.
    #[error("the gofer does not keep to the protocol: {0}")]
    Protocol(&'static str),
}

impl ClientError {
    pub(super) fn host(errno: i32) -> Self {
        Self::Errno(Errno::from_raw(errno))
    }

    /// The errno for a guest: the host's, or `EIO` when the gofer is gone.
    pub fn errno(self) -> Errno {
        match self {
            Self::Errno(errno) => errno,
            Self::GoferDied | Self::Protocol(_) => Errno::EIO,
        }
    }
}

impl From<TransportError> for ClientError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Closed | TransportError::Socket(_) => Self::GoferDied,
            TransportError::Malformed(what) => Self::Protocol(what),
            TransportError::NoDescriptor => Self::Errno(Errno::ENFILE),
            // Paths are bounded before they are sent, so only a value can be too large.
            TransportError::TooLarge => Self::Errno(Errno::E2BIG),
        }
    }
}
