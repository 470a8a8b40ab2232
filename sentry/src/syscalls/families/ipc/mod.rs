//! Polling, pipes, event files and other means between processes.

pub mod aio;
pub mod epoll;
pub mod fanotify;
pub mod inotify;
pub mod mq;
pub mod msg;
pub mod poll;
pub mod select;
pub mod sem;
pub mod shm;
pub mod simple;
pub mod splice;
pub mod uring;
pub mod wait;

pub use aio::*;
pub use epoll::*;
pub use fanotify::*;
pub use inotify::*;
pub use mq::*;
pub use msg::*;
pub use poll::{poll, ppoll, restart_poll};
pub use select::{pselect6, select};
pub use sem::*;
pub use shm::*;
pub use simple::*;
pub use splice::*;
pub use uring::*;
