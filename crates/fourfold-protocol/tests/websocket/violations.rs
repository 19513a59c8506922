//! Each breach of RFC 6455, refused with its close code and not a byte later than need be.

use fourfold_protocol::websocket::{Broken, CloseCode, Inflater};

use super::client::*;

/// Broken by the last byte of `bytes` and not before, with nothing said until then.
#[track_caller]
fn breaks(bytes: &[u8], broken: Broken, code: u16) {
    assert_eq!(broken.close_code().code(), code);
    let inflater = &mut Inflater::default();
    assert_eq!(read(None, 1000, inflater, [bytes]), (vec![], Some(broken)), "fed whole");
    assert_eq!(read(None, 1000, inflater, bytes.chunks(1)), (vec![], Some(broken)), "fed by bytes");
    assert_eq!(read(None, 1000, inflater, [&bytes[..bytes.len() - 1]]), (vec![], None), "too early");
}

#[test]
fn an_unmasked_frame_is_a_protocol_error() {
    breaks(&[FIN | TEXT, 5], Broken::Unmasked, 1002);
    breaks(&[FIN | PING, 0], Broken::Unmasked, 1002);
}

#[test]
fn a_reserved_bit_is_a_protocol_error() {
    for bit in [0x40, 0x20, 0x10] {
        breaks(&[FIN | bit | TEXT, 0x80], Broken::ReservedBits, 1002);
        breaks(&[FIN | bit | PING, 0x80], Broken::ReservedBits, 1002);
    }
}

#[test]
fn a_reserved_opcode_is_a_protocol_error() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        breaks(&[FIN | opcode, 0x80], Broken::ReservedOpcode, 1002);
    }
}

#[test]
fn a_fragmented_control_frame_is_a_protocol_error() {
    for opcode in [CLOSE, PING, PONG] {
        breaks(&[opcode, 0x80], Broken::FragmentedControl, 1002);
    }
}

#[test]
fn a_long_control_frame_is_a_protocol_error() {
    for opcode in [CLOSE, PING, PONG] {
        breaks(&[FIN | opcode, 0x80 | 126], Broken::LongControl, 1002);
    }
}

#[test]
fn a_continuation_of_nothing_is_a_protocol_error() {
    breaks(&[FIN | CONTINUATION, 0x80], Broken::LoneContinuation, 1002);
    breaks(&[CONTINUATION, 0x85], Broken::LoneContinuation, 1002);
    let (events, broken) = read_whole(&[frame(FIN | TEXT, b"whole"), vec![FIN, 0x80]].concat());
    assert_eq!((events.len(), broken), (1, Some(Broken::LoneContinuation)));
}

#[test]
fn a_message_inside_another_is_a_protocol_error() {
    for opcode in [TEXT, BINARY] {
        breaks(&[frame(TEXT, b"begun"), vec![FIN | opcode, 0x85]].concat(), Broken::InterruptedMessage, 1002);
    }
}

#[test]
fn a_length_longer_than_need_be_is_a_protocol_error() {
    let header = |length: &[u8]| [&[FIN | TEXT][..], length, &MASK].concat();
    breaks(&header(&[0xfe, 0, 125]), Broken::InvalidLength, 1002);
    breaks(&header(&[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Broken::InvalidLength, 1002);
}

#[test]
fn a_length_of_64_bits_is_a_protocol_error() {
    breaks(&[&[FIN | TEXT, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0][..], &MASK].concat(), Broken::InvalidLength, 1002);
}

#[test]
fn a_message_too_big_is_refused_by_its_header() {
    let header = |first: u8, bytes: u16| [&[first, 0xfe][..], &bytes.to_be_bytes(), &MASK].concat();
    breaks(&header(FIN | BINARY, 1001), Broken::MessageTooBig, 1009);
    breaks(&[&[FIN | TEXT, 0xff, 0x7f][..], &[0xff; 7], &MASK].concat(), Broken::MessageTooBig, 1009);
    breaks(&[frame(TEXT, &[b'x'; 500]), header(CONTINUATION, 501)].concat(), Broken::MessageTooBig, 1009);
    let fits = [frame(TEXT, &[b'x'; 500]), frame(FIN | CONTINUATION, &[b'x'; 500])].concat();
    assert_eq!(read(None, 1000, &mut Inflater::default(), [&fits[..]]).1, None);
}

#[test]
fn a_close_of_one_byte_is_a_protocol_error() {
    breaks(&frame(FIN | CLOSE, &[3]), Broken::InvalidClose, 1002);
}

#[test]
fn a_close_code_that_must_not_be_sent_is_a_protocol_error() {
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        breaks(&frame(FIN | CLOSE, &code.to_be_bytes()), Broken::InvalidClose, 1002);
    }
}

#[test]
fn a_close_reason_that_is_not_utf8_is_invalid_utf8() {
    breaks(&frame(FIN | CLOSE, b"\x03\xe8\xce\xba\xff"), Broken::InvalidUtf8, 1007);
}

#[test]
fn text_that_is_not_utf8_is_refused_by_its_first_wrong_byte() {
    // κόσμε, then a code point beyond the last, of which the second byte is already one too many.
    let text = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
    let whole = frame(FIN | TEXT, text);
    let header_bytes = whole.len() - text.len();
    let inflater = &mut Inflater::default();
    for taken in 0..=text.len() {
        let expected = (taken >= 13).then_some(Broken::InvalidUtf8);
        assert_eq!(read(None, 1000, inflater, whole[..header_bytes + taken].chunks(1)), (vec![], expected), "{taken}");
    }
    breaks(&[frame(TEXT, &text[..12]), frame(CONTINUATION, &text[12..13])].concat(), Broken::InvalidUtf8, 1007);
    assert_eq!(Broken::InvalidUtf8.close_code(), CloseCode::InvalidUtf8);
}

#[test]
fn text_that_ends_within_a_code_point_is_invalid_utf8() {
    breaks(&frame(FIN | TEXT, b"\xce"), Broken::InvalidUtf8, 1007);
    breaks(&[frame(TEXT, b"\xf0\x9f"), frame(FIN | CONTINUATION, b"\x8c")].concat(), Broken::InvalidUtf8, 1007);
    let empty_end = frame(FIN | CONTINUATION, b"");
    breaks(&[frame(TEXT, b"\xf0\x9f"), empty_end].concat(), Broken::InvalidUtf8, 1007);
}

#[test]
fn binary_need_not_be_utf8() {
    let (events, broken) = read_whole(&[frame(BINARY, b"\xff"), frame(FIN | CONTINUATION, b"\xfe")].concat());
    assert_eq!((events.len(), broken), (1, None));
}
