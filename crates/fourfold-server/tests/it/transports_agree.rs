//! One writer, and readers that switch between all ways of reading, cut wherever it hurts: each gets exactly what was appended.

use std::{
    io::Read,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastrand::Rng;
use fourfold_protocol::{Kind, websocket::Inflater};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    harness::{Harness, PATIENCE, url},
    http::Client,
    message_form::MESSAGE,
    websocket::{HANDSHAKE, WebSocket, tungstenite},
};

const RECORDS: u64 = 400;
const READERS: u64 = 4;

#[test]
fn all_ways_of_reading_json_agree() {
    agree(Kind::Json, "application/json");
}

#[test]
fn all_ways_of_reading_text_agree() {
    agree(Kind::Text, "text/plain");
}

#[test]
fn all_ways_of_reading_bytes_agree() {
    agree(Kind::Binary, "application/octet-stream");
}

fn agree(kind: Kind, content_type: &'static str) {
    let seed = std::env::var("FOURFOLD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("repeat with FOURFOLD_SEED={seed}");
    let harness = Arc::new(Harness::start());
    harness.create("s", content_type);
    let readers: Vec<JoinHandle<()>> = (0..READERS)
        .map(|n| {
            let harness = Arc::clone(&harness);
            thread::spawn(move || Reader::new(&harness, kind, seed.wrapping_add(n + 1)).read_all())
        })
        .collect();
    write_all(&harness, kind, content_type, &mut Rng::with_seed(seed));
    for reader in readers {
        reader.join().unwrap_or_else(|_| panic!("repeat with FOURFOLD_SEED={seed}"));
    }
    harness.still_serves();
}

/// A record that can be told from its neighbours also where records are glued together.
fn record(kind: Kind, n: u64) -> Vec<u8> {
    match kind {
        Kind::Json => json!({ "n": n, "text": "\u{e9}\n".repeat(n as usize % 7) }).to_string().into_bytes(),
        Kind::Text => format!("{n}\n é;").into_bytes(),
        Kind::Binary => [&n.to_be_bytes()[..], b"\xff\0\r\n"].concat(),
    }
}

fn numbers(kind: Kind, bytes: &[u8]) -> Vec<u64> {
    let check = |n: u64, bytes: &[u8]| {
        assert_eq!(bytes, record(kind, n), "record {n} is not as it was appended");
        n
    };
    match kind {
        Kind::Json => {
            let values: Vec<Value> = serde_json::from_slice(bytes).expect("an array");
            values.iter().map(|value| value["n"].as_u64().expect("a number")).collect()
        }
        Kind::Text => {
            let number = |text: &[u8]| String::from_utf8_lossy(text).lines().next().and_then(|n| n.parse().ok());
            let records = bytes.split_inclusive(|b| *b == b';');
            records.map(|text| check(number(text).expect("a number"), text)).collect()
        }
        Kind::Binary => {
            let number = |bytes: &[u8]| bytes[..8].iter().fold(0, |n, b| n << 8 | u64::from(*b));
            bytes.chunks(12).map(|bytes| check(number(bytes), bytes)).collect()
        }
    }
}

fn write_all(harness: &Harness, kind: Kind, content_type: &str, rng: &mut Rng) {
    let mut socket = WebSocket::greeted(harness, "s");
    let mut client = harness.connect();
    let mut next = 0;
    while next < RECORDS {
        let batch = rng.u64(1..=8).min(RECORDS - next);
        let records: Vec<_> = (next..next + batch).map(|n| record(kind, n)).collect();
        next += batch;
        if rng.bool() {
            let values: Vec<Value> = records.iter().map(|bytes| value(kind, bytes)).collect();
            let mut message = json!({"append": values, "id": next});
            if kind == Kind::Binary {
                message["encoding"] = json!("base64");
            }
            socket.send(&message.to_string());
            let answer = socket.answer();
            assert!(answer["ack"].is_object(), "{answer}");
        } else {
            let json = [b"[", &records.join(&b","[..])[..], b"]"].concat();
            let bodies = if kind == Kind::Json { vec![json] } else { records };
            for body in bodies {
                client.request("POST", &url("s"), &[("content-type", content_type)], &body);
                client.answer().expect(204);
            }
        }
        if rng.u8(..4) == 0 {
            thread::sleep(Duration::from_millis(rng.u64(..8))); // So that readers come to stand at the tail.
        }
    }
    harness.close("s");
}

fn value(kind: Kind, bytes: &[u8]) -> Value {
    match kind {
        Kind::Json => serde_json::from_slice(bytes).expect("JSON"),
        Kind::Text => json!(std::str::from_utf8(bytes).expect("text")),
        Kind::Binary => {
            // 12 bytes are 16 letters without padding.
            let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let encode = |three: &[u8]| {
                let bits = three.iter().fold(0_usize, |bits, b| bits << 8 | usize::from(*b));
                [18, 12, 6, 0].map(|shift| char::from(letters[bits >> shift & 63]))
            };
            json!(bytes.chunks(3).flat_map(encode).collect::<String>())
        }
    }
}

struct Reader<'a> {
    harness: &'a Harness,
    kind: Kind,
    rng: Rng,
    offset: String,
    next: u64,
    closed: bool,
}

impl<'a> Reader<'a> {
    fn new(harness: &'a Harness, kind: Kind, seed: u64) -> Self {
        Self { harness, kind, rng: Rng::with_seed(seed), offset: "-1".into(), next: 0, closed: false }
    }

    fn read_all(mut self) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !self.closed {
            assert!(Instant::now() < deadline, "stuck at {} of {RECORDS}", self.next);
            match self.rng.u8(..11) {
                0 | 1 => self.poll(""),
                2 => self.poll("&live=long-poll"),
                3 => self.poll("&live=long-poll&linger=3"),
                4 => self.lines(),
                5 | 6 => self.events(),
                7 => self.frames(),
                8 => self.poll_message(""),
                9 => self.poll_message("&live=long-poll&linger=2"),
                _ => self.messages(),
            }
        }
        assert_eq!(self.next, RECORDS, "the end came too early");
    }

    fn take(&mut self, numbers: &[u64], offset: &str) {
        for n in numbers {
            assert_eq!(*n, self.next, "record {n} came where {} was due", self.next);
            self.next += 1;
        }
        assert!(self.offset == "-1" || *offset >= *self.offset, "{offset} after {}", self.offset);
        offset.clone_into(&mut self.offset);
    }

    fn take_message(&mut self, message: &Value) {
        if message.get("id").is_some() {
            return;
        }
        assert_eq!(message.get("gap"), None);
        let values = message["records"].as_array().map_or(&[][..], Vec::as_slice);
        let numbers: Vec<u64> = (self.next..)
            .zip(values)
            .map(|(n, given)| {
                assert_eq!(*given, value(self.kind, &record(self.kind, n)), "not record {n}");
                n
            })
            .collect();
        self.take(&numbers, message["streamNextOffset"].as_str().expect("an offset"));
        self.closed |= message["streamClosed"] == true;
    }

    fn poll(&mut self, live: &str) {
        let Some((head, body)) = self.polled(live, &[]) else { return };
        let numbers = if body.is_empty() { Vec::new() } else { numbers(self.kind, &body) };
        self.take(&numbers, header(&head, "stream-next-offset").expect("an offset"));
        self.closed |= header(&head, "stream-closed").is_some();
    }

    fn poll_message(&mut self, live: &str) {
        let Some((head, body)) = self.polled(live, &[("accept", MESSAGE)]) else { return };
        if head.contains(" 200 ") {
            self.take_message(&serde_json::from_slice(&body).expect("one message"));
        }
        assert_eq!(header(&head, "stream-next-offset"), Some(&*self.offset));
        self.closed |= header(&head, "stream-closed").is_some();
    }

    /// A whole answer to a poll.
    fn polled(&mut self, live: &str, headers: &[(&str, &str)]) -> Option<(String, Vec<u8>)> {
        let limit = if self.rng.bool() { format!("&limit={}", self.rng.u8(1..20)) } else { String::new() };
        let target = format!("{}?offset={}{live}{limit}", url("s"), self.offset);
        let (head, body) = self.ask(&target, headers)?;
        let cut = header(&head, "content-length").and_then(|n| n.parse().ok()).is_some_and(|n: usize| body.len() < n);
        (!cut).then_some((head, body)) // Cut: as if it had never come.
    }

    fn lines(&mut self) {
        let linger = ["", "&linger=2"][usize::from(self.rng.bool())];
        let target = format!("{}?offset={}&live=long-poll{linger}", url("s"), self.offset);
        let Some((_, body)) = self.ask(&target, &[("accept", "application/x-ndjson")]) else { return };
        for line in unchunked(&body).split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n")) {
            self.take_message(&serde_json::from_slice(line).expect("a message"));
        }
    }

    fn events(&mut self) {
        let (offset, headers) = (self.offset.clone(), [("last-event-id", &*self.offset.clone())]);
        let with_id = self.rng.bool() && offset != "-1";
        let target = format!("{}?offset={}&live=sse", url("s"), if with_id { "-1" } else { &offset });
        let Some((_, body)) = self.ask(&target, if with_id { &headers } else { &[] }) else { return };
        let body = unchunked(&body);
        let whole = body.windows(2).rposition(|w| w == b"\n\n").map_or(0, |at| at + 2);
        for block in std::str::from_utf8(&body[..whole]).expect("UTF-8").split_terminator("\n\n") {
            let field = |name: &str| block.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
            let data: Vec<_> = field("data:").iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
            let data = data.join("\n");
            let id = field("id: ").first().map(|id| (*id).to_owned());
            match field("event: ").first() {
                Some(&"data") => {
                    let numbers = match self.kind {
                        Kind::Binary => {
                            assert_eq!(json!(data), value(self.kind, &record(self.kind, self.next)));
                            vec![self.next]
                        }
                        kind => numbers(kind, data.as_bytes()),
                    };
                    self.take(&numbers, &id.expect("an id"));
                }
                Some(&"control") => {
                    let control: Value = serde_json::from_str(&data).expect("JSON");
                    assert_eq!(control["streamNextOffset"], *self.offset_after(id));
                    self.closed |= control["streamClosed"] == true;
                }
                Some(other) => panic!("{other}: {data}"),
                None => {}
            }
        }
    }

    fn offset_after(&mut self, id: Option<String>) -> String {
        let id = id.expect("an id");
        self.take(&[], &id);
        id
    }

    /// A WebSocket, cut after so many bytes.
    fn frames(&mut self) {
        let mut headers = HANDSHAKE.to_vec();
        let deflate = self.rng.bool();
        if deflate {
            headers.push(("sec-websocket-extensions", "permessage-deflate"));
        }
        let target = format!("{}?offset={}", url("s"), self.offset);
        let Some((_, body)) = self.ask(&target, &headers) else { return };
        let mut rest = &body[..];
        while let [first, length, ..] = *rest {
            let (header, length) = match length {
                126 if rest.len() >= 4 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                126 | 127 => return, // Cut, or far more than this test appends.
                short => (2, usize::from(short)),
            };
            let Some(payload) = rest.get(header..header + length) else { return };
            rest = &rest[header + length..];
            match first {
                0x81 => self.take_message(&serde_json::from_slice(payload).expect("JSON")),
                0xc1 => {
                    let json = Inflater::default().inflate(payload, 1 << 20).expect("it inflates");
                    self.take_message(&serde_json::from_slice(&json).expect("JSON"));
                }
                0x88 => assert!(self.closed, "a close comes behind the last message"),
                other => panic!("{other:#x}"),
            }
        }
    }

    /// A WebSocket by a client that is not ours, left after so many messages.
    fn messages(&mut self) {
        let mut socket = tungstenite(self.harness, "s", &self.offset.clone());
        for _ in 0..self.rng.u8(1..20) {
            match socket.read().expect("a message") {
                Message::Text(text) => self.take_message(&serde_json::from_str(&text).expect("JSON")),
                Message::Close(_) => {
                    assert!(self.closed, "a close comes behind the last message");
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks, reads a random number of bytes, and vanishes. Head and body of what came; `None` if not even a head did.
    fn ask(&mut self, target: &str, headers: &[(&str, &str)]) -> Option<(String, Vec<u8>)> {
        let mut client = self.harness.connect();
        client.request(
            "GET",
            target,
            &[headers, &[("connection", "close")][usize::from(headers.len() >= 4)..]].concat(),
            b"",
        );
        let budget = match self.rng.u8(..4) {
            0 => usize::MAX,
            _ => self.rng.usize(1_000..6_000),
        };
        let bytes = read(&mut client, budget);
        if self.rng.bool() {
            client.vanish();
        }
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is ASCII");
        assert!(["200", "204", "101"].contains(&&head[9..12]), "{head}");
        Some((head, bytes[end + 4..].to_vec()))
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn read(client: &mut Client, budget: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    (&mut client.tcp).take(budget as u64).read_to_end(&mut bytes).expect("it comes, or ends");
    bytes
}

/// The payload of as many chunks as there are, the last one perhaps cut.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let length = std::str::from_utf8(&body[..end]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let length = length.expect("a chunk begins with its length");
        body = &body[end + 2..];
        payload.extend_from_slice(&body[..length.min(body.len())]);
        let Some(rest) = body.get(length + 2..) else { break };
        body = rest;
    }
    payload
}
