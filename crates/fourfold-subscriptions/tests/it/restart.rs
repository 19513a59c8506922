//! What outlives a restart: everything.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::ground::{Ground, Receiver, run, until};

#[test]
fn a_retry_keeps_its_schedule_over_a_restart() {
    run(async {
        let ground = Ground::embedded().await;
        let mut receiver = Receiver::new().await;
        ground.hook("s", &receiver.url, 30_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        let failed = Instant::now();
        receiver.call().await.answer(503, "");
        until(async || ground.get("s").await["status"] == "failed").await;
        let ground = ground.restarted().await;
        assert_eq!(ground.get("s").await["status"], "failed");
        let call = receiver.call().await;
        assert!(failed.elapsed() >= Duration::from_millis(800), "not before its time");
        assert_eq!(call.body["generation"], 2);
        call.answer(200, r#"{"done":true}"#);
        until(async || ground.acked("s", "events/a").await == tail).await;
        let ground = ground.restarted().await;
        assert_eq!(ground.acked("s", "events/a").await, tail);
        assert!(receiver.is_idle());
    });
}

#[test]
fn a_lease_and_its_token_are_good_after_a_restart() {
    run(async {
        let ground = Ground::embedded().await;
        ground.pull("s", 30_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        ground.wake_event("s", 1).await;
        let (_, wake) = ground.claim("s", "w").await;
        let kid = async |ground: &Ground| ground.ask(http::Method::GET, "jwks.json", None, json!(null)).await.1;
        let keys = kid(&ground).await;
        let ground = ground.restarted().await;
        assert_eq!(kid(&ground).await, keys);
        assert_eq!(ground.claim("s", "other").await.1["error"]["current_holder"], "w");
        let acks = json!([{"stream":"events/a","offset":tail}]);
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.1, json!({"ok":true,"next_wake":false}));
        let ground = ground.restarted().await;
        assert_eq!(ground.claim("s", "w").await.1["error"]["code"], "NO_PENDING_WORK");
    });
}

#[test]
fn what_came_while_nobody_watched_is_found() {
    run(async {
        let ground = Ground::embedded().await;
        ground.pull("s", 30_000).await;
        ground.create("events/a").await;
        ground.subscriptions.stop(); // The engine goes on for a moment.
        ground.append("events/a").await;
        ground.create("events/new").await;
        ground.append("events/new").await;
        let ground = ground.restarted().await;
        ground.wake_event("s", 1).await;
        let (_, wake) = ground.claim("s", "w").await;
        let pending: Vec<&str> =
            wake["streams"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
        assert_eq!(pending, ["events/a", "events/new"]);
    });
}

#[test]
fn a_long_life_is_summarized_and_a_deleted_one_stays_deleted() {
    run(async {
        let ground = Ground::embedded().await;
        ground.pull("s", 30_000).await;
        ground.pull("dead", 30_000).await;
        let gone = ground.ask(http::Method::DELETE, "subscriptions/dead", None, json!(null)).await;
        assert_eq!(gone.0, 204);
        ground.create("events/a").await;
        ground.append("events/a").await;
        ground.wake_event("s", 1).await;
        let (_, wake) = ground.claim("s", "w").await;
        for _ in 0..1_100 {
            assert_eq!(ground.report("s/ack", &wake, json!([]), false).await.0, 200);
        }
        let kept = ground.engine.list("__ds/state/", None, 9).await.unwrap();
        let names: Vec<&str> = kept.streams.iter().map(|listed| listed.name.as_str()).collect();
        assert_eq!(names, ["__ds/state/s/0000000000000001"]);
        assert!(kept.streams[0].tail < 500, "the summary and what came after it");
        let ground = ground.restarted().await;
        assert_eq!(ground.report("s/ack", &wake, json!([]), true).await.1, json!({"ok":true,"next_wake":true}));
        assert_eq!(ground.ask(http::Method::GET, "subscriptions/dead", None, json!(null)).await.0, 404);
    });
}
