//! However the network cuts the bytes of a client, the same events come of them.

use fourfold_protocol::websocket::{Close, Event, Inflater};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::client::{self, *};

/// What a client means to send.
#[derive(Clone, Debug)]
enum Sent {
    Message { is_text: bool, level: Option<u32>, payload: String, cuts: Vec<Index>, between: Vec<Option<Vec<u8>>> },
    Control { is_ping: bool, payload: Vec<u8> },
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        8 => vec(any::<char>(), 0..30).prop_map(String::from_iter),
        1 => (0_usize..400, any::<char>()).prop_map(|(times, c)| c.to_string().repeat(times)),
        1 => (65_400_usize..65_700).prop_map(|times| "x".repeat(times)),
    ];
    let between = vec(proptest::option::weighted(0.3, vec(any::<u8>(), 0..=125)), 4);
    prop_oneof![
        4 => (any::<bool>(), proptest::option::of(0_u32..=9), payload, vec(any::<Index>(), 0..4), between)
            .prop_map(|(is_text, level, payload, cuts, between)| Sent::Message { is_text, level, payload, cuts, between }),
        1 => (any::<bool>(), vec(any::<u8>(), 0..=125)).prop_map(|(is_ping, payload)| Sent::Control { is_ping, payload }),
    ]
}

/// The bytes that say it, and the events that should come of them.
fn encode(sent: &[Sent]) -> (Vec<u8>, Vec<Event>) {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    for one in sent {
        match one {
            Sent::Control { is_ping: true, payload } => {
                bytes.extend(frame(FIN | PING, payload));
                events.push(Event::Ping(payload.clone().into()));
            }
            Sent::Control { is_ping: false, payload } => {
                bytes.extend(frame(FIN | PONG, payload));
                events.push(Event::Pong(payload.clone().into()));
            }
            Sent::Message { is_text, level, payload, cuts, between } => {
                let wire = match level {
                    Some(level) => client::deflate(payload.as_bytes(), *level),
                    None => payload.clone().into_bytes(),
                };
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
                cuts.sort_unstable();
                let edges: Vec<usize> = [0].into_iter().chain(cuts).chain([wire.len()]).collect();
                for (index, edge) in edges.windows(2).enumerate() {
                    let opcode = match (index, is_text) {
                        (0, true) => TEXT,
                        (0, false) => BINARY,
                        _ => CONTINUATION,
                    };
                    let rsv1 = if index == 0 && level.is_some() { RSV1 } else { 0 };
                    let is_last = index == edges.len() - 2;
                    bytes.extend(frame(if is_last { FIN } else { 0 } | rsv1 | opcode, &wire[edge[0]..edge[1]]));
                    if let (false, Some(Some(ping))) = (is_last, between.get(index)) {
                        bytes.extend(frame(FIN | PING, ping));
                        events.push(Event::Ping(ping.clone().into()));
                    }
                }
                events.push(match is_text {
                    true => Event::Text(payload.clone()),
                    false => Event::Binary(payload.clone().into()),
                });
            }
        }
    }
    (bytes, events)
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut pieces, mut start) = (Vec::new(), 0);
    for cut in cuts.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_same_events_come_of_any_pieces(sent in vec(sent(), 0..6), cuts in vec(any::<Index>(), 0..12)) {
        let (bytes, events) = encode(&sent);
        let inflater = &mut Inflater::default();
        let whole = read(agreed(), 1 << 20, inflater, [&bytes[..]]);
        prop_assert!(whole == (events, None), "fed whole: {whole:?}");
        let cut = read(agreed(), 1 << 20, inflater, pieces(&bytes, &cuts));
        prop_assert!(cut == whole, "fed in pieces: {cut:?}");
        if bytes.len() < 5_000 {
            let single = read(agreed(), 1 << 20, inflater, bytes.chunks(1));
            prop_assert!(single == whole, "fed by single bytes: {single:?}");
        }
    }

    #[test]
    fn damaged_bytes_come_to_the_same_in_any_pieces(
        sent in vec(sent(), 1..4), damage in vec((any::<Index>(), any::<u8>()), 1..4), cuts in vec(any::<Index>(), 0..12),
    ) {
        let (mut bytes, _) = encode(&sent);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let inflater = &mut Inflater::default();
        let whole = read(agreed(), 1 << 20, inflater, [&bytes[..]]);
        let cut = read(agreed(), 1 << 20, inflater, pieces(&bytes, &cuts));
        prop_assert!(cut == whole, "whole {whole:?}, in pieces {cut:?}");
    }
}

/// One of everything: both kinds, compressed or not, whole and in pieces with a ping between, and a goodbye.
fn corpus() -> (Vec<u8>, Vec<Event>) {
    let deflated = client::deflate(&b"Hello ".repeat(20), 6);
    let bytes = [
        frame(FIN | TEXT, "Grüße, 世界 🌍".as_bytes()),
        frame(FIN | BINARY, b""),
        frame(TEXT, &"🌍".as_bytes()[..1]),
        frame(FIN | PING, b"are you there"),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, &"🌍".as_bytes()[1..3]),
        frame(FIN | CONTINUATION, &"🌍".as_bytes()[3..]),
        frame(FIN | BINARY, &[0xfe; 126]),
        frame(RSV1 | TEXT, &deflated[..3]),
        frame(FIN | PONG, b""),
        frame(FIN | CONTINUATION, &deflated[3..]),
        frame(FIN | RSV1 | BINARY, &[0]),
        frame(FIN | CLOSE, b"\x03\xe8bye \xe2\x9c\x93"),
    ]
    .concat();
    let events = vec![
        Event::Text("Grüße, 世界 🌍".into()),
        Event::Binary("".into()),
        Event::Ping("are you there".into()),
        Event::Text("🌍".into()),
        Event::Binary(vec![0xfe; 126].into()),
        Event::Pong("".into()),
        Event::Text("Hello ".repeat(20)),
        Event::Binary("".into()),
        Event::Close(Some(Close { code: 1000, reason: "bye ✓".into() })),
    ];
    (bytes, events)
}

#[test]
fn every_cut_in_two_or_three_gives_the_same_events() {
    let (bytes, events) = corpus();
    let expected = (events, None);
    let inflater = &mut Inflater::default();
    for first in 0..=bytes.len() {
        for second in (first..=bytes.len()).step_by(7).chain([bytes.len()]) {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert!(read(agreed(), 200, inflater, pieces) == expected, "cut at {first} and {second}");
        }
    }
    for piece_bytes in 1..20 {
        assert!(read(agreed(), 200, inflater, bytes.chunks(piece_bytes)) == expected, "pieces of {piece_bytes}");
    }
}

#[test]
fn lengths_are_read_in_all_three_forms() {
    for bytes in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537] {
        let payload = vec![b'x'; bytes];
        let (events, broken) = read_whole(&frame(FIN | BINARY, &payload));
        assert!(events == [Event::Binary(payload.into())] && broken.is_none(), "{bytes}");
    }
}

#[test]
fn what_follows_a_close_is_dropped() {
    let bytes = [frame(FIN | CLOSE, b""), frame(FIN | TEXT, b"too late"), vec![0xff; 50]].concat();
    assert_eq!(read_whole(&bytes), (vec![Event::Close(None)], None));
    assert_eq!(read(None, 10, &mut Inflater::default(), bytes.chunks(3)), (vec![Event::Close(None)], None));
}

#[test]
fn empty_continuations_without_end_cost_nothing_and_end_well() {
    let flood = frame(CONTINUATION, b"").repeat(100_000);
    let (start, end) = (frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"b"));
    assert_eq!(
        read(None, 2, &mut Inflater::default(), [&start[..], &flood, &end]),
        (vec![Event::Text("ab".into())], None)
    );
}
