//! Call sites: what code around a `syscall` instruction can be patched, and with what.
//!
//! Five bytes, a whole instruction or the first ones of two, become a jump (`e9`) to a *slot*: 32 bytes within
//! its reach that do what the site did, by way of the gate ([`super::gate`]), and jump back. Threads may be anywhere while the
//! page is replaced:
//!
//! * [`Form::Load`], `mov $nr, %eax; syscall`: the `mov` is replaced by one instruction of its length and
//!   `syscall` stays, so every address that could be in a program counter means the same as before.
//! * [`Form::Tail`], `syscall` and an instruction of three to six bytes behind it, or `ret` and two bytes that nobody
//!   comes to: a thread whose call is under way
//!   comes back in the middle of the jump. The slot is chosen such that the byte there is no instruction
//!   ([`INVALID`]); the `SIGILL` is answered by going on in the slot ([`super::context`]).

/// Bytes of a slot.
pub const SLOT: u64 = 32;

/// Length of the jump.
const JUMP: usize = 5;
/// Length of `syscall`.
const SYSCALL: u64 = 2;
/// Length of the `lea` behind it in a slot.
const LEA: u64 = 7;

/// Bytes that raise an invalid-opcode exception wherever 64-bit code begins with them.
const INVALID: [u8; 17] = [
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce,
    0xd4,
];

/// How a site looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `mov $nr, %eax; syscall`, with the number.
    Load([u8; 4]),
    /// `syscall` and an instruction, with its length and bytes.
    Tail(u8, [u8; 6]),
}

/// A call site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Address of the bytes that are replaced.
    pub at: u64,
    /// What they are.
    pub form: Form,
}

impl Site {
    /// The site of a `syscall` that ends at `rip`, in the page at `start`, when it made call `number`.
    pub fn find(page: &[u8], start: u64, rip: u64, number: u64) -> Option<Self> {
        let end = usize::try_from(rip.checked_sub(start)?).ok()?;
        if page.get(end.checked_sub(2)?..end)? != [0x0f, 0x05] {
            return None;
        }
        if let Some((len, bytes)) = page.get(end..).and_then(tail) {
            return Some(Self { at: rip - SYSCALL, form: Form::Tail(len, bytes) });
        }
        // A prefix before the instruction would make it load another register.
        let [prefix, 0xb8, load @ ..] = page.get(end.checked_sub(8)?..end - 2)? else {
            return None;
        };
        let load: [u8; 4] = load.try_into().ok()?;
        let prefixed = matches!(prefix, 0x40..=0x4f | 0x66 | 0xd5);
        let same = u64::from(u32::from_le_bytes(load)) == number;
        (same && !prefixed).then_some(Self { at: rip - 7, form: Form::Load(load) })
    }

    /// Whether the site can use the slot at this address.
    pub fn can_use(&self, slot: u64) -> bool {
        let Some([_, byte, _, _]) = self.distance(slot).map(i32::to_le_bytes) else { return false };
        matches!(self.form, Form::Load(_)) || INVALID.contains(&byte)
    }

    /// What the jump to a slot adds to the program counter.
    fn distance(&self, slot: u64) -> Option<i32> {
        displacement(slot, self.at + JUMP as u64)
    }

    /// The bytes to put at the site.
    pub fn jump(&self, slot: u64) -> Option<[u8; JUMP]> {
        let mut jump = [0xe9; JUMP];
        jump.get_mut(1..)?.copy_from_slice(&self.distance(slot)?.to_le_bytes());
        Some(jump)
    }

    /// The slot's bytes. `entry` leads to the gate.
    pub fn slot(&self, slot: u64, entry: u64) -> Option<[u8; SLOT as usize]> {
        let mut code = Vec::with_capacity(SLOT as usize);
        if let Form::Load(number) = self.form {
            code.push(0xb8);
            code.extend(number);
        }
        // lea JUMP(%rip), %rcx: behind the jump that follows.
        code.extend([0x48, 0x8d, 0x0d, JUMP as u8, 0, 0, 0]);
        code.push(0xe9);
        code.extend(displacement(entry, slot + code.len() as u64 + 4)?.to_le_bytes());
        code.extend([0x0f, 0x05]);
        // lea after_call(%rip), %rcx: what the instruction leaves there at its own place.
        code.extend([0x48, 0x8d, 0x0d]);
        code.extend(displacement(self.after_call(), slot + code.len() as u64 + 4)?.to_le_bytes());
        if let Form::Tail(len, bytes) = self.form {
            code.extend(bytes.get(..len.into())?);
        }
        code.push(0xe9);
        code.extend(displacement(self.end(), slot + code.len() as u64 + 4)?.to_le_bytes());
        code.resize(SLOT as usize, 0xcc);
        code.try_into().ok()
    }

    /// Where in its slot a site's own `syscall` is, in bytes.
    pub fn real_call(&self) -> u64 {
        match self.form {
            Form::Load(_) => 17,
            Form::Tail(..) => 12,
        }
    }

    /// Behind the `syscall` of the site.
    pub fn after_call(&self) -> u64 {
        match self.form {
            Form::Load(_) => self.at + 7,
            Form::Tail(..) => self.at + SYSCALL,
        }
    }

    /// Where the slot goes on.
    fn end(&self) -> u64 {
        match self.form {
            Form::Load(_) => self.at + 7,
            Form::Tail(len, _) => self.at + SYSCALL + u64::from(len),
        }
    }

    /// The program counter of unpatched code that is where this one is in the slot. (Registers agree, but for those
    /// that the system call changes anyway, and `rcx` where [`Site::lacks_rcx`].)
    pub fn original(&self, in_slot: u64) -> u64 {
        let call = self.real_call();
        match self.form {
            // The number is in place, so that the instruction itself is next.
            Form::Load(_) if in_slot == call => self.at + 5,
            _ if in_slot <= call => self.at,
            // The instruction behind it has not been executed yet.
            _ if in_slot <= call + SYSCALL + LEA => self.after_call(),
            _ => self.end(),
        }
    }

    /// Whether a thread at this offset of the slot still has the slot's address in `rcx`, behind its call.
    pub fn lacks_rcx(&self, in_slot: u64) -> bool {
        in_slot == self.real_call() + SYSCALL
    }

    /// Where a thread that is at this address goes on, now that the site is patched: its slot's offset, if it cannot
    /// be there any more.
    pub fn inside(&self, rip: u64) -> Option<u64> {
        let tail = matches!(self.form, Form::Tail(..));
        (tail && rip == self.at + SYSCALL).then(|| self.real_call() + SYSCALL + LEA)
    }
}

/// An instruction that means the same elsewhere and is long enough, with its length.
fn tail(code: &[u8]) -> Option<(u8, [u8; 6])> {
    let len = match *code {
        // cmp $imm32, %rax
        [0x48, 0x3d, ..] => 6,
        // cmp $imm8, %rax
        [0x48, 0x83, 0xf8, ..] => 4,
        // mov, test and movslq between registers
        [0x48 | 0x49, 0x89 | 0x85, 0xc0..=0xff, ..]
        | [0x48 | 0x4c, 0x63 | 0x8b, 0xc0..=0xff, ..] => 3,
        // ret, and what fills up to the next function
        [0xc3, ref behind @ ..] if is_filler(behind) => 1,
        _ => return None,
    };
    let mut bytes = [0; 6];
    bytes.get_mut(..len)?.copy_from_slice(code.get(..len)?);
    Some((len as u8, bytes))
}

/// Whether no thread comes to the two bytes behind a `ret`: they begin an instruction that does nothing.
fn is_filler(code: &[u8]) -> bool {
    matches!(
        code,
        [0xcc, 0xcc, ..]
            | [0x90, 0x90, ..]
            | [0x66, 0x90, ..]
            | [0x0f, 0x1f, ..]
            | [0x66, 0x0f, 0x1f, ..]
            | [0x66, 0x66 | 0x2e, 0x2e | 0x66 | 0x0f, ..]
    )
}

fn displacement(to: u64, from: u64) -> Option<i32> {
    i32::try_from(to.wrapping_sub(from) as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 0x7f00_0000_1000;

    fn find(code: &[u8], end: usize, number: u64) -> Option<Site> {
        Site::find(code, PAGE, PAGE + end as u64, number)
    }

    #[test]
    fn sites_are_told_from_others() {
        let load = [0x90, 0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x31, 0xc0];
        let site = find(&load, 8, 110).unwrap();
        assert_eq!(site, Site { at: PAGE + 1, form: Form::Load([110, 0, 0, 0]) });
        assert_eq!(find(&load, 8, 111), None);
        assert_eq!(find(&load, 7, 110), None);
        // mov $110, %r8d
        assert_eq!(find(&[0x41, 0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3], 8, 110), None);
        // With room behind the `ret`, the number stays.
        let padded = [0x90, 0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x66, 0x2e, 0x0f, 0x1f];
        let site = find(&padded, 8, 110).unwrap();
        assert_eq!(site, Site { at: PAGE + 6, form: Form::Tail(1, [0xc3, 0, 0, 0, 0, 0]) });
        let compare = [0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77];
        let site = find(&compare, 4, 0).unwrap();
        assert_eq!((site.at, site.after_call()), (PAGE + 2, PAGE + 4));
        assert_eq!(site.form, Form::Tail(6, [0x48, 0x3d, 0, 0xf0, 0xff, 0xff]));
        // Behind the page's end, nothing is known.
        assert_eq!(find(&compare[..9], 4, 0), None);
        assert_eq!(find(&[0x0f, 0x05, 0xc3], 2, 0), None);
        assert_eq!(find(&[0x0f, 0x05], 300, 0), None);
    }

    #[test]
    fn slots_do_what_the_site_did() {
        let site = Site { at: PAGE + 2, form: Form::Tail(6, [0x48, 0x3d, 0, 0xf0, 0xff, 0xff]) };
        let slot = site.at + 5 + 0x10_0600;
        assert!(site.can_use(slot) && !site.can_use(slot + 0x100 * 2));
        assert_eq!(site.jump(slot), Some([0xe9, 0, 6, 0x10, 0]));
        let code = site.slot(slot, slot - 0x600).unwrap();
        assert_eq!(code[12..17], [0x0f, 0x05, 0x48, 0x8d, 0x0d]);
        assert_eq!(code[21..28], [0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0xe9]);
        let leads = |code: &[u8], end: usize| {
            let distance = i32::from_le_bytes(code[end - 4..end].try_into().unwrap());
            (slot + end as u64).wrapping_add_signed(distance.into())
        };
        assert_eq!(
            [12, 21, 32].map(|end| leads(&code, end)),
            [slot - 0x600, site.at + 2, site.at + 8]
        );
        assert_eq!(
            [0, 7, 12, 14, 21, 27].map(|at| site.original(at) - site.at),
            [0, 0, 0, 2, 2, 8]
        );
        assert_eq!((site.lacks_rcx(14), site.lacks_rcx(21)), (true, false));
        assert_eq!((site.inside(site.at + 2), site.inside(site.at)), (Some(21), None));
        let far = slot + (4 << 30);
        assert_eq!((site.can_use(far), site.jump(far), site.slot(far, far)), (false, None, None));
        let load = Site { at: PAGE + 2, form: Form::Load([39, 0, 0, 0]) };
        let code = load.slot(slot, slot - 0x600).unwrap();
        assert_eq!(
            (&code[..5], &code[17..20]),
            (&[0xb8, 39, 0, 0, 0][..], &[0x0f, 0x05, 0x48][..])
        );
        assert_eq!(
            [17, 26, 31].map(|end| leads(&code, end)),
            [slot - 0x600, site.at + 7, site.at + 7]
        );
        assert_eq!(
            [0, 5, 12, 17, 19, 26].map(|at| load.original(at) - load.at),
            [0, 0, 0, 5, 7, 7]
        );
        assert_eq!(load.inside(load.at + 5), None);
    }
}
