//! Deflating a message, once for all its readers.
//!
//! No context is taken over, so one [`Deflater`] serves all the streams of a thread. Spec: RFC 7692 "Compression".

use flate2::{Compress, Compression, FlushCompress, Status};

/// A sync flush ends with an empty stored block; its length fields are left off and put back by the receiver.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Shorter messages hardly shrink, and cost the reader more time than the bytes cost the wire.
const MESSAGE_BYTES_MIN: usize = 64;

/// Deflates messages. Keeps about 310 KB from the first one on, so have one per thread.
#[derive(Debug, Default)]
pub struct Deflater {
    compress: Option<Compress>, // Made late: many servers never compress anything.
}

impl Deflater {
    /// The compressed payload; `None` if it would not be smaller, then send the message as it is.
    pub fn deflate(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() < MESSAGE_BYTES_MIN {
            return None;
        }
        let compress = self.compress.get_or_insert_with(|| Compress::new(Compression::default(), false));
        compress.reset();
        let mut deflated = Vec::with_capacity(message.len() + TAIL.len());
        let status = compress.compress_vec(message, &mut deflated, FlushCompress::Sync);
        if deflated.len() == deflated.capacity() {
            return None; // All the room is used, so it has not shrunk, or is not even whole.
        }
        debug_assert!(matches!(status, Ok(Status::Ok)) && compress.total_in() == message.len() as u64);
        deflated.truncate(deflated.strip_suffix(&TAIL)?.len());
        (deflated.len() < message.len()).then_some(deflated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::Inflater;
    use proptest::prelude::*;
    use std::sync::Mutex;

    proptest! {
        #[test]
        fn what_is_deflated_inflates(message in proptest::collection::vec(0_u8..8, 0..2000)) {
            static DEFLATER: Mutex<Deflater> = Mutex::new(Deflater { compress: None }); // One for all: it must forget.
            let deflated = DEFLATER.lock().unwrap().deflate(&message);
            if let Some(deflated) = deflated {
                prop_assert!(deflated.len() < message.len());
                prop_assert_eq!(Inflater::default().inflate(&deflated, message.len()).unwrap(), message);
            }
        }
    }

    #[test]
    fn messages_that_do_not_shrink_stay_as_they_are() {
        assert_eq!(Deflater::default().deflate(&[b'x'; MESSAGE_BYTES_MIN - 1]), None);
        assert!(Deflater::default().deflate(&[b'x'; MESSAGE_BYTES_MIN]).is_some());
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(Deflater::default().deflate(&noise), None);
    }

    #[test]
    fn nothing_is_taken_over_from_the_message_before() {
        let mut deflater = Deflater::default();
        let message = b"one and the same message, one and the same message, one and the same message";
        let first = deflater.deflate(message);
        assert!(first.is_some());
        assert_eq!(first, deflater.deflate(message));
    }
}
