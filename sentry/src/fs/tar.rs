//! Tar archives, written: ustar (POSIX.1-1988) with records of the pax format (POSIX.1-2001) for what does not fit.

use crate::errno::Result;

/// Bytes of a block.
const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes, which follow.
    Regular(u64),
    /// Another name of an entry before it.
    Link(Vec<u8>),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A device node.
    Device {
        /// A block device.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
}

/// The head of a file.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Its path; that of a directory ends with a slash.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, nanoseconds since the epoch.
    pub mtime: i64,
    /// Extended attributes and their values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Writes an archive.
pub struct Writer<'a>(&'a mut dyn FnMut(&[u8]) -> Result<()>);

impl<'a> Writer<'a> {
    /// Bytes of the archive go to `out`.
    pub fn new(out: &'a mut dyn FnMut(&[u8]) -> Result<()>) -> Self {
        Self(out)
    }

    /// Writes the head of a file.
    pub fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        let mut records = Vec::new();
        let (link, size): (&[u8], u64) = match &entry.kind {
            Kind::Link(target) | Kind::Symlink(target) => (target, 0),
            Kind::Regular(size) => (&[], *size),
            _ => (&[], 0),
        };
        if entry.path.len() > NAME.len() {
            record(&mut records, b"path", entry.path);
        }
        if link.len() > LINK_NAME.len() {
            record(&mut records, b"linkpath", link);
        }
        for (name, number, digits) in [
            (&b"size"[..], size, SIZE.len()),
            (&b"uid"[..], entry.uid.into(), ID_DIGITS),
            (&b"gid"[..], entry.gid.into(), ID_DIGITS),
        ] {
            if number >> (3 * (digits - 1)) != 0 {
                record(&mut records, name, number.to_string().as_bytes());
            }
        }
        let (seconds, nanos) = (entry.mtime.div_euclid(NANOS), entry.mtime.rem_euclid(NANOS));
        if nanos != 0 || seconds < 0 {
            record(&mut records, b"mtime", format!("{seconds}.{nanos:09}").as_bytes());
        }
        for (name, value) in &entry.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &**name].concat(), value);
        }
        if !records.is_empty() {
            let len = records.len() as u64;
            self.head(
                b"pax",
                b'x',
                &Entry { mode: 0o644, uid: 0, gid: 0, ..entry.clone() },
                len,
                &[],
            )?;
            self.data(&records)?;
            self.pad(len)?;
        }
        let kind = match entry.kind {
            Kind::Regular(_) => b'0',
            Kind::Link(_) => b'1',
            Kind::Symlink(_) => b'2',
            Kind::Device { block: false, .. } => b'3',
            Kind::Device { block: true, .. } => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        self.head(entry.path, kind, entry, size, link)
    }

    fn head(
        &mut self,
        path: &[u8],
        kind: u8,
        entry: &Entry<'_>,
        size: u64,
        link: &[u8],
    ) -> Result<()> {
        let mut block = [0; BLOCK];
        put(&mut block, NAME, path);
        octal(&mut block, 100..108, entry.mode.into());
        octal(&mut block, 108..116, entry.uid.into());
        octal(&mut block, 116..124, entry.gid.into());
        octal(&mut block, SIZE, size);
        octal(&mut block, 136..148, u64::try_from(entry.mtime.div_euclid(NANOS)).unwrap_or(0));
        put(&mut block, 156..157, &[kind]);
        put(&mut block, LINK_NAME, link);
        put(&mut block, 257..265, b"ustar\x0000");
        if let Kind::Device { major, minor, .. } = entry.kind {
            octal(&mut block, 329..337, major.into());
            octal(&mut block, 337..345, minor.into());
        }
        // The sum counts its own field as spaces.
        put(&mut block, 148..156, b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        put(&mut block, 148..156, format!("{sum:06o}\0 ").as_bytes());
        self.data(&block)
    }

    /// Writes bytes of a file.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        (self.0)(bytes)
    }

    /// Fills the last block of a file of so many bytes.
    pub fn pad(&mut self, size: u64) -> Result<()> {
        let rest = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.data([0; BLOCK].get(..rest as usize).unwrap_or_default())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<()> {
        self.data(&[0; 2 * BLOCK])
    }
}

const NANOS: i64 = 1_000_000_000;
/// Fields of a head.
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const LINK_NAME: std::ops::Range<usize> = 157..257;
/// Bytes of a field with an owner, the last of which is a zero.
const ID_DIGITS: usize = 8;

fn put(block: &mut [u8; BLOCK], field: std::ops::Range<usize>, bytes: &[u8]) {
    let places = block.get_mut(field).unwrap_or_default();
    for (place, byte) in places.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

/// What does not fit is in a record, too.
fn octal(block: &mut [u8; BLOCK], field: std::ops::Range<usize>, number: u64) {
    let digits = field.len() - 1;
    let most = (1 << (3 * digits)) - 1;
    put(block, field, format!("{:0digits$o}", number.min(most)).as_bytes());
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for len in [0, 1, 86, 87, 88, 89, 90, 985, 990, 995] {
            let mut out = Vec::new();
            record(&mut out, b"key", &vec![b'x'; len]);
            let text = String::from_utf8(out).unwrap();
            let (number, _) = text.split_once(' ').unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), text.len(), "{len}");
        }
    }

    #[test]
    fn a_head_as_tar_writes_it() {
        let mut bytes = Vec::new();
        let mut out = |more: &[u8]| {
            bytes.extend_from_slice(more);
            Ok(())
        };
        let mut writer = Writer::new(&mut out);
        let entry = Entry {
            path: b"./file",
            kind: Kind::Regular(3),
            mode: 0o644,
            uid: 5,
            gid: 6,
            mtime: 7 * NANOS,
            xattrs: Vec::new(),
        };
        writer.entry(&entry).unwrap();
        writer.data(b"abc").unwrap();
        writer.pad(3).unwrap();
        writer.finish().unwrap();
        assert_eq!(bytes.len(), 4 * BLOCK);
        assert!(bytes.starts_with(b"./file\0"));
        assert_eq!(&bytes[100..136], b"0000644\x000000005\x000000006\x0000000000003\0");
        assert_eq!(&bytes[257..265], b"ustar\x0000");
        assert_eq!(&bytes[BLOCK..BLOCK + 4], b"abc\0");
    }
}
