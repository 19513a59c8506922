//! Webhooks: delivery, answers, retries.

use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fourfold_subscriptions::limits::WEBHOOK_WAIT_MAX;
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::ground::{Ground, Receiver, run, until};

#[test]
fn an_append_wakes_a_webhook_and_done_acks_what_it_was_told() {
    run(async {
        let ground = Ground::memory().await;
        let mut receiver = Receiver::new().await;
        ground.create("events/old").await;
        let old = ground.append("events/old").await;
        ground.hook("s", &receiver.url, 30_000).await;
        assert_eq!(ground.acked("s", "events/old").await, old, "what was there is linked at its tail");
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        let call = receiver.call().await;
        let jwks = ground.ask(Method::GET, "jwks.json", None, Value::Null).await.1;
        let header = call.headers["webhook-signature"].to_str().unwrap();
        let mut parts = header.split(',').map(|part| part.split_once('=').unwrap().1);
        let (at, kid, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(jwks["keys"][0]["kid"], kid);
        let key = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
        let signed = [at.as_bytes(), b".", &call.raw].concat();
        UnparsedPublicKey::new(&ED25519, key).verify(&signed, &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        assert_eq!(call.body["callback_url"], "http://here.test/v1/stream/__ds/subscriptions/s/callback");
        let streams = call.body["streams"].as_array().unwrap();
        assert_eq!((&streams[0]["path"], &streams[0]["tail_offset"]), (&json!("events/a"), &json!(tail)));
        assert_eq!((&streams[0]["has_pending"], &streams[1]["has_pending"]), (&json!(true), &json!(false)));
        let later = ground.append("events/a").await; // Behind the snapshot.
        let first = call.answer(200, r#"{"done":true}"#);
        let second = receiver.call().await;
        assert_eq!(second.body["generation"], first["generation"].as_u64().unwrap() + 1);
        assert_ne!(second.body["wake_id"], first["wake_id"]);
        assert_eq!(second.body["streams"][0]["acked_offset"], tail);
        second.answer(200, r#"{"done":true}"#);
        until(async || ground.acked("s", "events/a").await == later).await;
        assert!(receiver.is_idle());
    });
}

#[test]
fn a_failed_delivery_is_tried_again_under_a_new_generation() {
    run(async {
        let ground = Ground::memory().await;
        let mut receiver = Receiver::new().await;
        ground.hook("s", &receiver.url, 30_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        let failed = receiver.call().await.answer(500, r#"{"done":true}"#);
        until(async || ground.get("s").await["status"] == "failed").await;
        assert_eq!(ground.acked("s", "events/a").await, "-1", "a stream that came later is pending from its start");
        let call = receiver.call().await;
        assert_eq!(call.body["generation"], 2);
        let (status, _) = ground.report("s/callback", &failed, json!([]), true).await;
        assert_eq!(status, 409, "who answered 500 cannot act any more");
        call.answer(200, r#"{"done":true}"#);
        until(async || ground.acked("s", "events/a").await == tail).await;
        assert_eq!(ground.get("s").await["status"], "active");
    });
}

#[test]
fn a_webhook_that_refuses_connections_is_reached_when_it_is_back() {
    run(async {
        let ground = Ground::memory().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        ground.hook("s", &format!("http://{address}/hook?x=1"), 30_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        until(async || ground.get("s").await["status"] == "failed").await;
        let mut receiver = Receiver::on(TcpListener::bind(address).await.unwrap());
        receiver.call().await.answer(200, r#"{"done":true}"#);
        until(async || ground.acked("s", "events/a").await == tail).await;
    });
}

#[test]
fn a_redirect_is_a_failure_and_nobody_follows_it() {
    run(async {
        let ground = Ground::memory().await;
        let (mut receiver, mut elsewhere) = (Receiver::new().await, Receiver::new().await);
        ground.hook("s", &receiver.url, 30_000).await;
        ground.create("events/a").await;
        ground.append("events/a").await;
        receiver.call().await.redirect(&elsewhere.url);
        until(async || ground.get("s").await["status"] == "failed").await;
        receiver.call().await.answer(200, r#"{"done":true}"#);
        assert!(elsewhere.is_idle());
    });
}

#[test]
fn a_webhook_that_never_answers_loses_its_lease() {
    run(async {
        let ground = Ground::memory().await;
        let mut receiver = Receiver::new().await;
        ground.hook("s", &receiver.url, 1_000).await;
        ground.create("events/a").await;
        ground.append("events/a").await;
        let silent = receiver.call().await;
        let begun = Instant::now();
        let call = receiver.call().await;
        assert!(
            begun.elapsed() >= Duration::from_millis(1_000),
            "the first retry comes 0.8 s after the end of the lease"
        );
        assert!(begun.elapsed() < WEBHOOK_WAIT_MAX, "it was the lease that ended the wait for an answer");
        assert_eq!(call.body["generation"], 2);
        silent.answer(200, r#"{"done":true}"#);
        assert_eq!(ground.report("s/callback", &call.body, json!([]), false).await.0, 200);
    });
}

#[test]
fn a_worker_that_said_later_and_died_is_followed_by_another() {
    run(async {
        let ground = Ground::memory().await;
        let mut receiver = Receiver::new().await;
        ground.hook("s", &receiver.url, 1_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        let dead = receiver.call().await.answer(202, "");
        let call = receiver.call().await;
        assert_eq!(call.body["generation"], 2);
        let acks = json!([{"stream":"events/a","offset":tail}]);
        let (status, problem) = ground.report("s/callback", &dead, acks.clone(), true).await;
        assert_eq!((status, &problem["error"]["code"]), (409, &json!("FENCED")));
        let wake = call.answer(202, "");
        let (status, answer) = ground.report("s/callback", &wake, acks, true).await;
        assert_eq!((status, answer), (200, json!({"ok":true,"next_wake":false})));
        assert_eq!(ground.acked("s", "events/a").await, tail);
    });
}

#[test]
fn a_deletion_during_a_callback_leaves_nothing_behind() {
    run(async {
        let ground = Ground::memory().await;
        let mut receiver = Receiver::new().await;
        ground.hook("s", &receiver.url, 30_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        let wake = receiver.call().await.answer(202, "");
        let delete = || ground.ask(Method::DELETE, "subscriptions/s", None, Value::Null);
        assert_eq!(delete().await.0, 204);
        assert_eq!(delete().await.0, 404);
        let acks = json!([{"stream":"events/a","offset":tail}]);
        assert_eq!(ground.report("s/callback", &wake, acks.clone(), true).await.0, 404);
        ground.hook("s", &receiver.url, 30_000).await;
        ground.append("events/a").await;
        let again = receiver.call().await.answer(202, "");
        assert_eq!(again["generation"], wake["generation"]);
        let (status, problem) = ground.report("s/callback", &wake, acks, true).await;
        assert_eq!(
            (status, &problem["code"]),
            (401, &json!("invalid-token")),
            "a token of an earlier life opens nothing"
        );
        assert_eq!(ground.acked("s", "events/a").await, tail);
    });
}
