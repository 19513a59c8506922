//! The answer to a request that begins a call and waits for what comes of it: for the first record, or for the end.
//!
//! A long poll's twin, with an answer of its own: it says which call was begun, so it is shared with nobody.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use fourfold_stream::{Cursor, Limit};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::{Leave, Live, form::Form, short_poll};
use crate::{
    alarm::Alarm,
    answer::{self, Answer},
    connection::{self, Reply},
    context::{Context, Seat},
    h2_room::Place,
    line::{self, Watch},
    socket::Socket,
};

/// Who waits.
pub(crate) struct Awaited {
    pub(crate) cursor: Cursor,
    pub(crate) until: Until,
    pub(crate) deadline: Instant,
    /// Held while it waits.
    pub(crate) _leave: Option<Box<Leave>>,
    /// After the first record, for more.
    pub(crate) linger: Duration,
    pub(crate) limit: Limit,
    pub(crate) form: Form,
    pub(crate) keeps_alive: bool,
    /// What the answer says of the call.
    pub(crate) created: HeaderMap,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// A record.
    Record,
    /// The end of the call.
    End,
}

pub(crate) fn begin(awaited: Awaited) -> Reply {
    Reply::Live(Box::new(Live::Awaited(Box::new(awaited))))
}

enum Woken {
    Moved,
    Deadline,
    Gone,
}

impl Awaited {
    pub(crate) async fn run(mut self: Box<Self>, socket: Socket, unread: Bytes, context: Arc<Context>, seat: Seat) {
        if !self.wait(Some(&socket), &context).await {
            return;
        }
        let answer = self.read(&context).await;
        let goes_on = self.keeps_alive && !context.drain.begun();
        drop(self);
        let (head, body) = answer::whole(answer, !goes_on);
        if line::write_all(&socket, head).await.is_err() || line::write_all(&socket, body).await.is_err() {
            return;
        }
        if goes_on {
            connection::spawn(socket, unread, context, seat);
        } else {
            line::close(socket).await;
        }
    }

    /// The same as an answer on a stream of HTTP/2, whose end ends this.
    pub(crate) async fn on_a_stream(mut self: Box<Self>, context: &Context, place: &Place) -> Answer {
        self.wait(None, context).await;
        place.comes_back().await;
        self.read(context).await
    }

    /// False if the client has gone, where there is a socket to tell. The call goes on.
    async fn wait(&mut self, socket: Option<&Socket>, context: &Context) -> bool {
        let mut alarm = Alarm::new(self.deadline.saturating_duration_since(Instant::now()));
        let mut watch = Watch::NextRequest;
        let mut lingering = false;
        loop {
            let tail = self.cursor.look();
            let news = tail.position > self.cursor.at() && self.until == Until::Record;
            if tail.closed || tail.deleted || context.drain.begun() || (news && self.linger.is_zero()) {
                return true;
            }
            if news && !lingering {
                lingering = true;
                alarm.set(Instant::now() + self.linger);
            }
            let woken = poll_fn(|cx| {
                // The deadline first: a stream that never rests must not put off the end.
                if alarm.poll(cx).is_ready() {
                    Poll::Ready(Woken::Deadline)
                } else if self.cursor.poll_moved(cx).is_ready() {
                    Poll::Ready(Woken::Moved)
                } else {
                    socket.map_or(Poll::Pending, |socket| watch.poll_gone(socket, cx).map(|()| Woken::Gone))
                }
            })
            .await;
            match woken {
                Woken::Moved => {}
                Woken::Deadline => return true,
                Woken::Gone => return false,
            }
        }
    }

    async fn read(&self, context: &Context) -> Answer {
        let stream = self.cursor.stream();
        let mut answer = match short_poll::from_here(stream, self.cursor.at(), self.limit, self.form, context).await {
            Ok(answer) => answer,
            Err(refusal) => return answer::refusal(&refusal),
        };
        *answer.status_mut() = StatusCode::CREATED;
        if self.until == Until::Record {
            short_poll::add_cursor(&mut answer, stream, None);
        }
        let headers = answer.headers_mut();
        let advice = headers.remove(answer::STREAM_POLL_AFTER);
        if context.drain.begun() {
            let after = context.come_back_ms();
            headers.insert(answer::STREAM_POLL_AFTER, after.into());
        } else if let Some(advice) = advice.filter(|_| self.until == Until::End) {
            headers.insert(answer::STREAM_POLL_AFTER, advice);
        }
        for (name, value) in &self.created {
            // Where the reader goes on is behind what it got.
            if name != answer::STREAM_NEXT_OFFSET {
                headers.insert(name, value.clone());
            }
        }
        answer
    }
}
