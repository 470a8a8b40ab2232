//! What is known of a directory's names.

use gofer::Attr;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Known {
    /// A file with these attributes and, for a symbolic link, this target.
    File(Attr, Option<Arc<[u8]>>),
    /// Nothing.
    Nothing,
}

/// What is known of a directory's names.
#[derive(Debug, Default)]
pub struct Children {
    names: FxHashMap<Box<[u8]>, Known>,
    /// Names that are not in `names` do not exist.
    pub complete: bool,
    /// Look-ups that had to ask the gofer.
    pub asked: u32,
}

/// Names kept for a directory that is not known whole.
const KEPT: usize = 256;

impl Children {
    /// What `name` stands for, if that is known.
    pub fn get(&self, name: &[u8]) -> Option<Known> {
        match self.names.get(name) {
            Some(known) => Some(known.clone()),
            None => self.complete.then_some(Known::Nothing),
        }
    }

    /// Notes what `name` stands for.
    pub fn set(&mut self, name: &[u8], known: Known) {
        if self.complete && matches!(known, Known::Nothing) {
            self.names.remove(name);
            return;
        }
        if !self.complete && self.names.len() >= KEPT {
            self.names.clear();
        }
        self.names.insert(name.into(), known);
    }

    /// Forgets what `name` stands for.
    pub fn forget(&mut self, name: &[u8]) {
        if self.names.remove(name).is_some() {
            self.complete = false;
        }
    }

    /// Replaces everything by the whole directory.
    pub fn set_all(&mut self, names: FxHashMap<Box<[u8]>, Known>) {
        self.names = names;
        self.complete = true;
    }

    /// Every file in the directory, if it is known whole.
    pub fn all(&self) -> Option<impl Iterator<Item = (&[u8], &Attr)>> {
        self.complete.then(|| {
            self.names.iter().filter_map(|(name, known)| match known {
                Known::File(attr, _) => Some((&**name, attr)),
                Known::Nothing => None,
            })
        })
    }
}
