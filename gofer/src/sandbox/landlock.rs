//! Landlock: the host itself keeps the gofer beneath its exports (`landlock(7)`).
//!
//! The rules of the protocol never name a file outside; this holds also when they are broken. Each export's root
//! is one rule. What no rule allows is refused: opening anything else, executing, making block devices, sockets
//! of the Internet, signals to other processes.

use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use crate::protocol::Reach;
use crate::server::OpenedExport;

/// The newest version that is known here; older hosts have a part of it.
const NEWEST: ABI = ABI::V9;

/// What reading needs.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// What changing needs besides. Of character devices only whiteouts are made: the seccomp filter sees to the
/// number, which is 0:0, and for any other the gofer has no capability.
const CHANGE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    WriteFile | Truncate | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock | MakeFifo | MakeSym | MakeChar | Refer
});

/// Restricts the calling process, which has one thread and can gain no privileges, to `exports`. False where the
/// host cannot: before Linux 5.19, which could not let files be moved between directories, or without Landlock.
pub(super) fn restrict(exports: &[OpenedExport]) -> Result<bool, RulesetError> {
    let needed = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer);
    let Ok(ruleset) = needed else { return Ok(false) };
    let mut ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for export in exports {
        let mut access = READ;
        if !export.read_only {
            access |= CHANGE;
        }
        if export.reach.contains(Reach::CONNECT) {
            access |= AccessFs::ResolveUnix;
        }
        // Of an export that is a single file only what can be done to files is meant.
        ruleset = ruleset.add_rule(PathBeneath::new(export.root().as_fd(), access))?;
    }
    ruleset.restrict_self().map(|_| true)
}

#[cfg(test)]
#[expect(unsafe_code, reason = "forks: what is restricted stays restricted")]
mod tests {
    use super::*;
    use crate::server::Export;
    use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
    use rustix::io::Errno;
    use rustix::process::{Pid, WaitOptions, waitpid};
    use std::path::Path;

    /// Exit status of a process that the host could not restrict.
    const UNRESTRICTED: i32 = 255;

    /// Makes a call in a restricted process; its errno, or 0.
    fn attempt(exports: &[(&Path, bool)], call: &dyn Fn() -> rustix::io::Result<()>) -> i32 {
        // SAFETY: no lock is held that the copy would need; it leaves through _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let open = |&(path, read_only): &(&Path, bool)| Export::new(path, read_only).open();
            let opened: Vec<_> = exports.iter().filter_map(|e| open(e).ok()).collect();
            let status = match restrict(&opened) {
                Ok(true) if opened.len() == exports.len() => {
                    call().err().map_or(0, Errno::raw_os_error)
                }
                _ => UNRESTRICTED,
            };
            // SAFETY: takes an integer.
            unsafe { libc::_exit(status) }
        }
        let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
        status.exit_status().unwrap()
    }

    #[test]
    fn nothing_outside_the_exports() {
        let top = std::env::temp_dir().join(format!("landlock-test-{}", std::process::id()));
        let path = |name: &str| top.join(name);
        for dir in ["in", "in/a", "in/b", "ro", "out"] {
            std::fs::create_dir_all(path(dir)).unwrap();
        }
        for file in ["in/file", "in/a/x", "ro/file", "out/file"] {
            std::fs::write(path(file), "x").unwrap();
        }
        let exports: &[(&Path, bool)] = &[(&path("in"), false), (&path("ro"), true)];
        let open = |name: &'static str, flags: OFlags| {
            let path = path(name);
            move || {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::openat(CWD, &path, flags | OFlags::CLOEXEC, mode).map(drop)
            }
        };
        let node = |name: &'static str, kind: FileType| {
            let path = path(name);
            move || rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), 0)
        };
        let rename = |from: &'static str, to: &'static str| {
            let (from, to) = (path(from), path(to));
            move || rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::empty())
        };
        let link = |from: &'static str, to: &'static str| {
            let (from, to) = (path(from), path(to));
            move || rustix::fs::linkat(CWD, &from, CWD, &to, AtFlags::empty())
        };
        let remove = |name: &'static str| {
            let path = path(name);
            move || rustix::fs::unlinkat(CWD, &path, AtFlags::empty())
        };
        let write = OFlags::WRONLY | OFlags::TRUNC;
        let create = OFlags::WRONLY | OFlags::CREATE;
        let execute = {
            let name =
                std::ffi::CString::new(path("in/file").into_os_string().into_encoded_bytes());
            let name = name.unwrap();
            move || {
                // SAFETY: the path is a C string; no arguments and no environment.
                unsafe { libc::execve(name.as_ptr(), std::ptr::null(), std::ptr::null()) };
                Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap())
            }
        };
        let denied = Errno::ACCESS.raw_os_error();
        let crossed = Errno::XDEV.raw_os_error();
        let cases: &[(&str, &dyn Fn() -> rustix::io::Result<()>, i32)] = &[
            ("read", &open("in/file", OFlags::RDONLY), 0),
            ("read below", &open("in/a/x", OFlags::RDONLY), 0),
            ("write", &open("in/file", write), 0),
            ("create", &open("in/new", create), 0),
            ("list", &open("in/a", OFlags::DIRECTORY), 0),
            ("fifo", &node("in/fifo", FileType::Fifo), 0),
            ("rename between directories", &rename("in/a/x", "in/b/x"), 0),
            ("link between directories", &link("in/file", "in/b/link"), 0),
            ("unlink", &remove("in/b/link"), 0),
            ("read, read-only", &open("ro/file", OFlags::RDONLY), 0),
            ("execute", &execute, denied),
            ("whiteout", &node("in/whiteout", FileType::CharacterDevice), 0),
            ("block device", &node("in/device", FileType::BlockDevice), denied),
            ("whiteout, read-only", &node("ro/whiteout", FileType::CharacterDevice), denied),
            ("whiteout outside", &node("out/whiteout", FileType::CharacterDevice), denied),
            ("write, read-only", &open("ro/file", write), denied),
            ("create, read-only", &open("ro/new", create), denied),
            ("unlink, read-only", &remove("ro/file"), denied),
            ("read outside", &open("out/file", OFlags::RDONLY), denied),
            ("list outside", &open("out", OFlags::DIRECTORY), denied),
            ("list above", &open(".", OFlags::DIRECTORY), denied),
            ("create outside", &open("out/new", create), denied),
            ("unlink outside", &remove("out/file"), denied),
            ("rename out", &rename("in/file", "out/moved"), denied),
            ("link in", &link("out/file", "in/stolen"), crossed),
        ];
        for (what, call, expected) in cases {
            assert_eq!(attempt(exports, *call), *expected, "{what}");
        }
        std::fs::remove_dir_all(&top).unwrap();
    }
}
