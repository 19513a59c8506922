//! How long streams live, how long long polls wait, and which streams there are.

use serde_json::{Value, json};

use crate::{
    harness::{Harness, eventually, url},
    live::Live,
};

#[test]
fn a_read_renews_the_ttl_and_a_look_at_the_metadata_does_not() {
    let harness = Harness::start();
    let ttl = [("stream-ttl", "1")];
    for name in ["read", "followed", "looked-at"] {
        harness.create_with(name, "text/plain", &ttl);
    }
    let mut follower = Live::sse(&harness, "followed", "now");
    let (mut client, mut reader) = (harness.connect(), harness.connect());
    eventually("the stream that is only looked at expires", || {
        reader.request("GET", &url("read"), &[], b"");
        reader.answer().expect(200);
        client.request("HEAD", &url("looked-at"), &[], b"");
        client.answer_to("HEAD").head.status == 404
    });
    harness.get(&url("looked-at")).problem(404, "stream-not-found");
    let head = harness.ask("HEAD", &url("followed"), &[], b"").expect(200);
    assert_eq!(head.header("stream-ttl"), "1");
    harness.append("followed", "text/plain", b"still here");
    assert_eq!(follower.event_named("data").data, "still here");
    harness.create("looked-at", "text/plain");
}

#[test]
fn an_expiry_is_told_to_those_who_follow() {
    let harness = Harness::start();
    let at = (std::time::SystemTime::now() + std::time::Duration::from_millis(300))
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let at =
        time::OffsetDateTime::from_unix_timestamp_nanos(at.as_nanos().try_into().expect("it fits")).expect("a time");
    let at = at.format(&time::format_description::well_known::Rfc3339).expect("a timestamp");
    harness.create_with("s", "text/plain", &[("stream-expires-at", &at)]);
    let mut live = Live::sse(&harness, "s", "now");
    assert_eq!(live.event_named("goodbye").json()["goodbye"]["code"], "stream-deleted");
    harness.get(&url("s")).problem(404, "stream-not-found");
}

#[test]
fn a_long_poll_waits_no_longer_than_it_says() {
    let harness = Harness::with(|settings| settings.long_poll_timeout = std::time::Duration::from_millis(30));
    harness.create("s", "application/json");
    let tail = harness.append("s", "application/json", b"[1]");
    for timeout in ["", "&timeout=0", "&timeout=0.02", "&timeout=.01"] {
        let answer = harness.get(&format!("{}?offset={tail}&live=long-poll{timeout}", url("s"))).expect(204);
        assert_eq!((answer.header("stream-next-offset"), answer.header("stream-up-to-date")), (tail.as_str(), "true"));
        assert!(answer.get("stream-cursor").is_some() && answer.get("stream-poll-after").is_none());
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let target = format!("{}?offset=-1&live=long-poll&timeout=0.02", url("s"));
    let mut lines = Live::open(&harness, &target, &[("accept", "application/x-ndjson")]);
    assert_eq!(lines.line().expect("a message")["records"], json!([1]));
    assert_eq!(lines.line(), None);
    lines.client.request("GET", &url("s"), &[], b"");
    assert_eq!(lines.client.answer().expect(200).text(), "[1]", "the connection goes on");
}

#[test]
fn lingering_gathers_records_into_one_answer_until_the_stream_closes() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let target = format!("{}?offset=now&live=long-poll&linger=10000", url("s"));
    let mut poll = harness.connect();
    poll.request("GET", &target, &[], b"");
    let mut lines = Live::open(&harness, &target, &[("accept", "application/x-ndjson")]);
    lines.line().expect("a greeting");
    harness.wait_for_followers("s", 2);
    for n in 1..=3 {
        harness.append("s", "application/json", n.to_string().as_bytes());
    }
    harness.close("s");
    assert_eq!(poll.answer().expect(200).text(), "[1,2,3]");
    // The first record may come in a line of its own, if it was there before the answer had settled down to wait.
    let rest: Vec<Value> = std::iter::from_fn(|| lines.line()).collect();
    assert!((1..=2).contains(&rest.len()), "{rest:?}");
    let records: Vec<&Value> = rest.iter().filter_map(|line| line["records"].as_array()).flatten().collect();
    assert_eq!(json!(records), json!([1, 2, 3]));
}

#[test]
fn a_short_linger_ends_by_itself() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut poll = harness.connect();
    poll.request("GET", &format!("{}?offset=now&live=long-poll&linger=20", url("s")), &[], b"");
    harness.wait_for_followers("s", 1);
    // Whatever was appended while it gathered is in it, in order, and the rest follows from its offset.
    for n in 0..10 {
        harness.append("s", "application/json", n.to_string().as_bytes());
    }
    let answer = poll.answer().expect(200);
    let mut all = answer.json().as_array().expect("records").clone();
    assert!(!all.is_empty());
    let rest = harness.get(&format!("{}?offset={}", url("s"), answer.header("stream-next-offset"))).expect(200);
    all.extend(rest.json().as_array().expect("records").clone());
    assert_eq!(json!(all), json!((0..10).collect::<Vec<_>>()));
}

#[test]
fn the_list_goes_page_by_page_in_the_order_of_names() {
    let harness = Harness::start();
    let names = ["b/2", "a", "b/10", "b/1", "c", "é", "b"];
    for name in names {
        harness.create(&name.replace('é', "%C3%A9"), "text/plain");
    }
    harness.append("b/1", "text/plain", b"x");
    harness.close("c");
    let of = |page: &Value| -> Vec<String> {
        let streams = page["streams"].as_array().expect("a list");
        streams.iter().map(|stream| stream["name"].as_str().expect("a name").to_owned()).collect()
    };
    let mut sorted: Vec<String> = names.iter().map(|&name| name.into()).chain(["witness".into()]).collect();
    sorted.sort();
    let (mut after, mut all) = (String::new(), Vec::new());
    loop {
        let page = harness.get(&format!("/v1/stream/?limit=3{after}")).expect(200).json();
        assert!(of(&page).len() <= 3);
        all.extend(of(&page));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(Some(next), all.last().map(String::as_str));
        after = format!("&after={}", next.replace('é', "%C3%A9").replace('/', "%2F"));
    }
    assert_eq!(all, sorted);
    assert_eq!(of(&harness.get("/v1/stream/?prefix=b/").json()), ["b/1", "b/10", "b/2"]);
    assert_eq!(of(&harness.get("/v1/stream/?prefix=b/&after=b/10").json()), ["b/2"]);
    assert_eq!(of(&harness.get("/v1/stream/?prefix=b/&after=a").json()), ["b/1", "b/10", "b/2"]);
    assert_eq!(of(&harness.get("/v1/stream/?prefix=b/&after=c").json()), [""; 0]);
    assert_eq!(of(&harness.get("/v1/stream/?prefix=nothing").json()), [""; 0]);
    let entry = &harness.get("/v1/stream/?prefix=b/1&limit=1").json()["streams"][0];
    let head = harness.ask("HEAD", &url("b/1"), &[], b"").expect(200);
    assert_eq!(entry["streamNextOffset"], head.header("stream-next-offset"));
    assert_eq!(entry["oldestOffset"], head.header("stream-oldest-offset"));
    assert_eq!((&entry["contentType"], &entry["streamClosed"]), (&json!("text/plain"), &json!(false)));
    assert_eq!(harness.get("/v1/stream/?prefix=c").json()["streams"][0]["streamClosed"], true);
    assert_eq!(harness.ask("HEAD", "/v1/stream/", &[], b"").expect(200).header("content-type"), "application/json");
}
