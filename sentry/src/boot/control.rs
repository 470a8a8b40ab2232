//! Messages from the CLI to a running sandbox.
//!
//! One datagram each, over a socket pair that only the two processes hold. The full control protocol
//! (exec, pause, events) will use the same socket.

/// What the CLI tells the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlMessage {
    /// Send a signal to the container's first process, as `runsc kill` does.
    Signal(i32),
    /// The console has a new size: columns and rows.
    WindowSize(u16, u16),
}

impl ControlMessage {
    /// Bytes of an encoded message.
    pub const SIZE: usize = 8;

    /// The message as it travels.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let (kind, a, b) = match self {
            ControlMessage::Signal(signal) => (1u16, signal as u32, 0u16),
            ControlMessage::WindowSize(columns, rows) => (2, u32::from(columns), rows),
        };
        let ([k0, k1], [a0, a1, a2, a3], [b0, b1]) =
            (kind.to_le_bytes(), a.to_le_bytes(), b.to_le_bytes());
        [k0, k1, b0, b1, a0, a1, a2, a3]
    }

    /// Reads a message; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[k0, k1, b0, b1, a0, a1, a2, a3] = bytes else { return None };
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        match u16::from_le_bytes([k0, k1]) {
            1 => Some(ControlMessage::Signal(i32::try_from(a).ok()?)),
            2 => Some(ControlMessage::WindowSize(
                u16::try_from(a).ok()?,
                u16::from_le_bytes([b0, b1]),
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ControlMessage;

    #[test]
    fn messages_survive_the_journey() {
        for message in [ControlMessage::Signal(15), ControlMessage::WindowSize(80, 24)] {
            assert_eq!(ControlMessage::decode(&message.encode()), Some(message));
        }
        assert_eq!(ControlMessage::decode(&[9; 8]), None);
        assert_eq!(ControlMessage::decode(&[1]), None);
    }
}
