//! Modes, owners and times of what is in no file system that keeps them: pipes and sockets.

use super::{Attr, File, FileType, SetAttr, attachments};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};

/// What was changed last; the rest of it is not looked at.
struct OwnAttr(Mutex<Attr, { rank::LEAF }>);

/// The attributes of a file without a place, as they have been changed.
pub fn changed(file: &File, attr: Attr) -> Attr {
    let Some(own) = attachments::of(file).get::<OwnAttr>() else { return attr };
    let Attr { mode, uid, gid, atime, mtime, ctime, .. } = *own.0.lock();
    Attr { mode, uid, gid, atime, mtime, ctime, ..attr }
}

/// Changes attributes of a file without a place. `EPERM` for what is neither a pipe nor a socket.
pub fn set(file: &File, change: &SetAttr) -> Result<()> {
    let attr = file.attr()?;
    if !matches!(attr.file_type(), FileType::Fifo | FileType::Socket) {
        return Err(Errno::EPERM);
    }
    let own = attachments::of(file).get_or_insert_with(|| OwnAttr(Mutex::new(attr)));
    // Under the lock, so that of two changes at once none is lost.
    change.apply(&mut own.0.lock());
    Ok(())
}
