//! The request that begins a call goes on as a read, in every form; and whoever comes later reads the same.

use serde_json::{Value, json};

use super::{OPEN_HEAD, Upstream, serving_shell, serving_url};
use crate::{
    harness::Harness,
    http::Client,
    live::Live,
    websocket::{Message, WebSocket},
};

const JSON_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";

/// Asks for a call, without waiting for the answer.
fn asked(harness: &Harness, query: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = harness.connect();
    client.request("POST", &format!("/v1/call/work{query}"), headers, b"{}");
    client
}

#[test]
fn the_answer_comes_at_once_and_names_the_stream() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let answer =
        harness.ask("POST", "/v1/call/work", &[("content-type", "application/json")], b"{\"a\":1}").expect(201);
    let id = answer.header("call-id");
    assert_eq!(answer.header("location"), format!("http://test/v1/stream/calls/{id}"));
    assert!(answer.header("stream-next-offset").ends_with("_0000000000000000") && answer.body.is_empty());
    assert_eq!((answer.header("cache-control"), answer.get("idempotency-replayed")), ("no-store", None));
    assert!(answer.header("access-control-expose-headers").contains("Call-Id"));
    let exchange = upstream.next();
    assert_eq!(exchange.body, b"{\"a\":1}");
    assert!(exchange.head.contains(&format!("fourfold-call: {id}")), "{}", exchange.head);
    assert!(exchange.head.contains(&format!("idempotency-key: {id}")), "{}", exchange.head);
}

#[test]
fn events_flow_on_the_request_itself() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    for (query, headers) in [("?live=sse", &[][..]), ("", &[("accept", "text/event-stream")])] {
        let client = asked(&harness, query, headers);
        let mut exchange = upstream.next();
        let mut live = Live::begun_with(client, 201);
        assert_eq!(live.head.get("content-type"), Some("text/event-stream"));
        assert!(live.head.get("location").is_some() && live.head.get("call-id").is_some());
        assert!(live.head.get("stream-next-offset").is_some());
        exchange.say(JSON_HEAD);
        exchange.say("{\"n\":1}");
        let first = std::iter::from_fn(|| live.event()).find(|event| event.name == "data").expect("a record");
        assert_eq!(first.data, "[{\"n\":1}]");
        drop(exchange);
        let last = std::iter::from_fn(|| live.event()).last().expect("an end");
        let control: Value = serde_json::from_str(&last.data).unwrap();
        assert_eq!((&control["streamClosed"], &control["ending"]["outcome"]), (&json!(true), &json!("finished")));
    }
}

#[test]
fn lines_flow_on_the_request_itself() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let client = asked(&harness, "?live=long-poll&timeout=30&heartbeat=60", &[("accept", "application/x-ndjson")]);
    let mut exchange = upstream.next();
    assert!(exchange.head.starts_with("post /task http"), "reading parameters are the server's: {}", exchange.head);
    let mut live = Live::begun_with(client, 201);
    assert!(live.head.get("location").is_some());
    assert!(live.line().expect("where it stands").get("records").is_none());
    exchange.say(OPEN_HEAD);
    exchange.say("ä");
    let line = std::iter::from_fn(|| live.line()).find(|line| line.get("records").is_some()).expect("a record");
    assert_eq!(line["records"], json!(["ä"]));
    drop(exchange);
    let last = std::iter::from_fn(|| live.line()).last().expect("an end");
    assert_eq!((&last["streamClosed"], &last["ending"]["outcome"]), (&json!(true), &json!("finished")));
    live.client.request("GET", "/v1/calls", &[], b"");
    live.client.answer().expect(200);
}

#[test]
fn a_long_poll_waits_for_the_first_record() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let mut client = asked(&harness, "?live=long-poll", &[]);
    let mut exchange = upstream.next();
    exchange.say(OPEN_HEAD);
    exchange.say("first");
    let answer = client.answer().expect(201);
    assert_eq!((answer.text().as_str(), answer.header("content-type")), ("first", "text/plain"));
    let place = answer.header("location").strip_prefix("http://test").unwrap().to_owned();
    let next = answer.header("stream-next-offset").to_owned();
    client.request("GET", &format!("{place}?offset={next}&live=long-poll"), &[], b"");
    exchange.say("second");
    let answer = client.answer().expect(200);
    assert_eq!(answer.text(), "second", "it goes on where the first answer ended, on the same connection");
    let mut client = asked(&harness, "?live=long-poll&timeout=0", &[]);
    let answer = client.answer().expect(201);
    assert_eq!((answer.text().as_str(), answer.get("stream-closed")), ("", None), "nothing came in time");
    assert!(answer.get("location").is_some() && answer.get("stream-cursor").is_some());
}

#[test]
fn whoever_prefers_to_wait_gets_the_whole() {
    let harness = serving_shell("cat; echo end");
    for (preference, form) in
        [("wait", None), ("respond-async, wait=30", Some("application/vnd.fourfold.message+json"))]
    {
        let mut headers = vec![("prefer", preference)];
        headers.extend(form.map(|form| ("accept", form)));
        let answer = harness.ask("POST", "/v1/call/work", &headers, b"begin\n").expect(201);
        assert_eq!((answer.header("preference-applied"), answer.header("stream-closed")), ("wait", "true"));
        let ending: Value = serde_json::from_str(answer.header("stream-ending")).unwrap();
        assert_eq!(ending["exitCode"], 0);
        match form {
            None => assert_eq!(answer.text(), "begin\nend\n"),
            Some(_) => assert_eq!(answer.json()["records"], json!(["begin\n", "end\n"])),
        }
    }
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let mut client = asked(&harness, "", &[("prefer", "wait=1")]);
    let mut exchange = upstream.next();
    exchange.say(OPEN_HEAD);
    exchange.say("so far");
    let answer = client.answer().expect(201);
    assert_eq!((answer.text().as_str(), answer.get("stream-closed")), ("so far", None));
    assert!(!answer.header("stream-next-offset").ends_with("_0000000000000000"), "the reader goes on behind it");
}

#[test]
fn many_watch_one_call_and_all_are_told_the_end() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let id = harness.call("work");
    let name = format!("calls/{id}");
    let mut exchange = upstream.next();
    let mut watchers = [WebSocket::open(&harness, &name, "-1"), WebSocket::open(&harness, &name, "-1")];
    exchange.say(JSON_HEAD);
    exchange.say("1 2");
    exchange.say(" ");
    harness.has_records(&id, 2);
    drop(exchange);
    for watcher in &mut watchers {
        let (mut records, mut last) = (Vec::new(), Value::Null);
        loop {
            match watcher.message() {
                Message::Json(message) => {
                    records.extend(message["records"].as_array().cloned().unwrap_or_default());
                    last = message;
                }
                Message::Close(code, _) => break assert_eq!(code, 1000),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(records, [json!(1), json!(2)]);
        assert_eq!((&last["streamClosed"], &last["ending"]["outcome"]), (&json!(true), &json!("finished")));
    }
}

#[test]
fn a_client_that_goes_takes_nothing_with_it() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    for (query, headers) in [("?live=sse", &[][..]), ("?live=long-poll", &[]), ("", &[("prefer", "wait")])] {
        let client = asked(&harness, query, headers);
        let mut exchange = upstream.next();
        let id =
            exchange.head.lines().find_map(|line| line.strip_prefix("fourfold-call: ")).expect("its id").to_owned();
        client.vanish();
        exchange.say(OPEN_HEAD);
        exchange.say("still here");
        drop(exchange);
        assert_eq!(harness.ending(&id)["outcome"], "finished");
        assert_eq!(harness.read(&id).text(), "still here");
    }
}

#[test]
fn what_cannot_be_read_so_is_refused_before_anything_runs() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    for (target, status, code) in [
        ("work?offset=-1", 400, "invalid-query"),
        ("work?live=websocket", 400, "invalid-query"),
        ("work?live=sse&heartbeat=0", 400, "invalid-query"),
        ("work?live=long-poll&timeout=x", 400, "invalid-query"),
        ("work?live=sse&live=sse", 400, "invalid-query"),
        ("work?theirs=1", 400, "invalid-query"),
        ("work/rest", 404, "call-not-found"),
        ("play", 404, "call-not-found"),
        ("", 404, "call-not-found"),
    ] {
        harness.ask("POST", &format!("/v1/call/{target}"), &[], b"").problem(status, code);
    }
    let long = vec![b'x'; 2 << 20];
    harness.ask("POST", "/v1/call/work", &[], &long).problem(413, "body-too-large");
    harness.ask("GET", "/v1/call/work", &[], b"").problem(405, "method-not-allowed");
    assert_eq!(harness.ask("OPTIONS", "/v1/call/work", &[], b"").expect(204).header("allow"), "POST, OPTIONS");
    assert_eq!(harness.get("/v1/calls").expect(200).json()["calls"], json!([]));
    upstream.was_left_alone();
}
