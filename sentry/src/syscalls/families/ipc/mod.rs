//! Polling, pipes, event files and other means between processes.

pub mod epoll;
pub mod inotify;
pub mod poll;
pub mod select;
pub mod shm;
pub mod simple;
pub mod splice;
pub mod wait;

pub use epoll::*;
pub use inotify::*;
pub use poll::{poll, ppoll, restart_poll};
pub use select::{pselect6, select};
pub use shm::*;
pub use simple::*;
pub use splice::*;
