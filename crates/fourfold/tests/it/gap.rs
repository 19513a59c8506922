//! Records that retention has dropped are told, and the tail goes on behind them.

use std::time::Instant;

use crate::harness::{DEADLINE, Server, TRANSPORTS, numbered};

#[test]
fn a_gap_is_told_and_the_tail_goes_on_behind_it() {
    let server = Server::start_with(&["--retention-records", "5"]);
    let appended = server.append_lines("s", &["--json"], &numbered(0..1)).succeeded();
    let (_, offset) = appended.lines[0].rsplit_once(' ').expect("the line ends in the next offset");
    server.append_lines("s", &["--json", "--close"], &numbered(1..3_000)).succeeded();
    for transport in TRANSPORTS {
        let began = Instant::now();
        let tail = loop {
            // Retention drops records some time after they may go.
            let tail = server.tail("s", &["--offset", offset, "--transport", transport]).finish().succeeded();
            if !tail.stderr.is_empty() {
                break tail;
            }
            assert!(began.elapsed() < DEADLINE, "{transport}: nothing was dropped");
        };
        let told = format!("fourfold: gap: retention has dropped the records from {offset} to ");
        assert!(tail.stderr.starts_with(&told) && tail.stderr.lines().count() == 1, "{transport}: {}", tail.stderr);
        assert_eq!(tail.lines, numbered(3_000 - tail.lines.len() as u64..3_000), "{transport}");
        assert!(tail.lines.len() >= 5, "{transport}");
    }
}
