//! Every ending is told apart, of an upstream and of a program.

use serde_json::{Value, json};

use super::{Exchange, OPEN_HEAD, Upstream, serving, serving_shell, serving_url, shell};

/// Outcome, code and what the stream holds.
fn told(ending: &Value) -> (&str, Option<&str>) {
    (ending["outcome"].as_str().expect("an outcome"), ending["code"].as_str())
}

/// What becomes of a call whose upstream behaves so.
fn with_upstream(config: Value, behave: impl FnOnce(Exchange)) -> (Value, String) {
    let upstream = Upstream::start();
    let mut call = json!({ "url": upstream.url() });
    call.as_object_mut().expect("an object").extend(config.as_object().expect("an object").clone());
    let harness = serving(json!({ "work": call }));
    let id = harness.call("work");
    behave(upstream.next());
    let ending = harness.ending(&id);
    let read = harness.read(&id);
    assert_eq!(read.header("stream-closed"), "true");
    let header: Value = serde_json::from_str(read.header("stream-ending")).expect("the ending is JSON");
    assert_eq!((&header["outcome"], &header["code"]), (&ending["outcome"], &ending["code"]));
    harness.still_serves();
    (ending, read.text())
}

#[test]
fn an_answer_that_came_whole_has_finished() {
    let config = json!({ "keep-headers": ["x-job"] });
    let (ending, text) = with_upstream(config, |mut exchange| {
        assert!(exchange.head.starts_with("post /task http/1.1\r\n"), "{}", exchange.head);
        exchange.say(
            "HTTP/1.1 202 Accepted\r\ncontent-type: text/html; charset=utf-8\r\nx-job: 7\r\ncontent-length: 5\r\n\r\n",
        );
        exchange.say("hello");
    });
    assert_eq!(told(&ending), ("finished", None));
    assert_eq!((&ending["status"], &ending["headers"]["x-job"]), (&json!(202), &json!("7")));
    assert_eq!((&ending["bytes"], text.as_str()), (&json!(5), "hello"));
    assert!(ending["durationMs"].is_u64() && ending["records"].is_u64(), "{ending}");
}

#[test]
fn an_upstream_that_fails_is_told_with_what_it_said() {
    let (ending, text) = with_upstream(json!({}), |mut exchange| {
        exchange.say("HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nwhy");
    });
    assert_eq!((told(&ending), &ending["status"]), (("failed", Some("upstream-status")), &json!(500)));
    assert_eq!(text, "why");
}

#[test]
fn an_answer_that_was_cut_has_failed_and_keeps_what_came() {
    let (ending, text) = with_upstream(json!({}), |mut exchange| {
        exchange.say("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\nhalf");
    });
    assert_eq!((told(&ending), text.as_str()), (("failed", Some("upstream-cut")), "half"));
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::start();
    let (ending, text) = with_upstream(json!({}), |mut exchange| {
        exchange.say(&format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url()));
    });
    assert_eq!((told(&ending), &ending["status"]), (("failed", Some("redirect")), &json!(302)));
    assert_eq!((&ending["headers"]["location"], text.as_str()), (&json!(elsewhere.url()), ""));
    elsewhere.was_left_alone();
}

#[test]
fn an_upstream_that_takes_too_long_has_timed_out() {
    let (ending, _) = with_upstream(json!({ "head-timeout": "50ms" }), Exchange::sees_the_end);
    assert_eq!(told(&ending), ("timed-out", Some("head-timeout")));
    let (ending, text) = with_upstream(json!({ "idle-timeout": "50ms" }), |mut exchange| {
        exchange.say(OPEN_HEAD);
        exchange.say("first");
        exchange.sees_the_end();
    });
    assert_eq!((told(&ending), text.as_str()), (("timed-out", Some("idle-timeout")), "first"));
    let (ending, _) = with_upstream(json!({ "total-timeout": "50ms" }), |mut exchange| {
        exchange.say(OPEN_HEAD);
        exchange.sees_the_end();
    });
    assert_eq!(told(&ending), ("timed-out", Some("total-timeout")));
}

#[test]
fn bytes_that_break_their_own_content_type_are_told_with_the_place() {
    let (ending, text) = with_upstream(json!({}), |mut exchange| {
        let body = "{\"a\":1}\n{oops}\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";
        exchange.say(&format!("{head}{body}"));
    });
    assert_eq!((told(&ending), text.as_str()), (("failed", Some("malformed")), "[{\"a\":1}]"));
}

#[test]
fn an_answer_beyond_its_bound_is_ended() {
    let (ending, _) = with_upstream(json!({ "bytes-max": "1KiB" }), |mut exchange| {
        exchange.say(OPEN_HEAD);
        exchange.say(&"x".repeat(2_000));
        exchange.sees_the_end();
    });
    assert_eq!(told(&ending), ("failed", Some("too-large")));
}

#[test]
fn an_upstream_that_is_not_there_is_told() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let harness = serving(json!({ "work": { "url": format!("http://{gone}/") } }));
    let ending = harness.ending(&harness.call("work"));
    assert_eq!(told(&ending), ("failed", Some("upstream-unreachable")));
}

#[test]
fn a_program_ends_in_as_many_ways() {
    for (script, expected, exit) in [
        ("cat; echo done", ("finished", None), json!(0)),
        ("echo out; echo why >&2; exit 3", ("failed", Some("exit-status")), json!(3)),
        ("kill -KILL $$", ("failed", Some("signal")), Value::Null),
    ] {
        let harness = serving_shell(script);
        let id = harness.ask("POST", "/v1/call/work", &[], b"in\n").expect(201).header("call-id").to_owned();
        let ending = harness.ending(&id);
        assert_eq!((told(&ending), &ending["exitCode"]), (expected, &exit), "{script}: {ending}");
        let expected = match expected.1 {
            None => ("in\ndone\n", &Value::Null, &Value::Null),
            Some("exit-status") => ("out\n", &json!("why\n"), &Value::Null),
            _ => ("", &Value::Null, &json!("KILL")),
        };
        assert_eq!((harness.read(&id).text().as_str(), &ending["stderr"], &ending["signal"]), expected, "{ending}");
        harness.still_serves();
    }
    let harness = serving(json!({ "work": { "command": ["/nowhere/to/be/found"] } }));
    assert_eq!(told(&harness.ending(&harness.call("work"))), ("failed", Some("not-found")));
    let mut slow = shell("echo first; exec sleep 100");
    slow["idle-timeout"] = json!("50ms");
    let harness = serving(json!({ "work": slow }));
    let id = harness.call("work");
    assert_eq!(told(&harness.ending(&id)), ("timed-out", Some("idle-timeout")));
    assert_eq!(harness.read(&id).text(), "first\n");
}

#[test]
fn portions_are_there_before_the_end_and_the_state_follows() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let id = harness.call("work");
    let mut exchange = upstream.next();
    let state = harness.state(&id);
    assert_eq!((&state["state"], &state["name"], state.get("contentType")), (&json!("starting"), &json!("work"), None));
    assert_eq!(state["stream"], format!("/v1/stream/calls/{id}"));
    exchange.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"progress\":0.5}");
    harness.has_records(&id, 1);
    let state = harness.state(&id);
    assert_eq!((&state["state"], &state["contentType"]), (&json!("running"), &json!("application/json")));
    let read = harness.read(&id);
    assert_eq!((read.text().as_str(), read.get("stream-closed")), (r#"[{"progress":0.5}]"#, None));
    drop(exchange);
    assert_eq!(told(&harness.ending(&id)), ("finished", None));
    assert_eq!(harness.state(&id)["state"], "ended");
}
