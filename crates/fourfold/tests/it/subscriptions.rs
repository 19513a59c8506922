//! Subscriptions through the whole server: they outlive a kill, and what they are kept in is nobody's to see.

mod restore;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    harness::{DEADLINE, Server},
    reader,
};

struct Http {
    client: Client,
    root: String,
}

impl Http {
    fn of(server: &Server) -> Self {
        Self { client: reader::http(), root: format!("{}/v1/stream/", server.url()) }
    }

    async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.root)).timeout(DEADLINE);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.send().await.expect("the server answers");
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.expect("a whole answer")).unwrap_or(Value::Null))
    }
}

fn run(fact: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, fact).await.expect("the fact did not come true in time") });
}

#[test]
fn a_kill_takes_neither_a_lease_nor_an_ack_nor_what_came_since() {
    let mut server = Server::start();
    run(async {
        let http = Http::of(&server);
        for stream in ["wake/pool", "events/a"] {
            assert_eq!(http.ask(Method::PUT, stream, None, json!([])).await.0, 201);
        }
        let wish = json!({"type":"pull-wake","pattern":"events/*","wake_stream":"wake/pool"});
        assert_eq!(http.ask(Method::PUT, "__ds/subscriptions/s", None, wish.clone()).await.0, 201);
        assert_eq!(http.ask(Method::POST, "events/a", None, json!([1])).await.0, 204);
        let claim = json!({"worker":"w"});
        let (status, wake) = http.ask(Method::POST, "__ds/subscriptions/s/claim", None, claim.clone()).await;
        assert_eq!(status, 200, "{wake}");
        let tail = wake["streams"][0]["tail_offset"].clone();
        let mut report = json!({"wake_id":wake["wake_id"],"generation":wake["generation"]});
        report["acks"] = json!([{"stream":"events/a","offset":tail}]);
        let token = wake["token"].as_str();
        assert_eq!(http.ask(Method::POST, "__ds/subscriptions/s/ack", token, report.clone()).await.0, 200);
        server.kill();
        server.restart();
        let http = Http::of(&server);
        assert_eq!(http.ask(Method::PUT, "__ds/subscriptions/s", None, wish).await.0, 200);
        let (_, view) = http.ask(Method::GET, "__ds/subscriptions/s", None, Value::Null).await;
        assert_eq!(view["streams"][0]["acked_offset"], tail);
        let (_, busy) = http.ask(Method::POST, "__ds/subscriptions/s/claim", None, claim).await;
        assert_eq!(busy["error"]["current_holder"], "w");
        assert_eq!(http.ask(Method::POST, "events/a", None, json!([2])).await.0, 204);
        report["done"] = json!(true);
        let (status, answer) = http.ask(Method::POST, "__ds/subscriptions/s/ack", token, report).await;
        assert_eq!((status, answer), (200, json!({"ok":true,"next_wake":true})));
    });
}

#[test]
fn what_subscriptions_are_kept_in_is_nobodys_to_see() {
    let server = Server::start();
    run(async {
        let http = Http::of(&server);
        let wish = json!({"type":"pull-wake","pattern":"**","wake_stream":"wake/pool"});
        assert_eq!(http.ask(Method::PUT, "__ds/subscriptions/s", None, wish).await.0, 201);
        for query in ["", "?prefix=__ds", "?prefix=__ds/keys", "?limit=1"] {
            let (_, list) = http.ask(Method::GET, query, None, Value::Null).await;
            assert_eq!(list, json!({"streams":[]}), "{query}");
        }
        for path in ["__ds/keys", "__ds/state/s/0000000000000000", "%5f_ds/keys", "__ds", "__ds/"] {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
                let (status, problem) = http.ask(method.clone(), path, None, Value::Null).await;
                assert_eq!((status, &problem["code"]), (404, &json!("reserved-name")), "{method} {path}");
            }
        }
        let (status, problem) =
            http.ask(Method::POST, "__ds/subscriptions/s/ack", None, json!({"wake_id":"","generation":0})).await;
        assert_eq!((status, &problem["code"]), (401, &json!("invalid-token")));
        let (status, problem) = http.ask(Method::PATCH, "__ds/subscriptions/s", None, Value::Null).await;
        assert_eq!((status, &problem["allow"]), (405, &json!("GET, HEAD, PUT, DELETE, OPTIONS")));
    });
}
