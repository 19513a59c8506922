//! What is promised of whatever comes from outside, for any bytes at all.
//!
//! Two look for bytes that break a promise: `fuzz/` at the root, by coverage and for as long as one likes, and the tests below, with mutations at
//! random and whenever tests run.
//!
//! ```text
//! FOURFOLD_FUZZ_ROUNDS=1000000 cargo test -p fourfold-protocol fuzzing
//! ```
//!
//! Rounds default to 20,000 a target. The seed is fixed, so that a run repeats; `FOURFOLD_FUZZ_SEED` sets another, and a failure prints the one to
//! repeat it with. `FOURFOLD_FUZZ_CORPUS` names a folder that the inputs to begin with are written to, for `fuzz/`.

#[path = "../tests/websocket/client.rs"]
mod client;

use std::{cell::RefCell, str};

use client::{BINARY, CLOSE, FIN, PING, PONG, TEXT, agreed, frame, read};
use serde_json::{Value, value::RawValue};

use crate::{
    Code, Epoch, Kind, Offset, Start, StreamName,
    message::{self, MESSAGE_ID_BYTES_MAX, SAFE_INTEGER_MAX},
    name::NAME_BYTES_MAX,
    record::{self, is_content_type},
    websocket::{self, Broken, Deflater, Event, Inflater},
};

/// What stands in the head of a request: a name, an offset, a media type, an offer of compression, a key.
pub fn words(bytes: &[u8]) {
    a_name_survives_its_url(bytes);
    a_token_is_the_one_we_would_write(bytes);
    a_content_type_forges_no_header(bytes);
    an_agreement_answers_itself(bytes);
    an_accept_key_has_28_letters(bytes);
}

/// What comes from a client that has a WebSocket: frames; or behind a zero, with which none can begin, a compressed message without its frame, since
/// the mask hides from the one who mutates what it does.
pub fn websocket(bytes: &[u8]) {
    match bytes {
        [0, deflated @ ..] => a_message_is_bounded_and_forgotten(deflated),
        _ => reader_is_the_same_in_any_pieces_and_bounded(bytes),
    }
}

/// What a client appends, for a stream of the kind that the first byte says: as the body of a request, and as a message of a WebSocket.
pub fn message(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let kind = [Kind::Json, Kind::Text, Kind::Binary][usize::from(kind % 3)];
    records_are_what_the_body_has(kind, rest);
    a_message_is_answered_by_its_id(kind, rest);
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

fn a_token_is_the_one_we_would_write(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Start::parse(text) {
        None => assert_eq!(Offset::parse(text), None),
        Some(Start::Oldest) => assert_eq!(text, "-1"),
        Some(Start::Now) => assert_eq!(text, "now"),
        Some(Start::At(offset)) => assert_eq!(offset.to_string(), text),
    }
}

fn a_content_type_forges_no_header(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let kind = Kind::of(text);
    if is_content_type(text) {
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.contains('/'), "{text:?}");
        assert!(record::same_content_type(&text.to_ascii_uppercase(), text), "{text}");
        assert_eq!(Kind::of(&format!("{text}; charset=utf-8")), kind, "{text}");
    }
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

fn an_accept_key_has_28_letters(bytes: &[u8]) {
    let Ok(key) = str::from_utf8(bytes) else { return };
    if let Some(accept) = websocket::accept_key(key) {
        assert_eq!((key.len(), accept.len()), (24, 28), "{key}");
        assert!(key.ends_with("==") && accept.ends_with('='), "{key}");
    }
}

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

fn a_message_is_bounded_and_forgotten(deflated: &[u8]) {
    thread_local!(static BOTH: RefCell<(Inflater, Deflater)> = RefCell::default());
    BOTH.with_borrow_mut(|(inflater, deflater)| {
        let first = inflater.inflate(deflated, MESSAGE_BYTES_MAX);
        assert!(inflater.inflate(deflated, MESSAGE_BYTES_MAX) == first, "something was taken over");
        match first {
            Ok(message) => {
                assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes", message.len());
                assert!(inflater.inflate(deflated, message.len()).as_ref() == Ok(&message), "the limit itself fits");
                if let Some(less) = message.len().checked_sub(1) {
                    assert_eq!(inflater.inflate(deflated, less), Err(Broken::MessageTooBig));
                }
                if let Some(again) = deflater.deflate(&message) {
                    assert!(inflater.inflate(&again, message.len()).as_ref() == Ok(&message), "it inflates again");
                }
            }
            Err(broken) => assert!(matches!(broken, Broken::InvalidDeflate | Broken::MessageTooBig), "{broken}"),
        }
    });
}

fn records_are_what_the_body_has(kind: Kind, body: &[u8]) {
    let records = match record::split(kind, body) {
        Ok(records) => records,
        Err(refusal) => {
            match refusal.code {
                Code::InvalidUtf8 => assert!(str::from_utf8(body).is_err()),
                Code::InvalidJson => assert!(serde_json::from_slice::<Value>(body).is_err()),
                other => assert_eq!(other, Code::BodyTooLarge),
            }
            return;
        }
    };
    if kind != Kind::Json {
        assert_eq!(records.concat(), body);
        assert!(records.len() <= 1 && records.iter().all(|record| !record.is_empty()));
        return;
    }
    for record in &records {
        let text = str::from_utf8(record).expect("JSON is UTF-8");
        assert!(!text.contains(['\n', '\r']), "{text:?} is more than a line");
        let again = record::elements(&format!("[{text}]")).expect("a record is a value");
        assert_eq!(again, [record], "nothing changes the second time");
    }
    // What nests deep, or is no number of ours, is a value all the same; of it nothing more is said here.
    match serde_json::from_slice(body) {
        Ok(Value::Array(values)) => assert_eq!(parsed(&records), Some(values)),
        Ok(value) => assert_eq!(parsed(&records), Some(vec![value])),
        Err(_) => {}
    }
}

fn parsed(records: &[bytes::Bytes]) -> Option<Vec<Value>> {
    records.iter().map(|record| serde_json::from_slice(record).ok()).collect()
}

fn a_message_is_answered_by_its_id(kind: Kind, bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let is_json = |text: &str| serde_json::from_str::<&RawValue>(text).is_ok();
    let (id, answer) = match message::read(kind, text) {
        Ok(request) => {
            let asks = !request.records.is_empty() || request.close;
            assert!(asks != request.token.is_some(), "a message asks for one thing: {text}");
            if let Some((id, epoch, seq)) = &request.producer {
                let said =
                    serde_json::from_str::<Value>(text).ok().and_then(|message| message.get("producer").cloned());
                assert!(said.is_none_or(|producer| producer.is_object()), "{text}");
                assert!(!id.is_empty() && *epoch <= SAFE_INTEGER_MAX && *seq <= SAFE_INTEGER_MAX, "{text}");
            }
            assert!(request.records.iter().all(|record| kind == Kind::Binary || str::from_utf8(record).is_ok()));
            let is_scalar =
                request.id.starts_with(['"', '-', 'n']) || request.id.starts_with(|c: char| c.is_ascii_digit());
            assert!(is_scalar, "{}", request.id);
            let next = Offset { epoch: Epoch(1), position: 1 };
            let answer = message::ack(&request.id, next, request.close, false);
            (request.id, answer)
        }
        Err((id, refusal)) => {
            let answer = message::error(&id, &refusal);
            (id, answer)
        }
    };
    assert!(id.len() <= MESSAGE_ID_BYTES_MAX && is_json(&id), "{id}");
    assert!(is_json(&answer), "{answer}");
}

const MESSAGE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::{env, fs, panic, path::Path};

    use super::{
        client::{CONTINUATION, RSV1},
        *,
    };

    /// The folder of `fuzz/` whose target keeps the same promise, and the test.
    macro_rules! targets {
        ($($target:ident/$name:ident: $promise:expr, $corpus:ident;)*) => {
            $(#[test] fn $name() { fuzz(stringify!($target), stringify!($name), $promise, &$corpus()); })*
        };
    }

    targets! {
        websocket/websocket_reader: super::websocket, websocket_frames;
        websocket/websocket_deflated: super::websocket, deflated;
        words/stream_name: a_name_survives_its_url, names;
        words/offset: a_token_is_the_one_we_would_write, tokens;
        words/content_type: a_content_type_forges_no_header, content_types;
        words/websocket_offers: an_agreement_answers_itself, websocket_offers_seen;
        words/websocket_key: an_accept_key_has_28_letters, websocket_keys;
        message/body: super::message, bodies;
        message/websocket_message: super::message, messages;
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

    fn websocket_keys() -> Vec<Vec<u8>> {
        ["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA==", ""].map(Into::into).into()
    }

    fn names() -> Vec<Vec<u8>> {
        let long = "a".repeat(NAME_BYTES_MAX);
        [
            "demo/vitals",
            "a%20b/%E4%B8%96",
            "__ds/x",
            "%5f_ds",
            "a/../b",
            "%2e%2E",
            "a%2Fb%5c",
            "%00%0d%7f",
            "%",
            "é",
            &long,
        ]
        .map(Into::into)
        .into()
    }

    fn tokens() -> Vec<Vec<u8>> {
        ["-1", "now", "019aab3f2c10_0000000000000042", "ffffffffffff_9999999999999999", "000000000000_0000000000000000"]
            .map(Into::into)
            .into()
    }

    fn deflated() -> Vec<Vec<u8>> {
        let behind_a_zero = |deflated: &[u8]| [&[0], deflated].concat();
        [
            &client::deflate(&b"Hello, Hello, ".repeat(20), 6)[..],
            &client::deflate(&[0; 5000], 9),
            &client::deflate("Grüße, 世界".as_bytes(), 0),
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00].repeat(3),
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            &[0x00],
            &[],
        ]
        .map(behind_a_zero)
        .into()
    }

    fn content_types() -> Vec<Vec<u8>> {
        ["application/json", "Text/Plain; charset=utf-8", "a/b;c=\"d\"", "text/"].map(Into::into).into()
    }

    fn bodies() -> Vec<Vec<u8>> {
        [
            "\0[1, -2.50, \"a\\n\\\"\", {\"a\": [ ]\n}]",
            "\0{\r\n\"a\": \"\\u0000\", \"a\": null }",
            "\0[]",
            "\0 1e400 ",
            "\x01Grüße, 世界",
            "\x02any",
            "\0[[[[[[[[]]]]]]]]",
        ]
        .map(Into::into)
        .into()
    }

    fn messages() -> Vec<Vec<u8>> {
        [
            "\0{\"append\":[1,{\"a\":[]}],\"id\":7,\"producer\":{\"id\":\"p\",\"epoch\":1,\"seq\":2}}",
            "\x01{\"append\":[\"a\\n\"],\"close\":true,\"id\":\"x\"}",
            "\x02{\"append\":[\"/w==\",\"\"],\"encoding\":\"base64\",\"id\":-1.5e3}",
            "\0{\"token\":\"a.b.c\",\"id\":null}",
            "\0{\"id\":[8],\"close\":1}",
        ]
        .map(Into::into)
        .into()
    }

    /// Runs `promise` on the corpus, then on as many mutations of it as there are rounds.
    fn fuzz(target: &str, name: &str, promise: fn(&[u8]), corpus: &[Vec<u8>]) {
        let from_env = |key| env::var(key).ok().map(|text: String| text.parse().expect("a whole number"));
        let rounds: u64 = from_env("FOURFOLD_FUZZ_ROUNDS").unwrap_or(20_000);
        let seed: u64 = from_env("FOURFOLD_FUZZ_SEED").unwrap_or(6455);
        let mut random = Random(seed);
        if let Some(folder) = env::var_os("FOURFOLD_FUZZ_CORPUS") {
            let folder = Path::new(&folder).join(target);
            fs::create_dir_all(&folder).expect("a folder can be made");
            for (n, input) in corpus.iter().enumerate() {
                fs::write(folder.join(format!("{name}-{n}")), input).expect("a file can be written");
            }
        }
        for round in 0..rounds + corpus.len() as u64 {
            let input = match corpus.get(usize::try_from(round).unwrap_or(usize::MAX)) {
                Some(untouched) => untouched.clone(),
                None => mutate(corpus, &mut random),
            };
            if let Err(panicked) = panic::catch_unwind(|| promise(&input)) {
                eprintln!("{name} broke in round {round} on b\"{}\"", input.escape_ascii());
                eprintln!(
                    "FOURFOLD_FUZZ_SEED={seed} FOURFOLD_FUZZ_ROUNDS={} cargo test -p fourfold-protocol fuzzing::tests::{name}",
                    round + 1
                );
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
}
