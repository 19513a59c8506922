//! Tokens in cookies, which a browser sends by itself: only for pages that may.

use std::thread;

use fourfold_server::Origins;
use serde_json::json;

use super::{bearer, create, guarded, guarded_by, master, now, options, token};
use crate::{
    harness::{Harness, url},
    http::Answer,
    websocket::HANDSHAKE,
};

const APP: &str = "https://app.example";

fn cookie() -> String {
    format!("session={}", token(&json!({ "read": ["a"], "append": ["a"] })))
}

fn named() -> Harness {
    let harness = guarded_by(options(), |settings| settings.origins = Origins::named(vec![APP.into()]).unwrap());
    create(&harness, "a");
    harness
}

#[test]
fn a_stranger_s_page_gets_nothing_with_its_reader_s_cookie() {
    let harness = named();
    let (cookie, json) = (cookie(), ("content-type", "application/json"));
    for origin in ["https://evil.example", "http://test:81", "null", "http://app.example"] {
        let headers = [("cookie", cookie.as_str()), ("origin", origin)];
        harness.ask("GET", &url("a"), &headers, b"").problem(403, "origin-not-allowed");
        harness.ask("POST", &url("a"), &[&headers[..], &[json]].concat(), b"1").problem(403, "origin-not-allowed");
        let upgrade = [&headers[..], &HANDSHAKE].concat();
        harness.ask("GET", &url("a"), &upgrade, b"").problem(403, "origin-not-allowed");
    }
    for headers in [&[("cookie", cookie.as_str())][..], &[("cookie", &cookie), ("sec-fetch-site", "cross-site")]] {
        harness.ask("POST", &url("a"), &[headers, &[json]].concat(), b"1").problem(403, "origin-not-allowed");
        harness.ask("GET", &url("a"), &[headers, &HANDSHAKE].concat(), b"").problem(403, "origin-not-allowed");
    }
    let embedded = [("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")];
    harness.ask("GET", &url("a"), &embedded, b"").problem(403, "origin-not-allowed");
    // The page of the server itself sends no Origin with a read.
    harness.ask("GET", &url("a"), &[("cookie", &cookie)], b"").expect(200);
}

fn is_for(answer: &Answer, page: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), page);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
}

#[test]
fn a_named_page_may_read_and_append_with_a_cookie_from_another_origin() {
    let harness = named();
    let cookie = cookie();
    let headers = [("cookie", cookie.as_str()), ("origin", APP)];
    let asks = [("access-control-request-method", "POST"), ("access-control-request-headers", "content-type")];
    is_for(&harness.ask("OPTIONS", &url("a"), &[&headers[1..], &asks].concat(), b"").expect(204), APP);
    let json = [&headers[..], &[("content-type", "application/json")]].concat();
    is_for(&harness.ask("POST", &url("a"), &json, b"1").expect(204), APP);
    is_for(&harness.ask("GET", &url("a"), &headers, b"").expect(200), APP);
    is_for(&harness.ask("GET", &url("b"), &headers, b"").expect(403), APP);
    for accept in ["application/x-ndjson", "application/json"] {
        let target = url("a?offset=now&live=long-poll&timeout=0.01");
        let headers = [&headers[..], &[("accept", accept)]].concat();
        is_for(&harness.ask("GET", &target, &headers, b""), APP);
    }
    let mut events = harness.connect();
    events.request("GET", &url("a?offset=now&live=sse"), &headers, b"");
    assert_eq!(events.head().get("access-control-allow-origin"), Some(APP));
}

#[test]
fn those_who_wait_for_the_same_record_are_each_told_for_which_page_it_is() {
    let harness = named();
    let cookie = cookie();
    let wait = |headers: &[(&str, &str)]| {
        let mut client = harness.connect();
        client.request("GET", &url("a?offset=now&live=long-poll&timeout=10"), headers, b"");
        client
    };
    let mut with_cookie = wait(&[("cookie", &cookie), ("origin", APP)]);
    let authorization = bearer(&master());
    let mut with_header = wait(&[("authorization", &authorization)]);
    harness.wait_for_followers("a", 2);
    let json = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    harness.ask("POST", &url("a"), &json, b"7").expect(204);
    let answers = thread::scope(|scope| {
        let first = scope.spawn(|| with_cookie.answer());
        let second = scope.spawn(|| with_header.answer());
        [first.join().unwrap(), second.join().unwrap()]
    });
    is_for(&answers[0], APP);
    assert_eq!(answers[1].header("access-control-allow-origin"), "*");
    assert_eq!((answers[0].text(), answers[1].text()), ("[7]".into(), "[7]".into()));
}

#[test]
fn a_token_sent_on_purpose_comes_from_any_page_unless_some_are_named() {
    let (any, some) = (guarded(), named());
    create(&any, "a");
    let authorization = bearer(&master());
    let headers = [("authorization", authorization.as_str()), ("origin", "https://elsewhere.example")];
    any.ask("GET", &url("a"), &headers, b"").expect(200);
    some.ask("GET", &url("a"), &headers, b"").problem(403, "origin-not-allowed");
}

#[test]
fn a_bad_cookie_closes_nothing_that_is_for_everybody() {
    let harness = named();
    create(&harness, "public/a");
    let expired = format!("session={}", token(&json!({ "exp": now() - 60 })));
    for (cookie, code) in
        [("session=", "invalid-token"), ("session=garbage", "invalid-token"), (&expired, "expired-token")]
    {
        let headers = [("cookie", cookie)];
        harness.ask("GET", &url("public/a"), &headers, b"").expect(200);
        // What is not for everybody says what is wrong with the cookie.
        for target in [url("a"), url("none"), "/v1/stream/".to_owned(), "/v1/calls".to_owned()] {
            harness.ask("GET", &target, &headers, b"").problem(401, code);
        }
        let post = [("cookie", cookie), ("origin", "http://test"), ("content-type", "application/json")];
        harness.ask("POST", &url("public/a"), &post, b"1").problem(401, code);
        // Sent on purpose it is a mistake of whoever sends it.
        let token = cookie.strip_prefix("session=").unwrap();
        harness.ask("GET", &url("public/a"), &[("authorization", &bearer(token))], b"").problem(401, code);
    }
}

#[test]
fn a_cache_tells_answers_for_a_named_page_from_those_for_any() {
    let harness = named();
    create(&harness, "public/a");
    let authorization = bearer(&master());
    for record in ["1", "2"] {
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        harness.ask("POST", &url("public/a"), &headers, record.as_bytes()).expect(204);
    }
    let first = harness.ask("GET", &url("public/a?offset=-1&limit=1"), &[], b"").expect(200);
    let target = url(&format!(
        "public/a?offset={}&limit=1",
        harness.ask("HEAD", &url("public/a"), &[], b"").header("stream-oldest-offset")
    ));
    let answer = harness.ask("GET", &target, &[], b"").expect(200);
    assert!(answer.header("cache-control").starts_with("public"), "{}", first.text());
    assert_eq!(answer.header("vary"), "Accept, Origin");
}
