//! File systems, one folder each.

pub mod anon;
pub mod cgroup;
pub mod dev;
pub mod devpts;
pub mod epoll;
pub mod erofs;
pub mod eventfd;
pub mod filesystems;
pub mod fscontext;
pub mod fuse;
pub mod gofer;
pub mod host;
pub mod inotify;
pub mod ioctl;
pub mod mqueue;
pub mod nsfs;
pub mod overlay;
pub mod pipe;
pub mod proc;
pub mod pseudo;
pub mod super_block;
pub mod sysfs;
pub mod tar;
pub mod tmpfs;
pub mod tty;
