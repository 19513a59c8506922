//! The same key is the same call, executed once.

use serde_json::json;

use super::{OPEN_HEAD, Upstream, serving, serving_url};
use crate::harness::Harness;

fn with_key(harness: &Harness, target: &str, key: &str, body: &[u8]) -> crate::http::Answer {
    harness.ask("POST", &format!("/v1/call/{target}"), &[("idempotency-key", key)], body)
}

#[test]
fn a_key_that_is_known_gives_the_call_of_then() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let first = with_key(&harness, "work", "k1", b"x").expect(201);
    assert_eq!(first.get("idempotency-replayed"), None);
    let mut exchange = upstream.next();
    assert!(exchange.head.contains("idempotency-key: k1"), "{}", exchange.head);
    exchange.say(OPEN_HEAD);
    exchange.say("done");
    drop(exchange);
    harness.ending(first.header("call-id"));
    for _ in 0..2 {
        let again = with_key(&harness, "work", "k1", b"x").expect(201);
        assert_eq!(
            (again.header("location"), again.header("idempotency-replayed")),
            (first.header("location"), "true")
        );
        assert_eq!(again.header("stream-next-offset"), first.header("stream-next-offset"), "it is read from its start");
    }
    let headers = [("idempotency-key", "k1"), ("prefer", "wait")];
    let waited = harness.ask("POST", "/v1/call/work", &headers, b"x").expect(201);
    assert_eq!((waited.text().as_str(), waited.header("idempotency-replayed")), ("done", "true"));
    upstream.was_left_alone();
}

#[test]
fn another_request_with_the_key_is_refused() {
    let upstream = Upstream::start();
    let harness = serving(json!({
        "work": { "url": upstream.url(), "rest": true },
        "play": { "url": upstream.url() },
    }));
    let first = with_key(&harness, "work/a?b=1", "k", b"x").expect(201);
    assert!(upstream.next().head.starts_with("post /task/a?b=1 http"));
    for (target, body) in [("work/a?b=1", &b"y"[..]), ("work/a?b=2", b"x"), ("work/b?b=1", b"x"), ("work", b"x")] {
        with_key(&harness, target, "k", body).problem(422, "idempotency-key-reused");
    }
    upstream.was_left_alone();
    let another = with_key(&harness, "play", "k", b"x").expect(201);
    assert_ne!(another.header("call-id"), first.header("call-id"), "a key counts for one name");
    upstream.next();
    for bad in ["", "a b", &"x".repeat(256)] {
        with_key(&harness, "work", bad, b"x").problem(400, "invalid-header");
    }
    with_key(&harness, "work", &"x".repeat(255), b"x").expect(201);
}

#[test]
fn concurrent_requests_with_one_key_execute_once() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let mut clients: Vec<_> = (0..16).map(|_| harness.connect()).collect();
    for client in &mut clients {
        client.request("POST", "/v1/call/work", &[("idempotency-key", "one")], b"x");
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.answer().expect(201)).collect();
    let fresh = answers.iter().filter(|answer| answer.get("idempotency-replayed").is_none()).count();
    assert_eq!(fresh, 1);
    assert!(answers.iter().all(|answer| answer.header("call-id") == answers[0].header("call-id")));
    let mut exchange = upstream.next();
    exchange.say(OPEN_HEAD);
    drop(exchange);
    harness.ending(answers[0].header("call-id"));
    upstream.was_left_alone();
}

#[test]
fn a_call_that_was_deleted_leaves_its_key_free() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let first = with_key(&harness, "work", "k", b"x").expect(201).header("call-id").to_owned();
    upstream.next().say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    harness.ending(&first);
    harness.ask("DELETE", &format!("/v1/calls/{first}"), &[], b"").expect(204);
    let second = with_key(&harness, "work", "k", b"another").expect(201);
    assert_ne!(second.header("call-id"), first);
    assert_eq!(second.get("idempotency-replayed"), None);
    upstream.next();
}
