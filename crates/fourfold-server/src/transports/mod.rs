//! The transports: ways of writing what a cursor reads. None knows another.
//!
//! | file | holds the socket | writes |
//! |---|---|---|
//! | [`short_poll`] | never | one answer |
//! | [`long_poll`] | until a record comes | one answer, then HTTP goes on |
//! | [`portions`] | until the timeout | a line of JSON for each portion |
//! | [`sse`] | until the client goes | events for each portion |
//! | [`awaited`] | until a record comes, or the end | the answer to the request that began a call |
//! | [`websocket`] | until the client goes | a message for each portion, and reads appends |
//!
//! What the two polls have in their body is a [`form`].
//!
//! On a connection of HTTP/2 there are many answers, and none holds the socket; the same cursors give them ([`Live::on_a_stream`]).
//!
//! To add one: a dialect (how a portion becomes bytes), a `begin` that `subscribe` calls, a line here and in [`Live`].

use std::sync::Arc;

use bytes::Bytes;
use fourfold_protocol::{Code, Refusal};
use fourfold_stream::Cursor;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, response::Parts};
use tokio::time::Instant;

use crate::{
    access::Admitted,
    alarm::Alarm,
    answer,
    caller::Connected,
    connection,
    context::{Context, Seat},
    h2_body::Body,
    h2_room::Place,
    limits::Limits,
    query::Query,
    request::keeps_alive,
    socket::Socket,
    tally::Way,
};

use heartbeat::Heartbeat;

mod appends;
pub(crate) mod awaited;
pub(crate) mod follow;
pub(crate) mod form;
pub(crate) mod heartbeat;
pub(crate) mod long_poll;
pub(crate) mod pass;
pub(crate) mod portions;
pub(crate) mod short_poll;
pub(crate) mod sse;
pub(crate) mod websocket;

/// A read that holds the socket.
pub(crate) enum Live {
    Awaited(Box<awaited::Awaited>),
    LongPoll(long_poll::LongPoll),
    Portions(portions::Portions),
    Sse(sse::Sse),
    WebSocket(websocket::WebSocket),
}

impl Live {
    /// Lets this page read the answer although it sends cookies from another origin.
    pub(crate) fn readable_by(&mut self, page: HeaderValue) {
        match self {
            Self::Awaited(awaited) => answer::allow(&mut awaited.created, &page),
            Self::LongPoll(wait) => wait.readable_by(page),
            Self::Portions(portions) => portions.reader.page = Some(page),
            Self::Sse(sse) => sse.reader.page = Some(page),
            Self::WebSocket(_) => {} // Its Origin was judged, and a page reads no header of it.
        }
    }

    /// Starts the task that holds the socket from now on. `unread` is what the client has sent already behind its request.
    pub(crate) fn spawn(self, socket: Socket, unread: Bytes, context: Arc<Context>, mut seat: Seat) {
        seat.becomes(self.way(), &context.tally);
        // Each is spawned as its own future: one enum of futures would be as large as the largest.
        match self {
            Self::Awaited(awaited) => drop(tokio::spawn(awaited.run(socket, unread, context, seat))),
            Self::LongPoll(wait) => connection::spawn_waiting(wait, socket, unread, context, seat),
            Self::Portions(portions) => drop(tokio::spawn(portions.run(socket, unread, context, seat))),
            Self::Sse(sse) => drop(tokio::spawn(sse.run(socket, context, seat))),
            Self::WebSocket(websocket) => drop(tokio::spawn(websocket.run(socket, unread, context, seat))),
        }
    }

    fn way(&self) -> Way {
        match self {
            Self::Awaited(_) | Self::LongPoll(_) => Way::LongPoll,
            Self::Portions(_) => Way::Portions,
            Self::Sse(_) => Way::Sse,
            Self::WebSocket(_) => Way::WebSocket,
        }
    }

    /// The status that its answer has, or will have if nothing goes wrong.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Awaited(_) => StatusCode::CREATED,
            Self::WebSocket(_) => StatusCode::SWITCHING_PROTOCOLS,
            _ => StatusCode::OK,
        }
    }
}

impl Live {
    /// The answer, where it is one of many on a connection of HTTP/2. Waits, if it waits for records; dropped when the client has gone.
    pub(crate) async fn on_a_stream(self, context: &Arc<Context>, place: &Place) -> Response<Body> {
        match self {
            Self::Awaited(awaited) => awaited.on_a_stream(context, place).await.map(Body::from),
            Self::LongPoll(mut wait) => {
                let mut alarm = Alarm::new(context.settings.long_poll_timeout);
                wait.wait(None, context, &mut alarm).await; // Without a socket nobody is seen to go.
                place.comes_back().await;
                answer::from_bytes(&wait.told(context).await).map(Body::from)
            }
            Self::Portions(portions) => portions.on_a_stream(Arc::clone(context)),
            Self::Sse(sse) => sse.on_a_stream(Arc::clone(context)),
            Self::WebSocket(_) => {
                let refusal = Refusal::new(Code::InvalidUpgrade, "a WebSocket begins with GET and HTTP/1.1");
                answer::refusal(&refusal).map(Body::from)
            }
        }
    }
}

/// Who reads: what the transports that hold a socket have in common.
pub(crate) struct Reader {
    pub(crate) cursor: Cursor,
    /// HTTP/1.0 (many proxies' default to their upstream) knows no chunks.
    pub(crate) chunked: bool,
    pub(crate) keeps_alive: bool,
    pub(crate) heartbeat: Option<Heartbeat>,
    /// What the answer's head says besides, if the request has begun a call.
    pub(crate) created: Option<Box<HeaderMap>>,
    /// The page that may read the answer although it sends cookies from another origin.
    pub(crate) page: Option<HeaderValue>,
    /// There if it is bounded.
    pub(crate) leave: Option<Box<Leave>>,
}

/// How the leave of a read that goes on is bounded.
pub(crate) struct Leave {
    /// When it ends.
    pub(crate) until: Option<Instant>,
    /// Counts it among the reads of whom it was given to.
    place: Option<Connected>,
}

impl Leave {
    /// Errors: whom it was given to reads as much as they may.
    fn of(admitted: &Admitted, limits: &Limits) -> Result<Option<Box<Self>>, Refusal> {
        let (until, place) = (admitted.leave_at(), limits.token_connect(admitted.who.key())?);
        let bounded = until.is_some() || place.is_some();
        Ok(bounded.then(|| Box::new(Self { until, place })))
    }

    /// The deadline, or the end of the leave if that comes first: whoever asks again shows its token again.
    pub(crate) fn cut(leave: Option<&Self>, deadline: Instant) -> Instant {
        leave.and_then(|leave| leave.until).map_or(deadline, |until| deadline.min(until))
    }

    /// The place alone, for whoever knows how long it has leave for.
    pub(crate) fn into_place(self) -> Option<Connected> {
        self.place
    }
}

impl Reader {
    /// Errors: whoever asks reads as much as they may.
    pub(crate) fn new<B>(
        request: &Request<B>,
        query: &Query,
        mut cursor: Cursor,
        admitted: &Admitted,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        if let Some(seen) = query.cursor() {
            cursor.seen_cursor(seen);
        }
        let chunked = request.version() == Version::HTTP_11;
        Ok(Self {
            cursor,
            chunked,
            keeps_alive: keeps_alive(request),
            heartbeat: None,
            created: None,
            page: None,
            leave: Leave::of(admitted, limits)?,
        })
    }

    /// Says in the head of an answer which page may read it, and which call was begun, if one was.
    pub(crate) fn announce(created: Option<Box<HeaderMap>>, page: Option<&HeaderValue>, parts: &mut Parts) {
        if let Some(page) = page {
            answer::allow(&mut parts.headers, page);
        }
        if let Some(created) = created {
            parts.status = StatusCode::CREATED;
            parts.headers.extend(*created);
        }
    }

    /// With the heartbeat that the query asks for.
    pub(crate) fn beating(self, query: &Query) -> Result<Self, Refusal> {
        Ok(Self { heartbeat: query.heartbeat()?, ..self })
    }
}
