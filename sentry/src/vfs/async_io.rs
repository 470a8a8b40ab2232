//! Signal-driven I/O: `F_SETOWN`, `F_SETSIG` and `O_ASYNC`.

/// Who is signalled when a file becomes ready.
#[derive(Debug, Default)]
pub struct FileOwner {}
