//! Readers that fall behind retention are told, on whichever transport.

use serde_json::Value;

use crate::{
    harness::{Harness, url},
    http::Client,
    live::Live,
    message_form::MESSAGE,
    websocket::{Message, WebSocket},
};

/// So many records of 256 KiB, each beginning with its number, of which two are kept.
const RECORDS: u64 = 48;

fn record(n: u64) -> String {
    format!("{n:08}").repeat(32 * 1024)
}

fn publish(harness: &Harness) {
    for n in 0..RECORDS {
        harness.append("s", "text/plain", record(n).as_bytes());
    }
}

fn position(offset: &Value) -> u64 {
    offset.as_str().and_then(|token| token.split_once('_')?.1.parse().ok()).expect("an offset")
}

/// What a reader has seen: records in order, and a gap wherever one is missing.
#[derive(Default)]
struct Seen {
    next: u64,
    gaps: usize,
}

impl Seen {
    fn gap(&mut self, gap: &Value) {
        assert_eq!(position(&gap["from"]), self.next, "the gap begins where the reader stood");
        assert!(position(&gap["to"]) > self.next, "{gap}");
        self.next = position(&gap["to"]);
        self.gaps += 1;
    }

    fn text(&mut self, text: &str) {
        assert!(text == record(self.next), "not record {} but {:?}", self.next, text.get(..8));
        self.next += 1;
    }

    /// True at the newest record.
    fn message(&mut self, message: &Value) -> bool {
        if let Some(gap) = message.get("gap") {
            self.gap(gap);
        }
        for text in message["records"].as_array().into_iter().flatten() {
            self.text(text.as_str().expect("a text"));
        }
        assert_eq!(position(&message["streamNextOffset"]), self.next);
        self.next == RECORDS
    }
}

fn harness() -> Harness {
    let harness = Harness::start();
    harness.create_with("s", "text/plain", &[("stream-retention-records", "2")]);
    harness
}

#[test]
fn a_stalled_event_source_is_told_the_gap_and_goes_on() {
    let harness = harness();
    let client = Client::connect_narrow(harness.address);
    let mut live = Live::on(client, "/v1/stream/s?offset=-1&live=sse", &[]);
    publish(&harness);
    harness.still_serves();
    let mut seen = Seen::default();
    while seen.next < RECORDS {
        let event = live.event().expect("it goes on");
        match event.name.as_str() {
            "gap" => {
                assert_eq!(event.json()["to"], *event.id.as_ref().expect("an id"));
                seen.gap(&event.json()["gap"]);
            }
            "data" => seen.text(&event.data),
            _ => {}
        }
    }
    assert!(seen.gaps > 0, "nobody can have seen all of it");
}

#[test]
fn a_stalled_websocket_is_told_the_gap_and_goes_on() {
    let harness = harness();
    for deflate in [false, true] {
        let mut socket = WebSocket::on(Client::connect_narrow(harness.address), "s", "now", deflate);
        let Message::Json(greeting) = socket.message() else { panic!("no greeting") };
        let first = position(&greeting["streamNextOffset"]);
        if deflate {
            continue; // Compressed they are so small that nobody stalls.
        }
        publish(&harness);
        let mut seen = Seen { next: first, gaps: 0 };
        while !seen.message(&socket.json()) {}
        assert!(seen.gaps > 0, "nobody can have seen all of it");
    }
    harness.still_serves();
}

#[test]
fn stalled_portions_are_told_the_gap_and_go_on() {
    let harness = harness();
    let client = Client::connect_narrow(harness.address);
    let accept = [("accept", "application/x-ndjson")];
    let mut live = Live::on(client, "/v1/stream/s?offset=-1&live=long-poll", &accept);
    publish(&harness);
    let mut seen = Seen::default();
    while !seen.message(&live.line().expect("it goes on")) {}
    assert!(seen.gaps > 0, "nobody can have seen all of it");
    harness.still_serves();
}

#[test]
fn a_long_poll_that_retention_passes_while_it_gathers_is_told_and_not_moved() {
    let harness = harness();
    let mut socket = WebSocket::greeted(&harness, "s");
    let clients = ["*/*", MESSAGE].map(|form| {
        let mut client = harness.connect();
        let target = format!("{}?offset=now&live=long-poll&linger=10000", url("s"));
        client.request("GET", &target, &[("accept", form)], b"");
        client
    });
    harness.wait_for_followers("s", 3);
    harness.append("s", "text/plain", b"0");
    socket.json();
    for n in 1..5 {
        harness.append("s", "text/plain", n.to_string().as_bytes());
    }
    harness.close("s");
    for mut client in clients {
        let problem = client.answer().problem(410, "offset-trimmed");
        let oldest = problem["oldestOffset"].as_str().expect("an offset");
        assert_eq!(harness.get(&format!("{}?offset={oldest}", url("s"))).text(), "34");
        // The connection is as good as before.
        client.request("GET", &url("witness"), &[], b"");
        client.answer().expect(200);
    }
}
