//! What is known of a directory's names.

use gofer::Attr;
use rustc_hash::{FxHashMap, FxHashSet};
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
    /// The names that exist, in a large directory of which not all attributes are known.
    listed: Option<FxHashSet<Box<[u8]>>>,
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
            None => {
                let missing = self.listed.as_ref().is_some_and(|listed| !listed.contains(name));
                (self.complete || missing).then_some(Known::Nothing)
            }
        }
    }

    /// Notes what `name` stands for.
    pub fn set(&mut self, name: &[u8], known: Known) {
        if self.complete && matches!(known, Known::Nothing) {
            self.names.remove(name);
            return;
        }
        if let Some(listed) = &mut self.listed {
            if matches!(known, Known::Nothing) {
                listed.remove(name);
                self.names.remove(name);
                return;
            }
            listed.insert(name.into());
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
        if let Some(listed) = &mut self.listed {
            listed.insert(name.into());
        }
    }

    /// Replaces everything by the whole directory.
    pub fn set_all(&mut self, names: FxHashMap<Box<[u8]>, Known>) {
        self.names = names;
        self.complete = true;
        self.listed = None;
    }

    /// Notes all names that exist, and of some of them what they stand for.
    pub fn set_listed(&mut self, listed: FxHashSet<Box<[u8]>>, names: FxHashMap<Box<[u8]>, Known>) {
        if !self.complete {
            self.names = names;
            self.listed = Some(listed);
        }
    }

    /// How many names exist, if all are known, but not what they stand for.
    pub fn listed(&self) -> Option<usize> {
        self.listed.as_ref().map(FxHashSet::len)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_exist_are_asked_for_and_others_are_not() {
        let mut children = Children::default();
        let listed = [b"a", b"b"].map(|name| Box::from(&name[..])).into_iter().collect();
        children.set_listed(listed, FxHashMap::default());
        let nothing =
            |children: &Children, name: &[u8]| matches!(children.get(name), Some(Known::Nothing));
        assert!(children.get(b"a").is_none() && nothing(&children, b"c"));
        assert_eq!(children.listed(), Some(2));
        children.set(b"a", Known::Nothing);
        assert!(nothing(&children, b"a"));
        children.forget(b"c");
        assert!(children.get(b"c").is_none());
        children.set_all(FxHashMap::default());
        assert!(nothing(&children, b"b") && children.listed().is_none());
    }
}
