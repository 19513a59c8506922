//! Clients that take their time: with their heads, with their bodies, with reading.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use fourfold_server::Settings;
use serde_json::{Value, json};

use crate::{
    harness::{Harness, PATIENCE, url},
    http::Client,
    live::Live,
    secured::{Certificate, VERSIONS, over, trusting},
    websocket::{Message, WebSocket},
};

/// Sends a byte every few milliseconds until the server has had enough of it, and gives what it said.
fn dribble(client: &mut Client, bytes: impl Iterator<Item = u8>) -> bool {
    client.tcp.set_nonblocking(true).expect("a socket option");
    let deadline = Instant::now() + PATIENCE;
    let mut has_answer = false;
    for byte in bytes {
        client.send([byte]);
        match client.tcp.peek(&mut [0]) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => {
                has_answer = true;
                break;
            }
        }
        assert!(Instant::now() < deadline, "the server waits for ever");
        thread::sleep(Duration::from_millis(5));
    }
    client.tcp.set_nonblocking(false).expect("a socket option");
    has_answer
}

#[test]
fn a_head_that_comes_byte_by_byte_is_cut_at_the_deadline() {
    let harness = Harness::with(|settings| settings.head_wait_max = Duration::from_millis(300));
    let mut client = harness.connect();
    client.send("GET /v1/stream/witness HTTP/1.1\r\nhost: x\r\nx: ");
    assert!(dribble(&mut client, std::iter::repeat(b'y')), "it is cut");
    let said = client.ended();
    assert!(!said.starts_with(b"HTTP/1.1 2"), "{}", said.escape_ascii());
    let mut silent = harness.connect();
    assert_eq!(silent.ended(), b"", "who says nothing is cut as well");
    let mut second = harness.connect();
    second.request("GET", "/v1/stream/witness", &[], b"");
    second.answer().expect(200);
    second.send("GET /v1/stream/witness HTTP/1.1\r\nhost: x\r\n");
    assert!(!second.ended().starts_with(b"HTTP/1.1 2"), "the second request has a deadline, too");
    drop((client, silent, second));
    harness.dismiss_witness(); // It was silent for too long as well.
    harness.wait_for_connections(0);
    harness.get(&url("witness")).expect(200);
}

#[test]
fn a_body_that_comes_byte_by_byte_is_refused_at_the_deadline() {
    let harness = Harness::with(|settings| settings.body_wait_max = Duration::from_millis(300));
    harness.create("s", "text/plain");
    for framing in ["content-length: 100000", "transfer-encoding: chunked"] {
        let mut client = harness.connect();
        client.send(format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n{framing}\r\n\r\n", url("s")));
        let body = if framing.starts_with('c') { "x" } else { "1\r\nx\r\n" };
        assert!(dribble(&mut client, body.bytes().cycle()), "it is refused");
        client.answer().problem(408, "request-timeout");
    }
    assert_eq!(harness.get(&url("s")).body, b"");
    harness.still_serves();
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has this line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// 20 readers that never read, a publisher of 64 MiB, and one reader that reads: it gets everything, at once and in order,
/// and what the others cost does not grow with what they leave.
#[test]
fn readers_that_never_read_cost_nobody_anything() {
    const APPENDS: usize = 256;
    const BYTES: usize = 256 * 1024;
    let harness = Harness::start();
    // Retention keeps the log itself small, so that what grows is what the readers cost.
    harness.create_with("s", "text/plain", &[("stream-retention-records", "4")]);
    let mut stalled = Vec::new();
    for n in 0..20 {
        let mut client = Client::connect_narrow(harness.address);
        match n % 3 {
            0 => client.request("GET", "/v1/stream/s?offset=-1&live=sse", &[], b""),
            1 => {
                let accept = [("accept", "application/x-ndjson")];
                client.request("GET", "/v1/stream/s?offset=-1&live=long-poll", &accept, b"");
            }
            _ => client = WebSocket::on(client, "s", "-1", false).client,
        }
        stalled.push(client);
    }
    let mut reader = WebSocket::greeted(&harness, "s");
    let mut publisher = harness.connect();
    let mut before = 0;
    for n in 0..APPENDS {
        if n == 64 {
            before = resident_bytes(); // Everybody has stalled by now.
        }
        let record = format!("{n:08}").repeat(BYTES / 8);
        publisher.request("POST", &url("s"), &[("content-type", "text/plain")], record.as_bytes());
        publisher.answer().expect(204);
        let Message::Json(message) = reader.message() else { panic!("the reader was let go") };
        assert!(message.get("gap").is_none(), "the reader that reads misses nothing");
        assert!(message["records"][0] == *record, "record {n} is not what came");
        harness.still_serves(); // Also so that the witness is not let go for its silence, where this takes long.
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "48 MiB more were published, and memory grew by {grown} bytes");
    drop(stalled);
    drop((reader, publisher));
    harness.wait_for_connections(1);
    harness.still_serves();
}

#[test]
fn a_stalled_reader_goes_on_where_it_was() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let client = Client::connect_narrow(harness.address);
    let mut live = Live::on(client, "/v1/stream/s?offset=-1&live=sse", &[]);
    for n in 0..64 {
        harness.append("s", "text/plain", format!("{n:04}").repeat(64 * 1024).as_bytes());
    }
    harness.still_serves();
    for n in 0..64 {
        assert!(live.event_named("data").data == format!("{n:04}").repeat(64 * 1024), "record {n} is not what came");
    }
}

/// Records of the stream that readers stall on: more than the kernel holds for them.
const MANY: usize = 64;

fn record(n: usize) -> String {
    format!("{n:04}").repeat(15_000)
}

/// A server that waits for no reader for long.
fn impatient(set: impl FnOnce(&mut Settings)) -> Harness {
    let harness = Harness::with(|settings| {
        settings.limits.stall_wait_max = Duration::from_millis(300);
        set(settings);
    });
    harness.create("s", "text/plain");
    for n in 0..MANY {
        harness.append("s", "text/plain", record(n).as_bytes());
    }
    harness
}

/// What was read, and behind a goodbye that says so from where to go on.
fn goes_on(harness: &Harness, mut read: String, goodbye: &Value) {
    assert_eq!(goodbye["goodbye"], json!({ "code": "too-slow", "reconnectAfterMs": 0 }), "{goodbye}");
    let mut offset = goodbye["streamNextOffset"].as_str().expect("an offset").to_owned();
    assert!(read.len() < MANY * record(0).len(), "it was let go before the end");
    loop {
        let rest = harness.get(&url(&format!("s?offset={offset}"))).expect(200);
        if rest.body.is_empty() {
            break;
        }
        rest.header("stream-next-offset").clone_into(&mut offset);
        read += &rest.text();
    }
    assert!(read == (0..MANY).map(record).collect::<String>(), "something is lost, doubled or cut");
}

fn records(message: &Value) -> String {
    let records = message["records"].as_array().into_iter().flatten();
    records.map(|record| record.as_str().expect("text")).collect()
}

#[test]
fn who_took_no_events_for_too_long_finds_a_goodbye_with_the_offset() {
    let harness = impatient(|_| {});
    let mut client = Client::connect_narrow(harness.address);
    client.request("GET", &url("s?offset=-1&live=sse"), &[], b"");
    client.is_answered();
    harness.wait_for_connections(1); // It was let go.
    let mut live = Live::begun(client);
    let mut read = String::new();
    let goodbye = loop {
        let event = live.event().expect("a goodbye before the end");
        match event.name.as_str() {
            "data" => read += &event.data,
            "goodbye" => break event,
            _ => {}
        }
    };
    assert_eq!(live.event(), None);
    goes_on(&harness, read, &serde_json::from_str(&goodbye.data).unwrap());
    harness.still_serves();
}

#[test]
fn who_took_no_lines_for_too_long_finds_a_goodbye_with_the_offset() {
    let harness = impatient(|_| {});
    let mut client = Client::connect_narrow(harness.address);
    let target = url("s?offset=-1&live=long-poll&timeout=60");
    client.request("GET", &target, &[("accept", "application/x-ndjson")], b"");
    client.is_answered();
    harness.wait_for_connections(1);
    let mut live = Live::begun(client);
    let mut read = String::new();
    let goodbye = loop {
        let line = live.line().expect("a goodbye before the end");
        if line.get("goodbye").is_some() {
            break line;
        }
        read += &records(&line);
    };
    assert_eq!(live.line(), None);
    goes_on(&harness, read, &goodbye);
}

#[test]
fn who_took_no_messages_for_too_long_finds_a_goodbye_with_the_offset_and_a_close_code() {
    let harness = impatient(|_| {});
    let mut socket = WebSocket::on(Client::connect_narrow(harness.address), "s", "-1", false);
    harness.wait_for_connections(1);
    let mut read = String::new();
    let goodbye = loop {
        let message = socket.json();
        if message.get("goodbye").is_some() {
            break message;
        }
        read += &records(&message);
    };
    assert_eq!(socket.message(), Message::Close(4408, "too-slow".into()));
    goes_on(&harness, read, &goodbye);
}

#[test]
fn who_stalls_in_a_frame_that_is_too_large_to_finish_is_only_cut() {
    let harness = impatient(|_| {});
    harness.create("large", "text/plain");
    harness.append("large", "text/plain", "x".repeat(8 << 20).as_bytes());
    let mut client = Client::connect_narrow(harness.address);
    client.request("GET", &url("large?offset=-1&live=sse"), &[], b"");
    client.is_answered();
    harness.wait_for_connections(1);
    let said = client.ended();
    assert!(said.len() < 8 << 20 && !String::from_utf8_lossy(&said).contains("goodbye"));
    harness.still_serves();
}

#[test]
fn over_tls_a_stalled_reader_finds_its_goodbye_as_well() {
    let harness = impatient(|settings| settings.tls = Some(Certificate::new().tls()));
    harness.wait_for_connections(1); // Those that appended have gone through their tunnel.
    let client = Client::connect_narrow(harness.listens);
    let mut stream = over(client.tcp, trusting(&["http/1.1"], &VERSIONS));
    let request = format!("GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", url("s?offset=-1&live=sse"));
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut first = [0; 15];
    stream.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    harness.wait_for_connections(1); // It was let go.
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("TLS is ended as it should be");
    let said = String::from_utf8(said).expect("text");
    let (_, goodbye) = said.split_once("event: goodbye\n").expect("a goodbye");
    assert!(goodbye.contains(r#""code":"too-slow""#) && goodbye.ends_with("\r\n0\r\n\r\n"), "{goodbye}");
}
