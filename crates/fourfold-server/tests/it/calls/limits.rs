//! Calls at once are bounded: in all, of a name, of a caller.

use fourfold_server::{CallOptions, Network};
use serde_json::json;

use super::{Upstream, options, serving, shell};
use crate::{harness::Harness, http::Client};

#[test]
fn one_too_many_is_told_to_come_back_and_is_let_in_when_one_has_ended() {
    let upstream = Upstream::start();
    let (url, bounded) = (upstream.url(), |key: &str| json!({ "url": upstream.url(), key: 2 }));
    let by_name = || serving(json!({ "work": bounded("at-once"), "other": { "url": url } }));
    let by_caller = || serving(json!({ "work": bounded("per-caller"), "other": { "url": url } }));
    let of_all = |calls_max, calls_per_caller| {
        Harness::with(|settings| {
            let calls = json!({ "work": { "url": url }, "other": { "url": url } });
            settings.calls = CallOptions { calls_max, calls_per_caller, ..options(calls) };
        })
    };
    for (harness, other) in [(by_name(), true), (by_caller(), false), (of_all(2, 9), false), (of_all(9, 2), false)] {
        let first = harness.call("work");
        let mut exchange = upstream.next();
        harness.call("work");
        let second = upstream.next();
        let refused = harness.ask("POST", "/v1/call/work", &[], b"");
        refused.problem(429, "too-many-calls");
        assert_eq!(refused.header("retry-after"), "1");
        let replay = harness.ask("POST", "/v1/call/work", &[("idempotency-key", "k")], b"");
        replay.problem(429, "too-many-calls");
        if other {
            harness.call("other");
            drop(upstream.next());
        }
        exchange.say("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(harness.ending(&first)["outcome"], "finished");
        // Its place is free a moment after its end can be read.
        crate::harness::eventually("there is room again", || {
            harness.ask("POST", "/v1/call/work", &[], b"").head.status == 201
        });
        drop((second, upstream.next()));
    }
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_calls() {
    let harness = Harness::with(|settings| {
        settings.limits.trusted_proxies = Network::parse_all("127.0.0.7").unwrap();
        let calls = options(json!({ "work": shell("exec sleep 100") }));
        settings.calls = CallOptions { calls_per_caller: 1, ..calls };
    });
    let begin = |from: &str, client: &str| {
        let mut connection = Client::connect_from(from, harness.address);
        connection.request("POST", "/v1/call/work", &[("x-forwarded-for", client)], b"");
        connection.answer()
    };
    begin("127.0.0.7", "1.2.3.4").expect(201);
    begin("127.0.0.7", "1.2.3.4").problem(429, "too-many-calls");
    begin("127.0.0.7", "2001:db8::1").expect(201);
    begin("127.0.0.7", "2001:db8::2").problem(429, "too-many-calls"); // One /64.
    // Behind one that is not trusted all are one.
    begin("127.0.0.8", "1.2.3.5").expect(201);
    begin("127.0.0.8", "1.2.3.6").problem(429, "too-many-calls");
}
