//! What a client sends, in whatever pieces the network makes of it, becomes whole messages.
//!
//! Payload is unmasked straight to the end of its message and checked as it comes: text that is not UTF-8, a frame
//! out of place or a message over the limit is refused with the first byte that proves it, before it costs memory.
//! Compressed messages are gathered compressed and inflated at their end, so that a client who sends half of one
//! holds no more of our memory than it sent.

use std::{cmp, fmt, mem, str};

use bytes::Bytes;

use super::{
    broken::Broken,
    close::Close,
    frame::{CLIENT_HEADER_BYTES_MAX, Header, Opcode, unmask_onto},
    handshake::Agreed,
    inflate::{Inflater, deflated_bytes_max},
};

/// Reads the frames of one client. Two flags, and a pointer that is null between messages.
#[derive(Debug)]
pub struct Reader {
    deflate: bool,
    has_ended: bool,
    partial: Option<Box<Partial>>,
}

/// What a reader may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest message, all its frames together and inflated.
    pub message_bytes_max: usize,
}

/// Something whole that came from the client.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// To be answered with [`pong`](super::pong) and the same payload.
    Ping(Bytes),
    /// An answer to our ping, or unasked.
    Pong(Bytes),
    /// The client sends no more. To be answered with [`close_reply`](super::close_reply) unless we closed first.
    Close(Option<Close>),
}

impl Reader {
    /// A reader for a connection with this agreement about compression.
    #[must_use]
    pub fn new(agreed: Option<Agreed>) -> Self {
        Self { deflate: agreed.is_some(), has_ended: false, partial: None }
    }

    /// Takes from `input` up to the end of the next event; `None` when all of it is used up and there is none yet.
    ///
    /// Once it has returned [`Event::Close`] or an error, which both end the connection, it drops whatever comes.
    pub fn feed(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        inflater: &mut Inflater,
    ) -> Result<Option<Event>, Broken> {
        if self.has_ended {
            *input = &[];
        }
        if input.is_empty() {
            return Ok(None);
        }
        let mut partial = self.partial.take().unwrap_or_default();
        let outcome = partial.feed(input, &Rules { deflate: self.deflate, limits: *limits }, inflater);
        match outcome {
            Err(_) | Ok(Some(Event::Close(_))) => {
                self.has_ended = true;
                *input = &[];
            }
            Ok(_) if partial.is_idle() => {}
            Ok(_) => self.partial = Some(partial),
        }
        outcome
    }

    /// What is held of a message that is not whole yet, in bytes; 0 between messages.
    #[must_use]
    pub fn held(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| partial.message.as_ref().map_or(1, |message| message.data.len().max(1)))
    }

    /// Whether part of a frame or message is held: a client that keeps it so for long may be up to no good.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }
}

struct Rules {
    deflate: bool,
    limits: Limits,
}

/// What exists only between the first and the last byte of a message.
#[derive(Debug, Default)]
struct Partial {
    header: [u8; CLIENT_HEADER_BYTES_MAX],
    header_bytes: usize,
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
}

/// A frame whose header is complete.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    taken_bytes: u64,
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    is_deflated: bool,
    data: Vec<u8>,
    utf8_bytes: usize, // How much of the text is known to be UTF-8.
}

impl Partial {
    fn is_idle(&self) -> bool {
        self.header_bytes == 0 && self.frame.is_none() && self.message.is_none()
    }

    fn feed(&mut self, input: &mut &[u8], rules: &Rules, inflater: &mut Inflater) -> Result<Option<Event>, Broken> {
        loop {
            if self.frame.is_none() && !self.take_header(input, rules)? {
                return Ok(None);
            }
            let Some(mut frame) = self.frame.take() else { continue };
            if !self.take_payload(input, &mut frame)? {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(event) = self.end_frame(frame.header, rules, inflater)? {
                return Ok(Some(event));
            }
        }
    }

    /// Takes bytes until the header is whole (true) or the input is used up (false).
    fn take_header(&mut self, input: &mut &[u8], rules: &Rules) -> Result<bool, Broken> {
        loop {
            let have = self.header_bytes;
            let whole = Header::bytes(&self.header[..have]);
            let (piece, rest) = input.split_at(cmp::min(whole - have, input.len()));
            self.header[have..have + piece.len()].copy_from_slice(piece);
            self.header_bytes += piece.len();
            *input = rest;
            if self.header_bytes < whole {
                return Ok(false);
            }
            if whole == 2 {
                self.check_start(rules)?; // From here on the length of the whole header is known.
            } else {
                break;
            }
        }
        let header = Header::parse(&self.header[..self.header_bytes])?;
        self.check_length(&header, rules)?;
        self.header_bytes = 0;
        self.frame = Some(Frame { header, taken_bytes: 0 });
        Ok(true)
    }

    fn check_start(&mut self, rules: &Rules) -> Result<(), Broken> {
        let (opcode, _, rsv1) = Header::start([self.header[0], self.header[1]])?;
        match opcode {
            Opcode::Continuation if self.message.is_none() => Err(Broken::LoneContinuation),
            Opcode::Continuation if rsv1 => Err(Broken::ReservedBits),
            Opcode::Text | Opcode::Binary if self.message.is_some() => Err(Broken::InterruptedMessage),
            _ if rsv1 && !rules.deflate => Err(Broken::ReservedBits),
            Opcode::Text | Opcode::Binary => {
                let is_text = opcode == Opcode::Text;
                self.message = Some(Message { is_text, is_deflated: rsv1, data: Vec::new(), utf8_bytes: 0 });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_length(&self, header: &Header, rules: &Rules) -> Result<(), Broken> {
        if header.opcode.is_control() {
            return Ok(()); // The first two bytes have bounded it.
        }
        let message = self.message();
        let bytes_max = match message.is_deflated {
            true => deflated_bytes_max(rules.limits.message_bytes_max),
            false => rules.limits.message_bytes_max,
        };
        let room = bytes_max.saturating_sub(message.data.len());
        if header.payload_bytes > room as u64 { Err(Broken::MessageTooBig) } else { Ok(()) }
    }

    /// Takes payload until the frame is whole (true) or the input is used up (false).
    fn take_payload(&mut self, input: &mut &[u8], frame: &mut Frame) -> Result<bool, Broken> {
        let Header { fin, opcode, payload_bytes, mask, .. } = frame.header;
        let left = payload_bytes - frame.taken_bytes;
        let take = usize::try_from(left).map_or(input.len(), |left| cmp::min(left, input.len()));
        let (piece, rest) = input.split_at(take);
        *input = rest;
        let is_whole = take as u64 == left;
        if opcode.is_control() {
            unmask_onto(&mut self.control, piece, mask, frame.taken_bytes);
        } else {
            let message = self.message.as_mut().expect("a data frame has begun a message or continues one");
            if fin && is_whole {
                message.data.reserve_exact(take); // Nothing will follow; else room grows with what has come.
            }
            unmask_onto(&mut message.data, piece, mask, frame.taken_bytes);
            if !(fin && is_whole) {
                message.check_utf8()?;
            }
        }
        frame.taken_bytes += take as u64;
        Ok(is_whole)
    }

    fn end_frame(&mut self, header: Header, rules: &Rules, inflater: &mut Inflater) -> Result<Option<Event>, Broken> {
        let event = match header.opcode {
            Opcode::Ping => Event::Ping(mem::take(&mut self.control).into()),
            Opcode::Pong => Event::Pong(mem::take(&mut self.control).into()),
            Opcode::Close => Event::Close(Close::parse(&mem::take(&mut self.control))?),
            Opcode::Text | Opcode::Binary | Opcode::Continuation if header.fin => {
                let message = self.message.take().expect("a data frame belongs to a message");
                message.end(rules, inflater)?
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation => return Ok(None),
        };
        Ok(Some(event))
    }

    fn message(&self) -> &Message {
        self.message.as_ref().expect("a data frame has begun a message or continues one")
    }
}

impl Message {
    /// Checks what has come since the last time; a code point that is cut in two is left for the next.
    fn check_utf8(&mut self) -> Result<(), Broken> {
        if !self.is_text || self.is_deflated {
            return Ok(());
        }
        match str::from_utf8(&self.data[self.utf8_bytes..]) {
            Ok(text) => self.utf8_bytes += text.len(),
            Err(error) if error.error_len().is_none() => self.utf8_bytes += error.valid_up_to(),
            Err(_) => return Err(Broken::InvalidUtf8),
        }
        Ok(())
    }

    fn end(self, rules: &Rules, inflater: &mut Inflater) -> Result<Event, Broken> {
        let data = match self.is_deflated {
            true => inflater.inflate(&self.data, rules.limits.message_bytes_max)?,
            false => self.data,
        };
        if self.is_text {
            String::from_utf8(data).map(Event::Text).map_err(|_| Broken::InvalidUtf8)
        } else {
            Ok(Event::Binary(data.into()))
        }
    }
}

impl fmt::Debug for Event {
    /// Payloads are people's data and may be long: logs show their kind and size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(data) => write!(f, "Binary({} bytes)", data.len()),
            Self::Ping(data) => write!(f, "Ping({} bytes)", data.len()),
            Self::Pong(data) => write!(f, "Pong({} bytes)", data.len()),
            Self::Close(close) => write!(f, "Close({close:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_reader_is_tiny() {
        assert!(size_of::<Reader>() <= 16, "{} bytes", size_of::<Reader>());
        let mut reader = Reader::new(None);
        let (mut input, mut inflater) = (&b"\x89\x80\0\0\0\0\x89"[..], Inflater::default());
        let limits = Limits { message_bytes_max: 10 };
        assert_eq!(reader.feed(&mut input, &limits, &mut inflater), Ok(Some(Event::Ping(Bytes::new()))));
        assert!(!reader.is_partial());
        assert_eq!(reader.feed(&mut input, &limits, &mut inflater), Ok(None));
        assert!(reader.is_partial());
    }

    #[test]
    fn a_declared_length_reserves_nothing() {
        let mut reader = Reader::new(None);
        let limits = Limits { message_bytes_max: 1 << 30 };
        let mut input = &b"\x82\xff\0\0\0\0\x20\0\0\0\0\0\0\0x"[..];
        assert_eq!(reader.feed(&mut input, &limits, &mut Inflater::default()), Ok(None));
        let message = reader.partial.expect("a byte has come").message.expect("it has begun");
        assert!(message.data.capacity() < 100, "{} bytes", message.data.capacity());
    }
}
