//! Frames of the server, each built whole in one piece of memory that any number of sockets may share.

use std::sync::OnceLock;

use bytes::Bytes;

use super::{
    close::{Close, CloseCode},
    deflate::Deflater,
    frame::{self, CONTROL_BYTES_MAX, Opcode},
    handshake::Agreed,
};

/// A message for many readers, of whom some may have agreed on compression: framed once, compressed at most once.
///
/// Cloning copies what was built; to share the one compression among threads, share it in an `Arc`.
#[derive(Clone, Debug)]
pub struct SharedFrame {
    opcode: Opcode,
    plain: Bytes,
    deflated: OnceLock<Option<Bytes>>, // Inner `None`: it does not shrink, so all get the plain one.
}

impl SharedFrame {
    /// A text message. The caller vouches that `payload` is UTF-8.
    #[must_use]
    pub fn text(payload: &[u8]) -> Self {
        Self { opcode: Opcode::Text, plain: text(payload), deflated: OnceLock::new() }
    }

    /// A binary message.
    #[must_use]
    pub fn binary(payload: &[u8]) -> Self {
        Self { opcode: Opcode::Binary, plain: binary(payload), deflated: OnceLock::new() }
    }

    /// The frame for a reader who agreed on nothing.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    /// The frame for a reader with this agreement. Whoever first needs it compressed does the work for all, on any
    /// thread; the others wait for that.
    #[must_use]
    pub fn encoded_for(&self, agreed: Option<Agreed>, deflater: &mut Deflater) -> Bytes {
        let payload = self.payload();
        if !agreed.is_some_and(|agreed| agreed.allows(payload.len())) {
            return self.plain();
        }
        let deflate = || Some(frame::encode(self.opcode, true, &deflater.deflate(payload)?).into());
        self.deflated.get_or_init(deflate).clone().unwrap_or_else(|| self.plain())
    }

    /// What was framed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        // The length that is written down decides how long the header is, and they grow together.
        let header_bytes = match self.plain[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        &self.plain[header_bytes..]
    }
}

/// A text message in one frame. The caller vouches that `payload` is UTF-8.
#[must_use]
pub fn text(payload: &[u8]) -> Bytes {
    debug_assert!(std::str::from_utf8(payload).is_ok(), "a text message is UTF-8");
    frame::encode(Opcode::Text, false, payload).into()
}

/// A binary message in one frame.
#[must_use]
pub fn binary(payload: &[u8]) -> Bytes {
    frame::encode(Opcode::Binary, false, payload).into()
}

/// A ping, at most [`CONTROL_BYTES_MAX`] long.
#[must_use]
pub fn ping(payload: &[u8]) -> Bytes {
    control(Opcode::Ping, payload)
}

/// The answer to a ping: its payload, which the reader has bounded.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    control(Opcode::Pong, payload)
}

/// Closes from our side: nothing may be sent after it.
#[must_use]
pub fn close(code: CloseCode) -> Bytes {
    control(Opcode::Close, &[&code.code().to_be_bytes()[..], code.as_str().as_bytes()].concat())
}

/// Answers the client's close with its own code, without the reason: nothing may be sent after it.
#[must_use]
pub fn close_reply(close: Option<&Close>) -> Bytes {
    match close {
        Some(close) => control(Opcode::Close, &close.code.to_be_bytes()),
        None => control(Opcode::Close, &[]),
    }
}

fn control(opcode: Opcode, payload: &[u8]) -> Bytes {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "we never write a control frame of more than 125 bytes");
    frame::encode(opcode, false, payload).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{Inflater, negotiate};

    #[test]
    fn all_readers_share_one_memory() {
        let frame = SharedFrame::text(&b"vitals ".repeat(100));
        let (agreed, deflater) = (negotiate(["permessage-deflate"]), &mut Deflater::default());
        assert_eq!(frame.plain().as_ptr(), frame.encoded_for(None, deflater).as_ptr());
        let deflated = frame.encoded_for(agreed, deflater);
        assert_eq!(deflated[0], 0xc1, "FIN, RSV1, text");
        assert_eq!(deflated.as_ptr(), frame.encoded_for(agreed, &mut Deflater::default()).as_ptr());
        assert_eq!(Inflater::default().inflate(&deflated[2..], 700).as_deref(), Ok(frame.payload()));
    }

    #[test]
    fn a_reader_with_a_small_window_gets_long_messages_plain() {
        let small = negotiate(["permessage-deflate; server_max_window_bits=8"]);
        let first_byte = |bytes| SharedFrame::text(&vec![b'x'; bytes]).encoded_for(small, &mut Deflater::default())[0];
        assert_eq!((first_byte(256), first_byte(257)), (0xc1, 0x81));
    }

    #[test]
    fn what_does_not_shrink_is_sent_plain() {
        let frame = SharedFrame::binary(b"short");
        assert_eq!(
            &frame.encoded_for(negotiate(["permessage-deflate"]), &mut Deflater::default())[..],
            b"\x82\x05short"
        );
    }

    #[test]
    fn the_payload_is_found_behind_every_header() {
        for bytes in [0, 125, 126, 65535, 65536] {
            assert_eq!(SharedFrame::binary(&vec![7; bytes]).payload(), vec![7; bytes]);
        }
    }

    #[test]
    fn control_frames_are_as_the_rfc_writes_them() {
        assert_eq!(&ping(b"Hello")[..], b"\x89\x05Hello");
        assert_eq!(&pong(b"")[..], b"\x8a\x00");
        assert_eq!(&close(CloseCode::Draining)[..], b"\x88\x0a\x03\xe9draining");
        assert_eq!(&close_reply(None)[..], b"\x88\x00");
        let theirs = Close { code: 4999, reason: "x".repeat(123) };
        assert_eq!(&close_reply(Some(&theirs))[..], b"\x88\x02\x13\x87");
    }
}
