//! Whatever comes from outside, mutated at random: no panic, and the promises of each parser kept.
//!
//! ```text
//! FOURFOLD_FUZZ_ROUNDS=1000000 cargo test -p fourfold-protocol --test fuzz
//! ```
//!
//! Rounds default to 20,000 a target. The seed is fixed, so that a run repeats; `FOURFOLD_FUZZ_SEED` sets another, and a
//! failure prints the one to repeat it with. A target is a line in the table below: its name, a function that panics
//! when a promise is broken, and some inputs to begin with.

#[path = "websocket/client.rs"]
mod client;

use std::{cell::RefCell, env, panic, str};

use client::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, agreed, frame, read};
use fourfold_protocol::{
    Code, Offset, Start, StreamName,
    name::NAME_BYTES_MAX,
    websocket::{self, Broken, Event, Inflater},
};

macro_rules! targets {
    ($($name:ident: $promise:ident, $corpus:ident;)*) => {
        $(#[test] fn $name() { fuzz(stringify!($name), $promise, &$corpus()); })*
    };
}

targets! {
    websocket_reader: reader_is_the_same_in_any_pieces_and_bounded, websocket_frames;
    websocket_offers: an_agreement_answers_itself, websocket_offers_seen;
    websocket_key: an_accept_key_has_28_letters, websocket_keys;
    stream_name: a_name_survives_its_url, names;
    offset: a_token_is_the_one_we_would_write, tokens;
}

const MESSAGE_BYTES_MAX: usize = 4096;

fn reader_is_the_same_in_any_pieces_and_bounded(bytes: &[u8]) {
    thread_local!(static INFLATER: RefCell<Inflater> = RefCell::default());
    INFLATER.with_borrow_mut(|inflater| {
        let whole = read(agreed(), MESSAGE_BYTES_MAX, inflater, [bytes]);
        for piece_bytes in [1, 2 + bytes.len() % 11] {
            let pieces = read(agreed(), MESSAGE_BYTES_MAX, inflater, bytes.chunks(piece_bytes));
            assert!(pieces == whole, "whole {whole:?}, in pieces of {piece_bytes} {pieces:?}");
        }
        let mut again = Vec::new();
        for event in &whole.0 {
            let (first, payload, bytes_max) = match event {
                Event::Text(text) => (TEXT, text.as_bytes().to_vec(), MESSAGE_BYTES_MAX),
                Event::Binary(data) => (BINARY, data.to_vec(), MESSAGE_BYTES_MAX),
                Event::Ping(data) => (PING, data.to_vec(), 125),
                Event::Pong(data) => (PONG, data.to_vec(), 125),
                Event::Close(None) => (CLOSE, vec![], 0),
                Event::Close(Some(c)) => (CLOSE, [&c.code.to_be_bytes()[..], c.reason.as_bytes()].concat(), 125),
            };
            assert!(payload.len() <= bytes_max, "{event:?} is over its limit");
            again.extend(frame(FIN | first, &payload));
        }
        assert!(read(None, MESSAGE_BYTES_MAX, inflater, [&again[..]]) == (whole.0, None), "events read back");
        if !bytes.is_empty() && bytes[1..].first().is_some_and(|second| second & 0x80 == 0) {
            assert!(whole.1.is_some(), "an unmasked frame breaks the connection");
        }
        if let Some(broken) = whole.1 {
            let code = broken.close_code().code();
            assert!(matches!((broken, code), (Broken::InvalidUtf8, 1007) | (Broken::MessageTooBig, 1009) | (_, 1002)));
        }
    });
}

fn websocket_frames() -> Vec<Vec<u8>> {
    let deflated = client::deflate(&b"Hello, Hello, ".repeat(20), 6);
    vec![
        frame(FIN | TEXT, "Grüße, 世界 🌍".as_bytes()),
        [frame(TEXT, b"\xf0\x9f"), frame(FIN | PING, b"ping"), frame(FIN | CONTINUATION, b"\x8c\x8d")].concat(),
        frame(FIN | BINARY, &[0xfe; 126]),
        frame(BINARY, &[0; MESSAGE_BYTES_MAX / 2]),
        frame(CONTINUATION, &[0; MESSAGE_BYTES_MAX / 2]),
        frame(FIN | CONTINUATION, &[0; MESSAGE_BYTES_MAX / 2]),
        frame(FIN | RSV1 | TEXT, &deflated),
        [frame(RSV1 | BINARY, &deflated[..9]), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, &deflated[9..])]
            .concat(),
        frame(FIN | RSV1 | BINARY, &client::deflate(&[0; 100_000], 9)),
        frame(FIN | RSV1 | TEXT, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]),
        frame(FIN | PONG, b""),
        frame(FIN | CLOSE, b"\x03\xe8bye"),
        vec![FIN | TEXT, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        vec![],
    ]
}

fn an_agreement_answers_itself(bytes: &[u8]) {
    let Ok(offers) = str::from_utf8(bytes) else { return };
    let Some(agreed) = websocket::negotiate([offers]) else { return };
    let answer = agreed.to_string();
    assert!(offers.to_ascii_lowercase().contains("permessage-deflate"), "nobody offered it");
    assert_eq!(websocket::negotiate([&*answer]), Some(agreed), "{answer} would be understood");
    assert!(agreed.allows(256), "no window is smaller than 256 bytes");
    if let Some((_, bits)) = answer.split_once("server_max_window_bits=") {
        assert!((8..=15).contains(&bits.parse().expect("a number")), "{answer}");
        assert!(offers.to_ascii_lowercase().contains("server_max_window_bits"), "the reader asked for it");
    }
    assert_eq!(websocket::negotiate(["other", offers]), Some(agreed), "other headers do not matter");
}

fn websocket_offers_seen() -> Vec<Vec<u8>> {
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=\"9\"",
        "permessage-deflate;client_max_window_bits=10, permessage-deflate",
        "x-webkit-deflate-frame, permessage-bzip2; a=\"b\\\", c\"; d",
    ]
    .map(Into::into)
    .into()
}

fn an_accept_key_has_28_letters(bytes: &[u8]) {
    let Ok(key) = str::from_utf8(bytes) else { return };
    if let Some(accept) = websocket::accept_key(key) {
        assert_eq!((key.len(), accept.len()), (24, 28), "{key}");
        assert!(key.ends_with("==") && accept.ends_with('='), "{key}");
    }
}

fn websocket_keys() -> Vec<Vec<u8>> {
    ["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA==", ""].map(Into::into).into()
}

fn a_name_survives_its_url(bytes: &[u8]) {
    let Ok(path) = str::from_utf8(bytes) else { return };
    match StreamName::parse(path) {
        Ok(name) => {
            let text = name.as_str();
            assert!(text.len() <= NAME_BYTES_MAX && !text.chars().any(|c| c.is_control() || c == '\\'), "{text:?}");
            assert!(!text.split('/').any(|segment| ["", ".", ".."].contains(&segment)), "{text:?}");
            assert!(text != "__ds" && !text.starts_with("__ds/"), "{text:?} is reserved");
            assert_eq!(text.matches('/').count(), path.matches('/').count(), "no slash comes of decoding");
            assert!(name.encoded().is_ascii());
            assert_eq!(StreamName::parse(&name.encoded()).as_ref(), Ok(&name));
            assert_eq!(StreamName::new(text).as_ref(), Ok(&name));
        }
        Err(refusal) => assert!(matches!(refusal.code, Code::InvalidName | Code::ReservedName)),
    }
}

fn names() -> Vec<Vec<u8>> {
    let long = "a".repeat(NAME_BYTES_MAX);
    ["demo/vitals", "a%20b/%E4%B8%96", "__ds/x", "%5f_ds", "a/../b", "%2e%2E", "a%2Fb%5c", "%00%0d%7f", "%", "é", &long]
        .map(Into::into)
        .into()
}

fn a_token_is_the_one_we_would_write(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Start::parse(text) {
        None => assert_eq!(Offset::parse(text), None),
        Some(Start::Oldest) => assert_eq!(text, "-1"),
        Some(Start::Now) => assert_eq!(text, "now"),
        Some(Start::At(offset)) => assert_eq!(offset.to_string(), text),
    }
}

fn tokens() -> Vec<Vec<u8>> {
    ["-1", "now", "019aab3f2c10_0000000000000042", "ffffffffffff_9999999999999999", "000000000000_0000000000000000"]
        .map(Into::into)
        .into()
}

/// Runs `promise` on the corpus, then on as many mutations of it as there are rounds.
fn fuzz(name: &str, promise: fn(&[u8]), corpus: &[Vec<u8>]) {
    let from_env = |key| env::var(key).ok().map(|text: String| text.parse().expect("a whole number"));
    let rounds: u64 = from_env("FOURFOLD_FUZZ_ROUNDS").unwrap_or(20_000);
    let seed: u64 = from_env("FOURFOLD_FUZZ_SEED").unwrap_or(6455);
    let mut random = Random(seed);
    for round in 0..rounds + corpus.len() as u64 {
        let input = match corpus.get(usize::try_from(round).unwrap_or(usize::MAX)) {
            Some(untouched) => untouched.clone(),
            None => mutate(corpus, &mut random),
        };
        if let Err(panicked) = panic::catch_unwind(|| promise(&input)) {
            eprintln!("{name} broke in round {round} on b\"{}\"", input.escape_ascii());
            eprintln!("FOURFOLD_FUZZ_SEED={seed} FOURFOLD_FUZZ_ROUNDS={} cargo test --test fuzz {name}", round + 1);
            panic::resume_unwind(panicked);
        }
    }
}

/// One to three inputs of the corpus, one after the other, with up to eight small changes.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const TELLING: [u8; 16] = *b"\0\x01\x7e\x7f\x80\xfe\xff%/.;,=\"_9";
    let mut input = Vec::new();
    for _ in 0..=random.below(3) {
        input.extend_from_slice(&corpus[random.below(corpus.len())]);
    }
    for _ in 0..random.below(9) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(9)).min(input.len());
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = TELLING[random.below(TELLING.len())],
            2 => input.insert(at, TELLING[random.below(TELLING.len())]),
            3 => drop(input.drain(at..end)),
            4 => input.extend_from_within(at..end),
            5 if random.below(4) == 0 => input.truncate(at),
            _ => {}
        }
    }
    input
}

/// SplitMix64: small, and any seed will do.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).expect("it is below a usize")
    }
}
