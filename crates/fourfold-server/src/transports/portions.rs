//! Long poll in portions: one answer, a line of JSON for each portion, until the stream or the timeout ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Offset, Portion, message};
use fourfold_stream::Dialect;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response::Parts};
use tokio::time::Instant;

use super::{
    Live, Reader,
    follow::{self, Follow, Manner, Terms, chunk},
    long_poll::Waits,
};
use crate::{
    answer::{self, Framing},
    connection::Reply,
    context::{Context, Seat},
    h2_body::{Body, Slot},
    socket::Socket,
    tally::Way,
};

/// A reader of lines.
pub(crate) struct Portions {
    pub(super) reader: Reader,
    deadline: Instant,
    linger: Duration,
}

pub(crate) fn begin(reader: Reader, waits: Waits) -> Reply {
    let deadline = Instant::now() + waits.timeout;
    Reply::Live(Box::new(Live::Portions(Portions { reader, deadline, linger: waits.linger })))
}

impl Portions {
    pub(crate) fn run(
        self,
        socket: Socket,
        unread: Bytes,
        context: Arc<Context>,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send {
        let Reader { cursor, chunked, keeps_alive, heartbeat, created, page, leave } = self.reader;
        let next_request = (keeps_alive && chunked).then_some(unread);
        let mut parts = head(created, page);
        if next_request.is_none() {
            answer::put(&mut parts, header::CONNECTION, "close");
        }
        let mut head = Vec::with_capacity(1280);
        answer::write_head(&mut parts, if chunked { Framing::Chunked } else { Framing::Close }, &mut head);
        let terms = Some(Box::new(Terms { deadline: self.deadline, linger: self.linger, next_request }));
        let seat = Some(seat);
        Follow { cursor, outlet: socket, context, seat, manner: Lines, chunked, heartbeat, terms, leave }.run(head)
    }

    /// The same as an answer on a stream of HTTP/2.
    pub(crate) fn on_a_stream(self, context: Arc<Context>) -> Response<Body> {
        let Reader { cursor, heartbeat, created, page, leave, .. } = self.reader;
        let (outlet, taken) = Slot::holding(Bytes::new());
        let terms = Some(Box::new(Terms { deadline: self.deadline, linger: self.linger, next_request: None }));
        let follow =
            Follow { cursor, outlet, context, seat: None, manner: Lines, chunked: false, heartbeat, terms, leave };
        Response::from_parts(head(created, page), Body::following(follow, taken))
    }
}

fn head(created: Option<Box<HeaderMap>>, page: Option<HeaderValue>) -> Parts {
    let mut parts = answer::head(StatusCode::OK);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (header::VARY, "Accept"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        answer::put(&mut parts, name, value);
    }
    Reader::announce(created, page.as_ref(), &mut parts);
    parts
}

#[derive(Clone, Copy)]
struct Lines;

impl Dialect for Lines {
    fn number(&self) -> u8 {
        follow::NDJSON
    }

    fn encode(&self, portion: &Portion<'_>) -> Bytes {
        let mut line = Vec::with_capacity(512);
        message::write(portion, &mut line);
        line.push(b'\n');
        chunk(&line)
    }
}

impl Manner for Lines {
    const WAY: Way = Way::Portions;
    // The answer ends within a minute: nothing needs to be kept awake unless the client asks for it, and every line stays a message.
    const BEAT: Option<(Duration, &'static [u8])> = None;

    fn goodbye(&self, code: &str, after_ms: Option<u64>, next: Offset) -> String {
        message::goodbye(code, after_ms, next) + "\n"
    }
}
