//! Following a stream down one open answer: the loop that events and lines have in common.
//!
//! ```text
//! drain all that is new ─ sleep until moved, beat, deadline, or the client goes
//!    ▲                       │
//!    └───────────────────────┘
//! ```

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::{Context as Waker, Poll},
    time::Duration,
};

use bytes::Bytes;
use fourfold_protocol::{Code, Offset};
use fourfold_stream::{Cursor, Dialect, Ended, Next, ReadRefusal, Stream, cursor::PORTION};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Leave, heartbeat::Heartbeat};
use crate::{
    connection,
    context::{Context, Seat},
    line::{self, Stalled, Watch},
    socket::Socket,
    tally::Way,
};

/// Dialect numbers, one a transport's way of writing.
pub(crate) const SSE: u8 = 1;
pub(crate) const NDJSON: u8 = 2;
pub(crate) const LONG_POLL: u8 = 3;
pub(crate) const WEBSOCKET: u8 = 4;
pub(crate) const WEBSOCKET_DEFLATED: u8 = 5;
pub(crate) const LONG_POLL_MESSAGE: u8 = 6;

/// After so many portions in a row a task lets the others of its shard run.
pub(crate) const PORTIONS_A_TURN: usize = 16;

/// What differs between events and lines.
pub(crate) trait Manner: Dialect + Copy + Send + 'static {
    /// As what its deliveries are counted.
    const WAY: Way;
    /// How often something is said in silence, and what.
    const BEAT: Option<(Duration, &'static [u8])>;
    /// Whether what was said in the head still holds. The answer ends if it does not.
    fn fits(&self, _stream: &Stream) -> bool {
        true
    }
    /// The last words when the answer ends before the stream does.
    fn goodbye(&self, code: &str, after_ms: Option<u64>, next: Offset) -> String;
}

/// Where an answer goes: a socket, or a stream of HTTP/2.
pub(crate) trait Outlet: Sync {
    /// Whether it takes anything at all now; what is not taken is better not read.
    fn takes(&self) -> bool {
        true
    }
    /// Writes what fits now, and returns what does not.
    fn write_now(&self, bytes: Bytes) -> io::Result<Bytes>;
    /// Writes all of it. Errors: the client is gone, or took nothing for too long.
    fn write_all(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send;
    /// Ready when the client has gone.
    fn poll_gone(&self, watch: &mut Watch, cx: &mut Waker<'_>) -> Poll<()>;
}

impl Outlet for Socket {
    fn write_now(&self, bytes: Bytes) -> io::Result<Bytes> {
        line::write_now(self, bytes)
    }

    fn write_all(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        line::write_all(self, bytes)
    }

    fn poll_gone(&self, watch: &mut Watch, cx: &mut Waker<'_>) -> Poll<()> {
        watch.poll_gone(self, cx)
    }
}

/// An open answer. Its fields are all that an idle reader costs, beside the socket's own.
pub(crate) struct Follow<M, O = Socket> {
    pub(crate) cursor: Cursor,
    pub(crate) outlet: O,
    pub(crate) context: Arc<Context>,
    /// Whoever has the connection for itself holds its seat.
    pub(crate) seat: Option<Seat>,
    pub(crate) manner: M,
    /// In chunks, or (for HTTP/1.0) until the connection ends.
    pub(crate) chunked: bool,
    /// What the client wants to hear in silence, in place of the manner's beat.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// For answers that end by themselves.
    pub(crate) terms: Option<Box<Terms>>,
    /// There if the leave to read is bounded.
    pub(crate) leave: Option<Box<Leave>>,
}

/// How an answer ends by itself.
pub(crate) struct Terms {
    /// When.
    pub(crate) deadline: Instant,
    /// Gather records for so long into one portion.
    pub(crate) linger: Duration,
    /// What the client had sent behind its request, if it wants to go on with HTTP on this connection.
    pub(crate) next_request: Option<Bytes>,
}

enum Woken {
    /// There is more to read.
    Busy,
    Moved,
    Timer,
    Gone,
}

/// What writing all that is new came to.
enum Drained {
    Idle,
    /// The socket takes no more: this is left.
    Blocked(Bytes),
    Behind,
    /// Others want to run.
    Turn,
    Ended(Ended),
}

impl<M: Manner> Follow<M> {
    /// Writes `head`, and then what the cursor reads, until the stream or the deadline ends it.
    pub(crate) fn run(mut self, head: Vec<u8>) -> impl Future<Output = ()> + Send {
        // What fits of it goes at once: an idle task need not have room for a head.
        let head = line::write_some(&self.outlet, &head);
        async move {
            if !head.is_empty() && Box::pin(line::write_all(&self.outlet, head)).await.is_err() {
                return; // The client is gone.
            }
            match self.follow().await {
                Ok(()) => Box::pin(self.finish()).await, // Boxed, or an idle task would have room for another of itself.
                Err(gone) => {
                    if let Some(stalled) = Stalled::of(&gone) {
                        Box::pin(self.leave_stalled(stalled)).await;
                    }
                }
            }
        }
    }

    /// The client takes nothing: the kernel has for it, should it read on, where it was.
    async fn leave_stalled(self, stalled: Stalled) {
        self.context.tally.stalled();
        let heard = stalled.tell(&self.outlet, || {
            let goodbye = self.framed(self.goodbye(TOO_SLOW, Some(0)));
            let end: &[u8] = if self.chunked { b"0\r\n\r\n" } else { b"" };
            [&goodbye[..], end].concat().into()
        });
        if heard {
            line::close(self.outlet).await;
        }
    }

    /// Ends the answer as it should be, and goes on with HTTP if the client wants to.
    async fn finish(self) {
        if self.chunked && line::write_all(&self.outlet, Bytes::from_static(b"0\r\n\r\n")).await.is_err() {
            return;
        }
        match (self.terms.and_then(|terms| terms.next_request), self.seat) {
            (Some(unread), Some(seat)) if self.chunked && !self.context.drain.begun() => {
                connection::spawn(self.outlet, unread, self.context, seat);
            }
            (_, _seat) => Box::pin(line::close(self.outlet)).await,
        }
    }
}

impl<M: Manner, O: Outlet> Follow<M, O> {
    /// Writes what the cursor reads, until the stream or the deadline ends it. Errors: the client is gone.
    pub(crate) async fn follow(&mut self) -> io::Result<()> {
        let mut timer = pin!(sleep_until(self.alarm()));
        let mut watch = if self.terms.is_some() { Watch::NextRequest } else { Watch::Stray(0) };
        loop {
            let drained = self.drain()?;
            let idle = matches!(drained, Drained::Idle);
            // Boxed, so that an idle task does not carry the state of one that has much to do.
            if !idle && Box::pin(self.work(drained)).await? {
                return Ok(());
            }
            if self.heartbeat.is_some() {
                timer.as_mut().reset(self.alarm()); // It counts from the last word.
            }
            if self.context.drain.begun() {
                return Box::pin(async {
                    self.context.drain.turn().await;
                    let after_ms = Some(self.context.come_back_ms());
                    self.say_goodbye(Code::Draining.as_str(), after_ms).await
                })
                .await;
            }
            let (outlet, cursor) = (&self.outlet, &mut self.cursor);
            let woken = poll_fn(|cx| {
                // The timer first, and also for a reader that is never idle: nothing may put off the end.
                if timer.as_mut().poll(cx).is_ready() {
                    Poll::Ready(Woken::Timer)
                } else if !idle {
                    Poll::Ready(Woken::Busy)
                } else if cursor.poll_moved(cx).is_ready() {
                    Poll::Ready(Woken::Moved)
                } else {
                    outlet.poll_gone(&mut watch, cx).map(|()| Woken::Gone)
                }
            })
            .await;
            match woken {
                Woken::Busy => {}
                Woken::Moved => {
                    if let Some(linger) = self.terms.as_ref().map(|terms| terms.linger).filter(|t| !t.is_zero()) {
                        let silence = timer.deadline().saturating_duration_since(Instant::now());
                        let linger = if self.heartbeat.is_some() { linger.min(silence) } else { linger };
                        Box::pin(self.gather(linger)).await;
                    }
                }
                Woken::Timer => {
                    if self.terms.as_ref().is_some_and(|terms| Instant::now() >= terms.deadline) {
                        return Ok(());
                    }
                    if self.leave_until().is_some_and(|until| Instant::now() >= until) {
                        // At once, and with what it has read: another token goes on from there.
                        return Box::pin(self.say_goodbye(TOKEN_EXPIRES, Some(0))).await;
                    }
                    if self.heartbeat.is_some() {
                        self.cursor.greet();
                    } else if let Some((_, beat)) = M::BEAT {
                        Box::pin(self.write(chunk(beat))).await?;
                    }
                    timer.as_mut().reset(self.alarm());
                }
                Woken::Gone => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    /// Waits for more records, but not for those that will not come: not past the end of the stream, nor into a drain.
    async fn gather(&mut self, linger: Duration) {
        let ended = async {
            loop {
                let tail = self.cursor.look();
                if tail.closed || tail.deleted || self.context.drain.begun() {
                    return;
                }
                self.cursor.moved().await;
            }
        };
        let _ = timeout(linger, ended).await;
    }

    /// When to wake up in silence.
    fn alarm(&self) -> Instant {
        let asked = self.heartbeat.map(Heartbeat::every);
        let beat = M::BEAT.map(|(every, _)| every).into_iter().chain(asked).min().map(|every| Instant::now() + every);
        let deadline = self.terms.as_ref().map(|terms| terms.deadline);
        let first = [deadline, self.leave_until(), beat].into_iter().flatten().min();
        first.expect("an answer without an end has a heartbeat")
    }

    fn leave_until(&self) -> Option<Instant> {
        self.leave.as_ref().and_then(|leave| leave.until)
    }

    /// Writes what is new as long as that needs no waiting.
    fn drain(&mut self) -> io::Result<Drained> {
        for _ in 0..PORTIONS_A_TURN {
            if !self.outlet.takes() {
                return Ok(Drained::Blocked(Bytes::new()));
            }
            let next = self.cursor.next(&self.manner, PORTION);
            // After the read: what was read may be what the head does not fit.
            if !self.manner.fits(self.cursor.stream()) {
                return Ok(Drained::Ended(Ended::Closed));
            }
            match next {
                Next::Frame(frame) => {
                    self.context.tally.frame(M::WAY, &frame);
                    let rest = self.outlet.write_now(self.framed(frame.bytes))?;
                    if !rest.is_empty() {
                        return Ok(Drained::Blocked(rest));
                    }
                }
                Next::Wait => return Ok(Drained::Idle),
                Next::Behind => return Ok(Drained::Behind),
                Next::Ended(ended) => return Ok(Drained::Ended(ended)),
            }
        }
        Ok(Drained::Turn)
    }

    /// Does what needs waiting; tells whether that was the end.
    async fn work(&mut self, busy: Drained) -> io::Result<bool> {
        match busy {
            Drained::Idle => Ok(false),
            Drained::Blocked(rest) => self.outlet.write_all(rest).await.map(|()| false),
            Drained::Turn => {
                tokio::task::yield_now().await;
                Ok(false)
            }
            Drained::Ended(Ended::Closed) => Ok(true),
            Drained::Ended(Ended::Deleted) => self.say_goodbye(STREAM_DELETED, None).await.map(|()| true),
            Drained::Behind => match self.cursor.catch_up(&*self.context.engine, &self.manner, PORTION).await {
                Ok(_) if !self.manner.fits(self.cursor.stream()) => Ok(true),
                Ok(frame) => {
                    self.context.tally.frame(M::WAY, &frame);
                    self.write(frame.bytes).await?;
                    tokio::task::yield_now().await; // An engine in memory never waits by itself.
                    Ok(false)
                }
                Err(ReadRefusal::Deleted) => self.say_goodbye(STREAM_DELETED, None).await.map(|()| true),
                Err(ReadRefusal::Unavailable(why)) => {
                    let code = crate::context::unavailable(&why).code;
                    self.say_goodbye(code.as_str(), Some(self.context.come_back_ms())).await.map(|()| true)
                }
            },
        }
    }

    async fn say_goodbye(&mut self, code: &str, after_ms: Option<u64>) -> io::Result<()> {
        self.write(self.goodbye(code, after_ms)).await
    }

    fn goodbye(&self, code: &str, after_ms: Option<u64>) -> Bytes {
        self.context.tally.goodbye(code);
        let next = self.cursor.stream().offset(self.cursor.at());
        chunk(self.manner.goodbye(code, after_ms, next).as_bytes())
    }

    async fn write(&self, chunk: Bytes) -> io::Result<()> {
        self.outlet.write_all(self.framed(chunk)).await
    }

    /// Frames are made in chunks, for all to share; a reader without chunks gets what is in them.
    fn framed(&self, chunk: Bytes) -> Bytes {
        if self.chunked { chunk } else { payload(&chunk) }
    }
}

/// The reader took nothing for too long. It may come back at once.
pub(crate) const TOO_SLOW: &str = "too-slow";

/// The leave to read ends in a moment: whoever comes back brings another token.
pub(crate) const TOKEN_EXPIRES: &str = "token-expires";

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

fn payload(chunk: &Bytes) -> Bytes {
    let start = chunk.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    chunk.slice(start..chunk.len() - 2)
}
