//! Whatever is read before anybody knows who asks, put together at random and mutated, over real sockets: every answer is a well-formed one, none
//! says that the server failed, and the others do not notice.
//!
//! ```text
//! FOURFOLD_FUZZ_ROUNDS=100000 cargo test -p fourfold-server --test it fuzz
//! ```
//!
//! The seed is fixed, so that a run repeats; `FOURFOLD_FUZZ_SEED` sets another, and a failure prints the one to repeat it with.

use std::{
    collections::BTreeMap,
    env,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    str,
    time::Duration,
};

use crate::harness::Harness;

const ROUNDS: u64 = 600;

/// Nothing asked for here waits so long.
const SILENCE: Duration = Duration::from_millis(700);

const METHODS: [&str; 8] = ["GET", "GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "BREW"];

const PATHS: [&str; 16] = [
    "/v1/stream/s",
    "/v1/stream/s",
    "/v1/stream/text/b",
    "/v1/stream/none",
    "/v1/stream/",
    "/v1/stream/a%2Fb",
    "/v1/stream/%2e%2e/x",
    "/v1/stream/%E4%B8%96/%00",
    "/v1/stream/__ds/subscriptions/a",
    "/v1/stream/__ds/keys",
    "/v1/call/x",
    "/v1/calls/",
    "/",
    "*",
    "http://x/v1/stream/s",
    "//v1/stream/s",
];

const QUERIES: [&str; 22] = [
    "offset=-1",
    "offset=now",
    "offset=000000000001_0000000000000000",
    "offset=ffffffffffff_9999999999999999",
    "live=sse",
    "live=long-poll",
    "live=websocket",
    "timeout=0.01",
    "timeout=1e9",
    "limit=1",
    "limit=18446744073709551616",
    "linger=5",
    "heartbeat=1",
    "records=none",
    "cursor=99999999999999999999",
    "prefix=%ff",
    "after=a%20b",
    "access_token=eyJhbGciOiJub25lIn0.e30.",
    "access_token=a.b.c",
    "=",
    "%",
    "offset",
];

const HEADERS: [&str; 36] = [
    "host: x",
    "accept: text/event-stream",
    "accept: application/x-ndjson, */*;q=0.1",
    "accept: application/vnd.fourfold.message+json",
    "if-none-match: W/\"000000000001:0:1\", *",
    "last-event-id: 000000000001_0000000000000000",
    "last-event-id: -1",
    "authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA",
    "authorization: bearer",
    "authorization: Basic YTpi",
    "cookie: a=b; fourfold=eyJhbGciOiJub25lIn0.e30.; fourfold=",
    "cookie: ;;=; \"",
    "origin: https://elsewhere.example",
    "origin: null",
    "forwarded: for=\"[2001:db8::1]:80\";by=_x, for=192.0.2.1;proto=https",
    "x-forwarded-for: 192.0.2.1, ::1, unknown, 1.2.3.4:5",
    "x-forwarded-proto: https",
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 12\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol: fourfold, bearer.eyJhbGciOiJub25lIn0.e30.",
    "sec-websocket-protocol: ,, \"",
    "sec-websocket-extensions: permessage-deflate; client_max_window_bits, x; y=\"z\\\"\"",
    "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
    "content-type: application/json",
    "content-type: text/plain; charset=utf-8",
    "content-type: ;;",
    "producer-id: p\r\nproducer-epoch: 0\r\nproducer-seq: 0",
    "producer-id: \u{e9}\r\nproducer-epoch: -1",
    "stream-forked-from: /v1/stream/s",
    "stream-fork-offset: now",
    "stream-ttl: 99999999999999999999",
    "stream-expires-at: 2100-13-99T00:00:00Z",
    "idempotency-key: \"k\"",
    "expect: 100-continue",
    "transfer-encoding: chunked",
    "access-control-request-method: POST",
];

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const BODIES: [&str; 5] = ["", "", "[1]", "5\r\nhello\r\n0\r\n\r\n", "\u{e9}\0"];

fn any<'a>(random: &mut fastrand::Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(..of.len())]
}

fn request(random: &mut fastrand::Rng) -> Vec<u8> {
    // Every fourth is a handshake to begin with: chance alone makes few that are whole.
    let upgrades = random.u8(..4) == 0;
    let (method, path) = if upgrades { ("GET", "/v1/stream/s") } else { (any(random, &METHODS), any(random, &PATHS)) };
    let mut text = format!("{method} {path}");
    for n in 0..random.usize(..4) {
        text.push(if n == 0 { '?' } else { '&' });
        text.push_str(any(random, &QUERIES));
    }
    text.push_str(" HTTP/1.1\r\n");
    if random.u8(..8) > 0 {
        text.push_str("host: x\r\n");
    }
    if upgrades {
        text.push_str(UPGRADE);
    }
    for _ in 0..random.usize(..5) {
        text.push_str(any(random, &HEADERS));
        text.push_str("\r\n");
    }
    let body = any(random, &BODIES);
    if random.bool() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    let mut bytes = text.into_bytes();
    // Half of them as they are: the tables are evil enough.
    for _ in 0..random.usize(..6).saturating_sub(2) {
        if bytes.is_empty() {
            break;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..6) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, *random.choice(b"\r\n\0 \t:,;=\"#?%/\\\xff\x7f_09").expect("it is not empty")),
            3 => bytes.truncate(at + 1),
            4 => {
                let end = (at + random.usize(..40)).min(bytes.len());
                bytes.extend_from_within(at..end);
            }
            _ => drop(bytes.splice(at..at, any(random, &HEADERS).bytes()).count()),
        }
    }
    bytes
}

/// What comes, up to the end, or as much as there is until the server has no more to say.
fn answer(harness: &Harness, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(harness.address).expect("the server listens");
    socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
    // It may have hung up before it was told all.
    let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut piece) {
            Ok(0) => return all,
            Ok(read) => all.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return all,
            Err(error) => panic!("{error}"),
        }
        // A live read goes on; its head and first words say enough.
        if all.len() > 64 << 10 || is_live(&all) {
            return all;
        }
    }
}

fn is_live(all: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&all[..all.len().min(2048)]).to_ascii_lowercase();
    head.contains("\r\n\r\n")
        && (head.starts_with("http/1.1 101")
            || head.contains("content-type: text/event-stream")
            || head.contains("content-type: application/x-ndjson"))
}

/// The status of the first answer, if there is any; panics if it is not well-formed.
fn checked(request: &[u8], all: &[u8]) -> Option<u16> {
    if all.is_empty() {
        return None;
    }
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").expect("the head is whole");
    let head = str::from_utf8(&all[..end]).expect("the head is text");
    let mut lines = head.split("\r\n");
    let first = lines.next().expect("a line");
    let status: u16 =
        first.strip_prefix("HTTP/1.1 ").or(first.strip_prefix("HTTP/1.0 ")).expect(first)[..3].parse().expect(first);
    assert!((100..500).contains(&status) || matches!(status, 501 | 503 | 505 | 507), "{head}");
    let mut headers = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').expect(line);
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{line:?}");
        assert!(!value.chars().any(char::is_control), "{line:?}");
        headers.insert(name.to_ascii_lowercase(), value.trim());
    }
    let has_body = [&b"GET "[..], b"POST ", b"PUT ", b"DELETE "].iter().any(|method| request.starts_with(method));
    if has_body
        && headers.get("content-type") == Some(&"application/problem+json")
        && let Some(length) = headers.get("content-length").and_then(|length| length.parse::<usize>().ok())
        && let Some(body) = all.get(end + 4..end + 4 + length)
    {
        let problem: serde_json::Value = serde_json::from_slice(body).expect("a problem is JSON");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["code"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    Some(status)
}

#[test]
fn no_request_of_anybody_makes_the_server_fail() {
    let from_env = |key: &str| env::var(key).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let (rounds, seed) =
        (from_env("FOURFOLD_FUZZ_ROUNDS").unwrap_or(ROUNDS), from_env("FOURFOLD_FUZZ_SEED").unwrap_or(6455));
    let harness = Harness::with(|settings| settings.long_poll_timeout = Duration::from_millis(20));
    harness.create("s", "application/json");
    harness.create("text/b", "text/plain");
    let mut seen = BTreeMap::<u16, u64>::new();
    for round in 0..rounds {
        let bytes = request(&mut fastrand::Rng::with_seed(seed.wrapping_add(round)));
        let told =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| checked(&bytes, &answer(&harness, &bytes))));
        match told {
            Ok(status) => *seen.entry(status.unwrap_or(0)).or_default() += 1,
            Err(panicked) => {
                eprintln!("round {round} broke on b\"{}\"", bytes.escape_ascii());
                eprintln!("FOURFOLD_FUZZ_SEED={} FOURFOLD_FUZZ_ROUNDS=1", seed.wrapping_add(round));
                std::panic::resume_unwind(panicked);
            }
        }
        if round % 100 == 0 {
            // One of the requests may have deleted or closed it.
            harness.ask("PUT", "/v1/stream/s", &[("content-type", "application/json")], b"");
            harness.still_serves();
        }
    }
    harness.still_serves();
    eprintln!("{rounds} rounds: {seen:?}");
    assert!(
        rounds < ROUNDS || (seen.contains_key(&200) && seen.contains_key(&400) && seen.contains_key(&101)),
        "{seen:?}"
    );
}
