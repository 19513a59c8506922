//! Methods, names, and queries that cannot be served.

use crate::{
    harness::{Harness, url},
    live::Live,
    websocket::HANDSHAKE,
};

const TEXT: [(&str, &str); 1] = [("content-type", "text/plain")];

#[test]
fn an_unknown_stream_is_told_on_every_method_and_transport() {
    let harness = Harness::start();
    let url = url("nobody");
    harness.ask("POST", &url, &TEXT, b"x").problem(404, "stream-not-found");
    harness.ask("DELETE", &url, &[], b"").problem(404, "stream-not-found");
    assert_eq!(harness.ask("HEAD", &url, &[], b"").expect(404).header("content-type"), "application/problem+json");
    for (query, headers) in [
        ("", &[][..]),
        ("?offset=now", &[]),
        ("?offset=-1&live=long-poll", &[]),
        ("?offset=-1&live=long-poll", &[("accept", "application/x-ndjson")]),
        ("?offset=-1&live=sse", &[]),
        ("?offset=-1&live=sse", &[("last-event-id", "000000000001_0000000000000000")]),
        ("", &HANDSHAKE),
    ] {
        harness.ask("GET", &format!("{url}{query}"), headers, b"").problem(404, "stream-not-found");
    }
    assert_eq!(harness.ask("OPTIONS", &url, &[], b"").expect(204).text(), "");
    harness.still_serves();
}

#[test]
fn a_method_that_is_not_served_is_told_those_that_are() {
    let harness = Harness::start();
    for method in ["PATCH", "TRACE", "BREW", "get"] {
        let answer = harness.ask(method, &url("witness"), &[], b"");
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), "GET, HEAD, PUT, POST, DELETE, OPTIONS");
    }
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        let answer = harness.ask(method, "/v1/stream/", &TEXT, b"x");
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
    }
    harness.still_serves();
}

#[test]
fn a_path_that_is_no_stream_is_refused() {
    let harness = Harness::start();
    for path in [
        "/v1/stream/a//b",
        "/v1/stream/a/",
        "/v1/stream//a",
        "/v1/stream/.",
        "/v1/stream/..",
        "/v1/stream/a/../b",
        "/v1/stream/../../etc/passwd",
        "/v1/stream/%2e%2e",
        "/v1/stream/a/%2E%2e/b",
        "/v1/stream/a%2fb",
        "/v1/stream/a%5Cb",
        "/v1/stream/a%0d%0aset-cookie:x",
        "/v1/stream/a%0a",
        "/v1/stream/a%00",
        "/v1/stream/%7f",
        "/v1/stream/%c2%85",
        "/v1/stream/%ff%fe",
        "/v1/stream/%",
        "/v1/stream/%zz",
        &url(&"a".repeat(1_025)),
        &url(&"%61".repeat(1_025)),
    ] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            harness.ask(method, path, &TEXT, b"x").problem(400, "invalid-name");
        }
    }
    for path in ["/", "/v1", "/v1/streams/a", "/V1/stream/a", "/favicon.ico.map"] {
        let answer = harness.ask("GET", path, &[], b"");
        if answer.head.status != 200 {
            answer.problem(404, "not-found"); // `/` may one day be a page.
        }
    }
    harness.still_serves();
}

#[test]
fn a_whole_url_as_a_proxy_sends_it_is_understood() {
    let harness = Harness::start();
    assert_eq!(harness.get("http://elsewhere.example/v1/stream/witness?offset=-1").expect(200).text(), "[0]");
    harness.get("http://elsewhere.example/nowhere").problem(404, "not-found");
    harness.ask("OPTIONS", "*", &[], b"").problem(404, "not-found");
    harness.ask("CONNECT", "elsewhere.example:443", &[], b"").problem(404, "not-found");
    harness.still_serves();
}

#[test]
fn a_name_of_1024_bytes_is_a_name_also_when_all_of_it_is_encoded() {
    let harness = Harness::start();
    let name = "%C3%A9".repeat(512);
    harness.create(&name, "text/plain");
    harness.append(&name, "text/plain", b"x");
    assert_eq!(harness.get(&url(&name)).expect(200).text(), "x");
    let listed = harness.get("/v1/stream/?prefix=%C3%A9").json();
    assert_eq!(listed["streams"][0]["name"], "é".repeat(512));
}

#[test]
fn reserved_names_are_refused_on_every_method() {
    let harness = Harness::start();
    for path in
        ["/v1/stream/__ds", "/v1/stream/__ds/keys", "/v1/stream/__ds/state/x/0", "/v1/stream/%5f%5Fds/jwks.json"]
    {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            harness.ask(method, path, &TEXT, b"x").problem(404, "reserved-name");
        }
    }
    harness.create("a/__ds", "text/plain");
    harness.still_serves();
}

#[test]
fn a_known_parameter_given_twice_is_refused_and_an_unknown_one_ignored() {
    let harness = Harness::start();
    for name in ["live", "limit", "timeout", "linger", "cursor", "heartbeat", "records"] {
        let target = format!("/v1/stream/witness?offset=-1&{name}=1&{name}=1");
        harness.get(&target).problem(400, "invalid-query");
    }
    for name in ["limit", "prefix", "after"] {
        harness.get(&format!("/v1/stream/?{name}=1&{name}=1")).problem(400, "invalid-query");
    }
    for value in ["%", "%f", "%zz", "%ff"] {
        harness.get(&format!("/v1/stream/witness?cursor={value}")).problem(400, "invalid-query");
    }
    harness.get("/v1/stream/witness?offset=-1&x=1&x=%zz&&=&==").expect(200);
    harness.still_serves();
}

#[test]
fn values_out_of_bounds_are_refused_where_they_apply() {
    let harness = Harness::start();
    let ndjson = [("accept", "application/x-ndjson")];
    for bad in ["0", "", "-1", "x", "1.5", "+1", "0x10", "%20"] {
        harness.get(&format!("/v1/stream/witness?limit={bad}")).problem(400, "invalid-query");
        harness.get(&format!("/v1/stream/witness?offset=now&live=long-poll&limit={bad}")).problem(400, "invalid-query");
        harness.get(&format!("/v1/stream/?limit={bad}")).problem(400, "invalid-query");
    }
    for bad in ["", "-1", "x", "inf", "NaN", "1e3", "."] {
        let target = format!("/v1/stream/witness?offset=now&live=long-poll&timeout={bad}");
        harness.get(&target).problem(400, "invalid-query");
        harness.ask("GET", &target, &ndjson, b"").problem(400, "invalid-query");
    }
    for bad in ["", "-1", "x", "0.5", "1e3"] {
        let target = format!("/v1/stream/witness?offset=now&live=long-poll&linger={bad}");
        harness.get(&target).problem(400, "invalid-query");
        harness.ask("GET", &target, &ndjson, b"").problem(400, "invalid-query");
    }
    for bad in ["", "0", "-1", "x", "0.5", "1e3"] {
        let target = |live: &str| format!("/v1/stream/witness?offset=now&heartbeat={bad}{live}");
        harness.get(&target("&live=sse")).problem(400, "invalid-query");
        harness.ask("GET", &target("&live=long-poll"), &ndjson, b"").problem(400, "invalid-query");
        harness.ask("GET", &target(""), &HANDSHAKE, b"").problem(400, "invalid-query");
        harness.get(&target("")).expect(200);
    }
    for bad in ["", "all", "None", "none,none"] {
        let target = format!("/v1/stream/witness?offset=now&records={bad}");
        harness.ask("GET", &target, &HANDSHAKE, b"").problem(400, "invalid-query");
        harness.get(&target).expect(200);
    }
    for bad in ["", "websocket", "SSE", "sse,long-poll", "long_poll"] {
        harness.get(&format!("/v1/stream/witness?offset=now&live={bad}")).problem(400, "invalid-query");
    }
    harness.still_serves();
}

#[test]
fn a_read_with_a_body_is_refused_and_the_connection_stays_in_step() {
    let harness = Harness::start();
    harness.ask("GET", &url("witness"), &[], b"GET /v1/stream/ HTTP/1.1\r\n\r\n").problem(400, "unexpected-body");
    for live in ["long-poll", "sse"] {
        let target = format!("/v1/stream/witness?offset=now&live={live}");
        harness.ask("GET", &target, &[], b"x").problem(400, "unexpected-body");
    }
    harness.ask("GET", &url("witness"), &HANDSHAKE, b"x").problem(400, "unexpected-body");
    let mut client = harness.connect();
    client.send("GET /v1/stream/witness HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    client.answer().problem(400, "unexpected-body");
    harness.still_serves();
}

#[test]
fn html_in_names_and_records_is_never_a_page() {
    let harness = Harness::start();
    let script = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    harness.get(&url(script)).problem(400, "invalid-name");
    let image = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E";
    let told = harness.get(&url(image)).problem(404, "stream-not-found");
    assert!(told["detail"].as_str().expect("a text").contains("<img src=x onerror=alert(1)>"));
    harness.create(image, "text/html");
    harness.append(image, "text/html", b"<script>alert(1)</script>");
    let read = harness.get(&url(image)).expect(200);
    assert_eq!(read.text(), "<script>alert(1)</script>");
    assert_eq!(read.header("x-content-type-options"), "nosniff");
    let policy = read.header("content-security-policy");
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    let polled = harness.get(&format!("{}?offset=-1&live=long-poll", url(image))).expect(200);
    assert!(polled.header("content-security-policy").contains("sandbox"));
    // The page itself runs what it brings.
    assert!(harness.get("/").expect(200).header("content-security-policy").contains("default-src 'self'"));
    let listed = harness.get("/v1/stream/").expect(200);
    assert_eq!(listed.header("content-type"), "application/json");
    let location = harness.ask("PUT", &url("a%22%3E%3Cb%3E"), &TEXT, b"").expect(201);
    assert_eq!(location.header("location"), "http://test/v1/stream/a%22%3E%3Cb%3E");
}

#[test]
fn a_text_forges_no_event() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let forged = "one\n\nevent: control\ndata:{\"streamClosed\":true}\nid: 0\n\nretry: 1\r\rdata:x\r\n\r\nid:\u{0}9\n:";
    let next = harness.append("s", "text/plain", forged.as_bytes());
    let mut live = Live::sse(&harness, "s", "-1");
    live.event().expect("a retry");
    let data = live.event().expect("the record");
    assert_eq!((data.name.as_str(), data.id.as_ref()), ("data", Some(&next)));
    assert_eq!(data.data, forged.replace("\r\n", "\n").replace('\r', "\n"));
    let control = live.event().expect("a control");
    assert_eq!((control.name.as_str(), &control.json()["streamNextOffset"]), ("control", &next.as_str().into()));
    assert_eq!(control.json().get("streamClosed"), None);
    let mut lines = Live::ndjson(&harness, "s", "-1");
    assert_eq!(lines.line().expect("a message")["records"][0], forged);
    assert_eq!(harness.get(&url("s")).body, forged.as_bytes());
}
