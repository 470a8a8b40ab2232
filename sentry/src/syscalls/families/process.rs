//! Processes: making, replacing, ending and describing them.
