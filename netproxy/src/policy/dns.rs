//! Questions and answers of name servers (RFC 1035), as far as a policy must understand them.

use super::rule::normal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// Types `A` and `AAAA`.
const A: u16 = 1;
const AAAA: u16 = 28;
/// Most records that are looked at.
const MAX_RECORDS: u16 = 512;
/// `QR`, the flag of an answer, in the third byte; `RCODE` 5, "refused".
const ANSWER: u8 = 0x80;
const REFUSED: u8 = 5;

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name that was asked for.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// For how many seconds they hold.
    pub ttl: u32,
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

/// The one question of a message: its name, and where it ends. Names in questions are not compressed.
fn question(message: &[u8]) -> Option<(String, usize)> {
    if u16_at(message, 4)? != 1 {
        return None;
    }
    let mut at = HEADER;
    let mut name = String::new();
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        if len > 63 || name.len() > 253 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(message.get(at..at + len)?).ok()?);
        at += len;
    }
    message.get(at..at + 4)?;
    Some((normal(&name)?, at + 4))
}

/// The name that a question asks for; `None` when it is no question with one name.
pub fn asked(message: &[u8]) -> Option<String> {
    if message.get(2)? & ANSWER != 0 {
        return None;
    }
    question(message).map(|(name, _)| name)
}

/// An answer that refuses a question.
pub fn refuse(question: &[u8]) -> Option<Vec<u8>> {
    let end = self::question(question).map_or(HEADER, |(_, end)| end);
    let mut out = question.get(..end)?.to_vec();
    if let [_, _, flags, code, ..] = &mut out[..] {
        *flags |= ANSWER;
        *code = REFUSED;
    }
    // No answers, authorities or additional records; no question either if it was not understood.
    let questions = u8::from(end > HEADER);
    for (at, value) in [(4, 0), (5, questions), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0)] {
        *out.get_mut(at)? = value;
    }
    Some(out)
}

/// Past a name in a record, compressed or not.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            len if len & 0xc0 == 0xc0 => return Some(at + 2),
            len if len > 63 => return None,
            len => at += 1 + len,
        }
    }
}

/// What an answer says. Whatever the names in between (`CNAME`), the addresses are those of the name asked for.
pub fn answer(message: &[u8]) -> Option<Answer> {
    if message.get(2)? & ANSWER == 0 {
        return None;
    }
    let (name, mut at) = question(message)?;
    let (mut addresses, mut ttl) = (Vec::new(), u32::MAX);
    for _ in 0..u16_at(message, 6)?.min(MAX_RECORDS) {
        at = skip_name(message, at)?;
        let kind = u16_at(message, at)?;
        let seconds = u32::from_be_bytes(*message.get(at + 4..)?.first_chunk()?);
        let len = usize::from(u16_at(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + len)?;
        at += 10 + len;
        ttl = ttl.min(seconds);
        match (kind, data.len()) {
            (A, 4) => addresses
                .extend(data.first_chunk::<4>().map(|ip| IpAddr::from(Ipv4Addr::from(*ip)))),
            (AAAA, 16) => {
                let ip = data.first_chunk::<16>().map(|ip| IpAddr::from(Ipv6Addr::from(*ip)));
                addresses.extend(ip.map(|ip| ip.to_canonical()));
            }
            _ => {}
        }
    }
    Some(Answer { name, addresses, ttl })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] =
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03Www\x07example\x03com\0\0\x01\0\x01";

    fn reply() -> Vec<u8> {
        let mut out = QUESTION.to_vec();
        out[2] = 0x81;
        out[7] = 3;
        // CNAME, 300 s; A, 60 s; AAAA, 90 s.
        out.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x04\x01x\xc0\x10");
        out.extend_from_slice(b"\x01x\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
        out.extend_from_slice(b"\xc0\x0c\0\x1c\0\x01\0\0\0\x5a\0\x10\x20\x01\x0d\xb8");
        out.extend_from_slice(&[0; 11]);
        out.push(1);
        out
    }

    #[test]
    fn questions_and_answers() {
        assert_eq!(asked(QUESTION).as_deref(), Some("www.example.com"));
        assert_eq!(answer(QUESTION), None);
        let addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let expected = Answer { name: "www.example.com".into(), addresses, ttl: 60 };
        assert_eq!(answer(&reply()), Some(expected));
        assert_eq!(asked(&reply()), None);
    }

    #[test]
    fn refusals() {
        let out = refuse(QUESTION).unwrap();
        assert_eq!((&out[..2], out[2], out[3]), (&QUESTION[..2], 0x81, 5));
        assert_eq!(&out[4..], &QUESTION[4..]);
        assert_eq!(refuse(&QUESTION[..20]).unwrap().len(), HEADER);
        assert_eq!(refuse(b"short"), None);
    }

    #[test]
    fn cut_off_and_looping_messages() {
        let whole = reply();
        for len in 0..whole.len() {
            assert_eq!(answer(&whole[..len]), None, "{len}");
        }
        let mut pointer = QUESTION.to_vec();
        pointer[12] = 0xc0;
        assert_eq!(asked(&pointer), None);
    }
}
