//! Windows on host files that guests map: small reads of such memory are copies, not host calls.
//!
//! A program's constants (paths, formats, times) lie in the pages of its file, which are the host's
//! until they are written. A part of a file that is read a second time is mapped here, too. The host
//! keeps the window and what the guest sees equal; behind the file's end a copy fails, and the caller
//! asks the host, which says what is there.

use super::PAGE_SIZE;
use crate::sync::{Mutex, rank};
use platform::host::mapping::FileMapping;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

/// Bytes of a window, a power of two; windows are aligned to it.
const WINDOW: u64 = 16 * PAGE_SIZE;
/// Windows kept. Each has one place where it can be.
const WINDOWS: usize = 64;

/// A part of a file.
struct Window {
    /// The descriptor it was read through. Keeps the name of that descriptor, not the descriptor.
    fd: Weak<OwnedFd>,
    start: u64,
    /// From the second read on.
    mapping: Option<FileMapping>,
}

static ALL: [Mutex<Option<Window>, { rank::LEAF }>; WINDOWS] =
    [const { Mutex::new(None) }; WINDOWS];

/// Fills `buf` from a mapped host file, if a window can: not if the caller has to read it.
pub(super) fn read(fd: &Arc<OwnedFd>, at: u64, buf: &mut [u8]) -> bool {
    let start = at & !(WINDOW - 1);
    let inside = at - start;
    if inside.saturating_add(buf.len() as u64) > WINDOW {
        return false;
    }
    let key = Arc::as_ptr(fd) as usize / size_of::<usize>();
    let place = key.wrapping_mul(7).wrapping_add((start / WINDOW) as usize) % WINDOWS;
    let Some(mut window) = ALL.get(place).and_then(Mutex::try_lock) else { return false };
    match &mut *window {
        Some(seen) if seen.start == start && std::ptr::eq(seen.fd.as_ptr(), Arc::as_ptr(fd)) => {
            if seen.mapping.is_none() {
                seen.mapping = FileMapping::new(fd.as_fd(), start, WINDOW, false).ok();
            }
            seen.mapping.as_ref().is_some_and(|mapping| mapping.read(inside, buf).is_ok())
        }
        other => {
            *other = Some(Window { fd: Arc::downgrade(fd), start, mapping: None });
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn shows_the_file_as_it_is() {
        let mut file = tempfile();
        file.write_all(&[7; 5000]).unwrap();
        let fd = Arc::new(OwnedFd::from(file.try_clone().unwrap()));
        let mut buf = [0; 4];
        assert!(!read(&fd, 100, &mut buf));
        assert!(read(&fd, 100, &mut buf) && buf == [7; 4]);
        file.write_all(b"more").unwrap();
        assert!(read(&fd, 4998, &mut buf) && &buf == b"\x07\x07mo");
        // Neither behind the file's last page nor across the end of the window.
        assert!(!read(&fd, 2 * PAGE_SIZE, &mut buf));
        assert!(!read(&fd, WINDOW - 2, &mut buf));
        file.set_len(0).unwrap();
        assert!(!read(&fd, 100, &mut buf));
    }

    fn tempfile() -> std::fs::File {
        let name = std::env::temp_dir().join(format!("window-{}", std::process::id()));
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&name);
        std::fs::remove_file(&name).unwrap();
        file.unwrap()
    }
}
