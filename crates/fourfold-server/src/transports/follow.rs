//! Following a stream down one open answer: the loop that events and lines have in common.
//!
//! ```text
//! enable ─ drain all that is new ─ sleep until moved, beat, deadline, or the client goes
//!    ▲                                │
//!    └────────────────────────────────┘
//! ```

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Code, Offset};
use fourfold_stream::{Cursor, Dialect, Ended, Next, ReadRefusal, cursor::PORTION};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{context::Context, line};

/// Dialect numbers, one a transport's way of writing.
pub(crate) const SSE: u8 = 1;
pub(crate) const NDJSON: u8 = 2;
pub(crate) const LONG_POLL: u8 = 3;
pub(crate) const WEBSOCKET: u8 = 4;
pub(crate) const WEBSOCKET_DEFLATED: u8 = 5;

/// After so many portions in a row a task lets the others of its shard run.
pub(crate) const PORTIONS_A_TURN: usize = 16;

/// What differs between events and lines.
pub(crate) trait Manner: Dialect {
    /// How often something is said in silence.
    const BEAT: Option<(Duration, &'static [u8])>;
    /// The last words when the answer ends before the stream does.
    fn goodbye(&self, code: &str, after_ms: Option<u64>, next: Offset) -> String;
}

/// An open answer.
pub(crate) struct Follow {
    pub(crate) cursor: Cursor,
    /// In chunks, or (for HTTP/1.0) until the connection ends.
    pub(crate) chunked: bool,
    /// When the answer ends whatever happens.
    pub(crate) deadline: Option<Instant>,
    /// Gather records for so long into one portion.
    pub(crate) linger: Duration,
}

/// The answer was ended as it should be: the connection can go on, if it was chunked.
pub(crate) struct Whole;

impl Follow {
    /// Writes `head`, and then what the cursor reads, until the stream or the deadline ends it.
    ///
    /// `unread`: the client's next request may be waiting, so nothing is read from it.
    pub(crate) async fn run<M: Manner>(
        mut self,
        manner: M,
        head: Vec<u8>,
        socket: &TcpStream,
        context: &Context,
    ) -> io::Result<Whole> {
        line::write_all(socket, &head).await?;
        drop(head);
        let stream = Arc::clone(self.cursor.stream());
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let beat_at = || M::BEAT.map_or(far, |(every, _)| Instant::now() + every);
        let mut next_beat = beat_at();
        let mut timer = pin!(sleep_until(next_beat.min(self.deadline.unwrap_or(far))));
        let mut gone = pin!(gone(socket, M::BEAT.is_some()));
        loop {
            let mut moved = pin!(stream.moved(self.cursor.shard()));
            moved.as_mut().enable(); // Before the read, so that a record appended during it wakes us.
            if let Some(whole) = self.drain(&manner, socket, context).await? {
                return Ok(whole);
            }
            if context.drain.begun() {
                return self.end(&manner, Code::Draining.as_str(), Some(context.come_back_ms()), socket).await;
            }
            tokio::select! {
                biased;
                () = &mut moved => {
                    if !self.linger.is_zero() {
                        Box::pin(gather(&self.cursor, self.linger, context)).await;
                    }
                }
                () = &mut timer => {
                    let now = Instant::now();
                    if self.deadline.is_some_and(|deadline| now >= deadline) {
                        return self.finish(socket).await;
                    }
                    if let Some((_, beat)) = M::BEAT.filter(|_| now >= next_beat) {
                        self.write(&chunk(beat), socket).await?;
                        next_beat = beat_at();
                    }
                    timer.as_mut().reset(next_beat.min(self.deadline.unwrap_or(far)));
                }
                () = &mut gone => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    /// Writes all that is new; tells whether that was the end.
    async fn drain<M: Manner>(
        &mut self,
        manner: &M,
        socket: &TcpStream,
        context: &Context,
    ) -> io::Result<Option<Whole>> {
        let mut turn = 0;
        loop {
            let frame = match self.cursor.next(manner, PORTION) {
                Next::Frame(frame) => frame,
                Next::Wait => return Ok(None),
                Next::Ended(Ended::Closed) => return self.finish(socket).await.map(Some),
                Next::Ended(Ended::Deleted) => return self.end(manner, STREAM_DELETED, None, socket).await.map(Some),
                // Boxed, so that an idle task does not carry the state of one that catches up.
                Next::Behind => match Box::pin(self.cursor.catch_up(&*context.engine, manner, PORTION)).await {
                    Ok(frame) => frame,
                    Err(ReadRefusal::Deleted) => return self.end(manner, STREAM_DELETED, None, socket).await.map(Some),
                    Err(ReadRefusal::Unavailable(why)) => {
                        let refusal = crate::context::unavailable(&why);
                        return self
                            .end(manner, refusal.code.as_str(), Some(context.come_back_ms()), socket)
                            .await
                            .map(Some);
                    }
                },
            };
            self.write(&frame.bytes, socket).await?;
            turn += 1;
            if turn == PORTIONS_A_TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    async fn end<M: Manner>(
        &self,
        manner: &M,
        code: &str,
        after_ms: Option<u64>,
        socket: &TcpStream,
    ) -> io::Result<Whole> {
        let next = self.cursor.stream().offset(self.cursor.at());
        self.write(&chunk(manner.goodbye(code, after_ms, next).as_bytes()), socket).await?;
        self.finish(socket).await
    }

    async fn finish(&self, socket: &TcpStream) -> io::Result<Whole> {
        if self.chunked {
            line::write_all(socket, b"0\r\n\r\n").await?;
        }
        Ok(Whole)
    }

    /// Frames are made in chunks, for all to share; a reader without chunks gets what is in them.
    async fn write(&self, chunk: &[u8], socket: &TcpStream) -> io::Result<()> {
        line::write_all(socket, if self.chunked { chunk } else { payload(chunk) }).await
    }
}

/// Waits for more records, but not for those that will not come: not past the end of the stream, nor into a drain.
async fn gather(cursor: &Cursor, linger: Duration, context: &Context) {
    let stream = cursor.stream();
    let ended = async {
        loop {
            let mut moved = pin!(stream.moved(cursor.shard()));
            moved.as_mut().enable();
            let tail = stream.tail();
            if tail.closed || tail.deleted || context.drain.begun() {
                return;
            }
            moved.await;
        }
    };
    let _ = tokio::time::timeout(linger, ended).await;
}

/// The stream was deleted or has expired while it was followed.
pub(crate) const STREAM_DELETED: &str = "stream-deleted";

/// A chunk of a chunked body.
pub(crate) fn chunk(payload: &[u8]) -> Bytes {
    let mut chunk = Vec::with_capacity(payload.len() + 12);
    chunk.extend_from_slice(format!("{:x}\r\n", payload.len()).as_bytes());
    chunk.extend_from_slice(payload);
    chunk.extend_from_slice(b"\r\n");
    chunk.into()
}

fn payload(chunk: &[u8]) -> &[u8] {
    let start = chunk.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    &chunk[start..chunk.len() - 2]
}

async fn gone(socket: &TcpStream, last_request: bool) {
    if last_request {
        line::gone(socket, &mut 0).await;
    } else {
        line::gone_unread(socket).await;
    }
}
