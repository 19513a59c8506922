//! Server-Sent Events. Spec: "Read Stream - Live (SSE)".

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Kind, Offset, Portion, sse};
use fourfold_stream::{Cursor, Dialect, Stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response::Parts};

use super::{
    Live, Reader,
    follow::{self, Follow, Manner, chunk},
};
use crate::{
    answer::{self, Framing},
    connection::Reply,
    context::{Context, Seat},
    h2_body::{Body, Slot},
    limits::{HEARTBEAT, RETRY_MS},
    line,
    socket::Socket,
    tally::Way,
};

/// A reader of events.
pub(crate) struct Sse {
    pub(super) reader: Reader,
}

pub(crate) fn begin(reader: Reader) -> Reply {
    Reply::Live(Box::new(Live::Sse(Sse { reader })))
}

impl Sse {
    pub(crate) fn run(self, socket: Socket, context: Arc<Context>, seat: Seat) -> impl Future<Output = ()> + Send {
        let Reader { cursor, chunked, heartbeat, created, page, leave, .. } = self.reader;
        let (manner, mut parts) = begun(&cursor, created, page);
        answer::put(&mut parts, header::CONNECTION, "close");
        let mut head = Vec::with_capacity(1280);
        answer::write_head(&mut parts, if chunked { Framing::Chunked } else { Framing::Close }, &mut head);
        let retry = retry();
        head.extend_from_slice(&if chunked { chunk(retry.as_bytes()) } else { retry.into() });
        let (terms, seat) = (None, Some(seat));
        Follow { cursor, outlet: socket, context, seat, manner, chunked, heartbeat, terms, leave }.run(head)
    }

    /// The same as an answer on a stream of HTTP/2.
    pub(crate) fn on_a_stream(self, context: Arc<Context>) -> Response<Body> {
        let Reader { cursor, heartbeat, created, page, leave, .. } = self.reader;
        let (manner, parts) = begun(&cursor, created, page);
        let (outlet, taken) = Slot::holding(retry().into());
        let follow =
            Follow { cursor, outlet, context, seat: None, manner, chunked: false, heartbeat, terms: None, leave };
        Response::from_parts(parts, Body::following(follow, taken))
    }
}

fn begun(cursor: &Cursor, created: Option<Box<HeaderMap>>, page: Option<HeaderValue>) -> (Events, Parts) {
    let stream = cursor.stream();
    let began_undecided = stream.is_undecided();
    (Events { began_undecided }, head(stream.kind() == Kind::Binary && !began_undecided, created, page))
}

fn head(base64: bool, created: Option<Box<HeaderMap>>, page: Option<HeaderValue>) -> Parts {
    let mut parts = answer::head(StatusCode::OK);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::VARY, "Accept"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        answer::put(&mut parts, name, value);
    }
    if base64 {
        answer::put(&mut parts, answer::STREAM_SSE_DATA_ENCODING, "base64");
    }
    Reader::announce(created, page.as_ref(), &mut parts);
    parts
}

/// What stands before the first event: when to come back, should the connection break.
fn retry() -> String {
    let retry_ms = line::jittered(Duration::from_millis(RETRY_MS)).as_millis();
    sse::retry(u64::try_from(retry_ms).unwrap_or(RETRY_MS))
}

#[derive(Clone, Copy)]
struct Events {
    /// The head was written before the stream's media type was decided, so it names no encoding.
    began_undecided: bool,
}

impl Dialect for Events {
    fn number(&self) -> u8 {
        follow::SSE
    }

    fn encode(&self, portion: &Portion<'_>) -> Bytes {
        let mut events = Vec::with_capacity(512);
        sse::write(portion, &mut events);
        chunk(&events)
    }
}

impl Manner for Events {
    const WAY: Way = Way::Sse;
    const BEAT: Option<(Duration, &'static [u8])> = Some((HEARTBEAT, sse::HEARTBEAT));

    /// Bytes need a head that names their encoding: whoever comes back gets it.
    fn fits(&self, stream: &Stream) -> bool {
        let decided = || !stream.is_undecided() || stream.tail().position > 0;
        !(self.began_undecided && stream.kind() == Kind::Binary && decided())
    }

    fn goodbye(&self, code: &str, after_ms: Option<u64>, next: Offset) -> String {
        sse::goodbye(code, after_ms, next)
    }
}
