//! Which pages may begin a call.

use serde_json::json;

use super::{OPEN_HEAD, Upstream, serving};

#[test]
fn a_page_of_another_host_begins_no_call() {
    let upstream = Upstream::start();
    let harness = serving(json!({
        "work": { "url": upstream.url() },
        "open": { "url": upstream.url(), "origins": ["https://app.example"] },
    }));
    // The harness names the server `test`.
    for origin in ["https://evil.example", "null", "http://test.evil.example", "https://app.example"] {
        let refused = harness.ask("POST", "/v1/call/work", &[("origin", origin)], b"");
        refused.problem(403, "cross-origin-call");
    }
    assert_eq!(harness.get("/v1/calls").expect(200).json()["calls"], json!([]), "nothing was begun");
    for (name, origin) in [("work", "http://test:3000"), ("open", "http://test"), ("open", "https://app.example")] {
        harness.ask("POST", &format!("/v1/call/{name}"), &[("origin", origin)], b"").expect(201);
        upstream.next().say(OPEN_HEAD);
    }
    upstream.was_left_alone();
}
