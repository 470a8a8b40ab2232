//! File leases: who can have one, and how others break it.

use crate::prelude::*;

const SETLEASE: i32 = 1024;
const GETLEASE: i32 = 1025;

fn lease(fd: i32, kind: i32) -> Ret {
    fcntl(fd, SETLEASE, kind)
}

fn held(fd: i32) -> String {
    match fcntl(fd, GETLEASE, 0).0 {
        0 => "read".into(),
        1 => "write".into(),
        2 => "none".into(),
        other => Ret(other).to_string(),
    }
}

fn file() -> i32 {
    put(c"f", "contents");
    open(c"f", O_RDONLY, 0).fd()
}

fn taking_and_giving_up() {
    let fd = file();
    p!(held(fd), lease(fd, F_UNLCK), lease(fd, F_RDLCK), held(fd), lease(fd, F_WRLCK), held(fd));
    p!(
        lease(fd, F_RDLCK),
        held(fd),
        lease(fd, F_UNLCK),
        held(fd),
        lease(fd, F_UNLCK),
        lease(fd, 7)
    );
    p!(fcntl(fd, F_GETOWN, 0).fd() == getpid());
}

fn what_cannot_have_one() {
    let [r, _] = pipe(0);
    let dir = open(c".", O_RDONLY, 0).fd();
    p!(lease(r, F_RDLCK), lease(dir, F_WRLCK), lease(999, F_RDLCK));
    p!(lease(pair(SOCK_STREAM)[0], F_RDLCK), lease(open(c"/dev/null", O_RDONLY, 0).fd(), F_RDLCK));
    let fd = file();
    let uid = fresh_uid();
    p!(run(|| {
        sc!(SYS_setresuid, uid, uid, uid);
        p!(lease(fd, F_RDLCK), lease(fd, F_UNLCK), held(fd));
        0
    }));
}

fn conflicts_with_open_files() {
    let fd = file();
    let writer = open(c"f", O_WRONLY, 0).fd();
    p!(lease(fd, F_RDLCK), lease(fd, F_WRLCK), lease(writer, F_RDLCK), lease(writer, F_WRLCK));
    close(fd);
    p!(lease(writer, F_RDLCK), lease(writer, F_WRLCK), held(writer), lease(writer, F_UNLCK));
    close(writer);
    let (a, b) = (open(c"f", O_RDONLY, 0).fd(), open(c"f", O_RDONLY, 0).fd());
    p!(lease(a, F_WRLCK), lease(a, F_RDLCK), lease(b, F_RDLCK), lease(b, F_WRLCK));
    let both = open(c"f", O_RDWR | O_NONBLOCK, 0);
    p!(both, held(a), held(b));
}

fn shared_by_duplicates() {
    let fd = file();
    let other = dup(fd).fd();
    p!(lease(fd, F_RDLCK), held(other), close(fd), held(other), lease(other, F_UNLCK));
    p!(lease(other, F_WRLCK), close(other), held(open(c"f", O_RDONLY, 0).fd()));
}

fn readers_do_not_break_a_read_lease() {
    catch(SIGIO, 0);
    let fd = file();
    p!(lease(fd, F_RDLCK), open(c"f", O_RDONLY | O_NONBLOCK, 0).ok(), count(), held(fd));
    p!(open(c"f", O_PATH, 0).ok(), stat(c"f").st.st_size, count());
}

fn broken_without_waiting() {
    for (kind, flags) in [
        (F_RDLCK, O_WRONLY),
        (F_RDLCK, O_RDWR),
        (F_WRLCK, O_RDONLY),
        (F_WRLCK, O_WRONLY),
        (F_RDLCK, O_RDONLY | O_TRUNC),
    ] {
        catch(SIGIO, 0);
        let fd = file();
        p!(lease(fd, kind), open(c"f", flags | O_NONBLOCK, 0), caught(), held(fd));
        p!(open(c"f", flags | O_NONBLOCK, 0), caught(), close(fd), open(c"f", flags, 0).ok());
        unlink(c"f");
    }
}

fn signal_tells_the_descriptor() {
    catch(40, 0);
    let fd = file();
    fcntl(fd, 10, 40);
    p!(lease(fd, F_RDLCK), open(c"f", O_WRONLY | O_NONBLOCK, 0));
    let all = hits();
    p!(all.len(), all[0].code, format!("{:#x}", all[0].addr), all[0].value == i64::from(fd));
}

fn opener_waits_for_the_holder() {
    block(&[SIGIO]);
    let fd = file();
    p!(lease(fd, F_RDLCK));
    let opener = child(|| {
        close(fd);
        i32::from(open(c"f", O_WRONLY, 0).ok())
    });
    p!(
        sigwait(&[SIGIO], 5000),
        held(fd),
        wait_opt(opener, WNOHANG),
        lease(fd, F_UNLCK),
        wait(opener)
    );
}

fn downgrade_lets_readers_in() {
    block(&[SIGIO]);
    let fd = file();
    p!(lease(fd, F_WRLCK));
    let opener = child(|| {
        close(fd);
        i32::from(open(c"f", O_RDONLY, 0).ok())
    });
    p!(sigwait(&[SIGIO], 5000), held(fd), lease(fd, F_RDLCK), wait(opener), held(fd));
}

fn a_truncation_writes() {
    block(&[SIGIO]);
    let fd = file();
    p!(lease(fd, F_WRLCK));
    let cutter = child(|| {
        close(fd);
        i32::from(sc!(SYS_truncate, c"f", 3).ok())
    });
    p!(sigwait(&[SIGIO], 5000), held(fd), lease(fd, F_RDLCK), held(fd), wait_opt(cutter, WNOHANG));
    p!(lease(fd, F_UNLCK), wait(cutter));
}

fn closing_lets_others_in() {
    block(&[SIGIO]);
    let fd = file();
    p!(lease(fd, F_WRLCK));
    let opener = child(|| {
        close(fd);
        i32::from(sc!(SYS_truncate, c"f", 3).ok())
    });
    p!(sigwait(&[SIGIO], 5000), held(fd), close(fd), wait(opener));
}

fn waiting_opener_is_interrupted() {
    block(&[SIGIO]);
    let fd = file();
    p!(lease(fd, F_RDLCK));
    p!(run(|| {
        catch(SIGALRM, 0);
        setitimer(ITIMER_REAL, 30, 0);
        p!(open(c"f", O_WRONLY, 0), caught());
        0
    }));
}

cases![
    taking_and_giving_up,
    what_cannot_have_one,
    conflicts_with_open_files,
    shared_by_duplicates,
    readers_do_not_break_a_read_lease,
    broken_without_waiting,
    signal_tells_the_descriptor,
    opener_waits_for_the_holder,
    downgrade_lets_readers_in,
    a_truncation_writes,
    closing_lets_others_in,
    waiting_opener_is_interrupted,
];
