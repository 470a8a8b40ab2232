//! Options that raw sockets alone have: `ICMP_FILTER`, `ICMP6_FILTER`, `IPV6_CHECKSUM`, `IP_HDRINCL`.

use super::super::{AF_INET, IPPROTO_ICMP, IPPROTO_ICMPV6, SOL_IP, SOL_IPV6};
use super::RawSocket;
use crate::errno::{Errno, Result};
use crate::socket::OptionValue;
use crate::socket::options::int;
use std::sync::atomic::{AtomicU32, Ordering};

const SOL_RAW: i32 = 255;
const SOL_ICMPV6: i32 = 58;
const ICMP_FILTER: i32 = 1;
const ICMP6_FILTER: i32 = 1;
const IPV6_CHECKSUM: i32 = 7;
const IP_HDRINCL: i32 = 3;
const IP_NODEFRAG: i32 = 22;
const IPV6_HDRINCL: i32 = 36;
/// Size of `struct icmp_filter` and `struct icmp6_filter`.
const SIZE: [usize; 2] = [4, 32];

/// Types of ICMP messages that are not received: a bit for each.
#[derive(Debug, Default)]
pub(super) struct IcmpFilter([AtomicU32; 8]);

impl IcmpFilter {
    /// True if a message is received.
    pub(super) fn passes(&self, protocol: i32, message: &[u8]) -> bool {
        let Some(&kind) = message.first() else { return true };
        let blocked = |n: usize| {
            let word = self.0.get(n / 32).map_or(0, |w| w.load(Ordering::Relaxed));
            word >> (n % 32) & 1 != 0
        };
        match protocol {
            // The filter of ICMP has room for 32 types.
            IPPROTO_ICMP => kind >= 32 || !blocked(kind.into()),
            IPPROTO_ICMPV6 => !blocked(kind.into()),
            _ => true,
        }
    }

    fn get(&self, size: usize) -> OptionValue {
        let words = self.0.iter().flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes());
        OptionValue::Bytes(words.take(size).collect())
    }

    fn set(&self, value: &[u8], size: usize) {
        let value = value.get(..size).unwrap_or(value);
        let OptionValue::Bytes(mut bytes) = self.get(32) else { return };
        bytes.splice(..value.len(), value.iter().copied());
        for (word, bytes) in self.0.iter().zip(bytes.as_chunks().0) {
            word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }
}

impl RawSocket {
    fn is_v4(&self) -> bool {
        self.common.family() == AF_INET
    }

    /// Reads one of these options; `None` for others.
    pub(super) fn own_option(&self, level: i32, name: i32) -> Option<Result<OptionValue>> {
        let [v4, v6] = SIZE;
        let int = |n: i32| Some(Ok(OptionValue::Int(n)));
        let included = i32::from(self.header_included.load(Ordering::Relaxed));
        match (level, name) {
            (SOL_IP, IP_HDRINCL) => int(included),
            (SOL_IP, IP_NODEFRAG) => int(0),
            (SOL_RAW, ICMP_FILTER) if self.is_v4() => Some(match self.protocol {
                IPPROTO_ICMP => Ok(self.icmp_filter.get(v4)),
                _ => Err(Errno::EOPNOTSUPP),
            }),
            (SOL_ICMPV6, _) if !self.is_v4() => Some(match (self.protocol, name) {
                (IPPROTO_ICMPV6, ICMP6_FILTER) => Ok(self.icmp_filter.get(v6)),
                (IPPROTO_ICMPV6, _) => Err(Errno::ENOPROTOOPT),
                _ => Err(Errno::EOPNOTSUPP),
            }),
            (SOL_RAW | SOL_IPV6, IPV6_HDRINCL) if !self.is_v4() => int(included),
            (SOL_RAW | SOL_IPV6, IPV6_CHECKSUM) if !self.is_v4() => {
                int(self.checksum_at.load(Ordering::Relaxed))
            }
            (SOL_RAW, _) => Some(Err(Errno::ENOPROTOOPT)),
            _ => None,
        }
    }

    /// Sets one of these options; `None` for others.
    pub(super) fn set_own_option(&self, level: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
        let [v4, v6] = SIZE;
        let filter = |size| {
            self.icmp_filter.set(value, size);
            Ok(())
        };
        let include = || {
            let on = match (value.first_chunk(), value.first()) {
                (Some(n), _) => i32::from_ne_bytes(*n) != 0,
                (None, Some(n)) if level == SOL_IP => *n != 0,
                _ => return Err(Errno::EINVAL),
            };
            self.header_included.store(on, Ordering::Relaxed);
            Ok(())
        };
        match (level, name) {
            (SOL_IP, IP_HDRINCL) => Some(include()),
            (SOL_RAW, ICMP_FILTER) if self.is_v4() => Some(match self.protocol {
                IPPROTO_ICMP => filter(v4),
                _ => Err(Errno::EOPNOTSUPP),
            }),
            (SOL_ICMPV6, _) if !self.is_v4() => Some(match (self.protocol, name) {
                (IPPROTO_ICMPV6, ICMP6_FILTER) => filter(v6),
                (IPPROTO_ICMPV6, _) => Err(Errno::ENOPROTOOPT),
                _ => Err(Errno::EOPNOTSUPP),
            }),
            (SOL_RAW | SOL_IPV6, IPV6_HDRINCL) if !self.is_v4() => Some(include()),
            (SOL_RAW | SOL_IPV6, IPV6_CHECKSUM) if !self.is_v4() => {
                Some(self.set_checksum(level, value))
            }
            (SOL_RAW, _) => Some(Err(Errno::ENOPROTOOPT)),
            _ => None,
        }
    }

    /// `IPV6_CHECKSUM`. The checksum of ICMPv6 is the kernel's (RFC 3542, section 3.1).
    fn set_checksum(&self, level: i32, value: &[u8]) -> Result<()> {
        let n = int(value)?;
        if (self.protocol == IPPROTO_ICMPV6 && level == SOL_IPV6) || (n > 0 && n & 1 != 0) {
            return Err(Errno::EINVAL);
        }
        self.checksum_at.store(n.max(-1), Ordering::Relaxed);
        Ok(())
    }
}
