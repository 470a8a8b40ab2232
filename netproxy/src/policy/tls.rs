//! The first message of a TLS client (RFC 8446, section 4.1.2), for the name it asks for (RFC 6066, section 3).

/// Largest first message that is looked at, in bytes.
pub const MAX_HELLO: usize = 16 << 10;

/// What the first bytes of a stream are.
#[derive(Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// Too few to tell.
    More,
    /// Something else than TLS.
    Other,
    /// A TLS client, and the name it asks for, if any.
    Tls(Option<&'a str>),
}

/// A part of a message, read from its start.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    /// What a length of so many bytes precedes.
    fn vector(&mut self, bytes: usize) -> Option<Reader<'a>> {
        let len = self.number(bytes)?;
        self.take(len).map(Reader)
    }
}

/// Looks at the first bytes of a stream.
pub fn first(bytes: &[u8]) -> First<'_> {
    /// Content type "handshake", and its first type "client_hello".
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    match bytes {
        [] => return First::More,
        [HANDSHAKE] | [HANDSHAKE, 3] => return First::More,
        [HANDSHAKE, 3, ..] => {}
        _ => return First::Other,
    }
    let mut record = Reader(bytes.get(3..).unwrap_or_default());
    let (Some(len), rest) = (record.number(2), record.0) else { return First::More };
    if let [kind, ..] = rest
        && *kind != CLIENT_HELLO
    {
        return First::Tls(None);
    }
    // A message in several records would be a way around: no client sends one.
    if len > MAX_HELLO {
        return First::Tls(None);
    }
    match rest.get(..len) {
        Some(hello) => First::Tls(name(hello)),
        None => First::More,
    }
}

fn name(hello: &[u8]) -> Option<&str> {
    let mut message = Reader(hello);
    message.take(1)?;
    let mut body = message.vector(3)?;
    // Version and random number; session, cipher suites, compression methods.
    body.take(2 + 32)?;
    body.vector(1)?;
    body.vector(2)?;
    body.vector(1)?;
    let mut extensions = body.vector(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut value = extensions.vector(2)?;
        if kind != 0 {
            continue;
        }
        let mut names = value.vector(2)?;
        // The first of type "host_name"; there is no other.
        return match names.number(1)? {
            0 => std::str::from_utf8(names.vector(2)?.0).ok(),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: Option<&str>) -> Vec<u8> {
        let mut extensions = b"\0\x2b\0\x03\x02\x03\x04".to_vec();
        if let Some(name) = name {
            let len = name.len() as u8;
            extensions.extend_from_slice(&[0, 0, 0, len + 5, 0, len + 3, 0, 0, len]);
            extensions.extend_from_slice(name.as_bytes());
        }
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0, 0, extensions.len() as u8]);
        body.extend_from_slice(&extensions);
        let mut out = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
        out.extend_from_slice(&body);
        out
    }

    #[test]
    fn names() {
        let whole = hello(Some("www.example.com"));
        assert_eq!(first(&whole), First::Tls(Some("www.example.com")));
        assert_eq!(first(&hello(None)), First::Tls(None));
        for len in 0..whole.len() {
            assert_eq!(first(&whole[..len]), First::More, "{len}");
        }
        assert_eq!(first(b"GET / HTTP/1.1\r\n"), First::Other);
        assert_eq!(first(b"\x16\x03\x01\0\x04\x02\0\0\0"), First::Tls(None));
        assert_eq!(first(b"\x16\x03\x01\xff\xff\x01\0\0\0"), First::Tls(None));
    }

    #[test]
    fn lengths_that_lie() {
        let whole = hello(Some("www.example.com"));
        for at in 5..whole.len() {
            let mut bad = whole.clone();
            bad[at] = bad[at].wrapping_add(200);
            assert!(matches!(first(&bad), First::Tls(_)));
        }
    }
}
