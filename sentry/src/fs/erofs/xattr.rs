//! Extended attributes of an image: beside the inode, or shared by several.

use super::image::{DAMAGED, Fields, Image, Record};
use crate::errno::{Errno, Result};

/// Length of the header before an inode's attributes.
const HEADER: usize = 12;
/// Bit of an index that stands for a long prefix.
const LONG_PREFIX: u8 = 0x80;

/// Names of attributes begin with one of these, by index.
fn prefix(index: u8) -> Option<&'static [u8]> {
    Some(match index {
        0 => b"",
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        _ => return None,
    })
}

/// A long prefix of the image: the index of a short one, and what follows.
fn long_prefix(image: &Image, index: u8) -> Result<Vec<u8>> {
    let (start, count) = image.prefixes;
    if index >= count {
        return Err(DAMAGED);
    }
    let mut at = start;
    for _ in 0..index {
        let len = Fields(&image.bytes(at, 2)?).u16()?;
        at = (at + 2 + u64::from(len)).next_multiple_of(4);
    }
    let len = Fields(&image.bytes(at, 2)?).u16()?;
    let bytes = image.bytes(at + 2, usize::from(len))?;
    let mut fields = Fields(&bytes);
    let base = fields.u8()?;
    Ok([prefix(base).ok_or(DAMAGED)?, fields.0].concat())
}

/// Takes one attribute from `fields`. `None` for a name space that is not known.
fn one(image: &Image, fields: &mut Fields<'_>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (name_len, index, value_len) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let name = fields.bytes(usize::from(name_len))?;
    let value = fields.bytes(usize::from(value_len))?.to_vec();
    let used = 4 + usize::from(name_len) + usize::from(value_len);
    let padding = used.next_multiple_of(4) - used;
    fields.bytes(padding.min(fields.0.len()))?;
    let prefix = match index & LONG_PREFIX {
        0 => match prefix(index) {
            Some(prefix) => prefix.to_vec(),
            None => return Ok(None),
        },
        _ => long_prefix(image, index & !LONG_PREFIX)?,
    };
    Ok(Some(([prefix.as_slice(), name].concat(), value)))
}

/// A shared attribute stands at a multiple of four bytes.
fn shared(image: &Image, id: u32) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let at = image.shared_xattrs.checked_add(u64::from(id) * 4).ok_or(DAMAGED)?;
    let head = image.bytes(at, 4)?;
    let mut fields = Fields(&head);
    let (name_len, _index, value_len) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let bytes = image.bytes(at, 4 + usize::from(name_len) + usize::from(value_len))?;
    one(image, &mut Fields(&bytes))
}

/// All attributes of an inode: names and values.
pub fn all(image: &Image, record: &Record) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let (at, len) = record.xattrs;
    if len == 0 {
        return Ok(Vec::new());
    }
    let len = usize::try_from(len).map_err(|_| Errno::EIO)?;
    let bytes = image.bytes(at, len)?;
    let mut fields = Fields(&bytes);
    fields.u32()?;
    let count = fields.u8()?;
    fields.bytes(HEADER - 5)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let id = fields.u32()?;
        found.extend(shared(image, id)?);
    }
    while fields.0.len() >= 4 {
        found.extend(one(image, &mut fields)?);
    }
    Ok(found)
}
