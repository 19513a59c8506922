//! Handshakes that are refused, and clients that break the framing.

use crate::{
    harness::{Harness, url},
    websocket::{
        BINARY, CLOSE, DEFLATED_TEXT, HANDSHAKE, Message, PING, TEXT, WebSocket, deflated, frame, header, refused,
    },
};

#[test]
fn a_broken_handshake_is_a_problem_before_the_upgrade() {
    let harness = Harness::start();
    let with = |name: &str, value: Option<&'static str>| -> Vec<(&'static str, &'static str)> {
        let others = HANDSHAKE.into_iter().filter(|(n, _)| *n != name);
        others.chain(HANDSHAKE.into_iter().find(|(n, _)| *n == name).zip(value).map(|((n, _), v)| (n, v))).collect()
    };
    for bad in [None, Some(""), Some("short"), Some("not base64 at all!!!!!!="), Some("dGhlIHNhbXBsZSBub25jZQ")] {
        let answer = refused(&harness, "/v1/stream/witness", &with("sec-websocket-key", bad));
        answer.problem(400, "invalid-upgrade");
    }
    for bad in [None, Some("8"), Some("14"), Some("13, 8")] {
        let answer = refused(&harness, "/v1/stream/witness", &with("sec-websocket-version", bad));
        answer.problem(426, "upgrade-required");
        assert_eq!(answer.header("sec-websocket-version"), "13");
    }
    refused(&harness, "/v1/stream/witness", &with("connection", Some("keep-alive"))).problem(400, "invalid-upgrade");
    let mut old = harness.connect();
    old.send("GET /v1/stream/witness HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    old.answer().problem(400, "invalid-upgrade");
    // Another protocol is not asked for here: the read is a plain one.
    assert_eq!(refused(&harness, "/v1/stream/witness", &with("upgrade", Some("h2c"))).expect(200).text(), "[0]");
    harness.still_serves();
}

/// What a client that sends this is closed with.
fn closed_after(harness: &Harness, bytes: &[u8], code: u16, reason: &str) {
    for deflate in [false, true] {
        let mut socket = WebSocket::on(harness.connect(), "s", "now", deflate);
        socket.send(r#"{"append":["before"],"id":1}"#);
        socket.client.send(bytes);
        let ack = socket.answer();
        assert!(ack.get("ack").is_some(), "what came before is acknowledged: {ack}");
        socket.closed(code, reason);
    }
}

#[test]
fn who_breaks_the_framing_is_told_and_what_came_before_is_acknowledged() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let broken: [(&str, Vec<u8>, u16, &str); 11] = [
        ("unmasked", b"\x81\x02hi".to_vec(), 1002, "protocol-error"),
        ("rsv2", frame(0xa1, b"hi"), 1002, "protocol-error"),
        ("rsv3", frame(0x91, b"hi"), 1002, "protocol-error"),
        ("reserved opcode", frame(0x83, b"hi"), 1002, "protocol-error"),
        ("reserved control", frame(0x8b, b"hi"), 1002, "protocol-error"),
        ("long ping", frame(PING, &[b'x'; 126]), 1002, "protocol-error"),
        ("fragmented ping", frame(0x09, b"hi"), 1002, "protocol-error"),
        ("lone continuation", frame(0x80, b"hi"), 1002, "protocol-error"),
        ("close code 1005", frame(CLOSE, &[0x03, 0xed]), 1002, "protocol-error"),
        ("not utf-8", frame(TEXT, b"\xff\xfe"), 1007, "invalid-utf8"),
        ("binary", frame(BINARY, b"hi"), 1003, "text-only"),
    ];
    for (what, bytes, code, reason) in broken {
        eprintln!("{what}");
        closed_after(&harness, &bytes, code, reason);
    }
    let all = harness.get(&url("s")).json();
    assert_eq!(all.as_array().expect("records").len(), 22, "{all}");
    harness.still_serves();
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_announcement() {
    let harness = Harness::with(|settings| settings.body_bytes_max = 1_000);
    harness.create("s", "application/json");
    closed_after(&harness, &header(TEXT, 1_001), 1009, "message-too-big");
    closed_after(&harness, &header(TEXT, usize::MAX >> 1), 1009, "message-too-big");
    let fragments = [frame(0x01, &[b' '; 600]), frame(0x80, &[b' '; 401])].concat();
    closed_after(&harness, &fragments, 1009, "message-too-big");
    harness.still_serves();
}

#[test]
fn a_deflate_bomb_is_defused() {
    let harness = Harness::with(|settings| settings.body_bytes_max = 100_000);
    harness.create("s", "application/json");
    let mut socket = WebSocket::open_deflated(&harness, "s", "now");
    let bomb = deflated(&format!(r#"{{"append":["{}"],"id":1}}"#, "x".repeat(8 << 20)));
    assert!(bomb.len() < 100_000, "the bomb is small: {}", bomb.len());
    socket.client.send(&bomb);
    socket.closed(1009, "message-too-big");
    let mut socket = WebSocket::open_deflated(&harness, "s", "now");
    socket.client.send(frame(DEFLATED_TEXT, b"\xde\xad\xbe\xef garbage"));
    socket.closed(1002, "protocol-error");
    let mut plain = WebSocket::greeted(&harness, "s");
    plain.client.send(deflated(&format!(r#"{{"append":["{}"],"id":1}}"#, "x".repeat(1_000))));
    plain.closed(1002, "protocol-error");
    assert_eq!(harness.get(&url("s")).text(), "[]");
    harness.still_serves();
}

#[test]
fn pings_are_answered_and_a_close_is_returned() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut socket = WebSocket::greeted(&harness, "s");
    socket.client.send(frame(PING, b"are you there"));
    assert_eq!(socket.message(), Message::Pong(b"are you there".to_vec()));
    socket.send(r#"{"append":[1],"id":"last"}"#);
    socket.client.send(frame(CLOSE, b"\x0f\xa0bye"));
    assert_eq!(socket.answer()["id"], "last");
    socket.closed(4000, "");
    drop(socket);
    harness.wait_for_connections(1);
}

#[test]
fn a_client_that_vanishes_in_mid_frame_appends_nothing() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let whole = frame(TEXT, br#"{"append":[1],"id":1}"#);
    for cut in [1, 2, 5, 6, whole.len() - 1] {
        let mut socket = WebSocket::greeted(&harness, "s");
        socket.client.send(&whole[..cut]);
        if cut % 2 == 0 { socket.client.vanish() } else { drop(socket) }
    }
    harness.wait_for_connections(1);
    assert_eq!(harness.get(&url("s")).text(), "[]");
    harness.still_serves();
}
