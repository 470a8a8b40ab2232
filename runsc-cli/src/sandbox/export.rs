//! What of the host the gofer serves.

use anyhow::{Context, bail};
use gofer::process::Users;
use gofer::server::{Export, Source};
use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The exports of a sandbox, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Exports {
    list: Vec<Export>,
    /// Whose files they are, if not those of the host's users.
    pub users: Option<Users>,
}

impl Exports {
    /// Adds a host directory or file; the result is the export's number. Directories of `hide`
    /// (relative paths) look empty.
    pub fn add(&mut self, path: &Path, read_only: bool, hide: &[&str]) -> anyhow::Result<u32> {
        match path.metadata() {
            Ok(meta) if meta.is_dir() || meta.is_file() => {}
            // Whether anybody gets through one is decided by --host-uds and --host-fifo.
            Ok(meta) if meta.file_type().is_socket() || meta.file_type().is_fifo() => {}
            Ok(_) => bail!("{} is a device, and those of the host are not served", path.display()),
            Err(e) => return Err(e).with_context(|| format!("cannot use {}", path.display())),
        }
        let mut export = Export::new(path, read_only);
        export.hide = hide.iter().map(PathBuf::from).collect();
        self.list.push(export);
        u32::try_from(self.list.len() - 1).context("too many mounts")
    }

    /// Adds an open file, read-only; the result is the export's number.
    pub fn add_file(&mut self, file: File) -> anyhow::Result<u32> {
        let mut export = Export::new("", true);
        export.source = Source::Fd(file.into());
        self.list.push(export);
        u32::try_from(self.list.len() - 1).context("too many mounts")
    }

    /// The list for the gofer, and whose files they are.
    pub fn into_parts(self) -> (Vec<Export>, Option<Users>) {
        (self.list, self.users)
    }
}
