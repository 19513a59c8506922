//! Every way in which a client can break the protocol, and the close code that tells it.
//!
//! To add one, add a variant with its clause, and a test of its name in `tests/websocket/violations.rs`.

use std::fmt;

use super::close::CloseCode;

/// What a client did that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Clients mask every frame.
    Unmasked,
    /// RSV2 or RSV3, or RSV1 where compression was not agreed on or has no meaning.
    ReservedBits,
    /// An opcode that no RFC defines.
    ReservedOpcode,
    /// A ping, pong or close in pieces.
    FragmentedControl,
    /// A ping, pong or close of more than 125 bytes.
    LongControl,
    /// A continuation while no message was begun.
    LoneContinuation,
    /// A new message inside an unfinished one.
    InterruptedMessage,
    /// A length in more bytes than it needs, or of more than 63 bits.
    InvalidLength,
    /// A close frame with one byte, or with a code that must not be sent.
    InvalidClose,
    /// Compressed data that does not inflate, or ends in the middle.
    InvalidDeflate,
    /// Text or a close reason that is not UTF-8.
    InvalidUtf8,
    /// A message longer than [`Limits::message_bytes_max`](super::Limits::message_bytes_max).
    MessageTooBig,
    /// Nothing that it did itself: too much has come of too many messages that are not whole yet.
    NoRoom,
}

impl Broken {
    /// The code to close the connection with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::InvalidUtf8,
            Self::MessageTooBig => CloseCode::MessageTooBig,
            Self::NoRoom => CloseCode::Overloaded,
            _ => CloseCode::ProtocolError,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmasked => "the client sent an unmasked frame",
            Self::ReservedBits => "a reserved bit is set",
            Self::ReservedOpcode => "the opcode is reserved",
            Self::FragmentedControl => "a control frame is fragmented",
            Self::LongControl => "a control frame is longer than 125 bytes",
            Self::LoneContinuation => "a continuation frame continues no message",
            Self::InterruptedMessage => "a message began inside another",
            Self::InvalidLength => "the length of a frame is not in its shortest form",
            Self::InvalidClose => "the close code must not be sent",
            Self::InvalidDeflate => "the compressed data is damaged",
            Self::InvalidUtf8 => "the text is not UTF-8",
            Self::MessageTooBig => "the message is too big",
            Self::NoRoom => "too many messages are under way in parts",
        })
    }
}

impl std::error::Error for Broken {}
