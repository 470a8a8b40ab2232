//! A queue's messages and who waits for them.
//!
//! As in Linux, a message that a sleeper waits for is handed to it and never enters the queue; nobody
//! is notified of it then.

use super::notify::Registration;
use super::settings::Size;
use crate::errno::{Errno, Result};
use crate::kernel::ipc::msg::Message;
use crate::kernel::{Task, ThreadGroup};
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, WaitQueue, Waker};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Priorities are below this (`MQ_PRIO_MAX`).
pub const PRIO_MAX: u32 = 32768;

/// What a sleeper has: a sender its message, a receiver the one it was handed.
pub struct Sleeper {
    message: Mutex<Option<Message>, { rank::LEAF }>,
    waker: Arc<dyn Waker>,
}

/// How a try to send ended.
pub enum Sent {
    /// It is done.
    Done,
    /// The queue is full; the sender is in the list of those who wait.
    Waits(Arc<Sleeper>),
}

/// How a try to receive ended.
pub enum Received {
    /// A message.
    Message(Message),
    /// The queue is empty; the receiver is in the list of those who wait.
    Waits(Arc<Sleeper>),
}

/// A queue. The priority of a message is its `kind`.
pub struct Queue {
    /// What it can hold.
    pub size: Size,
    /// Told when messages come and go.
    pub waiters: WaitQueue,
    state: Mutex<State, { rank::INODE }>,
}

#[derive(Default)]
struct State {
    messages: BTreeMap<i64, VecDeque<Message>>,
    count: u64,
    bytes: u64,
    senders: VecDeque<Arc<Sleeper>>,
    receivers: VecDeque<Arc<Sleeper>>,
    registration: Option<Registration>,
}

impl State {
    fn insert(&mut self, message: Message) {
        self.count += 1;
        self.bytes += message.text.len() as u64;
        self.messages.entry(message.kind).or_default().push_back(message);
    }

    /// The oldest message of the highest priority.
    fn take(&mut self) -> Option<Message> {
        let mut highest = self.messages.last_entry()?;
        let message = highest.get_mut().pop_front()?;
        if highest.get().is_empty() {
            highest.remove();
        }
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.text.len() as u64);
        Some(message)
    }
}

fn leave(list: &mut VecDeque<Arc<Sleeper>>, sleeper: &Arc<Sleeper>) {
    list.retain(|other| !Arc::ptr_eq(other, sleeper));
}

impl Queue {
    /// An empty one.
    pub fn new(size: Size) -> Self {
        Self { size, waiters: WaitQueue::new(), state: Mutex::default() }
    }

    /// Messages in it.
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// Readiness now.
    pub fn poll(&self) -> EventMask {
        let count = self.count();
        let mut events = EventMask::empty();
        events.set(EventMask::READABLE, count > 0);
        events.set(EventMask::WRITABLE, count < self.size.messages);
        events
    }

    /// Sends. When the queue is full: `EAGAIN` without a waker, otherwise the sender is noted as one that
    /// waits.
    pub fn send(
        &self,
        sender: &Task,
        message: Message,
        waker: Option<Arc<dyn Waker>>,
    ) -> Result<Sent> {
        let (receiver, registration) = {
            let mut state = self.state.lock();
            if state.count >= self.size.messages {
                let waker = waker.ok_or(Errno::EAGAIN)?;
                let sleeper = Arc::new(Sleeper { message: Mutex::new(Some(message)), waker });
                state.senders.push_back(sleeper.clone());
                return Ok(Sent::Waits(sleeper));
            }
            match state.receivers.pop_front() {
                Some(receiver) => {
                    *receiver.message.lock() = Some(message);
                    (Some(receiver), None)
                }
                None => {
                    state.insert(message);
                    let first = state.count == 1;
                    (None, if first { state.registration.take() } else { None })
                }
            }
        };
        if let Some(receiver) = receiver {
            receiver.waker.wake(EventMask::READABLE);
            return Ok(Sent::Done);
        }
        if let Some(registration) = registration {
            registration.fire(sender);
        }
        self.waiters.notify(EventMask::READABLE);
        Ok(Sent::Done)
    }

    /// True when the message of a sender that waits has been taken.
    pub fn is_sent(&self, sleeper: &Sleeper) -> bool {
        sleeper.message.lock().is_none()
    }

    /// Receives. When the queue is empty: `EAGAIN` without a waker, otherwise the receiver is noted as one
    /// that waits.
    pub fn receive(&self, waker: Option<Arc<dyn Waker>>) -> Result<Received> {
        let (message, sender) = {
            let mut state = self.state.lock();
            let Some(message) = state.take() else {
                let waker = waker.ok_or(Errno::EAGAIN)?;
                let sleeper = Arc::new(Sleeper { message: Mutex::new(None), waker });
                state.receivers.push_back(sleeper.clone());
                return Ok(Received::Waits(sleeper));
            };
            // There is room for the message of whoever has waited longest.
            let sender = state.senders.pop_front();
            if let Some(next) = sender.as_ref().and_then(|s| s.message.lock().take()) {
                state.insert(next);
            }
            (message, sender)
        };
        match sender {
            Some(sender) => sender.waker.wake(EventMask::WRITABLE),
            None => self.waiters.notify(EventMask::WRITABLE),
        }
        Ok(Received::Message(message))
    }

    /// The message that a receiver that waits has been handed.
    pub fn handed(&self, sleeper: &Sleeper) -> Option<Message> {
        sleeper.message.lock().take()
    }

    /// A sleeper waits no longer; what it was handed or is rid of in the meantime stays so.
    pub fn give_up(&self, sleeper: &Arc<Sleeper>) {
        let mut state = self.state.lock();
        leave(&mut state.senders, sleeper);
        leave(&mut state.receivers, sleeper);
    }

    /// Registers a process to be told of the next message. `EBUSY` if one is.
    pub fn register(&self, registration: Registration) -> Result<()> {
        let mut state = self.state.lock();
        if state.registration.as_ref().is_some_and(Registration::is_alive) {
            return Err(Errno::EBUSY);
        }
        state.registration = Some(registration);
        Ok(())
    }

    /// Takes back the registration, if it is that process's.
    pub fn unregister(&self, group: &Arc<ThreadGroup>) {
        let gone = {
            let mut state = self.state.lock();
            let own = state.registration.as_ref().is_some_and(|r| r.is_of(group));
            if own { state.registration.take() } else { None }
        };
        if let Some(registration) = gone {
            registration.remove();
        }
    }

    /// Bytes in it, and what [`Registration::describe`] says.
    pub fn describe(&self) -> (u64, (i32, i32, i32)) {
        let state = self.state.lock();
        let registration = state.registration.as_ref().filter(|r| r.is_alive());
        (state.bytes, registration.map_or((0, 0, 0), Registration::describe))
    }
}
