//! WebSockets that only append: no record comes to them, and everything else does.

use serde_json::{Value, json};

use crate::{
    harness::{Harness, url},
    websocket::WebSocket,
};

/// A writer at the stream, greeted, and the offset that it was told.
fn writer(harness: &Harness, query: &str) -> (WebSocket, String) {
    let mut socket = WebSocket::open(harness, "s", &format!("{query}&records=none"));
    let greeting = socket.json();
    assert_eq!((greeting.get("records"), &greeting["upToDate"]), (None, &json!(true)), "{greeting}");
    (socket, greeting["streamNextOffset"].as_str().expect("an offset").to_owned())
}

fn is_end(message: &Value, tail: &str) {
    assert_eq!((&message["streamClosed"], &message["streamNextOffset"]), (&json!(true), &json!(tail)), "{message}");
    assert_eq!((message.get("records"), &message["upToDate"]), (None, &json!(true)), "{message}");
}

#[test]
fn a_writer_gets_its_answers_and_no_record() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let tail = harness.append("s", "application/json", b"[1,2]");
    let (mut socket, told) = writer(&harness, "-1");
    assert_eq!(told, tail, "all records were passed over");
    for n in 3..40 {
        harness.append("s", "application/json", b"\"by another\"");
        socket.send(&json!({"append": [n], "id": n}).to_string());
        let answer = socket.json();
        assert_eq!((&answer["id"], answer["ack"].is_object()), (&json!(n), true), "nothing comes between: {answer}");
    }
    socket.send(r#"{"append":[],"id":40}"#);
    assert_eq!(socket.json()["error"]["code"], "empty-append");
    assert_eq!(harness.get(&url("s")).json().as_array().expect("records").len(), 2 + 2 * 37);
    harness.still_serves();
}

#[test]
fn a_writer_is_told_that_the_stream_was_closed() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let (mut one, _) = writer(&harness, "now");
    let (mut other, _) = writer(&harness, "-1");
    one.send(r#"{"append":["last"],"close":true,"id":1}"#);
    let (mut acks, mut ends) = (0, 0);
    while acks + ends < 2 {
        let message = one.json();
        if message.get("ack").is_some() {
            acks += 1;
        } else {
            assert_eq!((&message["streamClosed"], message.get("records")), (&json!(true), None));
            ends += 1;
        }
    }
    assert_eq!((acks, ends), (1, 1));
    one.closed(1000, "stream-closed");
    let tail = harness.ask("HEAD", &url("s"), &[], b"").expect(200).header("stream-next-offset").to_owned();
    is_end(&other.json(), &tail);
    other.closed(1000, "stream-closed");
    let mut late = WebSocket::open(&harness, "s", "-1&records=none");
    is_end(&late.json(), &tail);
    late.closed(1000, "stream-closed");
}

#[test]
fn a_writer_gets_goodbyes_from_where_the_tail_is() {
    let mut harness = Harness::start();
    for (name, code) in [("stream-deleted", 4404), ("draining", 1001)] {
        harness.create("s", "text/plain");
        harness.append("s", "text/plain", b"one");
        let (mut socket, told) = writer(&harness, "-1");
        if code == 4404 {
            harness.ask("DELETE", &url("s"), &[], b"").expect(204);
        } else {
            harness.stop();
        }
        let goodbye = socket.json();
        assert_eq!((&goodbye["goodbye"]["code"], &goodbye["streamNextOffset"]), (&json!(name), &json!(told)));
        socket.closed(code, name);
    }
    harness.wait_until_stopped();
}

#[test]
fn records_that_a_writer_does_not_get_are_silence_to_it() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let (mut socket, _) = writer(&harness, "-1&heartbeat=1");
    let tail = harness.append("s", "text/plain", b"one");
    let mut beat = socket.json();
    while beat["streamNextOffset"] != *tail {
        assert_eq!((beat.get("records"), &beat["upToDate"]), (None, &json!(true)), "{beat}");
        beat = socket.json();
    }
    assert_eq!((beat.get("records"), &beat["upToDate"]), (None, &json!(true)), "{beat}");
}

#[test]
fn a_bad_offset_is_refused_to_a_writer_too() {
    let harness = Harness::start();
    let target = format!("{}?offset=nonsense&records=none", url("witness"));
    harness.ask("GET", &target, &crate::websocket::HANDSHAKE, b"").problem(400, "invalid-offset");
}
