//! A collector that does not do its part costs nobody anything.

use std::{fmt::Write, net::TcpListener};

use fourfold_server::limits::{TRACE_SPANS_SENT_MAX, TRACE_SPANS_WAITING_MAX};

use crate::{
    collector::{Collector, Temper},
    server::{Server, request},
};

/// Four spans each, several times what may wait.
const APPENDS: usize = 3_000;

#[test]
fn a_collector_that_hangs_slows_no_append_and_what_waits_for_it_is_bounded() {
    let collector = Collector::start(Temper::Hangs);
    let server = Server::start(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "1")], &["--engine", "memory"]);
    assert!(server.append("").starts_with("HTTP/1.1 204"));
    collector.export(); // From now on it hangs.
    let mut appends = request("a", "", "x").repeat(APPENDS - 1);
    write!(appends, "{}", request("a", "connection: close\r\n", "x")).expect("a string takes it");
    let answers = server.exchange(&appends);
    assert_eq!(answers.matches("HTTP/1.1 204").count(), APPENDS);
    assert!(!collector.was_given_up(), "all were answered while the collector hung");
    let log = server.end().stderr;
    let count = log.split("dropped_span_count=").nth(1).unwrap_or_else(|| panic!("no count in {log}"));
    let dropped: usize = count.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a number");
    let kept = 4 * (APPENDS + 1) - dropped;
    assert!(kept <= TRACE_SPANS_WAITING_MAX + 2 * TRACE_SPANS_SENT_MAX, "{kept} spans were kept");
}

#[test]
fn a_collector_that_is_not_there_or_refuses_is_told_of_and_fails_no_append() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let refusing = Collector::start(Temper::Refuses);
    for (url, told) in [(nobody, "the collector has not taken the traces"), (refusing.url(), "ExportError")] {
        let server = Server::start(&url, &[], &[]);
        for _ in 0..3 {
            assert!(server.append("").starts_with("HTTP/1.1 204"));
        }
        let log = server.end().stderr;
        assert!(log.contains(told), "{told} is not in {log}");
    }
    assert!(!refusing.exports().is_empty());
}
