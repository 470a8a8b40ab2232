//! Telling a process that a message has come to an empty queue (`mq_notify(3)`).

use crate::kernel::signal::info::SI_MESGQ;
use crate::kernel::signal::{SigFields, send};
use crate::kernel::{Credentials, SigInfo, Signal, Task, ThreadGroup};
use crate::socket::Socket;
use crate::socket::netlink::socket::NetlinkSocket;
use std::sync::{Arc, Weak};

/// Length of what `SIGEV_THREAD` sends, in bytes.
pub const COOKIE_LEN: usize = 32;
/// In the cookie's last byte: a message has come.
const WOKENUP: u8 = 1;
/// In the cookie's last byte: the registration was taken back.
const REMOVED: u8 = 2;

/// How a process is told.
pub enum How {
    /// Not at all (`SIGEV_NONE`).
    Nothing,
    /// By a signal that carries a value; `None` for signal 0, which is not sent (`SIGEV_SIGNAL`).
    Signal(Option<Signal>, u64),
    /// By bytes on a netlink socket, on which a thread of the C library waits (`SIGEV_THREAD`).
    Thread(Weak<dyn Socket>, [u8; COOKIE_LEN]),
}

/// Who is told, and how.
pub struct Registration {
    group: Weak<ThreadGroup>,
    creds: Arc<Credentials>,
    how: How,
}

impl Registration {
    /// For the process of `task`.
    pub fn new(task: &Task, how: How) -> Self {
        Self { group: Arc::downgrade(task.group()), creds: task.creds(), how }
    }

    /// True if it is that process's.
    pub fn is_of(&self, group: &Arc<ThreadGroup>) -> bool {
        std::ptr::eq(self.group.as_ptr(), Arc::as_ptr(group))
    }

    /// True if there is still someone to be told.
    pub fn is_alive(&self) -> bool {
        self.group.strong_count() > 0
    }

    /// `sigev_notify`, `sigev_signo` and the process's global id, as a queue's file shows them.
    pub fn describe(&self) -> (i32, i32, i32) {
        let pid = self.group.upgrade().map_or(0, |group| group.tgid());
        match &self.how {
            How::Nothing => (1, 0, pid),
            How::Signal(signal, _) => (0, signal.map_or(0, Signal::number), pid),
            How::Thread(..) => (2, 0, pid),
        }
    }

    /// A message has come, sent by `sender`. Takes the signals' lock.
    pub fn fire(self, sender: &Task) {
        match self.how {
            How::Nothing | How::Signal(None, _) => {}
            How::Signal(Some(signal), value) => {
                let Some(group) = self.group.upgrade() else { return };
                let pid = group.pid_ns().local(sender.tgid());
                let uid = self.creds.user_ns.show_uid(sender.creds().uid);
                let fields = SigFields::Queue { pid, uid, value };
                let info = SigInfo { signal, errno: 0, code: SI_MESGQ, fields };
                send::to_group(sender.kernel(), &group, &info);
            }
            How::Thread(socket, cookie) => tell(&socket, cookie, WOKENUP),
        }
    }

    /// It is taken back.
    pub fn remove(self) {
        if let How::Thread(socket, cookie) = self.how {
            tell(&socket, cookie, REMOVED);
        }
    }
}

fn tell(socket: &Weak<dyn Socket>, mut cookie: [u8; COOKIE_LEN], what: u8) {
    cookie[COOKIE_LEN - 1] = what;
    let socket = socket.upgrade();
    if let Some(netlink) = socket.as_ref().and_then(|s| s.as_any().downcast_ref::<NetlinkSocket>())
    {
        netlink.deliver(cookie.to_vec());
    }
}
