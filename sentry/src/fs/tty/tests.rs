use super::discipline::Discipline;
use super::termios::bits::{ICANON, VMIN};
use super::*;

// The files of both sides need a kernel; they are tested with real programs. Here: what a terminal
// does without one.

#[test]
fn a_terminal_keeps_its_modes() {
    let mut d = Discipline::default();
    let mut t = *d.termios();
    t.lflag &= !ICANON;
    t.cc[VMIN] = 3;
    d.set_termios(t);
    for byte in b"ab" {
        d.input(*byte);
    }
    assert!(d.has_input(1) && !d.has_input(3));
    d.input(b'c');
    assert!(d.has_input(3));
    assert_eq!(d.termios(), &t);
}

#[test]
fn device_numbers() {
    assert_eq!(Device { major: PTS_MAJOR, minor: 3 }.rdev(), 0x8803);
}
