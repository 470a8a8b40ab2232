//! Signal-driven I/O: owners, `SIGIO` and `SIGURG`, and what they tell.

use crate::prelude::*;

/// Sets the owner and `O_ASYNC`, with a queued signal or (0) plain `SIGIO`.
fn arm(fd: i32, sig: i32) {
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, 10, sig);
    let flags = fcntl(fd, F_GETFL, 0).fd();
    fcntl(fd, F_SETFL, flags | O_ASYNC);
}

/// The signals taken so far: code, band, and whether the descriptor is `fd`.
fn told(fd: i32) -> String {
    let all = hits();
    let text = |h: &crate::sys::signal::Hit| {
        let name = signame(h.sig);
        let queued = h.code != 0x80;
        let (band, own) = if queued { (h.addr, h.value == i64::from(fd)) } else { (0, false) };
        format!("{name} code {} band {band:#x} fd {own}", h.code)
    };
    all.iter().map(text).collect::<Vec<_>>().join(", ")
}

const QUEUED: i32 = 40;

fn plain_signal_of_a_pipe() {
    catch(SIGIO, 0);
    let [r, w] = pipe(O_NONBLOCK);
    p!(wr(w, "x"), count(), rd(r, 1));
    arm(r, 0);
    p!(fcntl(r, F_GETFL, 0).fd() & O_ASYNC != 0, fcntl(w, F_GETFL, 0).fd() & O_ASYNC);
    p!(wr(w, "x"), told(r), wr(w, "y"), told(r), rd(r, 2), told(r));
    let flags = fcntl(r, F_GETFL, 0).fd();
    p!(fcntl(r, F_SETFL, flags & !O_ASYNC), wr(w, "z"), count());
}

fn queued_signal_of_a_pipe() {
    catch(QUEUED, 0);
    let [r, w] = pipe(O_NONBLOCK);
    arm(r, QUEUED);
    p!(fcntl(r, 11, 0), wr(w, "x"), told(r), wr(w, "y"), told(r));
    let other = dup(r).fd();
    p!(wr(w, "z"), told(r));
    close(r);
    p!(wr(w, "z"), told(r), close(other), told(r));
}

fn writing_end_of_a_pipe() {
    catch(QUEUED, 0);
    let [r, w] = pipe(O_NONBLOCK);
    arm(w, QUEUED);
    while wr(w, vec![0; 4096]).ok() {}
    p!(told(w), rd(r, 4096).0.is_ok(), told(w));
    p!(close(r), told(w));
}

fn last_writer_leaves() {
    catch(QUEUED, 0);
    let [r, w] = pipe(O_NONBLOCK);
    arm(r, QUEUED);
    p!(close(w), told(r));
}

fn fifo() {
    catch(QUEUED, 0);
    p!(sc!(SYS_mknod, c"fifo", S_IFIFO | 0o600, 0));
    let fd = open(c"fifo", O_RDWR | O_NONBLOCK, 0).fd();
    arm(fd, QUEUED);
    hits();
    p!(wr(fd, "x"), told(fd).contains("code 1 "));
}

fn local_stream() {
    catch(QUEUED, 0);
    let s = pair(SOCK_STREAM);
    arm(s[0], QUEUED);
    p!(wr(s[1], "x"), told(s[0]), wr(s[1], "y"), told(s[0]), rd(s[0], 2), told(s[0]));
    p!(close(s[1]), told(s[0]));
}

fn local_datagrams() {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        catch(QUEUED, 0);
        let s = pair(kind);
        arm(s[0], QUEUED);
        p!(wr(s[1], "x"), told(s[0]), wr(s[1], "y"), told(s[0]));
    }
}

fn listener_gets_a_connection() {
    catch(QUEUED, 0);
    let s = server(SOCK_STREAM, "s");
    arm(s, QUEUED);
    p!(client(SOCK_STREAM, "s") > 0, told(s), accept(s, 0).ok(), told(s));
}

fn tcp_and_udp() {
    catch(SIGIO, 0);
    let [c, s] = tcp_pair();
    arm(s, 0);
    p!(wr(c, "x"), until(|| count() > 0), told(s));
    let ((a, _), (b, port)) = (udp("127.0.0.1"), udp("127.0.0.1"));
    arm(b, 0);
    p!(send_to(a, "x", "127.0.0.1", port), until(|| count() > 0), told(b));
}

fn terminal_has_an_owner_by_itself() {
    catch(SIGIO, 0);
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).fd();
    ioctl(master, TIOCSPTLCK, at(&0i32));
    let slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY).fd();
    p!(fcntl(slave, F_GETOWN, 0), fcntl(slave, F_SETFL, O_ASYNC));
    p!(fcntl(slave, F_GETOWN, 0).fd() == getpid());
    p!(wr(master, "line\n"), until(|| count() > 0), hits().iter().all(|h| h.sig == SIGIO));
}

fn files_that_send_none() {
    let files = [
        ("file", open(c"f", O_CREAT | O_RDWR, 0o600).fd()),
        ("null", open(c"/dev/null", O_RDWR, 0).fd()),
        ("eventfd", sc!(SYS_eventfd2, 0, 0).fd()),
        ("timerfd", sc!(SYS_timerfd_create, 0, 0).fd()),
        ("epoll", epoll(0)),
        ("directory", open(c".", O_RDONLY, 0).fd()),
    ];
    for (name, fd) in files {
        let on = ioctl(fd, FIOASYNC, at(&1i32));
        let off = ioctl(fd, FIOASYNC, at(&0i32));
        let set = fcntl(fd, F_SETFL, O_ASYNC);
        say!("{name}: {on} {off} {set} {}", fcntl(fd, F_GETFL, 0).fd() & O_ASYNC);
    }
    let fd = open(c"f", O_RDWR | O_ASYNC, 0).fd();
    p!(fcntl(fd, F_GETFL, 0).fd() & O_ASYNC != 0, ioctl(fd, FIOASYNC, at(&1i32)));
    p!(ioctl(fd, FIOASYNC, at(&0i32)), ioctl(fd, FIOASYNC, 8u64));
}

fn switched_with_ioctl() {
    catch(SIGIO, 0);
    let s = pair(SOCK_STREAM);
    p!(ioctl(s[0], FIOASYNC, at(&1i32)), fcntl(s[0], F_GETFL, 0).fd() & O_ASYNC != 0);
    p!(wr(s[1], "x"), count(), ioctl(s[0], 0x8902, at(&getpid())));
    let mut owner = 0i32;
    p!(ioctl(s[0], 0x8904, at_mut(&mut owner)), owner == getpid());
    p!(ioctl(s[0], 0x8903, at_mut(&mut owner)), owner == getpid(), wr(s[1], "x"), told(s[0]));
    p!(ioctl(s[0], 0x8901, at(&-getpid())), fcntl(s[0], F_GETOWN, 0).0 == -i64::from(getpid()));
    p!(ioctl(s[0], 0x8902, at(&i32::MIN)), ioctl(s[0], 0x8902, at(&i32::MAX)));
    p!(ioctl(s[0], 0x8902, 8u64), ioctl(s[0], 0x8904, 8u64));
    let [r, _] = pipe(0);
    p!(ioctl(r, 0x8902, at(&getpid())), ioctl(r, 0x8904, at_mut(&mut owner)));
}

fn owners_of_every_kind() {
    p!(run(|| {
        sc!(SYS_setpgid, 0, 0);
        catch(QUEUED, 0);
        let s = pair(SOCK_STREAM);
        arm(s[0], QUEUED);
        for (kind, id) in [(0, gettid()), (1, getpid()), (2, sc!(SYS_getpgid, 0).fd())] {
            let mut got = [9i32; 2];
            p!(fcntl(s[0], 15, at(&[kind, id])), fcntl(s[0], 16, at_mut(&mut got)), got[0]);
            p!(got[1] == id, wr(s[1], "x"), told(s[0]));
        }
        p!(
            fcntl(s[0], 15, at(&[3, 1])),
            fcntl(s[0], 15, at(&[1, i32::MAX])),
            fcntl(s[0], 15, 8u64)
        );
        p!(fcntl(s[0], 15, at(&[1, 0])), wr(s[1], "x"), count(), fcntl(s[0], F_GETOWN, 0));
        0
    }));
}

fn group_gets_it_whole() {
    p!(run(|| {
        sc!(SYS_setpgid, 0, 0);
        block(&[SIGIO]);
        let s = pair(SOCK_STREAM);
        arm(s[0], 0);
        fcntl(s[0], F_SETOWN, -getpid());
        let other = child(|| {
            p!(sigwait(&[SIGIO], 5000));
            0
        });
        wr(s[1], "x");
        p!(wait(other), sigwait(&[SIGIO], 5000));
        0
    }));
}

fn another_user_is_not_signalled() {
    p!(run(|| {
        let ([r, w], [ready, go]) = (pipe(0), pipe(0));
        let target = child(|| {
            catch(SIGIO, 0);
            wr(go, "x");
            rd(r, 1);
            p!(told(0));
            0
        });
        rd(ready, 1);
        let s = pair(SOCK_STREAM);
        p!(run(|| {
            let uid = fresh_uid();
            sc!(SYS_setresuid, uid, uid, uid);
            p!(fcntl(s[0], F_SETOWN, target), fcntl(s[0], F_SETFL, O_ASYNC), wr(s[1], "x"));
            0
        }));
        wr(w, "x");
        p!(wait(target));
        0
    }));
}

fn signals_with_codes_of_their_own() {
    for sig in [SIGUSR1, SIGCHLD, SIGTRAP, SIGIO, SIGURG] {
        catch(sig, 0);
        let s = pair(SOCK_STREAM);
        arm(s[0], sig);
        p!(wr(s[1], "x"), told(s[0]));
    }
    let s = pair(SOCK_STREAM);
    p!(fcntl(s[0], 10, 65), fcntl(s[0], 10, -1), fcntl(s[0], 11, 0));
}

fn wakes_who_waits_for_the_signal() {
    block(&[SIGIO]);
    let [r, w] = pipe(0);
    arm(r, 0);
    let writer = child(|| {
        nap(20);
        // More than fits: the rest waits until the reader has been told and reads.
        p!(wr(w, vec![7; 100_000]));
        0
    });
    p!(sigwait(&[SIGIO], 5000));
    let mut left = 100_000;
    while let Got(Ok(bytes)) = rd(r, 65_536) {
        left -= bytes.len();
        if left == 0 {
            break;
        }
    }
    p!(wait(writer), left);
}

fn inotify_sends_it() {
    catch(SIGIO, 0);
    let fd = sc!(SYS_inotify_init1, IN_NONBLOCK).fd();
    p!(sc!(SYS_inotify_add_watch, fd, c".", IN_CREATE).ok());
    arm(fd, 0);
    put(c"new", "x");
    p!(told(fd));
}

fn urgent_byte_of_tcp() {
    catch(SIGURG, 0);
    let [c, s] = tcp_pair();
    p!(fcntl(s, F_SETOWN, getpid()), send(c, "!", MSG_OOB), until(|| count() > 0), told(s));
}

fn urgent_byte_of_a_local_stream() {
    catch(SIGURG, 0);
    let s = pair(SOCK_STREAM);
    p!(send(s[1], "!", MSG_OOB), count(), fcntl(s[0], F_SETOWN, getpid()));
    p!(send(s[1], "!", MSG_OOB), told(s[0]), send(s[1], "x", 0), count());
}

cases![
    plain_signal_of_a_pipe,
    queued_signal_of_a_pipe,
    writing_end_of_a_pipe,
    last_writer_leaves,
    fifo,
    local_stream,
    local_datagrams,
    listener_gets_a_connection,
    tcp_and_udp,
    terminal_has_an_owner_by_itself,
    files_that_send_none,
    switched_with_ioctl,
    owners_of_every_kind,
    group_gets_it_whole,
    another_user_is_not_signalled,
    signals_with_codes_of_their_own,
    wakes_who_waits_for_the_signal,
    inotify_sends_it,
    urgent_byte_of_tcp,
    urgent_byte_of_a_local_stream,
];
