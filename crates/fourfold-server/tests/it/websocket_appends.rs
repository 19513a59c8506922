//! Appending over a WebSocket: ordered answers, whatever is between them.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::{
    harness::{Harness, url},
    websocket::{HANDSHAKE, TEXT, WebSocket, deflated, frame, tungstenite},
};

#[test]
fn two_hundred_appends_in_one_write_are_acknowledged_in_order() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut socket = WebSocket::greeted(&harness, "s");
    let frames: Vec<u8> = (0..200)
        .flat_map(|n| match n % 10 {
            3 => frame(TEXT, format!(r#"{{"append":[],"id":{n}}}"#).as_bytes()),
            6 => frame(TEXT, format!(r#"{{"apend":[1],"id":{n}}}"#).as_bytes()),
            _ => frame(TEXT, format!(r#"{{"append":[{n}],"id":{n}}}"#).as_bytes()),
        })
        .collect();
    socket.client.send(&frames);
    let mut next = String::new();
    for n in 0..200 {
        let answer = socket.answer();
        assert_eq!(answer["id"], n);
        match n % 10 {
            3 => assert_eq!(answer["error"]["code"], "empty-append"),
            6 => assert_eq!(answer["error"]["code"], "invalid-message"),
            _ => {
                let offset = answer["ack"]["streamNextOffset"].as_str().expect("an offset").to_owned();
                assert!(offset > next, "{offset} after {next}");
                next = offset;
            }
        }
    }
    let wanted: Vec<u64> = (0..200).filter(|n| !matches!(n % 10, 3 | 6)).collect();
    assert_eq!(harness.get(&url("s")).json(), json!(wanted));
    harness.still_serves();
}

#[test]
fn what_is_not_understood_is_answered_with_the_id_it_came_with() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut socket = WebSocket::greeted(&harness, "s");
    let long = format!(r#"{{"append":[1],"id":"{}"}}"#, "x".repeat(300));
    let producer = |id: &str| format!(r#"{{"append":[1],"id":9,"producer":{{"id":"{id}","epoch":0,"seq":0}}}}"#);
    let (nameless, endless) = (producer(""), producer(&"p".repeat(257)));
    for (message, id, code) in [
        ("", Value::Null, "invalid-message"),
        ("nonsense", Value::Null, "invalid-message"),
        ("[]", Value::Null, "invalid-message"),
        ("[[1],true,7]", Value::Null, "invalid-message"),
        ("{}", Value::Null, "empty-append"),
        (r#"{"id":1}"#, json!(1), "empty-append"),
        (r#"{"close":false,"id":1}"#, json!(1), "empty-append"),
        (r#"{"append":[1],"id":2,"extra":1}"#, json!(2), "invalid-message"),
        (r#"{"append":1,"id":"a\u0022b"}"#, json!("a\"b"), "invalid-message"),
        (r#"{"append":[1],"id":-1.5,"encoding":"base64"}"#, json!(-1.5), "invalid-message"),
        (r#"{"append":[1],"id":3,"close":"yes"}"#, json!(3), "invalid-message"),
        (r#"{"append":[1],"id":4,"producer":{"id":"p","epoch":0}}"#, json!(4), "invalid-message"),
        (r#"{"append":[1],"id":4,"producer":{"id":"p","epoch":-1,"seq":0}}"#, json!(4), "invalid-message"),
        (
            r#"{"append":[1],"id":4,"producer":{"id":"p","epoch":9007199254740992,"seq":0}}"#,
            json!(4),
            "invalid-message",
        ),
        (&nameless, json!(9), "invalid-message"),
        (&endless, json!(9), "invalid-message"),
        (&long, Value::Null, "invalid-message"),
    ] {
        socket.send(message);
        let answer = socket.answer();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(code)), "{message}");
        assert!(answer["error"]["status"].is_number() && answer["error"]["detail"].is_string());
    }
    for id in ["7", "\"seven\"", "7.50", "null", "\"\\u00e9\""] {
        socket.send(&format!(r#"{{"append":["fine"],"id":{id}}}"#));
        assert_eq!(socket.answer()["id"], serde_json::from_str::<Value>(id).expect("JSON"));
    }
    assert_eq!(harness.get(&url("s")).json(), json!(["fine", "fine", "fine", "fine", "fine"]));
    harness.still_serves();
}

#[test]
fn a_producer_over_a_socket_is_the_one_over_http() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut socket = WebSocket::greeted(&harness, "s");
    let mut send = |epoch: u64, seq: u64| {
        let producer = json!({"id": "p", "epoch": epoch, "seq": seq});
        socket.send(&json!({"append": [format!("{epoch}:{seq}")], "id": seq, "producer": producer}).to_string());
        socket.answer()
    };
    assert_eq!(send(0, 0)["ack"].get("duplicate"), None);
    assert_eq!(send(0, 0)["ack"]["duplicate"], true);
    let gap = send(0, 2);
    assert_eq!((&gap["error"]["code"], &gap["error"]["expectedSeq"]), (&json!("producer-gap"), &json!(1)));
    let by =
        [("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", "1"), ("content-type", "application/json")];
    harness.ask("POST", &url("s"), &by, b"\"http\"").expect(200);
    assert_eq!(send(0, 1)["ack"]["duplicate"], true);
    assert_eq!(send(1, 0)["ack"].get("duplicate"), None);
    assert_eq!(send(0, 2)["error"]["code"], "stale-producer-epoch");
    assert_eq!(send(2, 1)["error"]["code"], "invalid-producer-epoch");
    assert_eq!(harness.get(&url("s")).json(), json!(["0:0", "http", "1:0"]));
}

#[test]
fn a_close_with_a_last_append_is_acknowledged_and_then_the_socket_closes() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let mut socket = WebSocket::greeted(&harness, "s");
    let mut other = WebSocket::greeted(&harness, "s");
    let messages = [r#"{"append":["last"],"close":true,"id":8}"#, r#"{"append":["too late"],"id":9}"#];
    socket.client.send(messages.map(|text| frame(TEXT, text.as_bytes())).concat());
    let ack = socket.answer();
    assert_eq!((&ack["id"], &ack["ack"]["streamClosed"]), (&json!(8), &json!(true)));
    let late = socket.answer();
    assert_eq!((&late["id"], &late["error"]["code"]), (&json!(9), &json!("stream-closed")));
    socket.closed(1000, "stream-closed");
    let last = other.json();
    assert_eq!((&last["records"], &last["streamClosed"]), (&json!(["last"]), &json!(true)));
    assert_eq!(last.get("streamCursor"), None);
    other.closed(1000, "stream-closed");
    let mut again = WebSocket::open(&harness, "s", "-1");
    assert_eq!(again.json()["records"], json!(["last"]));
    again.closed(1000, "stream-closed");
    harness.still_serves();
}

#[test]
fn each_kind_of_stream_takes_its_own_records() {
    let harness = Harness::start();
    harness.create("t", "text/plain");
    harness.create("b", "application/octet-stream");
    let mut text = WebSocket::greeted(&harness, "t");
    let mut bytes = WebSocket::greeted(&harness, "b");
    text.send(r#"{"append":["a\nb","é\u0000"],"id":1}"#);
    assert!(text.answer().get("ack").is_some());
    text.send(r#"{"append":[1],"id":2}"#);
    assert_eq!(text.answer()["error"]["code"], "invalid-message");
    bytes.send(r#"{"append":["/w==","AAE="],"encoding":"base64","id":1}"#);
    assert!(bytes.answer().get("ack").is_some());
    for bad in [r#"{"append":["/w=="],"id":2}"#, r#"{"append":["/w"],"encoding":"base64","id":2}"#] {
        bytes.send(bad);
        assert_eq!(bytes.answer()["error"]["code"], "invalid-message");
    }
    assert_eq!(harness.get(&url("t")).body, "a\nbé\0".as_bytes());
    assert_eq!(harness.get(&url("b")).body, b"\xff\0\x01");
    let mut reader = WebSocket::open(&harness, "b", "-1");
    let message = reader.json();
    assert_eq!((&message["records"], &message["encoding"]), (&json!(["/w==", "AAE="]), &json!("base64")));
}

#[test]
fn what_comes_right_behind_the_handshake_is_read() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut request = "GET /v1/stream/s?offset=now HTTP/1.1\r\nhost: x\r\n".to_owned();
    for (name, value) in HANDSHAKE {
        request += &format!("{name}: {value}\r\n");
    }
    let first = frame(TEXT, br#"{"append":[1],"id":1}"#);
    let second = frame(TEXT, br#"{"append":[2],"id":2}"#);
    for cut in [0, 1, 7, second.len()] {
        let mut client = harness.connect();
        client.send([request.as_bytes(), b"\r\n", &first, &second[..cut]].concat());
        assert_eq!(client.head().status, 101);
        let mut socket = WebSocket { client };
        assert_eq!(socket.answer()["id"], 1);
        socket.client.send(&second[cut..]);
        assert_eq!(socket.answer()["id"], 2);
    }
    assert_eq!(harness.get(&url("s")).text(), "[1,2,1,2,1,2,1,2]");
}

#[test]
fn compressed_messages_go_both_ways() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut socket = WebSocket::open_deflated(&harness, "s", "now");
    socket.json();
    let record = "again and ".repeat(1_000);
    socket.client.send(deflated(&json!({"append": [record], "id": 1}).to_string()));
    let (mut acked, mut seen) = (false, false);
    while !(acked && seen) {
        let message = socket.json();
        acked |= message["ack"].is_object();
        seen |= message["records"] == json!([record]);
    }
    let mut plain = WebSocket::open(&harness, "s", "-1");
    assert_eq!(plain.json()["records"], json!([record]));
}

#[test]
fn a_client_that_is_not_ours_reads_and_appends() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let mut socket = tungstenite(&harness, "s", "-1");
    assert!(socket.read().expect("a greeting").to_text().expect("text").contains(r#""upToDate":true"#));
    for n in 0..50 {
        socket.send(Message::text(format!(r#"{{"append":[{n}],"id":{n}}}"#))).expect("it is open");
    }
    socket.send(Message::text(r#"{"close":true,"id":50}"#)).expect("it is open");
    let (mut records, mut acks) = (Vec::new(), Vec::new());
    let close = loop {
        match socket.read().expect("a message") {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                records.extend(message["records"].as_array().cloned().unwrap_or_default());
                acks.extend(message["ack"].is_object().then(|| message["id"].clone()));
            }
            Message::Close(close) => break close.expect("a code"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Normal, "stream-closed"));
    assert_eq!(json!(records), json!((0..50).collect::<Vec<_>>()));
    assert_eq!(json!(acks), json!((0..51).collect::<Vec<_>>()));
}
