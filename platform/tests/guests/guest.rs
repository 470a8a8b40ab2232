//! A guest for tests: hand-assembled code in one page, data in another, driven event by event.

use platform::{
    AddressSpace, Context, Event, Frames, MapSource, MemoryFile, PAGE_SIZE, PendingContext,
    Platform, PlatformError, Prot, Registers,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the code page is mapped.
pub const CODE: u64 = 0x40_0000;
/// Where the data page is mapped, writable.
pub const DATA: u64 = 0x60_0000;

/// `syscall`.
pub const SYSCALL: &[u8] = &[0x0f, 0x05];
/// `int3`.
pub const INT3: &[u8] = &[0xcc];
/// `jmp .`
pub const SPIN: &[u8] = &[0xeb, 0xfe];

/// `mov eax, value`.
pub fn mov_eax(value: u32) -> Vec<u8> {
    [&[0xb8][..], &value.to_le_bytes()].concat()
}

/// `mov dword [address], value`.
pub fn store(address: u64, value: u32) -> Vec<u8> {
    let address = u32::try_from(address).unwrap().to_le_bytes();
    [&[0xc7, 0x04, 0x25][..], &address, &value.to_le_bytes()].concat()
}

/// `mov eax, [address]`.
pub fn load(address: u64) -> Vec<u8> {
    [&[0x8b, 0x04, 0x25][..], &u32::try_from(address).unwrap().to_le_bytes()].concat()
}

/// Everything a test needs.
pub struct Guest {
    pub memory: Arc<MemoryFile>,
    pub platform: Arc<dyn Platform>,
    pub space: Arc<dyn AddressSpace>,
    pub context: Box<dyn Context>,
    pub code: Frames,
    pub data: Frames,
    pub regs: Registers,
    _serial: MutexGuard<'static, ()>,
}

/// Tests look at all stubs of this process, so they take turns.
pub fn serial() -> MutexGuard<'static, ()> {
    static SERIAL: Mutex<()> = Mutex::new(());
    SERIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    /// A guest with this code, about to run it.
    pub fn new(code: &[u8]) -> Self {
        let serial = serial();
        let memory = MemoryFile::new().unwrap();
        let platform = crate::new_platform(memory.clone()).unwrap();
        let (space, pending) = platform.new_address_space().unwrap();
        let (text, data) =
            (memory.allocate(PAGE_SIZE).unwrap(), memory.allocate(PAGE_SIZE).unwrap());
        text.write(0, code).unwrap();
        let rx = Prot::READ | Prot::EXEC;
        space.map(CODE, PAGE_SIZE, rx, MapSource::Frames(text.clone()), Vec::new());
        let rw = Prot::READ | Prot::WRITE;
        space.map(DATA, PAGE_SIZE, rw, MapSource::Frames(data.clone()), Vec::new());
        let context = pending.attach().unwrap();
        let regs = Registers::at_entry(CODE, DATA + PAGE_SIZE);
        Self { memory, platform, space, context, code: text, data, regs, _serial: serial }
    }

    /// Ends everything, with the turn still this test's: whoever looks for what is left must not see the next one's stubs.
    pub fn end(self) -> MutexGuard<'static, ()> {
        let Self { _serial: turn, .. } = self;
        turn
    }

    /// Runs to the next event that is not a spurious interrupt.
    pub fn step(&mut self) -> Event {
        step(&mut *self.context, &mut self.regs)
    }

    /// Replaces the code and starts over.
    pub fn load(&mut self, code: &[u8]) {
        self.code.write(0, code).unwrap();
        self.regs = Registers::at_entry(CODE, DATA + PAGE_SIZE);
    }
}

/// Runs to the next event that is not a spurious interrupt.
pub fn step(context: &mut dyn Context, regs: &mut Registers) -> Event {
    loop {
        match context.switch(regs).unwrap() {
            Event::Interrupted => {}
            event => {
                context.load_registers(regs).unwrap();
                return event;
            }
        }
    }
}

/// Attaches on a new thread and runs `body` there.
pub fn on_thread<T: Send + 'static>(
    pending: Box<dyn PendingContext>,
    body: impl FnOnce(Box<dyn Context>) -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || body(pending.attach().unwrap()))
}

/// Host process ids of this process's children that are stubs.
pub fn stubs() -> Vec<i32> {
    let me = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok());
        if parent == Some(me) {
            found.push(pid);
        }
    }
    found
}

/// Process ids of the stubs that appear while `make` runs.
pub fn new_stubs<T>(make: impl FnOnce() -> T) -> (T, Vec<i32>) {
    let before = stubs();
    let made = make();
    (made, stubs().into_iter().filter(|pid| !before.contains(pid)).collect())
}

/// Whether the guest process was gone.
pub fn died<T>(result: platform::Result<T>) -> bool {
    matches!(result, Err(PlatformError::StubDied))
}
