//! Rules of an egress policy, as they are written.

use std::net::IpAddr;
use std::str::FromStr;

/// Longest name, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Everything.
    Any,
    /// The addresses that a name has; in lower case.
    Name(String),
    /// Those of all names below one (`*.NAME`).
    Below(String),
    /// A network.
    Net(IpAddr, u8),
}

/// A rule: `allow:WHAT[:PORT]` or `deny:WHAT[:PORT]`, where WHAT is a name, `*.NAME`, an address, `ADDRESS/BITS`
/// or `*`; an IPv6 address with a port stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub allow: bool,
    /// Of what.
    pub what: What,
    /// For this port only.
    pub port: Option<u16>,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?}: expected allow: or deny:, then DOMAIN, *.DOMAIN, CIDR or *, then :PORT if need be"
            )
        };
        let (verdict, rest) = text.trim().split_once(':').ok_or_else(expected)?;
        let allow = match verdict {
            "allow" => true,
            "deny" => false,
            _ => return Err(expected()),
        };
        let (what, port) = split_port(rest).ok_or_else(expected)?;
        let what = parse_what(what).ok_or_else(expected)?;
        if !allow && matches!(what, What::Name(_) | What::Below(_)) {
            return Err(format!(
                "{text:?}: names can be allowed only: an address can have others, too"
            ));
        }
        Ok(Self { allow, what, port })
    }
}

/// Takes a port off the end.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |port: &str| port.parse().ok().filter(|port: &u16| *port != 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        return match after {
            "" => Some((inside, None)),
            after => Some((inside, Some(port(after.strip_prefix(':')?)?))),
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        // An IPv6 address without brackets has no port.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((what, number)) => Some((what, Some(port(number)?))),
    }
}

fn parse_what(text: &str) -> Option<What> {
    if text == "*" {
        return Some(What::Any);
    }
    if let Some((ip, bits)) = text.split_once('/') {
        let ip: IpAddr = ip.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        return (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(What::Net(ip, bits));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(What::Net(ip, if ip.is_ipv4() { 32 } else { 128 }));
    }
    match text.strip_prefix("*.") {
        Some(name) => normal(name).map(What::Below),
        None => normal(text).map(What::Name),
    }
}

/// A name as it is compared: in lower case, without a dot at the end. `None` when it is none.
pub fn normal(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(known)
    };
    let good = name.len() <= MAX_NAME && name.split('.').all(label);
    good.then(|| name.to_ascii_lowercase())
}

/// True when `ip` is in the network of `net`'s first `bits`.
pub fn contains(net: IpAddr, bits: u8, ip: IpAddr) -> bool {
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            let shift = 32u32.saturating_sub(bits.into());
            let high = |ip: u32| ip.checked_shr(shift).unwrap_or(0);
            high(net.into()) == high(ip.into())
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => {
            let shift = 128u32.saturating_sub(bits.into());
            let high = |ip: u128| ip.checked_shr(shift).unwrap_or(0);
            high(net.into()) == high(ip.into())
        }
        _ => false,
    }
}

impl What {
    /// True for an address, whatever its names.
    pub fn covers(&self, ip: IpAddr) -> bool {
        match self {
            What::Any => true,
            What::Net(net, bits) => contains(*net, *bits, ip),
            What::Name(_) | What::Below(_) => false,
        }
    }

    /// True for a name in [`normal`] form.
    pub fn names(&self, name: &str) -> bool {
        match self {
            What::Name(own) => own == name,
            What::Below(own) => name
                .strip_suffix(own.as_str())
                .is_some_and(|head| head.len() > 1 && head.ends_with('.')),
            What::Any | What::Net(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let rule = |text: &str| text.parse::<Rule>().ok();
        let name = |name: &str| What::Name(name.into());
        let expect = |allow, what, port| Some(Rule { allow, what, port });
        assert_eq!(rule("allow:Example.COM."), expect(true, name("example.com"), None));
        assert_eq!(rule("allow:example.com:443"), expect(true, name("example.com"), Some(443)));
        assert_eq!(rule("allow:*.x.y:1"), expect(true, What::Below("x.y".into()), Some(1)));
        assert_eq!(rule("deny:*"), expect(false, What::Any, None));
        let net = |ip: &str, bits| What::Net(ip.parse().unwrap(), bits);
        assert_eq!(rule("allow:10.0.0.0/8:80"), expect(true, net("10.0.0.0", 8), Some(80)));
        assert_eq!(rule("allow:192.0.2.1"), expect(true, net("192.0.2.1", 32), None));
        assert_eq!(rule("deny:2001:db8::/32"), expect(false, net("2001:db8::", 32), None));
        assert_eq!(rule("allow:[2001:db8::1]:53"), expect(true, net("2001:db8::1", 128), Some(53)));
        for no in [
            "",
            "allow",
            "allow:",
            "permit:x",
            "allow:x:0",
            "allow:x:y",
            "allow:10.0.0.0/33",
            "allow:a..b",
            "allow:[::1",
            "allow:a b",
            "deny:example.com",
            "allow:x:65536",
        ] {
            assert_eq!(rule(no), None, "{no}");
        }
    }

    #[test]
    fn names_and_networks() {
        let below = What::Below("example.com".into());
        assert!(below.names("a.example.com") && below.names("a.b.example.com"));
        assert!(!below.names("example.com") && !below.names("badexample.com"));
        let ip = |text: &str| text.parse().unwrap();
        assert!(contains(ip("10.1.2.3"), 8, ip("10.9.9.9")));
        assert!(!contains(ip("10.0.0.0"), 8, ip("11.0.0.0")));
        assert!(contains(ip("::"), 0, ip("2001:db8::1")) && !contains(ip("::"), 0, ip("1.2.3.4")));
    }
}
