//! The same questions over HTTP/2, where the host is in the URL and cookies may come in pieces.

use serde_json::{Value, json};

use super::{bearer, create, guarded, now, token};
use crate::{
    h2_client::{Answer, H2, run},
    harness::url,
};

fn code(answer: &Answer) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).expect("a problem is JSON");
    problem["code"].as_str().expect("it has a code").to_owned()
}

#[test]
fn tokens_count_on_every_stream_of_a_connection() {
    let harness = guarded();
    create(&harness, "users/ann/a");
    let reads = bearer(&token(&json!({ "read": ["users/{sub}/*"] })));
    let late = bearer(&token(&json!({ "read": ["users/{sub}/*"], "exp": now() - 5 })));
    run(async {
        let mut h2 = H2::plain(harness.listens).await;
        for parameters in ["", "?offset=now&live=long-poll&timeout=0.01", "?offset=now&live=sse"] {
            let target = format!("{}{parameters}", url("users/ann/a"));
            for (headers, status, problem) in [
                (&[][..], 401, "missing-token"),
                (&[("authorization", late.as_str())], 401, "expired-token"),
                (&[("authorization", "Bearer x")], 401, "invalid-token"),
            ] {
                let refused = h2.ask("GET", &target, headers, b"").await.expect(status);
                assert_eq!(code(&refused), problem, "{target}");
            }
            let opened = h2.open("GET", &target, &[("authorization", &reads)], b"").await;
            assert!([200, 204].contains(&opened.parts.status.as_u16()), "{target}: {:?}", opened.parts);
        }
        let json = [("authorization", reads.as_str()), ("content-type", "application/json")];
        assert_eq!(code(&h2.ask("POST", &url("users/ann/a"), &json, b"1").await.expect(403)), "not-permitted");
        assert_eq!(code(&h2.ask("GET", &url("users/bob/a"), &json[..1], b"").await.expect(403)), "not-permitted");
        assert_eq!(code(&h2.ask("GET", &url("users/bob/none"), &json[..1], b"").await.expect(403)), "not-permitted");
    });
}

#[test]
fn a_cookie_counts_from_the_page_of_the_url_s_host() {
    let harness = guarded();
    create(&harness, "a");
    let session = format!("session={}", token(&json!({ "read": ["a"], "append": ["a"] })));
    run(async {
        let mut h2 = H2::plain(harness.listens).await;
        let cookies = [("cookie", "theme=dark"), ("cookie", session.as_str()), ("content-type", "application/json")];
        for (origin, status) in
            [("https://localhost", 204), ("https://evil.example", 403), ("https://localhost:1", 403)]
        {
            let headers = [&cookies[..], &[("origin", origin)]].concat();
            h2.ask("POST", &url("a"), &headers, b"1").await.expect(status);
        }
        assert_eq!(code(&h2.ask("POST", &url("a"), &cookies, b"1").await.expect(403)), "origin-not-allowed");
        h2.ask("GET", &url("a"), &cookies[..2], b"").await.expect(200);
    });
}

#[test]
fn events_end_with_a_goodbye_before_the_token_does() {
    let harness = guarded();
    create(&harness, "a");
    let brief = bearer(&token(&json!({ "read": ["a"], "exp": now() + 3 })));
    run(async {
        let mut h2 = H2::plain(harness.listens).await;
        let target = format!("{}?offset=-1&live=sse", url("a"));
        let mut events = h2.open("GET", &target, &[("authorization", &brief)], b"").await;
        assert_eq!(events.parts.status, 200);
        assert!(events.rest().await.contains(r#""code":"token-expires""#));
    });
}
