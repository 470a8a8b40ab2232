//! What is compared: native Linux, this workspace's `runsc` on each platform, and gVisor's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One column of the table.
#[derive(Clone, Debug)]
pub struct System {
    /// The column's title.
    pub name: String,
    /// What stands before a command line to run it in this system; empty for native.
    pub prefix: Vec<String>,
}

impl System {
    /// The host itself.
    pub fn native() -> Self {
        Self { name: "native".to_owned(), prefix: Vec::new() }
    }

    /// Our `runsc` on one platform.
    pub fn ours(runsc: &Path, platform: &str) -> Self {
        let prefix = ["do".to_owned(), format!("--platform={platform}"), "--".to_owned()];
        let prefix = [vec![runsc.display().to_string()], prefix.to_vec()].concat();
        Self { name: platform.to_owned(), prefix }
    }

    /// gVisor's `runsc` on one of its platforms.
    pub fn gvisor(runsc: &Path, platform: &str) -> Self {
        let flags = ["--rootless", "--network=none", "--ignore-cgroups"];
        let mut prefix = vec![runsc.display().to_string()];
        prefix.extend(flags.map(str::to_owned));
        prefix.extend([format!("--platform={platform}"), "do".to_owned()]);
        Self { name: format!("gVisor {platform}"), prefix }
    }

    /// The whole command line that runs `command` in this system.
    pub fn line(&self, command: &[String]) -> Vec<String> {
        [self.prefix.as_slice(), command].concat()
    }
}

/// Finds gVisor's `runsc` on `PATH`; our own command has the same name, so the version tells.
pub fn find_gvisor() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("runsc")).find(|program| {
        let answer = Command::new(program).arg("--version").output();
        answer.is_ok_and(|output| {
            let text = String::from_utf8_lossy(&output.stdout);
            // gVisor: "runsc version release-20240401.0" or, in Debian, "runsc version 0.0~2022…".
            text.contains("version release-")
                || text.contains("version 0.0~")
                || text.contains("VERSION_MISSING")
        })
    })
}
