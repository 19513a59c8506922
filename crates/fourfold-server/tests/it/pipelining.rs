//! HTTP/1.0, several requests in one write, and clients that close their side early.

use crate::{
    harness::{Harness, url},
    http::Client,
    live::Live,
};

#[test]
fn two_requests_in_one_write_are_answered_in_order() {
    let harness = Harness::start();
    harness.create("a", "text/plain");
    harness.create("b", "text/plain");
    harness.append("a", "text/plain", b"one");
    harness.append("b", "text/plain", b"two");
    let mut client = harness.connect();
    client.send("GET /v1/stream/a HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/stream/b HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20));
    for _ in 0..20 {
        assert_eq!(client.answer().expect(200).text(), "one");
        assert_eq!(client.answer().expect(200).text(), "two");
    }
}

#[test]
fn a_request_behind_a_long_poll_is_answered_behind_it() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    for accept in ["*/*", "application/x-ndjson"] {
        let mut client = harness.connect();
        client.send(format!(
            "GET /v1/stream/s?offset=now&live=long-poll&timeout=0.05 HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n\
             GET /v1/stream/s?offset=now&live=long-poll HTTP/1.1\r\nhost: x\r\n\r\n\
             GET /v1/stream/witness HTTP/1.1\r\nhost: x\r\n\r\n"
        ));
        let first = client.answer();
        assert_eq!(first.head.status, if accept == "*/*" { 204 } else { 200 });
        // The second long poll stands at the tail only once the first is over: append until it is answered.
        client.tcp.set_nonblocking(true).expect("a socket option");
        crate::harness::eventually("the second long poll is answered", || {
            harness.append("s", "text/plain", b"news");
            !client.unread.is_empty() || client.tcp.peek(&mut [0]).is_ok()
        });
        client.tcp.set_nonblocking(false).expect("a socket option");
        assert!(client.answer().expect(200).text().starts_with("news"));
        assert!(client.answer().expect(200).text().starts_with("[0"));
    }
    harness.still_serves();
}

#[test]
fn an_answer_is_whole_before_a_live_read_behind_it_begins() {
    let harness = Harness::start();
    harness.create("big", "text/plain");
    harness.create("s", "application/json");
    let record = vec![b'x'; 8 << 20];
    harness.append("big", "text/plain", &record);
    harness.append("s", "application/json", b"[1]");
    let mut client = Client::connect_narrow(harness.address);
    client.send(
        "GET /v1/stream/big?offset=-1 HTTP/1.1\r\nhost: x\r\n\r\n\
         GET /v1/stream/s?offset=-1&live=sse HTTP/1.1\r\nhost: x\r\n\r\n",
    );
    assert_eq!(client.answer().expect(200).body.len(), record.len());
    assert_eq!(Live::begun(client).event_named("data").data, "[1]");
}

#[test]
fn http_1_0_gets_live_answers_without_chunks_that_end_with_the_connection() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    harness.append("s", "application/json", b"[1,2]");
    let ask = |query: &str, accept: &str| {
        let mut client = harness.connect();
        client.send(format!("GET /v1/stream/s?offset=-1{query} HTTP/1.0\r\naccept: {accept}\r\n\r\n"));
        client
    };
    let mut plain = ask("", "*/*");
    assert_eq!(plain.answer().expect(200).text(), "[1,2]");
    assert_eq!(plain.ended(), b"");
    let mut poll = ask("&live=long-poll", "*/*");
    assert_eq!(poll.answer().expect(200).text(), "[1,2]");
    assert_eq!(poll.ended(), b"");
    let mut sse = Live::begun(ask("&live=sse", "*/*"));
    let mut lines = Live::begun(ask("&live=long-poll", "application/x-ndjson"));
    for live in [&sse, &lines] {
        assert_eq!(live.head.get("transfer-encoding"), None);
        assert_eq!(live.head.get("connection"), Some("close"));
    }
    assert_eq!(sse.event_named("data").data, "[1,2]");
    assert_eq!(lines.line().expect("a message")["records"], serde_json::json!([1, 2]));
    harness.append("s", "application/json", b"3");
    harness.close("s");
    assert_eq!(sse.event_named("data").data, "[3]");
    let closed = std::iter::from_fn(|| sse.event()).last().expect("a last event");
    assert_eq!(closed.json()["streamClosed"], true);
    let closed = std::iter::from_fn(|| lines.line()).last().expect("a last message");
    assert_eq!(closed["streamClosed"], true);
    harness.still_serves();
}

#[test]
fn who_closes_its_side_behind_a_request_still_gets_the_answer() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let mut client = harness.connect();
    client.request("POST", &url("s"), &[("content-type", "text/plain")], b"one");
    client.half_close();
    client.answer().expect(204);
    assert_eq!(client.ended(), b"");
    let mut client = harness.connect();
    client.request("GET", &url("s"), &[], b"");
    client.half_close();
    assert_eq!(client.answer().expect(200).text(), "one");
    assert_eq!(client.ended(), b"");
    harness.wait_for_connections(1);
}

#[test]
fn a_waiting_live_read_ends_when_its_client_closes_its_side() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let mut clients = Vec::new();
    for (query, accept) in [("sse", "*/*"), ("long-poll", "application/x-ndjson"), ("long-poll", "*/*")] {
        let mut client = harness.connect();
        let target = format!("/v1/stream/s?offset=now&live={query}");
        client.request("GET", &target, &[("accept", accept)], b"");
        if (query, accept) != ("long-poll", "*/*") {
            client.head(); // A long poll says nothing before it ends.
        }
        client.half_close();
        clients.push(client);
    }
    for client in &mut clients {
        let said = String::from_utf8(client.ended()).expect("text");
        assert!(!said.contains("HTTP/1.1 4"), "{said}");
    }
    harness.wait_for_connections(1);
    harness.still_serves();
}

#[test]
fn a_long_poll_that_is_the_last_of_its_connection_says_so() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    for timeout in ["20", "0.05"] {
        let mut client = harness.connect();
        client.send(format!(
            "GET /v1/stream/s?offset=now&live=long-poll&timeout={timeout} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ));
        if timeout == "20" {
            // It stands at the tail only once it is read: append until it is answered.
            client.tcp.set_nonblocking(true).expect("a socket option");
            crate::harness::eventually("the long poll is answered", || {
                harness.append("s", "text/plain", b"news");
                client.tcp.peek(&mut [0]).is_ok()
            });
            client.tcp.set_nonblocking(false).expect("a socket option");
        }
        let answer = client.answer();
        assert_eq!(answer.head.status, if timeout == "20" { 200 } else { 204 });
        assert_eq!(answer.header("connection"), "close");
    }
}

#[test]
fn appends_in_one_write_are_taken_and_answered_in_order() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut client = harness.connect();
    let append = |n: usize, kind: &str, last: &str| {
        let body = format!("{{\"n\":{n}}}");
        let length = body.len();
        format!(
            "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{last}\r\n{body}"
        )
    };
    let refused = 70; // Of 100: more than may be under way at once.
    let requests: String = (0..100)
        .map(|n| match n {
            99 => append(n, "application/json", "connection: close\r\n"),
            _ if n == refused => append(n, "text/plain", ""),
            _ => append(n, "application/json", ""),
        })
        .collect();
    client.send(requests);
    let mut offsets = Vec::new();
    for n in 0..100 {
        let answer = client.answer();
        assert_eq!(answer.head.status, if n == refused { 409 } else { 204 }, "{n}");
        if n != refused {
            offsets.push(answer.header("stream-next-offset").to_owned());
        }
        if n == 99 {
            assert_eq!(answer.header("connection"), "close");
        }
    }
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    let expected: Vec<_> = (0..100).filter(|n| *n != refused).map(|n| format!("{{\"n\":{n}}}")).collect();
    let mut reader = harness.connect();
    reader.send("GET /v1/stream/s HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(reader.answer().expect(200).text(), format!("[{}]", expected.join(",")));
}
