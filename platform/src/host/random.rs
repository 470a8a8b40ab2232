#![expect(unsafe_code, reason = "getrandom")]
//! Random bytes from the host.
//!
//! Host calls: `getrandom`.

use super::Errno;

/// Fills the buffer with random bytes, as `getrandom(2)` without flags.
pub fn fill(buffer: &mut [u8]) -> Result<(), Errno> {
    let mut rest = buffer;
    while !rest.is_empty() {
        // SAFETY: the buffer is valid for its length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match Errno::result(got) {
            Ok(got) => rest = rest.get_mut(got as usize..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn fills_all_of_it() {
        let mut buffer = [0u8; 4096];
        super::fill(&mut buffer).unwrap();
        assert!(buffer.chunks(16).all(|chunk| chunk.iter().any(|b| *b != 0)));
    }
}
