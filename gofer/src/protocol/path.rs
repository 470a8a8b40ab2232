//! Names and paths: what may be asked for at all.

use super::{MAX_COMPONENTS, MAX_NAME, MAX_PATH};

/// Why a name or path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component has more than [`MAX_NAME`] bytes, or a path more than [`MAX_PATH`] bytes or
    /// [`MAX_COMPONENTS`] components.
    #[error("name or path too long")]
    TooLong,
    /// A component is empty, `.` or `..`, or contains `/` or a zero byte.
    #[error("not a name of a directory entry")]
    Invalid,
}

impl PathError {
    /// The errno that Linux has for it.
    pub fn errno(self) -> i32 {
        match self {
            Self::TooLong => libc::ENAMETOOLONG,
            Self::Invalid => libc::EINVAL,
        }
    }
}

/// Checks that `name` can name a directory entry.
///
/// `.` and `..` are refused: the sentry resolves them, so in a request they are an attack or a bug.
pub fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.len() > MAX_NAME {
        return Err(PathError::TooLong);
    }
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(PathError::Invalid);
    }
    Ok(())
}

/// Appends `names` to `buffer` as one path, `a/b/c`, checking each of them.
pub fn join(names: &[&[u8]], buffer: &mut Vec<u8>) -> Result<(), PathError> {
    if names.len() > MAX_COMPONENTS {
        return Err(PathError::TooLong);
    }
    for (index, name) in names.iter().enumerate() {
        check_name(name)?;
        if index > 0 {
            buffer.push(b'/');
        }
        buffer.extend_from_slice(name);
        if buffer.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
    }
    Ok(())
}

/// Splits a path that [`join`] made (or an attacker did) into its checked components.
///
/// The empty path has none: it names the node itself.
pub fn components(path: &[u8]) -> Result<impl Iterator<Item = &[u8]>, PathError> {
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong);
    }
    let mut count = 0;
    if !path.is_empty() {
        for name in path.split(|&byte| byte == b'/') {
            check_name(name)?;
            count += 1;
        }
    }
    if count > MAX_COMPONENTS {
        return Err(PathError::TooLong);
    }
    // `split` yields one empty component for an empty path; `take` drops it.
    Ok(path.split(|&byte| byte == b'/').take(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &[u8]) -> Result<Vec<Vec<u8>>, PathError> {
        Ok(components(path)?.map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn empty_path_has_no_components() {
        assert_eq!(split(b""), Ok(vec![]));
    }

    #[test]
    fn joined_names_come_back() {
        let mut path = Vec::new();
        join(&[b"usr", b"lib", b"...", b"\xff"], &mut path).unwrap();
        assert_eq!(path, b"usr/lib/.../\xff");
        assert_eq!(split(&path).unwrap().len(), 4);
    }

    #[test]
    fn dots_slashes_and_zero_bytes_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(check_name(name), Err(PathError::Invalid), "{name:?}");
            assert!(join(&[b"a", name], &mut Vec::new()).is_err());
        }
        for path in [&b"/"[..], b"/a", b"a/", b"a//b", b"../a", b"a/../b", b"a/.", b"a\0b"] {
            assert_eq!(split(path), Err(PathError::Invalid), "{path:?}");
        }
    }

    #[test]
    fn long_names_and_paths_are_refused() {
        assert_eq!(check_name(&[b'x'; 255]), Ok(()));
        assert_eq!(check_name(&[b'x'; 256]), Err(PathError::TooLong));
        let many = vec![&b"a"[..]; MAX_COMPONENTS + 1];
        assert_eq!(join(&many, &mut Vec::new()), Err(PathError::TooLong));
        assert_eq!(split(many.join(&b'/').as_slice()), Err(PathError::TooLong));
        assert_eq!(split(&[b'a'; MAX_PATH + 1]), Err(PathError::TooLong));
    }
}
