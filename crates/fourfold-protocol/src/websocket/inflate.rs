//! Inflating a message: whole, from its compressed bytes, never over a limit.
//!
//! As no context is taken over from message to message, one [`Inflater`] serves all the connections of a thread.
//! Spec: RFC 7692 "Decompression".

use std::cmp;

use flate2::{Decompress, FlushDecompress, Status};

use super::broken::Broken;

/// What the sender left off at the end: the length fields of an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A last, empty block. It ends the deflate stream only if the message ended on a block's edge, which proves that
/// nothing is missing.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// How much more room is made at once, at most: what a bomb can claim above the limit.
const STEP_BYTES_MAX: usize = 64 * 1024;

/// How many streams may follow each other in one message. Senders without a sync flush end one per flush; each costs
/// a reset of the window, about a microsecond.
const STREAMS_MAX: usize = 256;

/// Inflates messages. Keeps about 50 KB from the first one on, so have one per thread.
#[derive(Debug, Default)]
pub struct Inflater {
    decompress: Option<Decompress>, // Made late: most threads of most servers never see a compressed message.
}

impl Inflater {
    /// The message that was compressed to `deflated`.
    ///
    /// Errors: [`Broken::MessageTooBig`] before more than `message_bytes_max` and a step of 64 KiB are in memory;
    /// [`Broken::InvalidDeflate`] also when the end is missing.
    pub fn inflate(&mut self, deflated: &[u8], message_bytes_max: usize) -> Result<Vec<u8>, Broken> {
        let mut message = Vec::new();
        if deflated.is_empty() {
            return Ok(message); // Some senders strip an empty message to nothing.
        }
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(false));
        let mut rest = deflated;
        for _ in 0..STREAMS_MAX {
            decompress.reset(false);
            let mut sink = Sink { decompress, message: &mut message, message_bytes_max };
            if !sink.take(&mut rest)? {
                // Neither the tail nor the end block is output, so they say nothing about the message's size.
                let at_edge = !sink.take(&mut &TAIL[..])? && sink.take(&mut &END[..])?;
                return if at_edge { Ok(message) } else { Err(Broken::InvalidDeflate) };
            }
            if rest.is_empty() {
                return Ok(message); // A sender that ends its stream may send no more.
            }
        }
        Err(Broken::InvalidDeflate)
    }
}

struct Sink<'a> {
    decompress: &'a mut Decompress,
    message: &'a mut Vec<u8>,
    message_bytes_max: usize,
}

impl Sink<'_> {
    /// Inflates until `input` is used up (false) or the stream has ended (true).
    fn take(&mut self, input: &mut &[u8]) -> Result<bool, Broken> {
        loop {
            if self.message.len() == self.message.capacity() {
                // As much again, or as the input suggests: text usually shrinks to a third or less.
                let guess = cmp::max(self.message.len(), input.len().saturating_mul(3));
                self.message.reserve_exact(guess.clamp(64, STEP_BYTES_MAX));
            }
            let (taken, given) = (self.decompress.total_in(), self.message.len());
            let status = self.decompress.decompress_vec(input, self.message, FlushDecompress::None);
            let taken = usize::try_from(self.decompress.total_in() - taken).expect("no more than the input");
            *input = &input[taken..];
            if self.message.len() > self.message_bytes_max {
                return Err(Broken::MessageTooBig);
            }
            let is_full = self.message.len() == self.message.capacity();
            match status {
                Err(_) => return Err(Broken::InvalidDeflate),
                Ok(Status::StreamEnd) => return Ok(true),
                Ok(_) if is_full => {} // There may be more where that came from, also without input.
                Ok(_) if input.is_empty() => return Ok(false),
                Ok(_) if taken == 0 && self.message.len() == given => return Err(Broken::InvalidDeflate),
                Ok(_) => {}
            }
        }
    }
}

/// The most bytes that a message of `message_bytes_max` takes when it is compressed at all sensibly: zlib's own bound
/// for its least suitable settings. More is too big without a look at it.
pub(super) const fn deflated_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 8).saturating_add(message_bytes_max / 64).saturating_add(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::Deflater;
    use proptest::prelude::*;

    const MAX: usize = 64 * 1024;

    fn inflate(deflated: &[u8]) -> Result<Vec<u8>, Broken> {
        Inflater::default().inflate(deflated, MAX)
    }

    #[test]
    fn the_examples_of_the_rfc_inflate() {
        for deflated in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], // a block without compression
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],                   // BFINAL, then an empty block
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], // two blocks
        ] {
            assert_eq!(inflate(deflated).as_deref(), Ok(&b"Hello"[..]), "{deflated:x?}");
        }
    }

    #[test]
    fn an_ended_stream_may_end_the_message() {
        assert_eq!(inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).as_deref(), Ok(&b"Hello"[..]));
    }

    #[test]
    fn an_empty_message_is_one_zero_byte_or_nothing() {
        assert_eq!(inflate(&[0x00]).as_deref(), Ok(&b""[..]));
        assert_eq!(inflate(&[]).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_message_with_a_missing_end_is_damaged() {
        let whole = Deflater::default()
            .deflate(&b"a message of some length, and of some length".repeat(9))
            .expect("it shrinks");
        for cut in 1..whole.len() {
            assert_eq!(inflate(&whole[..cut]), Err(Broken::InvalidDeflate), "cut at {cut} of {}", whole.len());
        }
    }

    #[test]
    fn streams_after_streams_are_bounded() {
        let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflate(&hello.repeat(3)).as_deref(), Ok(&b"HelloHelloHello"[..]));
        assert_eq!(inflate(&hello.repeat(STREAMS_MAX + 1)), Err(Broken::InvalidDeflate));
    }

    #[test]
    fn the_limit_is_the_inflated_size_to_the_byte() {
        for (bytes, fits) in [(MAX, true), (MAX + 1, false)] {
            let deflated = Deflater::default().deflate(&vec![b'x'; bytes]).expect("it shrinks");
            assert_eq!(inflate(&deflated).is_ok(), fits, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_passes_the_limit(deflated in proptest::collection::vec(any::<u8>(), 0..300), max in 0_usize..100) {
            if let Ok(message) = Inflater::default().inflate(&deflated, max) {
                prop_assert!(message.len() <= max);
            }
        }
    }
}
