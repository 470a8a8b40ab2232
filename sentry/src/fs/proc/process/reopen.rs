//! Opening a file without a path again, through `/proc/PID/fd/N`.
//!
//! Pipes, sockets, the standard streams and what has only a descriptor have no place in the mount tree. The link leads to
//! an inode made for the occasion, on a mount of its own that is attached nowhere: opening a pipe there is opening a
//! FIFO that has this very pipe, opening a stream gives the same stream, at a position of its own if it has one.

use crate::errno::{Errno, Result};
use crate::fs::host::{HostFile, again};
use crate::fs::pipe::{FifoSlot, PipeFile};
use crate::fs::super_block;
use crate::socket::{Kind, Socket, SocketFile};
use crate::vfs::{
    Attachments, Attr, Dentry, File, FileOps, FileSystem, FileType, Inode, Mount, OpenFlags, Path,
    SetAttr, StatFs, own_attr,
};
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// Where `file` is when it is looked for by its link. What cannot be opened twice (sockets, anonymous inodes) is there, too:
/// opening it is `ENXIO`.
pub fn place(file: &Arc<File>) -> Path {
    let attachments = Attachments::default();
    let kind = if let Some(pipe) = file.ops_as::<PipeFile>() {
        attachments.set(Arc::new(FifoSlot::of(pipe)));
        FileType::Fifo
    } else if file.ops_as::<HostFile>().is_none()
        && file.attr().is_ok_and(|attr| attr.file_type() == FileType::Socket)
    {
        FileType::Socket
    } else {
        // Opened through the inode, whatever it is.
        FileType::Regular
    };
    let fs: Arc<dyn FileSystem> = Arc::new(Nowhere);
    let name = file.ops().link_text().unwrap_or_default();
    let inode = Arc::new(Reopened { file: file.clone(), fs: fs.clone(), kind, attachments });
    let mount = Mount::new_internal(fs, Dentry::new_root(inode.clone()), b"none");
    Path { mount, dentry: Dentry::new_unlinked(inode, name.as_bytes()) }
}

struct Reopened {
    file: Arc<File>,
    fs: Arc<dyn FileSystem>,
    kind: FileType,
    attachments: Attachments,
}

impl Inode for Reopened {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        self.file.attr()
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        match (changes.size, self.file.ops_as::<HostFile>()) {
            (Some(size), Some(host)) => host.truncate(size),
            (Some(_), None) => Err(Errno::EINVAL),
            (None, _) => own_attr::set(&self.file, changes).map_err(|e| match e {
                Errno::EPERM => Errno::EOPNOTSUPP,
                e => e,
            }),
        }
    }

    fn open(self: Arc<Self>, _path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.file.ops_as::<HostFile>() {
            Some(_) => again::open(&self.file, flags),
            None => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        match self.file.ops_as::<SocketFile>() {
            Some(socket) if name == PROTOCOL_NAME => {
                Ok([protocol_name(&**socket.socket()).as_bytes(), b"\0"].concat())
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        let is_socket = self.file.ops_as::<SocketFile>().is_some();
        Ok(if is_socket { vec![PROTOCOL_NAME.to_vec()] } else { Vec::new() })
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        // Linux leaves these to security modules, and says so to who removes one.
        let modules = name.starts_with(b"security.") && self.kind == FileType::Socket;
        Err(if modules { Errno::EAGAIN } else { Errno::EOPNOTSUPP })
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The attribute in which a socket has its protocol's name.
const PROTOCOL_NAME: &[u8] = b"system.sockprotoname";

/// The name of a socket's protocol (`struct proto`).
fn protocol_name(socket: &dyn Socket) -> &'static str {
    let v6 = socket.family() == libc::AF_INET6;
    let by_version = |v4, other| if v6 { other } else { v4 };
    match (socket.family(), socket.kind(), socket.protocol()) {
        (libc::AF_UNIX, Kind::Stream, _) => "UNIX-STREAM",
        (libc::AF_UNIX, ..) => "UNIX",
        (libc::AF_NETLINK, ..) => "NETLINK",
        (libc::AF_PACKET, ..) => "PACKET",
        (_, Kind::Stream, _) => by_version("TCP", "TCPv6"),
        (_, Kind::Dgram, libc::IPPROTO_UDPLITE) => by_version("UDP-Lite", "UDPLITEv6"),
        (_, Kind::Dgram, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => by_version("PING", "PINGv6"),
        (_, Kind::Dgram, _) => by_version("UDP", "UDPv6"),
        (_, Kind::Raw | Kind::SeqPacket, _) => by_version("RAW", "RAWv6"),
    }
}

/// The file system of such inodes.
struct Nowhere;

impl FileSystem for Nowhere {
    fn type_name(&self) -> &'static str {
        "pipefs"
    }

    fn dev(&self) -> u64 {
        static DEV: OnceLock<u64> = OnceLock::new();
        *DEV.get_or_init(super_block::next_dev)
    }

    fn statfs(&self) -> Result<StatFs> {
        /// `PIPEFS_MAGIC`
        const MAGIC: u64 = 0x5049_5045;
        Ok(StatFs { magic: MAGIC, block_size: 4096, name_max: 255, ..StatFs::default() })
    }
}
