//! Compressed messages: where they may stand, and what they may cost.

use flate2::{Decompress, FlushDecompress};
use fourfold_protocol::websocket::{Broken, Deflater, Event, Inflater, SharedFrame, negotiate};

use super::client::{self, *};

fn read_deflated(bytes: &[u8], message_bytes_max: usize) -> (Vec<Event>, Option<Broken>) {
    read(agreed(), message_bytes_max, &mut Inflater::default(), [bytes])
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_compressed() {
    for bytes in [
        [frame(RSV1 | TEXT, &[0]), vec![FIN | RSV1 | CONTINUATION, 0x80]].concat(),
        [frame(TEXT, b"plain"), vec![FIN | RSV1 | CONTINUATION, 0x80]].concat(),
        vec![FIN | RSV1 | PING, 0x80],
        vec![FIN | RSV1 | CLOSE, 0x80],
    ] {
        assert_eq!(read_deflated(&bytes, 100), (vec![], Some(Broken::ReservedBits)));
        assert_eq!(Broken::ReservedBits.close_code().code(), 1002);
    }
}

#[test]
fn a_message_may_stay_plain_although_compression_was_agreed_on() {
    assert_eq!(read_deflated(&frame(FIN | TEXT, b"plain"), 100), (vec![Event::Text("plain".into())], None));
}

#[test]
fn a_bomb_is_too_big() {
    let bomb = client::deflate(&vec![0; 16 * 1024 * 1024], 9);
    assert!(bomb.len() < 32 * 1024, "{} bytes make 16 MiB", bomb.len());
    for first in [FIN | RSV1 | TEXT, FIN | RSV1 | BINARY] {
        assert_eq!(read_deflated(&frame(first, &bomb), 64 * 1024), (vec![], Some(Broken::MessageTooBig)));
    }
    assert_eq!(Broken::MessageTooBig.close_code().code(), 1009);
}

#[test]
fn compressed_bytes_over_the_limit_are_refused_by_their_header() {
    let header = [FIN | RSV1 | TEXT, 0xfe, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(read_deflated(&header, 10_000), (vec![], Some(Broken::MessageTooBig)));
    assert_eq!(read_deflated(&header, 65_535), (vec![], None));
}

#[test]
fn what_does_not_shrink_may_still_come_compressed_up_to_the_limit() {
    let noise: Vec<u8> = (0..10_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    for level in 0..=9 {
        let (events, broken) = read_deflated(&frame(FIN | RSV1 | BINARY, &client::deflate(&noise, level)), noise.len());
        assert_eq!((events, broken), (vec![Event::Binary(noise.clone().into())], None), "level {level}");
    }
}

#[test]
fn damaged_compression_is_a_protocol_error() {
    assert_eq!(read_deflated(&frame(FIN | RSV1 | TEXT, &[0xff; 20]), 100), (vec![], Some(Broken::InvalidDeflate)));
    assert_eq!(Broken::InvalidDeflate.close_code().code(), 1002);
}

#[test]
fn compressed_text_is_utf8_too() {
    let deflated = client::deflate(b"\xce\xba\xff and so on", 6);
    assert_eq!(read_deflated(&frame(FIN | RSV1 | TEXT, &deflated), 100), (vec![], Some(Broken::InvalidUtf8)));
    let (events, broken) = read_deflated(&frame(FIN | RSV1 | BINARY, &deflated), 100);
    assert_eq!((events.len(), broken), (1, None));
}

#[test]
fn a_damaged_message_does_not_harm_the_next_connection() {
    let inflater = &mut Inflater::default();
    let good = frame(FIN | RSV1 | TEXT, &client::deflate(b"good good good good", 6));
    for bad in [&[0xff; 9][..], &client::deflate(&[7; 5000], 6), &[0x4a, 0x4c]] {
        assert!(read(agreed(), 1000, inflater, [&frame(FIN | RSV1 | BINARY, bad)[..]]).1.is_some());
        let expected = (vec![Event::Text("good good good good".into())], None);
        assert_eq!(read(agreed(), 1000, inflater, [&good[..]]), expected);
    }
}

/// The reader's window bounds how far back it can look, so this fails if we ever refer back further.
#[test]
fn a_reader_with_a_small_window_can_inflate_what_it_gets() {
    for bits in 9..=15_u8 {
        let agreed = negotiate([&*format!("permessage-deflate; server_max_window_bits={bits}")]);
        let half: Vec<u8> =
            (0..1_u64 << (bits - 1)).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8).collect();
        let message = [&half[..], &half].concat(); // The second half refers back as far as it can.
        let encoded = SharedFrame::text(&message).encoded_for(agreed, &mut Deflater::default());
        assert_eq!(encoded[0], 0xc1, "{bits}");
        let header_bytes = if encoded[1] == 126 { 4 } else { 2 };
        let deflated = [&encoded[header_bytes..], &[0, 0, 0xff, 0xff]].concat();
        let mut decompress = Decompress::new_with_window_bits(false, bits);
        let (mut inflated, mut small) = (Vec::new(), [0; 16]); // Little room, so that it lives off its window.
        while inflated.len() < message.len() {
            let (taken, given) = (decompress.total_in() as usize, decompress.total_out());
            decompress.decompress(&deflated[taken..], &mut small, FlushDecompress::None).expect("it is in the window");
            let given = (decompress.total_out() - given) as usize;
            assert!(given > 0 || (decompress.total_in() as usize) > taken, "it goes on");
            inflated.extend_from_slice(&small[..given]);
        }
        assert!(inflated == message, "{bits}");
    }
}
