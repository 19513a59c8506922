//! How many streams there may be, of whom, and how much of the disk they may take.

use fourfold_access::Verb;
use fourfold_engines::embedded::{Durability, EmbeddedEngine, EmbeddedOptions};
use fourfold_server::LimitOptions;
use fourfold_stream::{Engine, Relay, Retention};
use serde_json::json;

use std::sync::Arc;

use crate::{
    access::{bearer, guarded_by, guarded_on, options, token},
    calls,
    harness::{Harness, eventually, url},
    http::{Answer, Client},
    websocket::{HANDSHAKE, WebSocket},
};

fn put(harness: &Harness, name: &str, token: Option<&str>) -> Answer {
    let authorization = token.map(bearer);
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.as_deref().map(|text| ("authorization", text)));
    harness.ask("PUT", &url(name), &headers, b"")
}

#[test]
fn there_are_as_many_streams_as_there_may_be() {
    let harness = Harness::with(|settings| settings.limits.streams_max = Some(3)); // Its witness has one.
    put(&harness, "a", None).expect(201);
    put(&harness, "b", None).expect(201);
    let refused = put(&harness, "c", None);
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    let problem = refused.problem(429, "too-many-streams");
    assert_eq!((&problem["limit"], &problem["max"]), (&json!("streams-max"), &json!(3)));
    put(&harness, "a", None).expect(200); // It is there already.
    harness.append("a", "application/json", b"1");
    harness.ask("DELETE", &url("b"), &[], b"").expect(204);
    put(&harness, "c", None).expect(201);
    put(&harness, "d", None).problem(429, "too-many-streams");
    harness.still_serves();
}

#[test]
fn a_token_s_subject_has_as_many_as_its_token_or_the_setting_says() {
    let mut rules = options();
    rules.authenticated.allow(Verb::Create, "**").unwrap();
    rules.authenticated.allow(Verb::Delete, "**").unwrap();
    let harness = guarded_by(rules, |settings| settings.limits.streams_per_token = Some(2));
    let (ann, bob) = (token(&json!({})), token(&json!({ "sub": "bob", "streams-max": 1 })));
    let again = token(&json!({ "jti": "another token of the same subject" }));
    put(&harness, "a1", Some(&ann)).expect(201);
    put(&harness, "a2", Some(&again)).expect(201);
    put(&harness, "a3", Some(&ann)).problem(429, "too-many-streams");
    put(&harness, "b1", Some(&bob)).expect(201);
    let problem = put(&harness, "b2", Some(&bob)).problem(429, "too-many-streams");
    assert_eq!((&problem["limit"], &problem["max"]), (&json!("streams-per-token"), &json!(1)));
    // Whoever deletes it, it was hers.
    harness.ask("DELETE", &url("a1"), &[("authorization", &bearer(&bob))], b"").expect(204);
    put(&harness, "a3", Some(&ann)).expect(201);
}

#[test]
fn a_token_that_bounds_its_streams_and_has_no_subject_creates_none() {
    let harness = guarded_by(owners(), |_| {});
    put(&harness, "a", Some(&token(&json!({})))).expect(201);
    for claim in ["streams-max", "bytes-max"] {
        let nobody_s = token(&json!({ "sub": null, claim: 100 }));
        let problem = put(&harness, "b", Some(&nobody_s)).problem(403, "not-permitted");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(claim) && detail.contains("use a token with a 'sub'"), "{detail}");
        put(&harness, "a", Some(&nobody_s)).expect(200); // It is there already.
        append(&harness, "a", &nobody_s, "1").expect(204);
    }
    put(&harness, "b", Some(&token(&json!({ "sub": null })))).expect(201); // It bounds nothing.
}

#[test]
fn calls_begin_as_long_as_there_may_be_more_streams_and_a_known_key_finds_its_call() {
    let harness = Harness::with(|settings| {
        settings.limits.streams_max = Some(3); // Its witness has one.
        settings.calls = calls::options(json!({ "work": calls::shell("exec sleep 100") }));
    });
    let begin = |key: &str| harness.ask("POST", "/v1/call/work", &[("idempotency-key", key)], b"");
    let first = begin("k1").expect(201);
    let mut clients: Vec<_> = (0..10).map(|_| harness.connect()).collect();
    for client in &mut clients {
        client.request("POST", "/v1/call/work", &[], b"");
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.answer_to("POST")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.head.status == 201).count(), 1);
    for refused in answers.iter().filter(|answer| answer.head.status != 201) {
        refused.problem(429, "too-many-streams");
    }
    put(&harness, "a", None).problem(429, "too-many-streams");
    let again = begin("k1").expect(201);
    assert_eq!((again.header("call-id"), again.header("idempotency-replayed")), (first.header("call-id"), "true"));
    let target = format!("/v1/calls/{}", first.header("call-id"));
    harness.ask("DELETE", &target, &[], b"").expect(202);
    harness.ending(first.header("call-id"));
    harness.ask("DELETE", &target, &[], b"").expect(204);
    begin("k2").expect(201);
    begin("k3").problem(429, "too-many-streams");
}

#[test]
fn calls_neither_begin_nor_go_on_beyond_what_streams_may_take_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::on(on_disk(&dir), |settings| {
        let script = "echo first; while :; do sleep 0.01; echo more; done";
        settings.calls = calls::options(json!({ "work": calls::shell(script) }));
    });
    let begin = |key: &str| harness.ask("POST", "/v1/call/work", &[("idempotency-key", key)], b"");
    let begun = begin("k").expect(201);
    let id = begun.header("call-id");
    harness.has_records(id, 1);
    harness.limits.reload(LimitOptions { storage_bytes_max: Some(1), ..LimitOptions::default() });
    let ending = harness.ending(id);
    assert_eq!((&ending["outcome"], &ending["code"]), (&json!("failed"), &json!("storage-full")), "{ending}");
    assert!(ending["error"].as_str().unwrap().contains("storage-max"), "{ending}");
    begin("another").problem(507, "storage-full");
    assert_eq!(begin("k").expect(201).header("call-id"), id);
    assert!(harness.read(id).text().starts_with("first\n"), "what came before is there");
}

/// All at once, each on a connection of its own.
fn put_at_once(harness: &Harness, token: &str, names: &[String], body: &[u8]) -> Vec<Answer> {
    let headers = [("content-type", "text/plain"), ("authorization", &bearer(token))];
    let mut clients: Vec<_> = names.iter().map(|_| harness.connect()).collect();
    for (client, name) in clients.iter_mut().zip(names) {
        client.request("PUT", &url(name), &headers, body);
    }
    clients.iter_mut().map(|client| client.answer_to("PUT")).collect()
}

/// Where a creation takes its time: others come meanwhile.
fn on_disk(dir: &tempfile::TempDir) -> impl FnOnce(Relay) -> Arc<dyn Engine> + use<> {
    let path = dir.path().to_owned();
    move |relay| {
        let options = EmbeddedOptions { durability: Durability::Synced, retention: Retention::default() };
        Arc::new(EmbeddedEngine::open(&path, options, relay).unwrap())
    }
}

#[test]
fn creations_at_once_get_no_more_streams_than_there_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let harness = guarded_on(on_disk(&dir), owners(), |settings| settings.limits.streams_per_token = Some(2));
    let ann = token(&json!({}));
    let names: Vec<_> = (0..40).map(|n| format!("a{n}")).collect();
    let answers = put_at_once(&harness, &ann, &names, b"");
    assert_eq!(answers.iter().filter(|answer| answer.head.status == 201).count(), 2);
    for refused in answers.iter().filter(|answer| answer.head.status != 201) {
        refused.problem(429, "too-many-streams");
    }
    // What was given back can be taken: also of one stream only one is counted.
    let made = names.iter().zip(&answers).find(|(_, answer)| answer.head.status == 201).unwrap().0;
    harness.ask("DELETE", &url(made), &[("authorization", &bearer(&ann))], b"").expect(204);
    let answers = put_at_once(&harness, &ann, &vec!["b".to_owned(); 10], b"");
    assert_eq!(answers.iter().filter(|answer| answer.head.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.head.status == 200).count(), 9);
    put(&harness, "c", Some(&ann)).problem(429, "too-many-streams");
}

#[test]
fn creations_at_once_get_no_more_bytes_into_streams_than_there_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let harness = guarded_on(on_disk(&dir), owners(), |settings| settings.limits.bytes_per_token = Some(1024));
    let ann = token(&json!({}));
    let names: Vec<_> = (0..10).map(|n| format!("a{n}")).collect();
    let answers = put_at_once(&harness, &ann, &names, &[b'x'; 1000]);
    assert_eq!(answers.iter().filter(|answer| answer.head.status == 201).count(), 1);
    for refused in answers.iter().filter(|answer| answer.head.status != 201) {
        refused.problem(429, "too-many-bytes");
    }
}

fn append(harness: &Harness, name: &str, token: &str, records: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("authorization", &bearer(token))];
    harness.ask("POST", &url(name), &headers, records.as_bytes())
}

/// Asks for a WebSocket.
fn upgrade(harness: &Harness, token: &str, target: &str) -> Client {
    let mut client = harness.connect();
    let authorization = bearer(token);
    let headers = [&HANDSHAKE[..], &[("authorization", authorization.as_str())]].concat();
    client.request("GET", &url(target), &headers, b"");
    client
}

fn websocket(harness: &Harness, token: &str, target: &str) -> WebSocket {
    let mut client = upgrade(harness, token, target);
    assert_eq!(client.head().status, 101);
    WebSocket { client }
}

fn owners() -> fourfold_access::Options {
    let mut rules = options();
    for verb in [Verb::Create, Verb::Append, Verb::Delete, Verb::Read] {
        rules.authenticated.allow(verb, "**").unwrap();
    }
    rules
}

#[test]
fn in_a_subject_s_streams_is_as_much_as_its_token_or_the_setting_says_whoever_appends() {
    let harness = guarded_by(owners(), |settings| settings.limits.bytes_per_token = Some(20));
    let (ann, bob) = (token(&json!({})), token(&json!({ "sub": "bob", "bytes-max": 8 })));
    put(&harness, "a1", Some(&ann)).expect(201);
    put(&harness, "a2", Some(&ann)).expect(201);
    put(&harness, "b", Some(&bob)).expect(201);
    append(&harness, "a1", &ann, r#""12345678""#).expect(204); // 10 bytes
    append(&harness, "a2", &bob, r#""1234567""#).expect(204); // 9 more, by somebody else
    let refused = append(&harness, "a2", &ann, "12");
    assert_eq!(refused.header("retry-after"), "5");
    let problem = refused.problem(429, "too-many-bytes");
    assert_eq!((&problem["limit"], &problem["max"]), (&json!("bytes-per-token"), &json!(20)));
    append(&harness, "a1", &bob, "12").problem(429, "too-many-bytes");
    append(&harness, "a1", &ann, "1").expect(204); // As much as there is room for.
    append(&harness, "b", &bob, "123456789").problem(429, "too-many-bytes"); // His token says 8.
    append(&harness, "b", &bob, "12345678").expect(204);
    append(&harness, "b", &ann, "1234").expect(204); // Hers says nothing of him: the setting counts.
    assert_eq!(
        harness.ask("GET", &url("a1?offset=-1"), &[("authorization", &bearer(&ann))], b"").body,
        br#"["12345678",1]"#
    );
    harness.ask("POST", &url("a1"), &[("authorization", &bearer(&ann)), ("stream-closed", "true")], b"").expect(204); // Takes nothing.
}

#[test]
fn an_append_that_was_there_already_or_was_refused_takes_nothing_of_a_subject_s_bytes() {
    let harness = guarded_by(owners(), |settings| settings.limits.bytes_per_token = Some(10));
    let ann = token(&json!({}));
    put(&harness, "a", Some(&ann)).expect(201);
    let authorization = bearer(&ann);
    let as_producer = |seq: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", authorization.as_str()),
            ("producer-id", "p"),
            ("producer-epoch", "0"),
            ("producer-seq", seq),
        ];
        harness.ask("POST", &url("a"), &headers, b"123")
    };
    as_producer("0").expect(200);
    for _ in 0..5 {
        as_producer("0").expect(204);
        as_producer("7").problem(409, "producer-gap");
    }
    as_producer("1").expect(200);
    as_producer("2").expect(200);
    as_producer("3").problem(429, "too-many-bytes");
}

#[test]
fn over_a_websocket_a_subject_s_bytes_are_as_limited_and_the_connection_goes_on() {
    let harness = guarded_by(owners(), |settings| settings.limits.bytes_per_token = Some(3));
    let ann = token(&json!({}));
    put(&harness, "a", Some(&ann)).expect(201);
    let mut socket = websocket(&harness, &ann, "a?records=none");
    for (records, code) in
        [("[12]", None), ("[34]", Some("too-many-bytes")), ("[5]", None), ("[6]", Some("too-many-bytes"))]
    {
        socket.send(&format!(r#"{{"append":{records},"id":1}}"#));
        let answer = socket.answer();
        assert_eq!(answer["error"]["code"].as_str(), code, "{answer}");
    }
}

#[test]
fn what_is_counted_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = |max| {
        let path = dir.path().to_owned();
        let engine = move |relay| {
            let options = EmbeddedOptions { durability: Durability::Os, retention: Retention::default() };
            Arc::new(EmbeddedEngine::open(&path, options, relay).unwrap()) as Arc<dyn fourfold_stream::Engine>
        };
        Harness::on(engine, |settings| settings.limits.streams_max = Some(max))
    };
    let mut first = start(10);
    put(&first, "a", None).expect(201);
    put(&first, "b", None).expect(201);
    first.wait_until_stopped();
    drop(first);
    let second = start(3);
    put(&second, "c", None).problem(429, "too-many-streams");
    second.ask("DELETE", &url("a"), &[], b"").expect(204);
    put(&second, "c", None).expect(201);
}

#[test]
fn beyond_what_streams_may_take_on_the_disk_nothing_is_appended_and_all_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let engine = move |relay| {
        let options = EmbeddedOptions { durability: Durability::Os, retention: Retention::default() };
        Arc::new(EmbeddedEngine::open(&path, options, relay).unwrap()) as Arc<dyn fourfold_stream::Engine>
    };
    let harness = Harness::on(engine, |_| {});
    put(&harness, "a", None).expect(201);
    harness.limits.reload(LimitOptions { storage_bytes_max: Some(1), ..LimitOptions::default() });
    let json = ("content-type", "application/json");
    let mut taken = 0;
    eventually("streams take what they may", || {
        let answer = harness.ask("POST", &url("a"), &[json], b"[1,2,3]");
        taken += usize::from(answer.head.status == 204);
        answer.head.status == 507
    });
    harness.ask("POST", &url("a"), &[json], b"1").problem(507, "storage-full");
    put(&harness, "b", None).problem(507, "storage-full");
    let read = harness.get(&url("a?offset=-1")).expect(200);
    assert_eq!(read.json().as_array().unwrap().len(), 3 * taken);
    harness.close("a"); // Takes nothing.
}

#[test]
fn a_subject_has_so_many_reads_that_stay_open_on_all_transports_together() {
    let harness = guarded_by(owners(), |settings| settings.limits.connections_per_token = Some(3));
    let (ann, bob) = (token(&json!({})), token(&json!({ "sub": "bob" })));
    let again = token(&json!({ "jti": "another token of the same subject" }));
    put(&harness, "a", Some(&ann)).expect(201);
    let reads = |query: &str, token: &str, headers: &[(&str, &str)]| {
        let mut client = harness.connect();
        let authorization = bearer(token);
        let headers = [headers, &[("authorization", authorization.as_str())]].concat();
        client.request("GET", &url(&format!("a?offset=now&{query}")), &headers, b"");
        client
    };
    let mut events = reads("live=sse", &ann, &[]);
    assert_eq!(events.head().status, 200);
    let mut lines = reads("live=long-poll&timeout=60", &again, &[("accept", "application/x-ndjson")]);
    assert_eq!(lines.head().status, 200);
    let poll = reads("live=long-poll&timeout=60", &ann, &[]);
    harness.wait_for_followers("a", 3);
    for (query, headers) in
        [("live=sse", &[][..]), ("live=long-poll", &[]), ("live=long-poll", &[("accept", "application/x-ndjson")])]
    {
        let refused = reads(query, &ann, headers).answer();
        let problem = refused.problem(429, "too-many-connections");
        assert_eq!((&problem["limit"], &problem["max"]), (&json!("connections-per-token"), &json!(3)));
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    }
    upgrade(&harness, &ann, "a?offset=now").answer().problem(429, "too-many-connections");
    reads("", &ann, &[]).answer().expect(200); // What does not stay is not counted.
    let mut his = websocket(&harness, &bob, "a?offset=now");
    // A place is free as soon as a read is over, and a WebSocket that is renewed takes one of who it is then.
    let renewed = |his: &mut WebSocket| {
        his.send(&json!({ "token": ann, "id": 1 }).to_string());
        his.answer()
    };
    assert_eq!(renewed(&mut his)["error"]["code"], "too-many-connections");
    drop(poll);
    harness.wait_for_followers("a", 3);
    assert!(renewed(&mut his).get("ack").is_some());
    upgrade(&harness, &ann, "a?offset=now").answer().problem(429, "too-many-connections");
    append(&harness, "a", &bob, "1").expect(204);
    assert!(events.chunk().is_some() && lines.chunk().is_some(), "who is there goes on");
}
