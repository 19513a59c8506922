//! A fork is read on every transport as any stream is, through the fork point and on.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use crate::harness::{DEADLINE, Server, TRANSPORTS, numbered};

/// Sends a request without a body; the answer up to the end of the connection.
fn request(server: &Server, head: &str) -> String {
    let mut socket = connect(server, head);
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn connect(server: &Server, head: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = head.replace('\n', "\r\n");
    write!(socket, "{head}\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    socket
}

fn fork(server: &Server, fork: &str, from: &str, more: &str) {
    let answer =
        request(server, &format!("PUT /v1/stream/{fork} HTTP/1.1\nStream-Forked-From: /v1/stream/{from}{more}"));
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

#[test]
fn a_chain_of_forks_is_followed_by_every_transport() {
    let mut server = Server::start();
    let told = server.append_lines("s", &["--json"], &numbered(0..1_500)).succeeded();
    let (_, middle) = told.lines[0].rsplit_once(' ').expect("the line ends in the next offset");
    server.append_lines("s", &["--json"], &numbered(1_500..3_000)).succeeded();
    fork(&server, "f", "s", &format!("\nStream-Fork-Offset: {middle}"));
    server.append_lines("f", &["--json"], &numbered(7_000..7_010)).succeeded();
    fork(&server, "ff", "f", "");
    let expected = [numbered(0..1_500), numbered(7_000..7_010), numbered(9_000..9_020)].concat();
    let tails = TRANSPORTS.map(|transport| {
        let tail = server.tail("ff", &["--offset", "-1", "--limit", "1530", "--transport", transport]);
        assert_eq!(tail.line(), expected[0], "{transport}");
        tail
    });
    // Neither of these is for the fork's readers.
    server.append_lines("s", &["--json"], &numbered(0..3)).succeeded();
    server.append_lines("f", &["--json"], &numbered(0..3)).succeeded();
    server.append_lines("ff", &["--json", "--close"], &numbered(9_000..9_020)).succeeded();
    for (tail, transport) in tails.into_iter().zip(TRANSPORTS) {
        assert!(tail.finish().succeeded().lines == expected[1..], "{transport}");
    }
    // A reader of the source goes on at its fork with the offset in hand, also after a crash.
    server.kill();
    server.restart();
    for transport in TRANSPORTS {
        let tail = server.tail("ff", &["--offset", middle, "--transport", transport]).finish().succeeded();
        assert!(tail.lines == expected[1_500..], "{transport}");
    }
}

#[test]
fn every_event_of_a_fork_has_an_id_that_can_be_resumed() {
    let server = Server::start();
    let lines = ["a", "b", "c"].map(str::to_owned);
    server.append_lines("s", &[], &lines).succeeded();
    fork(&server, "f", "s", "");
    server.append_lines("f", &["--close"], &["d".to_owned(), "e".to_owned()]).succeeded();
    let events = |id: &str| {
        let socket = connect(&server, &format!("GET /v1/stream/f?live=sse&offset=-1 HTTP/1.1\nLast-Event-ID: {id}"));
        let mut events = Vec::new();
        let mut data = None;
        for line in BufReader::new(socket).lines() {
            let line = line.unwrap();
            assert!(!line.starts_with("event: gap"), "{id}");
            if line == "event: data" {
                data = Some(String::new());
            } else if let (Some(text), Some(now)) = (&mut data, line.strip_prefix("data:")) {
                text.push_str(now);
            } else if let (Some(text), Some(id)) = (&data, line.strip_prefix("id: ")) {
                events.push((text.clone(), id.to_owned()));
                data = None;
            }
        }
        events
    };
    let all = events("-1");
    assert_eq!(all.iter().map(|(data, _)| data.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    assert!(all.is_sorted_by(|(_, a), (_, b)| a < b), "{all:?}");
    for (n, (_, id)) in all.iter().enumerate() {
        assert_eq!(events(id), all[n + 1..], "{id}");
    }
}

#[test]
fn an_answer_from_an_earlier_fork_at_the_same_url_is_not_taken_for_this_one() {
    let server = Server::start();
    let told = server.append_lines("s", &[], &["a".to_owned(), "b".to_owned()]).succeeded();
    let (_, tail) = told.lines[0].rsplit_once(' ').unwrap();
    let start = tail.replace("_0000000000000002", "_0000000000000000");
    let url = format!("/v1/stream/f?limit=1&offset={start}");
    let get = |tag: &str| request(&server, &format!("GET {url} HTTP/1.1\nIf-None-Match: {tag}"));
    let mut tags = Vec::new();
    for _ in 0..2 {
        fork(&server, "f", "s", "");
        let answer = get("none");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("cache-control: no-cache\r\n"), "{answer}");
        let (_, tag) = answer.split_once("etag: ").unwrap();
        let tag = tag.lines().next().unwrap();
        assert!(get(tag).starts_with("HTTP/1.1 304 "));
        tags.push(tag.to_owned());
        assert!(request(&server, "DELETE /v1/stream/f HTTP/1.1").starts_with("HTTP/1.1 204 "));
    }
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn forks_are_listed_with_their_source() {
    let server = Server::start();
    let told = server.append_lines("s", &["--json"], &numbered(0..2)).succeeded();
    let (_, tail) = told.lines[0].rsplit_once(' ').unwrap();
    fork(&server, "f", "s", "");
    assert!(request(&server, "DELETE /v1/stream/s HTTP/1.1").starts_with("HTTP/1.1 204 "));
    let list = request(&server, "GET /v1/stream/ HTTP/1.1");
    assert!(list.contains(r#""name":"f""#) && !list.contains(r#""name":"s""#), "{list}");
    assert!(list.contains(r#""forkedFrom":"s""#) && list.contains(&format!(r#""forkOffset":"{tail}""#)), "{list}");
    let gone = request(&server, "GET /v1/stream/s HTTP/1.1");
    assert!(gone.starts_with("HTTP/1.1 410 ") && gone.contains(r#""code":"stream-gone""#), "{gone}");
}
