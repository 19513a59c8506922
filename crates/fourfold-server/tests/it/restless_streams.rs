//! A stream that never rests keeps no client from a word, nor from the end it was promised.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use serde_json::json;

use crate::{
    harness::{Harness, url},
    live::Live,
    websocket::WebSocket,
};

const NDJSON: (&str, &str) = ("accept", "application/x-ndjson");

/// Runs `test` while two writers append as fast as they can.
fn under_a_flood(test: impl FnOnce(&Harness)) {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut writer = harness.connect();
            let over = &over;
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    writer.request("POST", &url("s"), &[("content-type", "application/json")], b"[1,2,3]");
                    writer.answer().expect(204);
                }
            });
        }
        // Ends the writers also if the test fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, SeqCst);
            }
        }
        let _over = Over(&over);
        test(&harness);
    });
}

#[test]
fn a_portioned_answer_ends_at_its_timeout_under_a_flood() {
    under_a_flood(|harness| {
        let mut lines = Live::open(harness, &(url("s") + "?offset=now&live=long-poll&timeout=0.3"), &[NDJSON]);
        let mut seen = 0;
        while lines.line().is_some() {
            seen += 1;
        }
        assert!(seen > 1, "records came before the end");
    });
}

#[test]
fn a_lingering_long_poll_is_answered_under_a_flood() {
    under_a_flood(|harness| {
        let answer = harness.get(&(url("s") + "?offset=now&live=long-poll&timeout=5&linger=100")).expect(200);
        assert!(answer.json().as_array().is_some_and(|records| records.len() > 3), "it gathered");
    });
}

#[test]
fn a_websocket_client_is_heard_under_a_flood() {
    under_a_flood(|harness| {
        let mut socket = WebSocket::open(harness, "s", "now");
        socket.send(r#"{"append":["heard"],"id":1}"#);
        assert_eq!(socket.answer()["id"], json!(1));
    });
}

#[test]
fn a_reader_that_catches_up_sees_its_deadline() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let mut tail = String::new();
    for _ in 0..32 {
        tail = harness.append("s", "text/plain", &[b'x'; 512 * 1024]);
    }
    let mut lines = Live::open(&harness, &(url("s") + "?offset=-1&live=long-poll&timeout=0"), &[NDJSON]);
    let mut reached = json!(null);
    while let Some(mut message) = lines.line() {
        reached = message["streamNextOffset"].take();
    }
    assert!(reached.as_str().is_some_and(|offset| offset < tail.as_str()), "{reached} before {tail}");
}

#[test]
fn a_websocket_client_is_heard_while_it_catches_up() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    for _ in 0..64 {
        harness.append("s", "text/plain", &[b'x'; 512 * 1024]);
    }
    let mut socket = WebSocket::open(&harness, "s", "-1");
    socket.send(r#"{"append":["heard"],"id":1}"#);
    let mut before = 0;
    loop {
        let message = socket.json();
        if message.get("id").is_some() {
            break;
        }
        before += message["records"].as_array().map_or(0, Vec::len);
    }
    assert!(before < 64, "answered among the records, not behind all {before}");
    let mut behind = before;
    while behind < 65 {
        behind += socket.json()["records"].as_array().map_or(0, Vec::len);
    }
}
