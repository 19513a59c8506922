//! Takes the framing off a connection's bytes by counting, so that data that was cut short is noticed and nothing is copied.

use super::head::Extent;

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// So many of the bytes are payload; with `true` a message ends with them.
    Payload(usize, bool),
    /// So many of the bytes are framing.
    Framing(usize),
    /// A WebSocket ping with this payload; so many bytes in all.
    Ping(&'a [u8], usize),
    /// The other side says that it ends here.
    Close,
    /// The answer is whole; so many of the bytes belong to it.
    Whole(usize),
    /// Not enough bytes to tell: come back with these and more.
    Need,
    /// Not what was agreed on.
    Broken(&'static str),
}

/// Where a connection stands in its framing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framing {
    /// WebSocket frames of a server.
    Frames {
        /// Payload of the present frame still to come.
        left: u64,
        /// The present frame ends a message.
        is_last: bool,
    },
    /// A body of known length.
    Length(u64),
    /// A body that ends with the connection.
    Close,
    /// Chunks: payload of the present one still to come, with its line end.
    Chunks(u64),
    /// Behind the last chunk, until a blank line.
    Trailer,
}

/// The opcodes of RFC 6455, section 5.2, as far as they are told apart here.
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// A chunk's line with extensions that nobody sends is no longer, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;

impl Framing {
    /// Before the first WebSocket frame.
    pub(crate) const FRAMES: Self = Self::Frames { left: 0, is_last: true };

    /// At the start of a body.
    pub(crate) fn of(extent: Extent) -> Self {
        match extent {
            Extent::Length(bytes) => Self::Length(bytes),
            Extent::Chunked => Self::Chunks(0),
            Extent::Close => Self::Close,
        }
    }

    /// What `bytes` begin with.
    pub(crate) fn step<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        match self {
            Self::Length(0) => Step::Whole(0),
            Self::Trailer => match memchr::memchr(b'\n', bytes) {
                Some(end @ 0..=1) => Step::Whole(end + 1),
                Some(end) => Step::Framing(end + 1),
                None if bytes.len() > CHUNK_LINE_BYTES_MAX => Step::Broken("a trailer that does not end"),
                None => Step::Need,
            },
            _ if bytes.is_empty() => Step::Need,
            Self::Close => Step::Payload(bytes.len(), false),
            Self::Length(left) => {
                let taken = portion(*left, bytes);
                *left -= taken as u64;
                Step::Payload(taken, *left == 0)
            }
            Self::Chunks(0) => self.chunk(bytes),
            Self::Chunks(left @ 1..=2) => {
                let taken = portion(*left, bytes);
                *left -= taken as u64;
                Step::Framing(taken)
            }
            Self::Chunks(left) => {
                let taken = portion(*left - 2, bytes);
                *left -= taken as u64;
                Step::Payload(taken, false)
            }
            Self::Frames { left: 0, .. } => self.frame(bytes),
            Self::Frames { left, is_last } => {
                let taken = portion(*left, bytes);
                *left -= taken as u64;
                Step::Payload(taken, *is_last && *left == 0)
            }
        }
    }

    /// Whether the connection may end here without having cut something.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self, Self::Frames { left: 0, .. } | Self::Length(0) | Self::Close | Self::Chunks(0))
    }

    fn chunk(&mut self, bytes: &[u8]) -> Step<'static> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            let is_endless = bytes.len() > CHUNK_LINE_BYTES_MAX;
            return if is_endless { Step::Broken("a chunk whose size does not end") } else { Step::Need };
        };
        let digits = bytes[..end].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&bytes[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        match size {
            Some(0) => *self = Self::Trailer,
            Some(size @ 1..=0xffff_ffff) => *self = Self::Chunks(size + 2),
            _ => return Step::Broken("a chunk without a size"),
        }
        Step::Framing(end + 1)
    }

    fn frame<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        let &[first, second, ref rest @ ..] = bytes else { return Step::Need };
        let (length, head) = match (second, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
            (126 | 127, _) => return Step::Need,
            (128.., _) => return Step::Broken("a frame that is masked"),
            (length, _) => (u64::from(length), 2),
        };
        if first & 0b0111_0000 != 0 {
            return Step::Broken("a frame with an extension that was not agreed on");
        }
        if first & 0x0f < CLOSE {
            *self = Self::Frames { left: length, is_last: first & 0x80 != 0 };
            return Step::Framing(head);
        }
        let whole = head + usize::try_from(length).unwrap_or(usize::MAX).min(125);
        match (first & 0x0f, bytes.get(head..whole)) {
            (_, None) => Step::Need,
            (CLOSE, _) => Step::Close,
            (PING, Some(payload)) => Step::Ping(payload, whole),
            _ => Step::Framing(whole),
        }
    }
}

fn portion(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}

/// A small frame of a client, masked with zeros, which leaves the payload as it is.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(125).min(125);
    let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(&payload[..usize::from(length)]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payload, fed in pieces, and whether the answer was whole.
    fn payload(mut framing: Framing, bytes: &[u8], piece: usize) -> (String, bool) {
        let (mut held, mut out, mut is_whole) = (Vec::new(), Vec::new(), false);
        for piece in bytes.chunks(piece) {
            held.extend_from_slice(piece);
            loop {
                let taken = match framing.step(&held) {
                    Step::Payload(taken, _) => {
                        out.extend_from_slice(&held[..taken]);
                        taken
                    }
                    Step::Framing(taken) | Step::Ping(_, taken) => taken,
                    Step::Whole(taken) => {
                        is_whole = true;
                        assert!(held.len() == taken);
                        break;
                    }
                    Step::Need => break,
                    Step::Close | Step::Broken(_) => panic!("of well-formed bytes"),
                };
                held.drain(..taken);
            }
        }
        (String::from_utf8(out).unwrap(), is_whole)
    }

    #[test]
    fn chunks_come_off_however_they_are_cut() {
        let bytes = b"3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n";
        for piece in 1..bytes.len() {
            assert_eq!(payload(Framing::of(Extent::Chunked), bytes, piece), ("abc0123456789".into(), true), "{piece}");
        }
    }

    #[test]
    fn frames_come_off_however_they_are_cut() {
        let mut bytes = vec![0x81, 3, b'a', b'b', b'c', 0x89, 2, b'h', b'i', 0x01, 1, b'd', 0x80, 126, 0, 200];
        bytes.extend([b'e'; 200]);
        for piece in 1..bytes.len() {
            let (text, is_whole) = payload(Framing::FRAMES, &bytes, piece);
            assert_eq!((text, is_whole), (format!("abcd{}", "e".repeat(200)), false), "{piece}");
        }
    }

    #[test]
    fn what_was_not_agreed_on_is_broken() {
        for bytes in [&[0x81, 0x83, 0, 0][..], &[0xc1, 3, 0, 0]] {
            assert!(matches!(Framing::FRAMES.clone().step(bytes), Step::Broken(_)));
        }
        assert!(matches!(Framing::Chunks(0).step(b"\r\n\r\n"), Step::Broken(_)));
    }
}
