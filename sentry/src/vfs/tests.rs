use super::namei::{self, RENAME_EXCHANGE, RENAME_NOREPLACE};
use super::open::{OpenHow, open_at};
use super::walk::{resolve, resolve_parent};
use super::*;
use crate::errno::{Errno, Result};
use crate::fs::tmpfs::{Tmpfs, TmpfsOptions};
use crate::io::{BufSink, BufSource};
use crate::kernel::Credentials;
use platform::MemoryFile;
use std::sync::Arc;

struct Tree {
    memory: Arc<MemoryFile>,
    namespace: Arc<MountNamespace>,
    ctx: WalkContext,
}

impl Tree {
    fn new() -> Self {
        let memory = MemoryFile::new().unwrap();
        let namespace = MountNamespace::new(tmpfs(&memory));
        let ctx = WalkContext::kernel(namespace.root());
        Self { memory, namespace, ctx }
    }

    fn as_user(&self, uid: u32) -> WalkContext {
        let creds = Credentials { uid, fsuid: uid, fsgid: uid, ..Credentials::default() };
        WalkContext { creds: Arc::new(creds), ..self.ctx.clone() }
    }

    fn at(&self, path: &str, flags: WalkFlags) -> Result<Path> {
        resolve(&self.ctx, self.ctx.root.clone(), path.as_bytes(), flags)
    }

    fn find(&self, path: &str) -> Result<Path> {
        self.at(path, WalkFlags::FOLLOW)
    }

    fn text(&self, path: &Path) -> String {
        String::from_utf8(path.to_bytes(&self.ctx.root)).unwrap()
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        namei::mkdir(&self.ctx, self.ctx.root.clone(), path.as_bytes(), 0o755)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let start = self.ctx.root.clone();
        namei::symlink(&self.ctx, target.as_bytes(), start, path.as_bytes())
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<()> {
        let start = self.ctx.root.clone();
        namei::rename(&self.ctx, start.clone(), old.as_bytes(), start, new.as_bytes(), flags)
    }

    fn unlink(&self, path: &str) -> Result<()> {
        namei::unlink(&self.ctx, self.ctx.root.clone(), path.as_bytes())
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        namei::rmdir(&self.ctx, self.ctx.root.clone(), path.as_bytes())
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>> {
        open_file(&self.ctx, path, flags)
    }

    fn write(&self, path: &str, text: &str) {
        let flags = OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::WRONLY;
        let file = self.open(path, flags).unwrap();
        let n = file.ops().write(&file, &mut BufSource::new(text.as_bytes()), 0);
        assert_eq!(n, Ok(text.len()));
    }

    fn read(&self, path: &str) -> String {
        let file = self.open(path, OpenFlags::empty()).unwrap();
        let mut buf = [0; 100];
        let n = file.ops().read(&file, &mut BufSink::new(&mut buf), 0).unwrap();
        String::from_utf8(buf[..n].to_vec()).unwrap()
    }
}

fn tmpfs(memory: &Arc<MemoryFile>) -> Arc<Mount> {
    let root = Tmpfs::mount(memory.clone(), TmpfsOptions::default());
    Mount::new(root.fs(), root, b"tmpfs", MountFlags::empty())
}

fn open_file(ctx: &WalkContext, path: &str, flags: OpenFlags) -> Result<Arc<File>> {
    let how = OpenHow { flags, mode: 0o644, resolve: WalkFlags::empty() };
    open_at(None, ctx, ctx.root.clone(), path.as_bytes(), how)
}

#[test]
fn dots_and_slashes() {
    let tree = Tree::new();
    tree.mkdir("/a").unwrap();
    tree.mkdir("/a/b/").unwrap();
    tree.write("/a/f", "x");
    assert_eq!(tree.text(&tree.find("//a/./b/../b//").unwrap()), "/a/b");
    assert_eq!(tree.text(&tree.find("/../../a").unwrap()), "/a");
    assert_eq!(tree.text(&tree.find("/").unwrap()), "/");
    assert_eq!(tree.find("").err(), Some(Errno::ENOENT));
    assert_eq!(tree.find("/a/f/").err(), Some(Errno::ENOTDIR));
    assert_eq!(tree.find("/a/f/.").err(), Some(Errno::ENOTDIR));
    assert_eq!(tree.find("/a/f/x").err(), Some(Errno::ENOTDIR));
    assert_eq!(tree.find("/a/none/x").err(), Some(Errno::ENOENT));
    assert_eq!(tree.find(&format!("/a/{}", "n".repeat(256))).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(tree.find(&format!("/a/{}", "n".repeat(255))).err(), Some(Errno::ENOENT));
}

#[test]
fn symbolic_links() {
    let tree = Tree::new();
    tree.mkdir("/d").unwrap();
    tree.write("/d/f", "hello");
    tree.symlink("d", "/link").unwrap();
    tree.symlink("/d/f", "/d/abs").unwrap();
    tree.symlink("../link/./abs", "/d/twice").unwrap();
    tree.symlink("loop2", "/loop1").unwrap();
    tree.symlink("loop1", "/loop2").unwrap();
    assert_eq!(tree.read("/link/twice"), "hello");
    tree.symlink("//d/", "/absdir").unwrap();
    assert_eq!(tree.read("/absdir/f"), "hello");
    assert_eq!(tree.text(&tree.find("/link/../d/twice").unwrap()), "/d/f");
    assert_eq!(tree.find("/loop1").err(), Some(Errno::ELOOP));
    let link = tree.at("/link", WalkFlags::empty()).unwrap();
    assert_eq!(link.dentry.file_type(), FileType::Symlink);
    // A slash behind a link asks for what it points to.
    assert!(tree.at("/link/", WalkFlags::empty()).unwrap().dentry.is_dir());
    assert_eq!(tree.find("/d/abs/").err(), Some(Errno::ENOTDIR));
    assert_eq!(tree.open("/link", OpenFlags::NOFOLLOW).err(), Some(Errno::ELOOP));
    let nofollow_dir = OpenFlags::NOFOLLOW | OpenFlags::DIRECTORY;
    assert_eq!(tree.open("/link", nofollow_dir).err(), Some(Errno::ENOTDIR));
    // Forty links are followed, one more is not.
    tree.write("/l0", "end");
    for i in 1..=41 {
        tree.symlink(&format!("l{}", i - 1), &format!("/l{i}")).unwrap();
    }
    assert_eq!(tree.read("/l40"), "end");
    assert_eq!(tree.find("/l41").err(), Some(Errno::ELOOP));
}

#[test]
fn creating_through_links() {
    let tree = Tree::new();
    tree.mkdir("/d").unwrap();
    tree.symlink("d/new", "/dangling").unwrap();
    let create = OpenFlags::CREAT | OpenFlags::RDWR;
    assert_eq!(tree.open("/dangling", create | OpenFlags::EXCL).err(), Some(Errno::EEXIST));
    assert_eq!(tree.open("/dangling", create | OpenFlags::NOFOLLOW).err(), Some(Errno::ELOOP));
    tree.write("/dangling", "made");
    assert_eq!(tree.read("/d/new"), "made");
    assert_eq!(tree.open("/d", create).err(), Some(Errno::EISDIR));
    assert_eq!(tree.open("/d/", create).err(), Some(Errno::EISDIR));
    assert_eq!(tree.open("/x/", create).err(), Some(Errno::EISDIR));
    assert_eq!(tree.open("/d/..", create).err(), Some(Errno::EISDIR));
    assert_eq!(tree.open("/d", OpenFlags::WRONLY).err(), Some(Errno::EISDIR));
    assert_eq!(tree.mkdir("/dangling").err(), Some(Errno::EEXIST));
    assert_eq!(tree.mkdir("/").err(), Some(Errno::EEXIST));
    assert_eq!(tree.symlink("x", "/none/").err(), Some(Errno::ENOENT));
}

#[test]
fn resolve_restrictions() {
    let tree = Tree::new();
    tree.mkdir("/jail").unwrap();
    tree.mkdir("/jail/sub").unwrap();
    tree.mkdir("/out").unwrap();
    tree.symlink("/out", "/jail/abs").unwrap();
    tree.symlink("../out", "/jail/rel").unwrap();
    tree.symlink("sub", "/jail/in").unwrap();
    tree.mkdir("/jail/out").unwrap();
    let jail = tree.find("/jail").unwrap();
    let walk = |path: &str, flags| {
        let flags = flags | WalkFlags::FOLLOW;
        resolve(&tree.ctx, jail.clone(), path.as_bytes(), flags).map(|p| tree.text(&p))
    };
    let beneath = WalkFlags::BENEATH;
    assert_eq!(walk("sub/../in", beneath).as_deref(), Ok("/jail/sub"));
    for path in ["..", "sub/../..", "/jail", "abs", "rel"] {
        assert_eq!(walk(path, beneath), Err(Errno::EXDEV), "{path}");
    }
    let in_root = WalkFlags::IN_ROOT;
    assert_eq!(walk("../../sub", in_root).as_deref(), Ok("/jail/sub"));
    assert_eq!(walk("abs", in_root).as_deref(), Ok("/jail/out"));
    assert_eq!(walk("rel", in_root).as_deref(), Ok("/jail/out"));
    assert_eq!(walk("in", WalkFlags::NO_SYMLINKS), Err(Errno::ELOOP));
}

#[test]
fn mounts() {
    let tree = Tree::new();
    tree.mkdir("/m").unwrap();
    tree.mkdir("/m/under").unwrap();
    let under = tree.find("/m").unwrap();
    let mount = tmpfs(&tree.memory);
    tree.namespace.attach(mount.clone(), &under).unwrap();
    tree.mkdir("/m/inner").unwrap();
    assert_eq!(tree.find("/m/under").err(), Some(Errno::ENOENT));
    let inner = tree.find("/m/inner").unwrap();
    assert!(Arc::ptr_eq(&inner.mount, &mount));
    assert_eq!(tree.text(&inner), "/m/inner");
    assert_eq!(tree.text(&tree.find("/m/inner/../../m").unwrap()), "/m");
    assert_eq!(tree.rmdir("/m"), Err(Errno::EBUSY));
    assert_eq!(tree.rename("/m", "/n", 0), Err(Errno::EBUSY));
    tree.write("/f", "x");
    assert_eq!(tree.rename("/f", "/m/f", 0), Err(Errno::EXDEV));
    assert_eq!(tree.at("/m", WalkFlags::NO_XDEV).err(), Some(Errno::EXDEV));
    // A second mount on top hides the first.
    tree.namespace.attach(tmpfs(&tree.memory), &tree.find("/m").unwrap()).unwrap();
    assert_eq!(tree.find("/m/inner").err(), Some(Errno::ENOENT));
    assert_eq!(tree.namespace.detach(&mount, false), Err(Errno::EBUSY));
    let top = tree.find("/m").unwrap().mount;
    tree.namespace.detach(&top, false).unwrap();
    assert!(tree.find("/m/inner").is_ok());
    // Read-only.
    mount.set_flags(MountFlags::RDONLY).unwrap();
    assert_eq!(tree.mkdir("/m/x"), Err(Errno::EROFS));
    let create = OpenFlags::CREAT | OpenFlags::WRONLY;
    assert_eq!(tree.open("/m/x", create).err(), Some(Errno::EROFS));
    drop(inner);
    tree.namespace.detach(&mount, false).unwrap();
    assert!(tree.find("/m/under").is_ok());
}

#[test]
fn bind_mounts() {
    let tree = Tree::new();
    for dir in ["/a", "/a/sub", "/b"] {
        tree.mkdir(dir).unwrap();
    }
    tree.namespace.attach(tmpfs(&tree.memory), &tree.find("/a/sub").unwrap()).unwrap();
    tree.write("/a/f", "shared");
    tree.write("/a/sub/g", "mounted");
    let bind = |recursive| {
        let copy = tree.namespace.copy_tree(&tree.find("/a").unwrap(), recursive).unwrap();
        tree.namespace.attach(copy.clone(), &tree.find("/b").unwrap()).unwrap();
        copy
    };
    let plain = bind(false);
    assert_eq!(tree.read("/b/f"), "shared");
    assert_eq!(tree.find("/b/sub/g").err(), Some(Errno::ENOENT));
    assert_eq!(tree.text(&tree.find("/b/sub").unwrap()), "/b/sub");
    tree.namespace.detach(&plain, false).unwrap();
    bind(true);
    assert_eq!(tree.read("/b/sub/g"), "mounted");
    assert_eq!(tree.namespace.mounts().len(), 4);
}

#[test]
fn chroot() {
    let tree = Tree::new();
    tree.mkdir("/jail").unwrap();
    tree.mkdir("/jail/d").unwrap();
    tree.symlink("/d", "/jail/link").unwrap();
    let root = tree.find("/jail").unwrap();
    let ctx = WalkContext { root: root.clone(), cwd: root.clone(), ..tree.ctx.clone() };
    let walk = |path: &str| {
        let found = resolve(&ctx, root.clone(), path.as_bytes(), WalkFlags::FOLLOW)?;
        Ok(String::from_utf8(found.to_bytes(&root)).unwrap())
    };
    assert_eq!(walk("/link").as_deref(), Ok("/d"));
    assert_eq!(walk("../../..").as_deref(), Ok("/"));
    assert_eq!(walk("d/../../d").as_deref(), Ok("/d"));
    assert_eq!(walk("/jail"), Err::<String, _>(Errno::ENOENT));
    // From inside, what lies outside cannot be reached.
    assert!(!tree.ctx.root.text(&root).reachable);
}

#[test]
fn removing() {
    let tree = Tree::new();
    tree.mkdir("/d").unwrap();
    tree.write("/d/f", "x");
    assert_eq!(tree.rmdir("/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(tree.rmdir("/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(tree.rmdir("/d/."), Err(Errno::EINVAL));
    assert_eq!(tree.rmdir("/d/.."), Err(Errno::ENOTEMPTY));
    assert_eq!(tree.rmdir("/"), Err(Errno::EBUSY));
    assert_eq!(tree.unlink("/d"), Err(Errno::EISDIR));
    assert_eq!(tree.unlink("/d/"), Err(Errno::EISDIR));
    assert_eq!(tree.unlink("/d/f/"), Err(Errno::ENOTDIR));
    assert_eq!(tree.unlink("/d/none"), Err(Errno::ENOENT));
    let file = tree.open("/d/f", OpenFlags::RDWR).unwrap();
    tree.unlink("/d/f").unwrap();
    assert_eq!(tree.find("/d/f").err(), Some(Errno::ENOENT));
    assert_eq!(file.attr().unwrap().nlink, 0);
    assert_eq!(tree.text(file.path().unwrap()), "/d/f (deleted)");
    let dir = tree.find("/d").unwrap();
    tree.rmdir("/d").unwrap();
    let inside = resolve_parent(&tree.ctx, dir, b"x").unwrap();
    let made = namei::mkdir(&tree.ctx, inside.dir, b"x", 0o755);
    assert_eq!(made, Err(Errno::ENOENT));
}

#[test]
fn renaming() {
    let tree = Tree::new();
    for dir in ["/a", "/a/b", "/c", "/empty"] {
        tree.mkdir(dir).unwrap();
    }
    tree.write("/f", "f");
    tree.write("/g", "g");
    assert_eq!(tree.rename("/a", "/a/b/x", 0), Err(Errno::EINVAL));
    assert_eq!(tree.rename("/a/b", "/a", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(tree.rename("/f", "/c", 0), Err(Errno::EISDIR));
    assert_eq!(tree.rename("/c", "/f", 0), Err(Errno::ENOTDIR));
    assert_eq!(tree.rename("/f", "/g", RENAME_NOREPLACE), Err(Errno::EEXIST));
    assert_eq!(tree.rename("/f", "/new/", 0), Err(Errno::ENOTDIR));
    assert_eq!(tree.rename("/", "/x", 0), Err(Errno::EBUSY));
    assert_eq!(tree.rename("/f", "/c/.", 0), Err(Errno::EBUSY));
    let open = tree.open("/f", OpenFlags::empty()).unwrap();
    tree.rename("/f", "/g", 0).unwrap();
    assert_eq!(tree.text(open.path().unwrap()), "/g");
    assert_eq!(tree.read("/g"), "f");
    assert_eq!(tree.find("/f").err(), Some(Errno::ENOENT));
    let b = tree.find("/a/b").unwrap();
    tree.rename("/a/b", "/c/moved", 0).unwrap();
    assert_eq!(tree.text(&b), "/c/moved");
    assert_eq!(tree.text(&tree.find("/c/moved/..").unwrap()), "/c");
    tree.rename("/a", "/empty", 0).unwrap();
    tree.rename("/c", "/g", RENAME_EXCHANGE).unwrap();
    assert_eq!(tree.read("/c"), "f");
    assert_eq!(tree.text(&b), "/g/moved");
    assert_eq!(tree.rename("/c", "/none", RENAME_EXCHANGE), Err(Errno::ENOENT));
}

#[test]
fn permissions_on_the_way() {
    let tree = Tree::new();
    tree.mkdir("/closed").unwrap();
    tree.write("/closed/f", "x");
    let set = |path: &str, mode| {
        let change = SetAttr { mode: Some(mode), ..SetAttr::default() };
        tree.find(path).unwrap().inode().set_attr(&change).unwrap();
    };
    let user = tree.as_user(1000);
    let open = |path: &str, flags| open_file(&user, path, flags).map(drop);
    assert_eq!(open("/closed/f", OpenFlags::empty()), Ok(()));
    assert_eq!(open("/closed/f", OpenFlags::WRONLY), Err(Errno::EACCES));
    assert_eq!(open("/closed/g", OpenFlags::CREAT), Err(Errno::EACCES));
    set("/closed", 0o700);
    assert_eq!(open("/closed/f", OpenFlags::empty()), Err(Errno::EACCES));
    assert_eq!(open("/closed/none", OpenFlags::empty()), Err(Errno::EACCES));
    set("/closed", 0o777);
    assert_eq!(open("/closed/mine", OpenFlags::CREAT | OpenFlags::EXCL), Ok(()));
    assert_eq!(tree.find("/closed/mine").unwrap().inode().attr().unwrap().uid, 1000);
    // Sticky: others' files stay.
    set("/closed", 0o1777);
    let unlink = |path: &str| namei::unlink(&user, user.root.clone(), path.as_bytes());
    assert_eq!(unlink("/closed/f"), Err(Errno::EPERM));
    assert_eq!(unlink("/closed/mine"), Ok(()));
    // Owner of the file system's root is needed for O_NOATIME.
    assert_eq!(open("/closed/f", OpenFlags::NOATIME), Err(Errno::EPERM));
}

#[test]
fn running_and_writing_exclude_each_other() {
    let tree = Tree::new();
    tree.write("/prog", "#!");
    let change = SetAttr { mode: Some(0o755), ..SetAttr::default() };
    tree.find("/prog").unwrap().inode().set_attr(&change).unwrap();
    let exec = || open::open_exec_at(&tree.ctx, tree.ctx.root.clone(), b"/prog", WalkFlags::FOLLOW);
    let writer = tree.open("/prog", OpenFlags::WRONLY).unwrap();
    assert_eq!(exec().err(), Some(Errno::ETXTBSY));
    drop(writer);
    let running = exec().unwrap();
    assert_eq!(tree.open("/prog", OpenFlags::WRONLY).err(), Some(Errno::ETXTBSY));
    assert!(tree.open("/prog", OpenFlags::empty()).is_ok());
    drop(running);
    assert!(tree.open("/prog", OpenFlags::RDWR).is_ok());
}

#[test]
fn unnamed_files_can_get_a_name() {
    let tree = Tree::new();
    let flags = OpenFlags::TMPFILE_BIT | OpenFlags::DIRECTORY | OpenFlags::RDWR;
    let file = tree.open("/", flags).unwrap();
    assert_eq!(file.attr().unwrap().nlink, 0);
    let path = file.path().unwrap().clone();
    namei::link(&tree.ctx, &path, tree.ctx.root.clone(), b"/named").unwrap();
    assert_eq!(file.attr().unwrap().nlink, 1);
    tree.unlink("/named").unwrap();
    assert_eq!(tree.find("/named").err(), Some(Errno::ENOENT));
}

#[test]
fn deep_trees_and_many_names() {
    let tree = Tree::new();
    // Deeper than any path is long, and dropped without recursion.
    let mut at = tree.find("/").unwrap();
    for _ in 0..20_000 {
        namei::mkdir(&tree.ctx, at.clone(), b"d", 0o755).unwrap();
        at = resolve(&tree.ctx, at, b"d", WalkFlags::empty()).unwrap();
    }
    drop(at);
    // More names than the cache holds: evicted ones are found again.
    let dir = tree.find("/").unwrap();
    for i in 0..50_000 {
        let name = format!("f{i}");
        namei::create_node(&tree.ctx, dir.clone(), name.as_bytes(), 0o100644, 0).unwrap();
    }
    assert!(tree.find("/f0").is_ok());
    for i in 0..50_000 {
        assert_eq!(tree.find(&format!("/none{i}")).err(), Some(Errno::ENOENT));
    }
    assert!(tree.find("/f49999").is_ok());
}

#[test]
fn threads_race_for_one_name() {
    let tree = Arc::new(Tree::new());
    let workers: Vec<_> = (0..4)
        .map(|i| {
            let tree = tree.clone();
            std::thread::spawn(move || {
                let mut made = 0;
                for _ in 0..2000 {
                    made += u32::from(tree.mkdir("/x").is_ok());
                    let _ = tree.rename("/x", &format!("/y{i}"), 0);
                    let _ = tree.rename(&format!("/y{i}"), "/x", 0);
                    made -= u32::from(tree.rmdir("/x").is_ok()).min(made);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    // Whatever is left, cache and file system agree about it.
    let root = tree.find("/").unwrap();
    for name in ["x", "y0", "y1", "y2", "y3"] {
        let cached = tree.find(&format!("/{name}")).is_ok();
        assert_eq!(cached, root.inode().lookup(name.as_bytes()).is_ok(), "{name}");
    }
}
