//! Netlink messages: `struct nlmsghdr` and attributes (`netlink(7)`, `rtnetlink(3)`).

use crate::errno::Errno;
use crate::socket::inet::admin::Failure;

/// Size of `struct nlmsghdr`.
pub const HEADER: usize = 16;

/// `NLM_F_REQUEST`
pub const REQUEST: u16 = 1;
/// `NLM_F_MULTI`
pub const MULTI: u16 = 2;
/// `NLM_F_ACK`
pub const ACK: u16 = 4;
/// `NLM_F_DUMP`
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`
pub const EXCL: u16 = 0x200;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_ACK_TLVS`
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`
const MSG: u16 = 1;

/// A message that was received, without its header.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `nlmsg_type`
    pub kind: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// Number that answers carry.
    pub seq: u32,
    /// The whole message.
    pub whole: &'a [u8],
    /// What follows the header.
    pub body: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A 32-bit number at an offset.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Takes the first message off `rest`. `None` at the end, or when what is left is none.
pub fn next<'a>(rest: &mut &'a [u8]) -> Option<Request<'a>> {
    let len = u32_at(rest, 0)? as usize;
    let whole = rest.get(..len).filter(|_| len >= HEADER)?;
    let request = Request {
        kind: u16_at(rest, 4)?,
        flags: u16_at(rest, 6)?,
        seq: u32_at(rest, 8)?,
        whole,
        body: whole.get(HEADER..)?,
    };
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some(request)
}

/// The data of an attribute behind `skip` bytes of a fixed structure.
pub fn attribute(body: &[u8], skip: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(skip.next_multiple_of(4)..)?;
    loop {
        let len = usize::from(u16_at(rest, 0)?);
        // The two highest bits say how the data is to be read.
        let kind = u16_at(rest, 2)? & 0x3fff;
        let data = rest.get(4..len)?;
        if kind == wanted {
            return Some(data);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// Builds the messages of one answer.
pub struct Answer {
    /// Finished datagrams.
    datagrams: Vec<Vec<u8>>,
    seq: u32,
    port: u32,
    multi: bool,
}

/// Most bytes of one datagram of a dump.
const DATAGRAM: usize = 8192;

impl Answer {
    /// An answer to the socket with port id `port`. `multi`: it is a dump.
    pub fn new(seq: u32, port: u32, multi: bool) -> Answer {
        Answer { datagrams: Vec::new(), seq, port, multi }
    }

    /// Adds a message: the fixed structure and what `fill` adds to it.
    pub fn put(&mut self, kind: u16, fixed: &[u8], fill: impl FnOnce(&mut Body)) {
        let flags = if self.multi { MULTI } else { 0 };
        let message = self.message(kind, flags, fixed, fill);
        match self.datagrams.last_mut() {
            Some(last) if self.multi && last.len() + message.len() <= DATAGRAM => {
                last.extend_from_slice(&message);
            }
            _ => self.datagrams.push(message),
        }
    }

    fn message(
        &self,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        fill: impl FnOnce(&mut Body),
    ) -> Vec<u8> {
        let mut body = Body(vec![0; HEADER]);
        body.0.extend_from_slice(fixed);
        body.pad();
        fill(&mut body);
        let mut out = body.0;
        let header = [
            &(out.len() as u32).to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &self.seq.to_ne_bytes(),
            &self.port.to_ne_bytes(),
        ]
        .concat();
        if let Some(place) = out.get_mut(..HEADER) {
            place.copy_from_slice(&header);
        }
        out
    }

    /// As [`Answer::status`], with an explanation for sockets that want one (`NETLINK_EXT_ACK`).
    pub fn explained(
        &mut self,
        request: &Request<'_>,
        result: Result<(), Failure>,
        capped: bool,
        explain: bool,
    ) {
        let before = self.datagrams.len();
        self.status(request, result.map_err(|failure| failure.errno), capped);
        let text = result.err().and_then(|failure| failure.text).filter(|_| explain);
        let Some((text, message)) = text.zip(self.datagrams.get_mut(before)) else { return };
        let mut body = Body(std::mem::take(message));
        body.pad();
        body.text(MSG, text.as_bytes());
        let mut out = body.0;
        let (len, flags) =
            ((out.len() as u32).to_ne_bytes(), u16_at(&out, 6).unwrap_or(0) | ACK_TLVS);
        for (at, bytes) in [(0, &len[..]), (6, &flags.to_ne_bytes())] {
            if let Some(place) = out.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        *message = out;
    }

    /// Ends a dump.
    pub fn done(&mut self) {
        let done = self.message(NLMSG_DONE, MULTI, &0i32.to_ne_bytes(), |_| {});
        self.datagrams.push(done);
    }

    /// Adds the error, or the acknowledgement, for a request.
    pub fn status(&mut self, request: &Request<'_>, result: Result<(), Errno>, capped: bool) {
        let code = result.err().map_or(0, |e| -e.raw());
        let mut fixed = code.to_ne_bytes().to_vec();
        // An error comes with the whole request, an acknowledgement with its header.
        let cut = if code == 0 || capped { HEADER } else { request.whole.len() };
        fixed.extend_from_slice(request.whole.get(..cut).unwrap_or_default());
        let flags = if cut == HEADER { 0x100 } else { 0 };
        let status = self.message(NLMSG_ERROR, flags, &fixed, |_| {});
        self.datagrams.push(status);
    }

    /// The datagrams.
    pub fn into_datagrams(self) -> Vec<Vec<u8>> {
        self.datagrams
    }
}

/// What follows a message's fixed structure.
pub struct Body(Vec<u8>);

impl Body {
    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute.
    pub fn attr(&mut self, kind: u16, data: &[u8]) {
        let len = 4 + data.len() as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.pad();
    }

    /// Adds an attribute that holds others.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Body)) {
        let mut inner = Body(Vec::new());
        fill(&mut inner);
        self.attr(kind, &inner.0);
    }

    /// Adds an attribute with a number.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// Adds an attribute with text, and its NUL.
    pub fn text(&mut self, kind: u16, text: &[u8]) {
        let mut data = text.to_vec();
        data.push(0);
        self.attr(kind, &data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_messages_can_be_read() {
        let mut answer = Answer::new(7, 9, true);
        answer.put(16, &[1, 2, 3], |b| {
            b.number(5, 77);
            b.text(6, b"lo");
        });
        answer.done();
        let all = answer.into_datagrams();
        assert_eq!(all.len(), 2);
        let mut rest = all[0].as_slice();
        let m = next(&mut rest).unwrap();
        assert_eq!((m.kind, m.flags, m.seq), (16, MULTI, 7));
        assert_eq!(attribute(m.body, 3, 6), Some(&b"lo\0"[..]));
        assert_eq!(attribute(m.body, 3, 8), None);
        assert!(next(&mut rest).is_none());
        assert!(next(&mut &[0u8; 40][..]).is_none());
    }
}
