//! What lies below `calls/` is written by calls alone, on whichever path a write comes.

use serde_json::{Value, json};

use super::{Upstream, serving_shell, serving_url};
use crate::{http::Client, websocket::WebSocket};

#[test]
fn nobody_else_writes_below_calls() {
    let upstream = Upstream::start();
    let harness = serving_url(&upstream);
    let id = harness.call("work");
    let text = [("content-type", "text/plain")];
    harness.create("source", "text/plain");
    for name in [format!("calls/{id}"), "calls/mine".into(), "%63alls/mine".into(), "calls/a/b/cancel/c".into()] {
        let url = format!("/v1/stream/{name}");
        harness.ask("POST", &url, &text, b"x").problem(403, "calls-only");
        harness.ask("POST", &url, &[("stream-closed", "true")], b"").problem(403, "calls-only");
        harness.ask("PUT", &url, &text, b"").problem(403, "calls-only");
        harness.ask("PUT", &url, &[("stream-forked-from", "/v1/stream/source")], b"").problem(403, "calls-only");
        // The same through hyper: a head in two pieces.
        let mut client: Client = harness.connect();
        client.send(format!("POST {url} HTTP/1.1\r\nhost: x\r\n"));
        client.send("content-type: text/plain\r\nexpect: nothing\r\ncontent-length: 1\r\n\r\nx");
        client.answer().problem(403, "calls-only");
    }
    let mut socket = WebSocket::greeted(&harness, &format!("calls/{id}"));
    for message in [r#"{"append":["x"],"id":1}"#, r#"{"close":true,"id":2}"#] {
        socket.send(message);
        let answer = socket.json();
        assert!(answer["error"]["code"] == "calls-only" || answer["error"]["code"] == "invalid-message", "{answer}");
    }
    assert_eq!(harness.state(&id)["state"], "starting", "nothing came of it");
    harness.ask("POST", "/v1/stream/calls/none/cancel", &[], b"").problem(404, "call-not-found");
    let subscription = json!({ "type": "pull-wake", "pattern": "a", "wake_stream": "calls/mine" }).to_string();
    let refused = harness.ask("PUT", "/v1/stream/__ds/subscriptions/s", &[], subscription.as_bytes());
    refused.problem(403, "calls-only");
    harness.create("calls", "text/plain");
    harness.append("calls", "text/plain", b"a name as any other");
}

#[test]
fn a_call_is_forked_as_any_stream() {
    let harness = serving_shell("echo one; echo two");
    let id = harness.call("work");
    harness.ending(&id);
    let from = format!("/v1/stream/calls/{id}");
    harness.ask("PUT", "/v1/stream/mine", &[("stream-forked-from", &from)], b"").expect(201);
    harness.append("mine", "text/plain; charset=utf-8", b"three\n");
    assert_eq!(harness.get("/v1/stream/mine").expect(200).text(), "one\ntwo\nthree\n");
}

#[test]
fn calls_are_listed_newest_first_in_pages() {
    let harness = super::serving(json!({ "a": super::shell("echo a"), "b": super::shell("echo b; exec sleep 100") }));
    let ids: Vec<_> = ["a", "b", "a", "a"]
        .map(|name| {
            std::thread::sleep(std::time::Duration::from_millis(2)); // Ids tell milliseconds apart.
            harness.call(name)
        })
        .into();
    for id in [&ids[0], &ids[2], &ids[3]] {
        harness.ending(id);
    }
    harness.has_records(&ids[1], 1);
    let list = |query: &str| harness.get(&format!("/v1/calls{query}")).expect(200).json();
    let shown = |page: &Value| -> Vec<String> {
        let calls = page["calls"].as_array().expect("calls");
        calls.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect()
    };
    let newest: Vec<_> = ids.iter().rev().cloned().collect();
    let all = list("");
    assert_eq!((shown(&all), all.get("next")), (newest.clone(), None));
    assert_eq!(all["names"], json!([{ "name": "a", "kind": "command" }, { "name": "b", "kind": "command" }]));
    assert_eq!(all["calls"][0]["ending"]["outcome"], "finished");
    let (mut paged, mut query) = (Vec::new(), "?name=a&limit=2".to_owned());
    loop {
        let page = list(&query);
        paged.extend(shown(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?name=a&limit=2&after={next}");
    }
    assert_eq!(paged, [&ids[3], &ids[2], &ids[0]].map(String::clone));
    assert_eq!(shown(&list("?running=true")), [ids[1].clone()]);
    assert_eq!(shown(&list("?running=true&name=a")), [""; 0]);
    harness.get("/v1/calls?running=maybe").problem(400, "invalid-query");
    harness.get("/v1/calls/none").problem(404, "call-not-found");
    harness.ask("PUT", "/v1/calls", &[], b"").problem(405, "method-not-allowed");
    assert_eq!(harness.ask("HEAD", "/v1/calls", &[], b"").expect(200).body, b"");
    assert_eq!(
        harness.ask("OPTIONS", "/v1/calls/x", &[], b"").expect(204).header("allow"),
        "GET, HEAD, DELETE, OPTIONS"
    );
}
