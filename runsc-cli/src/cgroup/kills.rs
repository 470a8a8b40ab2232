//! Processes of a group that the host kills for want of memory (`memory.events` of version 2, `memory.oom_control` of
//! version 1).

use super::Cgroup;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Watches a group.
pub struct Kills {
    /// Readable when there may be news; the group's counter says whether there are.
    news: Option<OwnedFd>,
    file: PathBuf,
    seen: u64,
}

impl Kills {
    /// Starts watching; `None` for a group without the controller.
    pub fn watch(group: &Cgroup) -> Option<Kills> {
        let (dir, is_v2) = group.dir("memory")?;
        let file = dir.join(if is_v2 { "memory.events" } else { "memory.oom_control" });
        let seen = count(&fs::read_to_string(&file).ok()?);
        // Without it the counter is looked at when the container has ended.
        let news = if is_v2 { watch_v2(&file) } else { watch_v1(dir, &file) };
        Some(Kills { news: news.ok(), file, seen })
    }

    /// Readable when there may be news.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.news.as_ref().map(AsFd::as_fd)
    }

    /// How many have been killed since the last time.
    pub fn look(&mut self) -> u64 {
        if let Some(news) = &self.news {
            // There may be none: it does not block.
            let _ = rustix::io::read(news, &mut [0; 4096]);
        }
        let now = fs::read_to_string(&self.file).map_or(self.seen, |text| count(&text));
        let new = now.saturating_sub(self.seen);
        self.seen = now;
        new
    }
}

/// The line `oom_kill N`.
fn count(text: &str) -> u64 {
    let number = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

fn watch_v2(file: &Path) -> std::io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, file, inotify::WatchFlags::MODIFY)?;
    Ok(fd)
}

fn watch_v1(dir: &Path, file: &Path) -> std::io::Result<OwnedFd> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(file)?;
    let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    fs::write(dir.join("cgroup.event_control"), line)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counters() {
        assert_eq!(count("low 0\noom 2\noom_kill 3\noom_group_kill 1\n"), 3);
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), 7);
        assert_eq!(count(""), 0);
    }
}
