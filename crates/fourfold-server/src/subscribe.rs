//! The way out: which transport a read wants, and where it begins.
//!
//! Spec: "Read Stream - Catch-up", "Read Stream - Live (Long-poll)", "Read Stream - Live (SSE)", "Stream Metadata".

use std::sync::Arc;

use fourfold_protocol::{Code, Offset, Refusal, Start, StreamName};
use fourfold_stream::{Cursor, Stream};
use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Body;

use crate::{
    access::{self, Admitted},
    answer::{self, Answer},
    connection::Reply,
    context::Context,
    known_polls::Grounds,
    query::{Live, Query},
    timestamp,
    trace::Parent,
    transports::{
        Reader,
        form::{self, Form},
        long_poll,
        pass::Pass,
        portions, short_poll, sse, websocket,
    },
    websocket::Handshake,
};

/// Answers a GET. A 304 that can be given again leaves its `grounds`.
pub(crate) async fn get<B: Body>(
    request: &Request<B>,
    name: &StreamName,
    admitted: Admitted,
    context: &Arc<Context>,
    grounds: &mut Option<Grounds>,
) -> Result<Reply, Refusal> {
    let query = Query::parse(request.uri().query())?;
    let wanted = query.start()?;
    let live = query.live()?;
    let upgrade = Handshake::is_wanted(request);
    let events = live == Some(Live::Sse) || (live.is_none() && accepts(request.headers(), "text/event-stream"));
    if live.is_some() && wanted.is_none() && !request.headers().contains_key(answer::LAST_EVENT_ID) {
        return Err(Refusal::new(
            Code::InvalidOffset,
            "a live read says where it begins: offset=-1, offset=now, or a Stream-Next-Offset",
        ));
    }
    if !request.body().is_end_stream() {
        return Err(Refusal::new(Code::UnexpectedBody, "a GET has no body here: leave it out"));
    }
    let stream = context.open(name).await?;
    if stream.config().ttl_seconds.is_some() {
        context.engine.renew(&stream);
        if name.is_call() {
            context.calls.seen(&stream);
        }
    }
    let start = wanted.unwrap_or(Start::Oldest);
    if upgrade {
        let handshake = Handshake::read(request)?;
        let mut cursor = cursor(&stream, start, context)?;
        if !query.wants_records()? {
            cursor.pass_records();
        }
        let mut reader = Reader::new(request, &query, cursor, &admitted, &context.limits)?.beating(&query)?;
        let place = reader.leave.take().and_then(|leave| leave.into_place());
        let pass = Pass::of(admitted, place, access::reading(request), context);
        let parent = Parent::of(request.headers(), context);
        return Ok(websocket::begin(handshake, reader, pass, parent));
    }
    if events {
        let cursor = match last_event_id(request) {
            Some(id) => resumed(&stream, id, context),
            None => cursor(&stream, start, context)?,
        };
        return Ok(sse::begin(Reader::new(request, &query, cursor, &admitted, &context.limits)?.beating(&query)?));
    }
    let form = if accepts(request.headers(), form::MESSAGE) { Form::Message } else { Form::Base };
    if live == Some(Live::LongPoll) {
        let waits = long_poll::Waits {
            timeout: query.timeout()?.unwrap_or(context.settings.long_poll_timeout),
            linger: query.linger()?,
        };
        if accepts(request.headers(), "application/x-ndjson") {
            let cursor = cursor(&stream, start, context)?;
            let reader = Reader::new(request, &query, cursor, &admitted, &context.limits)?.beating(&query)?;
            return Ok(portions::begin(reader, waits));
        }
        let limit = query.records()?;
        let at = Cursor::place(&stream, start)?;
        let tail = stream.tail();
        if at < tail.position {
            let mut read = short_poll::read(request, &query, &stream, at, form, admitted.public, context).await?;
            short_poll::add_cursor(&mut read, &stream, query.cursor());
            return Ok(Reply::Whole(read));
        }
        let reader = Reader::new(request, &query, cursor(&stream, start, context)?, &admitted, &context.limits)?;
        return Ok(long_poll::begin(reader, waits, limit, form));
    }
    let standing = stream.standing(); // Before it is judged by: if it still stands so later, nothing has come in between.
    let at = Cursor::place(&stream, start)?;
    if start == Start::Now {
        return Ok(Reply::Whole(short_poll::nothing(&stream, at, form)));
    }
    let answer = short_poll::read(request, &query, &stream, at, form, admitted.public, context).await?;
    if answer.status() == StatusCode::NOT_MODIFIED && !changes_by_itself(&stream, at) {
        *grounds = standing.map(|standing| Grounds { stream, standing });
    }
    Ok(Reply::Whole(answer))
}

/// Whether time alone can change what is read from `at` on, or reading counts as a use of the stream.
fn changes_by_itself(stream: &Stream, at: u64) -> bool {
    let config = stream.config();
    let ages = config.retention.age_seconds.is_some() && at < stream.tail().position;
    config.ttl_seconds.is_some() || config.expires_at_ms.is_some() || ages
}

pub(crate) async fn head(name: &StreamName, context: &Context) -> Result<Answer, Refusal> {
    let stream = context.open(name).await?;
    let config = stream.config();
    let mut parts = answer::head(StatusCode::OK);
    answer::put(&mut parts, header::CONTENT_TYPE, Form::Base.content_type(&stream));
    answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    let tail = stream.tail();
    answer::put_next(&mut parts, stream.offset(tail.position));
    answer::put(&mut parts, answer::STREAM_OLDEST_OFFSET, &stream.offset(stream.oldest()).to_string());
    if tail.closed {
        answer::put_closed(&mut parts, stream.ending().map(|ending| &**ending));
    }
    if let Some(ms) = config.expires_at_ms {
        answer::put(&mut parts, answer::STREAM_EXPIRES_AT, &timestamp::format(ms));
    }
    for (name, value) in [
        (answer::STREAM_TTL, config.ttl_seconds),
        (answer::STREAM_RETENTION_AGE, config.retention.age_seconds),
        (answer::STREAM_RETENTION_BYTES, config.retention.bytes),
        (answer::STREAM_RETENTION_RECORDS, config.retention.records),
    ] {
        // Of a call nothing is dropped, and no number needs to say so.
        if let Some(value) = value.filter(|value| *value != u64::MAX) {
            answer::put(&mut parts, name, &value.to_string());
        }
    }
    Ok(answer::empty(parts))
}

fn cursor(stream: &Arc<Stream>, start: Start, context: &Context) -> Result<Cursor, Refusal> {
    let at = Cursor::place(stream, start)?;
    Ok(Cursor::new(Arc::clone(stream), at, context.shard))
}

/// A native `EventSource` cannot read a refusal and would give up for good, so whatever its id is, it goes on, and is told
/// what it has missed.
fn resumed(stream: &Arc<Stream>, id: &str, context: &Context) -> Cursor {
    let start = Start::parse(id).unwrap_or(Start::At(Offset { epoch: stream.epoch(), position: 0 }));
    match Cursor::place(stream, start) {
        Ok(at) if Start::parse(id).is_some() => Cursor::new(Arc::clone(stream), at, context.shard),
        _ => {
            let mut cursor = Cursor::new(Arc::clone(stream), stream.oldest(), context.shard);
            if let Start::At(lost) = start {
                cursor.tell_gap(lost);
            }
            cursor
        }
    }
}

/// The id as it was sent; one that is not text, or is given twice, is as malformed as an empty one.
fn last_event_id<B>(request: &Request<B>) -> Option<&str> {
    let mut ids = request.headers().get_all(answer::LAST_EVENT_ID).iter();
    let id = ids.next()?.to_str().unwrap_or_default();
    Some(if ids.next().is_some() { "" } else { id })
}

/// Whether the client asks for this media type by name: `*/*` is not asking.
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(header::ACCEPT);
    let ranges = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    ranges.filter_map(|range| range.split(';').next()).any(|name| name.trim().eq_ignore_ascii_case(media_type))
}
