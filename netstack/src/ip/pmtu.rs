//! What is known of the MTU of paths (RFC 1191, RFC 8201).

use crate::random::KeyedHash;
use crate::time::Instant;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Destinations remembered; beyond that, the one that ends first makes room.
const MAX: usize = 1024;
/// How long (`mtu_expires`).
const EXPIRES: Duration = Duration::from_secs(600);
/// The least that a message can reduce an IPv4 path to (`min_pmtu`).
const MIN_V4: usize = 552;

/// See the module.
#[derive(Debug)]
pub(crate) struct PmtuCache {
    paths: HashMap<IpAddr, (usize, Instant), KeyedHash>,
}

impl PmtuCache {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self { paths: HashMap::with_hasher(hash) }
    }

    /// The MTU to a destination, if a message has said so lately.
    pub(crate) fn get(&mut self, dst: IpAddr, now: Instant) -> Option<usize> {
        if self.paths.is_empty() {
            return None;
        }
        let (mtu, until) = *self.paths.get(&dst)?;
        if until <= now {
            self.paths.remove(&dst);
            return None;
        }
        Some(mtu)
    }

    /// A message says that a packet of `sent` bytes was too large, and maybe what would not be (zero: it
    /// does not say). Returns the new MTU when it is smaller than what was known.
    pub(crate) fn reduce(
        &mut self,
        dst: IpAddr,
        mtu: usize,
        sent: usize,
        now: Instant,
    ) -> Option<usize> {
        let mtu = if mtu == 0 { plateau(sent) } else { mtu };
        let mtu = if dst.is_ipv4() { mtu.max(MIN_V4) } else { mtu.max(crate::wire::ipv6::MIN_MTU) };
        if self.get(dst, now).is_some_and(|old| old <= mtu) {
            return None;
        }
        if self.paths.len() >= MAX && !self.paths.contains_key(&dst) {
            let first = self.paths.iter().min_by_key(|(_, (_, until))| *until).map(|(a, _)| *a);
            if let Some(first) = first {
                self.paths.remove(&first);
            }
        }
        self.paths.insert(dst, (mtu, now + EXPIRES));
        Some(mtu)
    }
}

/// The next lower common MTU, for routers that say none (RFC 1191, section 7.1).
fn plateau(sent: usize) -> usize {
    const PLATEAUS: [usize; 9] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296];
    PLATEAUS.into_iter().find(|&p| p < sent).unwrap_or(68)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_shrink_and_recover() {
        let mut c = PmtuCache::new(KeyedHash([0, 0]));
        let dst: IpAddr = "10.0.0.1".parse().unwrap();
        let at = Instant::from_millis;
        assert_eq!(c.get(dst, at(0)), None);
        assert_eq!(c.reduce(dst, 1400, 1500, at(0)), Some(1400));
        assert_eq!(c.reduce(dst, 1450, 1500, at(0)), None, "it never grows by a message");
        assert_eq!(c.reduce(dst, 100, 1500, at(0)), Some(552), "nor below the floor");
        assert_eq!(c.get(dst, at(1)), Some(552));
        assert_eq!(c.get(dst, at(600_000)), None);
        assert_eq!(c.reduce(dst, 0, 1500, at(0)), Some(1492), "an old router's message");
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(c.reduce(v6, 600, 1500, at(0)), Some(1280));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut c = PmtuCache::new(KeyedHash([0, 0]));
        for n in 0..5000u32 {
            c.reduce(
                std::net::Ipv4Addr::from(n).into(),
                1000,
                1500,
                Instant::from_millis(n.into()),
            );
        }
        assert_eq!(c.paths.len(), MAX);
    }
}
