//! Long poll in portions: one answer, a line of JSON for each portion, until the stream or the timeout ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Offset, Portion, message};
use fourfold_stream::Dialect;
use http::{HeaderName, StatusCode, header};
use tokio::{net::TcpStream, time::Instant};

use super::{
    Live, Reader,
    follow::{self, Follow, Manner, chunk},
    long_poll::Waits,
};
use crate::{
    answer::{self, Framing},
    connection::{self, Reply},
    context::{Context, Seat},
    line,
};

/// A reader of lines.
pub(crate) struct Portions {
    reader: Reader,
    deadline: Instant,
    linger: Duration,
}

pub(crate) fn begin(reader: Reader, waits: Waits) -> Reply {
    let deadline = Instant::now() + waits.timeout;
    Reply::Live(Box::new(Live::Portions(Portions { reader, deadline, linger: waits.linger })))
}

impl Portions {
    pub(crate) async fn run(self, socket: TcpStream, unread: Bytes, context: Arc<Context>, seat: Seat) {
        let Reader { cursor, chunked, keeps_alive } = self.reader;
        let keeps_alive = keeps_alive && chunked;
        let follow = Follow { cursor, chunked, deadline: Some(self.deadline), linger: self.linger };
        let ended = follow.run(Lines, head(chunked, keeps_alive), &socket, &context).await;
        match ended {
            Ok(_) if keeps_alive && !context.drain.begun() => connection::spawn(socket, unread, context, seat),
            Ok(_) => line::close(socket).await,
            Err(_) => {}
        }
    }
}

fn head(chunked: bool, keeps_alive: bool) -> Vec<u8> {
    let mut parts = answer::head(StatusCode::OK);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        answer::put(&mut parts, name, value);
    }
    if !keeps_alive {
        answer::put(&mut parts, header::CONNECTION, "close");
    }
    let mut out = Vec::with_capacity(1280);
    answer::write_head(&mut parts, if chunked { Framing::Chunked } else { Framing::Close }, &mut out);
    out
}

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
    // The answer ends within a minute: nothing needs to be kept awake, and every line stays a message.
    const BEAT: Option<(Duration, &'static [u8])> = None;

    fn goodbye(&self, code: &str, after_ms: Option<u64>, next: Offset) -> String {
        message::goodbye(code, after_ms, next) + "\n"
    }
}
