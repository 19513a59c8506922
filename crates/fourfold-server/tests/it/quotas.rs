//! How many streams there may be, of whom, and how much of the disk they may take.

use fourfold_access::Verb;
use fourfold_engines::embedded::{Durability, EmbeddedEngine, EmbeddedOptions};
use fourfold_server::LimitOptions;
use fourfold_stream::Retention;
use serde_json::json;

use std::sync::Arc;

use crate::{
    access::{bearer, guarded_by, options, token},
    harness::{Harness, eventually, url},
    http::Answer,
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
