//! Streams that the server itself fills: their media type may be decided while readers wait, and they say how they ended.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use fourfold_protocol::StreamName;
use fourfold_stream::{Append, Create, Pending, Stream};
use serde_json::{Value, json};

use crate::{
    harness::{Harness, url},
    live::Live,
    websocket::WebSocket,
};

const ENDING: &str = r#"{"outcome":"failed","error":"Zürich 💥\u007f","stderr":"LONG"}"#;

/// Nothing waits in the memory engine.
fn now<T>(mut pending: Pending<T>) -> T {
    match pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the memory engine is always ready"),
    }
}

fn undecided(harness: &Harness, name: &str) -> Arc<Stream> {
    let name = StreamName::new(name).expect("a plain name");
    now(harness.engine().create(&name, Create::default())).expect("it is created").stream
}

fn append(harness: &Harness, stream: &Arc<Stream>, append: Append) {
    now(harness.engine().append(stream, append)).expect("it is appended");
}

fn first(content_type: &str, record: &'static str) -> Append {
    Append { records: vec![record.into()], content_type: Some(content_type.into()), ..Append::default() }
}

/// With a member that is too long for a header.
fn ending() -> String {
    ENDING.replace("LONG", &"x".repeat(5_000))
}

fn end() -> Append {
    Append { close: true, ending: Some(ending().into()), ..Append::default() }
}

#[test]
fn an_undecided_stream_is_read_on_every_transport_from_before_its_first_record() {
    for (content_type, record, value) in
        [("application/json", "{\"a\":1}", json!({"a": 1})), ("text/html; charset=utf-8", "<b>", json!("<b>"))]
    {
        let harness = Harness::start();
        let stream = undecided(&harness, "s");
        let head = harness.ask("HEAD", &url("s"), &[], b"").expect(200);
        assert_eq!(head.header("content-type"), "application/octet-stream");
        let nothing = harness.get(&(url("s") + "?offset=-1")).expect(200);
        assert_eq!((nothing.text().as_str(), nothing.header("content-type")), ("", "application/octet-stream"));
        let listed = harness.get("/v1/stream/?prefix=s").expect(200).json();
        assert_eq!(listed["streams"][0].get("contentType"), None);

        let mut poll = harness.connect();
        poll.request("GET", &(url("s") + "?offset=-1&live=long-poll"), &[], b"");
        let mut lines = Live::ndjson(&harness, "s", "-1");
        let mut sse = Live::sse(&harness, "s", "-1");
        assert_eq!(sse.head.get("stream-sse-data-encoding"), None);
        let mut socket = WebSocket::greeted(&harness, "s");
        harness.wait_for_followers("s", 4);
        append(&harness, &stream, first(content_type, record));

        let polled = poll.answer().expect(200);
        assert_eq!(polled.header("content-type"), content_type);
        let body = if value.is_object() { format!("[{record}]") } else { record.to_owned() };
        assert_eq!(polled.text(), body);
        assert_eq!(sse.event_named("data").data, body);
        assert_eq!(lines.line().expect("a greeting").get("records"), None);
        for message in [lines.line().expect("the record"), socket.json()] {
            assert_eq!((&message["records"], message.get("encoding")), (&json!([value]), None));
        }
        assert_eq!(harness.ask("HEAD", &url("s"), &[], b"").expect(200).header("content-type"), content_type);
        harness.still_serves();
    }
}

#[test]
fn events_that_turn_out_to_be_bytes_begin_anew_with_their_encoding() {
    let harness = Harness::start();
    let stream = undecided(&harness, "s");
    let mut sse = Live::sse(&harness, "s", "-1");
    let at = sse.event_named("control").id.expect("every event has an id");
    let mut socket = WebSocket::greeted(&harness, "s");
    harness.wait_for_followers("s", 2);
    append(&harness, &stream, first("image/png", "\u{1}"));
    assert_eq!(sse.event(), None, "the answer ends as it should");
    let mut again = Live::open(&harness, &(url("s") + "?live=sse&offset=-1"), &[("last-event-id", &at)]);
    assert_eq!(again.head.get("stream-sse-data-encoding"), Some("base64"));
    assert_eq!(again.event_named("data").data, "AQ==");
    let message = socket.json();
    assert_eq!((&message["records"], &message["encoding"]), (&json!(["AQ=="]), &json!("base64")));
}

#[test]
fn how_a_stream_ended_is_told_wherever_its_end_is() {
    let harness = Harness::start();
    let stream = undecided(&harness, "s");
    let mut poll = harness.connect();
    append(&harness, &stream, first("text/plain", "a"));
    poll.request("GET", &(url("s") + "?offset=now&live=long-poll"), &[], b"");
    let mut lines = Live::ndjson(&harness, "s", "now");
    let mut sse = Live::sse(&harness, "s", "now");
    let mut socket = WebSocket::greeted(&harness, "s");
    assert_eq!(lines.line().expect("a greeting").get("ending"), None);
    sse.event_named("control");
    harness.wait_for_followers("s", 4);
    append(&harness, &stream, end());

    let whole: Value = serde_json::from_str(&ending()).expect("it is JSON");
    for message in [lines.line().expect("the end"), sse.event_named("control").json(), socket.json()] {
        assert_eq!((&message["streamClosed"], &message["ending"]), (&json!(true), &whole));
    }
    let brief = r#"{"error":"Z\u00fcrich \ud83d\udca5\u007f","outcome":"failed"}"#;
    let polled = poll.answer();
    assert_eq!((polled.header("stream-closed"), polled.header("stream-ending")), ("true", brief));
    let read = harness.get(&(url("s") + "?offset=-1")).expect(200);
    assert_eq!((read.text().as_str(), read.header("stream-ending")), ("a", brief));
    assert_eq!(harness.ask("HEAD", &url("s"), &[], b"").expect(200).header("stream-ending"), brief);
    let message = [("accept", "application/vnd.fourfold.message+json")];
    assert_eq!(harness.ask("GET", &(url("s") + "?offset=-1"), &message, b"").expect(200).json()["ending"], whole);
    let listed = harness.get("/v1/stream/?prefix=s").expect(200).json();
    assert_eq!(listed["streams"][0]["ending"], whole);
}
