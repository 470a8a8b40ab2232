//! The receive side: data into its place, the window, acknowledgements, buffer tuning.

use super::conn::{Conn, Urgent};
use super::{Cx, Seq};
use crate::endpoint::Readiness;
use crate::error::{Error, Result};
use crate::rxbuf::Kept;
use crate::time::Instant;
use crate::wire::tcp::Segment;
use std::time::Duration;

/// `TCP_DELACK_MIN`.
const DELACK: Duration = Duration::from_millis(40);

/// Dynamic right-sizing of the receive buffer: it follows what the application takes in one round trip.
#[derive(Debug, Default)]
pub(crate) struct Tuning {
    /// The round trip as the receiver sees it.
    rtt: Option<Duration>,
    /// Without time stamps: when the window that now ends here was opened.
    window_end: Option<(Seq, Instant)>,
    since: Option<Instant>,
    copied: usize,
    space: usize,
}

/// What to do with received data.
#[derive(Debug)]
pub(crate) enum Reading<'a> {
    /// Copy it and take it off.
    Take(&'a mut [u8]),
    /// Copy it.
    Peek(&'a mut [u8]),
    /// Take so many bytes off.
    Discard(usize),
}

impl Conn {
    /// Takes in a segment's data, which begins at or before the window's end. True when it was taken.
    pub(crate) fn take_data(&mut self, cx: &mut Cx<'_>, s: &Segment<'_>) {
        let (mut from, mut data) = (s.header.seq, s.payload);
        if data.is_empty() {
            return;
        }
        let end = from + data.len() as u32;
        if !end.after(self.rcv.nxt) {
            // All of it is old: the peer did not get our acknowledgement.
            self.rcv.dsack = Some((from, end));
            self.enter_quickack();
            self.ack.now = true;
            return;
        }
        if from.before(self.rcv.nxt) {
            let old = self.rcv.nxt.since(from);
            self.rcv.dsack = Some((from, self.rcv.nxt));
            data = data.get(old as usize..).unwrap_or_default();
            from = self.rcv.nxt;
        }
        let room = self.told().since(from) as usize;
        if data.len() > room {
            data = data.get(..room).unwrap_or_default();
            self.ack.now = true;
        }
        if data.is_empty() {
            self.ack.now = true;
            return;
        }
        let end = from + data.len() as u32;
        let at = self.rcv.rx.len() + from.since(self.rcv.nxt) as usize;
        let kept = from == self.rcv.nxt && self.rcv.rx.keep(s.buffer, data);
        if !kept && !self.rcv.rx.write_at(at, data) {
            // No memory: as if it had not come. The acknowledgement says where we are.
            cx.stack.stats().tcp_rcv_q_drop.inc();
            self.ack.now = true;
            return;
        }
        if from.after(self.rcv.nxt) {
            cx.stack.stats().tcp_ofo_queue.inc();
            match self.rcv.assembler.add(from, end) {
                Some(Some(known)) => self.rcv.dsack = Some(known),
                Some(None) => {}
                None => cx.stack.stats().tcp_rcv_q_drop.inc(),
            }
            // Out of order: at once (RFC 5681, section 4.2).
            self.enter_quickack();
            self.ack.now = true;
            return;
        }
        let filled_hole = !self.rcv.assembler.is_empty();
        let next = self.rcv.assembler.advance(end);
        let advanced = next.since(self.rcv.nxt);
        if !kept {
            self.rcv.rx.commit(advanced as usize);
        }
        self.rcv.nxt = next;
        self.bytes_received += u64::from(advanced);
        self.take_urgent();
        self.measure(cx.now, s);
        self.ack.pending += advanced;
        let mss = self.segment_guess(data.len());
        let soon = filled_hole
            || self.options.quickack
            || (self.ack.quick > 0 && !self.ack.interactive)
            || self.ack.pending >= 2 * mss;
        if soon {
            self.ack.quick = self.ack.quick.saturating_sub(1);
            self.ack.now = true;
        } else if self.at.delack.is_none() {
            self.at.delack = Some(cx.now + DELACK);
        }
        cx.events |= Readiness::IN;
    }

    /// The peer's segment size is not known; what it sends says it.
    fn segment_guess(&self, len: usize) -> u32 {
        let len = len as u32;
        if len >= 536 { len.min(1460) } else { self.snd.mss.min(1460) }
    }

    pub(crate) fn enter_quickack(&mut self) {
        self.ack.quick = 16;
        self.ack.interactive = false;
    }

    /// Bytes that can be read before the end or the urgent mark.
    pub(crate) fn readable(&self) -> usize {
        let len = self.rcv.rx.len();
        match self.mark() {
            Some(0) if !self.options.oob_inline => len.saturating_sub(1),
            _ => len,
        }
    }

    /// How many bytes before the urgent byte the reader is; `None`: no urgent byte in what is here or to
    /// come.
    pub(crate) fn mark(&self) -> Option<usize> {
        let at = match self.rcv.urgent {
            Urgent::None => return None,
            Urgent::Expected(at) | Urgent::Ready(at, _) | Urgent::Taken(at) => at,
        };
        let first = self.rcv.nxt - self.rcv.rx.len() as u32;
        (!at.before(first)).then(|| at.since(first) as usize)
    }

    /// The urgent byte has arrived: it can be read out of turn.
    pub(crate) fn take_urgent(&mut self) {
        if let Urgent::Expected(at) = self.rcv.urgent
            && at.before(self.rcv.nxt)
            && let Some(offset) = self.mark()
        {
            let mut byte = [0];
            if self.rcv.rx.copy_out(offset, &mut byte) == 1 {
                self.rcv.urgent = Urgent::Ready(at, byte[0]);
            }
        }
    }

    /// Copies or takes off received data. It stops at the urgent mark, as reading does in Linux.
    pub(crate) fn read(&mut self, cx: &mut Cx<'_>, how: Reading<'_>) -> Result<usize> {
        let mut skip = 0;
        let mut max = match &how {
            Reading::Take(to) | Reading::Peek(to) => to.len(),
            Reading::Discard(n) => *n,
        };
        match self.mark() {
            Some(0) if !self.options.oob_inline && self.rcv.rx.len() > 0 => skip = 1,
            Some(0) => {}
            Some(n) => max = max.min(n),
            None => {}
        }
        let peek = matches!(how, Reading::Peek(_));
        let n = match how {
            Reading::Take(to) | Reading::Peek(to) => {
                self.rcv.rx.copy_out(skip, to.get_mut(..max).unwrap_or_default())
            }
            Reading::Discard(_) => max.min(self.rcv.rx.len().saturating_sub(skip)),
        };
        if n == 0 {
            return self.read_nothing(max == 0);
        }
        if !peek {
            self.rcv.rx.consume(skip + n);
            if self.mark().is_none() && !matches!(self.rcv.urgent, Urgent::Expected(_)) {
                self.rcv.urgent = Urgent::None;
            }
            self.tune(cx, n);
            self.window_opened(cx);
        }
        Ok(n)
    }

    /// The first bytes where they are, when they need not be copied: a frame's, and no urgent mark is near.
    pub(crate) fn lend(&self) -> Option<Kept> {
        self.rcv.rx.first().filter(|_| self.mark().is_none()).cloned()
    }

    fn read_nothing(&mut self, asked_nothing: bool) -> Result<usize> {
        use super::conn::State;
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.at_end() || self.rcv.shut || self.state == State::Closed {
            return Ok(0);
        }
        if asked_nothing { Ok(0) } else { Err(Error::WouldBlock) }
    }

    /// The window that fits the buffer, with the edge never moving back (RFC 9293, section 3.8.6.2.2).
    fn update_window(&mut self) {
        let free = self.rcv.buffer.saturating_sub(self.rcv.rx.len());
        let step = (self.snd.mss as usize).min(self.rcv.buffer / 2);
        let max = 65535usize << self.rcv.shift;
        let edge = self.rcv.nxt + free.min(max) as u32;
        let gain = edge.since(self.rcv.edge) as usize;
        if gain >= step.max(1) {
            self.rcv.edge = edge;
        }
    }

    /// The window field of a segment, and the promise that goes with it.
    pub(crate) fn window_to_send(&mut self) -> u16 {
        self.update_window();
        let window = self.rcv.edge.since(self.rcv.nxt);
        // Rounded up, so that the right edge does not move back by the rounding. The edge itself stays, or
        // many small segments would move it by a little each.
        let unit = 1u32 << self.rcv.shift;
        let scaled = window.div_ceil(unit).min(65535);
        self.rcv.told = self.told().max(self.rcv.nxt + scaled * unit);
        scaled as u16
    }

    /// The right edge of what the peer may send.
    pub(crate) fn told(&self) -> Seq {
        self.rcv.told.max(self.rcv.edge)
    }

    /// The application took data: tell the peer if that opened the window by much.
    fn window_opened(&mut self, cx: &mut Cx<'_>) {
        if !self.is_synchronized() || self.rcv.fin.is_some() {
            return;
        }
        let free = self.rcv.buffer.saturating_sub(self.rcv.rx.len());
        let max = 65535usize << self.rcv.shift;
        let could = self.rcv.nxt + free.min(max) as u32;
        let gain = could.since(self.rcv.edge) as usize;
        let now_open = self.rcv.edge.since(self.rcv.nxt) as usize;
        let step = (2 * self.snd.mss as usize).min(self.rcv.buffer / 2).max(1);
        // Twice the window, or an opening from zero (Linux's `tcp_cleanup_rbuf`).
        if gain >= step && (free >= 2 * now_open) {
            self.ack.now = true;
        }
        if self.ack.now {
            self.send_ack(cx);
        }
    }

    /// Samples the round trip on the receiving side.
    fn measure(&mut self, now: Instant, s: &Segment<'_>) {
        let sample = match s.header.options.timestamps {
            Some((_, echo)) if self.stamps.on && echo != 0 => {
                let ms = self.ts_now(now).wrapping_sub(echo);
                (ms < 60_000).then(|| Duration::from_millis(ms.max(1).into()))
            }
            _ => match self.rcv.tune.window_end {
                Some((end, at)) if !self.rcv.nxt.before(end) => {
                    self.rcv.tune.window_end = Some((self.rcv.edge, now));
                    Some(now.since(at))
                }
                Some(_) => None,
                None => {
                    self.rcv.tune.window_end = Some((self.rcv.edge, now));
                    None
                }
            },
        };
        if let Some(r) = sample {
            let old = self.rcv.tune.rtt;
            self.rcv.tune.rtt =
                Some(old.map_or(r, |old| if r < old { r } else { old * 7 / 8 + r / 8 }));
        }
    }

    /// The application took `n` bytes: once in a round trip, see whether the buffer should grow.
    fn tune(&mut self, cx: &Cx<'_>, n: usize) {
        let t = &mut self.rcv.tune;
        t.copied += n;
        let since = *t.since.get_or_insert(cx.now);
        let Some(rtt) = t.rtt else { return };
        if cx.now.since(since) < rtt {
            return;
        }
        let copied = std::mem::take(&mut t.copied);
        t.since = Some(cx.now);
        let before = if t.space == 0 { self.rcv.buffer / 4 } else { t.space };
        if copied <= before {
            return;
        }
        t.space = copied;
        if self.options.rcvbuf.is_some() || cx.stack.budget.pressure() {
            return;
        }
        // Room for this round trip and the next in slow start.
        let want = 2 * copied + 16 * self.snd.mss as usize;
        let want = want + want * (copied - before) / before.max(1) * 2;
        let max = cx.stack.config.tcp.rmem.1;
        self.rcv.buffer = self.rcv.buffer.max(want.min(max));
    }
}
