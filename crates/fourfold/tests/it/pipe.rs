//! `fourfold tail … | head`.

use std::time::Instant;

use crate::harness::{DEADLINE, Server, TRANSPORTS, numbered};

#[test]
fn a_reader_that_has_enough_ends_the_tail_quietly() {
    let server = Server::start();
    server.append_lines("s", &["--json"], &numbered(0..3)).succeeded();
    for transport in TRANSPORTS {
        let mut tail = server.tail("s", &["--offset", "-1", "--transport", transport]);
        assert_eq!(tail.line(), numbered(0..1)[0], "{transport}");
        tail.hang_up();
        // The reading thread of the harness notices on its next line, the tail on the one after that.
        let began = Instant::now();
        while !tail.has_ended() {
            assert!(began.elapsed() < DEADLINE, "{transport} goes on without a reader");
            server.append_lines("s", &["--json"], &numbered(3..4)).succeeded();
        }
        let finished = tail.finish().succeeded();
        assert_eq!(finished.stderr, "", "{transport}");
    }
}
