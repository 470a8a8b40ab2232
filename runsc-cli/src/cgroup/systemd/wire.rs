//! Values and messages of D-Bus, as they travel: little-endian, aligned.

use anyhow::{Context, bail};

/// A value that a property of a unit can have.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Number(_) => "t",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Numbers(_) => "au",
            Value::Bytes(_) => "ay",
        }
    }
}

/// Builds a body, or a header.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `u`
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    /// `b`
    pub fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    /// `s` and `o`
    pub fn text(&mut self, value: &str) {
        self.u32(value.len() as u32);
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, value: &str) {
        self.0.push(value.len() as u8);
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements have an alignment; `fill` writes them.
    pub fn array(&mut self, align: usize, fill: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        fill(self);
        let length = (self.0.len() - start) as u32;
        if let Some(place) = self.0.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// `v`
    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::Number(value) => {
                self.align(8);
                self.0.extend(value.to_le_bytes());
            }
            Value::Text(value) => self.text(value),
            Value::Texts(values) => self.array(4, |w| values.iter().for_each(|v| w.text(v))),
            Value::Numbers(values) => self.array(4, |w| values.iter().for_each(|v| w.u32(*v))),
            Value::Bytes(values) => self.array(1, |w| w.0.extend(values)),
        }
    }

    /// `a(sv)`
    pub fn properties(&mut self, properties: &[(String, Value)]) {
        self.array(8, |w| {
            for (name, value) in properties {
                w.align(8);
                w.text(name);
                w.variant(value);
            }
        });
    }

    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        if signature == "g" { self.signature(value) } else { self.text(value) }
    }
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// The name on the bus.
    pub at: &'a str,
    /// The object.
    pub object: &'a str,
    /// Its interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

/// A method call, ready to be sent.
pub fn call(serial: u32, method: Method<'_>, signature: &str, body: &[u8]) -> Vec<u8> {
    const METHOD_CALL: u8 = 1;
    let mut w = Writer(vec![b'l', METHOD_CALL, 0, 1]);
    w.u32(body.len() as u32);
    w.u32(serial);
    w.array(8, |w| {
        w.field(1, "o", method.object);
        w.field(2, "s", method.interface);
        w.field(3, "s", method.member);
        w.field(6, "s", method.at);
        if !signature.is_empty() {
            w.field(8, "g", signature);
        }
    });
    w.align(8);
    w.0.extend(body);
    w.0
}

/// What kind a message is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The answer to a call.
    Return,
    /// A call has failed.
    Error,
    /// A signal.
    Signal,
    /// Anything else.
    Other,
}

/// A message that has come.
#[derive(Debug)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// The call that it answers.
    pub reply_to: Option<u32>,
    /// Name of the signal, or of the error.
    pub name: String,
    /// What it carries.
    pub body: Vec<u8>,
}

/// Length of the part of a header that says how long the rest is.
pub const FIXED: usize = 16;
/// No message that is waited for is longer.
const LONGEST: usize = 1 << 20;

/// How many bytes follow the first [`FIXED`] ones: header fields, and the body.
pub fn lengths(fixed: &[u8; FIXED]) -> anyhow::Result<(usize, usize)> {
    if fixed[0] != b'l' {
        bail!("a message on the bus is not little-endian");
    }
    let mut r = Reader::new(fixed);
    r.at = 4;
    let (body, _serial, fields) = (r.u32()? as usize, r.u32()?, r.u32()? as usize);
    if body > LONGEST || fields > LONGEST {
        bail!("a message on the bus is too long");
    }
    // The whole header ends at a multiple of 8; its first part does, too.
    Ok((fields.next_multiple_of(8), body))
}

/// Takes a message apart: its first part, header fields with their padding, and body.
pub fn message(fixed: &[u8; FIXED], fields: &[u8], body: Vec<u8>) -> anyhow::Result<Message> {
    let kind = match fixed[1] {
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    let mut found = Message { kind, reply_to: None, name: String::new(), body };
    let mut start = Reader::new(fixed);
    start.at = 12;
    let length = start.u32()? as usize;
    let mut r = Reader::new(fields.get(..length).context("a header on the bus is cut off")?);
    while r.at < length {
        r.align(8);
        let code = r.byte()?;
        let signature = r.signature()?;
        match (code, &*signature) {
            (5, "u") => found.reply_to = Some(r.u32()?),
            // The member of a signal, the name of an error.
            (3 | 4, "s") if found.name.is_empty() => found.name = r.text()?,
            (_, "s" | "o") => drop(r.text()?),
            (_, "u") => drop(r.u32()?),
            (_, "g") => drop(r.signature()?),
            _ => bail!("a header on the bus has a field of type {signature:?}"),
        }
    }
    Ok(found)
}

/// Reads a body, or a header.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// From the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, len: usize) -> anyhow::Result<&'a [u8]> {
        let end = self.at.saturating_add(len);
        let taken = self.bytes.get(self.at..end).context("a message on the bus is cut off")?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> anyhow::Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// `u`
    pub fn u32(&mut self) -> anyhow::Result<u32> {
        self.align(4);
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }

    /// `s` and `o`
    pub fn text(&mut self) -> anyhow::Result<String> {
        let len = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> anyhow::Result<String> {
        let len = self.byte()?.into();
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.take(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_form_of_the_specification() {
        let method = Method { at: "a.b", object: "/o", interface: "i.f", member: "M" };
        let mut body = Writer::default();
        body.text("x");
        body.properties(&[("P".into(), Value::Number(7))]);
        let sent = call(9, method, "sa(sv)", &body.0);
        assert_eq!(sent.len() % 4, 0);
        let fixed: &[u8; FIXED] = sent.first_chunk().unwrap();
        let (fields, len) = lengths(fixed).unwrap();
        assert_eq!(FIXED + fields + len, sent.len());
        let end = FIXED + fields;
        let read = message(fixed, &sent[FIXED..end], sent[end..].to_vec()).unwrap();
        assert_eq!((read.kind, &*read.name), (Kind::Other, "M"));
        // Length 1, "x" and NUL, padding, 24 bytes of array after alignment to 8.
        assert_eq!(body.0[..12], [1, 0, 0, 0, b'x', 0, 0, 0, 24, 0, 0, 0]);
        assert_eq!(
            body.0[16..],
            [1, 0, 0, 0, b'P', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0][..]
        );
        let mut r = Reader::new(&read.body);
        assert_eq!(r.text().unwrap(), "x");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        assert!(Reader::new(&[5, 0, 0, 0, b'x']).text().is_err());
        assert!(lengths(&[b'B'; FIXED]).is_err());
        assert!(lengths(&[b'l', 2, 0, 1, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
