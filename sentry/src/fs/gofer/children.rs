//! What is known of a directory's names.

use super::watch::State;
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

/// One name.
#[derive(Debug)]
enum Name {
    /// It has to be asked what it stands for.
    Asked,
    /// The same, but it is still the file with this device and number, unless others change the directory.
    Changed((u64, u64)),
    /// What it stands for, and when that was seen, as [`super::watch::Watches::now`] counts.
    Known(Known, u64),
}

/// What is known of a directory's names.
#[derive(Debug, Default)]
pub struct Children {
    names: FxHashMap<Box<[u8]>, Name>,
    /// Names that are not in `names` do not exist.
    complete: bool,
    /// How many names have to be asked for.
    unknown: usize,
    /// How many were added since the directory was listed only because something happened to them.
    doubted: usize,
    /// Look-ups that had to ask the gofer.
    pub asked: u32,
    /// Whether changes by others are told.
    pub watch: State,
    /// Grows whenever something turns out to have changed: an answer asked for before that may be old.
    pub generation: u64,
}

/// Names kept for a directory that is not known whole.
const KEPT: usize = 256;

/// See [`Children::forget`].
const DOUBTED: usize = 1024;

impl Children {
    /// What `name` stands for, if that is known.
    pub fn get(&self, name: &[u8]) -> Option<Known> {
        match self.names.get(name) {
            Some(Name::Known(known, _)) => Some(known.clone()),
            Some(Name::Asked | Name::Changed(_)) => None,
            None => self.complete.then_some(Known::Nothing),
        }
    }

    /// Device and number of the file that `name` stands for, if that is known and nobody else changes the directory.
    pub fn key(&self, name: &[u8]) -> Option<(u64, u64)> {
        match self.names.get(name) {
            Some(Name::Known(Known::File(attr, _), _)) => Some((attr.dev, attr.ino)),
            Some(Name::Changed(key)) => Some(*key),
            _ => None,
        }
    }

    /// The attributes of `name`, if they were seen at `since` or later.
    pub fn attr(&self, name: &[u8], since: u64) -> Option<&Attr> {
        match self.names.get(name) {
            Some(Name::Known(Known::File(attr, _), seen)) if *seen >= since => Some(attr),
            _ => None,
        }
    }

    fn put(&mut self, name: &[u8], fresh: Option<Name>) {
        let unknown =
            |name: &Option<Name>| usize::from(matches!(name, Some(Name::Asked | Name::Changed(_))));
        self.unknown += unknown(&fresh);
        let old = match fresh {
            Some(fresh) => match self.names.get_mut(name) {
                Some(place) => Some(std::mem::replace(place, fresh)),
                None => self.names.insert(name.into(), fresh),
            },
            None => self.names.remove(name),
        };
        self.unknown -= unknown(&old);
    }

    /// Notes what `name` stands for, seen at `now`.
    pub fn set(&mut self, name: &[u8], known: Known, now: u64) {
        if self.complete && matches!(known, Known::Nothing) {
            self.put(name, None);
            return;
        }
        if !self.complete && self.names.len() >= KEPT {
            self.names.clear();
            self.unknown = 0;
        }
        self.put(name, Some(Name::Known(known, now)));
    }

    /// The file that `name` stands for has changed: its attributes are forgotten.
    pub fn changed(&mut self, name: &[u8]) {
        let key = self.key(name);
        self.forget(name);
        if let Some(key) = key {
            self.put(name, Some(Name::Changed(key)));
        }
    }

    /// Forgets what `name` stands for.
    pub fn forget(&mut self, name: &[u8]) {
        self.generation += 1;
        if self.complete && !self.names.contains_key(name) {
            self.doubted += 1;
            // Names that come and go, never to be asked for: they may not add up.
            if self.doubted > DOUBTED.max(self.names.len() / 2) {
                self.forget_all();
                return;
            }
        }
        // In a directory that is known whole a name that is not there would not exist.
        self.put(name, self.complete.then_some(Name::Asked));
    }

    /// Forgets everything.
    pub fn forget_all(&mut self) {
        *self = Self { generation: self.generation + 1, watch: self.watch, ..Self::default() };
    }

    /// Replaces everything by the whole directory, seen at `now`; what has no attributes has to be asked for.
    pub fn set_all(
        &mut self,
        names: impl ExactSizeIterator<Item = (Box<[u8]>, Option<Known>)>,
        now: u64,
    ) {
        self.names.clear();
        self.names.reserve(names.len());
        (self.unknown, self.doubted) = (0, 0);
        for (name, known) in names {
            self.unknown += usize::from(known.is_none());
            self.names.insert(name, known.map_or(Name::Asked, |known| Name::Known(known, now)));
        }
        self.complete = true;
    }

    /// Every name that exists is known, though not what each stands for: how many.
    pub fn listed(&self) -> Option<usize> {
        (self.complete && self.unknown > 0).then_some(self.names.len())
    }

    /// Whether every name that exists is known, and what it stands for.
    pub fn is_whole(&self) -> bool {
        self.complete && self.unknown == 0
    }

    /// Every file in the directory, if it is known whole.
    pub fn all(&self) -> Option<impl Iterator<Item = (&[u8], &Attr)>> {
        self.is_whole().then(|| {
            self.names.iter().filter_map(|(name, known)| match known {
                Name::Known(Known::File(attr, _), _) => Some((&**name, attr)),
                _ => None,
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
        let names = [b"a", b"b"].map(|name| (Box::from(&name[..]), None));
        children.set_all(names.into_iter(), 0);
        let nothing =
            |children: &Children, name: &[u8]| matches!(children.get(name), Some(Known::Nothing));
        assert!(children.get(b"a").is_none() && nothing(&children, b"c"));
        assert_eq!(children.listed(), Some(2));
        children.set(b"a", Known::Nothing, 0);
        assert!(nothing(&children, b"a"));
        let generation = children.generation;
        children.forget(b"c");
        assert!(children.get(b"c").is_none() && nothing(&children, b"d"));
        assert!(children.generation > generation && children.all().is_none());
        children.set_all(std::iter::empty(), 0);
        assert!(nothing(&children, b"b") && children.listed().is_none());
        for i in 0..10 * DOUBTED {
            children.forget(i.to_string().as_bytes());
        }
        assert!(children.names.len() <= DOUBTED);
        children.set_all(std::iter::empty(), 0);
        children.forget_all();
        assert!(children.get(b"b").is_none() && !children.is_whole());
    }
}
