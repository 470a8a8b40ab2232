//! File systems that are being configured (`fsopen(2)`, `fspick(2)`).

use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, File, FileOps, Mount, OpenFlags};
use std::any::Any;
use std::sync::Arc;

/// Most bytes of parameters, names and values together: a page, as `mount(2)` takes.
const PARAMETERS_MAX: usize = 4096;

/// How far a context has come (`enum fs_context_phase`).
pub enum Phase {
    /// Parameters of a new instance are being set.
    Create,
    /// The instance is there, in a mount that is attached nowhere.
    Created(Arc<Mount>),
    /// Parameters of a mounted instance are being changed.
    Reconfigure(Arc<Mount>),
    /// It could not be made.
    Failed,
}

/// What a context holds.
pub struct State {
    /// How far it is.
    pub phase: Phase,
    /// `source`.
    pub source: Option<Vec<u8>>,
    /// The other parameters, as `mount(2)` takes them.
    options: Vec<u8>,
    /// `ro` or `rw` has been set.
    pub read_only: Option<bool>,
}

impl State {
    /// The parameters as `mount(2)` takes them.
    pub fn options(&self) -> &[u8] {
        &self.options
    }

    /// The parameters with one more. `EINVAL` when that is too much.
    pub fn options_with(&self, key: &[u8], value: Option<&[u8]>) -> Result<Vec<u8>> {
        let mut options = self.options.clone();
        if !options.is_empty() {
            options.push(b',');
        }
        options.extend_from_slice(key);
        if let Some(value) = value {
            options.push(b'=');
            options.extend_from_slice(value);
        }
        if options.len() > PARAMETERS_MAX { Err(Errno::EINVAL) } else { Ok(options) }
    }

    /// Replaces the parameters.
    pub fn set_options(&mut self, options: Vec<u8>) {
        self.options = options;
    }
}

/// An open context.
pub struct FsContextFile {
    /// Type of the file system.
    pub type_name: Vec<u8>,
    /// The rest.
    pub state: Mutex<State, { rank::FS_SETUP }>,
}

impl FsContextFile {
    /// A context in that phase.
    pub fn open(type_name: &[u8], phase: Phase) -> Arc<File> {
        let state = State { phase, source: None, options: Vec::new(), read_only: None };
        let ops = FsContextFile { type_name: type_name.to_vec(), state: Mutex::new(state) };
        File::new(Arc::new(ops), None, OpenFlags::RDWR)
    }
}

impl FileOps for FsContextFile {
    fn read(&self, _file: &File, _dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        // Errors are told as numbers; there are no messages besides.
        Err(Errno::ENODATA)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(crate::fs::anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[fscontext]".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
