//! Short poll: one answer with what there is, and when to come back. Spec: "Read Stream - Catch-up".

use std::{fmt::Write, sync::Arc};

use fourfold_protocol::{Kind, Offset, Record, Refusal, Start};
use fourfold_stream::{Limit, ReadError, Stream};
use http::{Request, StatusCode, header, response::Parts};

use crate::{
    answer::{self, Answer},
    context::{Context, not_found, unavailable},
    limits::{ANSWER_BYTES_MAX, ANSWER_RECORDS_MAX},
    query::Query,
};

/// Reads from `at` on. A 304, and an answer at the tail, cost no engine read.
pub(crate) async fn read<B>(
    request: &Request<B>,
    query: &Query,
    stream: &Arc<Stream>,
    at: u64,
    context: &Context,
) -> Result<Answer, Refusal> {
    let limit = Limit { records: query.records()?.unwrap_or(ANSWER_RECORDS_MAX), bytes: ANSWER_BYTES_MAX };
    // The tail before the records: what is appended in between is not told as read.
    let tail = stream.tail();
    let whole = etag(stream.offset(at), tail.position, tail.closed);
    if matches(request, &whole) {
        // The client has [at, tail) from an answer that was not cut short, and nothing was appended since.
        let mut parts = answer::head(StatusCode::NOT_MODIFIED);
        put_place(&mut parts, stream, at, tail.position, true, tail.closed);
        answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
        return Ok(answer::empty(parts));
    }
    let (records, next) = records(stream, at, limit, tail.position, context).await?;
    let up_to_date = next >= tail.position;
    let closed = up_to_date && tail.closed;
    let mut parts = answer::head(StatusCode::OK);
    put_place(&mut parts, stream, at, next, up_to_date, closed);
    answer::put(&mut parts, header::CONTENT_TYPE, &stream.config().content_type);
    let names_a_place = matches!(query.start(), Ok(Some(Start::At(_))));
    if up_to_date || !names_a_place {
        answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    } else {
        // It can never change: the next one, at the tail, can, and what "the start" means.
        answer::put(&mut parts, header::CACHE_CONTROL, "public, max-age=60, stale-while-revalidate=300");
        answer::put(&mut parts, header::VARY, "Accept");
    }
    let tag = etag(stream.offset(at), next, closed);
    if matches(request, &tag) {
        parts.status = StatusCode::NOT_MODIFIED;
        return Ok(answer::empty(parts));
    }
    Ok(answer::full(parts, body(stream.kind(), &records)))
}

/// The answer to `offset=now`: where the tail is.
pub(crate) fn nothing(stream: &Stream, at: u64) -> Answer {
    let tail = stream.tail();
    let mut parts = answer::head(StatusCode::OK);
    put_place(&mut parts, stream, at, at, tail.position == at, tail.closed && tail.position == at);
    parts.headers.remove(header::ETAG);
    answer::put(&mut parts, header::CONTENT_TYPE, &stream.config().content_type);
    answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    answer::full(parts, body(stream.kind(), &[]))
}

/// Adds what a live answer has beyond a plain one.
pub(crate) fn add_cursor(answer: &mut Answer, stream: &Arc<Stream>, seen: Option<u64>) {
    if answer.headers().contains_key(answer::STREAM_CLOSED) {
        return;
    }
    let cursor = stream.interval_after(seen).to_string();
    answer.headers_mut().insert(answer::STREAM_CURSOR, cursor.parse().expect("digits are a header value"));
}

/// Records as the stream's own content type has them.
pub(crate) fn body(kind: Kind, records: &[Record]) -> Vec<u8> {
    let bytes: usize = records.iter().map(|r| r.data.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 2);
    if kind == Kind::Json {
        body.push(b'[');
    }
    for (n, record) in records.iter().enumerate() {
        if kind == Kind::Json && n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&record.data);
    }
    if kind == Kind::Json {
        body.push(b']');
    }
    body
}

/// The headers that say where the reader stands.
pub(crate) fn put_place(parts: &mut Parts, stream: &Stream, from: u64, next: u64, up_to_date: bool, closed: bool) {
    answer::put_next(parts, stream.offset(next));
    if up_to_date {
        answer::put(parts, answer::STREAM_UP_TO_DATE, "true");
    }
    if closed {
        answer::put(parts, answer::STREAM_CLOSED, "true");
    } else if up_to_date {
        answer::put(parts, answer::STREAM_POLL_AFTER, &stream.poll_after().as_millis().to_string());
    }
    answer::put(parts, header::ETAG, &etag(stream.offset(from), next, closed));
}

/// The epoch is unique on the server, so it stands for the stream.
pub(crate) fn etag(from: Offset, next: u64, closed: bool) -> String {
    let mut tag = String::with_capacity(64);
    let closed = if closed { ":c" } else { "" };
    write!(tag, "\"{:012x}:{}:{next}{closed}\"", from.epoch.0, from.position)
        .expect("writing to a String does not fail");
    tag
}

/// Compared weakly: proxies that compress make tags weak.
fn matches<B>(request: &Request<B>, etag: &str) -> bool {
    let values = request.headers().get_all(header::IF_NONE_MATCH);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

async fn records(
    stream: &Arc<Stream>,
    at: u64,
    limit: Limit,
    tail: u64,
    context: &Context,
) -> Result<(Vec<Record>, u64), Refusal> {
    if at == tail {
        return Ok((Vec::new(), at));
    }
    if let Some(records) = stream.recent(at, limit) {
        let next = records.last().map_or(at, |last| last.position + 1);
        return Ok((records, next));
    }
    match context.engine.read(stream, at, limit).await {
        Ok(batch) => Ok((batch.records, batch.next)),
        Err(ReadError::NotFound) => Err(not_found(stream.name())),
        Err(ReadError::Unavailable(why)) => Err(unavailable(&why)),
        Err(ReadError::Trimmed { .. }) => {
            let start = fourfold_protocol::Start::At(stream.offset(at));
            Err(fourfold_stream::Cursor::place(stream, start).err().unwrap_or_else(|| not_found(stream.name())))
        }
    }
}
