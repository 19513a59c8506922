//! WebSocket: a message for each portion, and appends from the client with ordered answers.

use std::{
    future::{Future, poll_fn, ready},
    io,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use fourfold_access::{Verb, Who};
use fourfold_protocol::{
    Portion, Refusal, message,
    websocket::{self, Agreed, CloseCode, Event, SharedFrame},
};
use fourfold_stream::{Append, Cursor, Dialect, Ended, Next, Producer, ReadRefusal, cursor::PORTION};
use http::{StatusCode, header};
use tokio::time::{Instant, sleep_until};

use super::{
    Live, Reader,
    appends::{Answering, Appends, admit, next_answers},
    follow::{PORTIONS_A_TURN, STREAM_DELETED, WEBSOCKET, WEBSOCKET_DEFLATED},
    heartbeat::{Heartbeat, Pulse},
    pass::{Due, Pass},
};
use crate::{
    answer::{self, Framing},
    connection::Reply,
    context::{Context, Seat},
    limits::{APPENDS_UNACKNOWLEDGED_MAX, PING},
    line::Stalled,
    publish, refusals,
    tally::Way,
    trace::Parent,
    websocket::{Handshake, Socket, encode},
};

/// A reader of messages, who may append.
pub(crate) struct WebSocket {
    cursor: Cursor,
    handshake: Handshake,
    heartbeat: Option<Heartbeat>,
    /// There unless everybody may do everything.
    pass: Option<Box<Pass>>,
    /// What its appends are a part of.
    parent: Parent,
}

pub(crate) fn begin(handshake: Handshake, reader: Reader, pass: Option<Pass>, parent: Parent) -> Reply {
    let Reader { cursor, heartbeat, .. } = reader;
    Reply::Live(Box::new(Live::WebSocket(WebSocket { cursor, handshake, heartbeat, pass: pass.map(Box::new), parent })))
}

/// How the connection ends.
enum End {
    /// We say why.
    Close(CloseCode),
    /// The client has said goodbye and was answered.
    HangUp,
}

impl WebSocket {
    pub(crate) fn run(
        self,
        socket: crate::socket::Socket,
        unread: Bytes,
        context: Arc<Context>,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send {
        let Handshake { accept, agreed, protocol } = self.handshake;
        let socket = Socket::on(socket, unread, agreed, context.settings.body_bytes_max);
        let pulse = self.heartbeat.map(|heartbeat| Box::new(Pulse::new(heartbeat, Instant::now())));
        let mut conversation = Conversation {
            cursor: self.cursor,
            socket,
            appends: None,
            pulse,
            pass: self.pass,
            parent: self.parent,
            context,
            seat,
        };
        // A block and not an async fn: that would keep its arguments twice.
        let head = conversation.socket.write_some(&switching(&accept, agreed, protocol));
        async move {
            if !head.is_empty() && Box::pin(conversation.socket.write(head)).await.is_err() {
                return;
            }
            match conversation.follow().await {
                Ok(End::Close(code)) => Box::pin(conversation.socket.close(code)).await,
                Ok(End::HangUp) => Box::pin(conversation.socket.hang_up()).await,
                Err(gone) => {
                    if let Some(stalled) = Stalled::of(&gone) {
                        Box::pin(conversation.leave_stalled(stalled)).await;
                    }
                }
            }
        }
    }
}

struct Conversation {
    cursor: Cursor,
    socket: Socket,
    /// There once the client has appended.
    appends: Option<Box<Appends>>,
    /// There if the client wants to hear something in silence.
    pulse: Option<Box<Pulse>>,
    /// There unless everybody may do everything.
    pass: Option<Box<Pass>>,
    parent: Parent,
    context: Arc<Context>,
    seat: Seat,
}

enum Woken {
    Moved,
    Answers(Vec<u8>),
    Event(io::Result<Result<Event, websocket::Broken>>),
    Timer,
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

impl Conversation {
    async fn follow(&mut self) -> io::Result<End> {
        let mut timer = pin!(sleep_until(self.alarm()));
        let mut heard = true;
        loop {
            let drained = self.drain()?;
            let idle = matches!(drained, Drained::Idle);
            // Boxed, so that an idle task does not carry the state of one that has much to do.
            if !idle && let Some(code) = Box::pin(self.work(drained)).await? {
                return Ok(End::Close(code));
            }
            if self.context.drain.begun() {
                return Box::pin(self.say_draining()).await;
            }
            let woken = poll_fn(|cx| {
                // The stream last: it was drained a moment ago, and one that never rests must not keep the client from a word.
                let waiting = match &mut self.appends {
                    Some(appends) => {
                        if let Poll::Ready(answers) = appends.poll(cx) {
                            return Poll::Ready(Woken::Answers(answers));
                        }
                        appends.waiting.len()
                    }
                    None => 0,
                };
                // A client with too many appends under way is not read until one is answered, and is not to blame for its silence.
                if waiting >= APPENDS_UNACKNOWLEDGED_MAX {
                    heard = true;
                } else if let Poll::Ready(event) = self.socket.poll_event(cx) {
                    return Poll::Ready(Woken::Event(event));
                }
                if timer.as_mut().poll(cx).is_ready() {
                    Poll::Ready(Woken::Timer)
                } else if !idle {
                    Poll::Ready(Woken::Moved)
                } else {
                    self.cursor.poll_moved(cx).map(|()| Woken::Moved)
                }
            })
            .await;
            match woken {
                Woken::Moved => {}
                Woken::Answers(answers) => {
                    Box::pin(self.socket.write(answers)).await?;
                    self.handed_over();
                    self.spoke();
                }
                Woken::Event(event) => {
                    heard = true;
                    if let Some(end) = Box::pin(self.take(event?)).await? {
                        return Ok(end);
                    }
                    if self.pass.as_mut().is_some_and(|pass| pass.renewed()) {
                        timer.as_mut().reset(self.alarm());
                    }
                }
                Woken::Timer => {
                    let now = Instant::now();
                    match self.pass.as_mut().map_or(Due::Nothing, |pass| pass.due(now)) {
                        Due::Goodbye => return Box::pin(self.say_expired()).await,
                        Due::Notice(left_ms) => Box::pin(self.say_expires(left_ms)).await?,
                        Due::Nothing => {}
                    }
                    if self.ping_is_due(now) {
                        // Nothing since the last ping, not even its pong; also the end of a client that stops in mid-frame.
                        if !std::mem::take(&mut heard) {
                            return Err(io::ErrorKind::ConnectionAborted.into());
                        }
                        Box::pin(self.socket.write(websocket::ping(&[]))).await?;
                    }
                    if self.pulse.as_mut().is_some_and(|pulse| pulse.beat_is_due(Instant::now())) {
                        self.cursor.greet();
                    }
                    timer.as_mut().reset(self.alarm());
                }
            }
        }
    }

    /// When to wake up in silence.
    fn alarm(&self) -> Instant {
        match (&self.pulse, &self.pass) {
            (Some(pulse), None) => pulse.alarm(),
            (Some(pulse), Some(pass)) => pass.alarm().map_or(pulse.alarm(), |alarm| alarm.min(pulse.alarm())),
            (None, Some(pass)) => pass.alarm().map_or(pass.ping_at, |alarm| alarm.min(pass.ping_at)),
            (None, None) => Instant::now() + PING,
        }
    }

    /// Whether a ping is due, which is taken as written.
    fn ping_is_due(&mut self, now: Instant) -> bool {
        match (&mut self.pulse, &mut self.pass) {
            (Some(pulse), _) => pulse.ping_is_due(now),
            (None, Some(pass)) => {
                let due = now >= pass.ping_at;
                if due {
                    pass.ping_at = now + PING;
                }
                due
            }
            (None, None) => true, // The timer rings for nothing else.
        }
    }

    fn spoke(&mut self) {
        if let Some(pulse) = &mut self.pulse {
            pulse.spoke(Instant::now());
        }
    }

    fn dialect(&self) -> Messages {
        Messages { agreed: self.socket.agreed() }
    }

    /// Writes what is new as long as that needs no waiting.
    fn drain(&mut self) -> io::Result<Drained> {
        let dialect = self.dialect();
        for _ in 0..PORTIONS_A_TURN {
            match self.cursor.next(&dialect, PORTION) {
                Next::Frame(frame) => {
                    self.context.tally.frame(Way::WebSocket, &frame);
                    let rest = self.socket.write_now(frame.bytes)?;
                    self.spoke();
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
    async fn work(&mut self, busy: Drained) -> io::Result<Option<CloseCode>> {
        match busy {
            Drained::Idle => Ok(None),
            Drained::Blocked(rest) => {
                self.socket.write(rest).await?;
                self.spoke();
                Ok(None)
            }
            Drained::Turn => {
                tokio::task::yield_now().await;
                Ok(None)
            }
            Drained::Ended(Ended::Closed) => {
                // Whoever closed the stream here is told so first, and what was sent behind that is answered.
                self.flush_answers().await?;
                while let Some(Ok(event)) = self.socket.event_at_hand() {
                    if let Event::Text(text) = event {
                        self.request(&text).await?;
                        self.flush_answers().await?;
                    }
                }
                Ok(Some(CloseCode::StreamClosed))
            }
            Drained::Ended(Ended::Deleted) => self.deleted().await.map(Some),
            Drained::Behind => match self.cursor.catch_up(&*self.context.engine, &self.dialect(), PORTION).await {
                Ok(frame) => {
                    self.context.tally.frame(Way::WebSocket, &frame);
                    self.socket.write(frame.bytes).await?;
                    self.spoke();
                    tokio::task::yield_now().await; // An engine in memory never waits by itself.
                    Ok(None)
                }
                Err(ReadRefusal::Deleted) => self.deleted().await.map(Some),
                Err(ReadRefusal::Unavailable(why)) => {
                    self.flush_answers().await?;
                    let code = crate::context::unavailable(&why).code;
                    self.say_goodbye(code.as_str(), Some(self.context.come_back_ms())).await?;
                    Ok(Some(CloseCode::Internal))
                }
            },
        }
    }

    async fn say_draining(&mut self) -> io::Result<End> {
        // What it sends meanwhile would be in doubt, so who has appended goes at once.
        if self.appends.is_none() {
            self.context.drain.turn().await;
        }
        self.flush_answers().await?;
        self.say_goodbye(CloseCode::Draining.as_str(), Some(self.context.come_back_ms())).await?;
        Ok(End::Close(CloseCode::Draining))
    }

    /// Does what the client has sent.
    async fn take(&mut self, event: Result<Event, websocket::Broken>) -> io::Result<Option<End>> {
        // A buffer holds thousands of small messages: they share the shard with other tasks' work.
        tokio::task::coop::consume_budget().await;
        match event {
            Ok(Event::Text(text)) => self.request(&text).await?,
            Ok(Event::Binary(_)) => {
                self.flush_answers().await?;
                return Ok(Some(End::Close(CloseCode::TextOnly)));
            }
            Ok(event @ Event::Close(_)) => {
                self.flush_answers().await?;
                self.socket.answer(&event).await?;
                return Ok(Some(End::HangUp));
            }
            Ok(event) => drop(self.socket.answer(&event).await?),
            Err(broken) => {
                self.flush_answers().await?;
                return Ok(Some(End::Close(broken.close_code())));
            }
        }
        Ok(None)
    }

    async fn request(&mut self, text: &str) -> io::Result<()> {
        let stream = self.cursor.stream();
        let request = message::read(stream.kind(), text);
        if let Ok(message::Request { id, token: Some(token), .. }) = &request {
            return self.renew(id, token).await;
        }
        let trace = self.parent.begin(&self.context);
        // Boxed: few wait here, for a hook or for what a quota counts.
        let admitted =
            Box::pin(admit(request.as_ref().ok(), stream, self.who(), self.seat.caller(), &self.context)).await;
        let (id, pending): (String, Answering) = match (request, admitted) {
            (Err((id, _)) | Ok(message::Request { id, .. }), Err(refusal)) | (Err((id, refusal)), Ok(())) => {
                (id, Box::pin(ready(Err(refusal))))
            }
            (Ok(request), Ok(())) => {
                let producer = request.producer.map(|(id, epoch, seq)| Producer { id, epoch, seq });
                let (records, close) = (request.records, request.close);
                let append = Append { records, producer, close, ..Append::default() };
                (request.id, Box::pin(publish::append(stream, append, self.who(), trace.clone(), &self.context)))
            }
        };
        let appends = self.appends.get_or_insert_with(|| {
            let peer = self.seat.caller().address();
            Box::new(Appends::of(self.cursor.stream().clone(), Arc::clone(&self.context.tally), peer))
        });
        appends.waiting.push_back((id, trace, pending));
        Ok(())
    }

    fn who(&self) -> &Who {
        self.pass.as_ref().map_or(Who::nobody(), |pass| &pass.who)
    }

    /// Goes on with another token, if it is good for what this connection does. The one before is in force until then, and after a refusal.
    async fn renew(&mut self, id: &str, token: &str) -> io::Result<()> {
        self.flush_answers().await?;
        let answer = match self.renewed(token).await {
            Ok(left_ms) => message::renewed(id, left_ms),
            Err(refusal) => {
                let caller = self.seat.caller().address();
                refusals::of_message(&refusal, self.cursor.stream().name(), caller, &self.context.tally);
                message::error(id, &refusal)
            }
        };
        self.socket.write(websocket::text(answer.as_bytes())).await?;
        self.spoke();
        Ok(())
    }

    /// How long it is good now, in milliseconds, if that has an end.
    async fn renewed(&mut self, token: &str) -> Result<Option<u64>, Refusal> {
        let (caller, context) = (self.seat.caller(), &self.context);
        context.limits.request(caller)?; // It costs as much as one.
        if self.pass.is_none() && context.settings.access.is_open() {
            return Ok(None);
        }
        // Without one there were no rules when the connection began.
        let verb = if self.cursor.passes_records() { Verb::Append } else { Verb::Read };
        let mut pass = self.pass.take().unwrap_or_else(|| Box::new(Pass::of_nobody(verb)));
        let renewed = pass.renew(token, self.cursor.stream().name(), caller.address(), context).await;
        let left_ms = pass.left_ms(Instant::now());
        self.pass = Some(pass);
        renewed.map(|()| left_ms)
    }

    async fn say_expires(&mut self, left_ms: u64) -> io::Result<()> {
        let next = self.cursor.stream().offset(self.cursor.at());
        let notice = message::token_expires(left_ms, next);
        self.socket.write(self.socket.encode(&SharedFrame::text(notice.as_bytes()))).await?;
        self.spoke();
        Ok(())
    }

    async fn say_expired(&mut self) -> io::Result<End> {
        self.flush_answers().await?;
        self.say_goodbye(CloseCode::TokenExpired.as_str(), Some(0)).await?;
        Ok(End::Close(CloseCode::TokenExpired))
    }

    async fn flush_answers(&mut self) -> io::Result<()> {
        while self.appends.as_ref().is_some_and(|appends| !appends.waiting.is_empty()) {
            let answers = next_answers(self.appends.as_deref_mut()).await;
            self.socket.write(answers).await?;
            self.handed_over();
        }
        Ok(())
    }

    /// The answers that were due are written.
    fn handed_over(&mut self) {
        if let Some(appends) = &mut self.appends {
            appends.handed_over.now();
        }
    }

    async fn deleted(&mut self) -> io::Result<CloseCode> {
        self.flush_answers().await?;
        self.say_goodbye(STREAM_DELETED, None).await?;
        Ok(CloseCode::StreamDeleted)
    }

    /// The client takes nothing: the kernel has for it, should it read on, where it was.
    async fn leave_stalled(self, stalled: Stalled) {
        self.context.tally.stalled();
        let heard = self.socket.tell_stalled(stalled, || {
            let goodbye = self.goodbye(CloseCode::TooSlow.as_str(), Some(0));
            [goodbye, websocket::close(CloseCode::TooSlow)].concat().into()
        });
        if heard {
            self.socket.hang_up().await;
        }
    }

    async fn say_goodbye(&mut self, code: &str, after_ms: Option<u64>) -> io::Result<()> {
        self.socket.write(self.goodbye(code, after_ms)).await
    }

    fn goodbye(&self, code: &str, after_ms: Option<u64>) -> Bytes {
        self.context.tally.goodbye(code);
        let next = self.cursor.stream().offset(self.cursor.at());
        self.socket.encode(&SharedFrame::text(message::goodbye(code, after_ms, next).as_bytes()))
    }
}

fn switching(accept: &str, agreed: Option<Agreed>, protocol: Option<&'static str>) -> Vec<u8> {
    let mut parts = answer::head(StatusCode::SWITCHING_PROTOCOLS);
    answer::put(&mut parts, header::CONNECTION, "Upgrade");
    answer::put(&mut parts, header::UPGRADE, "websocket");
    answer::put(&mut parts, header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        answer::put(&mut parts, header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    if let Some(agreed) = agreed {
        answer::put(&mut parts, header::SEC_WEBSOCKET_EXTENSIONS, &agreed.to_string());
    }
    let mut head = Vec::with_capacity(1024);
    answer::write_head(&mut parts, Framing::None, &mut head);
    head
}

/// Messages, compressed if that was agreed.
#[derive(Clone, Copy)]
struct Messages {
    agreed: Option<Agreed>,
}

impl Messages {
    /// A client with a small window gets plain messages, so that compressed ones are the same for all.
    fn shared(self) -> Option<Agreed> {
        self.agreed.filter(|agreed| agreed.allows(usize::MAX))
    }
}

impl Dialect for Messages {
    fn number(&self) -> u8 {
        if self.shared().is_some() { WEBSOCKET_DEFLATED } else { WEBSOCKET }
    }

    fn encode(&self, portion: &Portion<'_>) -> Bytes {
        let mut json = Vec::with_capacity(512);
        message::write(portion, &mut json);
        encode(&SharedFrame::text(&json), self.shared())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context as Waker, Waker as Bell};

    use fourfold_calls::Calls;
    use fourfold_engines::memory::MemoryEngine;
    use fourfold_protocol::StreamName;
    use fourfold_stream::{Create, Engine, Relay, Retention};
    use fourfold_subscriptions::Subscriptions;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{Settings, context::Drain, known_polls::KnownPolls, limits::Limits};

    #[tokio::test]
    async fn who_has_sent_many_messages_lets_others_run() {
        let (relay, shards) = Relay::new(1);
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(relay, Retention::default()));
        let wish = Create {
            records: Vec::new(),
            content_type: "text/plain".into(),
            ttl_seconds: None,
            expires_at_ms: None,
            retention: Retention::default(),
            closed: false,
            fork: None,
            note: None,
        };
        let stream = engine.create(&StreamName::new("a").unwrap(), wish).await.unwrap().stream;
        let settings = Arc::new(Settings::default());
        let subscriptions = Subscriptions::start(Arc::clone(&engine), settings.subscriptions.clone()).await.unwrap();
        let calls = Calls::start(Arc::clone(&engine), settings.calls.clone(), Arc::new(())).await.unwrap();
        let (drain, shard) = (Arc::<Drain>::default(), shards[0].shard());
        let seat = Seat::alone(&drain);
        let (polls, limits) = (KnownPolls::default(), Arc::new(Limits::new(settings.limits.clone())));
        let context = Arc::new(Context {
            engine,
            shard,
            settings,
            drain,
            subscriptions,
            calls,
            polls,
            limits,
            tally: Arc::default(),
            quota: Arc::default(),
            bookmarks: Arc::new(crate::bookmark::Bookmarks::new().unwrap()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(1_000);
        let handshake = Handshake { accept: String::new(), agreed: None, protocol: None };
        let websocket = WebSocket {
            cursor: Cursor::new(stream, 0, shard),
            handshake,
            heartbeat: None,
            pass: None,
            parent: Parent::default(),
        };
        let mut websocket = Box::pin(websocket.run(tcp.into(), pings.into(), context, seat));
        assert!(
            size_of_val(&*websocket) <= 536,
            "with what tokio has beside it, 640 bytes: {}",
            size_of_val(&*websocket)
        );
        assert!(websocket.as_mut().poll(&mut Waker::from_waker(Bell::noop())).is_pending());
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        client.readable().await.unwrap();
        while let Ok(bytes) = client.try_read(&mut piece) {
            said.extend_from_slice(&piece[..bytes]);
        }
        let pongs = said.windows(2).filter(|bytes| *bytes == [0x8a, 0]).count();
        assert!((1..=128).contains(&pongs), "{pongs} in one turn");
    }
}
