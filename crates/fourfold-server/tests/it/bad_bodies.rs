//! Appends and creations that cannot be taken.

use crate::harness::{Harness, url};

const JSON: &str = "application/json";

fn post(harness: &Harness, name: &str, content_type: &str, body: &[u8]) -> crate::http::Answer {
    harness.ask("POST", &url(name), &[("content-type", content_type)], body)
}

#[test]
fn what_is_not_json_appends_nothing() {
    let harness = Harness::start();
    harness.create("s", JSON);
    harness.append("s", JSON, b"[1]");
    let deep = "[".repeat(200_000);
    for bad in ["{", "[1,", "[1 2]", "nul", "'a'", "{\"a\":1}{\"a\":2}", "[1]]", "\u{feff}1", " ", "NaN", "[01]", &deep]
    {
        post(&harness, "s", JSON, bad.as_bytes()).problem(400, "invalid-json");
    }
    for bad in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\"", b"[1,\"\xc3\"]"] {
        post(&harness, "s", JSON, bad).problem(400, "invalid-utf8");
    }
    post(&harness, "s", JSON, b"[]").problem(400, "empty-append");
    post(&harness, "s", JSON, b" [ ] ").problem(400, "empty-append");
    post(&harness, "s", JSON, b"").problem(400, "empty-append");
    harness.ask("PUT", &url("t"), &[("content-type", JSON)], b"{").problem(400, "invalid-json");
    harness.get(&url("t")).problem(404, "stream-not-found");
    assert_eq!(harness.get(&url("s")).text(), "[1]");
    harness.still_serves();
}

#[test]
fn deep_json_costs_no_stack() {
    let harness = Harness::start();
    harness.create("s", JSON);
    let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    let status = post(&harness, "s", JSON, deep.as_bytes()).head.status;
    assert!(matches!(status, 204 | 400), "{status}");
    harness.still_serves();
}

#[test]
fn text_is_utf8_and_bytes_are_anything() {
    let harness = Harness::start();
    harness.create("t", "text/plain");
    harness.create("b", "application/octet-stream");
    for bad in [&b"\xff"[..], b"good until \xc3\x28", b"\xc3", b"\xf4\x90\x80\x80"] {
        let problem = post(&harness, "t", "text/plain", bad).problem(400, "invalid-utf8");
        assert!(problem["detail"].as_str().expect("a text").contains("byte"), "{problem}");
        post(&harness, "b", "application/octet-stream", bad).expect(204);
    }
    post(&harness, "t", "text/plain", b"").problem(400, "empty-append");
    assert_eq!(harness.get(&url("t")).body, b"");
    assert_eq!(harness.get(&url("b")).body, b"\xffgood until \xc3\x28\xc3\xf4\x90\x80\x80");
    harness.still_serves();
}

#[test]
fn an_append_names_the_content_type_of_the_stream() {
    let harness = Harness::start();
    harness.create("s", JSON);
    harness.ask("POST", &url("s"), &[], b"1").problem(400, "missing-content-type");
    harness.ask("POST", &url("s"), &[("content-type", "")], b"1").problem(400, "missing-content-type");
    post(&harness, "s", "text/plain", b"1").problem(409, "content-type-mismatch");
    post(&harness, "s", "application/jsonx", b"1").problem(409, "content-type-mismatch");
    for bad in ["json", "/", "a/b\tc", "a/<b>", &format!("a/{}", "b".repeat(300))] {
        post(&harness, "s", bad, b"1").problem(400, "invalid-header");
        harness.ask("PUT", &url("t"), &[("content-type", bad)], b"").problem(400, "invalid-header");
    }
    let twice = [("content-type", JSON), ("content-type", JSON)];
    harness.ask("POST", &url("s"), &twice, b"1").problem(400, "invalid-header");
    post(&harness, "s", "Application/JSON; charset=utf-8", b"1").expect(204);
    assert_eq!(harness.get(&url("s")).text(), "[1]");
    harness.still_serves();
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_it_is_sent() {
    let harness = Harness::with(|settings| settings.body_bytes_max = 1_000);
    harness.create("s", "text/plain");
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut client = harness.connect();
        client.send(format!(
            "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n{expect}content-length: 1001\r\n\r\n",
            url("s")
        ));
        let answer = client.answer();
        assert_eq!(answer.problem(413, "body-too-large")["bytesMax"], 1_000);
    }
    let mut client = harness.connect();
    client.send(format!("PUT {} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n", url("t")));
    client.answer().problem(413, "body-too-large");
    assert_eq!(harness.get(&url("s")).body, b"");
    harness.append("s", "text/plain", &[b'x'; 1_000]);
    harness.still_serves();
}

#[test]
fn a_chunked_body_is_refused_when_it_passes_the_limit() {
    let harness = Harness::with(|settings| settings.body_bytes_max = 1_000);
    harness.create("s", "text/plain");
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
        url("s")
    );
    let mut client = harness.connect();
    client.send(&head);
    for _ in 0..11 {
        client.send(format!("64\r\n{}\r\n", "x".repeat(100))); // Never ended: the refusal does not wait for it.
    }
    client.answer().problem(413, "body-too-large");
    assert_eq!(harness.get(&url("s")).body, b"");
    let mut client = harness.connect();
    client.send(format!("{head}64\r\n{}\r\n0\r\n\r\n", "x".repeat(100)));
    client.answer().expect(204);
    for broken in ["zz\r\n", "-1\r\n", "5\r\nhello!!\r\n"] {
        let mut client = harness.connect();
        client.send(format!("{head}{broken}"));
        client.answer().problem(400, "bad-request");
    }
    assert_eq!(harness.get(&url("s")).body.len(), 100);
    harness.still_serves();
}

#[test]
fn a_body_that_breaks_off_appends_nothing() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let mut client = harness.connect();
    client.send(format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\nhalf",
        url("s")
    ));
    client.half_close();
    client.answer().problem(400, "bad-request");
    assert_eq!(harness.get(&url("s")).body, b"");
    harness.still_serves();
}

#[test]
fn a_refusal_to_who_expects_to_continue_is_the_refusal() {
    let harness = Harness::start();
    harness.create("s", JSON);
    let mut client = harness.connect();
    let head = |kind: &str| {
        format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: {kind}\r\ncontent-length: 3\r\n\r\n",
            url("s")
        )
    };
    for (kind, status, code) in [("text/plain", 409, "content-type-mismatch"), (JSON, 400, "invalid-json")] {
        client.send(head(kind));
        assert_eq!(client.head().status, 100);
        client.send("[1}");
        client.answer().problem(status, code);
    }
    client.send(head(JSON));
    assert_eq!(client.head().status, 100);
    client.send("[1]");
    client.answer().expect(204);
    assert_eq!(harness.get(&url("s")).text(), "[1]");
}

#[test]
fn lifetimes_and_retention_are_plain_decimals() {
    let harness = Harness::start();
    let create = |headers: &[(&str, &str)]| harness.ask("PUT", &url("s"), headers, b"");
    for name in ["stream-ttl", "stream-retention-age", "stream-retention-bytes", "stream-retention-records"] {
        for bad in ["", "-1", "+1", "01", "1.5", "1e3", "0x10", "ten", "99999999999999999999999"] {
            create(&[(name, bad)]).problem(400, "invalid-header");
        }
        create(&[(name, "60"), (name, "60")]).problem(400, "invalid-header");
    }
    create(&[("stream-ttl", "9999999999999")]).problem(400, "invalid-header");
    for bad in ["", "tomorrow", "2030-01-01", "1969-12-31T23:59:59Z", "2030-13-01T00:00:00Z", "1900000000"] {
        create(&[("stream-expires-at", bad)]).problem(400, "invalid-header");
    }
    create(&[("stream-ttl", "60"), ("stream-expires-at", "2030-01-01T00:00:00Z")]).problem(400, "invalid-header");
    create(&[("stream-forked-from", "/v1/stream/witness")]).problem(501, "not-implemented");
    harness.get(&url("s")).problem(404, "stream-not-found");
    create(&[("stream-ttl", "60"), ("stream-retention-records", "5")]).expect(201);
    create(&[("stream-ttl", "61"), ("stream-retention-records", "5")]).problem(409, "stream-exists");
    create(&[("stream-ttl", "60"), ("stream-retention-records", "6")]).problem(409, "stream-exists");
    create(&[("stream-ttl", "60")]).expect(200);
    let greatest = u64::MAX.to_string();
    let all = ["age", "bytes", "records"].map(|what| format!("stream-retention-{what}"));
    let all: Vec<_> = all.iter().map(|name| (name.as_str(), greatest.as_str())).collect();
    harness.create_with("greatest", "text/plain", &all);
    let none: Vec<_> = all.iter().map(|(name, _)| (*name, "0")).collect();
    harness.create_with("none", "text/plain", &none);
    for name in ["greatest", "none"] {
        harness.append(name, "text/plain", b"1");
        harness.append(name, "text/plain", b"2");
    }
    assert_eq!(harness.get(&url("greatest")).text(), "12");
    assert_eq!(harness.get(&url("none")).text(), "2", "the newest record stays");
    harness.still_serves();
}

#[test]
fn producer_headers_come_together_and_are_integers() {
    let harness = Harness::start();
    harness.create("s", JSON);
    let append = |headers: &[(&str, &str)]| {
        harness.ask("POST", &url("s"), &[&[("content-type", JSON)], headers].concat(), b"[1]")
    };
    for some in [
        &[("producer-id", "p")][..],
        &[("producer-epoch", "0")],
        &[("producer-seq", "0")],
        &[("producer-id", "p"), ("producer-epoch", "0")],
        &[("producer-id", "p"), ("producer-seq", "0")],
        &[("producer-epoch", "0"), ("producer-seq", "0")],
    ] {
        append(some).problem(400, "invalid-header");
    }
    let long = "p".repeat(257);
    for (id, epoch, seq) in [
        ("", "0", "0"),
        (&long, "0", "0"),
        ("p", "-1", "0"),
        ("p", "0", "x"),
        ("p", "0", "1.0"),
        ("p", "+0", "0"),
        ("p", "9007199254740992", "0"),
        ("p", "0", "18446744073709551616"),
    ] {
        append(&[("producer-id", id), ("producer-epoch", epoch), ("producer-seq", seq)]).problem(400, "invalid-header");
    }
    append(&[("stream-seq", &long)]).problem(400, "invalid-header");
    let by = |epoch, seq| append(&[("producer-id", "p"), ("producer-epoch", epoch), ("producer-seq", seq)]);
    let gap = by("0", "1");
    assert_eq!(gap.problem(409, "producer-gap")["expectedSeq"], 0);
    assert_eq!((gap.header("producer-expected-seq"), gap.header("producer-received-seq")), ("0", "1"));
    by("1", "0").expect(200);
    by("1", "0").expect(204);
    let stale = by("0", "1");
    stale.problem(403, "stale-producer-epoch");
    assert_eq!(stale.header("producer-epoch"), "1");
    by("2", "1").problem(400, "invalid-producer-epoch");
    append(&[("stream-seq", "b")]).expect(204);
    append(&[("stream-seq", "a")]).problem(409, "sequence-regression");
    harness.close("s");
    let closed = append(&[]);
    closed.problem(409, "stream-closed");
    assert_eq!(closed.header("stream-closed"), "true");
    assert_eq!(harness.get(&url("s")).text(), "[1,1]");
    harness.still_serves();
}
