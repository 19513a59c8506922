//! Which streams a subscription follows.

use fourfold_protocol::StreamName;
use http::Method;
use serde_json::{Value, json};

use crate::ground::{Ground, run};

#[test]
fn an_explicit_link_outranks_the_pattern_and_leaves_it_behind() {
    run(async {
        let ground = Ground::memory().await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        ground.pull("s", 30_000).await;
        let link_type = async |path: &str| {
            let view = ground.get("s").await;
            let found = view["streams"].as_array().unwrap().iter().find(|link| link["path"] == path).cloned();
            found.map_or(Value::Null, |link| link["link_type"].clone())
        };
        assert_eq!(link_type("events/a").await, "glob");
        for _ in 0..2 {
            assert_eq!(ground.post("s/streams", None, json!({"streams":["events/a","else/b"]})).await.0, 204);
        }
        assert_eq!((link_type("events/a").await, link_type("else/b").await), (json!("explicit"), json!("explicit")));
        assert_eq!(ground.acked("s", "events/a").await, tail);
        assert_eq!(ground.acked("s", "else/b").await, "-1", "a stream that is not there begins at its start");
        for path in ["events%2Fa", "else/b", "never/there"] {
            let path = format!("subscriptions/s/streams/{path}");
            assert_eq!(ground.ask(Method::DELETE, &path, None, Value::Null).await.0, 204);
        }
        assert_eq!((link_type("events/a").await, link_type("else/b").await), (json!("glob"), Value::Null));
    });
}

#[test]
fn a_stream_that_comes_later_is_pending_from_its_start_and_one_that_is_gone_is_not() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 30_000).await;
        let stream = ground.create("events/a").await;
        ground.append("events/a").await;
        ground.wake_event("s", 1).await;
        let (_, wake) = ground.claim("s", "w").await;
        assert_eq!(wake["streams"][0]["acked_offset"], "-1");
        ground.engine.delete(&stream).await.unwrap();
        let (_, answer) = ground.report("s/ack", &wake, json!([]), true).await;
        assert_eq!(answer, json!({"ok":true,"next_wake":false}));
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        let (_, wake) = ground.claim("s", "w").await;
        assert_eq!(
            (&wake["streams"][0]["tail_offset"], &wake["streams"][0]["has_pending"]),
            (&json!(tail), &json!(true))
        );
    });
}

#[test]
fn the_servers_own_streams_match_nothing_and_are_not_listed() {
    run(async {
        let ground = Ground::memory().await;
        for name in ["A", "_", "a", "z"] {
            ground.create(name).await;
        }
        let body = json!({"type":"pull-wake","pattern":"**","wake_stream":"wake/s"});
        assert_eq!(ground.put("s", body).await.0, 201);
        ground.append("a").await;
        crate::ground::until(async || ground.get("s").await["status"] == "failed").await;
        let view = ground.get("s").await;
        let paths: Vec<&str> =
            view["streams"].as_array().unwrap().iter().map(|l| l["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["A", "_", "a", "z"]);
        let all = ground.engine.list("__ds", None, 9).await.unwrap();
        assert_eq!(all.streams.len(), 2, "the keys and the subscription");
        for limit in 1..=5 {
            let mut seen = Vec::new();
            let mut after = None::<String>;
            loop {
                let page =
                    fourfold_stream::listing::public(&*ground.engine, "", after.as_deref(), limit).await.unwrap();
                seen.extend(page.streams.iter().map(|listed| listed.name.as_str().to_owned()));
                if !page.more {
                    break;
                }
                after = seen.last().cloned();
            }
            assert_eq!(seen, ["A", "_", "a", "z"], "pages of {limit}");
        }
        assert!(StreamName::new("__ds/keys").is_err());
    });
}

#[test]
fn a_flood_of_streams_is_followed_whole() {
    run(async {
        let ground = Ground::memory().await;
        ground.pull("s", 30_000).await;
        for n in 0..5_000 {
            let name = format!("events/{n}");
            ground.create(&name).await;
            ground.append(&name).await;
        }
        let mut acked = 0;
        while acked < 5_000 {
            let (status, wake) = ground.claim("s", "w").await;
            assert_eq!(status, 200, "{wake}");
            let pending = wake["streams"].as_array().unwrap().iter().filter(|stream| stream["has_pending"] == true);
            let acks: Vec<Value> =
                pending.map(|stream| json!({"stream":stream["path"],"offset":stream["tail_offset"]})).collect();
            acked += acks.len();
            assert_eq!(ground.report("s/ack", &wake, json!(acks), true).await.0, 200);
        }
        assert_eq!(ground.get("s").await["streams"].as_array().unwrap().len(), 5_000);
    });
}
