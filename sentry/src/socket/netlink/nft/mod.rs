//! `NETLINK_NETFILTER`: nf_tables, and what `iptables-nft` asks besides (`nft(8)`, `linux/netfilter/nfnetlink.h`).
//!
//! * here: batches, which happen as a whole or not at all, and questions. [`attr`]: the format.
//! * [`model`]: the ruleset as it is listed. [`change`]: changes of it.
//! * [`expr`] and [`set`]: expressions and sets, and what the filter runs.

pub mod attr;
pub mod change;
mod expr;
pub mod model;
mod set;
#[cfg(test)]
mod tests;

use super::message::{self, ACK, DUMP, MULTI, REQUEST, Request};
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::socket::inet::Net;
use crate::socket::xtables;
use attr::{Attrs, Out};
use change::Message;
use model::{Chain, Set, State, Table};
use std::sync::Arc;

/// The front end's number among the owners of tables.
const FRONT_END: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`, `NFNL_SUBSYS_NFT_COMPAT`
const NFTABLES: u16 = 10;
const COMPAT: u16 = 11;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`
const BEGIN: u16 = 16;
const END: u16 = 17;
/// Bytes of members in one message.
const MEMBERS: usize = 100;
/// `struct nfgenmsg`
const GENERIC: usize = 4;
/// Most bytes of one datagram of a dump.
const DATAGRAM: usize = 8192;

/// Who asks.
pub struct Asker<'a> {
    /// The task.
    pub task: &'a Task,
    /// The port id of the socket.
    pub port: u32,
    /// Errors come without the request (`NETLINK_CAP_ACK`).
    pub capped: bool,
}

struct Answers {
    datagrams: Vec<Vec<u8>>,
    port: u32,
}

fn packet(kind: u16, flags: u16, (seq, port): (u32, u32), body: &[u8]) -> Vec<u8> {
    let len = (message::HEADER + body.len()) as u32;
    let mut out = len.to_ne_bytes().to_vec();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&seq.to_ne_bytes());
    out.extend_from_slice(&port.to_ne_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

impl Answers {
    fn status(&mut self, request: &Request<'_>, result: Result<()>, capped: bool) {
        let mut answer = message::Answer::new(request.seq, self.port, false);
        answer.status(request, result, capped);
        self.datagrams.extend(answer.into_datagrams());
    }

    fn put(&mut self, request: &Request<'_>, kind: u16, family: u8, generation: u32, attrs: &Out) {
        let dump = request.flags & DUMP == DUMP;
        let mut body = vec![family, 0];
        body.extend_from_slice(&(generation as u16).to_be_bytes());
        body.extend_from_slice(&attrs.0);
        let message = packet(kind, if dump { MULTI } else { 0 }, (request.seq, self.port), &body);
        match self.datagrams.last_mut() {
            Some(last) if dump && last.len() + message.len() <= DATAGRAM => last.extend(message),
            _ => self.datagrams.push(message),
        }
    }
}

fn body<'a>(request: &Request<'a>) -> Result<(u8, Attrs<'a>)> {
    let family = *request.body.first().ok_or(Errno::EINVAL)?;
    let attrs = request.body.get(GENERIC..).ok_or(Errno::EINVAL)?;
    Ok((family, Attrs::new(attrs)))
}

/// Answers everything in a datagram.
pub fn handle(net: &Arc<Net>, asker: &Asker<'_>, data: &[u8]) -> Vec<Vec<u8>> {
    let mut answers = Answers { datagrams: Vec::new(), port: asker.port };
    let mut rest = data;
    while let Some(request) = message::next(&mut rest) {
        if request.kind == BEGIN {
            batch(net, asker, &request, &mut rest, &mut answers);
            continue;
        }
        if request.flags & REQUEST == 0 || request.kind < 16 {
            continue;
        }
        let result = if Net::capable(asker.task, CAP_NET_ADMIN) {
            ask(net, &request, &mut answers)
        } else {
            Err(Errno::EPERM)
        };
        let dump = request.flags & DUMP == DUMP;
        match result {
            Ok(()) if dump => {
                let seq = (request.seq, asker.port);
                answers.datagrams.push(packet(3, MULTI, seq, &0i32.to_ne_bytes()));
            }
            Ok(()) if request.flags & ACK == 0 => {}
            result => answers.status(&request, result, asker.capped),
        }
    }
    answers.datagrams
}

/// The messages up to the end of a batch.
fn batch(
    net: &Arc<Net>,
    asker: &Asker<'_>,
    begin: &Request<'_>,
    rest: &mut &[u8],
    answers: &mut Answers,
) {
    if !Net::capable(asker.task, CAP_NET_ADMIN) {
        answers.status(begin, Err(Errno::EPERM), asker.capped);
        *rest = &[];
        return;
    }
    let user_ns = asker.task.namespaces().net.user_ns().clone();
    let id = |id: u32, group: bool| {
        if group { user_ns.gid_to_kernel(id) } else { user_ns.uid_to_kernel(id) }
    };
    let mut current = net.nftables.lock();
    let mut state = State::clone(&current);
    let expected = body(begin).ok().and_then(|(_, attrs)| attrs.u32(1));
    if expected.is_some_and(|n| n != 0 && n != state.generation.wrapping_add(1)) {
        answers.status(begin, Err(Errno::ERESTARTSYS), asker.capped);
        *rest = &[];
        return;
    }
    let (mut failed, mut complete, mut changed) = (false, false, false);
    let mut last = *begin;
    while let Some(request) = message::next(rest) {
        if request.kind == END {
            complete = true;
            break;
        }
        last = request;
        changed = true;
        let result = if request.kind >> 8 == NFTABLES {
            body(&request).and_then(|(family, attrs)| {
                let (kind, flags) = (request.kind as u8, request.flags);
                change::apply(&mut state, &Message { kind, flags, family, attrs }, &id)
            })
        } else {
            Err(Errno::EINVAL)
        };
        failed |= result.is_err();
        if result.is_err() || request.flags & ACK != 0 {
            answers.status(&request, result, asker.capped);
        }
    }
    if failed || !complete || !changed {
        return;
    }
    change::settle(&mut state);
    match change::compile(&state, &id) {
        Ok(tables) => {
            let tables = (0..).zip(tables).map(|(n, t)| ((FRONT_END, n), Arc::new(t))).collect();
            net.filter.replace(|(front_end, _)| front_end == FRONT_END, tables);
            state.generation = state.generation.wrapping_add(1);
            for table in &mut state.tables {
                table.chains.iter_mut().for_each(|c| c.id = None);
                table.chains.iter_mut().flat_map(|c| &mut c.rules).for_each(|r| r.id = None);
                table.sets.iter_mut().for_each(|s| s.id = None);
            }
            *current = state;
        }
        Err(e) => answers.status(&last, Err(e), asker.capped),
    }
}

/// A question outside of batches.
fn ask(net: &Arc<Net>, request: &Request<'_>, answers: &mut Answers) -> Result<()> {
    let (family, attrs) = body(request)?;
    match request.kind >> 8 {
        NFTABLES => {
            let state = net.nftables.lock().clone();
            list(&state, request, family, attrs, answers)
        }
        COMPAT if request.kind & 0xff == 0 => compat(request, family, attrs, answers),
        _ => Err(Errno::EINVAL),
    }
}

/// Is there an extension of iptables?
fn compat(
    request: &Request<'_>,
    family: u8,
    attrs: Attrs<'_>,
    answers: &mut Answers,
) -> Result<()> {
    let (name, revision, kind) = (attrs.name(1)?, attrs.need(2)?, attrs.need(3)?);
    let known = match kind {
        0 => xtables::matches::revisions(family == 10, &name),
        _ => xtables::targets::revisions(family == 10, &name),
    };
    if known.is_empty() {
        return Err(Errno::ENOENT);
    }
    if !known.iter().any(|r| u32::from(*r) == revision) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let mut out = Out::default();
    out.text(1, &name).u32(2, revision).u32(3, kind);
    answers.put(request, COMPAT << 8, family, 0, &out);
    Ok(())
}

fn list(
    state: &State,
    request: &Request<'_>,
    family: u8,
    attrs: Attrs<'_>,
    answers: &mut Answers,
) -> Result<()> {
    let generation = state.generation.wrapping_add(1);
    let mut put = |kind: u16, table: &Table, out: &Out| {
        answers.put(request, NFTABLES << 8 | kind, table.family, generation, out);
    };
    let dump = request.flags & DUMP == DUMP;
    // In all these messages the table's name is the first attribute.
    let table = attrs.text(1)?;
    let second = attrs.text(if request.kind & 0xff == 4 { 3 } else { 2 });
    let tables = || {
        let fits = |t: &&Table| {
            (family == 0 || t.family == family) && table.as_ref().is_none_or(|n| *n == t.name)
        };
        state.tables.iter().filter(fits)
    };
    if !dump && table.is_some() && tables().next().is_none() {
        return Err(Errno::ENOENT);
    }
    let named =
        |name: &str| second.as_ref().ok().and_then(Option::as_ref).is_none_or(|n| n == name);
    let chains = |t: &'_ Table| -> Vec<Chain> {
        t.chains.iter().filter(|c| named(&c.name)).cloned().collect()
    };
    let sets =
        |t: &'_ Table| -> Vec<Set> { t.sets.iter().filter(|s| named(&s.name)).cloned().collect() };
    let mut found = false;
    match request.kind & 0xff {
        16 => {
            let mut out = Out::default();
            let task = crate::kernel::current();
            let pid = task.as_ref().map_or(0, |t| t.tgid());
            out.u32(1, generation).u32(2, pid as u32);
            answers.put(request, NFTABLES << 8 | 15, 0, generation, &out);
            found = true;
        }
        1 => tables().for_each(|t| {
            found = true;
            put(0, t, &t.show());
        }),
        4 => tables().for_each(|t| {
            let references = t.references();
            chains(t).iter().for_each(|c| {
                found = true;
                let named = references.get(&c.name).copied().unwrap_or(0);
                put(3, t, &t.show_chain(c, named));
            });
        }),
        // NFT_MSG_GETRULE and NFT_MSG_GETRULE_RESET
        7 | 25 => tables().for_each(|t| {
            let handle = attrs.u64(3);
            for chain in chains(t) {
                for (n, rule) in chain.rules.iter().enumerate() {
                    if handle.is_none_or(|h| h == rule.handle) {
                        found = true;
                        t.show_rule(&chain, n).iter().for_each(|out| put(6, t, out));
                    }
                }
            }
        }),
        10 => tables().for_each(|t| {
            sets(t).iter().for_each(|s| {
                found = true;
                put(9, t, &t.show_set(s));
            });
        }),
        13 => tables().for_each(|t| {
            sets(t).iter().for_each(|s| {
                found = true;
                s.members.chunks(MEMBERS).for_each(|m| put(12, t, &t.show_members(s, m)));
            });
        }),
        // There are no named objects and no flow tables.
        19 | 21 | 23 => {}
        _ => return Err(Errno::EINVAL),
    }
    if found || dump { Ok(()) } else { Err(Errno::ENOENT) }
}
