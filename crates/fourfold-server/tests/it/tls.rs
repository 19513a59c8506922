//! TLS: every transport on it, certificates that change, and clients that do not speak it as they should.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use fourfold_server::{Tls, TlsError};
use tokio_rustls::rustls::{
    HandshakeKind, ProtocolVersion,
    version::{TLS12, TLS13},
};

use crate::{
    harness::{Harness, PATIENCE, eventually, url},
    http::Client,
    live::Live,
    secured::{self, Certificate, Secured, VERSIONS, trusting},
    websocket::{Message, WebSocket},
};

fn secured() -> Harness {
    Harness::with(|settings| settings.tls = Some(Certificate::new().tls()))
}

fn ask(client: &mut Secured, request: &str) {
    client.write_all(request.as_bytes()).expect("it is sent");
}

/// Reads until what was read ends so.
fn read_to(client: &mut Secured, end: &str) -> String {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while !said.ends_with(end.as_bytes()) {
        let bytes = client.read(&mut piece).expect("it goes on");
        assert!(bytes > 0, "ended after {}", said.escape_ascii());
        said.extend_from_slice(&piece[..bytes]);
    }
    String::from_utf8(said).expect("text")
}

#[test]
fn every_transport_works_over_tls() {
    let harness = secured();
    harness.create("s", "text/plain");
    let mut sse = Live::sse(&harness, "s", "-1");
    let mut lines = Live::ndjson(&harness, "s", "-1");
    let mut websocket = WebSocket::greeted(&harness, "s");
    let mut poll = harness.connect();
    poll.request("GET", "/v1/stream/s?offset=-1&live=long-poll", &[], b"");
    harness.wait_for_followers("s", 4);
    harness.append("s", "text/plain", b"hello");
    assert_eq!(sse.event_named("data").data, "hello");
    let line = std::iter::from_fn(|| lines.line()).find(|line| line["records"][0] == "hello");
    assert!(line.is_some());
    let Message::Json(message) = websocket.message() else { panic!("a message") };
    assert_eq!(message["records"][0], "hello");
    assert_eq!(poll.answer().expect(200).body, b"hello");
    assert_eq!(harness.get(&url("s")).expect(200).body, b"hello");
    let again = harness.ask("GET", &url("s"), &[("if-none-match", harness.get(&url("s")).header("etag"))], b"");
    again.expect(304);
    let location = harness.ask("PUT", &url("t"), &[("content-type", "text/plain")], b"").expect(201);
    assert_eq!(location.header("location"), "https://test/v1/stream/t");
}

#[test]
fn a_large_body_goes_both_ways_byte_by_byte_the_same() {
    let harness = secured();
    harness.create("s", "application/octet-stream");
    let body: Vec<u8> = (0..5_000_011_u32).map(|n| (n % 251) as u8).collect();
    let tcp = Client::connect_narrow(harness.listens).tcp;
    let mut client = secured::over(tcp, trusting(&[], &VERSIONS));
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        url("s"),
        body.len()
    );
    ask(&mut client, &head);
    client.write_all(&body).expect("it is taken");
    assert!(read_to(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 204"));
    // The client takes little at a time, from a kernel that buffers little: most records are written in pieces.
    ask(&mut client, &format!("GET {}?offset=-1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", url("s")));
    let mut said = Vec::new();
    client.read_to_end(&mut said).expect("it ends with a word");
    let at = said.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    assert!(said[at..] == body, "{} bytes came back, {} were sent", said.len() - at, body.len());
}

#[test]
fn a_stalled_reader_over_tls_goes_on_where_it_was() {
    let harness = secured();
    harness.create("s", "text/plain");
    let tcp = Client::connect_narrow(harness.listens).tcp;
    let mut client = secured::over(tcp, trusting(&[], &VERSIONS));
    ask(&mut client, "GET /v1/stream/s?offset=-1&live=sse HTTP/1.0\r\nhost: x\r\n\r\n");
    harness.wait_for_followers("s", 1);
    let record = |n: usize| format!("{n:04}").repeat(64 * 1024);
    for n in 0..64 {
        harness.append("s", "text/plain", record(n).as_bytes());
    }
    harness.close("s");
    harness.still_serves();
    let mut said = String::new();
    client.read_to_string(&mut said).expect("it ends with a word");
    let lines: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
    let records = lines.iter().filter(|line| line.len() > 1000).count();
    assert_eq!(records, 64);
    for (n, line) in lines.iter().filter(|line| line.len() > 1000).enumerate() {
        assert!(*line == record(n), "record {n} is not what came");
    }
}

#[test]
fn both_versions_are_spoken_and_a_client_that_was_here_comes_back_cheaply() {
    let harness = secured();
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = trusting(&[], &[version]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = secured::connect(harness.listens, config.clone());
            ask(&mut client, "HEAD /v1/stream/witness HTTP/1.1\r\nhost: x\r\n\r\n");
            assert!(read_to(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 200"));
            assert_eq!(client.conn.protocol_version(), Some(spoken));
            let known = client.conn.handshake_kind().expect("it is over");
            assert!(
                known == kind || (known == HandshakeKind::FullWithHelloRetryRequest && kind == HandshakeKind::Full)
            );
        }
    }
}

#[test]
fn a_connection_ends_with_a_word_from_each_side() {
    let harness = secured();
    let mut client = secured::connect(harness.listens, trusting(&[], &VERSIONS));
    ask(&mut client, "HEAD /v1/stream/witness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut said = String::new();
    client.read_to_string(&mut said).expect("cut off without a close_notify, this were an error");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    // A client that says that it will send nothing more still gets its answer.
    let mut client = secured::connect(harness.listens, trusting(&[], &VERSIONS));
    ask(&mut client, "GET /v1/stream/witness HTTP/1.1\r\nhost: x\r\nx: y\r\n\r\n");
    client.conn.send_close_notify();
    client.flush().expect("it is sent");
    client.sock.shutdown(Shutdown::Write).expect("it was open");
    let mut said = String::new();
    client.read_to_string(&mut said).expect("it ends with a word");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    harness.wait_for_connections(1);
}

#[test]
fn a_reader_that_ends_its_side_is_seen_to_go() {
    let harness = secured();
    for target in ["s?offset=-1&live=sse", "s?offset=-1&live=long-poll"] {
        harness.ask("PUT", &url("s"), &[("content-type", "text/plain")], b"");
        let mut client = secured::connect(harness.listens, trusting(&[], &VERSIONS));
        ask(&mut client, &format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", url(target)));
        harness.wait_for_followers("s", 1);
        client.conn.send_close_notify();
        client.flush().expect("it is sent");
        harness.wait_for_followers("s", 0);
    }
}

#[test]
fn keys_that_change_in_the_middle_change_nothing() {
    let harness = secured();
    harness.create("s", "text/plain");
    let mut client = secured::connect(harness.listens, trusting(&[], &[&TLS13]));
    for n in 0..8 {
        client.conn.refresh_traffic_keys().expect("the handshake is over");
        let target = url("s");
        let record = format!("{n}");
        ask(
            &mut client,
            &format!(
                "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n{record}"
            ),
        );
        assert!(read_to(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 204"));
    }
    assert_eq!(harness.get(&url("s")).expect(200).body, b"01234567");
}

#[test]
fn plain_http_is_told_that_the_port_speaks_tls() {
    let harness = secured();
    let mut client = Client::connect(harness.listens);
    client.request("GET", &url("witness"), &[], b"");
    client.answer().problem(400, "tls-required");
    assert_eq!(client.ended(), b"");
    // What is neither is not answered at all, or by an alert.
    let mut client = Client::connect(harness.listens);
    client.send([0; 64]);
    let said = client.ended();
    assert!(said.len() < 16, "{}", said.escape_ascii());
    harness.still_serves();
}

#[test]
fn a_client_that_agrees_to_no_protocol_is_refused() {
    let harness = secured();
    let tcp = TcpStream::connect(harness.listens).expect("it listens");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let config = trusting(&["smtp"], &VERSIONS);
    let conn = tokio_rustls::rustls::ClientConnection::new(config, secured::name()).expect("a name");
    let mut stream = Secured::new(conn, tcp);
    let error = stream.conn.complete_io(&mut stream.sock).expect_err("it is refused").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_silent_client_holds_up_nobody_and_is_cut_at_the_deadline() {
    let harness = secured();
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(harness.listens).expect("it listens")).collect();
    let mut slow = TcpStream::connect(harness.listens).expect("it listens");
    harness.wait_for_connections(52);
    let start = Instant::now();
    let mut more = [0x16, 3, 1, 2, 0, 1].into_iter().chain(std::iter::repeat(0));
    while harness.connections.count() > 1 {
        let _ = slow.write_all(&[more.next().expect("for ever")]);
        harness.still_serves();
        std::thread::sleep(Duration::from_millis(50));
        assert!(start.elapsed() < fourfold_server::limits::TLS_HANDSHAKE_WAIT_MAX + PATIENCE, "it waits for ever");
    }
    drop(silent);
}

#[test]
fn a_certificate_is_renewed_without_anybody_noticing() {
    let certificate = Certificate::new();
    let tls = certificate.tls();
    let harness = Harness::with(|settings| settings.tls = Some(tls.clone()));
    harness.create("s", "text/plain");
    let shown = |harness: &Harness| {
        let client = secured::connect(harness.listens, trusting(&[], &VERSIONS));
        client.conn.peer_certificates().expect("it has one")[0].to_vec()
    };
    let first = shown(&harness);
    let mut live = Live::sse(&harness, "s", "-1");
    let renewed = certificate.renew();
    assert_eq!(shown(&harness), first, "nobody has said that it changed");
    tls.reload().expect("it is good");
    assert!(first != renewed && shown(&harness) == renewed);
    harness.append("s", "text/plain", b"still here");
    assert_eq!(live.event_named("data").data, "still here");
    // What is broken is told, and changes nothing.
    fs::write(&certificate.key, "").expect("a file");
    let error = tls.reload().expect_err("it is empty");
    assert!(matches!(error, TlsError::NoKey { .. }), "{error}");
    assert_eq!(shown(&harness), renewed);
    eventually("it goes on", || {
        harness.still_serves();
        true
    });
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let (one, other) = (Certificate::new(), Certificate::new());
    let said = |cert, key| Tls::load(cert, key).expect_err("it is wrong").to_string();
    let mixed = said(&one.cert, &other.key);
    let (cert, key) = (one.cert.display(), other.key.display());
    assert_eq!(mixed, format!("the key in {key} is not the one of the first certificate in {cert}"));
    let (cert, key) = (&one.cert, &one.key);
    assert_eq!(said(key, key), format!("{} holds no certificate: it has no BEGIN CERTIFICATE", key.display()));
    assert!(said(cert, cert).starts_with(&format!("{} holds no private key that can be used", cert.display())));
    let missing = cert.with_file_name("nothing.pem");
    assert_eq!(said(&missing, key), format!("{} cannot be read as PEM", missing.display()));
}
