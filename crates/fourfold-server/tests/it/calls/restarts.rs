//! What becomes of calls when the server ends: in its own way, or by a kill.

use std::{fs, path::Path, sync::Arc};

use fourfold_engines::embedded::{EmbeddedEngine, EmbeddedOptions};
use fourfold_stream::{Engine, Relay};
use serde_json::json;

use super::{OPEN_HEAD, Upstream, options, serving_url, shell};
use crate::{harness::Harness, live::Live};

fn on_disk(dir: &Path, calls: serde_json::Value) -> Harness {
    let dir = dir.to_owned();
    let open = move |relay: Relay| -> Arc<dyn Engine> {
        Arc::new(EmbeddedEngine::open(&dir, EmbeddedOptions::default(), relay).expect("the directory can be opened"))
    };
    Harness::on(open, |settings| settings.calls = options(calls))
}

/// As a crash would leave it: nothing is under way when this is taken.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            copied(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file");
        }
    }
}

#[test]
fn a_call_that_a_kill_left_open_is_closed_and_not_executed_again() {
    let (upstream, dir) = (Upstream::start(), tempfile::tempdir().expect("a directory"));
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    let calls = json!({ "work": { "url": upstream.url() } });
    let killed = on_disk(&before, calls.clone());
    let key = [("idempotency-key", "k")];
    let id = killed.ask("POST", "/v1/call/work", &key, b"x").expect(201).header("call-id").to_owned();
    let mut exchange = upstream.next();
    let silent = killed.call("work");
    let unanswered = upstream.next();
    exchange.say(OPEN_HEAD);
    exchange.say("so far");
    killed.has_records(&id, 1);
    copied(&before, &after);
    let harness = on_disk(&after, calls);
    for (id, text) in [(&id, "so far"), (&silent, "")] {
        let ending = harness.state(id)["ending"].clone();
        assert_eq!((&ending["outcome"], &ending["code"]), (&json!("interrupted"), &json!("killed")), "at once");
        let read = harness.read(id);
        assert_eq!((read.text().as_str(), read.header("stream-closed")), (text, "true"));
        assert!(read.header("stream-ending").contains("killed"));
    }
    let again = harness.ask("POST", "/v1/call/work", &key, b"x").expect(201);
    assert_eq!((again.header("call-id"), again.header("idempotency-replayed")), (id.as_str(), "true"));
    harness.ask("POST", "/v1/call/work", &key, b"y").problem(422, "idempotency-key-reused");
    upstream.was_left_alone();
    harness.ask("POST", &format!("/v1/calls/{id}/cancel"), &[], b"").problem(409, "call-ended");
    drop((exchange, unanswered));
}

#[test]
fn a_server_that_drains_ends_its_calls_and_says_so_after_its_return() {
    let (upstream, dir) = (Upstream::start(), tempfile::tempdir().expect("a directory"));
    let calls = json!({ "work": { "url": upstream.url() }, "stubborn": shell("trap '' TERM; echo up; sleep 100") });
    let mut harness = on_disk(dir.path(), calls.clone());
    let (id, stubborn) = (harness.call("work"), harness.call("stubborn"));
    let mut exchange = upstream.next();
    exchange.say(OPEN_HEAD);
    exchange.say("so far");
    for id in [&id, &stubborn] {
        harness.has_records(id, 1);
    }
    harness.wait_until_stopped();
    exchange.sees_the_end();
    drop(harness); // It holds the engine.
    let harness = on_disk(dir.path(), calls);
    for (id, text) in [(&id, "so far"), (&stubborn, "up\n")] {
        let ending = harness.state(id)["ending"].clone();
        assert_eq!((&ending["outcome"], &ending["code"]), (&json!("interrupted"), &json!("draining")), "{ending}");
        assert_eq!(harness.read(id).text(), text);
    }
}

#[test]
fn a_server_that_drains_takes_no_call_and_lets_nobody_wait() {
    let upstream = Upstream::start();
    let mut harness = serving_url(&upstream);
    let mut waiting = harness.connect();
    waiting.request("POST", "/v1/call/work", &[("prefer", "wait")], b"");
    let exchange = upstream.next();
    let mut late = harness.connect();
    late.send("POST /v1/call/work HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(late.head().status, 100, "it is past its head when the drain begins");
    let id = exchange.head.lines().find_map(|line| line.strip_prefix("fourfold-call: ")).expect("its id").to_owned();
    let live = Live::sse(&harness, &format!("calls/{id}"), "-1");
    harness.wait_for_followers(&format!("calls/{id}"), 2);
    harness.stop();
    let answer = waiting.answer().expect(201);
    assert_eq!(answer.header("connection"), "close");
    late.send("x");
    late.answer().problem(503, "draining");
    drop((live, late, waiting));
    harness.wait_until_stopped();
    exchange.sees_the_end();
}
