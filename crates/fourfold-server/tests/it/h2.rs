//! HTTP/2: every URL works on it, and many readers share a connection.

use fourfold_server::limits::BODY_BYTES_MAX_DEFAULT;

use crate::{
    calls::serving_shell,
    h2_client::{H2, Open, run, secured, send},
    harness::{Harness, url},
    live::Live,
};

const TEXT: [(&str, &str); 1] = [("content-type", "text/plain")];

#[test]
fn everything_but_websocket_works_on_one_connection() {
    let harness = secured();
    run(async {
        let mut h2 = H2::connect(&harness).await;
        let created = h2.ask("PUT", &url("s"), &TEXT, b"").await.expect(201);
        assert_eq!(created.header("location"), "https://localhost/v1/stream/s");
        let appended = h2.ask("POST", &url("s"), &TEXT, b"one").await.expect(204);
        let next = appended.header("stream-next-offset").to_owned();
        let read = h2.ask("GET", &url("s"), &[], b"").await.expect(200);
        assert_eq!(read.body, b"one");
        let same = [("if-none-match", read.header("etag"))];
        let same = h2.ask("GET", &url("s"), &same, b"").await.expect(304);
        assert!(same.headers.contains_key("stream-poll-after"), "{same:?}");
        let head = h2.ask("HEAD", &url("s"), &[], b"").await.expect(200);
        assert_eq!((head.header("stream-next-offset"), head.body.len()), (next.as_str(), 0));
        let page = h2.ask("HEAD", "/", &[], b"").await.expect(200);
        assert!(page.header("content-length").parse::<usize>().expect("a number") > 100 && page.body.is_empty());
        h2.ask("OPTIONS", &url("s"), &[], b"").await.expect(204);
        let missing = h2.ask("GET", &url("missing"), &[], b"").await.expect(404);
        assert_eq!(missing.header("content-type"), "application/problem+json");
        for answer in [&created, &read, &head, &missing] {
            for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
                assert!(!answer.headers.contains_key(name), "{answer:?}");
            }
            for name in ["date", "access-control-allow-origin", "x-content-type-options"] {
                assert!(answer.headers.contains_key(name), "{name} is missing in {answer:?}");
            }
        }
        // Both wait for what comes.
        let poll = format!("{}?offset={next}&live=long-poll", url("s"));
        let lines = [("accept", "application/x-ndjson")];
        let mut lines = h2.open("GET", &format!("{poll}&timeout=30"), &lines, b"").await;
        let mut sse = h2.sse("s", &next).await;
        let mut other = H2 { send: h2.send.clone(), connection: tokio::spawn(async { Ok(()) }) };
        let polled = tokio::spawn(async move { other.ask("GET", &poll, &[], b"").await });
        while harness.engine().streams().get(&"s".parse_name()).is_none_or(|stream| stream.cursors() < 3) {
            crate::h2_client::a_moment().await;
        }
        h2.ask("POST", &url("s"), &TEXT, b"two").await.expect(204);
        let polled = polled.await.expect("it is answered").expect(200);
        assert_eq!((polled.body.as_slice(), polled.header("content-type")), (&b"two"[..], "text/plain"));
        assert!(!polled.headers.contains_key("connection") && polled.headers.contains_key("stream-next-offset"));
        lines.until("\"two\"").await;
        sse.until("data:two\n").await;
        h2.ask("POST", &url("s"), &[("stream-closed", "true")], b"").await.expect(204);
        assert!(lines.rest().await.contains("losed\":true"));
        assert!(sse.rest().await.contains("streamClosed"));
        h2.ask("DELETE", &url("s"), &[], b"").await.expect(204);
        assert_eq!(harness.connections.count(), 2, "all of it was one connection, and the witness has another");
    });
}

/// A name, where a test has it as text.
trait Named {
    fn parse_name(&self) -> fourfold_protocol::StreamName;
}

impl Named for str {
    fn parse_name(&self) -> fourfold_protocol::StreamName {
        fourfold_protocol::StreamName::parse(self).expect("a name")
    }
}

#[test]
fn eighty_readers_share_one_connection() {
    let harness = secured();
    run(async {
        let mut h2 = H2::connect(&harness).await;
        let mut readers: Vec<Open> = Vec::new();
        for n in 0..80 {
            harness.create(&format!("s/{n}"), "text/plain");
            readers.push(h2.sse(&format!("s/{n}"), "-1").await);
        }
        for (n, reader) in readers.iter_mut().enumerate() {
            harness.append(&format!("s/{n}"), "text/plain", format!("record of {n}").as_bytes());
            reader.until(&format!("data:record of {n}\n")).await;
        }
        harness.wait_for_connections(2);
        drop(readers);
        drop(h2);
    });
    harness.wait_for_connections(1);
}

#[test]
fn a_large_body_goes_both_ways_in_pieces() {
    let harness = secured();
    harness.create("s", "application/octet-stream");
    let body: Vec<u8> = (0..5_000_011_u32).map(|n| (n % 251) as u8).collect();
    run(async {
        let mut h2 = H2::connect(&harness).await;
        let binary = [("content-type", "application/octet-stream")];
        h2.ask("POST", &url("s"), &binary, &body).await.expect(204);
        let read = h2.ask("GET", &url("s"), &[], b"").await.expect(200);
        assert!(read.body == body, "{} bytes came back", read.body.len());
        assert_eq!(read.header("content-length"), "5000011");
        // What is announced to be too large is not waited for.
        let mut request = H2::request("POST", &url("s"), &binary);
        request.headers_mut().insert("content-length", (17 << 20).into());
        let mut ready = h2.send.clone().ready().await.expect("it lives");
        let (refused, _stream) = ready.send_request(request, false).expect("it is sent");
        assert_eq!(refused.await.expect("an answer").status(), 413);
    });
    harness.still_serves();
}

#[test]
fn a_body_that_does_not_end_holds_up_nobody_on_its_connection() {
    let harness = secured();
    harness.create("s", "text/plain");
    run(async {
        let mut h2 = H2::connect(&harness).await;
        let mut slow = Vec::new();
        for _ in 0..40 {
            let mut ready = h2.send.clone().ready().await.expect("it lives");
            let (answer, mut stream) =
                ready.send_request(H2::request("POST", &url("s"), &TEXT), false).expect("it is sent");
            send(&mut stream, b"x", false).await;
            slow.push((answer, stream));
        }
        // Before the time is over that a body has.
        h2.ask("GET", &url("s"), &[], b"").await.expect(200);
        h2.ask("POST", &url("s"), &TEXT, b"between").await.expect(204);
        for (_, stream) in &mut slow {
            send(stream, b"y", true).await;
        }
        for (answer, _) in slow {
            assert_eq!(answer.await.expect("an answer").status(), 204);
        }
        let read = h2.ask("GET", &url("s"), &[], b"").await.expect(200);
        assert_eq!(read.body, format!("between{}", "xy".repeat(40)).as_bytes());
    });
}

#[test]
fn one_connection_leaves_half_of_the_room_for_bodies_to_others() {
    const BODY: usize = 900 * 1024;
    let harness = Harness::with(|settings| {
        settings.body_bytes_max = 1 << 20;
        settings.limits.bodies_bytes_max = 4 << 20;
    });
    harness.create("s", "text/plain");
    run(async {
        let mut greedy = H2::plain(harness.listens).await;
        let mut stalled = Vec::new();
        for _ in 0..2 {
            let mut ready = greedy.send.clone().ready().await.expect("it lives");
            let (answer, mut stream) =
                ready.send_request(H2::request("POST", &url("s"), &TEXT), false).expect("it is sent");
            send(&mut stream, &vec![b'x'; BODY], false).await;
            stalled.push((answer, stream));
        }
        // All of it fits into the window, so that it is sent although nothing of it is taken.
        let refused = greedy.ask("POST", &url("s"), &TEXT, &[b'y'; 255 * 1024]).await.expect(503);
        assert!(String::from_utf8_lossy(&refused.body).contains("on this connection"), "{:?}", refused.body);
        let mut other = H2::plain(harness.listens).await;
        other.ask("POST", &url("s"), &TEXT, &vec![b'z'; BODY]).await.expect(204);
        for (answer, mut stream) in stalled {
            send(&mut stream, b"!", true).await;
            assert_eq!(answer.await.expect("an answer").status(), 204);
        }
        greedy.ask("POST", &url("s"), &TEXT, &vec![b'y'; BODY]).await.expect(204);
    });
}

#[test]
fn three_of_the_largest_bodies_come_at_once_on_one_connection() {
    let harness = Harness::start();
    harness.create_with("s", "text/plain", &[("stream-retention-records", "1")]);
    let half = vec![b'x'; BODY_BYTES_MAX_DEFAULT / 2];
    run(async {
        let mut h2 = H2::plain(harness.listens).await;
        let mut uploads = Vec::new();
        for _ in 0..3 {
            let mut request = H2::request("POST", &url("s"), &TEXT);
            request.headers_mut().insert("content-length", BODY_BYTES_MAX_DEFAULT.into());
            let mut ready = h2.send.clone().ready().await.expect("it lives");
            let (answer, mut stream) = ready.send_request(request, false).expect("it is sent");
            send(&mut stream, &half, false).await;
            uploads.push((answer, stream));
        }
        h2.ask("GET", &url("witness"), &[], b"").await.expect(200);
        for (answer, mut stream) in uploads {
            send(&mut stream, &half, true).await;
            assert_eq!(answer.await.expect("an answer").status(), 204);
        }
    });
    harness.still_serves();
}

#[test]
fn http2_without_tls_is_spoken_on_this_machine() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    run(async {
        let mut h2 = H2::plain(harness.listens).await;
        let mut sse = h2.sse("s", "-1").await;
        h2.ask("POST", &url("s"), &TEXT, b"x").await.expect(204);
        sse.until("data:x\n").await;
        harness.wait_for_connections(2);
    });
    let mut live = Live::sse(&harness, "s", "-1");
    assert_eq!(live.event_named("data").data, "x", "HTTP/1.1 goes on beside it");
}

#[test]
fn a_call_is_begun_and_read_in_every_way_on_one_connection() {
    let harness = serving_shell("cat; echo end");
    run(async {
        let mut h2 = H2::plain(harness.listens).await;
        let begun = h2.ask("POST", "/v1/call/work", &[], b"a\n").await.expect(201);
        let read = format!("{}?offset=-1&live=sse", begun.header("location").trim_start_matches("http://localhost"));
        let events = h2.open("GET", &read, &[], b"").await.rest().await;
        assert!(
            events.contains("data:a") && events.contains("data:end") && events.contains("streamClosed"),
            "{events}"
        );
        let waited = h2.ask("POST", "/v1/call/work", &[("prefer", "wait")], b"b\n").await.expect(201);
        assert_eq!((waited.body.as_slice(), waited.header("stream-closed")), (&b"b\nend\n"[..], "true"));
        assert_eq!(waited.header("preference-applied"), "wait");
        let polled = h2.ask("POST", "/v1/call/work?live=long-poll", &[], b"c\n").await.expect(201);
        assert!(polled.body.starts_with(b"c\n"), "{polled:?}");
        for (target, accept) in
            [("/v1/call/work?live=sse", "*/*"), ("/v1/call/work?live=long-poll", "application/x-ndjson")]
        {
            let mut open = h2.open("POST", target, &[("accept", accept)], b"d\n").await;
            assert_eq!(open.parts.status, 201);
            assert!(open.parts.headers.contains_key("call-id"), "{:?}", open.parts);
            let said = open.rest().await;
            assert!(said.contains('d') && said.contains("end") && said.contains("losed\":true"), "{said}");
        }
        harness.wait_for_connections(2); // The witness's is the other one.
    });
}

#[test]
fn a_reader_that_leaves_its_stream_leaves_no_cursor() {
    let harness = secured();
    harness.create("s", "text/plain");
    run(async {
        let mut h2 = H2::connect(&harness).await;
        let sse = h2.sse("s", "-1").await;
        harness.wait_for_followers("s", 1);
        drop(sse); // Resets the stream; the connection goes on.
        while harness.engine().streams().get(&"s".parse_name()).is_some_and(|stream| stream.cursors() > 0) {
            crate::h2_client::a_moment().await;
        }
        h2.ask("GET", &url("s"), &[], b"").await.expect(200);
    });
}

#[test]
fn readers_are_told_goodbye_on_their_streams_when_the_server_stops() {
    let mut harness = secured();
    harness.create("s", "text/plain");
    let said = run(async {
        let mut h2 = H2::connect(&harness).await;
        let mut readers = vec![h2.sse("s", "-1").await, h2.sse("s", "-1").await];
        harness.wait_for_followers("s", 2);
        harness.stop();
        let mut said = Vec::new();
        for reader in &mut readers {
            said.push(reader.rest().await);
        }
        let refused = h2.send.clone().ready().await;
        assert!(refused.is_err(), "GOAWAY was said");
        drop(h2.connection.await.expect("it ends"));
        said
    });
    for said in said {
        assert!(said.contains("event: goodbye") && said.contains("draining"), "{said}");
    }
    harness.wait_until_stopped();
}

#[test]
fn websockets_over_http2_are_not_offered() {
    let harness = secured();
    run(async {
        let mut h2 = H2::connect(&harness).await;
        h2.ask("GET", "/", &[], b"").await.expect(200);
        assert!(!h2.send.is_extended_connect_protocol_enabled());
    });
}

#[test]
fn a_connection_of_http2_that_is_silent_is_let_go() {
    let harness = Harness::with(|settings| {
        settings.tls = Some(crate::secured::Certificate::new().tls());
        settings.head_wait_max = std::time::Duration::from_secs(1);
    });
    harness.create("s", "text/plain");
    run(async {
        let mut h2 = H2::connect(&harness).await;
        let sse = h2.sse("s", "-1").await;
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        h2.ask("GET", &url("s"), &[], b"").await.expect(200); // Not silent: a reader is there.
        drop(sse);
        drop(h2.connection.await.expect("it ends"));
    });
}
