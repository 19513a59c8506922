//! Who asks for more than it may have is told so, and when to come back; everybody else notices nothing.

use fourfold_access::Verb;
use fourfold_server::{LimitOptions, Network, PerAddress, Rate};

use crate::{
    access::{create, guarded_by, options},
    harness::{Harness, PATIENCE, eventually, url},
    http::{Answer, Client},
    live::Live,
    websocket::{HANDSHAKE, TEXT, WebSocket, frame},
};

/// Clients come from this one; the well-behaved one from another.
const THEIRS: &str = "127.0.0.9";

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// The limits are in force when all that was needed to begin with has gone: a connection that has just ended may still be counted.
fn limited(set: impl FnOnce(&mut LimitOptions)) -> Harness {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut options = LimitOptions::default();
    set(&mut options);
    harness.wait_for_connections(1);
    harness.limits.reload(options);
    harness
}

/// This many at once, and then hardly any.
fn burst(burst: u32) -> Rate {
    Rate::parse(&format!("1/h burst {burst}")).unwrap()
}

/// The problem names the limit and its number, and says when to come back.
fn refused(answer: &Answer, status: u16, code: &str, limit: &str, max: impl Into<serde_json::Value>) {
    let problem = answer.problem(status, code);
    assert_eq!((&problem["limit"], &problem["max"]), (&limit.into(), &max.into()), "{problem}");
    if status != 413 {
        assert_eq!(problem["retry"], true);
        assert_eq!(answer.header("retry-after"), problem["retryAfter"].to_string());
        assert!(problem["retryAfter"].as_u64().is_some_and(|seconds| seconds > 0), "{problem}");
    }
}

#[test]
fn an_address_has_so_many_connections_and_others_are_not_touched() {
    let harness = limited(|limits| limits.connections_per_address = PerAddress::set(Some(3)));
    let mut theirs: Vec<_> = (0..3).map(|_| Client::connect_from(THEIRS, harness.address)).collect();
    harness.dismiss_witness();
    harness.wait_for_connections(3);
    for _ in 0..10 {
        let mut late = Client::connect_from(THEIRS, harness.address);
        refused(&late.answer(), 429, "too-many-connections", "connections-per-address", 3);
        assert_eq!(late.ended(), b"");
    }
    harness.still_serves();
    for client in &mut theirs {
        client.request("GET", &url("s"), &[], b"");
        client.answer().expect(200);
    }
    theirs.pop();
    harness.wait_for_connections(3);
    let mut next = Client::connect_from(THEIRS, harness.address);
    next.request("GET", &url("s"), &[], b"");
    next.answer().expect(200);
}

#[test]
fn requests_beyond_the_rate_are_refused_and_the_connection_goes_on() {
    let harness = limited(|limits| limits.requests_per_address = PerAddress::set(Some(burst(100))));
    let mut client = Client::connect_from(THEIRS, harness.address);
    client.request("GET", &url("s"), &[], b"");
    let tag = client.answer().expect(200).header("etag").to_owned();
    // A poll that is known, one in pieces, one of another kind: all are counted, and a refused one as well as it can be.
    for n in 1..100 {
        match n % 10 {
            8 => {
                client.send("GET /v1/stream/s HTTP/1.1\r\nhost: x\r\n");
                std::thread::yield_now();
                client.send("\r\n");
            }
            9 => client.request("OPTIONS", &url("s"), &[], b""),
            _ => client.request("GET", &url("s"), &[("if-none-match", &tag)], b""),
        }
        assert!(client.answer().head.status < 400);
    }
    for headers in [&[("if-none-match", tag.as_str())][..], &[], &[("accept", "text/event-stream")]] {
        client.request("GET", &url("s"), headers, b"");
        refused(&client.answer(), 429, "too-many-requests", "requests-per-address", "1/h burst 100");
    }
    harness.still_serves();
}

#[test]
fn a_head_that_cannot_be_read_is_counted_as_well() {
    let harness = limited(|limits| limits.requests_per_address = PerAddress::set(Some(burst(6))));
    let wide = format!("GET {} HTTP/1.1\r\nhost: x\r\ncookie: {}\r\n\r\n", url("s"), "x".repeat(100_000));
    let heads = [&wide, "NONSENSE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n"];
    let said = |head: &str| {
        let mut client = Client::connect_from(THEIRS, harness.address);
        client.send(head);
        client.answer()
    };
    for head in heads.repeat(2) {
        let status = said(head).head.status;
        assert!(matches!(status, 400 | 431), "{status}");
    }
    for head in heads {
        refused(&said(head), 429, "too-many-requests", "requests-per-address", "1/h burst 6");
    }
    let mut client = Client::connect_from(THEIRS, harness.address);
    client.request("GET", &url("s"), &[], b"");
    refused(&client.answer(), 429, "too-many-requests", "requests-per-address", "1/h burst 6");
    harness.still_serves();
}

#[test]
fn a_known_poll_beyond_the_rate_is_refused_as_well() {
    let harness = limited(|limits| limits.requests_per_address = PerAddress::set(Some(burst(50))));
    let mut client = Client::connect_from(THEIRS, harness.address);
    client.request("GET", &url("s"), &[], b"");
    let tag = client.answer().expect(200).header("etag").to_owned();
    let statuses: Vec<_> = (0..60)
        .map(|_| {
            client.request("GET", &url("s"), &[("if-none-match", &tag)], b"");
            client.answer().head.status
        })
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 304).count(), 49);
    assert_eq!(statuses[49..], [429; 11]);
}

#[test]
fn appends_of_an_address_are_counted_together_over_http_and_websocket() {
    let harness = limited(|limits| limits.appends_per_address = PerAddress::set(Some(burst(4))));
    let mut client = Client::connect_from(THEIRS, harness.address);
    let mut socket = WebSocket::on(Client::connect_from(THEIRS, harness.address), "s", "now", false);
    socket.json();
    for n in 0..2 {
        client.request("POST", &url("s"), &JSON, b"1");
        client.answer().expect(204);
        socket.send(&format!(r#"{{"append":[2],"id":{n}}}"#));
        assert_eq!(socket.answer()["id"], n);
    }
    client.request("POST", &url("s"), &JSON, b"1");
    refused(&client.answer(), 429, "too-many-requests", "appends-per-address", "1/h burst 4");
    socket.send(r#"{"append":[3],"id":9}"#);
    let answer = socket.answer();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&9.into(), &"too-many-requests".into()));
    assert!(answer["error"]["retryAfter"].as_u64().is_some_and(|seconds| seconds > 0), "{answer}");
    client.request("GET", &url("s"), &[], b"");
    assert_eq!(client.answer().expect(200).text(), "[1,2,1,2]", "reading goes on");
    harness.still_serves();
}

#[test]
fn what_is_refused_over_a_websocket_is_counted_too() {
    let four = PerAddress::set(Some(burst(4)));
    let limits = LimitOptions { appends_per_address: four, requests_per_address: four, ..LimitOptions::default() };
    let mut rules = options();
    rules.anonymous.allow(Verb::Read, "s").expect("a pattern");
    let harness = guarded_by(rules, |_| {});
    create(&harness, "s");
    harness.limits.reload(limits);
    let mut socket = WebSocket::on(Client::connect_from(THEIRS, harness.address), "s", "now", false);
    socket.json();
    let mut codes = |messages: &[&str]| -> Vec<String> {
        let sent = messages.iter().map(|text| {
            socket.send(text);
            socket.answer()["error"]["code"].as_str().expect("a refusal").to_owned()
        });
        sent.collect()
    };
    let (forbidden, nonsense, token) = (r#"{"append":[1],"id":1}"#, "{}", r#"{"token":"nonsense","id":2}"#);
    let appends = codes(&[forbidden, nonsense, forbidden, nonsense, forbidden, nonsense]);
    assert_eq!(appends[4..], ["too-many-requests"; 2], "{appends:?}");
    assert!(!appends[..4].contains(&"too-many-requests".to_owned()), "{appends:?}");
    // The handshake was a request as well.
    let renewals = codes(&[token, token, token, token]);
    assert_eq!(renewals, ["invalid-token", "invalid-token", "invalid-token", "too-many-requests"]);
    harness.still_serves();
}

#[test]
fn a_stream_takes_so_many_appends_whoever_sends_them() {
    let harness = limited(|limits| limits.appends_per_stream = Some(burst(2)));
    for status in [204, 204] {
        harness.ask("POST", &url("s"), &JSON, b"1").expect(status);
    }
    refused(
        &harness.ask("POST", &url("s"), &JSON, b"1"),
        429,
        "too-many-requests",
        "appends-per-stream",
        "1/h burst 2",
    );
    harness.create("other", "application/json");
    harness.append("other", "application/json", b"1");
}

#[test]
fn a_record_and_a_batch_have_a_largest_size() {
    let harness = limited(|limits| (limits.record_bytes_max, limits.batch_records_max) = (Some(10), Some(3)));
    harness.ask("POST", &url("s"), &JSON, b"[1,2,\"12345678\"]").expect(204);
    let long = br#"[1,"123456789"]"#;
    refused(&harness.ask("POST", &url("s"), &JSON, long), 413, "record-too-large", "record-max", 10);
    refused(&harness.ask("POST", &url("s"), &JSON, b"[1,2,3,4]"), 413, "batch-too-large", "batch-max", 3);
    refused(&harness.ask("PUT", &url("new"), &JSON, b"[1,2,3,4]"), 413, "batch-too-large", "batch-max", 3);
    harness.get(&url("new")).expect(404);
    let mut socket = WebSocket::greeted(&harness, "s");
    socket.send(r#"{"append":[1,2,3,4],"id":1}"#);
    assert_eq!(socket.answer()["error"]["code"], "batch-too-large");
    harness.still_serves();
}

fn behind_a_proxy(set: impl FnOnce(&mut LimitOptions)) -> Harness {
    limited(|limits| {
        limits.trusted_proxies = Network::parse_all(THEIRS).unwrap();
        set(limits);
    })
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_rate() {
    let harness = behind_a_proxy(|limits| limits.requests_per_address = PerAddress::set(Some(burst(20))));
    let mut proxy = Client::connect_from(THEIRS, harness.address);
    let mut of = |client: &str| {
        proxy.request("GET", &url("s"), &[("x-forwarded-for", client)], b"");
        proxy.answer().head.status
    };
    assert!((0..20).all(|_| of("1.2.3.4") == 200));
    assert_eq!(of("1.2.3.4"), 429);
    assert_eq!(of("6.6.6.6, 1.2.3.4"), 429, "what the client itself has put there does not count");
    assert_eq!(of("1.2.3.4, 6.6.6.6"), 200);
    assert!((0..20).all(|n| of(&format!("2001:db8::{n}")) == 200), "one /64");
    assert_eq!(of("2001:db8::ffff"), 429);
    assert_eq!(of("2001:db8:0:1::1"), 200);
    // One that is not trusted says nothing.
    let mut stranger = Client::connect_from("127.0.0.8", harness.address);
    let mut of = |client: &str| {
        stranger.request("GET", &url("s"), &[("x-forwarded-for", client)], b"");
        stranger.answer().head.status
    };
    assert!((0..20).all(|n| of(&format!("3.3.3.{n}")) == 200));
    assert_eq!(of("3.3.3.99"), 429);
}

#[test]
fn reads_that_stay_are_counted_for_whom_the_proxy_asks() {
    let harness = behind_a_proxy(|limits| limits.connections_per_address = PerAddress::set(Some(2)));
    let connect = || Client::connect_from(THEIRS, harness.address);
    let mut headers = HANDSHAKE.to_vec();
    headers.push(("x-forwarded-for", "1.2.3.4"));
    let mut socket = connect();
    socket.request("GET", &(url("s") + "?offset=now"), &headers, b"");
    assert_eq!(socket.head().status, 101);
    let mut poll = connect();
    let poll_for = |client: &mut Client, who: &str, timeout: &str| {
        let target = format!("{}?offset=now&live=long-poll&timeout={timeout}", url("s"));
        client.request("GET", &target, &[("x-forwarded-for", who)], b"");
    };
    poll_for(&mut poll, "1.2.3.4", "30");
    harness.wait_for_followers("s", 2);
    for _ in 0..3 {
        // In pieces, too: then another part of the server answers.
        let mut late = connect();
        late.send("GET /v1/stream/s?offset=now&live=sse HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 1.2.3.4\r\n");
        std::thread::yield_now();
        late.send("\r\n");
        refused(&late.answer(), 429, "too-many-connections", "connections-per-address", 2);
        poll_for(&mut late, "1.2.3.4", "30");
        refused(&late.answer(), 429, "too-many-connections", "connections-per-address", 2);
        poll_for(&mut late, "1.2.3.5", "0");
        late.answer().expect(204);
    }
    harness.append("s", "application/json", b"1");
    poll.answer().expect(200);
    let mut next = connect();
    poll_for(&mut next, "1.2.3.4", "0");
    next.answer().expect(204);
}

#[test]
fn a_trusted_proxy_says_before_anything_else_for_whom_it_connects() {
    let harness = limited(|_| {});
    harness.limits.reload(LimitOptions {
        trusted_proxies: Network::parse_all(THEIRS).unwrap(),
        proxy_protocol: true,
        connections_per_address: PerAddress::set(Some(1)),
        ..LimitOptions::default()
    });
    let connect = |header: &[u8]| {
        let mut client = Client::connect_from(THEIRS, harness.address);
        client.send(header);
        client.request("GET", &url("s"), &[], b"");
        client
    };
    let mut first = connect(b"PROXY TCP4 1.2.3.4 10.0.0.1 5678 443\r\n");
    first.answer().expect(200);
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &[1, 2, 3, 4, 10, 0, 0, 1, 0, 80, 1, 187]].concat();
    refused(&connect(&v2).answer(), 429, "too-many-connections", "connections-per-address", 1);
    let mut other = connect(b"PROXY TCP6 2001:db8::1 ::1 5678 443\r\n");
    other.answer().expect(200);
    assert_eq!(connect(b"").ended(), b"", "without a header nothing is answered");
    connect(b"PROXY UNKNOWN\r\n").answer().expect(200);
    // Nobody else is asked for one, or may send one.
    let mut stranger = Client::connect_from("127.0.0.8", harness.address);
    stranger.send("PROXY TCP4 1.2.3.4 10.0.0.1 5678 443\r\n\r\n");
    stranger.answer().expect(400);
    harness.still_serves();
}

#[test]
fn bodies_under_way_share_a_budget() {
    let harness = limited(|limits| limits.bodies_bytes_max = 300_000);
    let begun = |piece: usize| {
        let mut client = harness.connect();
        client.send(
            "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 400000\r\n\r\n",
        );
        client.send(vec![b' '; piece]);
        client
    };
    let slow: Vec<_> = (0..2).map(|_| begun(100_000)).collect();
    let late = || {
        let mut late = begun(399_999);
        let answer = late.answer();
        refused(&answer, 503, "overloaded", "bodies-max", 300_000);
    };
    late();
    harness.still_serves(); // What comes whole in one piece is not waited for.
    drop(slow);
    harness.wait_for_connections(1);
    let mut client = begun(200_000);
    client.send(vec![b' '; 199_999]);
    drop(client);
    harness.still_serves();
}

#[test]
fn messages_in_parts_share_the_same_budget() {
    let harness = limited(|limits| limits.bodies_bytes_max = 300_000);
    // Begins a message of 250,000 bytes and leaves it.
    let begin = || {
        let mut socket = WebSocket::greeted(&harness, "s");
        let whole = frame(TEXT, &[b' '; 250_000]);
        socket.client.send(&whole[..whole.len() - 1]);
        socket
    };
    let mut sockets = vec![begin(), begin()];
    let mut closed = 0;
    eventually("one of them is let go", || {
        sockets.retain_mut(|socket| {
            socket.client.tcp.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            let mut first = [0; 1];
            let goes = socket.client.tcp.peek(&mut first).is_err();
            if !goes {
                socket.client.tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.closed(1013, "overloaded");
                closed += 1;
            }
            goes
        });
        closed == 1
    });
    harness.still_serves();
    drop(sockets);
    harness.wait_for_connections(1);
    begin();
}

#[test]
fn stalled_readers_beyond_what_is_held_for_them_are_let_go_and_come_back_with_their_offset() {
    let harness = limited(|limits| limits.unsent_bytes_max = 1 << 20);
    harness.create("large", "text/plain");
    let readers: Vec<_> = (0..8)
        .map(|_| Live::on(Client::connect_narrow(harness.address), "/v1/stream/large?offset=-1&live=sse", &[]))
        .collect();
    harness.wait_for_followers("large", 8);
    let end = (0..4).map(|_| harness.append("large", "text/plain", &[b'x'; 512 * 1024])).last().unwrap();
    // Each is held for half a MiB, which is twice in the budget.
    eventually("the others are let go", || harness.connections.count() <= 4);
    harness.still_serves();
    drop(readers);
    let from_there = harness.get(&format!("{}?offset={end}", url("large"))).expect(200);
    assert_eq!(from_there.header("stream-up-to-date"), "true");
}

#[test]
fn other_limits_hold_at_once_and_connections_stay() {
    let harness = limited(|_| {});
    let mut socket = WebSocket::on(Client::connect_from(THEIRS, harness.address), "s", "now", false);
    socket.json();
    let mut client = Client::connect_from(THEIRS, harness.address);
    client.request("GET", &url("s"), &[], b"");
    client.answer().expect(200);
    let strict = PerAddress::set(Some(burst(1)));
    harness.limits.reload(LimitOptions {
        connections_per_address: PerAddress::set(Some(1)),
        requests_per_address: strict,
        ..LimitOptions::default()
    });
    for status in [200, 429] {
        client.request("GET", &url("s"), &[], b"");
        client.answer().expect(status);
    }
    Client::connect_from(THEIRS, harness.address).answer().problem(429, "too-many-connections");
    socket.send(r#"{"append":[1],"id":1}"#);
    assert_eq!(socket.answer()["id"], 1);
    harness.limits.reload(LimitOptions::default());
    client.request("GET", &url("s"), &[], b"");
    assert_eq!(client.answer().expect(200).text(), "[1]");
}
