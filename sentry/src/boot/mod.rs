//! Boot: from a container's description to its first task.
