//! Root, working directory and umask (`fs_struct`).

/// Shared by tasks cloned with `CLONE_FS`.
pub struct FsContext {}
