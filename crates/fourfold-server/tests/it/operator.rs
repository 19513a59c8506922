//! Metrics and health: what is told, and that it is true.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::Arc,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use fourfold_protocol::StreamName;
use fourfold_server::limits::OPERATOR_CONNECTIONS_MAX;
use fourfold_stream::Engine;
use tokio_rustls::rustls::{ClientConnection, RootCertStore};

use crate::{
    exposition::{self, Family},
    harness::{Harness, eventually, memory, url},
    http::{Answer, Client},
    secured::{self, Certificate, VERSIONS, trusting},
};

fn ask(harness: &Harness, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut client = Client::connect(harness.operator);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client.send(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"));
    client.answer_to(method)
}

/// It is this problem.
#[track_caller]
fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.head.status, answer.header("content-type")), (status, "application/problem+json"));
    assert_eq!(answer.header("cache-control"), "no-store");
    let problem = answer.json();
    assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{problem}");
}

pub(crate) fn scrape(harness: &Harness) -> BTreeMap<String, Family> {
    let answer = ask(harness, "GET", "/metrics", &[]).expect(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    exposition::read(&answer.text())
}

/// The sample with these labels.
pub(crate) fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = name.trim_end_matches("_count");
    let family = families.get(family).unwrap_or_else(|| panic!("{name} is not told"));
    let fits = |given: &BTreeMap<String, String>| {
        given.len() == labels.len() && labels.iter().all(|(name, value)| given.get(*name).is_some_and(|v| v == value))
    };
    let found = family.samples.iter().find(|(sample, given, _)| sample == name && fits(given));
    found.unwrap_or_else(|| panic!("{name} {labels:?}")).2
}

#[test]
fn what_has_happened_is_counted() {
    let harness = Harness::start();
    harness.create("counted", "application/json");
    let before = scrape(&harness);
    harness.append("counted", "application/json", b"[1,2,3]");
    harness.get(&(url("counted") + "?offset=-1")).expect(200);
    harness.get(&url("nothing")).expect(404);
    let mut sse = harness.connect();
    sse.request("GET", &(url("counted") + "?offset=-1&live=sse"), &[], b"");
    sse.until(b"id:");
    let after = scrape(&harness);
    let grown = |name: &str, labels: &[(&str, &str)]| value(&after, name, labels) - value(&before, name, labels);
    assert_eq!(grown("fourfold_appends_total", &[]), 1.0);
    assert_eq!(grown("fourfold_append_records_total", &[]), 3.0);
    assert_eq!(grown("fourfold_append_bytes_total", &[]), 3.0);
    assert_eq!(grown("fourfold_append_duration_seconds_count", &[]), 1.0);
    assert_eq!(grown("fourfold_requests_total", &[("kind", "append"), ("status", "2xx")]), 1.0);
    assert_eq!(grown("fourfold_requests_total", &[("kind", "read"), ("status", "4xx")]), 1.0);
    assert_eq!(grown("fourfold_requests_total", &[("kind", "read"), ("status", "2xx")]), 2.0);
    assert_eq!(grown("fourfold_refusals_total", &[("code", "stream-not-found")]), 1.0);
    assert_eq!(grown("fourfold_delivered_records_total", &[("transport", "short-poll")]), 3.0);
    assert_eq!(grown("fourfold_delivered_records_total", &[("transport", "sse")]), 3.0);
    assert_eq!(grown("fourfold_connections", &[("transport", "sse")]), 1.0);
    assert_eq!(grown("fourfold_connections_accepted_total", &[]), 4.0);
    drop(sse);
    eventually("the reader is not counted any more", || {
        value(&scrape(&harness), "fourfold_connections", &[("transport", "sse")]) == 0.0
    });
}

#[test]
fn a_poll_that_is_known_is_counted_as_a_read() {
    let harness = Harness::start();
    harness.create("known", "text/plain");
    let next = harness.append("known", "text/plain", b"x");
    let target = format!("{}?offset={next}", url("known"));
    let tag = harness.get(&target).header("etag").to_owned();
    let mut client = harness.connect();
    for _ in 0..10 {
        client.request("GET", &target, &[("if-none-match", &tag)], b"");
        client.answer().expect(304);
    }
    let families = scrape(&harness);
    assert!(value(&families, "fourfold_known_poll_hits_total", &[]) >= 5.0);
    assert_eq!(value(&families, "fourfold_requests_total", &[("kind", "read"), ("status", "3xx")]), 10.0);
}

#[test]
fn only_what_is_there_is_answered_and_nothing_to_a_page() {
    let harness = Harness::start();
    is_problem(&ask(&harness, "GET", "/", &[]), 404, "not-found");
    is_problem(&ask(&harness, "GET", &url("witness"), &[]), 404, "not-found");
    is_problem(&ask(&harness, "POST", "/metrics", &[]), 405, "method-not-allowed");
    ask(&harness, "HEAD", "/metrics", &[]).expect(200);
    for header in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        is_problem(&ask(&harness, "GET", "/health/ready", &[header]), 404, "not-found");
    }
    let answer = ask(&harness, "GET", "/metrics", &[]).expect(200);
    assert_eq!(answer.get("access-control-allow-origin"), None);
    harness.get("/metrics").problem(404, "not-found"); // Not at the server's own address.
    harness.get("/health/live").problem(404, "not-found");
    let mut client = Client::connect(harness.operator);
    client.send(vec![b'x'; 16 * 1024]);
    is_problem(&client.answer(), 400, "bad-request");
    harness.still_serves();
}

#[test]
fn a_server_is_alive_and_ready_until_it_drains() {
    let mut harness = Harness::with(|settings| settings.drain_deadline = Duration::from_secs(30));
    assert_eq!(ask(&harness, "GET", "/health/live", &[]).expect(200).json()["status"], "live");
    let ready = ask(&harness, "GET", "/health/ready", &[]).expect(200).json();
    assert!(ready["status"] == "ready" && ready["probeMs"].as_f64().unwrap() > 0.0, "{ready}");
    let mut stays = harness.connect(); // An append whose body does not come holds the drain open.
    stays.send(
        "POST /v1/stream/witness HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n1",
    );
    eventually("its head is read", || harness.connections.count() == 2);
    thread::sleep(Duration::from_millis(100)); // Nothing tells from outside that it has been read.
    harness.dismiss_witness();
    harness.stop();
    eventually("it says that it drains", || ask(&harness, "GET", "/health/ready", &[]).head.status == 503);
    is_problem(&ask(&harness, "GET", "/health/ready", &[]), 503, "draining");
    ask(&harness, "GET", "/health/live", &[]).expect(200);
    drop(stays);
    harness.wait_until_stopped();
}

#[test]
fn a_flood_of_questions_costs_few_proofs_and_no_place_for_long() {
    let engine = Arc::new(std::sync::Mutex::new(None::<Arc<dyn Engine>>));
    let kept = Arc::clone(&engine);
    let harness = Harness::on(
        move |relay| {
            let engine = memory(relay);
            *kept.lock().unwrap() = Some(Arc::clone(&engine));
            engine
        },
        |_| {},
    );
    // Those who say nothing hold their places, but for no longer than anybody may.
    let silent: Vec<Client> = (0..OPERATOR_CONNECTIONS_MAX - 4).map(|_| Client::connect(harness.operator)).collect();
    for _ in 0..200 {
        ask(&harness, "GET", "/health/ready", &[]).expect(200);
    }
    let engine = engine.lock().unwrap().take().unwrap();
    let stream = engine.streams().get(&StreamName::internal("__ds/health").unwrap()).expect("it was asked");
    assert!(stream.tail().position <= 20, "{} proofs", stream.tail().position);
    harness.get(&url("__ds/health")).expect(404);
    assert!(!harness.get("/v1/stream/").text().contains("__ds"));
    drop(silent);
    harness.still_serves();
}

/// A server that tells all that there is to tell.
fn telling() -> Harness {
    Harness::with(|settings| settings.tls = Some(Certificate::new().tls()))
}

#[test]
fn handshakes_are_counted_by_how_they_end_and_the_end_of_the_certificate_is_told() {
    let certificate = Certificate::new();
    let tls = certificate.tls();
    let shown = tls.clone();
    let harness = Harness::with(|settings| settings.tls = Some(shown));
    let ends =
        |families: &BTreeMap<String, Family>| value(families, "fourfold_tls_certificate_expiry_timestamp_seconds", &[]);
    let before = scrape(&harness);
    let told = tls.certificate().expect("it is understood").ends_at.duration_since(UNIX_EPOCH).expect("later");
    assert_eq!(ends(&before), told.as_secs_f64());

    secured::connect(harness.listens, trusting(&[], &VERSIONS));
    harness.wait_for_connections(1);
    let mut plain = Client::connect(harness.listens);
    plain.request("GET", &url("witness"), &[], b"");
    plain.answer().problem(400, "tls-required");
    // Nobody is trusted by this one, and it says so.
    let mut stranger = Client::connect(harness.listens).tcp;
    let mut conn = ClientConnection::new(Arc::new(fourfold_trust::config(RootCertStore::empty())), secured::name())
        .expect("a name");
    assert!(conn.complete_io(&mut stranger).is_err());
    drop(Client::connect(harness.listens));
    let mut garbage = Client::connect(harness.listens);
    garbage.send([0; 64]);
    garbage.ended();
    let tcp = Client::connect(harness.listens).tcp;
    let mut other = ClientConnection::new(trusting(&["smtp"], &VERSIONS), secured::name()).expect("a name");
    assert!(other.complete_io(&mut &tcp).is_err());

    for outcome in ["done", "plain-http", "distrusted", "gone", "broken", "unfit"] {
        eventually(outcome, || {
            let labels = [("outcome", outcome)];
            let name = "fourfold_tls_handshakes_total";
            value(&scrape(&harness), name, &labels) - value(&before, name, &labels) == 1.0
        });
    }

    certificate.renew_until(2040);
    tls.reload().expect("they are good");
    assert_eq!(ends(&scrape(&harness)), 2_208_988_800.0, "the first of January 2040");
}

/// What the page says of each metric.
fn table(families: &BTreeMap<String, Family>) -> String {
    let mut rows = String::from("| metric | type | labels | tells |\n|---|---|---|---|\n");
    for (name, family) in families {
        let mut labels = Vec::new();
        for label in family.labels() {
            let mut values: Vec<&str> = Vec::new();
            for (_, given, _) in &family.samples {
                values.extend(given.get(label).map(String::as_str).filter(|v| !values.contains(v)));
            }
            // Versions change, and the codes have a table of their own.
            labels.push(match label {
                "version" => "`version`".to_owned(),
                "code" => "`code`: one of [the refusals](protocol.md)".to_owned(),
                _ => format!("`{label}`: {}", values.join(", ")),
            });
        }
        writeln!(rows, "| `{name}` | {} | {} | {} |", family.kind, labels.join("; "), family.help).unwrap();
    }
    rows
}

#[test]
fn the_metrics_page_is_true() {
    let harness = telling();
    let page = include_str!("../../../../docs/metrics.md");
    let (_, rest) = page.split_once("`the_metrics_page_is_true` -->\n").expect("the page has the mark");
    let (found, _) = rest.split_once("<!-- /metrics -->").expect("the page has the end mark");
    let expected = table(&scrape(&harness));
    assert_eq!(found, expected, "docs/metrics.md: replace the table by\n{expected}");
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let harness = telling();
    let families = scrape(&harness);
    let board: serde_json::Value =
        serde_json::from_str(include_str!("../../../../docs/grafana/fourfold.json")).unwrap();
    let panels = board["panels"].as_array().expect("it has panels");
    let mut shown = 0;
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a panel has a title");
        let targets = panel["targets"].as_array().filter(|targets| !targets.is_empty());
        for target in targets.unwrap_or_else(|| panic!("'{title}' is empty")) {
            let expression = target["expr"].as_str().expect("a target has an expression");
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let metrics: Vec<&str> =
                words.filter(|word| word.starts_with("fourfold_") || word.starts_with("process_")).collect();
            assert!(!metrics.is_empty(), "'{title}' names no metric: {expression}");
            for metric in metrics {
                let suffix = ["_bucket", "_sum", "_count"].into_iter().find(|suffix| metric.ends_with(suffix));
                let histogram = suffix.and_then(|suffix| families.get(metric.strip_suffix(suffix)?));
                let family = histogram.or_else(|| families.get(metric));
                let family = family.unwrap_or_else(|| panic!("'{title}': there is no {metric}"));
                let rated = expression.contains(&format!("rate({metric}"))
                    || expression.contains(&format!("increase({metric}"));
                assert_eq!(
                    rated,
                    family.kind != "gauge",
                    "'{title}': rates are of counters, and counters are rated: {expression}"
                );
                let quantile = expression.contains("histogram_quantile(");
                assert_eq!(quantile, metric.ends_with("_bucket"), "'{title}': {expression}");
                assert!(!quantile || expression.contains("(le"), "'{title}': quantiles are over le: {expression}");
            }
            shown += 1;
        }
    }
    assert!(shown >= 20, "{shown} expressions");
}
