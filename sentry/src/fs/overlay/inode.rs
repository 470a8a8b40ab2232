//! Inodes of an overlay.

use super::directory::OverlayDirectory;
use super::{OPAQUE, OverlayFs, PRIVATE, is_whiteout};
use crate::errno::{Errno, Result};
use crate::socket::Kind;
use crate::sync::{Mutex, rank};
use crate::vfs::{
    Attachments, Attr, FileOps, FileSystem, FileType, Inode, InodeFlags, OpenFlags, Owner, Path,
    SetAttr,
};
use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// Where the parts of a file lie.
#[derive(Clone)]
pub(super) struct Layers {
    pub upper: Option<Arc<dyn Inode>>,
    pub lower: Option<Arc<dyn Inode>>,
}

/// A file of an overlay.
pub struct OverlayInode {
    pub(super) myself: Weak<OverlayInode>,
    pub(super) fs: Arc<OverlayFs>,
    kind: FileType,
    pub(super) ino: u64,
    pub(super) layers: Mutex<Layers, { rank::OVERLAY }>,
    /// The directory it was found in, and its name there: where it is copied up to.
    pub(super) place: Mutex<Option<(Arc<OverlayInode>, Box<[u8]>)>, { rank::LEAF }>,
    /// Whose attachments count. Those of the layer the file was found in: they live as long as the
    /// file does, and names of one file share them.
    anchor: Arc<dyn Inode>,
}

impl OverlayInode {
    pub(super) fn root(
        fs: Arc<OverlayFs>,
        upper: Arc<dyn Inode>,
        lower: Arc<dyn Inode>,
    ) -> Arc<Self> {
        let layers = Layers { upper: Some(upper.clone()), lower: Some(lower) };
        Self::make(&fs, None, layers, FileType::Directory, 2, upper)
    }

    fn make(
        fs: &Arc<OverlayFs>,
        place: Option<(Arc<OverlayInode>, Box<[u8]>)>,
        layers: Layers,
        kind: FileType,
        ino: u64,
        anchor: Arc<dyn Inode>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            myself: myself.clone(),
            fs: fs.clone(),
            kind,
            ino,
            layers: Mutex::new(layers),
            place: Mutex::new(place),
            anchor,
        })
    }

    /// The inode of a child found in the layers.
    pub(super) fn child(&self, name: &[u8], layers: Layers) -> Result<Arc<OverlayInode>> {
        // A merged directory is known by its lower number, as it was before it was copied up.
        let (anchor, upper) = match (&layers.upper, &layers.lower) {
            (Some(upper), None) => (upper.clone(), true),
            (_, Some(lower)) => (lower.clone(), false),
            (None, None) => return Err(Errno::ENOENT),
        };
        let ino = self.fs.number(upper, &anchor.attr()?);
        let kind = anchor.file_type();
        let place = Some((self.this()?, name.into()));
        Ok(Self::make(&self.fs, place, layers, kind, ino, anchor))
    }

    pub(super) fn this(&self) -> Result<Arc<OverlayInode>> {
        self.myself.upgrade().ok_or(Errno::ESTALE)
    }

    pub(super) fn layers(&self) -> Layers {
        self.layers.lock().clone()
    }

    /// The layer that counts: the upper one if the file is there.
    pub(super) fn real(&self) -> Result<Arc<dyn Inode>> {
        let layers = self.layers.lock();
        layers.upper.as_ref().or(layers.lower.as_ref()).cloned().ok_or(Errno::ESTALE)
    }

    /// What the upper layer says of a name: `None` nothing, `Some(None)` that it is hidden.
    pub(super) fn in_upper(&self, name: &[u8]) -> Result<Option<Option<Arc<dyn Inode>>>> {
        let Some(upper) = self.layers().upper else { return Ok(None) };
        match upper.lookup(name) {
            Ok(inode) if is_whiteout(&*inode)? => Ok(Some(None)),
            Ok(inode) => Ok(Some(Some(inode))),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the lower layer has under a name.
    pub(super) fn in_lower(&self, name: &[u8], rest: &[u8]) -> Result<Option<Arc<dyn Inode>>> {
        let Some(lower) = self.layers().lower else { return Ok(None) };
        match lower.lookup_ahead(name, rest) {
            Ok(inode) => Ok(Some(inode)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Both layers of a child.
    pub(super) fn find(&self, name: &[u8], rest: &[u8]) -> Result<Layers> {
        let upper = self.in_upper(name)?;
        let opaque = |upper: &Arc<dyn Inode>| upper.get_xattr(OPAQUE).is_ok();
        match upper {
            Some(None) => Err(Errno::ENOENT),
            Some(Some(upper)) => {
                let mut lower = None;
                if upper.file_type() == FileType::Directory && !opaque(&upper) {
                    let found = self.in_lower(name, rest)?;
                    lower = found.filter(|lower| lower.file_type() == FileType::Directory);
                }
                Ok(Layers { upper: Some(upper), lower })
            }
            None => match self.in_lower(name, rest)? {
                Some(lower) => Ok(Layers { upper: None, lower: Some(lower) }),
                None => Err(Errno::ENOENT),
            },
        }
    }
}

impl Inode for OverlayInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        let mut attr = self.real()?.attr()?;
        attr.dev = self.fs.dev;
        attr.ino = self.ino;
        if attr.is_dir() {
            // As on most disks; tmpfs tells how many entries there are.
            attr.size = attr.size.max(4096);
        }
        Ok(attr)
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        self.copy_up(changes.size != Some(0))?.set_attr(changes)
    }

    fn flags(&self) -> Option<InodeFlags> {
        if !matches!(self.kind, FileType::Regular | FileType::Directory) {
            return None;
        }
        // Those of the lower layer are not known.
        Some(self.real().ok()?.flags().unwrap_or_default())
    }

    fn set_flags(&self, flags: InodeFlags) -> Result<()> {
        self.copy_up(true)?.set_flags(flags)
    }

    fn open(self: Arc<Self>, path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if self.kind == FileType::Directory {
            return Ok(Arc::new(OverlayDirectory::new(self)));
        }
        let real = match flags.writable() || flags.contains(OpenFlags::TRUNC) {
            true => self.copy_up(!flags.contains(OpenFlags::TRUNC))?,
            false => self.real()?,
        };
        real.open(path, flags)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.lookup_ahead(name, b"")
    }

    fn lookup_ahead(&self, name: &[u8], rest: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(self.child(name, self.find(name, rest)?)?)
    }

    fn open_outside(&self, flags: OpenFlags) -> Option<Result<OwnedFd>> {
        self.real().ok()?.open_outside(flags)
    }

    fn connect_outside(&self, kind: Kind) -> Option<Result<OwnedFd>> {
        self.real().ok()?.connect_outside(kind)
    }

    fn create(&self, name: &[u8], mode: u32, rdev: u64, owner: Owner) -> Result<Arc<dyn Inode>> {
        if mode & libc::S_IFMT == libc::S_IFCHR && rdev == 0 {
            // It would hide a name.
            return Err(Errno::EPERM);
        }
        self.make_in_upper(name, false, |upper| upper.create(name, mode, rdev, owner))
    }

    fn create_unnamed(&self, mode: u32, owner: Owner) -> Result<Arc<dyn Inode>> {
        let upper = self.copy_up(true)?.create_unnamed(mode, owner)?;
        Ok(self.child(b"", Layers { upper: Some(upper), lower: None })?)
    }

    fn mkdir(&self, name: &[u8], mode: u32, owner: Owner) -> Result<Arc<dyn Inode>> {
        self.make_in_upper(name, true, |upper| upper.mkdir(name, mode, owner))
    }

    fn symlink(&self, name: &[u8], target: &[u8], owner: Owner) -> Result<Arc<dyn Inode>> {
        self.make_in_upper(name, false, |upper| upper.symlink(name, target, owner))
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = target.as_any().downcast_ref::<OverlayInode>().ok_or(Errno::EXDEV)?;
        let real = target.copy_up(true)?;
        self.make_in_upper(name, false, |upper| {
            upper.link(name, &real)?;
            Ok(real.clone())
        })
        .map(drop)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_file(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_directory(name)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        let new_dir = new_dir.as_any().downcast_ref::<OverlayInode>().ok_or(Errno::EXDEV)?;
        self.move_child(name, new_dir, new_name, flags)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.real()?.readlink()
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.real()?.get_xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.copy_up(true)?.set_xattr(name, value, flags)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = self.real()?.list_xattr()?;
        names.retain(|name| !name.starts_with(PRIVATE));
        Ok(names)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        // Asked for first, so that nothing is copied for an attribute that is not there.
        self.get_xattr(name)?;
        self.copy_up(true)?.remove_xattr(name)
    }

    fn attachments(&self) -> &Attachments {
        self.anchor.attachments()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
