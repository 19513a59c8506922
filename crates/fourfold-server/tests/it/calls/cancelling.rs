//! Calls are cancelled in four spellings, and by nobody's watching.

use serde_json::json;

use super::{OPEN_HEAD, Upstream, serving, serving_shell, serving_url};
use crate::{harness::eventually, live::Live};

#[test]
fn every_spelling_cancels_and_keeps_what_came() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    for (method, before, behind) in [
        ("DELETE", "/v1/stream/calls/", ""),
        ("POST", "/v1/stream/calls/", "/cancel"),
        ("DELETE", "/v1/calls/", ""),
        ("POST", "/v1/calls/", "/cancel"),
    ] {
        let id = harness.call("work");
        let url = format!("{before}{id}{behind}");
        let mut exchange = upstream.next();
        exchange.say(OPEN_HEAD);
        exchange.say("so far");
        harness.has_records(&id, 1);
        let answer = harness.ask(method, &url, &[], b"").expect(202);
        assert_eq!((answer.json()["id"].as_str(), answer.header("cache-control")), (Some(id.as_str()), "no-store"));
        exchange.sees_the_end();
        let ending = harness.ending(&id);
        assert_eq!((&ending["outcome"], &ending["code"]), (&json!("cancelled"), &json!("asked")), "{method} {url}");
        assert_eq!(harness.read(&id).text(), "so far");
        let again = harness.ask(method, &url, &[], b"");
        if method == "POST" {
            assert_eq!(again.problem(409, "call-ended")["ending"]["outcome"], "cancelled");
            harness.read(&id);
        } else {
            again.expect(204);
            harness.get(&format!("/v1/stream/calls/{id}")).problem(404, "stream-not-found");
            harness.get(&format!("/v1/calls/{id}")).problem(404, "call-not-found");
            harness.ask(method, &url, &[], b"").expect(404);
        }
    }
    harness.still_serves();
}

#[test]
fn a_program_that_ignores_a_request_to_end_is_killed() {
    let harness = serving_shell("trap '' TERM; echo ready; while :; do sleep 100; done");
    let id = harness.call("work");
    harness.has_records(&id, 1);
    harness.ask("POST", &format!("/v1/calls/{id}/cancel"), &[], b"").expect(202);
    let ending = harness.ending(&id);
    assert_eq!((&ending["outcome"], &ending["signal"]), (&json!("cancelled"), &json!("KILL")), "{ending}");
}

#[test]
fn a_call_before_its_head_is_cancelled_too() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let id = harness.call("work");
    let exchange = upstream.next();
    assert_eq!(harness.state(&id)["state"], "starting");
    harness.ask("DELETE", &format!("/v1/stream/calls/{id}"), &[], b"").expect(202);
    exchange.sees_the_end();
    assert_eq!(harness.ending(&id)["outcome"], "cancelled");
    assert_eq!(harness.read(&id).text(), "");
}

#[test]
fn a_call_that_nobody_watches_ends_and_one_that_is_watched_does_not() {
    let upstream = Upstream::start();
    let harness = serving(json!({ "work": { "url": upstream.url(), "cancel-unwatched": "1s" } }));
    let watched = harness.call("work");
    let mut exchange = upstream.next();
    let live = Live::sse(&harness, &format!("calls/{watched}"), "-1");
    let left = harness.call("work");
    let dropped = upstream.next();
    let ending = harness.ending(&left);
    assert_eq!((&ending["outcome"], &ending["code"]), (&json!("cancelled"), &json!("unwatched")));
    dropped.sees_the_end();
    exchange.say(OPEN_HEAD);
    exchange.say("for you");
    harness.has_records(&watched, 1);
    drop(live);
    eventually("nobody watches any more", || harness.state(&watched)["state"] == "ended");
    assert_eq!(harness.ending(&watched)["code"], "unwatched");
}
