//! The cases, one file per area.

crate::registry::areas! {
    memory,
    memory_more,
    filemap,
    process,
    exec,
    threads,
    futex,
    signals,
    faults,
    time,
    files,
    paths,
}
