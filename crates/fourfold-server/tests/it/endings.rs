//! How a stream, or the server, ends under those who follow it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    harness::{Harness, eventually, url},
    http::Client,
    live::Live,
    websocket::WebSocket,
};

/// A follower of each kind, at the tail.
struct Followers {
    poll: Client,
    lines: Live,
    sse: Live,
    socket: WebSocket,
    deflated: WebSocket,
}

impl Followers {
    fn of(harness: &Harness, name: &str) -> Self {
        let mut poll = harness.connect();
        // Lingering, so that what ends the wait also has to end the gathering.
        poll.request("GET", &format!("{}?offset=now&live=long-poll&linger=10000", url(name)), &[], b"");
        let target = format!("{}?offset=now&live=long-poll&linger=10000", url(name));
        let mut lines = Live::open(harness, &target, &[("accept", "application/x-ndjson")]);
        assert_eq!(lines.line().expect("a greeting")["upToDate"], true);
        let mut sse = Live::sse(harness, name, "now");
        sse.event_named("control");
        let socket = WebSocket::greeted(harness, name);
        let mut deflated = WebSocket::open_deflated(harness, name, "now");
        deflated.json();
        harness.wait_for_followers(name, 5);
        Self { poll, lines, sse, socket, deflated }
    }
}

#[test]
fn a_deletion_is_told_to_all_who_follow() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let tail = harness.append("s", "application/json", b"1");
    let mut all = Followers::of(&harness, "s");
    harness.ask("DELETE", &url("s"), &[], b"").expect(204);
    let goodbye = json!({"goodbye": {"code": "stream-deleted"}, "streamNextOffset": tail});
    all.poll.answer().problem(404, "stream-not-found");
    assert_eq!(all.lines.line(), Some(goodbye.clone()));
    assert_eq!(all.lines.line(), None);
    let event = all.sse.event_named("goodbye");
    assert_eq!((event.json(), event.id, event.retry), (goodbye.clone(), Some(tail), None));
    assert_eq!(all.sse.event(), None);
    for mut socket in [all.socket, all.deflated] {
        assert_eq!(socket.json(), goodbye);
        socket.closed(4404, "stream-deleted");
    }
    harness.get(&url("s")).problem(404, "stream-not-found");
    harness.still_serves();
}

#[test]
fn a_close_is_told_to_all_who_follow_with_the_last_records() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut all = Followers::of(&harness, "s");
    let close = [("content-type", "application/json"), ("stream-closed", "true")];
    let done = harness.ask("POST", &url("s"), &close, b"[1,2]").expect(204);
    assert_eq!(done.header("stream-closed"), "true");
    let polled = all.poll.answer().expect(200);
    assert_eq!((polled.text().as_str(), polled.header("stream-closed")), ("[1,2]", "true"));
    let is_last = |message: Value| {
        assert_eq!((&message["records"], &message["streamClosed"]), (&json!([1, 2]), &json!(true)));
        assert_eq!((message.get("streamCursor"), &message["upToDate"]), (None, &json!(true)));
    };
    is_last(all.lines.line().expect("the end"));
    assert_eq!(all.lines.line(), None);
    assert_eq!(all.sse.event_named("data").data, "[1,2]");
    assert_eq!(all.sse.event().expect("a control").json()["streamClosed"], true);
    assert_eq!(all.sse.event(), None);
    for mut socket in [all.socket, all.deflated] {
        is_last(socket.json());
        socket.closed(1000, "stream-closed");
    }
    // Whoever comes back is told again, at once.
    let target = format!("{}?offset={}&live=long-poll", url("s"), done.header("stream-next-offset"));
    let again = harness.get(&target).expect(204);
    assert_eq!((again.header("stream-closed"), again.get("stream-cursor")), ("true", None));
    let mut sse = Live::sse(&harness, "s", done.header("stream-next-offset"));
    assert_eq!(sse.event_named("control").json()["streamClosed"], true);
    assert_eq!(sse.event(), None);
    harness.still_serves();
}

#[test]
fn a_server_that_stops_says_goodbye_to_everybody_and_is_gone_before_its_deadline() {
    // The deadline is longer than any test waits, so that whoever is cut by it fails the test.
    let mut harness = Harness::with(|settings| {
        settings.drain_deadline = Duration::from_secs(600);
        settings.drain_spread = Duration::from_millis(1_000);
    });
    harness.create("s", "application/json");
    let tail = harness.append("s", "application/json", b"1");
    let mut all = Followers::of(&harness, "s");
    let mut idle = harness.connect();
    idle.request("GET", &url("s"), &[], b"");
    idle.answer().expect(200);
    let mut silent = harness.connect();
    let mut appending = harness.connect();
    let post = "POST /v1/stream/t HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\n";
    harness.create("t", "text/plain");
    appending.send(format!("{post}la"));
    harness.wait_for_connections(9);
    harness.stop();

    let hint = |after: Option<u64>| assert!((500..=1_500).contains(&after.expect("a time")), "{after:?}");
    let is_goodbye = |message: &Value| {
        assert_eq!(message["goodbye"]["code"], "draining", "{message}");
        assert_eq!(message["streamNextOffset"], *tail);
        hint(message["goodbye"]["reconnectAfterMs"].as_u64());
    };
    let polled = all.poll.answer().expect(204);
    hint(polled.header("stream-poll-after").parse().ok());
    assert_eq!((polled.header("connection"), polled.header("stream-next-offset")), ("close", tail.as_str()));
    is_goodbye(&all.lines.line().expect("a goodbye"));
    assert_eq!(all.lines.line(), None);
    let event = all.sse.event_named("goodbye");
    is_goodbye(&event.json());
    assert_eq!(
        (event.retry, event.id.clone()),
        (event.json()["goodbye"]["reconnectAfterMs"].as_u64(), Some(tail.clone()))
    );
    assert_eq!(all.sse.event(), None);
    for mut socket in [all.socket, all.deflated] {
        is_goodbye(&socket.json());
        socket.closed(1001, "draining");
    }
    assert_eq!((idle.ended(), silent.ended()), (Vec::new(), Vec::new()));
    eventually("nobody is let in any more", || std::net::TcpStream::connect(harness.address).is_err());
    appending.send("st");
    assert_eq!(appending.answer().expect(204).header("connection"), "close");
    drop((all.poll, all.lines.client, all.sse.client, idle, silent, appending));
    harness.wait_until_stopped();
}

#[test]
fn gathering_does_not_hold_up_a_goodbye() {
    let mut harness = Harness::with(|settings| settings.drain_deadline = Duration::from_secs(600));
    harness.create("s", "application/json");
    let mut all = Followers::of(&harness, "s");
    harness.append("s", "application/json", b"1");
    assert_eq!(all.socket.json()["records"], json!([1])); // So it was seen, and is gathered by the two who linger.
    harness.stop();
    assert_eq!(all.poll.answer().expect(200).text(), "[1]");
    assert_eq!(all.lines.line().expect("what was gathered")["records"], json!([1]));
    assert_eq!(all.lines.line().expect("a goodbye")["goodbye"]["code"], "draining");
    drop(all);
    harness.wait_until_stopped();
}

#[test]
fn who_takes_no_goodbye_is_cut_at_the_deadline() {
    let mut harness = Harness::with(|settings| settings.drain_deadline = Duration::from_millis(200));
    harness.create("s", "text/plain");
    let stalled: Vec<_> = (0..6)
        .map(|n| {
            let client = Client::connect_narrow(harness.address);
            match n % 2 {
                0 => Live::on(client, "/v1/stream/s?offset=now&live=sse", &[]).client,
                _ => WebSocket::on(client, "s", "now", false).client,
            }
        })
        .collect();
    harness.append("s", "text/plain", &[b'x'; 8 << 20]);
    harness.wait_until_stopped();
    drop(stalled);
}
