//! Polling, pipes, event files and other means between processes.
