//! Reading what stays open: lines of JSON and events, with and without chunks.

use std::collections::VecDeque;

use serde_json::Value;

use crate::{
    harness::Harness,
    http::{Client, Head},
};

/// An open answer.
pub(crate) struct Live {
    pub(crate) client: Client,
    pub(crate) head: Head,
    text: Vec<u8>,
}

/// A server-sent event, as the HTML standard has a reader understand it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
}

impl Live {
    /// Asks, and reads the head.
    pub(crate) fn open(harness: &Harness, target: &str, headers: &[(&str, &str)]) -> Self {
        Self::on(harness.connect(), target, headers)
    }

    pub(crate) fn on(mut client: Client, target: &str, headers: &[(&str, &str)]) -> Self {
        client.request("GET", target, headers, b"");
        Self::begun(client)
    }

    /// The answer to what was asked already.
    pub(crate) fn begun(client: Client) -> Self {
        Self::begun_with(client, 200)
    }

    /// The same, with another status.
    pub(crate) fn begun_with(mut client: Client, status: u16) -> Self {
        let head = client.head();
        if head.status != status {
            panic!("refused: {head:?} {}", String::from_utf8_lossy(&client.unread));
        }
        Self { client, head, text: Vec::new() }
    }

    pub(crate) fn sse(harness: &Harness, name: &str, offset: &str) -> Self {
        Self::open(harness, &format!("/v1/stream/{name}?offset={offset}&live=sse"), &[])
    }

    pub(crate) fn ndjson(harness: &Harness, name: &str, offset: &str) -> Self {
        let target = format!("/v1/stream/{name}?offset={offset}&live=long-poll");
        Self::open(harness, &target, &[("accept", "application/x-ndjson")])
    }

    /// The next message of a NDJSON answer; `None` at its end.
    pub(crate) fn line(&mut self) -> Option<Value> {
        let line = self.until(b"\n")?;
        Some(serde_json::from_slice(&line).expect("every line is a message"))
    }

    /// The next event; `None` at the end. Comments are skipped, and a `retry` alone is an event without a name.
    pub(crate) fn event(&mut self) -> Option<Event> {
        loop {
            let block = String::from_utf8(self.until(b"\n\n")?).expect("an event stream is UTF-8");
            let mut event = Event::default();
            let mut data = Vec::new();
            for line in block.split(['\n', '\r']).filter(|line| !line.starts_with(':')) {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "event" => value.clone_into(&mut event.name),
                    "data" => data.push(value),
                    "id" => event.id = Some(value.to_owned()),
                    "retry" => event.retry = value.parse().ok(),
                    other => panic!("the server writes no field {other:?}"),
                }
            }
            event.data = data.join("\n");
            if event != Event::default() {
                return Some(event);
            }
        }
    }

    /// The next event of this name; the others are skipped.
    #[track_caller]
    pub(crate) fn event_named(&mut self, name: &str) -> Event {
        let mut skipped = VecDeque::new();
        while let Some(event) = self.event() {
            if event.name == name {
                return event;
            }
            skipped.push_back(event);
            skipped.truncate(20);
        }
        panic!("no event {name}, but {skipped:?}");
    }

    /// The text up to `end`, unchunked; `None` if the answer ends before.
    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.text[searched..].windows(end.len()).position(|w| w == end) {
                let mut piece: Vec<u8> = self.text.drain(..searched + at + end.len()).collect();
                piece.truncate(searched + at);
                return Some(piece);
            }
            searched = self.text.len().saturating_sub(end.len());
            let piece = self.piece()?;
            self.text.extend(piece);
        }
    }

    /// The next piece of the body; `None` at its end.
    fn piece(&mut self) -> Option<Vec<u8>> {
        if self.head.get("transfer-encoding").is_some() {
            return self.client.chunk();
        }
        if self.client.unread.is_empty() && self.client.fill() == 0 {
            return None;
        }
        Some(std::mem::take(&mut self.client.unread))
    }
}

impl Event {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}
