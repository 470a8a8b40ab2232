//! Messages of name servers over TCP: each with its length before it (RFC 1035, section 4.2.2).

/// Length of the length.
const PREFIX: usize = 2;

/// Takes messages out of a stream; it never holds more than one that is not complete.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// Adds what has come.
    pub fn push(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    /// The next message that is complete.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let len = usize::from(u16::from_be_bytes(*self.0.first_chunk::<PREFIX>()?));
        let message = self.0.get(PREFIX..PREFIX + len)?.to_vec();
        self.0.drain(..PREFIX + len);
        Some(message)
    }

    /// True with no part of a message.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A message as it goes over TCP; `None` for one that is too long.
pub fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(message.len()).ok()?;
    Some([&len.to_be_bytes(), message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let stream = [frame(b"abc").unwrap(), frame(b"").unwrap(), frame(b"de").unwrap()].concat();
        for size in 1..stream.len() {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.push(piece);
                while let Some(message) = frames.take() {
                    got.push(message);
                }
            }
            assert_eq!(got, [&b"abc"[..], b"", b"de"], "{size}");
            assert!(frames.is_empty());
        }
        assert_eq!(frame(&[0; 65_536]), None);
    }
}
