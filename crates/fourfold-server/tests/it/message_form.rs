//! Polls that ask for a message: the records keep their bounds, and everything else is as in the base form.

use serde_json::{Value, json};

use crate::{
    harness::{Harness, url},
    http::{Answer, Client},
    live::Live,
};

pub(crate) const MESSAGE: &str = "application/vnd.fourfold.message+json";
const ACCEPT: (&str, &str) = ("accept", MESSAGE);

fn message(harness: &Harness, target: &str) -> Answer {
    harness.ask("GET", target, &[ACCEPT], b"")
}

#[test]
fn records_of_every_type_keep_their_bounds() {
    let harness = Harness::start();
    for (name, content_type, bodies, records) in [
        ("j", "application/json", [&b"[1,{\"a\":[2]}]"[..], b"[[3]]"], json!([1, {"a": [2]}, [3]])),
        ("t", "text/plain", [b"one\n", "\"zwö\"".as_bytes()], json!(["one\n", "\"zwö\""])),
        ("b", "application/octet-stream", [b"\xff", b"\0\x01"], json!(["/w==", "AAE="])),
    ] {
        harness.create(name, content_type);
        harness.append(name, content_type, bodies[0]);
        let tail = harness.append(name, content_type, bodies[1]);
        let mut all = json!({"records": records, "streamNextOffset": tail, "upToDate": true});
        if name == "b" {
            all["encoding"] = json!("base64");
        }
        for live in ["", "&live=long-poll"] {
            let answer = message(&harness, &format!("{}?offset=-1{live}", url(name))).expect(200);
            assert_eq!(answer.json(), all);
            assert_eq!((answer.header("content-type"), answer.header("vary")), (MESSAGE, "Accept"));
            assert!(answer.get("stream-sse-data-encoding").is_none());
        }
    }
}

#[test]
fn the_headers_are_those_of_the_base_form_but_for_type_and_tag() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let start = harness.ask("HEAD", &url("s"), &[], b"").expect(200).header("stream-next-offset").to_owned();
    harness.append("s", "application/json", b"[1,2]");
    let tail = harness.append("s", "application/json", b"[3]");
    let compare = |query: &str| {
        let target = url("s") + query;
        let (base, told) = (harness.get(&target), message(&harness, &target));
        assert_eq!(base.head.status, told.head.status, "{query}");
        let same =
            ["stream-next-offset", "stream-up-to-date", "stream-closed", "cache-control", "vary", "stream-cursor"];
        for name in same {
            assert_eq!(base.get(name), told.get(name), "{name} of {query}");
        }
        // Jittered, so only whether it is there.
        assert_eq!(base.get("stream-poll-after").is_some(), told.get("stream-poll-after").is_some(), "{query}");
        assert_eq!(base.get("etag").is_some(), told.get("etag").is_some(), "{query}");
        assert!(base.get("etag").is_none() || base.get("etag") != told.get("etag"), "{query}");
        if told.head.status == 200 {
            let message = told.json();
            let values = message["records"].as_array().map_or(&[][..], Vec::as_slice);
            assert_eq!(base.json(), json!(values), "{query}");
            assert_eq!(message["streamNextOffset"], told.header("stream-next-offset"));
            assert_eq!(message.get("upToDate").is_some(), told.get("stream-up-to-date").is_some());
            assert_eq!(message.get("streamClosed").is_some(), told.get("stream-closed").is_some());
            assert_eq!((message.get("streamCursor"), message.get("encoding")), (None, None));
        }
        told
    };
    let queries = |tail: &str| {
        [
            String::new(),
            "?offset=-1&limit=2".into(),
            format!("?offset={start}&limit=2"),
            format!("?offset={start}&limit=2&live=long-poll&cursor=1"),
            "?offset=now".into(),
            format!("?offset={tail}"),
            format!("?offset={tail}&live=long-poll&timeout=0&cursor=1"),
        ]
    };
    for query in queries(&tail) {
        compare(&query);
    }
    assert!(compare(&format!("?offset={start}&limit=2")).header("cache-control").starts_with("public, "));
    harness.close("s");
    for query in queries(&tail) {
        compare(&query);
    }
    assert_eq!(compare("").json()["streamClosed"], true);
    assert_eq!(compare(&format!("?offset={tail}&live=long-poll")).head.status, 204);
}

#[test]
fn a_tag_of_one_form_does_not_hold_for_the_other() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    harness.append("s", "text/plain", b"one");
    let tags = [harness.get(&url("s")).header("etag").to_owned(), message(&harness, &url("s")).header("etag").into()];
    for live in ["", "?offset=-1&live=long-poll"] {
        let ask = |form: (&str, &str), tag: &str| {
            harness.ask("GET", &(url("s") + live), &[form, ("if-none-match", tag)], b"")
        };
        assert_eq!(ask(ACCEPT, &tags[1]).expect(304).header("vary"), "Accept");
        assert_eq!(ask(ACCEPT, &tags[0]).expect(200).json()["records"], json!(["one"]));
        ask(("accept", "*/*"), &tags[0]).expect(304);
        assert_eq!(ask(("accept", "*/*"), &tags[1]).expect(200).text(), "one");
    }
}

#[test]
fn those_who_wait_at_one_place_each_get_their_own_form() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let mut waiting: Vec<(bool, Client)> = (0..8)
        .map(|n| {
            let (told, mut client) = (n % 2 == 0, harness.connect());
            let target = format!("{}?offset=now&live=long-poll", url("s"));
            client.request("GET", &target, if told { &[ACCEPT] } else { &[] }, b"");
            (told, client)
        })
        .collect();
    harness.wait_for_followers("s", 8);
    let tail = harness.append("s", "text/plain", b"one");
    for (told, client) in &mut waiting {
        let answer = client.answer().expect(200);
        assert!(answer.get("stream-cursor").is_some() && answer.get("stream-poll-after").is_none());
        assert_eq!(answer.header("cache-control"), "no-store");
        if *told {
            assert_eq!(answer.header("content-type"), MESSAGE);
            assert_eq!(answer.json(), json!({"records": ["one"], "streamNextOffset": tail, "upToDate": true}));
            assert!(answer.header("etag").ends_with(":m\""));
        } else {
            assert_eq!((answer.header("content-type"), answer.text().as_str()), ("text/plain", "one"));
        }
        // The connection goes on.
        client.request("GET", &url("witness"), &[], b"");
        client.answer().expect(200);
    }
}

#[test]
fn a_waiting_message_lingers_is_cut_by_limit_and_tells_the_end() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut clients = ["&linger=10000", "&linger=10000&limit=2"].map(|query| {
        let mut client = harness.connect();
        client.request("GET", &format!("{}?offset=now&live=long-poll{query}", url("s")), &[ACCEPT], b"");
        client
    });
    harness.wait_for_followers("s", 2);
    for n in 1..=3 {
        harness.append("s", "application/json", n.to_string().as_bytes());
    }
    harness.close("s");
    let all = clients[0].answer().expect(200);
    let part = clients[1].answer().expect(200);
    assert_eq!((&all.json()["records"], &all.json()["streamClosed"]), (&json!([1, 2, 3]), &json!(true)));
    assert_eq!((all.header("stream-closed"), all.get("stream-cursor")), ("true", None));
    let parted = part.json();
    assert_eq!((&parted["records"], parted.get("streamClosed"), parted.get("upToDate")), (&json!([1, 2]), None, None));
    let rest = message(&harness, &format!("{}?offset={}", url("s"), part.header("stream-next-offset"))).expect(200);
    assert_eq!((&rest.json()["records"], &rest.json()["streamClosed"]), (&json!([3]), &json!(true)));
}

#[test]
fn a_gap_is_a_410_and_an_open_answer_asked_for_besides_comes_first() {
    let harness = Harness::start();
    harness.create_with("s", "text/plain", &[("stream-retention-records", "2")]);
    let first = harness.ask("HEAD", &url("s"), &[], b"").expect(200).header("stream-next-offset").to_owned();
    for n in 0..5 {
        harness.append("s", "text/plain", n.to_string().as_bytes());
    }
    for live in ["", "&live=long-poll"] {
        let problem = message(&harness, &format!("{}?offset={first}{live}", url("s"))).problem(410, "offset-trimmed");
        let oldest = problem["oldestOffset"].as_str().expect("an offset");
        let told = message(&harness, &format!("{}?offset={oldest}{live}", url("s"))).expect(200).json();
        assert_eq!(told["records"], json!(["3", "4"]));
    }
    for (query, other, head) in [
        ("?offset=now&live=long-poll&timeout=0", "application/x-ndjson", "application/x-ndjson"),
        ("?offset=now&live=sse", "text/plain", "text/event-stream"),
        ("", "text/event-stream", "text/event-stream"),
    ] {
        let accept = format!("{MESSAGE}, {other}");
        let live = Live::open(&harness, &(url("s") + query), &[("accept", &accept)]);
        assert_eq!((live.head.get("content-type"), live.head.get("vary")), (Some(head), Some("Accept")));
    }
}

#[test]
fn a_large_record_comes_whole_and_from_the_engine_too() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let large = "\"\n".repeat(1 << 20);
    for body in [&large, "last"] {
        harness.append("s", "text/plain", body.as_bytes());
    }
    let first = message(&harness, &url("s")).expect(200);
    assert_eq!(first.json()["records"], json!([large]));
    let rest = message(&harness, &format!("{}?offset={}", url("s"), first.header("stream-next-offset"))).expect(200);
    let rest: Value = rest.json();
    assert_eq!((&rest["records"], &rest["upToDate"]), (&json!(["last"]), &json!(true)));
}
