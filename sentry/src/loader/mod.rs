//! Loading programs: what `execve(2)` does to memory.
//!
//! [`load`] builds a new address space from an executable and leaves the caller's alone, so that every
//! error is still an error of the call.

mod args;
mod elf;
mod script;
mod stack;
#[cfg(test)]
mod tests;
pub mod vdso;

pub use args::{ArgumentLimit, read_strings};
pub use vdso::Vdso;

use crate::errno::{Errno, Result};
use crate::io::BufSink;
use crate::kernel::Credentials;
use crate::mm::{ExecInfo, Limits, MemoryManager, SharedMemory};
use crate::vfs::File;
use platform::{MemoryFile, PendingContext, Platform};
use std::sync::Arc;

/// Credentials that a program gets, and `AT_SECURE`.
pub type CredentialsFor<'a> = &'a dyn Fn(&Arc<File>) -> Result<(Arc<Credentials>, bool)>;

/// What to load, and with what.
pub struct LoadRequest<'a> {
    /// Runs guest code.
    pub platform: &'a dyn Platform,
    /// Guest memory.
    pub memory: &'a Arc<MemoryFile>,
    /// The sandbox's vDSO.
    pub vdso: &'a Vdso,
    /// The page that says what its time namespace adds to the clocks.
    pub shifts: Arc<SharedMemory>,
    /// The executable, opened for execution.
    pub file: Arc<File>,
    /// Its name: the path given to `execve(2)`, or `/dev/fd/N` for `execveat(2)`.
    pub filename: Vec<u8>,
    /// The program could not open `filename` (close-on-exec descriptor): scripts fail with `ENOENT`.
    pub inaccessible: bool,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Limits of the process.
    pub limits: Limits,
    /// False with `ADDR_NO_RANDOMIZE`.
    pub randomize: bool,
    /// Opens an interpreter for execution: permission to execute, regular file, not `noexec`.
    pub open: &'a dyn Fn(&[u8]) -> Result<Arc<File>>,
    /// Credentials that the program gets when it is this file (set-id bits), and whether it must
    /// not trust its environment (`AT_SECURE`).
    pub credentials: CredentialsFor<'a>,
}

/// A loaded program.
pub struct Loaded {
    /// Its memory.
    pub mm: Arc<MemoryManager>,
    /// The context of its first thread.
    pub pending: Box<dyn PendingContext>,
    /// Where it starts.
    pub entry: u64,
    /// Its stack pointer there.
    pub stack_pointer: u64,
    /// The file that was loaded: for a script, the interpreter.
    pub file: Arc<File>,
    /// Its credentials.
    pub credentials: Arc<Credentials>,
    /// `AT_SECURE`.
    pub secure: bool,
}

/// Bytes at the start of a file by which its format is told (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// Most interpreters of scripts that are scripts themselves.
const MAX_SCRIPTS: u32 = 5;

/// Loads a program. Errors as `execve(2)`: `ENOEXEC` for an unknown format, `E2BIG`, `ELIBBAD`,
/// `ELOOP`, `EINVAL`, `ENOMEM`, and whatever opening an interpreter gives.
pub fn load(request: LoadRequest<'_>) -> Result<Loaded> {
    let limit = ArgumentLimit::new(request.limits.stack());
    let (mut file, mut argv) = (request.file.clone(), request.argv);
    // Linux gives a program without arguments an empty one.
    if argv.is_empty() {
        argv.push(Vec::new());
    }
    let mut path = request.filename.clone();
    let mut scripts = 0;
    let head = loop {
        limit.check(&path, &argv, &request.envp)?;
        let mut head = [0u8; HEAD];
        let len = read_at(&file, 0, &mut head)?;
        let head = head.get(..len).unwrap_or_default().to_vec();
        if !head.starts_with(b"#!") {
            break head;
        }
        let line = script::parse(&head)?;
        if request.inaccessible && scripts == 0 {
            return Err(Errno::ENOENT);
        }
        scripts += 1;
        if scripts > MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        argv.remove(0);
        argv.insert(0, path);
        if let Some(argument) = line.argument {
            argv.insert(0, argument);
        }
        argv.insert(0, line.interpreter.clone());
        file = (request.open)(&line.interpreter)?;
        path = line.interpreter;
    };
    let program = elf::Program::read(&file, &head)?;
    let interpreter = match program.interpreter(&file)? {
        Some(path) => {
            let file = (request.open)(&path)?;
            Some((elf::Program::read_interpreter(&file)?, file))
        }
        None => None,
    };
    let (credentials, secure) = (request.credentials)(&file)?;
    let (mm, pending) =
        MemoryManager::new(request.platform, request.memory, request.limits, request.randomize)?;
    let image = elf::map(&mm, &file, &program, interpreter.as_ref().map(|(p, f)| (p, f)))?;
    let vdso = request.vdso.map(&mm, &request.shifts)?;
    add_slots(&mm, request.platform.slots_size(), image.code.start, interpreter.is_some())?;
    let stack = stack::build(
        &mm,
        &stack::Contents {
            filename: &request.filename,
            argv: &argv,
            envp: &request.envp,
            image: &image,
            executable: program.executable_stack,
            vdso,
            credentials: &credentials,
            secure,
            randomize: request.randomize,
        },
    )?;
    mm.set_exec_info(ExecInfo {
        exe: Some(file.clone()),
        args: stack.args,
        env: stack.env,
        code: image.code.clone(),
        data: image.data.clone(),
        stack_start: stack.pointer,
        auxv: stack.auxv,
        vdso,
    });
    Ok(Loaded {
        mm,
        pending,
        entry: image.start,
        stack_pointer: stack.pointer,
        file,
        credentials,
        secure,
    })
}

/// Programs below this address are out of reach from where libraries are, in bytes.
const LOW: u64 = 2 << 30;

/// Makes room for patched call sites near the program's code and near its libraries', if the platform wants it.
fn add_slots(mm: &MemoryManager, size: u64, program: u64, libraries: bool) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    let low = program < LOW;
    if low {
        mm.add_slots(size, program)?;
    }
    if libraries || !low {
        mm.add_slots(size, 0)?;
    }
    Ok(())
}

/// Reads from a file until the buffer is full or the file ends. Returns the bytes read.
fn read_at(file: &File, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.checked_add(done as u64).ok_or(Errno::EINVAL)?;
        match file.ops().read(file, &mut BufSink::new(rest), at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
