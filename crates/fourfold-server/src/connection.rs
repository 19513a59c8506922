//! One connection, for as long as it is answered whole: requests that need no HTTP library, and long polls.
//!
//! ```text
//! serve ──┬── a whole plain request: read, answered, forgotten ── and the next
//!         ├── a long poll waits here, in the same task
//!         ├── another live read: a small new task holds the socket
//!         └── anything else: hyper holds the socket (`hyper_connection`), with what was read
//! ```
//!
//! Whoever holds the socket while it is idle decides what a connection costs, so the idle ones have neither hyper nor a buffer:
//! what is read goes through one buffer a shard, and a request that is not whole in it is hyper's.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use fourfold_protocol::Refusal;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::{
    alarm::Alarm,
    answer::{self, Answer},
    context::{Context, Seat},
    hyper_connection,
    limits::READ_BUFFER_BYTES,
    line, request,
    transports::{Live, long_poll::LongPoll},
};

/// What a request gets.
pub(crate) enum Reply {
    /// An answer, and then the next request.
    Whole(Answer),
    /// The socket goes to a transport.
    Live(Box<Live>),
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Whole(answer::refusal(&refusal))
    }
}

/// Spawns a task that serves HTTP on a socket; `unread` is what was read from it before.
pub(crate) fn spawn(socket: TcpStream, unread: Bytes, context: Arc<Context>, seat: Seat) {
    drop(tokio::spawn(serve(socket, unread, None, context, seat)));
}

/// The same, with a long poll that is asked for already.
pub(crate) fn spawn_waiting(wait: LongPoll, socket: TcpStream, unread: Bytes, context: Arc<Context>, seat: Seat) {
    drop(tokio::spawn(serve(socket, unread, Some(wait), context, seat)));
}

thread_local! {
    /// What a shard reads requests through.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER_BYTES].into());
}

/// A plain request's way to its reply; tells too whether another request will follow. Boxed, because an idle task has none.
type Answering = Pin<Box<dyn Future<Output = (Reply, bool)> + Send>>;

/// What a connection has to say next.
enum Asked {
    Plain(Answering),
    /// For hyper, from these bytes on.
    Other,
    /// Nothing more: the client has gone, was silent for too long, or the server drains.
    Over,
}

#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, and an idle task should be small")]
fn serve(
    mut socket: TcpStream,
    mut unread: Bytes,
    mut wait: Option<LongPoll>,
    context: Arc<Context>,
    seat: Seat,
) -> impl Future<Output = ()> + Send {
    async move {
        let mut alarm = Alarm::new(context.settings.head_wait_max);
        loop {
            let (answer, goes_on) = if let Some(mut wait) = wait.take() {
                let Some(answer) = wait.answer(&socket, &context, &mut alarm).await else { return };
                (answer, wait.keeps_alive())
            } else {
                alarm.set(Instant::now() + context.settings.head_wait_max);
                match next_request(&mut socket, &mut unread, &context, &mut alarm).await {
                    Asked::Over => break,
                    Asked::Other => {
                        hyper_connection::spawn(socket, unread, context, seat);
                        return;
                    }
                    Asked::Plain(answering) => match answering.await {
                        (Reply::Whole(answer), goes_on) => {
                            let goes_on = goes_on && !context.drain.begun();
                            (answer::whole(answer, !goes_on), goes_on)
                        }
                        (Reply::Live(live), _) => match *live {
                            Live::LongPoll(asked) => {
                                wait = Some(asked);
                                continue;
                            }
                            live => {
                                live.spawn(socket, unread, context, seat);
                                return;
                            }
                        },
                    },
                }
            };
            if line::write_all(&socket, answer).await.is_err() {
                return;
            }
            if !goes_on || context.drain.begun() {
                break;
            }
        }
        Box::pin(line::close(socket)).await;
    }
}

/// The next request: from what was read already, or else from the socket, for as long as the alarm allows.
async fn next_request(socket: &mut TcpStream, unread: &mut Bytes, context: &Arc<Context>, alarm: &mut Alarm) -> Asked {
    let bytes_max = context.settings.body_bytes_max;
    if !unread.is_empty() {
        return match request::read(unread, bytes_max) {
            Some((plain, end)) => {
                // Copied, because the rest would keep the whole; nothing is left of most.
                *unread = Bytes::copy_from_slice(&unread[end..]);
                Asked::Plain(Box::pin(plain.answer(Arc::clone(context))))
            }
            None => Asked::Other,
        };
    }
    let mut beginning = pin!(context.drain.beginning.notified());
    beginning.as_mut().enable();
    if context.drain.begun() {
        return Asked::Over;
    }
    poll_fn(|cx| {
        let read = BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                Poll::Pending => None,
                Poll::Ready(Err(_)) => Some(Asked::Over),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => Some(Asked::Over),
                Poll::Ready(Ok(())) => {
                    let bytes = buffer.filled();
                    let plain = request::read(bytes, bytes_max);
                    *unread = Bytes::copy_from_slice(&bytes[plain.as_ref().map_or(0, |(_, end)| *end)..]);
                    Some(match plain {
                        Some((plain, _)) => Asked::Plain(Box::pin(plain.answer(Arc::clone(context)))),
                        None => Asked::Other,
                    })
                }
            }
        });
        match read {
            Some(asked) => Poll::Ready(asked),
            None if beginning.as_mut().poll(cx).is_ready() => Poll::Ready(Asked::Over),
            None => alarm.poll(cx).map(|()| Asked::Over),
        }
    })
    .await
}
