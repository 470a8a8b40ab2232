//! Processes of the container that are started from outside: who runs what, where.

use super::{BootError, FilterInstruction, Ids, ProcessSpec};
use crate::bpf::Raw;
use crate::errno::{Errno, Result};
use crate::kernel::cgroup::Cgroup;
use crate::kernel::mempolicy::MemPolicy;
use crate::kernel::namespace::Namespaces;
use crate::kernel::rlimit::{NR_OPEN, RLIM_INFINITY};
use crate::kernel::sched::Sched;
use crate::kernel::seccomp::filter::Filter;
use crate::kernel::start::{self, ProcessStart, start_process};
use crate::kernel::{Credentials, Kernel, Limit, Limits, Rlimit, Task};
use crate::vfs::open::{OpenHow, open_at};
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{FdTable, File, FsContext, MountNamespace, OpenFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A process that is ready to be started, but for the choice of its program.
pub struct Prepared {
    name: Vec<u8>,
    candidates: Vec<Vec<u8>>,
    start: ProcessStart,
    oom_score_adj: i32,
}

/// What the processes of a container have in common.
#[derive(Clone)]
pub struct Surroundings {
    /// Its mounts.
    pub mounts: Arc<MountNamespace>,
    /// Its namespaces.
    pub namespaces: Arc<Namespaces>,
    /// Its control group.
    pub cgroup: Arc<Cgroup>,
    /// Its pid namespace is its own, and its first process has the number 1.
    pub owns_pids: bool,
    /// The filter of system calls that they start with.
    pub filter: Option<Arc<Filter>>,
}

/// Finds out who runs what, where. With `init` it is the container's first process.
pub fn prepare(
    kernel: &Kernel,
    container: &Surroundings,
    files: Arc<FdTable>,
    spec: &ProcessSpec,
    init: bool,
) -> Result<Prepared, BootError> {
    let namespace = &container.mounts;
    let (ids, home) = identity(namespace, spec)?;
    let sets = &spec.capabilities;
    // As capset(2) says once the bounding set has been dropped.
    if sets.inheritable & !sets.bounding != 0 {
        let what =
            "the inheritable capabilities are not all in the bounding set: operation not permitted";
        return Err(BootError::User(what.into()));
    }
    let creds = credentials(&ids, spec);
    if spec.make_cwd {
        // What keeps it from being made is said below, when it cannot be entered.
        let _ = super::mounts::mount_point(namespace, &spec.cwd, true);
    }
    let fs = FsContext::new(namespace.clone());
    fs.set_umask(spec.umask);
    let ctx = WalkContext::with_creds(&fs, Arc::new(creds.clone()));
    let cwd =
        walk::resolve(&ctx, ctx.root.clone(), &spec.cwd, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)
            .map_err(|e| BootError::Cwd(spec.cwd.escape_ascii().to_string(), e))?;
    fs.set_cwd(cwd);
    let mut envp = spec.env.clone();
    if !envp.iter().any(|var| var.starts_with(b"HOME=")) {
        envp.push([b"HOME=", &*home.unwrap_or_else(|| b"/".to_vec())].concat());
    }
    let mut limits = Limits::default();
    for limit in &spec.rlimits {
        let failed = |e| {
            BootError::User(format!("the resource limit {} cannot be set: {e}", limit.resource))
        };
        let mut value = Limit { soft: limit.soft, hard: limit.hard };
        if limit.resource == Rlimit::Nofile as u32 {
            // No Linux takes that. Others may be what the host, with another `fs.nr_open`, allows.
            if value.hard == RLIM_INFINITY {
                return Err(failed(Errno::EPERM));
            }
            value = Limit { soft: value.soft.min(NR_OPEN), hard: value.hard.min(NR_OPEN) };
        }
        limits.set(limit.resource, value).map_err(failed)?;
    }
    let name = spec.args.first().cloned().unwrap_or_default();
    let candidates = candidates(&name, &envp);
    let argv = spec.args.clone();
    let cgroup = match spec.cgroup.as_deref() {
        Some(path) => cgroup(&container.cgroup, path)?,
        None => container.cgroup.clone(),
    };
    let start = ProcessStart {
        program: Vec::new(),
        argv,
        envp,
        creds,
        files,
        fs,
        limits,
        namespaces: container.namespaces.clone(),
        cgroup,
        sched: scheduling(kernel, spec)?,
        personality: spec.personality,
        mempolicy: MemPolicy::new(spec.mempolicy.mode, spec.mempolicy.node0).map_err(|e| {
            BootError::User(format!("the memory policy cannot be set (set_mempolicy): {e}"))
        })?,
        init,
        filter: container.filter.clone(),
    };
    Ok(Prepared { name, candidates, start, oom_score_adj: spec.oom_score_adj })
}

/// The control group at a path below a container's.
fn cgroup(root: &Arc<Cgroup>, path: &str) -> Result<Arc<Cgroup>, BootError> {
    let mut at = root.clone();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        at = at.child(name.as_bytes()).ok_or_else(|| {
            BootError::User(format!(
                "the container has no control group {path:?}: {}",
                Errno::ENOENT
            ))
        })?;
    }
    if at.parent().is_some() && !at.enabled().is_empty() {
        let why = Errno::EBUSY;
        return Err(BootError::User(format!(
            "the control group {path:?} takes no processes: {why}"
        )));
    }
    Ok(at)
}

fn scheduling(kernel: &Kernel, spec: &ProcessSpec) -> Result<Sched, BootError> {
    let mut usual = Sched { ioprio: spec.io_priority, ..Sched::new(kernel.config.cpus) };
    if !spec.affinity.is_empty() {
        // As sched_setaffinity(2): CPUs that do not exist do not count.
        let wanted = spec.affinity.iter().copied().chain(std::iter::repeat(0));
        usual.affinity = usual.affinity.iter().zip(wanted).map(|(all, cpus)| all & cpus).collect();
        if usual.affinity.iter().all(|cpus| *cpus == 0) {
            let why = Errno::EINVAL;
            return Err(BootError::User(format!("the CPU affinity has no CPU that exists: {why}")));
        }
    }
    let Some(given) = spec.scheduler else { return Ok(usual) };
    Ok(Sched {
        policy: given.policy,
        priority: given.priority,
        nice: given.nice,
        reset_on_fork: given.reset_on_fork,
        deadline: given.deadline,
        ..usual
    })
}

impl Prepared {
    /// With this program, whatever it is called by.
    pub fn of_program(mut self, path: &[u8]) -> Self {
        self.name = path.to_vec();
        self.candidates = vec![path.to_vec()];
        self
    }

    /// Where its standard error leads.
    pub fn standard_error(&self) -> Option<Arc<File>> {
        self.start.files.get(2).ok()
    }

    /// Says now what would keep the program from being started later.
    pub fn check(&mut self) -> Result<(), BootError> {
        self.first(start::check_program)
    }

    /// Starts the process.
    pub fn start(mut self, kernel: &Arc<Kernel>) -> Result<Arc<Task>, BootError> {
        let task = self.first(|start| start_process(kernel, start.clone()))?;
        task.group().oom_score_adj.store(self.oom_score_adj, Ordering::Relaxed);
        Ok(task)
    }

    /// The first candidate with which it can be done.
    fn first<T>(&mut self, run: impl Fn(&ProcessStart) -> Result<T>) -> Result<T, BootError> {
        let mut result = Err(Errno::ENOENT);
        for program in &self.candidates {
            self.start.program.clone_from(program);
            result = run(&self.start);
            // As execvp(3): a directory of PATH without the program is no reason to give up.
            if !matches!(result, Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES)) {
                break;
            }
        }
        result.map_err(|e| exec_error(&self.name, e))
    }
}

/// The filter of system calls that the processes of a container start with.
pub fn filter(program: &[FilterInstruction]) -> Result<Option<Arc<Filter>>, BootError> {
    if program.is_empty() {
        return Ok(None);
    }
    let raw = |i: &FilterInstruction| Raw { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    let program: Vec<Raw> = program.iter().map(raw).collect();
    Filter::from_outside(&program).map(Some).map_err(BootError::Seccomp)
}

/// Where the program may be: itself if it has a slash, else in the directories of `PATH`.
fn candidates(name: &[u8], envp: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if name.contains(&b'/') || name.is_empty() {
        return vec![name.to_vec()];
    }
    let default = &b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"[..];
    let path = envp.iter().find_map(|var| var.strip_prefix(b"PATH=")).unwrap_or(default);
    path.split(|b| *b == b':')
        .map(|dir| match dir {
            b"" => [b"./", name].concat(),
            dir => [dir, b"/", name].concat(),
        })
        .collect()
}

/// In the words of Go's `os/exec` and runc, from which their users tell the exit status.
fn exec_error(name: &[u8], e: Errno) -> BootError {
    let program = name.escape_ascii().to_string();
    let reason = match e {
        Errno::ENOENT if !name.contains(&b'/') => "executable file not found in $PATH".to_string(),
        Errno::ENOENT => format!("stat {program}: no such file or directory"),
        Errno::EACCES => "permission denied".to_string(),
        Errno::ENOEXEC => {
            "exec format error: it is neither an x86-64 ELF program nor a #! script".into()
        }
        other => other.to_string(),
    };
    let status = if matches!(e, Errno::ENOENT | Errno::ENOTDIR) { 127 } else { 126 };
    BootError::Exec { program, reason, status }
}

fn credentials(ids: &Ids, spec: &ProcessSpec) -> Credentials {
    let sets = spec.capabilities;
    // An ordinary user has no capabilities but the ambient ones, as after setuid(2).
    let user = |set: u64| if ids.uid == 0 { set } else { set & sets.ambient };
    Credentials {
        uid: ids.uid,
        euid: ids.uid,
        suid: ids.uid,
        fsuid: ids.uid,
        gid: ids.gid,
        egid: ids.gid,
        sgid: ids.gid,
        fsgid: ids.gid,
        groups: ids.groups.clone(),
        permitted: user(sets.permitted),
        effective: user(sets.effective),
        inheritable: sets.inheritable,
        bounding: sets.bounding,
        ambient: sets.ambient,
        no_new_privs: spec.no_new_privs,
        ..Credentials::default()
    }
}

/// Largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const DATABASE_MAX: usize = 4 << 20;

fn database(namespace: &Arc<MountNamespace>, path: &str) -> Result<String> {
    let ctx = WalkContext::kernel(namespace.root());
    let how = OpenHow { flags: OpenFlags::empty(), mode: 0, resolve: WalkFlags::empty() };
    let file = open_at(None, &ctx, namespace.root(), path.as_bytes(), how)?;
    let size = usize::try_from(file.ops().size()?).unwrap_or(usize::MAX);
    if size > DATABASE_MAX {
        return Err(Errno::EFBIG);
    }
    let mut text = vec![0; size];
    let mut sink = crate::io::BufSink::new(&mut text);
    let n = file.ops().read(&file, &mut sink, 0)?;
    text.truncate(n);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The line of a database whose field `key` is `value`, split at the colons.
fn entry(text: &str, key: usize, value: &str) -> Option<Vec<String>> {
    let fields = |line: &str| line.split(':').map(str::to_string).collect::<Vec<_>>();
    text.lines().map(fields).find(|f| f.get(key).is_some_and(|v| v == value))
}

/// User, groups and home directory.
fn identity(
    namespace: &Arc<MountNamespace>,
    spec: &ProcessSpec,
) -> Result<(Ids, Option<Vec<u8>>), BootError> {
    let passwd = || database(namespace, "/etc/passwd").unwrap_or_default();
    let home_of =
        |line: Option<Vec<String>>| line.and_then(|f| f.get(5).cloned()).map(String::into_bytes);
    let Some(text) = &spec.user else {
        if spec.env.iter().any(|var| var.starts_with(b"HOME=")) {
            return Ok((spec.ids.clone(), None));
        }
        let home = home_of(entry(&passwd(), 2, &spec.ids.uid.to_string()));
        return Ok((spec.ids.clone(), home));
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text.as_str(), None),
    };
    let passwd = passwd();
    let line = entry(&passwd, 0, user).or_else(|| entry(&passwd, 2, user));
    let number = |line: &Option<Vec<String>>, field: usize| {
        line.as_ref().and_then(|f| f.get(field)).and_then(|v| v.parse::<u32>().ok())
    };
    let uid = number(&line, 2).or_else(|| user.parse().ok()).ok_or_else(|| {
        BootError::User(format!("no user {user:?} in the container's /etc/passwd; give a number"))
    })?;
    let groups = database(namespace, "/etc/group").unwrap_or_default();
    let gid = match group {
        Some(group) => {
            let line = entry(&groups, 0, group);
            number(&line, 2).or_else(|| group.parse().ok()).ok_or_else(|| {
                BootError::User(format!(
                    "no group {group:?} in the container's /etc/group; give a number"
                ))
            })?
        }
        None => number(&line, 3).unwrap_or(0),
    };
    let name = line.as_ref().and_then(|f| f.first().cloned()).unwrap_or_default();
    let member = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse::<u32>().ok()?;
        fields.next()?.split(',').any(|m| !name.is_empty() && m == name).then_some(gid)
    };
    let groups = groups.lines().filter_map(member).collect();
    Ok((Ids { uid, gid, groups }, home_of(line)))
}

#[cfg(test)]
mod tests {
    use super::{candidates, entry};

    #[test]
    fn programs_are_searched_in_path() {
        let env = [b"PATH=/a::/b".to_vec()];
        assert_eq!(candidates(b"x", &env), [b"/a/x".to_vec(), b"./x".to_vec(), b"/b/x".to_vec()]);
        assert_eq!(candidates(b"./x", &env), [b"./x".to_vec()]);
    }

    #[test]
    fn database_lines() {
        let text = "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8::/var/mail:/bin/false\n";
        assert_eq!(entry(text, 0, "mail").unwrap()[5], "/var/mail");
        assert_eq!(entry(text, 2, "0").unwrap()[0], "root");
        assert_eq!(entry(text, 0, "nobody"), None);
    }
}
