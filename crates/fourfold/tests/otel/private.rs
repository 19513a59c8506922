//! What must not be told.

use crate::{
    collector::{Collector, Temper},
    server::{Begun, Server, request},
};

#[test]
fn neither_names_nor_records_nor_tokens_are_exported_and_the_collectors_key_is_not_in_the_log() {
    const SECRETS: [&str; 8] = [
        "sEcRetStReAm",
        "sEcRetReCoRd",
        "sEcRetToKeN",
        "sEcRetQuErY",
        "sEcRetPrOdUcEr",
        "sEcRetAgEnT",
        "sEcRetBaGgAgE",
        "sEcRetSeQ",
    ];
    const KEY: &str = "sEcRetKeY";
    let [stream, record, token, query, producer, agent, baggage, seq] = SECRETS;
    let collector = Collector::start(Temper::Takes);
    let key = format!("api-key={KEY}");
    let server = Server::start(&collector.url(), &[("OTEL_EXPORTER_OTLP_HEADERS", &key)], &["--log", "trace"]);
    server.create(stream);
    let headers = |begun: &Begun| {
        format!(
            "connection: close\r\nauthorization: Bearer {token}\r\ncookie: token={token}\r\nuser-agent: {agent}\r\nbaggage: a={baggage}\r\nstream-seq: {seq}\r\n\
             producer-id: {producer}\r\nproducer-epoch: 0\r\nproducer-seq: 0\r\n{}",
            begun.header()
        )
    };
    let target = format!("{stream}?token={query}");
    let answer = server.exchange(&request(&target, &headers(&Begun::sampled(1)), record));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A refusal repeats the name to whoever asked.
    let answer =
        server.exchange(&request(&format!("{stream}/none?token={query}"), &headers(&Begun::sampled(2)), record));
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains(stream), "{answer}");
    let log = server.end().stderr;
    let exports = collector.exports();
    assert!(
        exports.iter().any(|export| export.head.contains(&format!("api-key: {KEY}"))),
        "it is shown to the collector"
    );
    let exported: Vec<u8> = exports.into_iter().flat_map(|export| export.body).collect();
    let exported = String::from_utf8_lossy(&exported);
    assert!(exported.contains("stream-not-found"), "both are there");
    for secret in SECRETS {
        assert!(!exported.contains(secret), "{secret} was exported");
    }
    assert!(log.contains("appends are traced") && !log.contains(KEY), "{log}");
}
