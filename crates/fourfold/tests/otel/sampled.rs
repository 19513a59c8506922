//! Which appends are traced.

use std::{collections::BTreeSet, fs};

use crate::{
    collector::{Collector, Temper},
    harness::fourfold_with,
    server::{Begun, Server},
    spans::{Span, Trace},
};

fn ratio(ratio: &str) -> [(&str, &str); 2] {
    [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", ratio)]
}

fn traces(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.trace.as_str()).collect()
}

#[test]
fn who_says_nothing_is_traced_by_our_own_ratio_and_who_says_something_is_heeded() {
    let (sampled, unsampled) = (Begun::sampled(1), Begun::unsampled(2));
    for (of_all, own) in [("0", 0), ("1", 1)] {
        let collector = Collector::start(Temper::Takes);
        let server = Server::start(&collector.url(), &ratio(of_all), &[]);
        for headers in ["", &sampled.header(), &unsampled.header()] {
            assert!(server.append(headers).starts_with("HTTP/1.1 204"));
        }
        server.end();
        let spans = collector.spans();
        assert_eq!(traces(&spans).len(), 1 + own, "{spans:#?}");
        Trace::of(&spans, &sampled.trace);
        assert!(spans.iter().all(|span| span.trace != unsampled.trace));
        for trace in traces(&spans).into_iter().filter(|trace| *trace != sampled.trace) {
            assert_eq!(Trace::of(&spans, trace).receive.parent, "", "a trace of our own has a root");
        }
    }
}

#[test]
fn a_traceparent_that_is_none_is_as_if_it_were_not_there() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &ratio("1"), &[]);
    let zero = format!("00-{}-{}-01", "0".repeat(32), "0".repeat(16));
    for value in [
        "",
        "nonsense",
        &zero,
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        let answer = server.append(&format!("traceparent: {value}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
    server.end();
    let spans = collector.spans();
    assert_eq!(traces(&spans).len(), 5);
    assert!(spans.iter().filter(|span| span.name == "receive").all(|span| span.parent.is_empty()), "{spans:#?}");
}

#[test]
fn a_tracestate_that_is_too_long_is_not_passed_on() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &[], &[]);
    let begun = Begun::sampled(1);
    let state = format!("vendor={}", "x".repeat(600));
    assert!(server.append(&format!("{}tracestate: {state}\r\n", begun.header())).starts_with("HTTP/1.1 204"));
    server.end();
    let receive = Trace::of(&collector.spans(), &begun.trace).receive;
    assert_eq!((receive.parent, receive.state), (begun.span, String::new()));
}

/// Whether the exporter has a thread in this process.
fn exports(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
    threads.filter_map(Result::ok).any(|thread| name(thread).starts_with("OpenTelemetry"))
}

#[test]
fn nothing_is_traced_unless_a_collector_is_named() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &[], &[]);
    assert!(exports(server.pid()));
    server.end();
    for variables in [[("OTEL_SDK_DISABLED", "true")], [("OTEL_TRACES_EXPORTER", "none")]] {
        let server = Server::start(&collector.url(), &variables, &[]);
        assert!(!exports(server.pid()), "{variables:?}");
        server.end();
    }
    let server = Server::start("", &[("OTEL_TRACES_SAMPLER", "always_on")], &[]);
    assert!(!exports(server.pid()));
    assert!(server.append(&Begun::sampled(1).header()).starts_with("HTTP/1.1 204"));
    server.end();
    assert!(collector.exports().is_empty());
}

#[test]
fn a_collector_that_cannot_be_one_is_a_reason_not_to_start_and_its_url_is_not_told() {
    for url in ["127.0.0.1:4318", "ftp://sEcRet@x", "http://"] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url)];
        let finished =
            fourfold_with(&["serve", "--engine", "memory", "--listen", "127.0.0.1:0", "--log", "off"], &variables)
                .finish();
        let line = finished.failed();
        assert!(line.contains("OTEL_EXPORTER_OTLP_ENDPOINT is not the URL of a collector"), "{line}");
        assert!(!line.contains("sEcRet"), "{line}");
    }
}
