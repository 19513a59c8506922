//! Answers: the headers that all of them have, problems, and how a head is written without hyper.

use bytes::Bytes;
use fourfold_protocol::{Offset, Refusal};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{self, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
    response::Parts,
};

/// A whole answer.
pub(crate) type Answer = Response<Bytes>;

macro_rules! header_names {
    ($($name:ident = $text:literal;)*) => { $(pub(crate) const $name: HeaderName = HeaderName::from_static($text);)* };
}

header_names! {
    STREAM_NEXT_OFFSET = "stream-next-offset";
    STREAM_OLDEST_OFFSET = "stream-oldest-offset";
    STREAM_UP_TO_DATE = "stream-up-to-date";
    STREAM_CURSOR = "stream-cursor";
    STREAM_CLOSED = "stream-closed";
    STREAM_SEQ = "stream-seq";
    STREAM_TTL = "stream-ttl";
    STREAM_EXPIRES_AT = "stream-expires-at";
    STREAM_POLL_AFTER = "stream-poll-after";
    STREAM_RETENTION_AGE = "stream-retention-age";
    STREAM_RETENTION_BYTES = "stream-retention-bytes";
    STREAM_RETENTION_RECORDS = "stream-retention-records";
    STREAM_FORKED_FROM = "stream-forked-from";
    STREAM_FORK_OFFSET = "stream-fork-offset";
    STREAM_FORK_SUB_OFFSET = "stream-fork-sub-offset";
    STREAM_SSE_DATA_ENCODING = "stream-sse-data-encoding";
    PRODUCER_ID = "producer-id";
    PRODUCER_EPOCH = "producer-epoch";
    PRODUCER_SEQ = "producer-seq";
    PRODUCER_EXPECTED_SEQ = "producer-expected-seq";
    PRODUCER_RECEIVED_SEQ = "producer-received-seq";
    LAST_EVENT_ID = "last-event-id";
    CROSS_ORIGIN_RESOURCE_POLICY = "cross-origin-resource-policy";
}

/// What a page of another origin may read. Named one by one: `*` is not understood by older browsers.
const EXPOSED: &str = "Stream-Next-Offset, Stream-Oldest-Offset, Stream-Up-To-Date, Stream-Cursor, Stream-Closed, Stream-TTL, \
    Stream-Expires-At, Stream-Poll-After, Stream-Retention-Age, Stream-Retention-Bytes, Stream-Retention-Records, \
    Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq, ETag, Location, \
    Retry-After, Content-Type, Date";

/// What a page of another origin may send.
const ALLOWED: &str = "Content-Type, Accept, Authorization, If-None-Match, Last-Event-ID, Cache-Control, Stream-Seq, Stream-TTL, \
    Stream-Expires-At, Stream-Closed, Stream-Retention-Age, Stream-Retention-Bytes, Stream-Retention-Records, Stream-Forked-From, \
    Stream-Fork-Offset, Stream-Fork-Sub-Offset, Producer-Id, Producer-Epoch, Producer-Seq";

/// A stream may be of `text/html`: whoever opens its URL in a browser runs nothing of what others have appended.
const POLICY: &str = "default-src 'none'; sandbox";

pub(crate) const METHODS: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";

/// The head of an answer, with what every answer has.
pub(crate) fn head(status: StatusCode) -> Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.headers = HeaderMap::with_capacity(16);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        parts.headers.insert(name, HeaderValue::from_static(value));
    }
    parts
}

/// An answer without a body.
pub(crate) fn empty(parts: Parts) -> Answer {
    Response::from_parts(parts, Bytes::new())
}

/// An answer with one.
pub(crate) fn full(parts: Parts, body: impl Into<Bytes>) -> Answer {
    Response::from_parts(parts, body.into())
}

/// The answer to a preflight, or to anybody who asks what can be done here.
pub(crate) fn options(methods: &'static str) -> Answer {
    let mut parts = head(StatusCode::NO_CONTENT);
    for (name, value) in [
        (header::ALLOW, methods),
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        parts.headers.insert(name, HeaderValue::from_static(value));
    }
    empty(parts)
}

/// An error as problem+json, with the headers that the protocol wants for it.
pub(crate) fn refusal(refusal: &Refusal) -> Answer {
    let (parts, problem) = problem(refusal);
    full(parts, problem)
}

/// The head and the body of an error.
pub(crate) fn problem(refusal: &Refusal) -> (Parts, String) {
    let mut parts = head(StatusCode::from_u16(refusal.code.status()).expect("the table of codes has real statuses"));
    put(&mut parts, CONTENT_TYPE, "application/problem+json");
    put(&mut parts, CACHE_CONTROL, "no-store");
    for (name, value) in &refusal.members {
        let header = match *name {
            "streamClosed" => STREAM_CLOSED,
            "streamNextOffset" => STREAM_NEXT_OFFSET,
            "producerEpoch" => PRODUCER_EPOCH,
            "expectedSeq" => PRODUCER_EXPECTED_SEQ,
            "receivedSeq" => PRODUCER_RECEIVED_SEQ,
            "retryAfter" => header::RETRY_AFTER,
            "allow" => header::ALLOW,
            "wwwAuthenticate" => header::WWW_AUTHENTICATE,
            "secWebSocketVersion" => header::SEC_WEBSOCKET_VERSION,
            _ => continue,
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        put(&mut parts, header, &text);
    }
    (parts, refusal.problem().to_string())
}

/// Sets a header from text that was checked or made here.
pub(crate) fn put(parts: &mut Parts, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        parts.headers.insert(name, value);
    }
}

/// Sets `Stream-Next-Offset`.
pub(crate) fn put_next(parts: &mut Parts, next: Offset) {
    put(parts, STREAM_NEXT_OFFSET, &next.to_string());
}

/// How the body of an answer that is written without hyper ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(usize),
    /// In chunks.
    Chunked,
    /// With the connection: all that HTTP/1.0 knows.
    Close,
    /// There is none, by its status.
    None,
}

/// Writes the head of an HTTP/1.1 answer.
pub(crate) fn write_head(parts: &mut Parts, framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Length(bytes) => put(parts, CONTENT_LENGTH, &bytes.to_string()),
        Framing::Chunked => put(parts, header::TRANSFER_ENCODING, "chunked"),
        Framing::Close => put(parts, header::CONNECTION, "close"),
        Framing::None => {}
    }
    put(parts, header::DATE, &httpdate::fmt_http_date(std::time::SystemTime::now()));
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// A whole answer as bytes, for a socket that hyper does not serve.
pub(crate) fn whole(answer: Answer, close: bool) -> Bytes {
    let (parts, body) = answer.into_parts();
    to_bytes(parts, &body, close).into()
}

/// The same, from its parts.
pub(crate) fn to_bytes(mut parts: Parts, body: &[u8], close: bool) -> Vec<u8> {
    if close {
        put(&mut parts, header::CONNECTION, "close");
    }
    let has_none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    let framing = if has_none { Framing::None } else { Framing::Length(body.len()) };
    let mut out = Vec::with_capacity(1024 + body.len());
    write_head(&mut parts, framing, &mut out);
    out.extend_from_slice(body);
    out
}

/// An error as bytes, after which the connection ends.
pub(crate) fn last_words(refusal: &Refusal) -> Vec<u8> {
    let (parts, body) = problem(refusal);
    to_bytes(parts, body.as_bytes(), true)
}
