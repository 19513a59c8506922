//! What cannot be done is said in one line, with a code that scripts see.

use std::fs;

use crate::harness::{Server, TRANSPORTS, fourfold, numbered};

#[test]
fn an_unknown_stream_is_one_line() {
    let server = Server::start();
    for transport in TRANSPORTS {
        let finished = server.tail("nobody/here", &["--transport", transport]).finish();
        assert!(finished.failed().contains("there is no stream 'nobody/here'"), "{transport}");
        assert_eq!(finished.code, Some(2), "{transport}");
    }
}

#[test]
fn an_offset_that_is_none_is_one_line() {
    let server = Server::start();
    server.append_lines("s", &["--json"], &numbered(0..1)).succeeded();
    for transport in TRANSPORTS {
        let finished = server.tail("s", &["--offset", "12", "--transport", transport]).finish();
        assert!(finished.failed().contains("invalid-offset"), "{transport}: {}", finished.stderr);
        assert_eq!(finished.code, Some(2), "{transport}");
    }
}

#[test]
fn a_port_that_is_taken_is_one_line() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let finished = fourfold(&["serve", "--log", "off", "--listen", &server.address(), "--data-dir", data]).finish();
    assert!(finished.failed().contains(&format!("cannot listen on {}", server.address())));
}

#[test]
fn a_data_directory_in_use_is_one_line() {
    let server = Server::start();
    let data = server.data_dir();
    let finished = fourfold(&["serve", "--log", "off", "--listen", "127.0.0.1:0", "--data-dir", &data]).finish();
    assert!(finished.failed().contains(&data));
}

#[test]
fn a_data_directory_that_cannot_be_written_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let data = file.join("data");
    let data = data.to_str().unwrap();
    let finished = fourfold(&["serve", "--log", "off", "--listen", "127.0.0.1:0", "--data-dir", data]).finish();
    assert!(finished.failed().contains(data));
}

#[test]
fn nothing_after_a_line_that_is_not_json_is_appended() {
    let server = Server::start();
    let lines = ["1".to_owned(), "{\"a\":".to_owned(), "3".to_owned()];
    let finished = server.append_lines("s", &["--json"], &lines);
    assert!(finished.failed().contains("standard input line 2 is not JSON: "), "{}", finished.stderr);
    assert!(finished.failed().ends_with("; appended 1 record before it"), "{}", finished.stderr);
    server.append_lines("s", &["--json", "--close"], &[]).succeeded();
    assert_eq!(server.tail("s", &["--offset", "-1"]).finish().succeeded().lines, ["1"]);
}

#[test]
fn another_content_type_is_one_line_and_none_is_the_stream_s_own() {
    let server = Server::start();
    server.append_lines("s", &["--json"], &numbered(0..1)).succeeded();
    let finished = server.append_lines("s", &["--content-type", "text/plain"], &numbered(1..2));
    assert!(finished.failed().contains("'s' exists with content type application/json, not text/plain"));
    server.append_lines("s", &[], &numbered(1..2)).succeeded();
}

#[test]
fn a_closed_stream_takes_no_more() {
    let server = Server::start();
    server.append_lines("s", &["--close"], &numbered(0..1)).succeeded();
    let finished = server.append_lines("s", &[], &numbered(1..2));
    assert!(finished.failed().contains("the stream 's' is closed"));
}
