//! A token that ends while its bearer reads: told in time, and renewed where that can be.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use fourfold_access::{Access, HookOptions, Verb};
use serde_json::json;

use super::{bearer, create, guarded, guarded_by, master, now, options, token};
use crate::{
    harness::{Harness, url},
    http::Client,
    websocket::{HANDSHAKE, Message, WebSocket},
};

/// Ends so soon that a test can wait for it.
fn brief() -> String {
    token(&json!({ "read": ["a"], "append": ["a"], "exp": now() + 3 }))
}

fn served() -> Harness {
    let harness = guarded();
    create(&harness, "a");
    harness
}

fn get(harness: &Harness, target: &str, token: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = harness.connect();
    let authorization = bearer(token);
    client.request("GET", &url(target), &[headers, &[("authorization", &authorization)]].concat(), b"");
    client
}

fn append(harness: &Harness, body: &str) -> String {
    let authorization = bearer(&master());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let answer = harness.ask("POST", &url("a"), &headers, body.as_bytes()).expect(204);
    answer.header("stream-next-offset").to_owned()
}

#[test]
fn events_end_with_a_goodbye_that_names_it() {
    let harness = served();
    let mut client = get(&harness, "a?offset=-1&live=sse", &brief(), &[]);
    assert_eq!(client.head().status, 200);
    let next = append(&harness, "1");
    let all: Vec<u8> = std::iter::from_fn(|| client.chunk()).flatten().collect();
    let all = String::from_utf8(all).unwrap();
    assert!(all.contains("data:[1]"), "{all}");
    let (_, goodbye) = all.split_once("event: goodbye\n").unwrap_or_else(|| panic!("it says goodbye: {all}"));
    assert!(goodbye.contains(r#""code":"token-expires""#) && goodbye.contains(&next), "{goodbye}");
    // Another token goes on from there.
    let mut client = get(&harness, &format!("a?offset={next}&live=sse"), &master(), &[]);
    assert_eq!(client.head().status, 200);
}

#[test]
fn lines_end_with_a_goodbye_and_a_long_poll_with_its_answer() {
    let harness = served();
    let mut lines =
        get(&harness, "a?offset=now&live=long-poll&timeout=60", &brief(), &[("accept", "application/x-ndjson")]);
    let mut poll = get(&harness, "a?offset=now&live=long-poll&timeout=60", &brief(), &[]);
    let told = lines.answer().expect(200).text();
    assert!(told.trim_end().lines().last().unwrap().contains(r#""code":"token-expires""#), "{told}");
    poll.answer().expect(204);
    let mut late = get(&harness, "a?offset=now", &token(&json!({ "read": ["a"], "exp": now() - 1 })), &[]);
    late.answer().problem(401, "expired-token");
}

fn websocket(harness: &Harness, token: &str, query: &str) -> WebSocket {
    let mut client = harness.connect();
    let protocols = format!("fourfold, fourfold.token.{token}");
    let headers = [&HANDSHAKE[..], &[("sec-websocket-protocol", &protocols)]].concat();
    client.request("GET", &url(&format!("a?{query}")), &headers, b"");
    assert_eq!(client.head().status, 101);
    WebSocket { client }
}

#[test]
fn a_websocket_is_reminded_and_then_told_goodbye() {
    let harness = served();
    let mut socket = websocket(&harness, &brief(), "offset=-1");
    assert_eq!(socket.json()["upToDate"], true);
    let notice = socket.json();
    assert!(notice["tokenExpiresInMs"].as_u64().is_some_and(|ms| ms <= 3000), "{notice}");
    assert!(notice["streamNextOffset"].is_string());
    let goodbye = socket.json();
    assert_eq!(goodbye["goodbye"]["code"], "token-expires");
    assert_eq!(socket.message(), Message::Close(4401, "token-expires".into()));
}

#[test]
fn a_websocket_renews_its_token_and_goes_on() {
    let harness = served();
    let mut socket = websocket(&harness, &brief(), "offset=-1");
    assert_eq!(socket.json()["upToDate"], true);
    // One that is no good changes nothing.
    for (id, bad, code) in [
        (1, "garbage".to_owned(), "invalid-token"),
        (2, token(&json!({ "read": ["b"] })), "not-permitted"),
        (3, token(&json!({ "read": ["a"], "exp": now() - 5 })), "expired-token"),
    ] {
        socket.send(&json!({ "token": bad, "id": id }).to_string());
        let answer = socket.json();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(code)), "{answer}");
        assert!(!answer.to_string().contains(&bad));
    }
    socket.send(&json!({ "token": token(&json!({ "read": ["a"] })), "id": 4 }).to_string());
    let renewed = socket.json();
    assert!(renewed["ack"]["tokenExpiresInMs"].as_u64().is_some_and(|ms| ms > 3_000_000), "{renewed}");
    // The first would be over before these have come.
    let mut poll = get(&harness, "a?offset=now&live=long-poll&timeout=4", &master(), &[]);
    poll.answer().expect(204);
    append(&harness, "7");
    assert_eq!(socket.json()["records"], json!([7]));
    // The new one does not permit what the first did.
    socket.send(&json!({ "append": [8], "id": 5 }).to_string());
    assert_eq!(socket.json()["error"]["code"], "not-permitted");
}

/// Allows what is asked for from this machine, and nothing that comes from nowhere.
fn hook_by_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.expect("it is asked");
            let (mut request, mut piece) = (Vec::new(), [0; 4096]);
            let asked = loop {
                let bytes = socket.read(&mut piece).expect("it goes on");
                assert!(bytes > 0, "it ends too soon");
                request.extend_from_slice(&piece[..bytes]);
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                if let Ok(asked) = serde_json::from_str::<serde_json::Value>(body) {
                    break asked;
                }
            };
            let answer = json!({ "allow": asked["address"] == "127.0.0.1" }).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", answer.len());
            socket.write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).expect("it is taken");
        }
    });
    address
}

#[test]
fn a_renewal_is_judged_with_the_address_that_it_comes_from() {
    let mut rules = options();
    rules.hook = Some(HookOptions::new(format!("http://{}/", hook_by_address()).parse().expect("a URL")));
    let harness = guarded_by(rules, |_| {});
    create(&harness, "a");
    let mut socket = websocket(&harness, &token(&json!({})), "offset=-1");
    assert_eq!(socket.json()["upToDate"], true);
    socket.send(&json!({ "token": token(&json!({ "sub": "bob" })), "id": 1 }).to_string());
    let renewed = socket.json();
    assert!(renewed["ack"]["tokenExpiresInMs"].is_u64(), "{renewed}");
}

#[test]
fn a_websocket_appends_only_with_leave_and_reads_only_with_leave() {
    let harness = served();
    let mut reads = websocket(&harness, &token(&json!({ "read": ["a"] })), "offset=-1");
    reads.json();
    reads.send(&json!({ "append": [1], "id": 1 }).to_string());
    let refused = reads.json();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1), &json!("not-permitted")));
    let mut appends = websocket(&harness, &token(&json!({ "append": ["a"] })), "records=none");
    appends.json();
    appends.send(&json!({ "append": [2], "id": 2 }).to_string());
    assert_eq!(appends.json()["id"], 2);
    assert_eq!(reads.json()["records"], json!([2]), "and who may only read goes on");
}

#[test]
fn an_open_server_takes_a_token_for_what_it_is_worth() {
    let harness = Harness::start();
    harness.create("a", "application/json");
    let mut socket = WebSocket::open(&harness, "a", "-1");
    socket.json();
    socket.send(&json!({ "token": "anything", "id": 1 }).to_string());
    assert_eq!(socket.json(), json!({ "id": 1, "ack": {} }));
}

#[test]
fn rules_that_come_by_a_reload_hold_for_a_websocket_that_was_there_before() {
    let access = Access::open();
    let harness = Harness::with(|settings| settings.access = access.clone());
    harness.create("a", "application/json");
    let mut socket = WebSocket::open(&harness, "a", "-1");
    socket.json();
    socket.send(&json!({ "append": [1], "id": 1 }).to_string());
    assert!(socket.answer()["ack"].is_object());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut rules = options();
    rules.anonymous.allow(Verb::Append, "witness").expect("a pattern");
    rules.anonymous.allow(Verb::Read, "witness").expect("a pattern");
    runtime.block_on(async { access.reload(rules) }).expect("they can be meant");
    socket.send(&json!({ "append": [2], "id": 2 }).to_string());
    assert_eq!(socket.answer()["error"]["code"], "missing-token");
    socket.send(&json!({ "token": "anything", "id": 3 }).to_string());
    assert_eq!(socket.answer()["error"]["code"], "invalid-token");
    socket.send(&json!({ "token": token(&json!({ "read": ["a"], "append": ["a"] })), "id": 4 }).to_string());
    assert!(socket.answer()["ack"]["tokenExpiresInMs"].is_u64());
    socket.send(&json!({ "append": [5], "id": 5 }).to_string());
    assert!(socket.answer()["ack"].is_object());
}

#[test]
fn a_304_that_a_backend_has_granted_is_for_nobody_else() {
    let mut rules = options();
    rules.hook = Some(HookOptions::new(format!("http://{}/", hook_by_address()).parse().expect("a URL")));
    let harness = guarded_by(rules, |_| {});
    create(&harness, "a");
    let mut client = harness.connect();
    client.request("GET", &url("a"), &[], b"");
    let tag = client.answer().expect(200).header("etag").to_owned();
    for _ in 0..5 {
        client.request("GET", &url("a"), &[("if-none-match", &tag)], b"");
        client.answer().expect(304);
    }
    let mut elsewhere = Client::connect_from("127.0.0.9", harness.address);
    elsewhere.request("GET", &url("a"), &[("if-none-match", &tag)], b"");
    elsewhere.answer().problem(401, "missing-token");
}
