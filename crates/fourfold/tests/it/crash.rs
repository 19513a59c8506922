//! The server is killed or drained in the middle: nothing is lost, nothing comes twice, nobody has to do anything.

use std::{io::Write, sync::mpsc::channel, thread};

use rustix::process::Signal;

use crate::harness::{Running, Server, TRANSPORTS, numbered};

const PART: u64 = 4_000;

/// Takes lines until this many have come.
fn take(tail: &Running, lines: &mut Vec<String>, until: usize) {
    while lines.len() < until {
        lines.push(tail.line());
    }
}

/// Appends three parts while the server goes away between them in the way of `restart`, and tails all the while.
fn nothing_is_lost_or_doubled(restart: impl Fn(&mut Server)) {
    let mut server = Server::start();
    server.append_lines("s", &["--json"], &[]).succeeded();
    let tails = TRANSPORTS.map(|transport| server.tail("s", &["--offset", "-1", "--transport", transport]));
    let mut lines: [Vec<String>; 4] = Default::default();

    let mut append = server.append("s", &["--json", "--close"]);
    let mut stdin = append.stdin();
    let (go, gate) = channel::<()>();
    let writer = thread::spawn(move || {
        for part in 0..3 {
            gate.recv().expect("the test opens the gate three times");
            for line in numbered(part * PART..(part + 1) * PART) {
                writeln!(stdin, "{line}").expect("append reads its input to the end");
            }
        }
    });
    for part in 0..3 {
        go.send(()).unwrap();
        // Some of this part has come, the rest is on its way, and on the last round nothing is between it and the end.
        let until = usize::try_from(part * PART + 1).unwrap();
        for (tail, lines) in tails.iter().zip(&mut lines) {
            take(tail, lines, until);
        }
        restart(&mut server);
    }
    writer.join().unwrap();
    let appended = append.finish().succeeded();
    assert!(appended.lines[0].starts_with("appended 12000 records to s and closed it"), "{:?}", appended.lines);
    let expected = numbered(0..3 * PART);
    for ((tail, mut lines), transport) in tails.into_iter().zip(lines).zip(TRANSPORTS) {
        lines.extend(tail.finish().succeeded().lines);
        let differs = lines.iter().zip(&expected).position(|(came, sent)| came != sent);
        assert!(lines == expected, "{transport}: {} lines, the first that differs is {differs:?}", lines.len());
    }
}

#[test]
fn nothing_is_lost_or_doubled_over_three_kills() {
    nothing_is_lost_or_doubled(|server| {
        server.kill();
        server.restart();
    });
}

#[test]
fn nothing_is_lost_or_doubled_over_three_drains() {
    nothing_is_lost_or_doubled(|server| {
        server.terminate().succeeded();
        server.restart();
    });
}

#[test]
fn an_interrupted_tail_says_where_to_go_on() {
    let server = Server::start();
    server.append_lines("s", &["--json"], &numbered(0..5)).succeeded();
    for transport in TRANSPORTS {
        let tail = server.tail("s", &["--offset", "-1", "--transport", transport]);
        let mut lines = Vec::new();
        take(&tail, &mut lines, 5);
        tail.signal(Signal::INT);
        let finished = tail.finish();
        assert_eq!(finished.code, Some(130), "{transport}");
        let (_, offset) = finished.failed().split_once("interrupted; go on with --offset ").expect(transport);
        let next = server.tail("s", &["--offset", offset, "--limit", "1", "--transport", transport, "--json"]);
        let here: serde_json::Value = serde_json::from_str(&next.line()).unwrap();
        assert!(here.get("records").is_none() && here["upToDate"] == true, "{transport}: {here}");
    }
}
