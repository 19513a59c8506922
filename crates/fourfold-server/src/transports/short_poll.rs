//! Short poll: one answer with what there is, and when to come back. Spec: "Read Stream - Catch-up".

use std::{fmt::Write, sync::Arc};

use fourfold_protocol::{Portion, Record, Refusal, Start};
use fourfold_stream::{Limit, ReadError, Stream};
use http::{Request, StatusCode, header, response::Parts};

use super::form::{Form, UNDECIDED};
use crate::{
    answer::{self, Answer},
    context::{Context, not_found, unavailable},
    limits::{ANSWER_BYTES_MAX, ANSWER_RECORDS_MAX},
    query::Query,
    tally::Way,
};

/// Reads from `at` on. A 304, and an answer at the tail, cost no engine read.
pub(crate) async fn read<B>(
    request: &Request<B>,
    query: &Query,
    stream: &Arc<Stream>,
    at: u64,
    form: Form,
    public: bool,
    context: &Context,
) -> Result<Answer, Refusal> {
    let limit = Limit { records: query.records()?.unwrap_or(ANSWER_RECORDS_MAX), bytes: ANSWER_BYTES_MAX };
    // The tail before the records: what is appended in between is not told as read.
    let tail = stream.tail();
    let whole = etag(stream, at, tail.position, tail.closed, form);
    if matches(request, &whole) {
        // The client has [at, tail) from an answer that was not cut short, and nothing was appended since.
        let mut parts = answer::head(StatusCode::NOT_MODIFIED);
        put_place(&mut parts, stream, at, tail.position, true, tail.closed, form);
        answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
        return Ok(answer::empty(parts));
    }
    let (records, next) = records(stream, at, limit, tail.position, context).await?;
    let up_to_date = next >= tail.position;
    let closed = up_to_date && tail.closed;
    let mut parts = answer::head(StatusCode::OK);
    put_place(&mut parts, stream, at, next, up_to_date, closed, form);
    answer::put(&mut parts, header::CONTENT_TYPE, form.content_type(stream));
    match query.start() {
        Ok(Some(Start::At(offset))) if !up_to_date && offset.epoch == stream.epoch() => {
            // It can never change: the next one, at the tail, can, and what "the start" means.
            if public && context.settings.access.cookie_name().is_some() {
                // A page that is named is told so, with its cookie or without: a cache must not give it what was for any.
                answer::put(&mut parts, header::VARY, "Accept, Origin");
            }
            let whose = if public {
                "public, max-age=60, stale-while-revalidate=300"
            } else {
                "private, no-cache" // Each time it is judged anew who asks; the ETag spares the body.
            };
            answer::put(&mut parts, header::CACHE_CONTROL, whose);
        }
        // A later fork at this URL would know the same token of its source, and have other records behind it: the ETag tells.
        Ok(Some(Start::At(_))) if !up_to_date => answer::put(&mut parts, header::CACHE_CONTROL, "no-cache"),
        _ => answer::put(&mut parts, header::CACHE_CONTROL, "no-store"),
    }
    let tag = etag(stream, at, next, closed, form);
    if matches(request, &tag) {
        parts.status = StatusCode::NOT_MODIFIED;
        return Ok(answer::empty(parts));
    }
    let answer = full(parts, form, &portion(stream, &records, next, up_to_date, closed));
    context.tally.delivered(Way::ShortPoll, records.len(), answer.body().len());
    Ok(answer)
}

/// What there is from `at` on, for a request that is not itself a read.
pub(crate) async fn from_here(
    stream: &Arc<Stream>,
    at: u64,
    limit: Limit,
    form: Form,
    context: &Context,
) -> Result<Answer, Refusal> {
    let tail = stream.tail();
    let (records, next) = records(stream, at, limit, tail.position, context).await?;
    let up_to_date = next >= tail.position;
    let closed = up_to_date && tail.closed;
    let mut parts = answer::head(StatusCode::OK);
    put_place(&mut parts, stream, at, next, up_to_date, closed, form);
    parts.headers.remove(header::ETAG);
    answer::put(&mut parts, header::CONTENT_TYPE, form.content_type(stream));
    answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    Ok(full(parts, form, &portion(stream, &records, next, up_to_date, closed)))
}

/// The answer to `offset=now`: where the tail is.
pub(crate) fn nothing(stream: &Stream, at: u64, form: Form) -> Answer {
    let tail = stream.tail();
    let mut parts = answer::head(StatusCode::OK);
    let up_to_date = tail.position == at;
    let closed = up_to_date && tail.closed;
    put_place(&mut parts, stream, at, at, up_to_date, closed, form);
    parts.headers.remove(header::ETAG);
    answer::put(&mut parts, header::CONTENT_TYPE, form.content_type(stream));
    answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    full(parts, form, &portion(stream, &[], at, up_to_date, closed))
}

/// Adds what a live answer has beyond a plain one.
pub(crate) fn add_cursor(answer: &mut Answer, stream: &Arc<Stream>, seen: Option<u64>) {
    if answer.headers().contains_key(answer::STREAM_CLOSED) {
        return;
    }
    let cursor = stream.interval_after(seen).to_string();
    answer.headers_mut().insert(answer::STREAM_CURSOR, cursor.parse().expect("digits are a header value"));
}

/// The answer with its body. If the media type was decided since the head was made, there were no records: of bytes, as the head says, that is nothing.
fn full(parts: Parts, form: Form, portion: &Portion<'_>) -> Answer {
    let of_bytes = || parts.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == UNDECIDED);
    let body = if portion.records.is_empty() && of_bytes() { Vec::new() } else { form.body(portion) };
    answer::full(parts, body)
}

fn portion<'a>(stream: &'a Stream, records: &'a [Record], next: u64, up_to_date: bool, closed: bool) -> Portion<'a> {
    let chain = stream.chain();
    let (next, ending) = (stream.offset(next), stream.ending().map(|ending| &**ending));
    Portion { kind: stream.kind(), records, next, chain, up_to_date, closed, cursor: None, gap: None, ending }
}

/// The headers that say where the reader stands, and in which form it is told.
pub(crate) fn put_place(
    parts: &mut Parts,
    stream: &Stream,
    from: u64,
    next: u64,
    up_to_date: bool,
    closed: bool,
    form: Form,
) {
    answer::put_next(parts, stream.offset(next));
    answer::put(parts, header::VARY, "Accept");
    if up_to_date {
        answer::put(parts, answer::STREAM_UP_TO_DATE, "true");
    }
    if closed {
        answer::put_closed(parts, stream.ending().map(|ending| &**ending));
    } else if up_to_date {
        answer::put(parts, answer::STREAM_POLL_AFTER, &stream.poll_after().as_millis().to_string());
    }
    answer::put(parts, header::ETAG, &etag(stream, from, next, closed, form));
}

/// The epoch is unique on the server, so it stands for the stream; the last one, so that nothing from before a restore matches.
fn etag(stream: &Stream, from: u64, next: u64, closed: bool, form: Form) -> String {
    let mut tag = String::with_capacity(64);
    let closed = if closed { ":c" } else { "" };
    let form = form.tag();
    let epoch = stream.chain().last().map_or(stream.epoch(), |last| last.epoch);
    write!(tag, "\"{:012x}:{from}:{next}{closed}{form}\"", epoch.0).expect("writing to a String does not fail");
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
