//! Programs, good and bad, on a platform that only keeps books.

use super::*;
use crate::io::Sink;
use crate::mm::tests::fake::{Nothing, Random};
use crate::mm::{PAGE_SIZE, SharedMemory, UserAddr};
use crate::vfs::{FileOps, Mappable, OpenFlags};
use std::any::Any;
use std::collections::HashMap;

/// A file in memory.
struct Bytes {
    bytes: Vec<u8>,
    memory: Arc<SharedMemory>,
}

impl FileOps for Bytes {
    fn read(&self, _: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        dst.put(self.bytes.get(offset as usize..).unwrap_or_default())
    }
    fn seekable(&self) -> bool {
        true
    }
    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Ok(self.memory.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct World {
    memory: Arc<MemoryFile>,
    vdso: Vdso,
    files: HashMap<Vec<u8>, Vec<u8>>,
}

impl World {
    fn new() -> World {
        let memory = MemoryFile::new().unwrap();
        World { vdso: Vdso::new(&memory).unwrap(), memory, files: HashMap::new() }
    }

    fn add(&mut self, path: &str, bytes: &[u8]) {
        self.files.insert(path.into(), bytes.into());
    }

    fn open(&self, path: &[u8]) -> Result<Arc<File>> {
        let bytes = self.files.get(path).ok_or(Errno::ENOENT)?.clone();
        let memory = SharedMemory::new(&self.memory, bytes.len().max(1) as u64)?;
        memory.frames().write(0, &bytes).unwrap();
        let ops = Bytes { bytes, memory: Arc::new(memory) };
        Ok(File::new(Arc::new(ops), None, OpenFlags::empty()))
    }

    fn load(&self, path: &str, argv: &[&str]) -> Result<Loaded> {
        load(LoadRequest {
            platform: &Nothing,
            memory: &self.memory,
            vdso: &self.vdso,
            shifts: self.vdso.shifts(&self.memory, (0, 0))?,
            file: self.open(path.as_bytes())?,
            filename: path.into(),
            inaccessible: false,
            argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
            envp: vec![b"HOME=/".to_vec(), b"A=b".to_vec()],
            limits: Limits::default(),
            randomize: true,
            open: &|path| self.open(path),
            credentials: &|_| Ok((Arc::default(), false)),
        })
    }
}

/// A program of a text and a data segment, the latter with zeroed memory behind it.
fn program(kind: u16, interpreter: Option<&str>) -> Vec<u8> {
    let base: u64 = if kind == 2 { 0x40_0000 } else { 0 };
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let half = |b: &mut Vec<u8>, v: u16| b.extend(v.to_le_bytes());
    let word = |b: &mut Vec<u8>, v: u64| b.extend(v.to_le_bytes());
    half(&mut bytes, kind);
    half(&mut bytes, 62);
    bytes.extend(1u32.to_le_bytes());
    for value in [base + 0x800, 64, 0] {
        word(&mut bytes, value);
    }
    bytes.extend(0u32.to_le_bytes());
    for value in [64, 56, if interpreter.is_some() { 3 } else { 2 }, 64, 0, 0] {
        half(&mut bytes, value);
    }
    let mut segments = vec![
        (1u32, 5u32, 0u64, base, 0x1000u64, 0x1000u64, 0x1000u64),
        (1, 6, 0x1100, base + 0x2100, 0x80, 0x3000, 0x1000),
    ];
    if let Some(path) = interpreter {
        segments.push((3, 4, 0x900, base + 0x900, path.len() as u64 + 1, path.len() as u64 + 1, 1));
    }
    for (kind, flags, offset, vaddr, filesz, memsz, align) in segments {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for value in [offset, vaddr, vaddr, filesz, memsz, align] {
            word(&mut bytes, value);
        }
    }
    bytes.resize(0x1200, 0xcc);
    if let Some(path) = interpreter {
        bytes[0x900..0x900 + path.len()].copy_from_slice(path.as_bytes());
        bytes[0x900 + path.len()] = 0;
    }
    bytes
}

fn word(mm: &MemoryManager, at: u64) -> u64 {
    mm.read_obj(UserAddr(at)).unwrap()
}

fn text(mm: &MemoryManager, at: u64) -> String {
    String::from_utf8(mm.read_cstr(UserAddr(at), 4096).unwrap()).unwrap()
}

/// The auxiliary vector, found on the stack.
fn auxv(loaded: &Loaded, argc: u64, envc: u64) -> HashMap<u64, u64> {
    let mut at = loaded.stack_pointer + 8 * (1 + argc + 1 + envc + 1);
    let mut all = HashMap::new();
    while word(&loaded.mm, at) != 0 {
        all.insert(word(&loaded.mm, at), word(&loaded.mm, at + 8));
        at += 16;
    }
    all
}

#[test]
fn a_fixed_program() {
    let mut world = World::new();
    world.add("/bin/x", &program(2, None));
    let loaded = world.load("/bin/x", &["x", "one"]).unwrap();
    let (mm, sp) = (&loaded.mm, loaded.stack_pointer);
    assert_eq!(loaded.entry, 0x40_0800);
    assert_eq!(sp % 16, 0);
    assert_eq!(word(mm, sp), 2);
    assert_eq!(text(mm, word(mm, sp + 8)), "x");
    assert_eq!(text(mm, word(mm, sp + 16)), "one");
    assert_eq!(word(mm, sp + 24), 0);
    assert_eq!(text(mm, word(mm, sp + 40)), "A=b");
    let aux = auxv(&loaded, 2, 2);
    assert_eq!(text(mm, aux[&31]), "/bin/x");
    assert_eq!(text(mm, aux[&15]), "x86_64");
    assert_eq!((aux[&3], aux[&4], aux[&5], aux[&7]), (0x40_0040, 56, 2, 0));
    let mut magic = [0; 4];
    mm.read(UserAddr(aux[&33]), &mut magic).unwrap();
    assert_eq!(&magic, b"\x7fELF");
    // Data, and zeroes behind it up to the end of the segment.
    assert_eq!(word(mm, 0x40_2178), 0xcccc_cccc_cccc_cccc);
    assert_eq!(word(mm, 0x40_2180), 0);
    assert_eq!(word(mm, 0x40_5080), 0);
    assert!(mm.write(UserAddr(0x40_0000), b"x").is_err());
    mm.write(UserAddr(0x40_2100), b"x").unwrap();
    assert!(mm.brk(UserAddr(0)).0 >= 0x40_6000);
    let info = mm.exec_info();
    let mut args = vec![0; (info.args.end - info.args.start) as usize];
    mm.read(UserAddr(info.args.start), &mut args).unwrap();
    assert_eq!(args, b"x\0one\0");
    // The file's own page was not touched.
    let again = world.load("/bin/x", &["x"]).unwrap();
    assert_eq!(word(&again.mm, 0x40_2100), 0xcccc_cccc_cccc_cccc);
}

#[test]
fn a_movable_program_with_an_interpreter() {
    let mut world = World::new();
    world.add("/bin/x", &program(3, Some("/lib/ld.so")));
    assert_eq!(world.load("/bin/x", &["x"]).err(), Some(Errno::ENOENT));
    world.add("/lib/ld.so", b"no interpreter, but long enough for the header of one: 0123456789");
    assert_eq!(world.load("/bin/x", &["x"]).err().map(Errno::raw), Some(80));
    world.add("/lib/ld.so", b"short");
    assert_eq!(world.load("/bin/x", &["x"]).err(), Some(Errno::EIO));
    world.add("/lib/ld.so", &program(3, None));
    let loaded = world.load("/bin/x", &["x"]).unwrap();
    let aux = auxv(&loaded, 1, 2);
    assert_eq!(loaded.entry, aux[&7] + 0x800);
    assert_ne!(aux[&9], loaded.entry);
    assert_eq!(aux[&3], aux[&9] - 0x800 + 0x40);
    assert!(aux[&9] >= 0x5555_5555_0000 && aux[&9] < 0x6655_5555_0000, "{:#x}", aux[&9]);
}

#[test]
fn scripts() {
    let mut world = World::new();
    world.add("/bin/x", &program(2, None));
    world.add("/s1", b"#!/bin/x -opt  more \nrest");
    let loaded = world.load("/s1", &["zero", "arg"]).unwrap();
    let (mm, sp) = (&loaded.mm, loaded.stack_pointer);
    let argv: Vec<String> = (0..word(mm, sp)).map(|i| text(mm, word(mm, sp + 8 + i * 8))).collect();
    assert_eq!(argv, ["/bin/x", "-opt  more", "/s1", "arg"]);
    for i in 2..=7 {
        world.add(&format!("/s{i}"), format!("#!/s{}", i - 1).as_bytes());
    }
    assert!(world.load("/s5", &["x"]).is_ok());
    assert_eq!(world.load("/s6", &["x"]).err(), Some(Errno::ELOOP));
    world.add("/gone", b"#!/nothing");
    assert_eq!(world.load("/gone", &["x"]).err(), Some(Errno::ENOENT));
    world.add("/text", b"hello\n");
    assert_eq!(world.load("/text", &["x"]).err(), Some(Errno::ENOEXEC));
    world.add("/empty", b"");
    assert_eq!(world.load("/empty", &["x"]).err(), Some(Errno::ENOEXEC));
}

#[test]
fn too_many_arguments() {
    let mut world = World::new();
    world.add("/bin/x", &program(2, None));
    let long = "a".repeat(128 * 1024);
    assert_eq!(world.load("/bin/x", &[&long]).err(), Some(Errno::E2BIG));
    assert!(world.load("/bin/x", &[&long[1..]]).is_ok());
    let many = vec![&long[1..]; 17];
    assert_eq!(world.load("/bin/x", &many).err(), Some(Errno::E2BIG));
    assert!(world.load("/bin/x", &many[..15]).is_ok());
    // No arguments at all: Linux gives one empty one.
    let loaded = world.load("/bin/x", &[]).unwrap();
    assert_eq!(word(&loaded.mm, loaded.stack_pointer), 1);
}

#[test]
fn corrupt_headers() {
    let mut random = Random::new(3);
    let interesting = [0u64, 1, 0x1000, u64::MAX, i64::MAX as u64, 1 << 47, u64::MAX - 0xfff];
    let mut loaded = 0;
    for round in 0..3000 {
        let mut world = World::new();
        let kind = 2 + (round % 2) as u16;
        let interpreter = (round % 3 == 0).then_some("/lib/ld.so");
        let mut bytes = program(kind, interpreter);
        let mut other = program(3, None);
        for _ in 0..=random.below(4) {
            let victim = if random.below(4) == 0 { &mut other } else { &mut bytes };
            let at = random.below(64 + 3 * 56) as usize;
            match random.below(3) {
                0 => victim[at] = random.below(256) as u8,
                1 => victim[at] ^= 1 << random.below(8),
                _ => {
                    let value = interesting[random.below(7) as usize];
                    let at = at & !7;
                    victim[at..at + 8].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        if random.below(5) == 0 {
            bytes.truncate(random.below(0x1200) as usize);
        }
        world.add("/bin/x", &bytes);
        world.add("/lib/ld.so", &other);
        loaded += u32::from(world.load("/bin/x", &["x"]).is_ok());
        let memory = world.memory.clone();
        let held = (world.vdso.clock(), memory.committed_bytes().unwrap());
        assert!(held.1 < 64 * PAGE_SIZE, "{} bytes are left", held.1);
    }
    assert!(loaded > 100, "most corruptions were refused: is anything loaded at all?");
}
