//! What a call that has ended is to those who come later: read from its start on every transport, in every form. All must agree.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio_tungstenite::{connect_async, tungstenite::Message as Frame};

use crate::reader::{answer, header, http};

/// An ended call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) content_type: String,
    /// JSON: each record and a line break behind it; others: all records together.
    pub(crate) content: Vec<u8>,
    pub(crate) ending: Value,
}

/// What one way of reading gave.
#[derive(Default)]
struct Read {
    content: Vec<u8>,
    /// In-band.
    ending: Option<Value>,
    /// As a header.
    head: Option<Value>,
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Text,
    Binary,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(default)]
    records: Vec<Box<RawValue>>,
    encoding: Option<String>,
    stream_next_offset: String,
    #[serde(default)]
    stream_closed: bool,
    ending: Option<Value>,
}

/// In a header, a member that is longer is left out.
const MEMBER_BYTES_MAX: usize = 256;

impl Told {
    /// Reads it in every way.
    pub(crate) async fn of(address: &str, id: &str) -> Self {
        let url = format!("http://{address}/v1/stream/calls/{id}");
        let state = http().get(format!("http://{address}/v1/calls/{id}"));
        let state: Value = json(&text(answer(state, &[200]).await.expect("it is up")).await);
        assert_eq!(state["state"], "ended", "{state}");
        let ending = state["ending"].clone();
        let head = answer(http().head(&url), &[200]).await.expect("it is up");
        assert_eq!(header(&head, "Stream-Closed"), Some("true"));
        agrees(&json(header(&head, "Stream-Ending").expect("an ending")), &ending);
        let content_type = header(&head, "Content-Type").expect("every answer has one").to_owned();
        if let Some(told) = state["contentType"].as_str() {
            assert_eq!(told, content_type);
        }
        let form = match &*content_type {
            "application/json" => Form::Json,
            text if text.starts_with("text/") => Form::Text,
            _ => Form::Binary,
        };
        let mut whole = None;
        for (way, read) in [
            ("short poll", poll(&url, form, "", false).await),
            ("short poll, messages", poll(&url, form, "", true).await),
            ("long poll", poll(&url, form, "&live=long-poll&timeout=5", false).await),
            ("long poll, messages", poll(&url, form, "&live=long-poll&timeout=5", true).await),
            ("portions", portions(&url, form).await),
            ("events", events(&url, form).await),
            ("WebSocket", websocket(&url, form).await),
        ] {
            assert!(read.ending.is_some() || read.head.is_some(), "{way} tells no ending");
            if let Some(inband) = read.ending {
                assert_eq!(inband, ending, "{way}");
            }
            if let Some(head) = read.head {
                agrees(&head, &ending);
            }
            let whole = whole.get_or_insert_with(|| read.content.clone());
            assert!(*whole == read.content, "{way} differs: {} bytes are {}", read.content.len(), whole.len());
        }
        Self { content_type, content: whole.expect("it was read"), ending }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// A header says the same, but for members that are too long for one.
fn agrees(head: &Value, whole: &Value) {
    let (head, whole) = (head.as_object().expect("an object"), whole.as_object().expect("an object"));
    for (name, value) in whole {
        match head.get(name) {
            Some(told) => assert_eq!(told, value, "{name}"),
            None => assert!(value.to_string().len() > MEMBER_BYTES_MAX - 2, "{name} is not in the header: {head:?}"),
        }
    }
    assert!(head.keys().all(|name| whole.contains_key(name)), "{head:?}");
}

impl Read {
    fn take(&mut self, form: Form, message: &Message) {
        assert_eq!(message.encoding.is_some(), matches!(form, Form::Binary) && !message.records.is_empty());
        for record in &message.records {
            let string = || serde_json::from_str::<String>(record.get()).expect("a string");
            match form {
                Form::Json => self.content.extend(format!("{}\n", record.get()).bytes()),
                Form::Text => self.content.extend(string().bytes()),
                Form::Binary => self.content.extend(BASE64.decode(string()).expect("base64")),
            }
        }
        if message.stream_closed {
            self.ending = message.ending.clone();
        }
    }

    fn take_body(&mut self, form: Form, body: &[u8]) {
        match form {
            Form::Json => {
                for value in json::<Vec<Box<RawValue>>>(std::str::from_utf8(body).expect("JSON is UTF-8")) {
                    self.content.extend(format!("{}\n", value.get()).bytes());
                }
            }
            Form::Text | Form::Binary => self.content.extend(body),
        }
    }
}

async fn poll(url: &str, form: Form, live: &str, as_messages: bool) -> Read {
    let (http, mut read, mut offset) = (http(), Read::default(), "-1".to_owned());
    loop {
        let mut request = http.get(format!("{url}?offset={offset}{live}"));
        if as_messages {
            request = request.header("Accept", "application/vnd.fourfold.message+json");
        }
        let answer = answer(request, &[200, 204]).await.expect("it is up");
        header(&answer, "Stream-Next-Offset").expect("every answer has it").clone_into(&mut offset);
        let closed = header(&answer, "Stream-Closed") == Some("true");
        read.head = header(&answer, "Stream-Ending").map(json);
        assert_eq!(read.head.is_some(), closed, "told together");
        if answer.status() == 200 {
            let body = answer.bytes().await.expect("a whole answer");
            if as_messages {
                let message: Message = json(std::str::from_utf8(&body).expect("JSON is UTF-8"));
                assert_eq!(message.stream_next_offset, offset);
                read.take(form, &message);
            } else {
                read.take_body(form, &body);
            }
        }
        if closed {
            return read;
        }
    }
}

async fn portions(url: &str, form: Form) -> Read {
    let request = http().get(format!("{url}?offset=-1&live=long-poll")).header("Accept", "application/x-ndjson");
    let (mut read, body) = (Read::default(), text(answer(request, &[200]).await.expect("it is up")).await);
    for line in body.lines() {
        assert!(read.ending.is_none(), "nothing follows the end");
        read.take(form, &json(line));
    }
    read
}

async fn events(url: &str, form: Form) -> Read {
    let answer = answer(http().get(format!("{url}?offset=-1&live=sse")), &[200]).await.expect("it is up");
    let encoded = header(&answer, "stream-sse-data-encoding").is_some();
    let (mut read, body) = (Read::default(), text(answer).await);
    for event in body.split("\n\n") {
        let field = |name: &'static str| event.lines().filter_map(move |line| line.strip_prefix(name));
        let data: Vec<&str> = field("data:").map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        let data = data.join("\n");
        match field("event: ").next() {
            Some("data") => match form {
                Form::Binary => {
                    assert!(encoded, "the head says so");
                    read.content.extend(BASE64.decode(data).expect("base64"));
                }
                Form::Json | Form::Text => read.take_body(form, data.as_bytes()),
            },
            Some("control") => {
                let control: Value = json(&data);
                read.ending = control.get("ending").cloned();
                assert_eq!(read.ending.is_some(), control["streamClosed"] == true);
            }
            None => {}
            other => panic!("not expected here: {other:?}"),
        }
    }
    read
}

async fn websocket(url: &str, form: Form) -> Read {
    let mut read = Read::default();
    let url = format!("{}?offset=-1", url.replacen("http", "ws", 1));
    let (mut socket, _) = connect_async(url).await.expect("it is up");
    while let Some(frame) = socket.next().await {
        match frame.expect("a frame") {
            Frame::Text(text) => read.take(form, &json(text.as_str())),
            Frame::Close(Some(frame)) => {
                assert_eq!(u16::from(frame.code), 1000);
                break;
            }
            other => panic!("not expected here: {other:?}"),
        }
    }
    read
}

async fn text(answer: reqwest::Response) -> String {
    answer.text().await.expect("a whole answer")
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
