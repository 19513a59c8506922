//! A client's side of the wire, as broken as a test wants it: frames by their raw first byte.

#![allow(dead_code, reason = "each test binary that includes this file uses its own part of it")]

use flate2::{Compress, Compression, FlushCompress};
use fourfold_protocol::websocket::{Agreed, Broken, Event, Inflater, Limits, Reader, negotiate};

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;

pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame whose first byte is `first`.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        bytes @ 0..=125 => frame.push(0x80 | u8::try_from(bytes).expect("it is in the range")),
        bytes @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(bytes).expect("it is in the range").to_be_bytes());
        }
        bytes => {
            frame.push(0x80 | 127);
            frame.extend((bytes as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A message as a client would compress it, at a level and with a flush of its choice.
pub(crate) fn deflate(message: &[u8], level: u32) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(message.len() + message.len() / 8 + 64);
    Compress::new(Compression::new(level), false)
        .compress_vec(message, &mut deflated, FlushCompress::Sync)
        .expect("there is room");
    deflated.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a sync flush ends with it").to_vec()
}

pub(crate) fn agreed() -> Option<Agreed> {
    negotiate(["permessage-deflate"])
}

/// All events of the pieces, and how it broke if it did.
pub(crate) fn read<'a>(
    agreed: Option<Agreed>,
    message_bytes_max: usize,
    inflater: &mut Inflater,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Option<Broken>) {
    let (mut reader, limits) = (Reader::new(agreed), Limits { message_bytes_max });
    let mut events = Vec::new();
    let mut broken = None;
    for mut piece in pieces {
        loop {
            match reader.feed(&mut piece, &limits, inflater) {
                Ok(Some(event)) => {
                    assert!(broken.is_none(), "nothing comes of a broken connection");
                    assert!(!matches!(events.last(), Some(Event::Close(_))), "nothing comes after a close");
                    events.push(event);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(broken.is_none(), "a connection breaks once");
                    broken = Some(error);
                }
            }
        }
        assert!(piece.is_empty(), "no event means that all the input was used");
    }
    (events, broken)
}

/// What one piece gives, without compression and with a roomy limit.
pub(crate) fn read_whole(bytes: &[u8]) -> (Vec<Event>, Option<Broken>) {
    read(None, 1 << 20, &mut Inflater::default(), [bytes])
}
