//! Loss recovery: when to reduce the congestion window, proportional rate reduction (RFC 6937) while
//! recovering, and taking a reduction back that was not justified (RFC 3522, RFC 2883).

use super::conn::Conn;
use super::scoreboard::Delivered;
use super::{Cx, Seq};

/// Where the sender is with losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Open,
    /// The network says that it is congested, nothing is lost.
    Reduced,
    /// Fast recovery.
    Recovery,
    /// After a time-out.
    Loss,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovery {
    pub phase: Phase,
    /// `SND.NXT` when the phase began: it ends when this is acknowledged.
    pub high: Seq,
    /// The first retransmission of a recovery is still to be sent; it needs no window.
    pub first: bool,
    /// Duplicate acknowledgements, from peers without SACK.
    pub dup_acks: u32,
    prr: Prr,
    undo: Option<Undo>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Prr {
    delivered: u32,
    out: u32,
    flight: u32,
}

/// What a reduction can be taken back with.
#[derive(Clone, Copy, Debug)]
struct Undo {
    cwnd: u32,
    ssthresh: u32,
    /// The time stamp of the first retransmission.
    stamp: Option<u32>,
    /// Bytes sent again whose arrival was not reported as a duplicate.
    unexplained: i64,
    any: bool,
}

impl Recovery {
    /// New data was sent.
    pub(crate) fn prr_out(&mut self, len: u32) {
        if matches!(self.phase, Phase::Recovery | Phase::Reduced) {
            self.prr.out = self.prr.out.saturating_add(len);
        }
    }

    /// `len` bytes were sent again, with this time stamp.
    pub(crate) fn on_retransmit(&mut self, stamp: Option<u32>, len: u32) {
        self.prr_out(len);
        if let Some(undo) = &mut self.undo {
            if !undo.any {
                undo.stamp = stamp;
            }
            undo.any = true;
            undo.unexplained += i64::from(len);
        }
    }
}

impl Conn {
    /// Bytes in flight. Without SACK, each duplicate acknowledgement says that a segment has left.
    pub(crate) fn pipe(&self) -> u32 {
        let left =
            if self.sack_on { 0 } else { self.recovery.dup_acks.saturating_mul(self.snd.mss) };
        self.board.flight().saturating_sub(left)
    }

    fn begin(&mut self, phase: Phase) {
        if self.recovery.phase == Phase::Open {
            self.recovery.undo = Some(Undo {
                cwnd: self.cc.cwnd,
                ssthresh: self.cc.ssthresh,
                stamp: None,
                unexplained: 0,
                any: false,
            });
        }
        self.recovery.phase = phase;
        self.recovery.high = self.snd.nxt;
    }

    fn reduce(&mut self) {
        self.cc.ssthresh = self.cc.reduced(self.snd.mss);
        self.cc.on_reduction(self.snd.mss);
        self.recovery.prr = Prr { flight: self.pipe().max(self.snd.mss), ..Prr::default() };
    }

    /// Something was lost.
    pub(crate) fn enter_recovery(&mut self, cx: &Cx<'_>) {
        cx.stack.stats().tcp_fast_recoveries.inc();
        let reduced = self.recovery.phase == Phase::Reduced;
        self.begin(Phase::Recovery);
        if !reduced {
            self.reduce();
        }
        self.recovery.first = true;
        self.at.tlp = None;
        self.ecn.cwr = self.ecn.on;
    }

    /// The network says that it is congested (RFC 3168, section 6.1.2), or a tail probe repaired a loss.
    pub(crate) fn enter_reduced(&mut self) {
        if self.recovery.phase == Phase::Open {
            self.begin(Phase::Reduced);
            // A mark cannot turn out to be a mistake.
            self.recovery.undo = None;
            self.reduce();
            self.ecn.cwr = self.ecn.on;
        }
    }

    /// A time-out (RFC 5681, section 3.1).
    pub(crate) fn enter_loss(&mut self) {
        let again = self.recovery.phase == Phase::Loss && self.rtt.backoff > 0;
        if !again {
            if self.recovery.phase == Phase::Open || self.recovery.phase == Phase::Reduced {
                self.recovery.phase = Phase::Open;
            }
            let fresh = self.recovery.phase == Phase::Open;
            self.begin(Phase::Loss);
            if fresh {
                self.reduce();
            }
        }
        self.recovery.high = self.snd.nxt;
        self.cc.cwnd = self.snd.mss;
        self.recovery.first = true;
        self.recovery.dup_acks = 0;
        // A receiver that has thrown away what it had acknowledged selectively (RFC 2018, section 8): the
        // first segment outstanding cannot be one that it has.
        let renege = self.board.first().is_some_and(|s| s.sacked);
        self.board.mark_all_lost(renege);
        self.rack.probe = None;
        self.at.tlp = None;
        self.at.reorder = None;
        self.ecn.cwr = self.ecn.on;
    }

    /// What an acknowledgement means for recovery and the congestion window. `advanced`: it acknowledged new
    /// data cumulatively. `echo`: the time stamp it echoes.
    pub(crate) fn on_acknowledged(
        &mut self,
        cx: &mut Cx<'_>,
        d: &Delivered,
        advanced: bool,
        echo: Option<u32>,
    ) {
        self.maybe_undo(cx, d, advanced, echo);
        if self.sack_on {
            self.rack_update(cx, d, echo);
            self.rack_detect(cx.now);
        } else {
            self.without_sack(advanced);
        }
        if self.tail_probe_acked(d) {
            self.enter_reduced();
        }
        if self.recovery.phase != Phase::Open
            && !self.snd.una.before(self.recovery.high)
            && advanced
        {
            self.finish();
        }
        let losses = self.board.lost() > 0;
        if losses && matches!(self.recovery.phase, Phase::Open | Phase::Reduced) {
            self.enter_recovery(cx);
        }
        match self.recovery.phase {
            Phase::Recovery | Phase::Reduced => self.proportional(d, advanced && !losses),
            Phase::Open | Phase::Loss => {
                // Only for what arrived in order: what is out of order may mean a loss.
                if advanced
                    && d.bytes > 0
                    && (self.cwnd_limited || self.recovery.phase == Phase::Loss)
                {
                    let srtt = self.rtt.srtt.unwrap_or_default();
                    self.cc.on_ack(d.bytes, self.snd.mss, srtt, cx.now);
                }
            }
        }
    }

    /// NewReno (RFC 6582) for peers that do not report what they have.
    fn without_sack(&mut self, advanced: bool) {
        if advanced {
            self.recovery.dup_acks = 0;
            // A partial acknowledgement: the next hole is at its number.
            if self.recovery.phase == Phase::Recovery && self.snd.una.before(self.recovery.high) {
                self.board.mark_lost(0);
                self.recovery.first = true;
            }
        } else if self.recovery.dup_acks == 3 && self.recovery.phase == Phase::Open {
            self.board.mark_lost(0);
        }
    }

    fn finish(&mut self) {
        match self.recovery.phase {
            Phase::Recovery | Phase::Reduced => self.cc.cwnd = self.cc.ssthresh,
            Phase::Loss | Phase::Open => {}
        }
        if self.recovery.phase == Phase::Recovery {
            self.rack_recovered();
        }
        self.recovery.phase = Phase::Open;
        self.recovery.dup_acks = 0;
    }

    /// Proportional rate reduction with the slow-start reduction bound (RFC 6937, section 3).
    fn proportional(&mut self, d: &Delivered, safe: bool) {
        let mss = self.snd.mss;
        let p = &mut self.recovery.prr;
        p.delivered = p.delivered.saturating_add(d.bytes);
        let (delivered, out, flight) = (p.delivered, p.out, p.flight);
        let pipe = self.pipe();
        let ssthresh = self.cc.ssthresh;
        let send = if pipe > ssthresh {
            let goal = u64::from(delivered) * u64::from(ssthresh) / u64::from(flight.max(1));
            (goal.min(u32::MAX.into()) as u32).saturating_sub(out)
        } else {
            let mut limit = delivered.saturating_sub(out);
            if safe {
                limit = limit.max(d.bytes) + mss;
            }
            ssthresh.saturating_sub(pipe).min(limit)
        };
        self.cc.cwnd = (pipe + send).max(mss);
    }

    /// Eifel detection (RFC 3522): the first acknowledgement behind a retransmission echoes a time stamp
    /// from before it, so the original had arrived. Or everything sent again was reported as a duplicate.
    fn maybe_undo(&mut self, cx: &Cx<'_>, d: &Delivered, advanced: bool, echo: Option<u32>) {
        if let Some((from, to)) = d.dsack {
            cx.stack.stats().tcp_dsack_recv.inc();
            if let Some(undo) = &mut self.recovery.undo {
                undo.unexplained -= i64::from(to.since(from));
            }
        }
        if !matches!(self.recovery.phase, Phase::Recovery | Phase::Loss) {
            return;
        }
        let Some(undo) = self.recovery.undo.filter(|u| u.any) else { return };
        let early = match (undo.stamp, echo) {
            (Some(sent), Some(echo)) => advanced && (echo.wrapping_sub(sent) as i32) < 0,
            _ => false,
        };
        let explained = undo.unexplained <= 0 && d.dsack.is_some();
        if !early && !explained {
            return;
        }
        cx.stack.stats().tcp_undos.inc();
        self.board.forget_losses();
        self.cc.undo(undo.cwnd, undo.ssthresh);
        self.recovery.phase = Phase::Open;
        self.recovery.undo = None;
        self.rtt.backoff = 0;
    }
}
