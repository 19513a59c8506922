//! Answers: the headers that all of them have, problems, and how a head is written without hyper.

use std::{
    cell::RefCell,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fourfold_protocol::{Code, Offset, Refusal};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{self, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
    response::Parts,
};
use serde_json::Value;

use crate::limits::ENDING_MEMBER_BYTES_MAX;

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
    STREAM_ENDING = "stream-ending";
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
macro_rules! exposed {
    () => {
        "Stream-Next-Offset, Stream-Oldest-Offset, Stream-Up-To-Date, Stream-Cursor, Stream-Closed, Stream-Ending, Stream-TTL, \
    Stream-Expires-At, Stream-Poll-After, Stream-Retention-Age, Stream-Retention-Bytes, Stream-Retention-Records, \
    Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq, ETag, Location, \
    Retry-After, Content-Type, Date, Call-Id, Idempotency-Replayed, Preference-Applied"
    };
}

/// What a page of another origin may send.
const ALLOWED: &str = "Content-Type, Accept, Authorization, If-None-Match, Last-Event-ID, Cache-Control, Stream-Seq, Stream-TTL, \
    Stream-Expires-At, Stream-Closed, Stream-Retention-Age, Stream-Retention-Bytes, Stream-Retention-Records, Stream-Forked-From, \
    Stream-Fork-Offset, Stream-Fork-Sub-Offset, Producer-Id, Producer-Epoch, Producer-Seq, \
    Idempotency-Key, Prefer";

/// A stream may be of `text/html`: whoever opens its URL in a browser runs nothing of what others have appended.
macro_rules! policy {
    () => {
        "default-src 'none'; sandbox"
    };
}

pub(crate) const METHODS: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";

/// What every answer has, as it is written. In one piece, because these five would be a fifth of the work for a 304.
const COMMON: &str = concat!(
    "access-control-expose-headers: ",
    exposed!(),
    "\r\nx-content-type-options: nosniff\r\ncross-origin-resource-policy: cross-origin\r\nreferrer-policy: no-referrer\r\n"
);

/// Whose pages may read an answer, unless it is a certain one's.
const ANY_PAGE: &str = "access-control-allow-origin: *\r\n";

/// The same for hyper, which writes heads itself.
pub(crate) fn add_common(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed!()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"),
        (header::REFERRER_POLICY, "no-referrer"), // There may be a token in the URL.
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::ACCESS_CONTROL_ALLOW_ORIGIN).or_insert(HeaderValue::from_static("*"));
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy!()));
    }
}

/// Lets a page read the answer although it sends cookies from another origin: for those a `*` is not enough.
pub(crate) fn allow(headers: &mut HeaderMap, page: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// The same for an answer that is written already, as it is for all who read it.
pub(crate) fn allowing(answer: &[u8], page: &HeaderValue) -> Bytes {
    let any = answer.windows(ANY_PAGE.len()).position(|line| line == ANY_PAGE.as_bytes());
    let at = any.expect("an answer that is shared is for any page");
    let page = [
        b"access-control-allow-origin: ",
        page.as_bytes(),
        b"\r\naccess-control-allow-credentials: true\r\nvary: Origin\r\n",
    ]
    .concat();
    [&answer[..at], &page, &answer[at + ANY_PAGE.len()..]].concat().into()
}

/// The head of an answer; what every answer has is added when it is written.
pub(crate) fn head(status: StatusCode) -> Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.headers = HeaderMap::with_capacity(10);
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
    let (mut parts, problem) = problem(refusal);
    parts.extensions.insert(Refused(refusal.code));
    full(parts, problem)
}

/// With an answer that is a refusal: which one, for whoever counts and logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(pub(crate) Code);

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

/// Says that the end was reached, and what was said of it.
pub(crate) fn put_closed(parts: &mut Parts, ending: Option<&str>) {
    put(parts, STREAM_CLOSED, "true");
    if let Some(ending) = ending.and_then(brief) {
        put(parts, STREAM_ENDING, &ending);
    }
}

/// An ending as it stands in a header: ASCII, and without members that are long as JSON, since proxies bound the whole head.
fn brief(ending: &str) -> Option<String> {
    let Ok(Value::Object(mut ending)) = serde_json::from_str(ending) else { return None };
    ending.retain(|_, value| value.to_string().len() <= ENDING_MEMBER_BYTES_MAX);
    let mut out = String::new();
    for c in Value::Object(ending).to_string().chars() {
        if c.is_ascii() && c != '\x7f' {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(out, "\\u{unit:04x}").expect("memory takes it"));
        }
    }
    Some(out)
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

thread_local! {
    static DATE: RefCell<DateLine> = const { RefCell::new(DateLine { second: 0, line: String::new() }) };
}

/// The `Date` of answers, made once a second.
struct DateLine {
    second: u64,
    line: String,
}

impl DateLine {
    fn write(&mut self, out: &mut Vec<u8>) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second != second || self.line.is_empty() {
            self.second = second;
            self.line = format!("date: {}\r\n", httpdate::fmt_http_date(now));
        }
        out.extend_from_slice(self.line.as_bytes());
    }
}

/// Writes the head of an HTTP/1.1 answer.
pub(crate) fn write_head(parts: &mut Parts, framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Length(bytes) => put(parts, CONTENT_LENGTH, &bytes.to_string()),
        Framing::Chunked => put(parts, header::TRANSFER_ENCODING, "chunked"),
        Framing::Close => put(parts, header::CONNECTION, "close"),
        Framing::None => {}
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(COMMON.as_bytes());
    if !parts.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        out.extend_from_slice(ANY_PAGE.as_bytes());
    }
    if !parts.headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        out.extend_from_slice(concat!("content-security-policy: ", policy!(), "\r\n").as_bytes());
    }
    DATE.with_borrow_mut(|date| date.write(out));
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Longer bodies are not copied behind their head but written after it, in bytes.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// A whole answer as bytes, for a socket that hyper does not serve: what to write first, and what then.
pub(crate) fn whole(answer: Answer, close: bool) -> (Bytes, Bytes) {
    let (parts, body) = answer.into_parts();
    if body.len() <= COPIED_BYTES_MAX {
        return (to_bytes(parts, &body, close).into(), Bytes::new());
    }
    (head_of(parts, body.len(), 0, close).into(), body)
}

/// The same in one piece, from its parts.
pub(crate) fn to_bytes(parts: Parts, body: &[u8], close: bool) -> Vec<u8> {
    let mut out = head_of(parts, body.len(), body.len(), close);
    out.extend_from_slice(body);
    out
}

fn head_of(mut parts: Parts, body_bytes: usize, room: usize, close: bool) -> Vec<u8> {
    if close {
        put(&mut parts, header::CONNECTION, "close");
    }
    let has_none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    let framing = if has_none { Framing::None } else { Framing::Length(body_bytes) };
    let mut out = Vec::with_capacity(1024 + room);
    write_head(&mut parts, framing, &mut out);
    out
}

/// The same answer, which says that the connection ends behind it. What is written for many does not say so by itself.
pub(crate) fn closing(answer: &[u8]) -> Bytes {
    let line = answer.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    [&answer[..line], b"connection: close\r\n", &answer[line..]].concat().into()
}

/// The other way round: an answer that was written for HTTP/1.1, without what is said there of the connection.
pub(crate) fn from_bytes(written: &Bytes) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut read = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(end)) = read.parse(written) else { unreachable!("it was written here") };
    let status = read.code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut parts = head(status.expect("it was written here"));
    for header in read.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).expect("it was written here");
        if ![header::CONNECTION, header::TRANSFER_ENCODING, CONTENT_LENGTH].contains(&name) {
            parts.headers.append(name, HeaderValue::from_bytes(header.value).expect("it was written here")); // Vary may come twice.
        }
    }
    full(parts, written.slice(end..))
}

/// An error as bytes, after which the connection goes on.
pub(crate) fn in_passing(refusal: &Refusal) -> Vec<u8> {
    let (parts, body) = problem(refusal);
    to_bytes(parts, body.as_bytes(), false)
}

/// An error as bytes, after which the connection ends.
pub(crate) fn last_words(refusal: &Refusal) -> Vec<u8> {
    let (parts, body) = problem(refusal);
    to_bytes(parts, body.as_bytes(), true)
}
