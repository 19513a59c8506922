//! What goes in comes out the same, by every transport.

use std::fs;

use crate::harness::{Server, TRANSPORTS, fourfold, numbered};

#[test]
fn json_lines_come_out_to_the_letter_by_every_transport() {
    let server = Server::start();
    let lines = numbered(0..3_000);
    let appended = server.append_lines("a/json", &["--json", "--close"], &lines).succeeded();
    assert!(appended.lines[0].starts_with("appended 3000 records to a/json and closed it; the next offset is "));
    for transport in TRANSPORTS {
        let tail = server.tail("a/json", &["--offset", "-1", "--transport", transport]).finish().succeeded();
        assert!(tail.lines == lines, "{transport}: {} lines", tail.lines.len());
    }
}

#[test]
fn text_lines_come_out_as_they_went_in_by_every_transport() {
    let server = Server::start();
    let mut lines: Vec<String> = (0..2_000).map(|n| format!("line {n}: \"zwölf\" \\ \t data: {{}}")).collect();
    lines.insert(7, String::new());
    server.append_lines("a/text", &["--close"], &lines).succeeded();
    for transport in TRANSPORTS {
        let tail = server.tail("a/text", &["--offset", "-1", "--transport", transport]).finish().succeeded();
        assert!(tail.lines == lines, "{transport}: {} lines", tail.lines.len());
    }
}

#[test]
fn a_whole_file_of_bytes_comes_out_in_base64() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bytes");
    fs::write(&file, [0xff, 0x00]).unwrap();
    let arguments = ["--content-type", "image/png", "--whole", "--close", file.to_str().unwrap()];
    server.append("a/bytes", &arguments).finish().succeeded();
    for transport in TRANSPORTS {
        let tail = server.tail("a/bytes", &["--offset", "-1", "--transport", transport]).finish().succeeded();
        assert_eq!(tail.lines, ["/wA="], "{transport}");
    }
}

#[test]
fn a_live_tail_prints_what_comes_and_stops_at_its_limit() {
    let server = Server::start();
    server.append_lines("live", &["--json"], &numbered(0..10)).succeeded();
    let tails = TRANSPORTS.map(|transport| {
        let tail = server.tail("live", &["--offset", "-1", "--limit", "15", "--transport", transport]);
        assert_eq!(tail.line(), numbered(0..1)[0], "{transport}");
        tail
    });
    server.append_lines("live", &["--json"], &numbered(10..20)).succeeded();
    for (tail, transport) in tails.into_iter().zip(TRANSPORTS) {
        assert_eq!(tail.finish().succeeded().lines, numbered(1..15), "{transport}");
    }
}

#[test]
fn now_skips_what_was_there() {
    let server = Server::start();
    server.append_lines("now", &["--json"], &numbered(0..10)).succeeded();
    for transport in TRANSPORTS {
        // With --json the first message says where the reader stands: then it is there.
        let tail = server.tail("now", &["--json", "--limit", "1", "--transport", transport]);
        let first: serde_json::Value = serde_json::from_str(&tail.line()).unwrap();
        assert!(first.get("records").is_none() && first["streamNextOffset"].is_string(), "{transport}: {first}");
        server.append_lines("now", &["--json"], &["\"new\"".into()]).succeeded();
        let message: serde_json::Value = serde_json::from_str(&tail.line()).unwrap();
        assert_eq!(message["records"], serde_json::json!(["new"]), "{transport}");
        tail.finish().succeeded();
    }
}

#[test]
fn an_offset_that_was_printed_goes_on_from_there_by_another_transport() {
    let server = Server::start();
    server.append_lines("switch", &["--json"], &numbered(0..4)).succeeded();
    let first = server.tail("switch", &["--offset", "-1", "--json", "--limit", "4"]).finish().succeeded();
    let last: serde_json::Value = serde_json::from_str(first.lines.last().unwrap()).unwrap();
    let offset = last["streamNextOffset"].as_str().unwrap();
    server.append_lines("switch", &["--json", "--close"], &numbered(4..6)).succeeded();
    for transport in TRANSPORTS {
        let tail = server.tail("switch", &["--offset", offset, "--transport", transport]).finish().succeeded();
        assert_eq!(tail.lines, numbered(4..6), "{transport}");
    }
}

#[test]
fn a_url_may_end_in_a_slash() {
    let server = Server::start();
    server.append_lines("a", &["--json", "--close"], &numbered(0..1)).succeeded();
    let url = format!("{}/", server.url());
    let tail = fourfold(&["tail", "a", "--offset", "-1", "--url", &url]).finish().succeeded();
    assert_eq!(tail.lines, numbered(0..1));
}
