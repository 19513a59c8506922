//! One connection, for as long as it is answered whole: requests that need no HTTP library, and long polls.
//!
//! ```text
//! serve ──┬── a whole plain request: read, answered, forgotten ── and the next
//!         ├── a long poll waits here, in the same task
//!         ├── another live read: a small new task holds the socket
//!         ├── the preface of HTTP/2, from this machine: hyper holds the socket (`h2_connection`)
//!         └── anything else: hyper holds the socket (`hyper_connection`), with what was read
//! ```
//!
//! Whoever holds the socket while it is idle decides what a connection costs, so the idle ones have neither hyper nor a buffer:
//! what is read goes through one buffer a shard, and a request that is not whole in it is hyper's.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use fourfold_protocol::Refusal;
use http::HeaderValue;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use crate::{
    alarm::Alarm,
    answer::{self, Answer},
    context::{Context, Seat},
    h2_connection, hyper_connection,
    limits::{APPENDS_UNACKNOWLEDGED_MAX, READ_BUFFER_BYTES},
    line, request,
    socket::Socket,
    tally::Way,
    trace::HandedOver,
    transports::{Live, long_poll::LongPoll},
};

/// What a request gets.
pub(crate) enum Reply {
    /// An answer, and then the next request.
    Whole(Answer),
    /// An answer that is awaited: the append has its place in the order already.
    Appending(Appending),
    /// The socket goes to a transport.
    Live(Box<Live>),
}

/// An append's answer on its way.
pub(crate) type Appending = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Reply {
    /// Lets this page read the answer, if it is there.
    pub(crate) fn readable_by(self, page: Option<HeaderValue>) -> Self {
        let Some(page) = page else { return self };
        match self {
            Self::Whole(mut answer) => {
                answer::allow(answer.headers_mut(), &page);
                Self::Whole(answer)
            }
            Self::Appending(answering) => Self::Appending(Box::pin(async move {
                let mut answer = answering.await;
                answer::allow(answer.headers_mut(), &page);
                answer
            })),
            Self::Live(mut live) => {
                live.readable_by(page);
                Self::Live(live)
            }
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Whole(answer::refusal(&refusal))
    }
}

/// Spawns a task that serves HTTP on a socket; `unread` is what was read from it before.
pub(crate) fn spawn(socket: Socket, unread: Bytes, context: Arc<Context>, seat: Seat) {
    drop(tokio::spawn(Connection::new(socket, &unread, None, context, seat).serve()));
}

/// The same, with a long poll that is asked for already.
pub(crate) fn spawn_waiting(wait: LongPoll, socket: Socket, unread: Bytes, context: Arc<Context>, seat: Seat) {
    drop(tokio::spawn(Connection::new(socket, &unread, Some(wait), context, seat).serve()));
}

/// All that an idle connection costs, beside the socket's own.
struct Connection {
    socket: Socket,
    /// What was read behind the last request.
    unread: Box<[u8]>,
    /// There while a long poll waits.
    wait: Option<LongPoll>,
    alarm: Alarm,
    context: Arc<Context>,
    seat: Seat,
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
    /// Answered already, but for these bytes that did not fit.
    Answered(Box<[u8]>),
    /// Nothing more: the client has gone, was silent for too long, or the server drains.
    Over,
}

/// What a connection does next.
enum Next {
    /// Nothing more of this request: its answer is written. Goes on or not.
    Written(bool),
    /// Writes what did not fit at once, and goes on or not.
    Write(Box<[Bytes; 2]>, bool),
    /// Answers appends, beginning with this one; goes on or not.
    Appends(Appending, bool),
    /// A long poll waits here.
    Wait,
    /// The socket is for a live read, or for hyper.
    Leave(Option<Box<Live>>),
    /// Nothing: it is over.
    Over,
    /// Nothing: the client is not there.
    Gone,
}

impl Connection {
    fn new(socket: Socket, unread: &[u8], wait: Option<LongPoll>, context: Arc<Context>, mut seat: Seat) -> Self {
        seat.becomes(if wait.is_some() { Way::LongPoll } else { Way::Http }, &context.tally);
        Self { socket, unread: unread.into(), wait, alarm: Alarm::new(context.settings.head_wait_max), context, seat }
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments twice, and an idle task should be small"
    )]
    fn serve(mut self) -> impl Future<Output = ()> + Send {
        async move {
            loop {
                let next = if self.wait.is_some() {
                    self.wait().await
                } else {
                    match self.next_request().await {
                        Asked::Plain(answering) => {
                            let (reply, goes_on) = answering.await;
                            self.now(reply, goes_on)
                        }
                        Asked::Answered(rest) => self.write(rest.into(), Bytes::new(), true),
                        Asked::Other => Next::Leave(None),
                        Asked::Over => Next::Over,
                    }
                };
                let goes_on = match next {
                    Next::Written(goes_on) => Ok(goes_on),
                    Next::Write(rest, goes_on) => {
                        Box::pin(line::write_both(&self.socket, *rest)).await.map(|()| goes_on)
                    }
                    Next::Appends(first, goes_on) => match Box::pin(self.appends(first, goes_on)).await {
                        Ok(true) => continue,
                        ended => ended,
                    },
                    Next::Wait => continue,
                    Next::Leave(taken) => return self.leave(taken),
                    Next::Over => break,
                    Next::Gone => return,
                };
                match goes_on {
                    Ok(true) if !self.context.drain.begun() => {}
                    Ok(_) => break,
                    Err(_) => return,
                }
            }
            Box::pin(line::close(self.socket)).await;
        }
    }

    /// Waits for what is polled.
    async fn wait(&mut self) -> Next {
        let Some(wait) = &mut self.wait else { return Next::Over };
        let Some(answer) = wait.answer((&self.socket, &mut self.unread), &self.context, &mut self.alarm).await else {
            return Next::Gone;
        };
        let goes_on = wait.keeps_alive() && !self.context.drain.begun();
        self.wait = None;
        self.seat.release();
        self.seat.becomes(Way::Http, &self.context.tally);
        self.write(if goes_on { answer } else { answer::closing(&answer) }, Bytes::new(), goes_on)
    }

    /// What to do with a reply. Not in the task: an idle one would have room for a reply.
    fn now(&mut self, reply: Reply, goes_on: bool) -> Next {
        let live = match reply {
            Reply::Whole(answer) => return self.whole(answer, goes_on),
            Reply::Appending(first) => return Next::Appends(first, goes_on),
            Reply::Live(live) => live,
        };
        if let Err(refusal) = self.seat.hold(&self.context.limits) {
            return self.whole(answer::refusal(&refusal), goes_on);
        }
        match *live {
            Live::LongPoll(asked) => {
                self.wait = Some(asked);
                self.seat.becomes(Way::LongPoll, &self.context.tally);
                Next::Wait
            }
            other => Next::Leave(Some(Box::new(other))),
        }
    }

    fn whole(&self, answer: Answer, goes_on: bool) -> Next {
        let goes_on = goes_on && !self.context.drain.begun();
        let (head, body) = answer::whole(answer, !goes_on);
        self.write(head, body, goes_on)
    }

    /// Writes what fits at once, which mostly is all.
    fn write(&self, head: Bytes, body: Bytes, goes_on: bool) -> Next {
        let rest = line::write_now(&self.socket, head).and_then(|rest| {
            if rest.is_empty() { Ok([Bytes::new(), line::write_now(&self.socket, body)?]) } else { Ok([rest, body]) }
        });
        match rest {
            Err(_) => Next::Gone,
            Ok(rest) if rest.iter().all(Bytes::is_empty) => Next::Written(goes_on),
            Ok(rest) => Next::Write(Box::new(rest), goes_on),
        }
    }

    /// Gives the socket to a live read, or to hyper.
    fn leave(self, live: Option<Box<Live>>) {
        let Self { socket, unread, alarm, context, seat, .. } = self;
        match live {
            Some(live) => live.spawn(socket, unread.into(), context, seat),
            None if h2_connection::is_meant(&unread, &socket) => {
                h2_connection::spawn(socket, unread.into(), context, seat);
            }
            None => hyper_connection::spawn(socket, unread.into(), alarm.at(), context, seat),
        }
    }

    /// Answers an append, and those that came behind it: they are taken in order before the first is acknowledged, so that a client that sends
    /// several at once has several under way. Tells whether the connection goes on.
    async fn appends(&mut self, first: Appending, mut goes_on: bool) -> io::Result<bool> {
        let mut waiting = VecDeque::from([first]);
        while goes_on && waiting.len() < APPENDS_UNACKNOWLEDGED_MAX && self.unread.starts_with(b"POST ") {
            tokio::task::coop::consume_budget().await;
            let Some((plain, end)) = request::read(&self.unread, self.context.settings.body_bytes_max) else { break };
            self.unread = self.unread[end..].into();
            self.seat.asks(plain.headers(), &self.context.limits);
            let (reply, more) = plain.answer(Arc::clone(&self.context), Arc::clone(self.seat.caller())).await;
            goes_on = more;
            waiting.push_back(match reply {
                Reply::Appending(answering) => answering,
                Reply::Whole(answer) => Box::pin(ready(answer)),
                Reply::Live(_) => unreachable!("a POST is not a read"),
            });
        }
        let (mut due, mut handed_over) = (Vec::new(), HandedOver::default());
        while let Some(first) = waiting.front_mut() {
            let mut answer = match poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await {
                Poll::Ready(answer) => answer,
                // What is due goes before anything is waited for.
                Poll::Pending if !due.is_empty() => {
                    line::write_all(&self.socket, std::mem::take(&mut due)).await?;
                    handed_over.now();
                    continue;
                }
                Poll::Pending => first.await,
            };
            waiting.pop_front();
            goes_on = goes_on && !(waiting.is_empty() && self.context.drain.begun());
            handed_over.soon(&mut answer);
            let (head, body) = answer::whole(answer, waiting.is_empty() && !goes_on);
            due.extend_from_slice(&head);
            due.extend_from_slice(&body);
        }
        line::write_all(&self.socket, due).await?;
        handed_over.now();
        Ok(goes_on)
    }

    /// The next request: from what was read already, or else from the socket, for as long as a head may take.
    async fn next_request(&mut self) -> Asked {
        let Self { socket, unread, alarm, context, seat, .. } = self;
        let bytes_max = context.settings.body_bytes_max;
        alarm.set(Instant::now() + context.settings.head_wait_max);
        if !unread.is_empty() {
            // A client with many requests at hand shares its shard: nothing else here waits for anything.
            tokio::task::coop::consume_budget().await;
            return match request::read(unread, bytes_max) {
                Some((plain, end)) => {
                    *unread = unread[end..].into(); // Nothing is left of most.
                    seat.asks(plain.headers(), &context.limits);
                    Asked::Plain(Box::pin(plain.answer(Arc::clone(context), Arc::clone(seat.caller()))))
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
                loop {
                    let mut buffer = ReadBuf::new(buffer);
                    match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                        Poll::Pending => return None,
                        Poll::Ready(Err(_)) => return Some(Asked::Over),
                        Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Some(Asked::Over),
                        Poll::Ready(Ok(())) => {}
                    }
                    let bytes = buffer.filled();
                    let known = if context.drain.begun() || context.limits.must_be_read(seat.peer()) {
                        Err(None) // From now on an answer says that it is the last; or who asks stands in the request.
                    } else {
                        context.polls.answer(bytes, |answer| {
                            context.tally.known_poll();
                            match context.limits.request(seat.peer()) {
                                Ok(()) => line::write_some(socket, answer),
                                Err(refusal) => line::write_some(socket, &answer::in_passing(&refusal)),
                            }
                        })
                    };
                    let asking = match known {
                        Ok(rest) if rest.is_empty() => {
                            alarm.set(Instant::now() + context.settings.head_wait_max);
                            continue;
                        }
                        Ok(rest) => return Some(Asked::Answered(rest)),
                        Err(asking) => asking,
                    };
                    let plain = request::read(bytes, bytes_max);
                    *unread = bytes[plain.as_ref().map_or(0, |(_, end)| *end)..].into();
                    if let Some((plain, _)) = &plain {
                        seat.asks(plain.headers(), &context.limits);
                    }
                    let (context, caller) = (Arc::clone(context), Arc::clone(seat.caller()));
                    return Some(match (plain, asking) {
                        (None, _) => Asked::Other,
                        (Some((plain, _)), Some(asking)) if unread.is_empty() => {
                            Asked::Plain(Box::pin(plain.answer_and_learn(context, caller, asking)))
                        }
                        (Some((plain, _)), _) => Asked::Plain(Box::pin(plain.answer(context, caller))),
                    });
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    use fourfold_calls::Calls;
    use fourfold_engines::memory::MemoryEngine;
    use fourfold_protocol::StreamName;
    use fourfold_stream::{Create, Cursor, Engine, Relay, Retention};
    use fourfold_subscriptions::Subscriptions;
    use tokio::net::{TcpListener, TcpStream};

    use crate::{
        Settings,
        context::Drain,
        known_polls::KnownPolls,
        limits::Limits,
        transports::{Reader, sse},
    };

    /// The server's side of a connection, and the client's.
    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0.into(), client)
    }

    async fn context() -> (Arc<Context>, Seat) {
        let (relay, shards) = Relay::new(1);
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(relay, Retention::default()));
        let settings = Arc::new(Settings::default());
        let subscriptions = Subscriptions::start(Arc::clone(&engine), settings.subscriptions.clone()).await.unwrap();
        let calls = Calls::start(Arc::clone(&engine), settings.calls.clone(), Arc::new(())).await.unwrap();
        let drain = Arc::<Drain>::default();
        let seat = Seat::alone(&drain);
        let limits = Arc::new(Limits::new(settings.limits.clone()));
        (
            Arc::new(Context {
                engine,
                shard: shards[0].shard(),
                settings,
                drain,
                subscriptions,
                calls,
                polls: KnownPolls::default(),
                limits,
                tally: Arc::default(),
                quota: Arc::default(),
                bookmarks: Arc::new(crate::bookmark::Bookmarks::new().unwrap()),
            }),
            seat,
        )
    }

    /// What tokio has beside a task's future, in bytes; the whole is aligned to 128.
    const BESIDE: usize = 104;

    #[tokio::test]
    async fn what_an_idle_connection_costs_does_not_grow_unseen() {
        let (context, seat) = context().await;
        let (socket, _client) = connected().await;
        let connection = Connection::new(socket, b"", None, Arc::clone(&context), seat).serve();
        assert!(size_of_val(&connection) + BESIDE <= 640, "{}", size_of_val(&connection));
        context.engine.create(&StreamName::new("a").unwrap(), Create::default()).await.unwrap();
        let stream = context.open(&StreamName::new("a").unwrap()).await.unwrap();
        let reader = Reader {
            cursor: Cursor::new(stream, 0, context.shard),
            chunked: true,
            keeps_alive: true,
            heartbeat: None,
            created: None,
            page: None,
            leave: None,
        };
        let Reply::Live(live) = sse::begin(reader) else { panic!("a live read") };
        let Live::Sse(events) = *live else { panic!("events") };
        let (socket, _client) = connected().await;
        let events = events.run(socket, Arc::clone(&context), Seat::alone(&context.drain));
        assert!(size_of_val(&events) + BESIDE <= 512, "{}", size_of_val(&events));
    }

    #[tokio::test]
    async fn a_head_in_pieces_has_no_longer_than_a_whole_one() {
        let (context, seat) = context().await;
        let (socket, client) = connected().await;
        let head_by = Instant::now(); // The client was silent for all of its time but a moment.
        hyper_connection::spawn(socket, Bytes::from_static(b"GET /v1/"), head_by, context, seat);
        let patience = std::time::Duration::from_secs(5); // Far less than a head may take by the settings.
        tokio::time::timeout(patience, client.readable()).await.expect("it is let go").unwrap();
        assert_eq!(client.try_read(&mut [0; 16]).unwrap(), 0);
    }

    /// Sends a request and waits for the whole of its answer, which has no body.
    async fn ask(client: &TcpStream, request: &str) -> String {
        let patience = std::time::Duration::from_secs(5);
        assert_eq!(client.try_write(request.as_bytes()).unwrap(), request.len());
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            tokio::time::timeout(patience, client.readable()).await.expect("it is answered").unwrap();
            let mut piece = [0; 4096];
            if let Ok(bytes) = client.try_read(&mut piece) {
                assert!(bytes > 0, "it goes on");
                said.extend_from_slice(&piece[..bytes]);
            }
        }
        String::from_utf8(said).unwrap()
    }

    #[tokio::test]
    async fn a_poll_is_known_if_it_goes_on_and_time_alone_changes_nothing() {
        let (context, seat) = context().await;
        let wish = |ttl_seconds, age_seconds| Create {
            records: vec![Bytes::from_static(b"x")],
            content_type: "text/plain".into(),
            ttl_seconds,
            expires_at_ms: None,
            retention: Retention { age_seconds, ..Retention::default() },
            closed: false,
            fork: None,
            note: None,
        };
        for (name, wish) in [("a", wish(None, None)), ("ttl", wish(Some(60), None)), ("age", wish(None, Some(60)))] {
            context.engine.create(&StreamName::new(name).unwrap(), wish).await.unwrap();
        }
        let (socket, client) = connected().await;
        spawn(socket, Bytes::new(), Arc::clone(&context), seat);
        for (target, headers, known) in [
            ("a?x", "", true),
            ("a?limit=1", "", true),
            ("ttl?x", "", false),
            ("age?x", "", false),
            ("age?offset=$tail", "", true),
            ("a?y", "connection: close\r\n", false),
        ] {
            let (name, _) = target.split_once('?').unwrap();
            let stream = context.open(&StreamName::new(name).unwrap()).await.unwrap();
            let (tail, from) = (stream.offset(1), u64::from(target.contains("$tail")));
            let target = target.replace("$tail", &tail.to_string());
            let tag = format!("\"{:012x}:{from}:1\"", stream.epoch().0);
            let request =
                format!("GET /v1/stream/{target} HTTP/1.1\r\nhost: x\r\n{headers}if-none-match: {tag}\r\n\r\n");
            for _ in 0..if headers.is_empty() { 3 } else { 1 } {
                let answer = ask(&client, &request).await;
                assert!(answer.starts_with("HTTP/1.1 304"), "{answer}");
            }
            let asking = context.polls.answer(request.as_bytes(), |_| ()).err();
            assert_eq!(asking.is_none(), known, "{request}");
            assert!(known || format!("{asking:?}").contains("request: None"), "not even noted");
        }
    }

    #[tokio::test]
    async fn who_has_many_requests_at_hand_lets_others_run() {
        let (context, seat) = context().await;
        let (socket, client) = connected().await;
        let requests = "GET /v1/stream/none HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
        let connection = Connection::new(socket, requests.as_bytes(), None, context, seat).serve();
        let mut connection = Box::pin(connection);
        let turn = connection.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
        assert!(turn.is_pending());
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        client.readable().await.unwrap();
        while let Ok(bytes) = client.try_read(&mut piece) {
            said.extend_from_slice(&piece[..bytes]);
        }
        let answers = String::from_utf8_lossy(&said).matches("HTTP/1.1 404").count();
        assert!((1..=128).contains(&answers), "{answers} in one turn");
    }
}
