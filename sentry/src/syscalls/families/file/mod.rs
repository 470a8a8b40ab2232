//! Calls that take a file descriptor.

mod descriptors;
mod directory;
mod fcntl;
mod inode_flags;
mod ioctl;
mod position;
mod space;
mod sync;
pub(super) mod transfer;

pub(super) use descriptors::install;
pub use descriptors::{close, close_range, dup, dup2, dup3, memfd_create};
pub use directory::{getdents, getdents64};
pub use fcntl::{fcntl, flock};
pub use inode_flags::{file_getattr, file_setattr};
pub use ioctl::ioctl;
pub use position::lseek;
pub(super) use space::set_size;
pub use space::{fadvise64, fallocate, ftruncate, readahead};
pub use sync::{cachestat, fdatasync, fsync, sync, sync_file_range, syncfs};
pub use transfer::{
    Buffers, aio_transfer, pread64, preadv, preadv2, pwrite64, pwritev, pwritev2, read, readv,
    write, writev,
};
