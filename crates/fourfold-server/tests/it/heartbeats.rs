//! Readers who want to hear something in silence do, and nobody else.

use serde_json::{Value, json};

use crate::{
    harness::{Harness, url},
    live::Live,
    websocket::WebSocket,
};

/// A reader of some kind, as messages.
enum Reader {
    Events(Live),
    Lines(Live),
    Messages(WebSocket),
}

impl Reader {
    /// One of each kind at the start of the stream.
    fn all(harness: &Harness, name: &str, query: &str) -> Vec<Self> {
        let target = |live: &str| format!("{}?offset=-1{query}{live}", url(name));
        let lines = [("accept", "application/x-ndjson")];
        let offset = format!("-1{query}");
        vec![
            Self::Events(Live::open(harness, &target("&live=sse"), &[])),
            Self::Lines(Live::open(harness, &target("&live=long-poll"), &lines)),
            Self::Messages(WebSocket::open(harness, name, &offset)),
            Self::Messages(WebSocket::open_deflated(harness, name, &offset)),
        ]
    }

    fn next(&mut self) -> Value {
        match self {
            Self::Lines(lines) => lines.line().expect("a message"),
            Self::Messages(socket) => socket.json(),
            Self::Events(events) => {
                let mut event = events.event().expect("an event");
                while event.name.is_empty() {
                    event = events.event().expect("an event behind the retry");
                }
                let records = (event.name == "data").then(|| event.json());
                let control = if records.is_some() { events.event().expect("a control") } else { event };
                assert_eq!(
                    (control.name.as_str(), &control.json()["streamNextOffset"]),
                    ("control", &json!(control.id))
                );
                let mut message = control.json();
                if let Some(records) = records {
                    message["records"] = records;
                }
                message
            }
        }
    }
}

fn is_beat(message: &Value, tail: &str) {
    assert_eq!((&message["streamNextOffset"], &message["upToDate"]), (&json!(tail), &json!(true)), "{message}");
    assert!(message.get("records").is_none() && message["streamCursor"].is_string(), "{message}");
}

#[test]
fn in_silence_readers_are_told_where_they_stand_if_they_asked() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let first = harness.append("s", "application/json", b"1");
    let mut quiet = Reader::all(&harness, "s", "&timeout=60");
    let mut beating = Reader::all(&harness, "s", "&timeout=60&heartbeat=1");
    for reader in quiet.iter_mut().chain(&mut beating) {
        assert_eq!(reader.next()["records"], json!([1]));
    }
    for reader in &mut beating {
        is_beat(&reader.next(), &first);
        is_beat(&reader.next(), &first);
    }
    let second = harness.append("s", "application/json", b"2");
    for reader in &mut beating {
        let mut message = reader.next();
        while message.get("records").is_none() {
            is_beat(&message, &first);
            message = reader.next();
        }
        assert_eq!(message["records"], json!([2]));
        is_beat(&reader.next(), &second);
    }
    for reader in &mut quiet {
        assert_eq!(reader.next()["records"], json!([2]), "who has not asked hears nothing in between");
    }
    harness.close("s");
    for reader in &mut beating {
        let mut message = reader.next();
        while message.get("streamClosed").is_none() {
            is_beat(&message, &second);
            message = reader.next();
        }
    }
    harness.still_serves();
}

#[test]
fn portions_that_beat_end_at_their_time_and_the_connection_goes_on() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let tail = harness.append("s", "application/json", b"1");
    let target = format!("{}?offset={tail}&live=long-poll&timeout=2.5&heartbeat=1", url("s"));
    let mut lines = Live::open(&harness, &target, &[("accept", "application/x-ndjson")]);
    let mut beats = 0;
    while let Some(message) = lines.line() {
        is_beat(&message, &tail);
        beats += 1;
    }
    assert!((2..=3).contains(&beats), "{beats} with the greeting");
    lines.client.request("GET", &url("s"), &[], b"");
    lines.client.answer().expect(200);
}

#[test]
fn gathering_is_no_longer_silence_than_was_asked_for() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let target = format!("{}?offset=now&live=long-poll&timeout=60&linger=10000&heartbeat=1", url("s"));
    let mut lines = Live::open(&harness, &target, &[("accept", "application/x-ndjson")]);
    lines.line().expect("a greeting");
    harness.append("s", "application/json", b"1");
    let mut message = lines.line().expect("a message before the linger is over");
    while message.get("records").is_none() {
        message = lines.line().expect("a message before the linger is over");
    }
    assert_eq!((&message["records"], message.get("streamClosed")), (&json!([1]), None));
}
