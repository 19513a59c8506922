//! Server-Sent Events. Spec: "Read Stream - Live (SSE)".

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Kind, Offset, Portion, sse};
use fourfold_stream::{Dialect, Stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    Live, Reader,
    follow::{self, Follow, Manner, chunk},
};
use crate::{
    answer::{self, Framing},
    connection::Reply,
    context::{Context, Seat},
    limits::{HEARTBEAT, RETRY_MS},
    line,
    socket::Socket,
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
        let Reader { cursor, chunked, heartbeat, created, page, leave_at, .. } = self.reader;
        let leave_at = leave_at.map(Box::new);
        let stream = cursor.stream();
        let began_undecided = stream.is_undecided();
        let head = head(stream.kind() == Kind::Binary && !began_undecided, chunked, created, page);
        let manner = Events { began_undecided };
        Follow { cursor, socket, context, seat, manner, chunked, heartbeat, terms: None, leave_at }.run(head)
    }
}

fn head(base64: bool, chunked: bool, created: Option<Box<HeaderMap>>, page: Option<HeaderValue>) -> Vec<u8> {
    let mut parts = answer::head(StatusCode::OK);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::VARY, "Accept"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (header::CONNECTION, "close"),
    ] {
        answer::put(&mut parts, name, value);
    }
    if base64 {
        answer::put(&mut parts, answer::STREAM_SSE_DATA_ENCODING, "base64");
    }
    Reader::announce(created, page.as_ref(), &mut parts);
    let retry_ms = line::jittered(Duration::from_millis(RETRY_MS)).as_millis();
    let retry = sse::retry(u64::try_from(retry_ms).unwrap_or(RETRY_MS));
    let mut out = Vec::with_capacity(1280);
    answer::write_head(&mut parts, if chunked { Framing::Chunked } else { Framing::Close }, &mut out);
    if chunked {
        out.extend_from_slice(&chunk(retry.as_bytes()));
    } else {
        out.extend_from_slice(retry.as_bytes());
    }
    out
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
