//! The line discipline (`N_TTY`): editing, echo, signals and flow control.
//!
//! Plain data: bytes typed go in at [`Discipline::input`], bytes a program writes at
//! [`Discipline::write`]; what the program may read and what is to be shown come out. Whatever else
//! has to happen (signals) is returned.

use super::termios::Termios;
use super::termios::bits::*;
use std::collections::VecDeque;

/// Most bytes that wait to be read (`N_TTY_BUF_SIZE` - 1).
const MAX_INPUT: usize = 4095;
/// Most bytes that wait to be shown.
pub const MAX_OUTPUT: usize = 65536;

/// A byte that can be read. The upper bits tell what it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell(u16);

impl Cell {
    const END: u16 = 0x100;
    const EOF: u16 = 0x200;

    fn byte(self) -> u8 {
        self.0 as u8
    }

    fn ends(self) -> bool {
        self.0 & (Self::END | Self::EOF) != 0
    }

    fn is_eof(self) -> bool {
        self.0 & Self::EOF != 0
    }
}

/// What typing a byte caused, beyond input and echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `SIGINT` for the foreground.
    Interrupt,
    /// `SIGQUIT` for the foreground.
    Quit,
    /// `SIGTSTP` for the foreground.
    Suspend,
    /// Output was stopped.
    Stopped,
    /// Output goes on.
    Started,
}

/// A terminal's input and output on their way through the line discipline.
#[derive(Default)]
pub struct Discipline {
    /// Attributes. Change them with [`Discipline::set_termios`].
    termios: Termios,
    input: VecDeque<Cell>,
    /// Cells of complete lines; the rest is being edited.
    complete: usize,
    /// The next byte is taken literally.
    literal: bool,
    /// Between `\` and `/` of `ECHOPRT`.
    erasing: bool,
    output: VecDeque<u8>,
    /// How much of the output is on its way: a signal's character drops the echo of what was typed
    /// together with it, but nothing older.
    shown: usize,
    /// Output is stopped (`^S`, `TCOOFF`).
    pub stopped: bool,
    column: usize,
    /// Column at which the line being edited began.
    line_column: usize,
}

impl Discipline {
    /// The attributes.
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Sets the attributes. Leaving canonical mode makes the unfinished line readable.
    pub fn set_termios(&mut self, new: Termios) {
        let was = self.termios.l(ICANON);
        self.termios = new;
        if was != new.l(ICANON) {
            self.complete = self.input.len();
            self.erasing = false;
            // What ended lines is forgotten: an end of file becomes the byte that stands for it.
            for cell in &mut self.input {
                cell.0 &= 0xff;
            }
            if new.l(ICANON)
                && let Some(last) = self.input.back_mut()
            {
                // What was typed before the switch can still be read.
                last.0 |= if last.0 == 0 { Cell::EOF } else { Cell::END };
            }
        }
        if !new.i(IXON) {
            self.stopped = false;
        }
    }

    /// Room for typed bytes; 0 stops whoever types. In canonical mode what is too much is dropped
    /// instead, or the line could never be ended.
    pub fn room(&self) -> usize {
        let free = MAX_INPUT.saturating_sub(self.input.len());
        if free == 0 && self.termios.l(ICANON) && self.complete == 0 { 1 } else { free }
    }

    /// Bytes that can be read now (`FIONREAD`).
    pub fn readable(&self) -> usize {
        if self.termios.l(ICANON) {
            self.input.iter().take(self.complete).filter(|c| !c.is_eof()).count()
        } else {
            self.input.len()
        }
    }

    /// True if a read finds something: a line, or, raw, at least `min` bytes.
    pub fn has_input(&self, min: usize) -> bool {
        if self.termios.l(ICANON) { self.complete > 0 } else { self.input.len() >= min.max(1) }
    }

    /// Takes up to `max` bytes, of at most one line in canonical mode.
    pub fn read(&mut self, max: usize) -> Vec<u8> {
        let canonical = self.termios.l(ICANON);
        let mut out = Vec::new();
        let limit = if canonical { self.complete } else { self.input.len() };
        for _ in 0..limit {
            let Some(cell) = self.input.front().copied() else { break };
            let at_end = canonical && cell.ends();
            if out.len() >= max && !cell.is_eof() {
                break;
            }
            self.input.pop_front();
            self.complete = self.complete.saturating_sub(1);
            if !cell.is_eof() {
                out.push(cell.byte());
            }
            if at_end {
                break;
            }
        }
        out
    }

    /// Drops what waits to be read.
    pub fn flush_input(&mut self) {
        self.input.clear();
        self.complete = 0;
        self.literal = false;
        self.erasing = false;
    }

    /// Drops what waits to be shown.
    pub fn flush_output(&mut self) {
        self.output.clear();
    }

    /// Bytes that wait to be shown.
    pub fn pending_output(&self) -> usize {
        self.output.len()
    }

    /// Takes bytes that are to be shown.
    pub fn take_output(&mut self, max: usize) -> Vec<u8> {
        let n = self.output.len().min(max);
        self.output.drain(..n).collect()
    }

    /// Room for output.
    pub fn output_room(&self) -> usize {
        if self.stopped { 0 } else { MAX_OUTPUT.saturating_sub(self.output.len()) }
    }

    /// Takes what a program writes; returns how many bytes.
    pub fn write(&mut self, data: &[u8]) -> usize {
        let mut done = 0;
        for &byte in data {
            // A byte may become eight: the blanks of a tabulator.
            if self.output_room() < 8 {
                break;
            }
            self.show(byte);
            done += 1;
        }
        done
    }

    /// Shows a byte after output processing.
    fn show(&mut self, byte: u8) {
        if !self.termios.o(OPOST) {
            self.output.push_back(byte);
            return;
        }
        let mut byte = byte;
        match byte {
            b'\n' => {
                if self.termios.o(ONLRET) {
                    self.column = 0;
                }
                if self.termios.o(ONLCR) {
                    self.column = 0;
                    self.line_column = 0;
                    self.output.push_back(b'\r');
                }
            }
            b'\r' => {
                if self.termios.o(ONOCR) && self.column == 0 {
                    return;
                }
                if self.termios.o(OCRNL) {
                    byte = b'\n';
                    if self.termios.o(ONLRET) {
                        self.column = 0;
                    }
                } else {
                    self.column = 0;
                    self.line_column = 0;
                }
            }
            b'\t' => {
                let blanks = 8 - (self.column & 7);
                self.column += blanks;
                if self.termios.oflag & XTABS == XTABS {
                    self.output.extend(std::iter::repeat_n(b' ', blanks));
                    return;
                }
            }
            8 => self.column = self.column.saturating_sub(1),
            _ => {
                if self.termios.o(OLCUC) {
                    byte = byte.to_ascii_uppercase();
                }
                if !is_control(byte) && !self.continues(byte) {
                    self.column += 1;
                }
            }
        }
        self.output.push_back(byte);
    }

    fn continues(&self, byte: u8) -> bool {
        self.termios.i(IUTF8) && byte & 0xc0 == 0x80
    }

    fn echo(&mut self, byte: u8) {
        if self.output.len() + 8 > MAX_OUTPUT {
            return;
        }
        if self.termios.l(ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.show(b'^');
            self.show(byte ^ 0x40);
        } else {
            self.show(byte);
        }
    }

    fn echo_raw(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.output.len() + 8 <= MAX_OUTPUT {
                self.show(byte);
            }
        }
    }

    fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.echo_raw(b"/");
        }
    }

    fn put(&mut self, byte: u8) {
        if self.input.len() < MAX_INPUT {
            self.input.push_back(Cell(u16::from(byte)));
        }
    }

    fn end_line(&mut self, cell: u16) {
        // The end of a line always fits: that is how a full buffer gets read.
        self.input.push_back(Cell(cell));
        self.complete = self.input.len();
    }

    fn editing(&self) -> usize {
        self.input.len() - self.complete
    }

    /// Bytes that are typed together follow.
    pub fn begin(&mut self) {
        self.shown = self.output.len();
    }

    /// A byte was typed.
    pub fn input(&mut self, byte: u8) -> Option<Effect> {
        let t = self.termios;
        let mut c = byte;
        if t.i(ISTRIP) {
            c &= 0x7f;
        }
        if t.i(IUCLC) && t.l(IEXTEN) {
            c = c.to_ascii_lowercase();
        }
        if t.l(EXTPROC) {
            self.put(c);
            self.complete_raw();
            return None;
        }
        if std::mem::take(&mut self.literal) {
            self.typed(c);
            return None;
        }
        let restarted = self.stopped && t.i(IXON) && t.i(IXANY);
        if restarted {
            self.stopped = false;
        }
        if t.i(IXON) {
            if t.is(VSTART, c) {
                self.stopped = false;
                return Some(Effect::Started);
            }
            if t.is(VSTOP, c) {
                self.stopped = true;
                return Some(Effect::Stopped);
            }
        }
        if t.l(ISIG) {
            let signals =
                [(VINTR, Effect::Interrupt), (VQUIT, Effect::Quit), (VSUSP, Effect::Suspend)];
            if let Some((_, effect)) = signals.into_iter().find(|(index, _)| t.is(*index, c)) {
                if !t.l(NOFLSH) {
                    self.flush_input();
                    self.output.truncate(self.shown);
                }
                if t.i(IXON) {
                    self.stopped = false;
                }
                if t.l(ECHO) {
                    self.echo(c);
                }
                return Some(effect);
            }
        }
        match c {
            b'\r' if t.i(IGNCR) => return None,
            b'\r' if t.i(ICRNL) => c = b'\n',
            b'\n' if t.i(INLCR) => c = b'\r',
            _ => {}
        }
        if t.l(ICANON) && self.edit(c) {
            return restarted.then_some(Effect::Started);
        }
        self.typed(c);
        restarted.then_some(Effect::Started)
    }

    /// An ordinary byte.
    fn typed(&mut self, c: u8) {
        let full = self.input.len() >= MAX_INPUT;
        if full && self.termios.l(ICANON) {
            if self.termios.i(IMAXBEL) {
                self.echo_raw(b"\x07");
            }
            return;
        }
        if self.termios.l(ECHO) {
            self.finish_erasing();
            if c == b'\n' {
                self.echo_raw(b"\n");
            } else {
                if self.editing() == 0 {
                    self.line_column = self.column;
                }
                self.echo(c);
            }
        }
        if c == 0xff && self.termios.i(PARMRK) {
            self.put(c);
        }
        self.put(c);
        self.complete_raw();
    }

    fn complete_raw(&mut self) {
        if !self.termios.l(ICANON) {
            self.complete = self.input.len();
        }
    }

    /// Canonical mode's special bytes. False if it is none.
    fn edit(&mut self, c: u8) -> bool {
        let t = self.termios;
        let extended = t.l(IEXTEN);
        if t.is(VERASE, c) || t.is(VKILL, c) || (t.is(VWERASE, c) && extended) {
            self.erase(c);
        } else if t.is(VLNEXT, c) && extended {
            self.literal = true;
            if t.l(ECHO) {
                self.finish_erasing();
                if t.l(ECHOCTL) {
                    self.echo_raw(b"^\x08");
                }
            }
        } else if t.is(VREPRINT, c) && t.l(ECHO) && extended {
            self.finish_erasing();
            self.echo(c);
            self.echo_raw(b"\n");
            let line: Vec<u8> = self.input.iter().skip(self.complete).map(|c| c.byte()).collect();
            for byte in line {
                self.echo(byte);
            }
        } else if c == b'\n' {
            if t.l(ECHO) || t.l(ECHONL) {
                self.echo_raw(b"\n");
            }
            self.end_line(u16::from(c) | Cell::END);
        } else if t.is(VEOF, c) {
            self.end_line(Cell::EOF);
        } else if t.is(VEOL, c) || (t.is(VEOL2, c) && extended) {
            if t.l(ECHO) {
                if self.editing() == 0 {
                    self.line_column = self.column;
                }
                self.echo(c);
            }
            self.end_line(u16::from(c) | Cell::END);
        } else {
            return false;
        }
        true
    }

    /// `ERASE`, `WERASE` and `KILL`.
    fn erase(&mut self, c: u8) {
        let t = self.termios;
        if self.editing() == 0 {
            return;
        }
        let kill = t.is(VKILL, c);
        if kill && (!t.l(ECHO) || !t.l(ECHOK) || !t.l(ECHOKE) || !t.l(ECHOE)) {
            self.input.truncate(self.complete);
            if t.l(ECHO) {
                self.finish_erasing();
                self.echo(c);
                if t.l(ECHOK) {
                    self.echo_raw(b"\n");
                }
            }
            return;
        }
        let word = !kill && !t.is(VERASE, c);
        let mut seen_word = false;
        while self.editing() > 0 {
            // All bytes of one character go together.
            let mut len = 1;
            let at = |this: &Self, back: usize| {
                this.input.get(this.input.len() - back).map_or(0, |c| c.byte())
            };
            while self.continues(at(self, len)) && len < self.editing() {
                len += 1;
            }
            let first = at(self, len);
            if word {
                let in_word = first.is_ascii_alphanumeric() || first == b'_' || first >= 0x80;
                if in_word {
                    seen_word = true;
                } else if seen_word {
                    break;
                }
            }
            self.input.truncate(self.input.len() - len);
            if t.l(ECHO) {
                self.unshow(c, first);
            }
            if !word && !kill {
                break;
            }
        }
        if self.editing() == 0 && t.l(ECHO) {
            self.finish_erasing();
        }
    }

    /// Removes an erased character from the screen.
    fn unshow(&mut self, c: u8, erased: u8) {
        let t = self.termios;
        if t.l(ECHOPRT) {
            if !self.erasing {
                self.erasing = true;
                self.echo_raw(b"\\");
            }
            self.echo(erased);
        } else if t.is(VERASE, c) && !t.l(ECHOE) {
            self.echo(c);
        } else if erased == b'\t' {
            // Back to where the tabulator began: as many columns as the text before it leaves.
            let mut columns = 0;
            let mut from_start = true;
            for cell in self.input.iter().skip(self.complete).rev() {
                let byte = cell.byte();
                if byte == b'\t' {
                    from_start = false;
                    break;
                }
                if is_control(byte) {
                    columns += if t.l(ECHOCTL) { 2 } else { 0 };
                } else if !self.continues(byte) {
                    columns += 1;
                }
            }
            if from_start {
                columns += self.line_column;
            }
            for _ in 0..8 - (columns & 7) {
                self.echo_raw(b"\x08");
            }
        } else {
            if is_control(erased) && t.l(ECHOCTL) {
                self.echo_raw(b"\x08 \x08");
            }
            if !is_control(erased) || t.l(ECHOCTL) {
                self.echo_raw(b"\x08 \x08");
            }
        }
    }
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(d: &mut Discipline, text: &[u8]) -> Vec<Effect> {
        text.iter().filter_map(|b| d.input(*b)).collect()
    }

    fn shown(d: &mut Discipline) -> String {
        String::from_utf8(d.take_output(usize::MAX)).unwrap()
    }

    #[test]
    fn lines() {
        let mut d = Discipline::default();
        typed(&mut d, b"ab");
        assert!(!d.has_input(1));
        typed(&mut d, b"c\rsecond\n");
        assert_eq!(shown(&mut d), "abc\r\nsecond\r\n");
        assert_eq!(d.readable(), 11);
        assert_eq!(d.read(2), b"ab");
        assert_eq!(d.read(100), b"c\n");
        assert_eq!(d.read(100), b"second\n");
        assert!(!d.has_input(1));
    }

    #[test]
    fn end_of_file() {
        let mut d = Discipline::default();
        typed(&mut d, b"abc\x04\x04");
        assert_eq!(d.read(3), b"abc");
        assert!(d.has_input(1));
        assert_eq!(d.read(3), b"");
        assert!(!d.has_input(1));
    }

    #[test]
    fn editing() {
        let mut d = Discipline::default();
        typed(&mut d, b"one two  \x17x\x7fy\n");
        assert_eq!(d.read(100), b"one y\n");
        typed(&mut d, b"gone\x15kept\n");
        assert_eq!(d.read(100), b"kept\n");
        shown(&mut d);
        typed(&mut d, b"a\x01\x7f");
        assert_eq!(shown(&mut d), "a^A\x08 \x08\x08 \x08");
        typed(&mut d, b"\t\x7f");
        assert_eq!(shown(&mut d), format!("\t{}", "\x08".repeat(7)));
        typed(&mut d, b"\x16\x03\n");
        assert_eq!(d.read(100), b"a\x03\n");
    }

    #[test]
    fn characters_of_several_bytes() {
        let mut d = Discipline::default();
        let mut t = Termios::default();
        t.iflag |= IUTF8;
        d.set_termios(t);
        typed(&mut d, "aé\x7f\n".as_bytes());
        assert_eq!(d.read(100), b"a\n");
        assert_eq!(shown(&mut d), "aé\x08 \x08\r\n");
    }

    #[test]
    fn signals_flush() {
        let mut d = Discipline::default();
        assert_eq!(typed(&mut d, b"abc\x03"), [Effect::Interrupt]);
        assert_eq!(shown(&mut d), "^C");
        typed(&mut d, b"x\n");
        assert_eq!(d.read(100), b"x\n");
        assert_eq!(typed(&mut d, b"\x1a\x1c"), [Effect::Suspend, Effect::Quit]);
    }

    #[test]
    fn flow_control() {
        let mut d = Discipline::default();
        assert_eq!(typed(&mut d, b"\x13"), [Effect::Stopped]);
        assert_eq!(d.write(b"x"), 0);
        assert_eq!(typed(&mut d, b"\x11"), [Effect::Started]);
        assert_eq!(d.write(b"x\n"), 2);
        assert_eq!(shown(&mut d), "x\r\n");
    }

    #[test]
    fn raw() {
        let mut d = Discipline::default();
        typed(&mut d, b"begun");
        let mut t = Termios::default();
        t.lflag &= !(ICANON | ISIG | ECHO);
        t.iflag = 0;
        d.set_termios(t);
        typed(&mut d, b"\x03\r");
        assert_eq!(d.read(100), b"begun\x03\r");
        for _ in 0..5000 {
            d.input(b'x');
        }
        assert_eq!((d.room(), d.readable()), (0, 4095));
    }

    #[test]
    fn a_full_line_can_be_ended() {
        let mut d = Discipline::default();
        typed(&mut d, &[b'x'; 6000]);
        assert!(d.room() > 0);
        typed(&mut d, b"\n");
        assert_eq!(d.read(10_000).len(), 4096);
    }
}
