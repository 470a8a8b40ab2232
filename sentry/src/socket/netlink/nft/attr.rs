//! Attributes of `NETLINK_NETFILTER`: numbers are in network order, and attributes nest.

use crate::errno::{Errno, Result};

/// The attributes of one level.
#[derive(Clone, Copy)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// Those in `bytes`, which may be anything.
    pub fn new(bytes: &'a [u8]) -> Attrs<'a> {
        Attrs(bytes)
    }

    /// All of them: kind and data. What is malformed ends the list.
    pub fn all(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let len = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
            let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & 0x3fff;
            let data = rest.get(4..len)?;
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, data))
        })
    }

    /// The data of the last one of a kind.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.all().filter(|(k, _)| *k == kind).last().map(|(_, data)| data)
    }

    /// The attributes nested in one.
    pub fn nested(self, kind: u16) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }

    /// A byte.
    pub fn u8(self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    /// A number of 32 bits.
    pub fn u32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }

    /// A number of 64 bits.
    pub fn u64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.first_chunk().map(|b| u64::from_be_bytes(*b))
    }

    /// A number that must be there. `EINVAL`.
    pub fn need(self, kind: u16) -> Result<u32> {
        self.u32(kind).ok_or(Errno::EINVAL)
    }

    /// Text, without its NUL. `EINVAL`; `ENAMETOOLONG`.
    pub fn text(self, kind: u16) -> Result<Option<String>> {
        let Some(bytes) = self.get(kind) else { return Ok(None) };
        let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
        if text.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        String::from_utf8(text.to_vec()).map(Some).map_err(|_| Errno::EINVAL)
    }

    /// Text that must be there.
    pub fn name(self, kind: u16) -> Result<String> {
        self.text(kind)?.filter(|t| !t.is_empty()).ok_or(Errno::EINVAL)
    }

    /// The elements of a list. Some number them, as their kind.
    pub fn list(self, kind: u16) -> impl Iterator<Item = Attrs<'a>> {
        let list = self.nested(kind).unwrap_or(Attrs(&[]));
        list.all().map(|(_, data)| Attrs(data))
    }
}

/// Attributes that are being written.
#[derive(Default, Clone)]
pub struct Out(pub Vec<u8>);

impl Out {
    /// Adds one.
    pub fn put(&mut self, kind: u16, data: &[u8]) -> &mut Out {
        // Longer data than an attribute can have is never made: what came in one goes out in one.
        let len = u16::try_from(4 + data.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data.get(..usize::from(len) - 4).unwrap_or_default());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number of 32 bits.
    pub fn u32(&mut self, kind: u16, n: u32) -> &mut Out {
        self.put(kind, &n.to_be_bytes())
    }

    /// Adds a number of 64 bits.
    pub fn u64(&mut self, kind: u16, n: u64) -> &mut Out {
        self.put(kind, &n.to_be_bytes())
    }

    /// Adds text with its NUL.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Out {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        self.put(kind, &data)
    }

    /// Adds others in one.
    pub fn nest(&mut self, kind: u16, inner: &Out) -> &mut Out {
        self.put(kind, &inner.0)
    }
}
