//! Events that come with file handles instead of descriptors (`FAN_REPORT_FID` and its kin): what an event is about, and how that is said.

use super::{event, init};
use crate::errno::Result;
use crate::kernel::Task;
use crate::vfs::Dentry;
use crate::vfs::handles::Handle;
use std::sync::Arc;

/// A directory, and a name in it.
type Named = (Arc<Dentry>, Option<Arc<[u8]>>);

/// What has happened to what.
pub struct Subject {
    /// The object.
    pub object: Arc<Dentry>,
    /// The directory in which it has happened, or in which the object is.
    pub dir: Option<Arc<Dentry>>,
    /// The object's name there.
    pub child: Option<Arc<[u8]>>,
    /// Where it has been moved to.
    pub moved: Option<(Arc<Dentry>, Arc<[u8]>)>,
}

impl Subject {
    /// An object, in its directory.
    pub fn of(object: &Arc<Dentry>) -> Self {
        Self { object: object.clone(), dir: object.parent(), child: None, moved: None }
    }

    /// Whether there is a directory to speak of.
    pub fn has_dir(&self) -> bool {
        self.dir.is_some() || self.moved.is_some() || self.object.is_dir()
    }
}

/// What a group is told of it.
pub struct Handles {
    /// A directory, and what is called so there.
    dir: Option<Named>,
    /// Another one, to which it has moved.
    second: Option<Named>,
    /// The object, or a directory.
    object: Option<Arc<Dentry>>,
}

/// Types of records (`FAN_EVENT_INFO_TYPE_*`).
mod info {
    pub const FID: u8 = 1;
    pub const DFID_NAME: u8 = 2;
    pub const DFID: u8 = 3;
    pub const OLD_DFID_NAME: u8 = 10;
    pub const NEW_DFID_NAME: u8 = 12;
}

impl Handles {
    /// What a group with these flags is told (`fanotify_alloc_event`).
    pub fn new(flags: u32, mask: u64, subject: &Subject) -> Self {
        let on_dir = mask & event::ONDIR != 0;
        let of_name = mask & event::OF_NAMES != 0;
        let has = |flag: u32| flags & flag != 0;
        let object = &subject.object;
        let dir = if !of_name && object.is_dir() { Some(object) } else { subject.dir.as_ref() };
        let moved = subject.moved.clone().map(|(dir, name)| (dir, Some(name)));
        // A move of which only the new place is told has no old one.
        let known = dir.is_some() || moved.is_some();
        if !has(init::REPORT_DIR_FID) || !known {
            let of_dir = of_name && !has(init::REPORT_TARGET_FID);
            let object = if of_dir { subject.dir.clone() } else { Some(object.clone()) };
            return Self { dir: None, second: None, object };
        }
        let reports_child = match of_name {
            true => has(init::REPORT_TARGET_FID),
            false => has(init::REPORT_FID) && !on_dir,
        };
        let is_dir_itself = dir.is_some_and(|dir| same(object, dir));
        let child = (reports_child && !is_dir_itself).then(|| object.clone());
        let named = has(init::REPORT_NAME);
        let name = subject.child.clone().filter(|_| named);
        let several = if named { of_name || !on_dir } else { child.is_some() };
        if several && (name.is_some() || moved.is_some() || child.is_some()) {
            return Self { dir: dir.map(|dir| (dir.clone(), name)), second: moved, object: child };
        }
        Self { dir: None, second: None, object: dir.cloned() }
    }

    /// Whether events about both are one.
    pub fn same(&self, other: &Self) -> bool {
        let named = |a: &Option<Named>, b: &Option<Named>| match (a, b) {
            (Some(a), Some(b)) => same(&a.0, &b.0) && a.1 == b.1,
            (a, b) => a.is_none() && b.is_none(),
        };
        let objects = match (&self.object, &other.object) {
            (Some(a), Some(b)) => same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        objects && named(&self.dir, &other.dir) && named(&self.second, &other.second)
    }

    /// The records that follow the event's head (`copy_info_records_to_user`), for the calling task, which can open what they say.
    pub fn records(&self, task: &Task, flags: u32, mask: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut first = 0;
        if let Some((dir, name)) = &self.dir {
            first = match name {
                _ if mask & event::RENAME != 0 => info::OLD_DFID_NAME,
                Some(_) => info::DFID_NAME,
                None => info::DFID,
            };
            record(task, first, dir, name.as_deref(), &mut out)?;
        }
        if let Some((dir, name)) = &self.second {
            first = info::NEW_DFID_NAME;
            record(task, first, dir, name.as_deref(), &mut out)?;
        }
        if let Some(object) = &self.object {
            let fids = flags & init::HANDLES;
            let on_dir = mask & event::ONDIR != 0;
            let (kind, name) = if fids == init::REPORT_FID || first != 0 {
                (info::FID, None)
            } else if fids & init::REPORT_NAME != 0 && on_dir {
                (info::DFID_NAME, Some(&b"."[..]))
            } else if mask & event::OF_NAMES != 0 || on_dir {
                (info::DFID, None)
            } else {
                (info::FID, None)
            };
            record(task, kind, object, name, &mut out)?;
        }
        Ok(out)
    }
}

fn same(a: &Arc<Dentry>, b: &Arc<Dentry>) -> bool {
    Arc::ptr_eq(a.inode(), b.inode())
}

/// Bytes of a record's head.
const HEADER: usize = 4;
const ALIGN: usize = 4;

/// Appends a `struct fanotify_event_info_fid` with its handle and perhaps a name.
fn record(
    task: &Task,
    kind: u8,
    of: &Arc<Dentry>,
    name: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let handle = Handle::of(of, true)?;
    let displaced = task.kernel().handles.lock().note(handle.identity, of);
    drop(displaced);
    let mut body = of.fs().dev().to_ne_bytes().to_vec();
    body.extend((handle.bytes.len() as u32).to_ne_bytes());
    body.extend(handle.kind.to_ne_bytes());
    body.extend(handle.bytes);
    if let Some(name) = name {
        body.extend(name);
        body.push(0);
    }
    body.resize(body.len().next_multiple_of(ALIGN), 0);
    out.extend([kind, 0]);
    out.extend(((HEADER + body.len()) as u16).to_ne_bytes());
    out.extend(body);
    Ok(())
}
