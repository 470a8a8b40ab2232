//! Pseudo terminals: the line discipline, window sizes, job control and hanging up.

use crate::prelude::*;

/// Opens a pair; the master does not become the controlling terminal.
fn open_pair() -> (i32, i32) {
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).fd();
    ioctl(master, TIOCSPTLCK, at(&0i32));
    (master, open(&slave_path(master), O_RDWR | O_NOCTTY, 0).fd())
}
fn slave_path(master: i32) -> CString {
    let mut number = -1i32;
    ioctl(master, TIOCGPTN, at_mut(&mut number));
    CString::new(format!("/dev/pts/{number}")).unwrap_or_default()
}
fn termios(fd: i32) -> termios {
    let mut t: termios = zeroed();
    ioctl(fd, TCGETS, at_mut(&mut t));
    t
}
/// Changes the settings of a terminal.
fn set_termios(fd: i32, change: impl FnOnce(&mut termios)) -> Ret {
    let mut t = termios(fd);
    change(&mut t);
    ioctl(fd, TCSETS, at(&t))
}
fn raw(fd: i32) {
    set_termios(fd, |t| {
        t.c_iflag = 0;
        t.c_oflag = 0;
        t.c_lflag = 0;
        t.c_cc[VMIN] = 1;
        t.c_cc[VTIME] = 0;
    });
}
fn quiet(fd: i32) {
    set_termios(fd, |t| t.c_lflag &= !ECHO);
}
/// How long to wait for the line discipline, which Linux runs on a thread of its own.
const SETTLE_MS: i32 = 80;

/// What one read finds after the line discipline has settled.
fn ready(fd: i32) -> Got {
    poll(&[(fd, POLLIN)], SETTLE_MS);
    let flags = fcntl(fd, F_GETFL, 0).0 as i32;
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    let got = rd(fd, 1000);
    fcntl(fd, F_SETFL, flags);
    got
}
/// Everything that arrives at the master until it stays quiet.
fn drain(master: i32) -> Got {
    let mut all = ready(master);
    while let (Ok(bytes), Got(Ok(more))) = (&mut all.0, ready(master)) {
        bytes.extend_from_slice(&more);
    }
    all
}

fn opening() {
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).fd();
    p!(master >= 0, open(&slave_path(master), O_RDWR | O_NOCTTY, 0));
    p!(ioctl(master, TIOCSPTLCK, at(&0i32)));
    p!(open(&slave_path(master), O_RDWR | O_NOCTTY, 0).ok(), ioctl(master, TIOCGPTN, 8u64));
    p!(fstat(master).st.st_rdev);
    let s = stat(&slave_path(master)).st;
    p!(s.st_mode & S_IFMT == S_IFCHR, s.st_rdev >> 8);
    p!(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY).ok());
}

fn numbers_are_distinct_and_reused() {
    let (a, _) = open_pair();
    let (b, _) = open_pair();
    p!(slave_path(a) != slave_path(b), access(&slave_path(a), F_OK));
}

fn default_settings() {
    let (_, slave) = open_pair();
    let t = termios(slave);
    say!(
        "{:o} {:o} {:o} {:o} {}",
        t.c_iflag,
        t.c_oflag,
        t.c_cflag,
        t.c_lflag,
        t.c_cc[..17].escape_ascii().to_string()
    );
    p!(ioctl(slave, TCGETS, 8u64), ioctl(slave, TCSETS, 8u64));
    p!(ioctl(pipe(0)[0], TCGETS, at_mut(&mut termios(slave))));
}

fn canonical_lines() {
    let (master, slave) = open_pair();
    quiet(slave);
    p!(wr(master, "partial"), ready(slave), wr(master, " line\nsecond\nthird"), ready(slave));
    p!(rd(slave, 3), rd(slave, 100), ready(slave));
}

fn erase_kill_and_word_erase() {
    let (master, slave) = open_pair();
    quiet(slave);
    p!(wr(master, "abc\x7fd\n"), ready(slave), wr(master, "junk\x15good\n"), ready(slave));
    p!(wr(master, "one two\x17three\n"), ready(slave));
    p!(wr(master, "\x7f\x7fx\n"), ready(slave), wr(master, "lit\x16\x7feral\n"), ready(slave));
}

fn end_of_file_character() {
    let (master, slave) = open_pair();
    quiet(slave);
    p!(wr(master, "no newline\x04"), ready(slave), wr(master, "\x04"), ready(slave));
    p!(wr(master, "a\n\x04"), ready(slave), ready(slave), ready(slave));
}

fn echo() {
    let (master, slave) = open_pair();
    p!(wr(master, "hi\x01\x7f\n"), drain(master), ready(slave), wr(master, "kill\x15"));
    p!(drain(master), wr(master, "\x1b[A\n"), drain(master));
}

fn echo_variants() {
    let (master, slave) = open_pair();
    set_termios(slave, |t| t.c_lflag = (t.c_lflag & !(ECHO | ECHOE)) | ECHONL);
    p!(wr(master, "x\n"), drain(master));
    set_termios(slave, |t| t.c_lflag = (t.c_lflag | ECHO) & !(ECHOCTL | ECHOE));
    p!(wr(master, "a\x02\x7f\n"), drain(master));
}

fn output_processing() {
    let (master, slave) = open_pair();
    p!(wr(slave, "line\nback\rtab\t"), drain(master));
    set_termios(slave, |t| t.c_oflag = 0);
    p!(wr(slave, "line\n"), drain(master));
    set_termios(slave, |t| t.c_oflag = OPOST | OCRNL);
    p!(wr(slave, "cr\r\n"), drain(master));
    set_termios(slave, |t| t.c_oflag = OPOST | ONOCR | ONLRET);
    p!(wr(slave, "\r\rx\r\n\r"), drain(master));
    set_termios(slave, |t| t.c_oflag = OPOST | OLCUC | XTABS);
    p!(wr(slave, "up\tto"), drain(master));
}

fn input_processing() {
    let (master, slave) = open_pair();
    quiet(slave);
    p!(wr(master, "cr\r"), ready(slave));
    set_termios(slave, |t| t.c_iflag = INLCR);
    p!(wr(master, "nl\n\r"), ready(slave), wr(master, "\x04"), ready(slave));
    set_termios(slave, |t| t.c_iflag = IGNCR | ICRNL | ISTRIP);
    p!(wr(master, b"a\rb\xe1\n"), ready(slave));
    set_termios(slave, |t| t.c_iflag = IUCLC);
    set_termios(slave, |t| t.c_lflag |= IEXTEN);
    p!(wr(master, "LOW\n"), ready(slave));
}

fn raw_mode() {
    let (master, slave) = open_pair();
    raw(slave);
    p!(wr(master, "a\x03\x04\r\x7f"), ready(slave), drain(master), wr(slave, "x\ny"));
    p!(drain(master));
}

fn minimum_and_time() {
    let (master, slave) = open_pair();
    raw(slave);
    let set = |min: u8, time: u8| {
        set_termios(slave, |t| {
            t.c_cc[VMIN] = min;
            t.c_cc[VTIME] = time;
        })
    };
    p!(set(0, 0), rd(slave, 10), wr(master, "ab"), poll(&[(slave, POLLIN)], 5000), rd(slave, 10));
    p!(set(0, 1), took(90, || rd(slave, 10)).0, took(90, || rd(slave, 10)).1);
    p!(set(3, 0), wr(master, "abc"), rd(slave, 10), set(3, 1), wr(master, "d"), rd(slave, 10));
    p!(set(4, 0), wr(master, "efg"), poll(&[(slave, POLLIN)], SETTLE_MS));
}

fn switching_from_raw_to_canonical() {
    let (master, slave) = open_pair();
    raw(slave);
    wr(master, "pending\n");
    p!(poll(&[(slave, POLLIN)], 5000), set_termios(slave, |t| t.c_lflag |= ICANON), ready(slave));
}

fn end_of_file_typed_before_raw_mode() {
    let (master, slave) = open_pair();
    quiet(slave);
    wr(master, "\x04");
    p!(poll(&[(slave, POLLIN)], 5000));
    p!(set_termios(slave, |t| t.c_lflag &= !ICANON), ready(slave));
    set_termios(slave, |t| t.c_lflag |= ICANON);
    wr(master, "ab\x04");
    p!(poll(&[(slave, POLLIN)], 5000));
    // There and back: the end of file is an end of file again.
    set_termios(slave, |t| t.c_lflag &= !ICANON);
    p!(set_termios(slave, |t| t.c_lflag |= ICANON), rd(slave, 10));
}

fn window_size() {
    let (master, slave) = open_pair();
    let mut size = [9u16; 4];
    p!(ioctl(slave, TIOCGWINSZ, at_mut(&mut size)), size[0], size[1]);
    p!(ioctl(master, TIOCSWINSZ, at(&[24u16, 80, 1, 2])));
    p!(ioctl(slave, TIOCGWINSZ, at_mut(&mut size)), size[0], size[1], size[3]);
    p!(ioctl(slave, TIOCSWINSZ, 8u64), ioctl(slave, TIOCGWINSZ, 8u64));
    p!(ioctl(pipe(0)[0], TIOCGWINSZ, at_mut(&mut size)));
}

fn queue_sizes_and_flush() {
    let (master, slave) = open_pair();
    quiet(slave);
    let mut n = -1i32;
    wr(master, "twelve bytes\n");
    p!(poll(&[(slave, POLLIN)], 5000), ioctl(slave, FIONREAD, at_mut(&mut n)), n);
    p!(ioctl(slave, TCFLSH, TCIFLUSH), ioctl(slave, FIONREAD, at_mut(&mut n)), n, ready(slave));
    p!(ioctl(slave, TCFLSH, 9), wr(slave, "out"), drain(master));
    p!(ioctl(slave, TIOCOUTQ, at_mut(&mut n)));
    p!(ioctl(slave, TCSBRK, 1), ioctl(slave, TCXONC, 0), wr(slave, ""), ioctl(slave, TCXONC, 1));
    p!(ioctl(slave, TCXONC, 9));
}

fn hang_up_when_the_master_closes() {
    let (master, slave) = open_pair();
    wr(master, "lost?\n");
    p!(poll(&[(slave, POLLIN)], 5000), close(master), rd(slave, 100), wr(slave, "x"));
    p!(poll(&[(slave, POLLIN | POLLOUT)], 0), ioctl(slave, TCGETS, at_mut(&mut termios(slave))));
}

fn end_when_the_slave_closes() {
    let (master, slave) = open_pair();
    wr(slave, "last words\n");
    p!(close(slave), drain(master), rd(master, 100), poll(&[(master, POLLIN | POLLOUT)], 0));
    let again = open(&slave_path(master), O_RDWR | O_NOCTTY, 0).fd();
    p!(again >= 0, wr(again, "back\n"), drain(master));
}

fn readiness() {
    let (master, slave) = open_pair();
    quiet(slave);
    p!(poll(&[(master, POLLIN | POLLOUT), (slave, POLLIN | POLLOUT)], 0), wr(master, "half"));
    p!(poll(&[(slave, POLLIN)], SETTLE_MS), wr(master, "\n"));
    p!(poll(&[(slave, POLLIN)], SETTLE_MS), wr(slave, "out"), poll(&[(master, POLLIN)], SETTLE_MS));
    let ep = epoll(0);
    p!(epoll_ctl(ep, EPOLL_CTL_ADD, slave, EPOLLIN | EPOLLET, 1), epoll_wait(ep, 2, 0));
    p!(epoll_wait(ep, 2, 0));
}

fn controlling_terminal() {
    let (master, slave) = open_pair();
    let mut n = -1i32;
    p!(open(c"/dev/tty", O_RDWR, 0), ioctl(slave, TIOCGPGRP, at_mut(&mut n)));
    p!(ioctl(slave, TIOCSCTTY, 0), open(c"/dev/tty", O_RDWR, 0).ok());
    p!(ioctl(slave, TIOCGPGRP, at_mut(&mut n)), n == getpid());
    p!(ioctl(slave, TIOCGSID, at_mut(&mut n)), n == getpid());
    p!(ioctl(master, TIOCGPGRP, at_mut(&mut n)), n == getpid(), ioctl(slave, TIOCSCTTY, 0));
    p!(run(|| ioctl(slave, TIOCSCTTY, 0).errno()), ioctl(open_pair().1, TIOCSCTTY, 0));
}

fn opening_without_noctty_takes_the_terminal() {
    let (master, _) = open_pair();
    p!(open(&slave_path(master), O_RDWR, 0).ok(), open(c"/dev/tty", O_RDWR, 0).ok());
}

fn interrupt_characters_signal_the_foreground_group() {
    let (master, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    for sig in [SIGINT, SIGQUIT, SIGTSTP] {
        catch(sig, SA_RESTART);
    }
    p!(wr(master, "lost\x03"), until(|| count() == 1), caught(), wr(master, "\x1c"));
    p!(until(|| count() == 1), caught(), wr(master, "\x1a"));
    p!(until(|| count() == 1), caught(), ready(slave), drain(master));
    set_termios(slave, |t| t.c_lflag = (t.c_lflag | NOFLSH) & !ECHO);
    p!(wr(master, "kept\x03\n"), until(|| count() == 1), caught(), ready(slave));
    set_termios(slave, |t| t.c_lflag &= !ISIG);
    p!(wr(master, "\x03\n"), ready(slave), caught());
}

fn window_change_signal() {
    let (master, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    catch(SIGWINCH, SA_RESTART);
    p!(ioctl(master, TIOCSWINSZ, at(&[30u16, 90, 0, 0])), until(|| count() == 1));
    p!(ioctl(master, TIOCSWINSZ, at(&[30u16, 90, 0, 0])), caught());
}

/// Runs `f` in a background process group of the session that owns `slave`.
fn in_background(f: impl FnOnce() -> i32) -> Status {
    let go = pipe(0);
    let pid = child(|| {
        rd(go[0], 1);
        f()
    });
    sc!(SYS_setpgid, pid, pid);
    wr(go[1], "x");
    wait_opt(pid, WUNTRACED)
}

fn background_reads_stop() {
    let (_, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    p!(in_background(|| rd(slave, 1).0.map_or_else(|e| e.errno(), |_| 0)));
    p!(in_background(|| {
        ignore(SIGTTIN);
        rd(slave, 1).0.map_or_else(|e| e.errno(), |_| 0)
    }));
    p!(in_background(|| {
        block(&[SIGTTIN]);
        rd(slave, 1).0.map_or_else(|e| e.errno(), |_| 0)
    }));
}

fn background_writes_stop_only_with_tostop() {
    let (master, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    p!(in_background(|| wr(slave, "allowed").errno()), drain(master));
    set_termios(slave, |t| t.c_lflag |= TOSTOP);
    p!(in_background(|| wr(slave, "stopped").errno()), drain(master));
    p!(in_background(|| {
        ignore(SIGTTOU);
        wr(slave, "ignored").errno()
    }));
    p!(drain(master), in_background(|| set_termios(slave, |_| ()).errno()));
}

fn foreground_group_changes() {
    let (master, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    let pid = child(|| {
        catch(SIGINT, 0);
        raise(SIGSTOP);
        i32::from(!until(|| count() == 1))
    });
    sc!(SYS_setpgid, pid, pid);
    p!(wait_opt(pid, WUNTRACED), ioctl(slave, TIOCSPGRP, at(&pid)));
    let mut n = 0i32;
    catch(SIGINT, 0);
    p!(ioctl(slave, TIOCGPGRP, at_mut(&mut n)), n == pid, kill(pid, SIGCONT), wr(master, "\x03"));
    p!(wait(pid), caught());
    p!(ioctl(slave, TIOCSPGRP, at(&0x7fff_fff0i32)), ioctl(slave, TIOCSPGRP, 8u64));
    p!(ioctl(slave, TIOCSPGRP, at(&-1i32)));
}

fn background_process_may_not_take_the_foreground() {
    let (_, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    p!(in_background(|| ioctl(slave, TIOCSPGRP, at(&getpid())).errno()));
    p!(in_background(|| {
        ignore(SIGTTOU);
        ioctl(slave, TIOCSPGRP, at(&getpid())).errno()
    }));
}

fn leaving_the_terminal() {
    let (_, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    catch(SIGHUP, 0);
    catch(SIGCONT, 0);
    p!(ioctl(slave, TIOCNOTTY, 0), until(|| count() == 2), open(c"/dev/tty", O_RDWR, 0));
    p!(ioctl(slave, TIOCNOTTY, 0));
}

fn session_leader_exit_hangs_up() {
    let (master, slave) = open_pair();
    let page = shared(1);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    let leader = child(|| {
        sc!(SYS_setsid);
        ioctl(slave, TIOCSCTTY, 0);
        child(|| {
            catch(SIGHUP, SA_RESTART);
            publish(page, 1);
            let told = until(|| count() > 0) && caught().starts_with("SIGHUP SI_KERNEL");
            i32::from(!told || open(c"/dev/tty", O_RDWR, 0).errno() != ENXIO)
        });
        await_change(page, 0);
        0
    });
    p!(wait(leader), wait(-1), wr(slave, "x"), drain(master));
}

fn closing_the_master_signals_the_session() {
    let (master, slave) = open_pair();
    ioctl(slave, TIOCSCTTY, 0);
    catch(SIGHUP, 0);
    catch(SIGCONT, 0);
    p!(close(master), until(|| count() == 2), open(c"/dev/tty", O_RDWR, 0));
}

fn packet_mode() {
    let (master, slave) = open_pair();
    p!(ioctl(master, TIOCPKT, at(&1i32)), wr(slave, "data"), drain(master));
    p!(ioctl(slave, TCFLSH, TCOFLUSH), drain(master));
    p!(ioctl(slave, TIOCPKT, at(&1i32)));
}

fn simulated_input() {
    let (master, slave) = open_pair();
    quiet(slave);
    ioctl(slave, TIOCSCTTY, 0);
    let typed = ioctl(slave, TIOCSTI, at(b"t"));
    // Newer kernels can have this switched off.
    p!(typed.ok() || typed.errno() == EIO, master > 0);
}

fn exclusive_mode() {
    let (master, slave) = open_pair();
    p!(ioctl(slave, TIOCEXCL, 0));
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        open(&slave_path(master), O_RDWR | O_NOCTTY, 0).errno()
    }));
    p!(ioctl(slave, TIOCNXCL, 0));
}

fn large_output_and_flow() {
    let (master, slave) = open_pair();
    raw(slave);
    let writer = std::thread::spawn(move || wr(slave, vec![b'z'; 50_000]));
    let mut total = 0;
    while total < 50_000 {
        total += rd(master, 4096).bytes().len();
    }
    p!(total, writer.join().unwrap_or(Ret(-1)));
}

fn long_canonical_line_is_cut() {
    let (master, slave) = open_pair();
    quiet(slave);
    fcntl(master, F_SETFL, O_NONBLOCK);
    for _ in 0..5 {
        wr(master, vec![b'a'; 1000]);
    }
    wr(master, "\n");
    let got = rd(slave, 10_000);
    p!(got.bytes().len(), got.bytes().ends_with(b"\n"));
}

cases![
    opening,
    numbers_are_distinct_and_reused,
    default_settings,
    canonical_lines,
    erase_kill_and_word_erase,
    end_of_file_character,
    echo,
    echo_variants,
    output_processing,
    input_processing,
    raw_mode,
    minimum_and_time,
    switching_from_raw_to_canonical,
    end_of_file_typed_before_raw_mode,
    window_size,
    queue_sizes_and_flush,
    hang_up_when_the_master_closes,
    end_when_the_slave_closes,
    readiness,
    controlling_terminal,
    opening_without_noctty_takes_the_terminal,
    interrupt_characters_signal_the_foreground_group,
    window_change_signal,
    background_reads_stop,
    background_writes_stop_only_with_tostop,
    foreground_group_changes,
    background_process_may_not_take_the_foreground,
    leaving_the_terminal,
    session_leader_exit_hangs_up,
    closing_the_master_signals_the_session,
    packet_mode,
    simulated_input,
    exclusive_mode,
    large_output_and_flow,
    long_canonical_line_is_cut,
];
