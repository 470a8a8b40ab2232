//! Directories that the gofer keeps open, so that opening a file in one resolves one name, not its path.
//!
//! A directory gets a handle when a second file in it is asked for by path. There are so many at a time;
//! the oldest go. A handle that is being used is given back after that.

use super::{GoferFs, GoferInode};
use crate::sync::{Mutex, rank};
use gofer::{Client, NodeId};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Most directories that are kept open.
const KEPT: usize = 128;

/// The gofer's identifier of a directory, given back with the last reference.
pub(super) struct Handle {
    pub(super) node: NodeId,
    client: Arc<Client>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.client.forget(self.node);
    }
}

/// A directory's handle.
#[derive(Default)]
pub(super) struct Place {
    handle: Mutex<Option<Arc<Handle>>, { rank::LEAF }>,
    /// A file in it has been asked for by path.
    asked: AtomicBool,
}

impl Place {
    /// The handle, if there is one.
    pub(super) fn get(&self) -> Option<Arc<Handle>> {
        self.handle.lock().clone()
    }
}

/// The directories with a handle, oldest first.
#[derive(Default)]
pub(super) struct Handles(Mutex<VecDeque<Weak<GoferInode>>, { rank::LEAF }>);

impl GoferInode {
    /// A file in this directory is about to be asked for by path.
    pub(super) fn prepare(&self) {
        if self.node.get().is_some() || !self.handle.asked.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.handle.get().is_some() {
            return;
        }
        let client = &self.fs.client;
        // Without a handle the path will do.
        let walked = self.at(|dir, names| client.walk(dir, names, true));
        let Some(node) = walked.ok().and_then(|walked| walked.node) else { return };
        let handle = Arc::new(Handle { node, client: client.clone() });
        let before = self.handle.handle.lock().replace(handle);
        if before.is_none() {
            self.fs.keep_handle(&self.myself);
        }
    }
}

impl GoferFs {
    fn keep_handle(&self, dir: &Weak<GoferInode>) {
        let oldest = {
            let mut all = self.handles.0.lock();
            all.push_back(dir.clone());
            if all.len() <= KEPT { None } else { all.pop_front() }
        };
        if let Some(oldest) = oldest.and_then(|dir| dir.upgrade()) {
            let gone = oldest.handle.handle.lock().take();
            drop(gone);
        }
    }
}
