//! A request that comes whole is answered without hyper, one in pieces by hyper: nobody can tell from the answer.

use std::{thread, time::Duration};

use fourfold_server::limits::READ_BUFFER_BYTES;

use crate::{harness::Harness, http::Client};

/// The answers to these bytes up to the end of the connection or of the requests, without what differs by the clock.
fn answers(harness: &Harness, request: &[u8], in_pieces: bool) -> String {
    let mut client = Client::connect(harness.address);
    if in_pieces {
        client.send(&request[..1]);
        // The first byte is read alone: nothing else tells that the server has it.
        thread::sleep(Duration::from_millis(5));
        client.send(&request[1..]);
    } else {
        client.send(request);
    }
    // A last request ends the connection, unless it has ended before.
    client.send("GET /v1/stream/last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let said = String::from_utf8_lossy(&client.ended()).into_owned();
    let timeless = |line: &&str| !["date:", "stream-poll-after:", "stream-cursor:"].iter().any(|h| line.starts_with(h));
    let mut parts = Vec::new();
    for answer in said.split("HTTP/1.").filter(|answer| !answer.is_empty()) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let mut lines: Vec<_> = head.split("\r\n").filter(timeless).collect();
        lines[1..].sort_unstable();
        parts.push(lines.join("\n") + "\n\n" + body);
    }
    parts.join("\n---\n")
}

#[test]
fn a_request_in_pieces_gets_the_answer_of_a_whole_one() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    harness.append("s", "application/json", b"[1,2,3]");
    harness.create("closed", "text/plain");
    harness.append("closed", "text/plain", b"bye");
    harness.close("closed");
    let long = format!("GET /v1/stream/{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(9_000));
    let wide = format!("GET /v1/stream/s HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(33_000));
    let many = format!("GET /v1/stream/s HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(99));
    let too_many = format!("GET /v1/stream/s HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100));
    let mut differ = Vec::new();
    for request in [
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\nif-none-match: *\r\n\r\n",
        "GET /v1/stream/s?offset=-1 HTTP/1.1\r\nhost: x\r\naccept: application/vnd.fourfold.message+json\r\n\r\n",
        "GET /v1/stream/s?offset=now HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s?offset=now&live=long-poll&timeout=0 HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s?offset=now&live=long-poll&timeout=0 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "GET /v1/stream/s?offset=-1&live=long-poll HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/closed?offset=now&live=long-poll HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s?live=long-poll HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s?offset=x HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s?offset=-1&offset=now HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 12\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "GET /v1/stream/none HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/a%2 HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/a%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/%FF HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/a//b HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/../x HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s#f HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/%5F%5Fds/x HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Close\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi",
        "GET /v1/stream/s HTTP/1.0\r\n\r\n",
        "GET /v1/stream/s HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        "GET http://x/v1/stream/s HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: \u{e9}\r\n\r\n",
        "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\naccept: \u{e9}\r\nlast-event-id: \u{e9}\r\n\r\n",
        "HEAD /v1/stream/none HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /v1/stream/none HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[1",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\n[]",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\nproducer-id: x\r\ncontent-length: 2\r\n\r\n[]",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\nstream-seq: \u{e9}\r\ncontent-length: 2\r\n\r\n[]",
        "POST /v1/stream/closed HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi",
        "POST /v1/stream/closed HTTP/1.1\r\nhost: x\r\nstream-closed: true\r\n\r\n",
        "POST /v1/stream/closed HTTP/1.1\r\nhost: x\r\nstream-closed: true\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n",
        "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n[]",
        &long,
        &wide,
        &many,
        &too_many,
    ] {
        let (whole, pieces) =
            (answers(&harness, request.as_bytes(), false), answers(&harness, request.as_bytes(), true));
        if whole != pieces {
            differ.push(format!("{}\nWHOLE\n{whole}\nIN PIECES\n{pieces}\n", &request[..request.len().min(200)]));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("=======\n"));
    harness.still_serves();
}

#[test]
fn appends_cut_anywhere_are_appended_once_and_in_order() {
    let harness = Harness::start();
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let name = format!("cut/{seed}");
        harness.create(&name, "text/plain");
        // Long polls change hands: from hyper to its own task and back.
        let polls = ["offset=now", "offset=now&live=long-poll&timeout=0", "offset=-1&limit=1&live=long-poll&timeout=0"];
        let (mut sent, mut appended, mut statuses) = (Vec::new(), String::new(), Vec::new());
        for n in 0..60 {
            if random.u8(..3) == 0 {
                let query = random.choice(polls).expect("there are some");
                sent.extend(format!("GET /v1/stream/{name}?{query} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes());
                statuses.push(None);
                continue;
            }
            // Some end where the server's buffer does.
            let length = match random.u8(..4) {
                0 => READ_BUFFER_BYTES.saturating_sub(sent.len() % READ_BUFFER_BYTES + random.usize(60..100)),
                1 => random.usize(..2 * READ_BUFFER_BYTES),
                _ => random.usize(..100),
            };
            let record = format!("<{n}:{}>", "GET /v1/stream/x HTTP/1.1\r\n\r\n".repeat(length / 29));
            let head =
                format!("POST /v1/stream/{name} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length:");
            sent.extend(format!("{head} {}\r\n\r\n{record}", record.len()).into_bytes());
            appended += &record;
            statuses.push(Some(204));
        }
        let mut client = harness.connect();
        let tcp = client.tcp.try_clone().expect("another handle");
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut tcp, mut rest) = (tcp, &sent[..]);
                while !rest.is_empty() {
                    let piece = match random.u8(..3) {
                        0 => READ_BUFFER_BYTES,
                        1 => random.usize(1..100),
                        _ => random.usize(1..2 * READ_BUFFER_BYTES),
                    };
                    let (piece, behind) = rest.split_at(piece.min(rest.len()));
                    std::io::Write::write_all(&mut tcp, piece).expect("the server goes on");
                    rest = behind;
                    thread::yield_now();
                }
            });
            for (n, status) in statuses.iter().enumerate() {
                let answer = client.answer();
                let found = answer.head.status;
                assert!(
                    status.map_or([200, 204].contains(&found), |s| s == found),
                    "{seed}/{n}: {found} {}",
                    answer.text()
                );
            }
        });
        let mut read = String::new();
        let mut at = "-1".to_owned();
        while read.len() < appended.len() {
            let answer = harness.get(&format!("/v1/stream/{name}?offset={at}")).expect(200);
            at = answer.header("stream-next-offset").to_owned();
            assert!(!answer.body.is_empty(), "{seed}: something is missing");
            read += &answer.text();
        }
        assert!(read == appended, "{seed}: something is doubled or out of order");
    }
    harness.still_serves();
}
