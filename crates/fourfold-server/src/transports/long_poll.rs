//! Long poll: one answer, when there is something. Spec: "Read Stream - Live (Long-poll)".

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Code, Offset, Portion, Refusal, Start};
use fourfold_stream::{Cursor, Dialect, Ended, Frame, Limit, Next, ReadRefusal, Stream, cursor::PORTION};
use http::{HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::{Leave, Live, Reader, form::Form, short_poll::put_place};
use crate::{
    alarm::Alarm,
    answer::{self, Framing},
    connection::Reply,
    context::{Context, not_found, unavailable},
    line,
    socket::Socket,
    tally::Way,
};

/// How long to wait for records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// For the first one.
    pub(crate) timeout: Duration,
    /// After the first one, for more.
    pub(crate) linger: Duration,
}

/// A reader that stands at the tail.
pub(crate) struct LongPoll {
    cursor: Cursor,
    deadline: Instant,
    linger_ms: u16,
    limit: Limit,
    form: Form,
    keeps_alive: bool,
    /// What few have.
    rare: Option<Box<Rare>>,
}

/// Beside a waiting reader, so that those without it cost nothing for it.
#[derive(Default)]
struct Rare {
    /// The page that may read the answer although it sends cookies from another origin.
    page: Option<HeaderValue>,
    _leave: Option<Box<Leave>>,
}

pub(crate) fn begin(reader: Reader, waits: Waits, limit: Option<usize>, form: Form) -> Reply {
    let Reader { mut cursor, keeps_alive, leave, .. } = reader;
    cursor.greeted();
    let limit = limit.map_or(PORTION, |records| Limit { records, ..PORTION });
    let deadline = Leave::cut(leave.as_deref(), Instant::now() + waits.timeout);
    let linger_ms = u16::try_from(waits.linger.as_millis()).unwrap_or(u16::MAX);
    let rare = leave.is_some().then(|| Box::new(Rare { page: None, _leave: leave }));
    Reply::Live(Box::new(Live::LongPoll(LongPoll { cursor, deadline, linger_ms, limit, form, keeps_alive, rare })))
}

enum Woken {
    Moved,
    Deadline,
    Gone,
}

impl LongPoll {
    /// Whether the client goes on with HTTP behind the answer.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    pub(crate) fn readable_by(&mut self, page: HeaderValue) {
        self.rare.get_or_insert_default().page = Some(page);
    }

    /// Waits, and answers; `None` if the client has gone. What it sends meanwhile is put beside the socket, for the next request.
    pub(crate) async fn answer(
        &mut self,
        socket: (&Socket, &mut Box<[u8]>),
        context: &Context,
        alarm: &mut Alarm,
    ) -> Option<Bytes> {
        if !self.wait(Some(socket), context, alarm).await {
            return None;
        }
        Some(Box::pin(self.told(context)).await)
    }

    /// Waits for something to tell; false if the client has gone, where there is a socket to see that.
    pub(crate) async fn wait(
        &mut self,
        mut socket: Option<(&Socket, &mut Box<[u8]>)>,
        context: &Context,
        alarm: &mut Alarm,
    ) -> bool {
        alarm.set(self.deadline);
        let mut lingering = false;
        loop {
            let tail = self.cursor.look();
            let ended = tail.closed || tail.deleted || context.drain.begun();
            let news = tail.position > self.cursor.at();
            if news && !ended && !lingering && self.linger_ms > 0 {
                lingering = true;
                alarm.set(Instant::now() + Duration::from_millis(self.linger_ms.into()));
            }
            if ended || (news && !lingering) {
                break;
            }
            let woken = poll_fn(|cx| {
                // The deadline first: a stream that never rests must not put off the end.
                if alarm.poll(cx).is_ready() {
                    Poll::Ready(Woken::Deadline)
                } else if self.cursor.poll_moved(cx).is_ready() {
                    Poll::Ready(Woken::Moved)
                } else if let Some((socket, unread)) = &mut socket {
                    line::poll_gone_behind(unread, socket, cx).map(|()| Woken::Gone)
                } else {
                    Poll::Pending
                }
            })
            .await;
            match woken {
                Woken::Moved => {}
                Woken::Deadline => break,
                Woken::Gone => return false,
            }
        }
        true
    }

    /// The answer, when there is something to tell or the time is over.
    pub(crate) async fn told(&mut self, context: &Context) -> Bytes {
        if context.drain.begun() {
            Box::pin(context.drain.turn()).await;
        }
        let answer = Box::pin(self.read(context)).await;
        match self.rare.as_ref().and_then(|rare| rare.page.as_ref()) {
            Some(page) => answer::allowing(&answer, page),
            None => answer,
        }
    }

    /// The answer with what there is now.
    async fn read(&mut self, context: &Context) -> Bytes {
        let stream = Arc::clone(self.cursor.stream());
        let dialect = Whole { stream: &stream, from: self.cursor.at(), form: self.form };
        match self.cursor.next(&dialect, self.limit) {
            Next::Frame(Frame { records: 0, closed: true, .. }) => self.silence(context),
            Next::Frame(frame) => delivered(frame, context),
            Next::Behind => match self.cursor.catch_up(&*context.engine, &dialect, self.limit).await {
                Ok(frame) => delivered(frame, context),
                Err(ReadRefusal::Deleted) => refused(&not_found(stream.name()), context),
                Err(ReadRefusal::Unavailable(why)) => refused(&unavailable(&why), context),
            },
            Next::Ended(Ended::Deleted) => refused(&not_found(stream.name()), context),
            Next::Ended(Ended::Closed) | Next::Wait => self.silence(context),
        }
    }

    /// The answer without records: at the timeout, at the end of a closed stream, when the server drains.
    fn silence(&self, context: &Context) -> Bytes {
        let stream = self.cursor.stream();
        let closed = stream.tail().closed;
        let mut parts = answer::head(StatusCode::NO_CONTENT);
        put_place(&mut parts, stream, self.cursor.at(), self.cursor.at(), true, closed, self.form);
        answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
        if !closed {
            answer::put(&mut parts, answer::STREAM_CURSOR, &self.cursor.interval().to_string());
        }
        let draining = context.drain.begun();
        if draining {
            context.tally.goodbye(Code::Draining.as_str());
            answer::put(&mut parts, answer::STREAM_POLL_AFTER, &context.come_back_ms().to_string());
        } else {
            parts.headers.remove(answer::STREAM_POLL_AFTER); // A long poller comes back at once.
        }
        answer::to_bytes(parts, &[], false).into()
    }
}

fn delivered(frame: Frame, context: &Context) -> Bytes {
    context.tally.frame(Way::LongPoll, &frame);
    frame.bytes
}

/// An error in place of records; the connection goes on as it would behind them.
fn refused(refusal: &Refusal, context: &Context) -> Bytes {
    context.tally.refused(refusal.code);
    problem(refusal)
}

fn problem(refusal: &Refusal) -> Bytes {
    let (parts, problem) = answer::problem(refusal);
    answer::to_bytes(parts, problem.as_bytes(), false).into()
}

/// The whole HTTP answer: the same for all who waited at the same place.
struct Whole<'a> {
    stream: &'a Stream,
    from: u64,
    form: Form,
}

impl Whole<'_> {
    fn trimmed(&self, from: Offset) -> Option<Refusal> {
        Cursor::place(self.stream, Start::At(from)).err()
    }
}

impl Dialect for Whole<'_> {
    fn number(&self) -> u8 {
        self.form.dialect()
    }

    fn encode(&self, portion: &Portion<'_>) -> Bytes {
        // Retention has passed the reader while it waited: as if it had asked only now.
        if let Some(refusal) = portion.gap.and_then(|(from, _)| self.trimmed(from)) {
            return problem(&refusal);
        }
        let mut parts = answer::head(StatusCode::OK);
        let body = self.form.body(portion);
        let next = portion.next.position;
        put_place(&mut parts, self.stream, self.from, next, portion.up_to_date, portion.closed, self.form);
        parts.headers.remove(answer::STREAM_POLL_AFTER);
        answer::put(&mut parts, header::CONTENT_TYPE, self.form.content_type(self.stream));
        answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
        if let Some(cursor) = portion.cursor {
            answer::put(&mut parts, answer::STREAM_CURSOR, &cursor.to_string());
        }
        let mut out = Vec::with_capacity(1536 + body.len());
        answer::write_head(&mut parts, Framing::Length(body.len()), &mut out);
        out.extend_from_slice(&body);
        out.into()
    }
}
