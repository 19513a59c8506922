//! `fourfold tail`: a stream's records, as they come, by any of the four transports.
//!
//! ```text
//! transport::read ──▶ Reader::take ──▶ Output
//!        ▲                  └─▶ the offset in hand
//!        └── again, from that offset: after a cut, a goodbye, the end of a poll
//! ```
//!
//! To add a transport: a file in `tail/` with a `read` that hands each message to [`Reader::take`], and its arm below.

mod long_poll;
mod output;
mod short_poll;
mod sse;
mod websocket;

use std::{io, time::Duration};

use reqwest::Response;

use crate::{
    cli::{TailArgs, TransportArg},
    client::{AddressError, Client, Server, header},
    failure::{Failure, Problem},
    message::{Format, Goodbye, Message},
    retry::{GaveUp, Retry, tell},
};
use output::Output;
pub(crate) use output::{Sink, Unwritten};

/// Why the records stopped before the end of the stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailError {
    /// The address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The server refused, or answers with something else.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("{source}; go on with --offset {offset}")]
    GaveUp {
        /// Where it stood.
        offset: String,
        /// For how long, and why.
        source: GaveUp,
    },
    /// Standard output does not take it.
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
    /// Ctrl-C.
    #[error("interrupted; go on with --offset {offset}")]
    Interrupted {
        /// Where it stood.
        offset: String,
    },
}

/// How one round of reading ended well.
#[derive(Debug)]
enum Ended {
    /// The stream is closed and all of it was delivered.
    Closed,
    /// There will be more: read again from the offset in hand, after so long.
    Again(Duration),
}

/// How one round of reading ended otherwise.
#[derive(Debug)]
enum Stopped {
    Failure(Failure),
    Unwritten(Unwritten),
}

impl<E: Into<Failure>> From<E> for Stopped {
    fn from(failure: E) -> Self {
        Self::Failure(failure.into())
    }
}

/// What all transports share: where the reader stands, and where records go.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    client: Client,
    format: Format,
    /// The format will not change: it may, of a call's stream that has no records yet.
    settled: bool,
    /// Go on from here: everything before it has been printed.
    offset: String,
    cursor: Option<String>,
    pub(crate) output: S,
    retry: Retry,
}

/// Runs the command.
pub(crate) async fn tail(args: TailArgs) -> Result<(), TailError> {
    let client = Client::new(Server::new(&args.at.server)?, &args.at.stream)?;
    let output = Output::new(io::stdout(), args.json, args.limit);
    let mut reader = Reader::new(client, args.offset, output, args.retry_for);
    tokio::select! {
        done = reader.run(args.transport) => done,
        _ = tokio::signal::ctrl_c() => Err(TailError::Interrupted { offset: reader.offset.clone() }),
    }
}

impl<S: Sink> Reader<S> {
    /// Gives up when nothing has come for `retry_for`, or never.
    pub(crate) fn new(client: Client, offset: String, output: S, retry_for: Option<Duration>) -> Self {
        let retry = Retry::new(client.server(), retry_for);
        Self { client, format: Format::Json, settled: false, offset, cursor: None, output, retry }
    }

    /// Where it stands: everything before it has been handed on.
    pub(crate) fn offset(&self) -> &str {
        &self.offset
    }

    /// Reads to the end of the stream, or until the sink has enough.
    pub(crate) async fn run(&mut self, transport: TransportArg) -> Result<(), TailError> {
        self.describe().await?;
        loop {
            let round = match transport {
                TransportArg::Websocket => websocket::read(self).await,
                TransportArg::Sse => sse::read(self).await,
                TransportArg::LongPoll => long_poll::read(self).await,
                TransportArg::ShortPoll => short_poll::read(self).await,
            };
            match self.output.flush().map_err(Stopped::Unwritten).and(round) {
                Ok(Ended::Closed) | Err(Stopped::Unwritten(Unwritten::Enough)) => return Ok(()),
                Ok(Ended::Again(after)) => tokio::time::sleep(after).await,
                Err(Stopped::Unwritten(Unwritten::Failed(failed))) => return Err(TailError::Output(failed)),
                Err(Stopped::Failure(failure)) => self.recover(failure).await?,
            }
        }
    }

    /// Learns how records are written, and turns `now` into the offset that it is now, so that nothing is missed if
    /// the first connection takes several tries.
    async fn describe(&mut self) -> Result<(), TailError> {
        loop {
            match self.client.head().await {
                Ok(metadata) => {
                    self.format = metadata.format();
                    self.settled = self.format != Format::Binary || !self.client.name.starts_with(CALLS);
                    if self.offset == "now" {
                        self.offset = metadata.next_offset;
                    }
                    self.retry.reset();
                    return Ok(());
                }
                Err(failure) => self.wait(failure).await?,
            }
        }
    }

    /// Takes one message: prints it and moves on. `Some` if it is the last of this round.
    async fn take(&mut self, message: &Message) -> Result<Option<Ended>, Stopped> {
        let ended = self.take_one_of_many(message).await?;
        self.output.flush().map_err(Stopped::Unwritten)?;
        Ok(ended)
    }

    /// As [`take`](Self::take), where more messages are at hand: flush before waiting for anything, or what was printed
    /// and the offset that Ctrl-C tells differ.
    async fn take_one_of_many(&mut self, message: &Message) -> Result<Option<Ended>, Stopped> {
        if !message.records.is_empty() {
            self.settle().await?;
        }
        self.retry.reset();
        if let Some(goodbye) = &message.goodbye {
            return farewell(goodbye).map(Some);
        }
        if let Some(gap) = &message.gap {
            tell_gap(&gap.from, &gap.to);
        }
        self.output.message(self.format, message).map_err(Stopped::Unwritten)?;
        if let Some(offset) = &message.stream_next_offset {
            self.offset.clone_from(offset);
        }
        self.cursor.clone_from(&message.stream_cursor);
        Ok(message.stream_closed.then_some(Ended::Closed))
    }

    /// Where there are records their type is decided.
    async fn settle(&mut self) -> Result<(), Failure> {
        if !self.settled {
            self.format = self.client.head().await?.format();
            self.settled = true;
        }
        Ok(())
    }

    /// How the records in the answer to a poll are written: it says so itself while the stream does not.
    fn format_of(&self, response: &Response) -> Format {
        let said = header(response.headers(), "content-type").filter(|_| !self.settled);
        said.map_or(self.format, |content_type| Format::of(&content_type))
    }

    /// After a failure: waits if it passes, jumps over a gap, else gives the reason to stop.
    async fn recover(&mut self, failure: Failure) -> Result<(), TailError> {
        match failure {
            Failure::Refused(problem) if problem.status == 410 && problem.oldest_offset.is_some() => {
                let oldest = problem.oldest_offset.expect("it was looked at just now");
                if problem.code == "offset-of-another-epoch" {
                    tell(&format!(
                        "the stream was deleted and created again; going on from its oldest record, {oldest}"
                    ));
                } else {
                    tell_gap(&self.offset, &oldest);
                }
                self.offset = oldest;
                self.cursor = None;
                self.describe().await
            }
            failure => self.wait(failure).await,
        }
    }

    async fn wait(&mut self, failure: Failure) -> Result<(), TailError> {
        let Failure::Passing { why, after } = failure else { return Err(TailError::Refused(failure.to_string())) };
        let offset = &self.offset;
        self.retry.wait(&why, after).await.map_err(|source| TailError::GaveUp { offset: offset.clone(), source })
    }

    /// Further parameters of a poll.
    fn poll_parameters(&self) -> String {
        let cursor = self.cursor.as_ref().map(|cursor| format!("&cursor={}", crate::client::encoded(cursor)));
        let limit = self.output.left().map(|left| format!("&limit={}", left.min(LIMIT_PARAMETER_MAX)));
        cursor.unwrap_or_default() + &limit.unwrap_or_default()
    }
}

/// The server's own streams of calls begin without a type.
const CALLS: &str = "calls/";

/// The greatest `limit` that a request may ask for. Protocol page: "Query parameters of a read".
const LIMIT_PARAMETER_MAX: u64 = 10_000;

fn farewell(goodbye: &Goodbye) -> Result<Ended, Stopped> {
    if goodbye.is_final() {
        let problem = Problem::new(404, &goodbye.code, "the stream was deleted or has expired");
        return Err(Failure::Refused(problem).into());
    }
    Ok(Ended::Again(goodbye.after().unwrap_or_default()))
}

fn tell_gap(from: &str, to: &str) {
    tell(&format!("gap: retention has dropped the records from {from} to {to}; going on from {to}"));
}
