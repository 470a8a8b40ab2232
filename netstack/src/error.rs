//! What an operation on an endpoint can fail with. The socket layer maps these to `errno`.

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing to read, no room to write, no connection to accept: try again when ready (`EAGAIN`).
    #[error("would block")]
    WouldBlock,
    /// The connection is being set up (`EINPROGRESS`).
    #[error("connection in progress")]
    InProgress,
    /// A connection attempt is already under way (`EALREADY`).
    #[error("connection already in progress")]
    Already,
    /// The endpoint is connected already (`EISCONN`).
    #[error("already connected")]
    IsConnected,
    /// The endpoint is not connected (`ENOTCONN`).
    #[error("not connected")]
    NotConnected,
    /// A datagram without a destination (`EDESTADDRREQ`).
    #[error("destination address required")]
    DestinationRequired,
    /// The operation does not fit the endpoint's state or the argument is out of range (`EINVAL`).
    #[error("invalid argument")]
    Invalid,
    /// Another endpoint holds the address (`EADDRINUSE`).
    #[error("address in use")]
    AddressInUse,
    /// The address is not one of this stack's (`EADDRNOTAVAIL`), or no port is left.
    #[error("address not available")]
    AddressNotAvailable,
    /// The address's family does not fit the endpoint (`EAFNOSUPPORT`).
    #[error("address family not supported")]
    Family,
    /// No route to the network (`ENETUNREACH`).
    #[error("network unreachable")]
    NetworkUnreachable,
    /// The host does not answer or was reported unreachable (`EHOSTUNREACH`).
    #[error("host unreachable")]
    HostUnreachable,
    /// The peer refused (`ECONNREFUSED`).
    #[error("connection refused")]
    ConnectionRefused,
    /// The peer reset the connection (`ECONNRESET`).
    #[error("connection reset")]
    ConnectionReset,
    /// The connection was aborted (`ECONNABORTED`).
    #[error("connection aborted")]
    ConnectionAborted,
    /// The peer stopped answering (`ETIMEDOUT`).
    #[error("timed out")]
    TimedOut,
    /// The endpoint was shut down for sending (`EPIPE`).
    #[error("broken pipe")]
    BrokenPipe,
    /// The datagram is larger than the protocol or the path allows (`EMSGSIZE`).
    #[error("message too long")]
    MessageSize,
    /// A limit of this stack is reached (`ENOBUFS`).
    #[error("no buffer space")]
    NoBuffers,
    /// Broadcast without permission (`EACCES`).
    #[error("permission denied")]
    AccessDenied,
    /// A parameter problem was reported for a packet of ours (`EPROTO`).
    #[error("protocol error")]
    Protocol,
    /// The peer does not speak the protocol (`ENOPROTOOPT`).
    #[error("protocol not available")]
    NoProtocol,
    /// There is no such interface (`ENODEV`).
    #[error("no such interface")]
    NoDevice,
    /// Too many memberships (`ENOBUFS`), or not a member (`EADDRNOTAVAIL`) when leaving.
    #[error("too many multicast memberships")]
    TooManyMemberships,
}

/// The result of an operation on an endpoint.
pub type Result<T> = std::result::Result<T, Error>;
