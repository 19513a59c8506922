//! TLS: every transport on it, certificates that change, and clients that do not speak it as they should.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use fourfold_server::{Tls, TlsError};
use tokio_rustls::rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, HandshakeKind, ProtocolVersion, SupportedCipherSuite,
    crypto::cipher::{
        AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
    },
    version::{TLS12, TLS13},
};

use crate::{
    harness::{Harness, PATIENCE, eventually, url},
    http::Client,
    live::Live,
    operator::{scrape, value},
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

/// How many handshakes have ended, in whichever way. One whose task panicked has not.
fn handshakes(harness: &Harness) -> f64 {
    scrape(harness)["fourfold_tls_handshakes_total"].samples.iter().map(|(_, _, count)| count).sum()
}

/// What the server says to these bytes, in these pieces, and nothing behind them.
fn said_to<'a>(harness: &Harness, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut client = Client::connect(harness.listens).tcp;
    client.set_nodelay(true).expect("pieces go as they are");
    // It may have hung up before it was told all.
    let _ = pieces.into_iter().try_for_each(|piece| client.write_all(piece));
    let _ = client.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    let _ = client.read_to_end(&mut said);
    said
}

#[test]
fn half_a_handshake_message_that_cannot_be_whole_is_a_broken_handshake() {
    let harness = secured();
    let broken = || value(&scrape(&harness), "fourfold_tls_handshakes_total", &[("outcome", "broken")]);
    let before = broken();
    // One of 65,793 bytes. rustls has no alert for that.
    said_to(&harness, [&[&[0x16, 3, 1, 0, 0x50][..], &[1; 80]].concat()[..]]);
    // One in two records, of which the second is none.
    let said = said_to(&harness, [&[&[0x16, 3, 1, 0, 5, 1, 0, 1, 0, 3][..], &[0xff; 16]].concat()[..]]);
    assert!(said.starts_with(&[0x15, 3]), "an alert, not {}", said.escape_ascii());
    eventually("both are counted", || broken() - before == 2.0);
    harness.still_serves();
}

/// A hello, in records of at most so many bytes, with some of it changed.
fn mutated(random: &mut fastrand::Rng, hello: &[u8]) -> Vec<u8> {
    let (head, message) = hello.split_at(5);
    let mut message = message.to_vec();
    let mutate = |random: &mut fastrand::Rng, bytes: &mut Vec<u8>| {
        let at = random.usize(..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => drop(bytes.remove(at)),
            3 => bytes.truncate(at + 1),
            _ => bytes.extend_from_within(at..),
        }
    };
    for _ in 0..random.usize(..3) {
        mutate(random, &mut message);
    }
    let most = *random.choice(&[1, 3, 4, 40, 1 << 14]).expect("it is not empty");
    let mut bytes = Vec::new();
    for piece in message.chunks(most) {
        bytes.extend_from_slice(&head[..3]);
        bytes.extend(u16::try_from(piece.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(piece);
    }
    for _ in 0..random.usize(..3) {
        mutate(random, &mut bytes);
    }
    bytes
}

#[test]
fn no_hello_of_anybody_makes_a_handshake_panic() {
    let harness = secured();
    let mut hello = Vec::new();
    let mut conn = ClientConnection::new(trusting(&["http/1.1"], &VERSIONS), secured::name()).expect("a name");
    conn.write_tls(&mut hello).expect("it is taken");
    let (_, rest) = hello.split_at(5);
    assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), rest.len(), "one record");
    let mut ended = handshakes(&harness);
    for round in 0..300 {
        let mut random = fastrand::Rng::with_seed(round);
        let bytes = mutated(&mut random, &hello);
        let (first, second) = bytes.split_at(random.usize(..=bytes.len()));
        said_to(&harness, [first, second]);
        if round % 50 == 0 {
            drop(secured::connect(harness.listens, trusting(&[], &VERSIONS)));
            ended += 1.0;
            harness.still_serves();
        }
        ended += 1.0;
        eventually(&format!("the end of round {round}, b\"{}\"", bytes.escape_ascii()), || {
            handshakes(&harness) == ended
        });
    }
}

/// A client behind its handshake, record by record.
struct Bare {
    tcp: TcpStream,
    encrypts: (u64, Box<dyn MessageEncrypter>),
    decrypts: (u64, Box<dyn MessageDecrypter>),
}

impl Bare {
    /// Asks for something first.
    fn asking(harness: &Harness, request: &str) -> Self {
        let mut config = Arc::unwrap_or_clone(trusting(&[], &[&TLS13]));
        config.enable_secret_extraction = true;
        let mut client = secured::connect(harness.listens, config.into());
        ask(&mut client, request);
        let Some(SupportedCipherSuite::Tls13(suite)) = client.conn.negotiated_cipher_suite() else { panic!("TLS 1.3") };
        let (conn, tcp) = client.into_parts();
        let secrets = conn.dangerous_extract_secrets().expect("it was enabled");
        let encrypter = |(key, iv)| suite.aead_alg.encrypter(key, iv);
        let decrypter = |(key, iv)| suite.aead_alg.decrypter(key, iv);
        let encrypts = (secrets.tx.0, encrypter(key(secrets.tx.1)));
        let decrypts = (secrets.rx.0, decrypter(key(secrets.rx.1)));
        Self { tcp, encrypts, decrypts }
    }

    fn say(&mut self, typ: ContentType, bytes: &[u8]) {
        let (seq, encrypter) = &mut self.encrypts;
        let payload = OutboundChunks::Single(bytes);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let record = encrypter.encrypt(message, *seq).expect("it is encrypted").encode();
        *seq += 1;
        self.tcp.write_all(&record).expect("it is taken");
    }

    /// The next record.
    fn hear(&mut self) -> (ContentType, Vec<u8>) {
        let mut head = [0; 5];
        self.tcp.read_exact(&mut head).expect("a record");
        let mut payload = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
        self.tcp.read_exact(&mut payload).expect("the whole record");
        let (seq, decrypter) = &mut self.decrypts;
        let record = InboundOpaqueMessage::new(head[0].into(), ProtocolVersion::TLSv1_2, &mut payload);
        let plain = decrypter.decrypt(record, *seq).expect("it is decrypted");
        *seq += 1;
        (plain.typ, plain.payload.to_vec())
    }

    /// Hears until this was said in one record.
    fn hear_of(&mut self, said: &str) {
        loop {
            let (typ, bytes) = self.hear();
            assert_ne!(typ, ContentType::Alert, "no {said}");
            if typ == ContentType::ApplicationData && String::from_utf8_lossy(&bytes).contains(said) {
                return;
            }
        }
    }
}

fn key(secrets: ConnectionTrafficSecrets) -> (AeadKey, Iv) {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => panic!("another cipher"),
    }
}

#[test]
fn half_a_key_update_holds_up_nothing_that_is_written() {
    let harness = secured();
    harness.create("s", "text/plain");
    let sse = format!("GET {}?offset=-1&live=sse HTTP/1.1\r\nhost: x\r\n\r\n", url("s"));
    let mut client = Bare::asking(&harness, &sse);
    harness.wait_for_followers("s", 1);
    let update = [0x18, 0, 0, 1, 0];
    client.say(ContentType::Handshake, &update[..2]);
    harness.append("s", "text/plain", b"one");
    client.hear_of("data:one");
    client.say(ContentType::Handshake, &update[2..4]);
    harness.append("s", "text/plain", b"two");
    client.hear_of("data:two");
    // The end is said meanwhile as well.
    harness.close("s");
    while client.hear().0 != ContentType::Alert {}
    harness.wait_for_connections(1);
    // The rest of it changes the keys, and that is all.
    harness.create("t", "text/plain");
    let mut client = Bare::asking(&harness, &sse.replace("/s?", "/t?"));
    harness.wait_for_followers("t", 1);
    client.say(ContentType::Handshake, &update[..2]);
    client.say(ContentType::Handshake, &update[2..]);
    harness.append("t", "text/plain", b"three");
    client.hear_of("data:three");
    // And what is none is told.
    let mut client = Bare::asking(&harness, &sse.replace("/s?", "/t?"));
    harness.wait_for_followers("t", 2);
    client.say(ContentType::Handshake, &update[..2]);
    client.say(ContentType::ApplicationData, b"stray");
    harness.wait_for_followers("t", 1);
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
