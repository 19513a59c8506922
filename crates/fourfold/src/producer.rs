//! The idempotent producer: records go in, each is in the stream once, however often the connection is cut meanwhile.
//!
//! ```text
//!             ┌────────── unacked, in order ──────────┐
//!  acked  ◀── │ seq 7 │ seq 8 │ seq 9 │ seq 10 │ ... │ ◀── next batch
//!             └── sent on this connection ─┘
//! ```
//!
//! A message leaves the window when its ack comes. After a cut all of the window is sent again with the same sequence
//! numbers, and the server tells those it has from those it lacks. One way to recover for every failure that passes.
//! Spec: "Idempotent Producers"; protocol page: "WebSocket".

use std::{collections::VecDeque, time::Duration};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};

use crate::{
    client::Client,
    failure::{Failure, Problem, refused},
    message::{Format, Goodbye},
    retry::{GaveUp, Retry, random},
    websocket::{self, Socket},
};

/// Records in one message: what a server commits in one step.
const BATCH_RECORDS_MAX: usize = 1_000;

/// Bytes of input in one message; a longer record travels alone.
const BATCH_BYTES_MAX: u64 = 256 << 10;

/// Messages sent and not yet acknowledged: enough to cover the way there and back, and 2 MiB at most to send again.
const WINDOW_MESSAGES_MAX: usize = 8;

/// One record, as the wire wants it: a JSON value, or a JSON string of text or base64.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) json: String,
    /// How much of the input it was.
    pub(crate) bytes: u64,
}

/// How far it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Appended {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// The stream's offset after the last of them.
    pub(crate) next_offset: Option<String>,
}

/// Why records could not be appended. Those in [`Producer::appended`] are in the stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProducerError {
    /// The server refused, and would again.
    #[error("the server refused the records: {0}")]
    Refused(String),
    /// The server no longer knows records that it had acknowledged.
    #[error("the server has lost what this command had appended (it answers 'producer-gap'): {0}")]
    Lost(String),
    /// The stream was closed by somebody else.
    #[error("the stream was closed while there was more to append")]
    Closed,
    /// It took too long.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
}

/// The producer.
#[derive(Debug)]
pub(crate) struct Producer {
    client: Client,
    id: String,
    encoding: &'static str,
    next_seq: u64,
    unacked: VecDeque<Batch>,
    connection: Option<Connection>,
    retry: Retry,
    appended: Appended,
}

#[derive(Debug)]
struct Batch {
    seq: u64,
    frame: Utf8Bytes,
    records: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Connection {
    out: SplitSink<Socket, Frame>,
    incoming: SplitStream<Socket>,
    /// How many of the unacked went out on this connection.
    sent: usize,
    /// Something is written that has not left the buffer.
    dirty: bool,
    /// The server is about to end it: nothing more is sent.
    goodbye: Option<Goodbye>,
}

/// What the server sends, as far as a producer cares; the records that come back are skipped unread.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    id: Option<u64>,
    ack: Option<Ack>,
    error: Option<Problem>,
    goodbye: Option<Goodbye>,
    stream_closed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ack {
    stream_next_offset: String,
}

/// What a turn of the loop waits for.
enum Turn {
    Incoming(Result<Option<String>, Failure>),
    Flushed(Result<(), Failure>),
    Input(Option<Record>),
}

impl Producer {
    /// Appends to the stream of `client`, whose records are of `format`.
    pub(crate) fn new(client: Client, format: Format, retry: Retry) -> Self {
        Self {
            client,
            id: format!("fourfold-{:016x}{:016x}", random(), random()),
            encoding: if format == Format::Binary { r#","encoding":"base64""# } else { "" },
            next_seq: 0,
            unacked: VecDeque::new(),
            connection: None,
            retry,
            appended: Appended::default(),
        }
    }

    /// What is in the stream for certain.
    pub(crate) fn appended(&self) -> &Appended {
        &self.appended
    }

    /// Appends what comes out of `input` until it ends and all of it is acknowledged; `progress` hears of every ack.
    ///
    /// Cancel-safe: what was taken from the input and is not acknowledged yet is sent by the next call.
    pub(crate) async fn run(
        &mut self,
        input: &mut mpsc::Receiver<Record>,
        mut progress: impl FnMut(&Appended),
    ) -> Result<(), ProducerError> {
        let mut ended = false;
        while !(ended && self.unacked.is_empty()) {
            if self.connection.is_none() && !self.unacked.is_empty() {
                match websocket::open(&self.client, "now").await {
                    Ok(socket) => {
                        let (out, incoming) = socket.split();
                        self.connection = Some(Connection { out, incoming, sent: 0, dirty: false, goodbye: None });
                    }
                    Err(failure) => self.recover(failure).await?,
                }
                continue;
            }
            match self.turn(input, ended).await {
                Turn::Input(None) => ended = true,
                Turn::Input(Some(record)) => self.gather(record, input),
                Turn::Flushed(Ok(())) => {}
                Turn::Incoming(Ok(Some(text))) => match self.answered(&text) {
                    Ok(true) => progress(&self.appended),
                    Ok(false) => {}
                    Err(failure) => self.recover(failure).await?,
                },
                Turn::Incoming(Ok(None)) => return Err(ProducerError::Closed),
                Turn::Flushed(Err(failure)) | Turn::Incoming(Err(failure)) => self.recover(failure).await?,
            }
        }
        Ok(())
    }

    /// Waits for whatever comes first. Reads even while it writes: a server that waits until we have read what comes
    /// back would otherwise wait for ever.
    async fn turn(&mut self, input: &mut mpsc::Receiver<Record>, ended: bool) -> Turn {
        let wants_input = !ended && self.unacked.len() < WINDOW_MESSAGES_MAX;
        let Some(connection) = &mut self.connection else { return Turn::Input(input.recv().await) };
        if !connection.dirty
            && connection.goodbye.is_none()
            && let Some(batch) = self.unacked.get(connection.sent)
        {
            if let Err(error) = connection.out.feed(Frame::Text(batch.frame.clone())).await {
                return Turn::Flushed(Err(Failure::cut(error)));
            }
            connection.sent += 1;
            connection.dirty = true;
        }
        tokio::select! {
            text = websocket::next_text(&mut connection.incoming) => Turn::Incoming(text),
            flushed = connection.out.flush(), if connection.dirty => {
                connection.dirty = false;
                Turn::Flushed(flushed.map_err(Failure::cut))
            }
            record = input.recv(), if wants_input => Turn::Input(record),
        }
    }

    /// Puts `first` and what else is at hand into one message.
    fn gather(&mut self, first: Record, input: &mut mpsc::Receiver<Record>) {
        let mut batch = format!(r#"{{"append":[{}"#, first.json);
        let (mut records, mut bytes) = (1, first.bytes);
        while records < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            match input.try_recv() {
                Ok(record) => {
                    batch.push(',');
                    batch.push_str(&record.json);
                    records += 1;
                    bytes += record.bytes;
                }
                // An end is noticed again by the next turn.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let (id, encoding) = (&self.id, self.encoding);
        batch.push_str(&format!(r#"]{encoding},"id":{seq},"producer":{{"id":"{id}","epoch":0,"seq":{seq}}}}}"#));
        self.unacked.push_back(Batch { seq, frame: batch.into(), records: records as u64, bytes });
    }

    /// Takes an answer; `true` if it was an ack.
    fn answered(&mut self, text: &str) -> Result<bool, Failure> {
        let answer: Answer =
            serde_json::from_str(text).map_err(|error| Failure::Garbled(format!("an answer: {error}")))?;
        if let Some(goodbye) = answer.goodbye
            && let Some(connection) = &mut self.connection
        {
            connection.goodbye = Some(goodbye);
            return Ok(false);
        }
        if let Some(problem) = answer.error {
            return Err(refused(problem, None));
        }
        let Some(ack) = answer.ack else {
            return if answer.stream_closed && !self.unacked.is_empty() {
                Err(Failure::Refused(Problem::new(409, "stream-closed", "the stream is closed")))
            } else {
                Ok(false)
            };
        };
        // Acks come in the order of the messages, so that any other id is a mistake that must not count as one of ours.
        let first = self.unacked.front().map(|batch| batch.seq);
        if answer.id.is_none() || answer.id != first {
            return Err(Failure::Garbled(format!("an ack for {:?} instead of {first:?}", answer.id)));
        }
        let batch = self.unacked.pop_front().expect("the front was compared just now");
        if let Some(connection) = &mut self.connection {
            connection.sent = connection.sent.saturating_sub(1);
        }
        self.appended.records += batch.records;
        self.appended.bytes += batch.bytes;
        self.appended.next_offset = Some(ack.stream_next_offset);
        self.retry.reset();
        Ok(true)
    }

    /// After a failure that passes: drops the connection and waits, so that the loop starts it anew.
    async fn recover(&mut self, failure: Failure) -> Result<(), ProducerError> {
        let goodbye = self.connection.take().and_then(|connection| connection.goodbye);
        match failure {
            Failure::Passing { .. } if goodbye.as_ref().is_some_and(Goodbye::is_final) => {
                Err(ProducerError::Refused("the stream was deleted".into()))
            }
            Failure::Passing { why, after } => {
                if self.unacked.is_empty() {
                    return Ok(()); // Nothing is owed: the next record opens a connection again.
                }
                let after: Option<Duration> = goodbye.and_then(|goodbye| goodbye.after()).or(after);
                Ok(self.retry.wait(&why, after).await?)
            }
            Failure::Refused(problem) if problem.code == "producer-gap" => {
                Err(ProducerError::Lost(problem.to_string()))
            }
            Failure::Refused(problem) if problem.code == "stream-closed" => Err(ProducerError::Closed),
            failure => Err(ProducerError::Refused(failure.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Server;

    fn producer() -> Producer {
        let client = Client::new(Server::open("http://127.0.0.1:1").unwrap(), "a").unwrap();
        let retry = Retry::new("http://127.0.0.1:1", Some(Duration::ZERO));
        Producer::new(client, Format::Text, retry)
    }

    fn record(text: &str) -> Record {
        Record { json: text.into(), bytes: text.len() as u64 }
    }

    /// A channel with these in it, whose sender is gone.
    async fn filled(records: &[&str]) -> mpsc::Receiver<Record> {
        let (sender, receiver) = mpsc::channel(records.len().max(1));
        for text in records {
            sender.send(record(text)).await.unwrap();
        }
        receiver
    }

    #[tokio::test]
    async fn what_is_at_hand_travels_in_one_message() {
        let mut producer = producer();
        producer.gather(record("1"), &mut filled(&["2", "3"]).await);
        producer.gather(record("4"), &mut filled(&[]).await);
        let id = &producer.id;
        assert_eq!(
            producer.unacked[0].frame.as_str(),
            format!(r#"{{"append":[1,2,3],"id":0,"producer":{{"id":"{id}","epoch":0,"seq":0}}}}"#)
        );
        assert_eq!(
            producer.unacked[1].frame.as_str(),
            format!(r#"{{"append":[4],"id":1,"producer":{{"id":"{id}","epoch":0,"seq":1}}}}"#)
        );
    }

    #[tokio::test]
    async fn a_message_is_bounded_in_records_and_bytes() {
        let mut producer = producer();
        let many = vec!["1"; BATCH_RECORDS_MAX + 5];
        let mut input = filled(&many).await;
        producer.gather(record("1"), &mut input);
        assert_eq!(producer.unacked[0].records, BATCH_RECORDS_MAX as u64);
        let long = "1".repeat(200 << 10);
        producer.gather(record(&long), &mut filled(&[&long, &long]).await);
        assert_eq!(producer.unacked[1].records, 2);
    }

    #[tokio::test]
    async fn an_ack_counts_once_and_in_order() {
        let mut producer = producer();
        producer.gather(record("1"), &mut filled(&["2"]).await);
        producer.gather(record("3"), &mut filled(&[]).await);
        assert!(!producer.answered(r#"{"records":[9],"streamNextOffset":"x","upToDate":true}"#).unwrap());
        assert!(producer.answered(r#"{"id":0,"ack":{"streamNextOffset":"o2","duplicate":true}}"#).unwrap());
        assert_eq!((producer.appended.records, producer.appended.next_offset.as_deref()), (2, Some("o2")));
        let again = producer.answered(r#"{"id":0,"ack":{"streamNextOffset":"o2"}}"#);
        assert!(matches!(again, Err(Failure::Garbled(_))));
        assert_eq!(producer.unacked.len(), 1);
    }

    #[tokio::test]
    async fn an_error_that_passes_keeps_the_window_and_one_that_does_not_ends_it() {
        let mut producer = producer();
        producer.gather(record("1"), &mut filled(&[]).await);
        let full = producer.answered(r#"{"id":0,"error":{"status":507,"code":"storage-full","retry":true}}"#);
        assert!(matches!(full, Err(Failure::Passing { .. })));
        assert_eq!(producer.unacked.len(), 1);
        let gap =
            producer.answered(r#"{"id":0,"error":{"status":409,"code":"producer-gap","detail":"d"}}"#).unwrap_err();
        assert!(matches!(producer.recover(gap).await, Err(ProducerError::Lost(_))));
    }

    #[tokio::test]
    async fn no_server_ends_in_one_clear_line() {
        let mut producer = producer();
        let mut input = filled(&["1"]).await;
        let error = producer.run(&mut input, |_| {}).await.unwrap_err().to_string();
        assert!(error.starts_with("gave up on http://127.0.0.1:1 after 0 s: "), "{error}");
        assert_eq!(producer.appended().records, 0);
    }
}
