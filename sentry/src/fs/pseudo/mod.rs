//! Pseudo file systems: trees whose names and contents the kernel makes up when they are looked at.
//!
//! `proc` and `sysfs` describe their trees with three small traits, [`Directory`], [`Text`] and
//! [`Link`]; the inodes, open files and attributes around them are made here.

mod inode;
mod open;

pub use inode::PseudoInode;

use crate::errno::{Errno, Result};
use crate::kernel::cgroup::Cgroup;
use crate::kernel::{Task, ThreadGroup};
use crate::vfs::{FileSystem, FileType, Inode, Path, StatFs};
use crate::wait::Changes;
use std::borrow::Cow;
use std::sync::{Arc, Weak};

/// Owner and permission bits of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Permission bits (0777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Rights {
    /// Root's, with these permission bits.
    pub const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// What stands behind a name. Cheap to make: it is made at every look-up.
#[derive(Clone)]
pub enum Node {
    /// A directory.
    Directory(Arc<dyn Directory>),
    /// A file with text or bytes that are made when it is read.
    Text(Arc<dyn Text>),
    /// A symbolic link.
    Link(Arc<dyn Link>),
}

impl Node {
    /// Its type.
    pub fn file_type(&self) -> FileType {
        match self {
            Node::Directory(_) => FileType::Directory,
            Node::Text(_) => FileType::Regular,
            Node::Link(_) => FileType::Symlink,
        }
    }

    fn rights(&self) -> Rights {
        match self {
            Node::Directory(d) => d.rights(),
            Node::Text(t) => t.rights(),
            Node::Link(l) => l.rights(),
        }
    }
}

/// A name that a directory lists.
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// Its type.
    pub file_type: FileType,
    /// For names that come and go: a number that stays with the name. Who reads the directory piece by
    /// piece misses nothing when other names end meanwhile. See [`Listed::numbered`].
    pub number: Option<u32>,
}

impl Listed {
    /// A name of the given type.
    pub fn new(name: impl Into<Vec<u8>>, file_type: FileType) -> Self {
        Self { name: name.into(), file_type, number: None }
    }

    /// A directory.
    pub fn directory(name: impl Into<Vec<u8>>) -> Self {
        Self::new(name, FileType::Directory)
    }

    /// A file.
    pub fn file(name: impl Into<Vec<u8>>) -> Self {
        Self::new(name, FileType::Regular)
    }

    /// A symbolic link.
    pub fn link(name: impl Into<Vec<u8>>) -> Self {
        Self::new(name, FileType::Symlink)
    }

    /// A process, thread or descriptor: its number is its name and its place. A list has them after
    /// the others and in rising order.
    pub fn numbered(id: i32, file_type: FileType) -> Self {
        Self { number: u32::try_from(id).ok(), ..Self::new(id.to_string(), file_type) }
    }
}

/// A directory.
pub trait Directory: Send + Sync {
    /// What `name` stands for. `ENOENT` if nothing.
    fn lookup(&self, name: &[u8]) -> Result<Node>;

    /// Its number of links: 2, and one for each directory in it where programs count on that.
    fn links(&self) -> u32 {
        2
    }

    /// The process that the directory is about: its descriptor may be used as a pidfd.
    fn process(&self) -> Option<Arc<ThreadGroup>> {
        None
    }

    /// The control group that the directory is about.
    fn cgroup(&self) -> Option<Arc<Cgroup>> {
        None
    }

    /// Makes a directory in it; `None` where the kernel alone makes them.
    fn make(&self, _name: &[u8], _rights: Rights) -> Option<Result<Node>> {
        None
    }

    /// Removes a directory from it; `None` where the kernel alone removes them.
    fn remove(&self, _name: &[u8]) -> Option<Result<()>> {
        None
    }

    /// Changes what [`Directory::rights`] gives.
    fn set_rights(&self, _rights: Rights) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// The names, in the order in which they are to be listed.
    fn list(&self) -> Result<Vec<Listed>>;

    /// Owner and permission bits.
    fn rights(&self) -> Rights {
        Rights::root(0o555)
    }
}

/// A file whose contents are made when it is read.
pub trait Text: Send + Sync {
    /// The contents now.
    fn read(&self) -> Result<Vec<u8>>;

    /// Takes what one `write(2)` brought, at most [`WRITE_MAX`] bytes.
    fn write(&self, _data: &[u8]) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Owner and permission bits.
    fn rights(&self) -> Rights {
        Rights::root(0o444)
    }

    /// Changes what [`Text::rights`] gives.
    fn set_rights(&self, _rights: Rights) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// It has been looked up and stands behind `inode`, whose watchers may have to be told of changes.
    fn found(&self, _inode: Weak<dyn Inode>) {}

    /// What `poll(2)` on it waits for; `None`: it cannot be waited for.
    fn changes(&self) -> Option<Arc<Changes>> {
        None
    }

    /// Checks made when it is opened, beyond the permission bits.
    fn may_open(&self) -> Result<()> {
        Ok(())
    }

    /// Whether `pwrite(2)` has positions: `ESPIPE` where not, as for Linux's `seq_file`, whatever the descriptor is
    /// open for.
    fn takes_writes_at(&self, _writable: bool) -> bool {
        true
    }

    /// For files that are not text made at once (`/proc/PID/mem`): reads at `offset`.
    fn read_at(&self, _dst: &mut dyn crate::io::Sink, _offset: u64) -> Option<Result<usize>> {
        None
    }

    /// As [`Text::read_at`], writing.
    fn write_at(&self, _src: &mut dyn crate::io::Source, _offset: u64) -> Option<Result<usize>> {
        None
    }

    /// Commands of its own (`ioctl(2)`). `ENOTTY` for one that it does not know.
    fn ioctl(&self, _task: &Task, _cmd: u32, _arg: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }
}

/// A symbolic link.
pub trait Link: Send + Sync {
    /// Its text.
    fn text(&self) -> Result<Vec<u8>>;

    /// Where it leads, for a magic link whose text is not walked.
    fn target(&self) -> Option<Result<Path>> {
        None
    }

    /// Owner and permission bits.
    fn rights(&self) -> Rights {
        Rights::root(0o777)
    }
}

/// Longest write that a [`Text`] takes, in bytes (as `proc`'s handlers: one page).
pub const WRITE_MAX: usize = 4096;

/// A [`Text`] from a function.
pub struct TextFn<F>(pub F);

impl<F: Fn() -> String + Send + Sync> Text for TextFn<F> {
    fn read(&self) -> Result<Vec<u8>> {
        Ok((self.0)().into_bytes())
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}

/// A [`Text`] that never changes.
pub struct Fixed(pub &'static str);

impl Text for Fixed {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(self.0.as_bytes().to_vec())
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}

/// A symbolic link with a fixed text.
pub struct FixedLink(pub &'static str);

impl Link for FixedLink {
    fn text(&self) -> Result<Vec<u8>> {
        Ok(self.0.as_bytes().to_vec())
    }
}

/// A directory with fixed names.
pub struct FixedDirectory(pub Vec<(Cow<'static, str>, Node)>);

impl FixedDirectory {
    /// The directory of these entries.
    pub fn new<N: Into<Cow<'static, str>>>(entries: Vec<(N, Node)>) -> Self {
        Self(entries.into_iter().map(|(name, node)| (name.into(), node)).collect())
    }
}

impl Directory for FixedDirectory {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = self.0.iter().find(|(n, _)| n.as_bytes() == name);
        found.map(|(_, node)| node.clone()).ok_or(Errno::ENOENT)
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let listed = |(name, node): &(Cow<'static, str>, Node)| {
            Listed::new(name.as_bytes(), node.file_type())
        };
        Ok(self.0.iter().map(listed).collect())
    }
}

/// A directory node with fixed names.
pub fn directory<N: Into<Cow<'static, str>>>(entries: Vec<(N, Node)>) -> Node {
    Node::Directory(Arc::new(FixedDirectory::new(entries)))
}

/// A directory node without entries.
pub fn empty() -> Node {
    Node::Directory(Arc::new(FixedDirectory(Vec::new())))
}

/// A text node.
pub fn text(text: impl Text + 'static) -> Node {
    Node::Text(Arc::new(text))
}

/// A text node from a function.
pub fn text_fn(f: impl Fn() -> String + Send + Sync + 'static) -> Node {
    Node::Text(Arc::new(TextFn(f)))
}

/// A link node.
pub fn link(link: impl Link + 'static) -> Node {
    Node::Link(Arc::new(link))
}

/// An instance of a pseudo file system.
pub struct PseudoFs {
    type_name: &'static str,
    magic: u64,
    dev: u64,
    volatile: bool,
    /// When it was mounted, nanoseconds since the epoch: the time stamp of everything in it.
    made: i64,
}

impl PseudoFs {
    /// The root inode of a new instance with the given tree. `dev` is its device number; `volatile`
    /// as in [`FileSystem::volatile_names`].
    pub fn mount(
        type_name: &'static str,
        magic: u64,
        dev: u64,
        volatile: bool,
        root: Arc<dyn Directory>,
    ) -> Arc<PseudoInode> {
        let made = crate::fs::anon::now();
        let fs = Arc::new(PseudoFs { type_name, magic, dev, volatile, made });
        PseudoInode::root(fs, root)
    }
}

impl PseudoFs {
    /// Why nothing can be made here: `proc` pretends that the place does not exist, others refuse.
    fn refusal(&self) -> Errno {
        if self.type_name == "proc" { Errno::ENOENT } else { Errno::EPERM }
    }
}

impl FileSystem for PseudoFs {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: self.magic, block_size: 4096, name_max: 255, ..StatFs::default() })
    }

    fn volatile_names(&self) -> bool {
        self.volatile
    }
}
