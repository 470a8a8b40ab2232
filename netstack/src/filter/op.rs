//! The operations of a rule: those of nf_tables (`nft(8)`), on registers, and whole tests and targets.

use super::conntrack::{Relation, Tuple};
use super::limit::Limit;
use super::matches::{self, Match};
use super::nat::{self, Manip, Range};
use super::packet::{Device, Packet};
use super::set::{Data, Set};
use super::table::{Counter, Verdict};
use super::{Filter, Hook, Refusal, Surroundings};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Bytes of all registers.
pub const REGISTERS: usize = 80;

/// The registers of a rule.
pub struct Registers([u8; REGISTERS]);

impl Default for Registers {
    fn default() -> Self {
        Registers([0; REGISTERS])
    }
}

/// Bytes of the registers: the first, and how many. Front ends check that they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Offset of the first byte.
    pub at: usize,
    /// How many.
    pub len: usize,
}

impl Registers {
    fn get(&self, slot: Slot) -> &[u8] {
        self.0.get(slot.at..slot.at + slot.len).unwrap_or_default()
    }

    /// Stores, with zeros up to the end of the last word.
    fn put(&mut self, at: usize, data: &[u8]) {
        let padded = data.len().next_multiple_of(4);
        if let Some(place) = self.0.get_mut(at..at + padded) {
            place.fill(0);
            for (to, from) in place.iter_mut().zip(data) {
                *to = *from;
            }
        }
    }
}

/// Which header a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseHeader {
    /// IP's.
    Network,
    /// The protocol's above.
    Transport,
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of NFT_META_*")]
pub enum Meta {
    Len,
    Protocol,
    Mark,
    Iif,
    Oif,
    IifName,
    OifName,
    IifType,
    OifType,
    SkUid,
    SkGid,
    NfProto,
    L4Proto,
    PktType,
    Cpu,
    IifGroup,
    OifGroup,
    Random,
    Time,
}

/// What is known of a connection; `true` is the direction of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of NFT_CT_*")]
pub enum Ct {
    State,
    Direction,
    Status,
    Mark,
    Expiration,
    Protocol(bool),
    L3Protocol(bool),
    Source(bool),
    Destination(bool),
    SourcePort(bool),
    DestinationPort(bool),
    Id,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of NFT_CMP_*")]
pub enum Cmp {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

impl Cmp {
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Cmp::Eq => order.is_eq(),
            Cmp::Neq => order.is_ne(),
            Cmp::Lt => order.is_lt(),
            Cmp::Lte => order.is_le(),
            Cmp::Gt => order.is_gt(),
            Cmp::Gte => order.is_ge(),
        }
    }
}

/// Where translation gets its range from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatRange {
    /// It is fixed.
    Fixed(Range),
    /// Registers hold the addresses (IPv6 or not) and the ports, first and last.
    Registers {
        /// Addresses.
        addresses: Option<(Slot, Slot)>,
        /// Ports.
        ports: Option<(Slot, Slot)>,
        /// Ports are chosen at random.
        random: bool,
    },
}

/// What is translated, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Addresses of the range.
    To(Manip),
    /// The address of the device by which the packet leaves.
    Masquerade,
    /// This machine.
    Redirect,
}

/// An operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// A test.
    Match(Match),
    /// Counts.
    Count(Arc<Counter>),
    /// Says what is to happen.
    Verdict(Verdict),
    /// Loads a register.
    Immediate(usize, Vec<u8>),
    /// Loads bytes of the packet.
    Payload(BaseHeader, usize, Slot),
    /// Loads what is known of the packet.
    Meta(Meta, usize),
    /// Loads what is known of the connection.
    Ct(Ct, usize),
    /// Sets the mark from a register.
    SetMark(Slot),
    /// Sets the mark: bits that are kept, and bits that are flipped.
    Mark(u32, u32),
    /// Sets the connection's mark from a register.
    SetCtMark(Slot),
    /// Copies the mark to the connection (`true`) or back.
    CopyMark(bool),
    /// Compares a register.
    Cmp(Cmp, Slot, Vec<u8>),
    /// A register is within, or (`true`) outside of a range.
    Range(Slot, Vec<u8>, Vec<u8>, bool),
    /// Masks and flips bits.
    Bitwise(Slot, usize, Vec<u8>, Vec<u8>),
    /// Shifts a number left (`true`) or right.
    Shift(Slot, usize, bool, u32),
    /// Turns the bytes of each unit of so many around.
    Byteorder(Slot, usize, usize),
    /// Looks a register up; what it stands for goes to another one. `true`: it must not be there.
    Lookup(Arc<Set>, Slot, Option<usize>, bool),
    /// Looks a register up in a map of verdicts.
    VerdictMap(Arc<Set>, Slot),
    /// A rate, of packets or of bytes; `true`: what is above.
    Limit(Arc<Limit>, bool, bool),
    /// Translates.
    Nat(Nat, NatRange),
    /// Refuses.
    Reject(Option<Refusal>),
    /// Writes to the log.
    Log(String),
    /// The packet gets no connection.
    NoTrack,
    /// The type of an address of the packet: `true` for the source's.
    AddressType(bool, usize),
    /// Does nothing here: there are no segments whose size it could change.
    Nothing,
}

/// What comes after an operation.
pub enum Step {
    /// The next one.
    Next,
    /// The next rule.
    Break,
    /// What it says.
    Verdict(Verdict),
}

fn test(holds: bool) -> Step {
    if holds { Step::Next } else { Step::Break }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// An address in a register, of the packet's family.
fn address(bytes: &[u8], v6: bool) -> Option<IpAddr> {
    if v6 {
        bytes.first_chunk::<16>().map(|b| Ipv6Addr::from(*b).into())
    } else {
        bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b).into())
    }
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_be_bytes(*b))
}

impl Op {
    /// True if it looks at connections.
    pub fn tracks(&self) -> bool {
        match self {
            Op::Match(m) => m.tracks(),
            Op::Ct(..) | Op::SetCtMark(_) | Op::CopyMark(_) | Op::Nat(..) => true,
            _ => false,
        }
    }

    /// The verdicts it may say.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let of = |data: &Data| match data {
            Data::Verdict(verdict) => Some(*verdict),
            _ => None,
        };
        match self {
            Op::Verdict(verdict) => vec![*verdict],
            Op::VerdictMap(set, _) => set.data().into_iter().filter_map(of).collect(),
            _ => Vec::new(),
        }
    }

    /// How much work it is at most, of a comparison's worth.
    pub fn work(&self) -> usize {
        match self {
            Op::Lookup(set, ..) | Op::VerdictMap(set, ..) => set.work(),
            _ => 1,
        }
    }

    /// Does it.
    pub fn run(
        &self,
        registers: &mut Registers,
        packet: &mut Packet,
        around: &dyn Surroundings,
        filter: &Filter,
    ) -> Step {
        match self {
            Op::Match(m) => return test(m.holds(packet, around)),
            Op::Count(counter) => counter.count(packet.len()),
            Op::Verdict(verdict) => return Step::Verdict(*verdict),
            Op::Immediate(at, data) => registers.put(*at, data),
            Op::Payload(base, offset, to) => {
                let from = match base {
                    BaseHeader::Network => packet.bytes(),
                    BaseHeader::Transport => packet.transport(),
                };
                let Some(data) = from.get(*offset..offset.saturating_add(to.len)) else {
                    return Step::Break;
                };
                registers.put(to.at, data);
            }
            Op::Meta(key, at) => match meta(*key, packet, around) {
                Some(data) => registers.put(*at, &data),
                None => return Step::Break,
            },
            Op::Ct(key, at) => match ct(*key, packet) {
                Some(data) => registers.put(*at, &data),
                None => return Step::Break,
            },
            Op::SetMark(from) => {
                let bytes = registers.get(*from).first_chunk();
                packet.mark = bytes.map_or(0, |b| u32::from_ne_bytes(*b));
            }
            Op::Mark(keep, flip) => packet.mark = (packet.mark & keep) ^ flip,
            Op::SetCtMark(from) => {
                let mark = registers.get(*from).first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
                if let Some(tracked) = &packet.connection {
                    tracked.entry.set_mark(mark);
                }
            }
            Op::CopyMark(save) => {
                if let Some(tracked) = &packet.connection {
                    if *save {
                        tracked.entry.set_mark(packet.mark);
                    } else {
                        packet.mark = tracked.entry.mark();
                    }
                }
            }
            Op::Cmp(cmp, from, data) => return test(cmp.holds(registers.get(*from).cmp(data))),
            Op::Range(from, low, high, inverted) => {
                let value = registers.get(*from);
                let inside = low.as_slice() <= value && value <= high.as_slice();
                return test(inside != *inverted);
            }
            Op::Bitwise(from, to, mask, flip) => {
                let value = registers.get(*from).iter().zip(mask).zip(flip);
                let data: Vec<u8> = value.map(|((v, m), x)| (v & m) ^ x).collect();
                registers.put(*to, &data);
            }
            Op::Shift(from, to, left, by) => {
                let value =
                    registers.get(*from).first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
                let shifted = if *left { value.checked_shl(*by) } else { value.checked_shr(*by) };
                registers.put(*to, &shifted.unwrap_or(0).to_ne_bytes());
            }
            Op::Byteorder(from, to, unit) => {
                let turned = registers.get(*from).chunks((*unit).max(1));
                let data: Vec<u8> = turned.flat_map(|c| c.iter().rev().copied()).collect();
                registers.put(*to, &data);
            }
            Op::Lookup(set, from, to, inverted) => {
                let found = set.find(registers.get(*from));
                if found.is_some() == *inverted {
                    return Step::Break;
                }
                if let (Some(Data::Value(value)), Some(to)) = (found, to) {
                    registers.put(*to, value);
                }
            }
            Op::VerdictMap(set, from) => match set.find(registers.get(*from)) {
                Some(Data::Verdict(verdict)) => return Step::Verdict(*verdict),
                _ => return Step::Break,
            },
            Op::Limit(limit, bytes, inverted) => {
                let units = if *bytes { u64::from(packet.len()) } else { 1 };
                return test(limit.take(units, packet.now) != *inverted);
            }
            Op::Nat(kind, range) => {
                return translate(*kind, range, registers, packet, around, filter);
            }
            Op::Reject(refusal) => {
                let unreachable =
                    if packet.is_v6() { Refusal::Icmp(1, 4) } else { Refusal::Icmp(3, 3) };
                return Step::Verdict(Verdict::Reject(refusal.unwrap_or(unreachable)));
            }
            Op::Log(prefix) => around.log(&matches::log_line(packet, prefix)),
            Op::NoTrack => {
                if packet.connection.is_none() {
                    packet.untracked = true;
                }
            }
            Op::AddressType(source, to) => {
                let ip = if *source { packet.source() } else { packet.destination() };
                let kind = around.address_type(ip) as u32;
                registers.put(*to, &kind.to_ne_bytes());
            }
            Op::Nothing => {}
        }
        Step::Next
    }
}

fn translate(
    kind: Nat,
    range: &NatRange,
    registers: &Registers,
    packet: &Packet,
    around: &dyn Surroundings,
    filter: &Filter,
) -> Step {
    let Some(tracked) = &packet.connection else { return Step::Verdict(Verdict::Accept) };
    let mut range = match range {
        NatRange::Fixed(range) => *range,
        NatRange::Registers { addresses, ports, random } => {
            let ip = |slot: Slot| address(registers.get(slot), packet.is_v6());
            let number = |slot: Slot| port(registers.get(slot));
            Range {
                addresses: addresses.and_then(|(a, b)| Some((ip(a)?, ip(b)?))),
                ports: ports.and_then(|(a, b)| Some((number(a)?, number(b)?))),
                random: *random,
            }
        }
    };
    let manip = match kind {
        Nat::To(manip) => manip,
        Nat::Masquerade => {
            let device = packet.output.map_or(0, |d| d.index);
            let Some(own) = around.device_address(device, packet.destination()) else {
                return Step::Verdict(Verdict::Drop);
            };
            range.addresses = Some((own, own));
            Manip::Source
        }
        Nat::Redirect => {
            let own = if packet.hook == Hook::Output {
                Some(match packet.is_v6() {
                    false => Ipv4Addr::LOCALHOST.into(),
                    true => Ipv6Addr::LOCALHOST.into(),
                })
            } else {
                around.device_address(packet.input.map_or(0, |d| d.index), packet.source())
            };
            let Some(own) = own else { return Step::Verdict(Verdict::Drop) };
            range.addresses = Some((own, own));
            Manip::Destination
        }
    };
    nat::set_up(&filter.conntrack, &tracked.entry, manip, Some(range), around);
    Step::Verdict(Verdict::Accept)
}

fn meta(key: Meta, packet: &Packet, around: &dyn Surroundings) -> Option<Vec<u8>> {
    let word = |n: u32| Some(n.to_ne_bytes().to_vec());
    let index = |d: Option<Device>| word(d.map_or(0, |d| d.index));
    let name = |d: Option<Device>| d.map(|d| d.name.to_vec());
    let kind = |d: Option<Device>| d.map(|d| d.kind.to_ne_bytes().to_vec());
    match key {
        Meta::Len => word(packet.len()),
        Meta::Protocol => {
            let ethertype: u16 = if packet.is_v6() { 0x86dd } else { 0x0800 };
            Some(ethertype.to_be_bytes().to_vec())
        }
        Meta::Mark => word(packet.mark),
        Meta::Iif => index(packet.input),
        Meta::Oif => index(packet.output),
        Meta::IifName => name(packet.input),
        Meta::OifName => name(packet.output),
        Meta::IifType => kind(packet.input),
        Meta::OifType => kind(packet.output),
        Meta::SkUid => word(packet.owner?.0),
        Meta::SkGid => word(packet.owner?.1),
        Meta::NfProto => Some(vec![if packet.is_v6() { 10 } else { 2 }]),
        Meta::L4Proto => Some(vec![packet.protocol()]),
        Meta::PktType => Some(vec![0]),
        Meta::Cpu | Meta::IifGroup | Meta::OifGroup => word(0),
        Meta::Random => word(around.random()),
        Meta::Time => Some(packet.now.to_ne_bytes().to_vec()),
    }
}

fn ct(key: Ct, packet: &Packet) -> Option<Vec<u8>> {
    let word = |n: u32| Some(n.to_ne_bytes().to_vec());
    if key == Ct::State {
        return word(match &packet.connection {
            _ if packet.untracked => 64,
            None => 1,
            Some(c) if c.relation == Relation::Established => 2,
            Some(c) if c.relation == Relation::Related => 4,
            Some(_) => 8,
        });
    }
    let tracked = packet.connection.as_ref()?;
    let entry = &tracked.entry;
    let tuple = |reply: bool| -> Tuple { if reply { entry.reply() } else { entry.original } };
    match key {
        Ct::State => None,
        Ct::Direction => Some(vec![u8::from(tracked.reply)]),
        Ct::Status => word(entry.status()),
        Ct::Mark => word(entry.mark()),
        Ct::Expiration => word(u32::try_from(entry.remaining(packet.now) / 1_000_000).ok()?),
        Ct::Protocol(_) => Some(vec![entry.original.protocol]),
        Ct::L3Protocol(_) => Some(vec![if packet.is_v6() { 10 } else { 2 }]),
        Ct::Source(reply) => Some(octets(tuple(reply).from.ip())),
        Ct::Destination(reply) => Some(octets(tuple(reply).to.ip())),
        Ct::SourcePort(reply) => Some(tuple(reply).from.port().to_be_bytes().to_vec()),
        Ct::DestinationPort(reply) => Some(tuple(reply).to.port().to_be_bytes().to_vec()),
        Ct::Id => word(entry.id),
    }
}
