//! A server without rules: everybody may do everything, but for pages of strangers, whose readers do not know what they do.

use fourfold_server::Origins;

use crate::{
    harness::{Harness, url},
    websocket::HANDSHAKE,
};

#[test]
fn a_stranger_s_page_does_not_reach_an_open_server_through_its_reader_s_browser() {
    let harness = Harness::start();
    harness.create("a", "application/json");
    let json = ("content-type", "application/json");
    for origin in ["https://evil.example", "null", "http://test.evil.example"] {
        let headers = [("origin", origin)];
        harness.ask("GET", &url("a"), &headers, b"").problem(403, "origin-not-allowed");
        harness.ask("GET", &url("a"), &[&headers[..], &HANDSHAKE].concat(), b"").problem(403, "origin-not-allowed");
        harness.ask("POST", &url("a"), &[headers[0], json], b"1").problem(403, "origin-not-allowed");
        harness.ask("PUT", &url("b"), &headers, b"").problem(403, "origin-not-allowed");
        harness.ask("DELETE", &url("a"), &headers, b"").problem(403, "origin-not-allowed");
        harness.ask("GET", "/v1/stream/", &headers, b"").problem(403, "origin-not-allowed");
        harness.ask("GET", "/v1/calls", &headers, b"").problem(403, "origin-not-allowed");
        harness.ask("PUT", &url("__ds/subscriptions/x"), &headers, b"{}").problem(403, "origin-not-allowed");
    }
    for origin in ["http://test", "http://test:3000"] {
        harness.ask("POST", &url("a"), &[("origin", origin), json], b"1").expect(204);
    }
    harness.ask("POST", &url("a"), &[json], b"1").expect(204);
}

#[test]
fn pages_that_are_named_reach_it() {
    let app = "https://app.example";
    for named in [app, "*"] {
        let harness = Harness::with(|settings| settings.origins = Origins::named(vec![named.into()]).unwrap());
        harness.create("a", "application/json");
        harness.ask("GET", &url("a"), &[("origin", app)], b"").expect(200);
    }
}
