//! Ending a connection: in order, by reset, and through TIME-WAIT.

use super::Cx;
use super::conn::{Conn, State};
use super::time_wait::Record;
use crate::endpoint::{IcmpError, Readiness, Shutdown};
use crate::error::{Error, Result};
use crate::timers::TimerKey;

impl Conn {
    /// shutdown(2).
    pub(crate) fn shutdown(&mut self, cx: &mut Cx<'_>, how: Shutdown) -> Result<()> {
        if matches!(self.state, State::Closed) {
            return Err(Error::NotConnected);
        }
        if self.state == State::SynSent {
            self.fail(cx, None);
            return Ok(());
        }
        if how != Shutdown::Write {
            self.rcv.shut = true;
            cx.events |= Readiness::IN | Readiness::RDHUP;
        }
        if how != Shutdown::Read {
            self.send_fin(cx);
        }
        Ok(())
    }

    fn send_fin(&mut self, cx: &mut Cx<'_>) {
        if self.snd.fin {
            return;
        }
        match self.state {
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            // Remembered until the handshake is complete.
            State::SynReceived => {}
            _ => return,
        }
        self.snd.fin = true;
        cx.events |= Readiness::OUT;
        self.output(cx);
    }

    /// The socket is gone (close(2)).
    pub(crate) fn detach(&mut self, cx: &mut Cx<'_>) {
        self.detached = true;
        let unread = self.rcv.rx.len() > 0;
        self.rcv.shut = true;
        self.rcv.rx.clear();
        self.rcv.assembler.clear();
        if self.state == State::Closed {
            return;
        }
        if !self.is_synchronized() {
            self.send_reset(cx);
            self.fail(cx, None);
            return;
        }
        let crowded = {
            use std::sync::atomic::Ordering;
            cx.stack.orphans.load(Ordering::Relaxed) >= cx.stack.config.tcp.max_orphans
        };
        if unread || self.options.reset_on_close || crowded {
            // Data that nobody will read must not look delivered (RFC 2525, section 2.17).
            cx.stack.stats().tcp_abort_on_close.inc();
            self.send_reset(cx);
            self.fail(cx, None);
            return;
        }
        // What is out of order was only lent: its place in the buffer is gone.
        self.send_fin(cx);
        if self.state == State::FinWait2 {
            self.at.fin_wait = Some(cx.now + self.options.fin_timeout);
        }
    }

    /// Gives up at once, telling the peer.
    pub(crate) fn abort(&mut self, cx: &mut Cx<'_>) {
        self.send_reset(cx);
        self.fail(cx, Some(Error::ConnectionAborted));
    }

    /// The connection ends with an error.
    pub(crate) fn fail(&mut self, cx: &mut Cx<'_>, error: Option<Error>) {
        if error.is_some() {
            self.error = error;
        }
        self.closed(cx);
    }

    /// The connection is over.
    pub(crate) fn closed(&mut self, cx: &mut Cx<'_>) {
        self.state = State::Closed;
        self.board.clear();
        self.snd.tx.clear();
        self.at = super::conn::Deadlines::default();
        self.ack = super::conn::AckState::default();
        cx.gone = true;
        cx.events |= Readiness::all() - Readiness::PRI;
        if self.error.is_none() {
            cx.events -= Readiness::ERR;
        }
    }

    /// Both sides have closed, we first: a record remembers the connection (RFC 9293, section 3.6.1).
    pub(crate) fn enter_time_wait(&mut self, cx: &mut Cx<'_>) {
        let window = self.rcv.edge.since(self.rcv.nxt) >> self.rcv.shift;
        let record = Record {
            tuple: self.tuple,
            rcv_nxt: self.rcv.nxt,
            snd_nxt: self.snd.nxt,
            window: window.min(65535) as u16,
            stamps_on: self.stamps.on,
            recent: self.stamps.recent,
            offset: self.stamps.offset,
            next_iss: self.next_iss(),
            since: cx.now,
            last_ack: None,
        };
        // The last acknowledgement must not be forgotten with the connection.
        if self.ack.now {
            self.send_ack(cx);
        }
        let mut table = cx.stack.demux.time_wait.lock();
        let ok = table.insert(record, cx.stack.config.tcp.max_time_wait, cx.now);
        let deadline = table.deadline();
        drop(table);
        if !ok {
            cx.stack.stats().tcp_time_wait_overflow.inc();
        }
        cx.stack.set_timer(TimerKey::TimeWait, deadline);
        self.closed(cx);
    }

    /// An ICMP error about a segment of ours whose number was `seq`.
    pub(crate) fn icmp_error(&mut self, cx: &mut Cx<'_>, seq: super::Seq, error: &IcmpError) {
        // It must be about something outstanding (RFC 5927, section 4.1).
        if self.state == State::Closed || seq.before(self.snd.una) || seq.after(self.snd.nxt) {
            return;
        }
        if let Some(mtu) = error.mtu {
            let now = cx.now;
            let sent = self.snd.mss as usize + 40;
            let dst = self.tuple.remote.ip();
            let known = cx.stack.pmtu.lock().reduce(dst, mtu as usize, sent, now);
            if known.is_some() {
                self.path_shrank(cx);
            }
            return;
        }
        if self.is_synchronized() {
            // An established connection outlives what may be temporary, and what an attacker may have sent
            // (RFC 5461).
            self.soft_error = Some(error.error);
        } else {
            // As Linux: an attempt ends with the first error, also one that may be temporary, such as a neighbour
            // that does not answer.
            cx.stack.stats().tcp_attempt_fails.inc();
            self.fail(cx, Some(error.error));
        }
    }

    /// What was sent in segments that are now too large goes again, smaller.
    fn path_shrank(&mut self, cx: &mut Cx<'_>) {
        let before = self.snd.mss;
        self.route = None;
        if self.route(cx).is_err() || self.snd.mss >= before || !self.is_synchronized() {
            return;
        }
        let mss = self.snd.mss;
        let too_large: Vec<_> = self
            .board
            .iter()
            .enumerate()
            .filter(|(_, s)| s.len > mss && !s.sacked)
            .map(|(i, _)| i)
            .collect();
        for i in too_large {
            self.board.mark_lost(i);
        }
        self.recovery.first = true;
        self.output(cx);
    }
}
