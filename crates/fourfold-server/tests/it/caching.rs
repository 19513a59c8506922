//! What caches, pollers and pages of other origins need to know.

use fourfold_server::Origins;

use crate::{
    harness::{Harness, url},
    http::Answer,
};

fn tagged(harness: &Harness, target: &str, tag: &str) -> Answer {
    harness.ask("GET", target, &[("if-none-match", tag)], b"")
}

#[test]
fn a_tag_that_still_holds_is_a_304_however_it_is_written() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let middle = harness.append("s", "application/json", b"[1,2]");
    harness.append("s", "application/json", b"[3]");
    for target in [url("s"), format!("{}?offset={middle}", url("s")), format!("{}?offset=-1&limit=2", url("s"))] {
        let first = harness.get(&target).expect(200);
        let tag = first.header("etag").to_owned();
        for asked in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), format!("\"x\",W/{tag} ,\"y\"")] {
            let again = tagged(&harness, &target, &asked).expect(304);
            assert_eq!(again.body, b"");
            for name in ["etag", "stream-next-offset", "stream-up-to-date", "cache-control"] {
                assert_eq!(again.get(name), first.get(name), "{name} of {target}");
            }
            assert_eq!(again.get("stream-poll-after").is_some(), first.get("stream-poll-after").is_some());
        }
        for other in ["\"x\"", "", "W/", tag.trim_matches('"')] {
            assert_eq!(tagged(&harness, &target, other).expect(200).body, first.body, "{other}");
        }
    }
    let tag = harness.get(&url("s")).header("etag").to_owned();
    tagged(&harness, &url("s"), "*").expect(304);
    harness.append("s", "application/json", b"[4]");
    assert_eq!(tagged(&harness, &url("s"), &tag).expect(200).text(), "[1,2,3,4]");
    let tag = harness.get(&url("s")).header("etag").to_owned();
    harness.close("s");
    let closed = tagged(&harness, &url("s"), &tag).expect(200);
    assert_eq!((closed.header("stream-closed"), closed.get("stream-poll-after")), ("true", None));
    assert_eq!(tagged(&harness, &url("s"), closed.header("etag")).expect(304).header("stream-closed"), "true");
}

#[test]
fn a_tag_of_a_former_life_does_not_hold() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    harness.append("s", "text/plain", b"one");
    let tag = harness.get(&url("s")).header("etag").to_owned();
    harness.ask("DELETE", &url("s"), &[], b"").expect(204);
    harness.create("s", "text/plain");
    harness.append("s", "text/plain", b"two");
    assert_eq!(tagged(&harness, &url("s"), &tag).expect(200).text(), "two");
}

#[test]
fn a_poller_at_the_tail_is_told_when_to_come_back_within_bounds() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    for n in 0..20 {
        harness.append("s", "application/json", n.to_string().as_bytes());
        let answer = harness.get(&url("s"));
        let after: u64 = answer.header("stream-poll-after").parse().expect("milliseconds");
        assert!((100..=30_000).contains(&after), "{after}");
    }
    let cut = harness.get(&format!("{}?offset=-1&limit=3", url("s")));
    assert_eq!((cut.get("stream-poll-after"), cut.get("stream-up-to-date")), (None, None));
}

#[test]
fn limit_cuts_and_the_next_offset_goes_on() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    harness.append("s", "application/json", b"[0,1,2,3,4,5,6,7,8,9]");
    let (mut offset, mut all) = ("-1".to_owned(), Vec::new());
    loop {
        let answer = harness.get(&format!("{}?offset={offset}&limit=3", url("s"))).expect(200);
        let records = answer.json().as_array().expect("records").clone();
        assert!((1..=3).contains(&records.len()));
        all.extend(records);
        offset = answer.header("stream-next-offset").to_owned();
        if answer.get("stream-up-to-date").is_some() {
            break;
        }
    }
    assert_eq!(serde_json::json!(all).to_string(), "[0,1,2,3,4,5,6,7,8,9]");
    let polled = harness.get(&format!("{}?offset=-1&live=long-poll&limit=4", url("s"))).expect(200);
    assert_eq!(polled.text(), "[0,1,2,3]");
    harness.get(&format!("{}?offset=-1&limit=99999999999999999999999", url("s"))).expect(200);
}

#[test]
fn chunks_before_the_tail_may_be_cached_and_the_tail_never() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    for n in 0..5 {
        harness.append("s", "text/plain", n.to_string().repeat(600 * 1024).as_bytes());
    }
    let start = harness.ask("HEAD", &url("s"), &[], b"").expect(200).header("stream-oldest-offset").to_owned();
    let (mut offset, mut bytes, mut cached) = (start, 0, 0);
    loop {
        let answer = harness.get(&format!("{}?offset={offset}", url("s"))).expect(200);
        assert!(answer.body.len() <= 1024 * 1024, "{}", answer.body.len());
        bytes += answer.body.len();
        offset = answer.header("stream-next-offset").to_owned();
        if answer.get("stream-up-to-date").is_some() {
            assert_eq!(answer.header("cache-control"), "no-store");
            break;
        }
        cached += 1;
        assert!(answer.header("cache-control").starts_with("public, max-age="), "{:?}", answer.head);
    }
    assert_eq!((bytes, cached), (5 * 600 * 1024, 4));
    // What "the start" is changes with retention and with another life of the stream.
    for target in ["", "?offset=-1", "?offset=now", &format!("?offset={offset}")] {
        assert_eq!(harness.get(&(url("s") + target)).expect(200).header("cache-control"), "no-store");
    }
    assert_eq!(harness.ask("HEAD", &url("s"), &[], b"").expect(200).header("cache-control"), "no-store");
}

#[test]
fn an_echoed_cursor_gets_a_greater_one() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    harness.append("s", "application/json", b"1");
    let long_poll = |offset: &str, cursor: &str| {
        let target = format!("{}?offset={offset}&live=long-poll&timeout=0&cursor={cursor}", url("s"));
        harness.get(&target).header("stream-cursor").parse::<u64>().expect("a number")
    };
    for offset in ["-1", "now"] {
        let first = long_poll(offset, "");
        let second = long_poll(offset, &first.to_string());
        assert!(second > first, "{second} after {first}");
        assert!(long_poll(offset, &second.to_string()) > second);
        for nonsense in ["x", "-1", "1.5"] {
            assert!(long_poll(offset, nonsense) >= first);
        }
        assert!(long_poll(offset, &u64::MAX.to_string()) >= first, "what cannot grow does not break");
    }
}

#[test]
fn pages_of_other_origins_may_send_and_read_every_header_of_the_page() {
    let harness = Harness::with(|settings| settings.origins = Origins::named(vec!["*".into()]).unwrap());
    let page = include_str!("../../../../docs/protocol.md");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let named: std::collections::BTreeSet<_> = page
        .split(|c| !is_word(c))
        .filter(|word| word.starts_with("Stream-") || word.starts_with("Producer-"))
        .collect();
    assert!(named.len() > 8, "{named:?}");
    let origin = [("origin", "https://elsewhere.example"), ("access-control-request-method", "POST")];
    for target in [url("witness"), url("nobody"), "/v1/stream/".into()] {
        let preflight = harness.ask("OPTIONS", &target, &origin, b"").expect(204);
        assert_eq!(preflight.header("access-control-allow-origin"), "*");
        let allowed = preflight.header("access-control-allow-headers").to_ascii_lowercase();
        let exposed = preflight.header("access-control-expose-headers").to_ascii_lowercase();
        for name in &named {
            let name = name.to_ascii_lowercase();
            assert!(allowed.contains(&name) || exposed.contains(&name), "{name} is neither allowed nor exposed");
        }
        for name in ["content-type", "if-none-match", "last-event-id", "producer-id", "stream-seq", "stream-closed"] {
            assert!(allowed.split(", ").any(|a| a == name), "{name} is not allowed");
        }
        assert!(preflight.header("access-control-allow-methods").contains("GET"));
    }
    let read = harness.ask("GET", &url("witness"), &origin, b"").expect(200);
    let exposed = read.header("access-control-expose-headers").to_ascii_lowercase();
    for name in ["stream-next-offset", "stream-up-to-date", "stream-poll-after", "etag"] {
        assert!(read.get(name).is_some() && exposed.split(", ").any(|e| e == name), "{name}");
    }
}
