//! Changes to files and directories of exports.

use super::children::Known;
use super::file::GoferMappable;
use super::{GoferInode, convert};
use crate::errno::{Errno, Result};
use crate::mm::{Discard, Mappings};
use crate::vfs::{FileType, Inode, Mappable, Owner, SetAttr};
use gofer::{Attr as HostAttr, Client, CreateFlags, RenameFlags};
use std::sync::{Arc, Weak};

fn owner(owner: Owner) -> Option<gofer::Owner> {
    Some(gofer::Owner { uid: owner.uid, gid: owner.gid })
}

impl GoferInode {
    /// The connection to the gofer.
    pub(super) fn client(&self) -> &Client {
        &self.fs.client
    }

    /// Its memory, of which there is one however often it is opened.
    pub(super) fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let mut place = self.mapped.lock();
        if let Some(mappable) = place.upgrade() {
            return Ok(mappable);
        }
        let fresh = Arc::new(GoferMappable { inode: self.this()?, mappings: Mappings::default() });
        *place = Arc::downgrade(&fresh);
        Ok(fresh)
    }

    /// A child was made.
    fn made(&self, name: &[u8], attr: HostAttr) -> Result<Arc<GoferInode>> {
        self.changed();
        self.note(name, Known::File(attr, None));
        Ok(self.this()?.child(name, attr, None))
    }

    /// Calls the gofer with the path of the child `name`.
    fn at_child<T>(
        &self,
        name: &[u8],
        call: impl FnOnce(&Client, gofer::NodeId, &[&[u8]]) -> gofer::client::Result<T>,
    ) -> Result<T> {
        let result = self.at(|dir, names| {
            let path: Vec<&[u8]> = names.iter().copied().chain([name]).collect();
            call(self.client(), dir, &path)
        });
        if result.is_err() {
            // What was known of the name may have just become wrong; whoever tries again is told.
            self.fs.unsettle();
        }
        result
    }

    pub(super) fn make_file(
        &self,
        name: &[u8],
        mode: u32,
        rdev: u64,
        by: Owner,
    ) -> Result<Arc<dyn Inode>> {
        let attr = match FileType::from_mode(mode) {
            Some(FileType::Regular) | None => {
                let flags = CreateFlags::empty();
                let create = |client: &Client, dir, path: &[&[u8]]| {
                    client.create(dir, path, mode & 0o7777, flags, owner(by))
                };
                self.at_child(name, create)?.attr
            }
            // A device of the host has no business in a sandbox; 0:0 is none, but an overlay's whiteout.
            Some(FileType::CharDevice | FileType::BlockDevice) if rdev != 0 => {
                return Err(Errno::EPERM);
            }
            Some(_) => self.at_child(name, |c, dir, path| c.mknod(dir, path, mode, owner(by)))?,
        };
        Ok(self.made(name, attr)?)
    }

    pub(super) fn make_unnamed(&self, mode: u32, by: Owner) -> Result<Arc<dyn Inode>> {
        let (fd, node, attr) = self
            .at(|dir, names| self.client().create_unnamed(dir, names, mode & 0o7777, owner(by)))?;
        Ok(self.unnamed(attr, node, fd))
    }

    pub(super) fn make_directory(
        &self,
        name: &[u8],
        mode: u32,
        by: Owner,
    ) -> Result<Arc<dyn Inode>> {
        let (node, attr) =
            self.at_child(name, |c, dir, path| c.mkdir(dir, path, mode, owner(by)))?;
        let inode = self.made(name, attr)?;
        inode.adopt(node);
        Ok(inode)
    }

    pub(super) fn make_symlink(
        &self,
        name: &[u8],
        target: &[u8],
        by: Owner,
    ) -> Result<Arc<dyn Inode>> {
        let attr = self.at_child(name, |c, dir, path| c.symlink(dir, path, target, owner(by)))?;
        Ok(self.made(name, attr)?)
    }

    pub(super) fn make_link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = target.as_any().downcast_ref::<GoferInode>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&target.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let node = target.node()?;
        let attr = self.at_child(name, |c, dir, path| c.link(node, dir, path))?;
        match target.place() {
            // It has one more name than the directory above knows.
            Some(_) => target.forget_in_parent(),
            // The first name of what had none.
            None => target.moved(&self.this()?, name),
        }
        target.seen(attr);
        self.made(name, attr).map(drop)
    }

    /// Something else than a directory may live on under other names or in open files: it keeps its
    /// handle.
    fn keep_child(&self, name: &[u8]) -> Option<Arc<GoferInode>> {
        let (known, key) = {
            let children = self.children.lock();
            (children.get(name), children.key(name).filter(|_| self.fs.exclusive()))
        };
        let key = match known {
            Some(Known::Nothing) => return None,
            Some(Known::File(attr, _)) => (attr.dev, attr.ino),
            None => match key {
                Some(key) => key,
                None => {
                    let attr = self.at_child(name, |c, dir, path| c.stat(dir, path)).ok()?;
                    (attr.dev, attr.ino)
                }
            },
        };
        let inode = self.fs.inodes.lock().get(&key).and_then(Weak::upgrade)?;
        // If the gofer cannot give a handle the name is all there was.
        let _ = inode.node();
        Some(inode)
    }

    pub(super) fn remove_file(&self, name: &[u8]) -> Result<()> {
        let kept = self.keep_child(name);
        self.at_child(name, |c, dir, path| c.unlink(dir, path))?;
        self.note(name, Known::Nothing);
        self.changed();
        if let Some(inode) = kept
            && let Ok(node) = inode.node()
            && let Ok(attr) = self.client().stat(node, &[])
        {
            inode.forget_in_parent();
            inode.seen(attr);
        }
        Ok(())
    }

    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let kept = self.keep_child(name);
        self.at_child(name, |c, dir, path| c.rmdir(dir, path))?;
        self.note(name, Known::Nothing);
        self.changed();
        if let Some(inode) = kept {
            inode.children.lock().set_all(std::iter::empty(), 0);
        }
        Ok(())
    }

    pub(super) fn move_child(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        let new_dir = new_dir.as_any().downcast_ref::<GoferInode>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&new_dir.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        let (child, replaced) = (self.keep_child(name), new_dir.keep_child(new_name));
        let to = new_dir.node()?;
        self.at_child(name, |c, dir, path| c.rename(dir, path, to, &[new_name], flags))?;
        for (dir, name) in [(self, name), (new_dir, new_name)] {
            dir.children.lock().forget(name);
            dir.changed();
        }
        if !flags.intersects(RenameFlags::EXCHANGE | RenameFlags::WHITEOUT) {
            self.note(name, Known::Nothing);
        }
        if let Some(child) = child {
            child.moved(&new_dir.this()?, new_name);
            child.changed();
        }
        if let Some(other) = replaced {
            if flags.contains(RenameFlags::EXCHANGE) {
                other.moved(&self.this()?, name);
            }
            other.changed();
        }
        Ok(())
    }

    pub(super) fn change_attr(&self, changes: &SetAttr) -> Result<()> {
        let set = gofer::SetAttr {
            mode: changes.mode,
            uid: changes.uid,
            gid: changes.gid,
            size: changes.size,
            atime: changes.atime.map(convert::time_update),
            mtime: changes.mtime.map(convert::time_update),
        };
        let attr = self.at(|dir, names| self.client().setattr(dir, names, set))?;
        self.forget_in_parent();
        self.seen(attr);
        let mapped = self.mapped.lock().upgrade();
        if let (Some(size), Some(mapped)) = (changes.size, mapped) {
            // The file's own pages the host has taken away; copies of them are ours.
            drop(mapped.mappings.discard(size..u64::MAX, Discard::Everything));
        }
        Ok(())
    }

    /// Takes over a handle that came with the answer to another call.
    fn adopt(&self, node: gofer::NodeId) {
        if self.node.set(node).is_err() {
            self.client().forget(node);
        }
    }
}
