//! A socket's filter (`SO_ATTACH_FILTER` of `socket(7)`): a program of classic BPF that says of each packet whether the
//! socket gets it, and how much of it.

use super::Options;
use super::options::so;
use crate::bpf::packet::PacketInput;
use crate::bpf::{INSTRUCTION_SIZE, MAX_INSTRUCTIONS, Program};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::sync::{RwLock, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Attaches a filter.
pub const SO_ATTACH_FILTER: i32 = 26;
/// Takes it away.
pub const SO_DETACH_FILTER: i32 = 27;
/// Size of a `struct sock_fprog`.
const FPROG: usize = 16;

/// The filter of a socket, if it has one.
#[derive(Default)]
pub struct SocketFilter {
    /// So that sockets without a filter take no lock.
    attached: AtomicBool,
    program: RwLock<Option<Arc<Program>>, { rank::LEAF }>,
}

impl SocketFilter {
    /// Attaches or takes away a filter; `None` for other options. `EPERM` after `SO_LOCK_FILTER`, `EINVAL`, `EFAULT`,
    /// `ENOENT`.
    pub fn set(
        &self,
        t: &CurrentTask,
        options: &Options,
        name: i32,
        value: &[u8],
    ) -> Option<Result<()>> {
        match name {
            SO_ATTACH_FILTER => Some(self.attach(t, options, value)),
            SO_DETACH_FILTER => Some(self.detach(options)),
            _ => None,
        }
    }

    fn attach(&self, t: &CurrentTask, options: &Options, value: &[u8]) -> Result<()> {
        let value: [u8; FPROG] = value.try_into().map_err(|_| Errno::EINVAL)?;
        let [a, b, _, _, _, _, _, _, at @ ..] = value;
        if options.is_on(so::LOCK_FILTER) {
            return Err(Errno::EPERM);
        }
        let len = usize::from(u16::from_le_bytes([a, b]));
        let at = u64::from_le_bytes(at);
        if at == 0 || len == 0 || len > MAX_INSTRUCTIONS {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; len * INSTRUCTION_SIZE];
        t.mm().read(UserAddr(at), &mut bytes)?;
        let program = Program::verify(&Program::parse(&bytes))?;
        *self.program.write() = Some(Arc::new(program));
        self.attached.store(true, Ordering::Release);
        Ok(())
    }

    fn detach(&self, options: &Options) -> Result<()> {
        if options.is_on(so::LOCK_FILTER) {
            return Err(Errno::EPERM);
        }
        let old = self.program.write().take();
        self.attached.store(false, Ordering::Release);
        old.map(drop).ok_or(Errno::ENOENT)
    }

    /// True if packets have to be shown to it.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// How many bytes of a packet the socket gets; 0 when it gets none of it.
    pub fn admits(&self, packet: &PacketInput<'_>) -> usize {
        if !self.is_attached() {
            return usize::MAX;
        }
        let program = self.program.read().clone();
        program.map_or(usize::MAX, |program| program.run(packet).unwrap_or(0) as usize)
    }
}
