//! Transfers between host files and guest memory without a copy in between.

use super::Frames;
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Most ranges one host call takes (`IOV_MAX`); a longer list is a partial transfer.
const MAX_RANGES: usize = 1024;

/// Reads from a host file directly into guest memory, as `preadv(2)`.
///
/// Each part is some frames and the byte range within them; all belong to one memory file. `offset`
/// in bytes, or `None` for the file's own position (pipes, terminals). Returns the bytes
/// transferred, which may be fewer than asked for. Errors are the host's, plus `EFAULT` for a part
/// outside its frames.
pub fn read_from_fd(
    fd: BorrowedFd<'_>,
    parts: &[(&Frames, Range<u64>)],
    offset: Option<u64>,
) -> Result<usize, Errno> {
    transfer(fd, parts, offset, false)
}

/// Writes guest memory directly to a host file, as `pwritev(2)`; see [`read_from_fd`].
pub fn write_to_fd(
    fd: BorrowedFd<'_>,
    parts: &[(&Frames, Range<u64>)],
    offset: Option<u64>,
) -> Result<usize, Errno> {
    transfer(fd, parts, offset, true)
}

fn transfer(
    fd: BorrowedFd<'_>,
    parts: &[(&Frames, Range<u64>)],
    offset: Option<u64>,
    write: bool,
) -> Result<usize, Errno> {
    let Some((first, _)) = parts.first() else { return Ok(0) };
    let file = first.file();
    if let [(frames, range)] = parts {
        let range = frames.part(range.clone()).ok_or(Errno::EFAULT)?;
        return file.mapping().transfer(fd, &[range], offset, write);
    }
    let mut ranges: Vec<Range<u64>> = Vec::with_capacity(parts.len().min(MAX_RANGES));
    for (frames, range) in parts {
        if !Arc::ptr_eq(frames.file(), file) {
            return Err(Errno::EINVAL);
        }
        let range = frames.part(range.clone()).ok_or(Errno::EFAULT)?;
        let full = ranges.len() == MAX_RANGES;
        match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if full => break,
            _ => ranges.push(range),
        }
    }
    file.mapping().transfer(fd, &ranges, offset, write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryFile, PAGE_SIZE};
    use std::os::fd::AsFd;

    #[test]
    fn round_trip_through_a_pipe_and_a_file() {
        let memory = MemoryFile::new().unwrap();
        let (a, b) = (memory.allocate(PAGE_SIZE).unwrap(), memory.allocate(PAGE_SIZE).unwrap());
        a.write(0, b"hello world").unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let parts = [(&a, 6..11), (&a, 0..5)];
        assert_eq!(write_to_fd(writer.as_fd(), &parts, None), Ok(10));
        assert_eq!(read_from_fd(reader.as_fd(), &[(&b, 4090..4096), (&b, 0..10)], None), Ok(10));
        let mut buffer = [0; 6];
        b.read(4090, &mut buffer).unwrap();
        assert_eq!(&buffer, b"worldh");

        let file = nix::sys::memfd::memfd_create("t", nix::sys::memfd::MFdFlags::empty()).unwrap();
        assert_eq!(write_to_fd(file.as_fd(), &[(&a, 0..11)], Some(100)), Ok(11));
        assert_eq!(read_from_fd(file.as_fd(), &[(&b, 0..3)], Some(106)), Ok(3));
        b.read(0, &mut buffer[..3]).unwrap();
        assert_eq!(&buffer[..3], b"wor");
        assert_eq!(read_from_fd(file.as_fd(), &[(&b, 0..5000)], None), Err(Errno::EFAULT));
    }
}
