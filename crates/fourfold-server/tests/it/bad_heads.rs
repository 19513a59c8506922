//! Heads that are too large, too many, or not HTTP at all.

use crate::{
    harness::{Harness, url},
    http::Client,
};

/// Sends bytes, and reads the problem that comes instead of hyper's bare answer; then the connection ends.
fn refused(client: &mut Client, status: u16, code: &str) {
    let answer = client.answer();
    answer.problem(status, code);
    if answer.get("connection") == Some("close") {
        client.half_close();
        assert_eq!(client.ended(), b"", "nothing follows the last words");
    }
}

#[test]
fn headers_that_are_too_large_are_a_problem_on_both_sides_of_the_parser_s_buffer() {
    let harness = Harness::start();
    for kilobytes in [33, 60, 70, 100, 300] {
        let mut client = harness.connect();
        client.request("GET", "/v1/stream/witness", &[("cookie", &"x".repeat(kilobytes * 1024))], b"");
        refused(&mut client, 431, "headers-too-large");
        let mut client = harness.connect();
        let part = "y".repeat(1_000);
        let many: Vec<_> = (0..kilobytes).map(|_| ("cookie", part.as_str())).collect();
        if kilobytes * 1_006 > 32 * 1024 {
            client.request("GET", "/v1/stream/witness", &many, b"");
            refused(&mut client, 431, "headers-too-large");
        }
    }
    let mut client = harness.connect();
    client.request("GET", "/v1/stream/witness", &[("cookie", &"x".repeat(31 * 1024))], b"");
    client.answer().expect(200);
    harness.still_serves();
}

#[test]
fn too_many_headers_are_a_problem() {
    let harness = Harness::start();
    for (count, fits) in [(98, true), (101, false), (500, false), (5_000, false)] {
        let headers: Vec<_> = (0..count).map(|_| ("x", "y")).collect();
        let mut client = harness.connect();
        client.request("GET", "/v1/stream/witness", &headers, b"");
        if fits {
            client.answer().expect(200);
        } else {
            refused(&mut client, 431, "headers-too-large");
        }
    }
    harness.still_serves();
}

#[test]
fn a_url_that_is_too_long_is_a_problem_whatever_its_length() {
    let harness = Harness::start();
    for kilobytes in [9, 60, 64, 65, 100, 300] {
        for target in ["/v1/stream/", "/v1/stream/witness?offset="] {
            let mut client = harness.connect();
            client.request("GET", &format!("{target}{}", "a".repeat(kilobytes * 1_000)), &[], b"");
            refused(&mut client, 414, "url-too-long");
        }
    }
    harness.get(&format!("/v1/stream/witness?offset=-1&x={}", "a".repeat(7_000))).expect(200);
    harness.still_serves();
}

#[test]
fn what_is_not_http_is_a_problem() {
    let harness = Harness::start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client hello\r\n\r\n"[..],
        b"EHLO example.com\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/stream/a\r\n\r\n",
        b"GET /v1/stream/a HTTP/9.9\r\n\r\n",
        b"GET /v1/stream/a HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/stream/a HTTP/1.1\r\na b: c\r\n\r\n",
        b"GET /v1/stream/a HTTP/1.1\r\na: b\0c\r\n\r\n",
        b"GET /v1/stream/a b HTTP/1.1\r\n\r\n",
        b"GET /v1/stream/a\0b HTTP/1.1\r\n\r\n",
        b"GET /v1/stream/a\rb HTTP/1.1\r\n\r\n",
        b"POST /v1/stream/a HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/stream/a HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/stream/a HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /v1/stream/a HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n", // the preface of HTTP/2 but for two letters
    ] {
        eprintln!("{}", garbage.escape_ascii());
        let mut client = harness.connect();
        client.send(garbage);
        let answer = client.answer();
        assert_eq!(answer.head.status, 400, "{}", garbage.escape_ascii());
        answer.problem(400, "bad-request");
        client.half_close();
        assert_eq!(client.ended(), b"", "{}", garbage.escape_ascii());
    }
    harness.still_serves();
}

#[test]
fn a_request_names_one_host() {
    let harness = Harness::start();
    // Whole, and for hyper.
    for line in ["GET /v1/stream/witness", "HEAD /v1/stream/witness", "GET http://x/v1/stream/witness", "GET /"] {
        for (version, hosts, status) in [
            ("1.1", "", 400),
            ("1.1", "host: x\r\nhost: x\r\n", 400),
            ("1.1", "Host: x\r\nhost: y\r\n", 400),
            ("1.1", "host:\r\n", 200),
            ("1.0", "", 200),
            ("1.0", "host: x\r\nhost: x\r\n", 400),
        ] {
            let mut client = harness.connect();
            client.send(format!("{line} HTTP/{version}\r\n{hosts}\r\n"));
            let answer = client.answer_to(line.split(' ').next().expect("a method"));
            assert_eq!(answer.head.status, status, "{line} HTTP/{version} {hosts:?}");
            if status == 400 && line.starts_with("GET") {
                answer.problem(400, "bad-request");
            }
        }
    }
    harness.still_serves();
}

#[test]
fn a_coding_that_is_not_spoken_is_refused_and_not_stored() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let append = |codings: &str| {
        let mut client = harness.connect();
        client.send(format!(
            "POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n{codings}\r\n2\r\nhi\r\n0\r\n\r\n"
        ));
        client.answer()
    };
    for codings in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity, chunked\r\n",
    ] {
        append(codings).problem(501, "unknown-transfer-coding");
    }
    append("transfer-encoding: gzip\r\n").problem(400, "bad-request"); // Nobody knows where it ends.
    append("Transfer-Encoding: Chunked\r\n").expect(204);
    assert_eq!(harness.get(&url("s")).body, b"hi");
    harness.still_serves();
}

#[test]
fn garbage_behind_a_good_request_is_a_problem_behind_its_answer() {
    let harness = Harness::start();
    let mut client = harness.connect();
    client.send("GET /v1/stream/witness HTTP/1.1\r\nhost: x\r\n\r\nGARBAGE\r\n\r\n");
    client.answer().expect(200);
    refused(&mut client, 400, "bad-request");
    let mut client = harness.connect();
    client.request("GET", "/v1/stream/witness", &[], b"");
    client.answer().expect(200);
    client.request("GET", "/v1/stream/witness", &[("cookie", &"x".repeat(100_000))], b"");
    refused(&mut client, 431, "headers-too-large");
    harness.still_serves();
}

#[test]
fn a_record_that_looks_like_a_refusal_is_delivered_as_it_is() {
    let harness = Harness::start();
    harness.create("s", "application/octet-stream");
    let forged = b"HTTP/1.1 400 ".repeat(300_000);
    harness.append("s", "application/octet-stream", &forged);
    // A narrow reader, so that the server's writes end anywhere and begin anywhere.
    let mut client = Client::connect_narrow(harness.address);
    for _ in 0..3 {
        client.request("GET", "/v1/stream/s?offset=-1", &[], b"");
        assert!(client.answer().expect(200).body == forged, "the body is not the record");
    }
    harness.still_serves();
}
