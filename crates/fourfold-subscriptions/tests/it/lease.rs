//! Pull-wake: claims, acks, releases, and leases that end.

use serde_json::json;

use crate::ground::{Ground, run};

#[test]
fn of_two_workers_one_gets_the_lease() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 30_000).await;
        assert_eq!(ground.claim("s", "early").await.1["error"]["code"], "NO_PENDING_WORK");
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        let event = ground.wake_event("s", 1).await;
        assert_eq!(
            (&event["type"], &event["stream"], &event["generation"]),
            (&json!("wake"), &json!("events/a"), &json!(1))
        );
        let (a, b) = tokio::join!(ground.claim("s", "a"), ground.claim("s", "b"));
        let (won, lost) = if a.0 == 200 { (a.1, b) } else { (b.1, a) };
        assert_eq!((lost.0, &lost.1["error"]["code"]), (409, &json!("ALREADY_CLAIMED")));
        assert_eq!((&won["generation"], &lost.1["error"]["generation"]), (&event["generation"], &json!(1)));
        let acks = json!([{"stream":"events/a","offset":tail}]);
        let (status, answer) = ground.report("s/ack", &won, acks.clone(), true).await;
        assert_eq!((status, answer), (200, json!({"ok":true,"next_wake":false})));
        assert_eq!(ground.report("s/ack", &won, acks, true).await.0, 409);
    });
}

#[test]
fn a_dead_worker_delays_its_work_by_its_lease_and_is_fenced() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 1_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        ground.wake_event("s", 1).await;
        let (_, dead) = ground.claim("s", "dead").await;
        assert_eq!(ground.wake_event("s", 2).await["generation"], 2);
        let acks = json!([{"stream":"events/a","offset":tail}]);
        for (path, acks) in [("s/ack", acks.clone()), ("s/release", json!([]))] {
            let (status, problem) = ground.report(path, &dead, acks, true).await;
            assert_eq!((status, &problem["error"]["code"]), (409, &json!("FENCED")), "{path}");
        }
        let (_, next) = ground.claim("s", "next").await;
        assert_eq!((&next["generation"], &next["streams"][0]["has_pending"]), (&json!(2), &json!(true)));
        assert_eq!(ground.report("s/ack", &next, acks, true).await.0, 200);
    });
}

#[test]
fn a_release_wakes_again_and_an_ack_that_leaves_work_says_so() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 30_000).await;
        ground.create("events/a").await;
        let first = ground.append("events/a").await;
        let second = ground.append("events/a").await;
        ground.wake_event("s", 1).await;
        let (_, wake) = ground.claim("s", "w").await;
        assert_eq!(ground.report("s/release", &wake, json!([]), false).await.0, 204);
        assert_eq!(ground.wake_event("s", 2).await["generation"], 2);
        let (_, wake) = ground.claim("s", "w").await;
        let acks = json!([{"stream":"events/a","offset":first}]);
        assert_eq!(ground.report("s/ack", &wake, acks.clone(), false).await.1, json!({"ok":true,"next_wake":false}));
        assert_eq!(ground.acked("s", "events/a").await, first, "a heartbeat acks, too");
        assert_eq!(ground.claim("s", "x").await.0, 409, "and keeps the lease");
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.1, json!({"ok":true,"next_wake":true}));
        ground.wake_event("s", 3).await;
        let (_, wake) = ground.claim("s", "w").await;
        let acks = json!([{"stream":"events/a","offset":second}, {"stream":"events/a","offset":first}]);
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.1, json!({"ok":true,"next_wake":false}));
        assert_eq!(ground.acked("s", "events/a").await, second, "a cursor never goes back");
    });
}

/// The source's token of the fork point and the fork's own are one place, but the ack was taken for one before it, and the work never ended.
#[test]
fn an_ack_at_the_point_of_a_fork_that_has_nothing_more_is_all() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 30_000).await;
        ground.create("source").await;
        let inherited = ground.append("source").await;
        ground.fork("events/fork", "source").await;
        let (_, wake) = ground.claim("s", "w").await;
        let acks = json!([{"stream":"events/fork","offset":inherited}]);
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.1, json!({"ok":true,"next_wake":false}));
        assert_eq!(ground.claim("s", "w").await.1["error"]["code"], "NO_PENDING_WORK");
        let tail = ground.append("events/fork").await;
        let (_, wake) = ground.claim("s", "w").await;
        let acks = json!([{"stream":"events/fork","offset":tail}]);
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.1, json!({"ok":true,"next_wake":false}));
        assert_eq!(ground.acked("s", "events/fork").await, tail);
    });
}

#[test]
fn an_ack_within_what_a_fork_inherits_moves_its_cursor() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 30_000).await;
        ground.create("source").await;
        let inherited = ground.append("source").await;
        ground.append("source").await;
        ground.fork("events/fork", "source").await;
        let tail = ground.append("events/fork").await;
        ground.wake_event("s", 1).await;
        let (_, wake) = ground.claim("s", "w").await;
        let acks = json!([{"stream":"events/fork","offset":inherited}]);
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.1, json!({"ok":true,"next_wake":true}));
        assert_eq!(ground.acked("s", "events/fork").await, inherited);
        let (_, wake) = ground.claim("s", "w").await;
        let acks = json!([{"stream":"events/fork","offset":tail}]);
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.1, json!({"ok":true,"next_wake":false}));
        assert_eq!(ground.acked("s", "events/fork").await, tail);
    });
}

#[test]
fn what_is_not_of_this_wake_moves_nothing() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 30_000).await;
        ground.pull("other", 30_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        ground.wake_event("s", 1).await;
        let (_, wake) = ground.claim("s", "w").await;
        let (_, foreign) = ground.claim("other", "w").await;
        let before = ground.acked("s", "events/a").await;
        let acks = json!([{"stream":"events/a","offset":tail}]);
        let with = |field: &str, value: serde_json::Value| {
            let mut wake = wake.clone();
            wake[field] = value;
            wake
        };
        for (wake, status) in [
            (with("token", foreign["token"].clone()), 401),
            (with("token", json!("x.y")), 401),
            (with("wake_id", foreign["wake_id"].clone()), 409),
            (with("generation", json!(2)), 409),
        ] {
            assert_eq!(ground.report("s/ack", &wake, acks.clone(), true).await.0, status, "{wake}");
        }
        let past = format!("{}9", &tail[..tail.len() - 1]);
        let bad = json!([{"stream":"events/a","offset":tail}, {"stream":"events/a","offset":past}]);
        assert_eq!(ground.report("s/ack", &wake, bad, true).await.1["code"], "offset-past-tail");
        let bad = json!([{"stream":"events/a","offset":"now"}]);
        assert_eq!(ground.report("s/ack", &wake, bad, true).await.1["code"], "invalid-offset");
        assert_eq!(ground.acked("s", "events/a").await, before);
        assert_eq!(ground.report("s/callback", &wake, acks.clone(), true).await.0, 400);
        assert_eq!(ground.report("s/ack", &wake, acks, true).await.0, 200);
    });
}

#[test]
fn a_wake_stream_that_is_missing_is_told_and_tried_again() {
    run(async {
        let ground = Ground::memory().await;
        let body = json!({"type":"pull-wake","streams":["a"],"wake_stream":"wake/s"});
        assert_eq!(ground.put("s", body).await.0, 201);
        ground.create("a").await;
        ground.append("a").await;
        crate::ground::until(async || ground.get("s").await["status"] == "failed").await;
        ground.create("wake/s").await;
        assert_eq!(ground.wake_event("s", 1).await["generation"], 1);
        crate::ground::until(async || ground.get("s").await["status"] == "active").await;
    });
}
