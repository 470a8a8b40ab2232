//! The stack's errors and readiness, as Linux has them.

use crate::errno::Errno;
use crate::wait::EventMask;
use netstack::{Error, Readiness};

/// The error that a system call returns.
pub fn errno(error: Error) -> Errno {
    match error {
        Error::WouldBlock => Errno::EAGAIN,
        Error::InProgress => Errno::EINPROGRESS,
        Error::Already => Errno::EALREADY,
        Error::IsConnected => Errno::EISCONN,
        Error::NotConnected => Errno::ENOTCONN,
        Error::DestinationRequired => Errno::EDESTADDRREQ,
        Error::Invalid => Errno::EINVAL,
        Error::AddressInUse => Errno::EADDRINUSE,
        Error::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        Error::Family => Errno::EAFNOSUPPORT,
        Error::NetworkUnreachable => Errno::ENETUNREACH,
        Error::HostUnreachable => Errno::EHOSTUNREACH,
        Error::ConnectionRefused => Errno::ECONNREFUSED,
        Error::ConnectionReset => Errno::ECONNRESET,
        Error::ConnectionAborted => Errno::ECONNABORTED,
        Error::TimedOut => Errno::ETIMEDOUT,
        Error::BrokenPipe => Errno::EPIPE,
        Error::MessageSize => Errno::EMSGSIZE,
        Error::NoBuffers | Error::TooManyMemberships => Errno::ENOBUFS,
        Error::AccessDenied => Errno::EACCES,
        Error::Protocol => Errno::EPROTO,
        Error::NoProtocol => Errno::ENOPROTOOPT,
        Error::NoDevice => Errno::ENODEV,
    }
}

/// Events of `poll(2)`.
pub fn events(ready: Readiness) -> EventMask {
    let pairs = [
        (Readiness::IN, EventMask::READABLE),
        (Readiness::PRI, EventMask::PRI),
        (Readiness::OUT, EventMask::WRITABLE),
        (Readiness::ERR, EventMask::ERR),
        (Readiness::HUP, EventMask::HUP),
        (Readiness::RDHUP, EventMask::RDHUP),
    ];
    let set = pairs.into_iter().filter(|(r, _)| ready.contains(*r));
    set.fold(EventMask::empty(), |all, (_, event)| all | event)
}
