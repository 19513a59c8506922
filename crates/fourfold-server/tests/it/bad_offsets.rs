//! Offsets that cannot be served, on every way of reading.

use serde_json::json;

use crate::{
    harness::{Harness, url},
    http::Answer,
    live::Live,
    websocket::HANDSHAKE,
};

/// Its name, what it adds to the query, and its headers.
type Way = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Every way of reading that takes its offset from the URL.
const WAYS: [Way; 6] = [
    ("short poll", "", &[]),
    ("long poll", "&live=long-poll", &[]),
    ("portions", "&live=long-poll", &[("accept", "application/x-ndjson")]),
    ("sse", "&live=sse", &[]),
    ("sse by accept", "", &[("accept", "text/event-stream")]),
    ("websocket", "", &HANDSHAKE),
];

fn refused_on_every_way(harness: &Harness, offset: &str, judge: impl Fn(&str, Answer)) {
    for (way, live, headers) in WAYS {
        let answer = harness.ask("GET", &format!("/v1/stream/s?{offset}{live}"), headers, b"");
        judge(way, answer);
    }
    harness.still_serves();
}

/// An offset with its epoch moved by one.
fn of_another_life(offset: &str) -> String {
    let (epoch, position) = offset.split_once('_').expect("a token");
    format!("{:012x}_{position}", u64::from_str_radix(epoch, 16).expect("hex") - 1)
}

#[test]
fn an_offset_that_is_none_is_refused_on_every_way() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let next = harness.append("s", "application/json", b"[1,2]");
    for bad in [
        "offset=".to_owned(),
        "offset=0".into(),
        "offset=-2".into(),
        "offset=NOW".into(),
        "offset=-1%00".into(),
        "offset=../../etc/passwd".into(),
        "offset=%3Cscript%3E".into(),
        format!("offset={}", next.to_uppercase().replace('_', "-")),
        format!("offset={next}0"),
        format!("offset={}", "9".repeat(5_000)),
        format!("offset={next}&offset={next}"),
        "offset=-1&offset=-1".into(),
    ] {
        refused_on_every_way(&harness, &bad, |_, answer| drop(answer.problem(400, "invalid-offset")));
    }
    assert_eq!(harness.get("/v1/stream/s?offset=-1").text(), "[1,2]");
}

#[test]
fn an_offset_past_the_tail_is_refused_on_every_way() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let next = harness.append("s", "text/plain", b"one");
    let future = next.replace("_0000000000000001", "_0000000000000002");
    let furthest = format!("{}_9999999999999999", &next[..12]);
    for offset in [future, furthest] {
        refused_on_every_way(&harness, &format!("offset={offset}"), |_, answer| {
            answer.problem(400, "offset-past-tail");
        });
    }
}

#[test]
fn an_offset_of_another_life_is_told_with_the_oldest_that_will_do() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let old = harness.append("s", "text/plain", b"one");
    harness.ask("DELETE", &url("s"), &[], b"").expect(204);
    harness.create("s", "text/plain");
    let new = harness.append("s", "text/plain", b"two");
    assert!(new > old, "a later life sorts after the one before: {new} {old}");
    for offset in [old, of_another_life(&new), format!("ffffffffffff_{}", &new[13..])] {
        refused_on_every_way(&harness, &format!("offset={offset}"), |way, answer| {
            let problem = answer.problem(410, "offset-of-another-epoch");
            let oldest = problem["oldestOffset"].as_str().expect(way);
            assert_eq!(harness.get(&format!("/v1/stream/s?offset={oldest}")).expect(200).text(), "two");
        });
    }
}

#[test]
fn an_offset_that_retention_has_passed_is_told_with_the_oldest_that_will_do() {
    let harness = Harness::start();
    harness.create_with("s", "application/json", &[("stream-retention-records", "2")]);
    let first = harness.ask("HEAD", &url("s"), &[], b"").header("stream-next-offset").to_owned();
    harness.append("s", "application/json", b"[1,2,3,4]");
    refused_on_every_way(&harness, &format!("offset={first}"), |way, answer| {
        let problem = answer.problem(410, "offset-trimmed");
        assert_eq!(problem["offset"], *first);
        let oldest = problem["oldestOffset"].as_str().expect(way);
        assert_eq!(harness.get(&format!("/v1/stream/s?offset={oldest}")).expect(200).text(), "[3,4]");
    });
    assert_eq!(harness.get("/v1/stream/s?offset=-1").expect(200).text(), "[3,4]");
}

#[test]
fn an_event_source_with_a_bad_id_is_told_a_gap_and_goes_on_from_the_oldest() {
    let harness = Harness::start();
    harness.create_with("s", "application/json", &[("stream-retention-records", "2")]);
    let first = harness.ask("HEAD", &url("s"), &[], b"").header("stream-next-offset").to_owned();
    let tail = harness.append("s", "application/json", b"[1,2,3,4]");
    let oldest = harness.ask("HEAD", &url("s"), &[], b"").header("stream-oldest-offset").to_owned();
    let future = tail.replace("_0000000000000004", "_0000000000000005");
    let foreign = of_another_life(&tail);
    let ids: [(&[&str], Option<&str>); 7] = [
        (&["nonsense"], None),
        (&[""], None),
        (&["\u{e9}"], None),
        (&[&tail, &tail], None),
        (&[&foreign], Some(&foreign)),
        (&[&future], Some(&future)),
        (&[&first], Some(&first)),
    ];
    for (ids, from) in ids {
        let headers: Vec<_> = ids.iter().map(|id| ("last-event-id", *id)).collect();
        let mut live = Live::open(&harness, &format!("/v1/stream/s?offset={tail}&live=sse"), &headers);
        assert!(live.event().expect("a retry").retry.is_some());
        let gap = live.event().expect("a gap");
        assert_eq!((gap.name.as_str(), gap.id.as_ref()), ("gap", Some(&oldest)), "{ids:?}");
        let told = gap.json();
        assert_eq!(told["gap"], json!({"from": told["from"], "to": told["to"]}));
        assert_eq!(told["to"], *oldest);
        if let Some(from) = from {
            assert_eq!(told["from"], *from);
        }
        let data = live.event().expect("the records that are left");
        assert_eq!((data.name.as_str(), data.data.as_str(), data.id.as_ref()), ("data", "[3,4]", Some(&tail)));
        assert_eq!(live.event_named("control").json()["upToDate"], true);
    }
    harness.still_serves();
}

#[test]
fn a_good_last_event_id_outranks_the_url() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let one = harness.append("s", "application/json", b"1");
    harness.append("s", "application/json", b"2");
    let mut live = Live::open(&harness, "/v1/stream/s?offset=-1&live=sse", &[("last-event-id", &one)]);
    assert_eq!(live.event_named("data").data, "[2]");
    let mut live = Live::open(&harness, "/v1/stream/s?live=sse", &[("last-event-id", &one)]);
    assert_eq!(live.event_named("data").data, "[2]");
}

#[test]
fn a_live_read_says_where_it_begins() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    for live in ["sse", "long-poll"] {
        harness.get(&format!("/v1/stream/s?live={live}")).problem(400, "invalid-offset");
    }
    harness.get("/v1/stream/s").expect(200);
    harness.still_serves();
}
