//! A reader that goes on from the last offset in hand, by whichever way of reading, whatever becomes of its connections.
//!
//! Written from docs/protocol.md alone, so that it shares no mistake with the command's own client. A connection that is
//! cut is nothing special; any refusal, gap or malformed answer fails the test.

mod begun;
mod deflated;
mod long_poll;
mod portions;
mod short_poll;
mod sse;
mod websocket;

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::records::Kind;

pub(crate) use begun::{Begun, FORMS, Form};

/// A way of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// With `limit` and `If-None-Match`.
    ShortPoll,
    /// With `linger`, now and then.
    LongPoll,
    /// Long poll in portions.
    Portions,
    /// As an `EventSource`: the URL stays, `Last-Event-ID` moves.
    Sse,
    /// By an independent client.
    WebSocket,
    /// WebSocket with permessage-deflate.
    Deflated,
}

/// All of them.
pub(crate) const WAYS: [Way; 6] =
    [Way::ShortPoll, Way::LongPoll, Way::Portions, Way::Sse, Way::WebSocket, Way::Deflated];

/// Why a connection ended before its answer did: come again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Cut(pub(crate) String);

/// Where a stream is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) stream: String,
    pub(crate) kind: Kind,
}

impl Target {
    pub(crate) fn path(&self) -> String {
        format!("/v1/stream/{}", self.stream)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path())
    }
}

/// How far a reader has come.
pub(crate) struct Reader {
    target: Target,
    http: reqwest::Client,
    /// All records so far; the position of each is its index, because nothing is ever dropped here.
    pub(crate) records: Vec<String>,
    /// From which it goes on.
    pub(crate) offset: String,
    /// It has read to the end of a closed stream.
    pub(crate) closed: bool,
    /// The last goodbye that it was told, as it came.
    pub(crate) goodbye: Option<String>,
    /// How many records it has, for those who wait for it to come so far.
    pub(crate) progress: watch::Sender<usize>,
    wanted: usize,
}

impl Reader {
    /// From the start to the end of the stream.
    pub(crate) fn new(target: &Target) -> Self {
        Self::by(target, http())
    }

    /// The same with a client that others have, too; each live read still has a connection of its own.
    pub(crate) fn by(target: &Target, http: reqwest::Client) -> Self {
        Self {
            target: target.clone(),
            http,
            records: Vec::new(),
            offset: "-1".into(),
            closed: false,
            goodbye: None,
            progress: watch::Sender::new(0),
            wanted: usize::MAX,
        }
    }

    /// From the start until it has so many records, however often its connection ends.
    pub(crate) async fn read(target: &Target, way: Way, wanted: usize) -> Self {
        let mut reader = Self { wanted, ..Self::new(target) };
        while !reader.done() {
            // A leg that ends early is nothing special, but coming again at once and for ever would be.
            if reader.leg(way).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        }
        reader
    }

    pub(crate) fn kind(&self) -> Kind {
        self.target.kind
    }

    pub(crate) fn path(&self) -> String {
        self.target.path()
    }

    /// Changes how many records it has when it is done.
    pub(crate) fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    /// Reads by one connection until that ends, or there is no more to read. Dropping it midway cuts the connection and
    /// keeps the offset.
    pub(crate) async fn leg(&mut self, way: Way) -> Result<(), Cut> {
        match way {
            Way::ShortPoll => short_poll::leg(self).await,
            Way::LongPoll => long_poll::leg(self).await,
            Way::Portions => portions::leg(self).await,
            Way::Sse => sse::leg(self).await,
            Way::WebSocket => websocket::leg(self).await,
            Way::Deflated => deflated::leg(self).await,
        }
    }

    pub(crate) fn done(&self) -> bool {
        self.closed || self.records.len() >= self.wanted
    }

    /// Moves on. There is no await in it, so a reader that is dropped has either all of it or nothing.
    fn take(&mut self, records: Vec<String>, next: &str, closed: bool) {
        let before = self.records.len();
        self.records.extend(records);
        assert_eq!(
            position(next),
            self.records.len(),
            "from {} (record {before}) to {next}: records and offsets do not agree",
            self.offset
        );
        next.clone_into(&mut self.offset);
        self.closed = closed;
        self.progress.send_replace(self.records.len());
    }

    /// Takes what WebSocket and portions have in common.
    fn message(&mut self, text: &str) {
        let message: Message = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(message.gap.is_none(), "nothing is dropped here: {text}");
        if message.goodbye.is_some() {
            self.bid(text);
            return;
        }
        let records = self.target.kind.values(&message.records.unwrap_or_default());
        self.take(records, &message.stream_next_offset, message.stream_closed);
    }

    fn bid(&mut self, text: &str) {
        let message: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(message["goodbye"]["code"], "draining", "{text}");
        assert!(message["goodbye"]["reconnectAfterMs"].is_u64(), "{text}");
        assert_eq!(message["streamNextOffset"], self.offset, "nothing is skipped by a goodbye");
        self.goodbye = Some(text.to_owned());
    }
}

/// After a cut: a server that is being restarted is not hammered.
pub(crate) const AGAIN: Duration = Duration::from_millis(15);

/// A client with connections of its own.
pub(crate) fn http() -> reqwest::Client {
    // Nobody speaks TLS here; left alone, the library looks for a crypto provider of its own.
    let tls = fourfold_trust::config(tokio_rustls::rustls::RootCertStore::empty());
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls);
    client.build().expect("it needs nothing from outside")
}

/// The answer, if it is one of these; `Cut` if there is none or the server is not ready for it.
pub(crate) async fn answer(request: reqwest::RequestBuilder, expected: &[u16]) -> Result<reqwest::Response, Cut> {
    let answer = request.send().await.map_err(cut)?;
    let status = answer.status().as_u16();
    if status == 503 {
        return Err(Cut("the server is not ready".into()));
    }
    if !expected.contains(&status) {
        let url = answer.url().clone();
        panic!("{url} was answered by {status}: {}", answer.text().await.unwrap_or_default());
    }
    Ok(answer)
}

pub(crate) fn cut(error: reqwest::Error) -> Cut {
    Cut(format!("{error:?}"))
}

pub(crate) fn header<'a>(answer: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().expect("headers are ASCII"))
}

/// How many records lie before an offset. Clients have no business knowing; tests may.
pub(crate) fn position(offset: &str) -> usize {
    let (_, position) = offset.split_once('_').unwrap_or_else(|| panic!("not an offset: {offset}"));
    position.parse().unwrap_or_else(|_| panic!("not an offset: {offset}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    records: Option<Vec<Box<RawValue>>>,
    stream_next_offset: String,
    #[serde(default)]
    stream_closed: bool,
    gap: Option<serde_json::Value>,
    goodbye: Option<serde_json::Value>,
}
