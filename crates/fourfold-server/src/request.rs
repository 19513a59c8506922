//! Requests that came whole: reads and appends of a stream, as nearly all requests of clients are.
//!
//! The parser is hyper's own. Whatever is not plain (a head in pieces, a body that is longer than what was read, `Expect`, chunks, HTTP/1.0,
//! another method, another path, an error) is left to hyper untouched, so that there is one place that refuses it.

use std::{future::Future, mem::MaybeUninit, sync::Arc};

use bytes::Bytes;
use fourfold_access::Verb;
use fourfold_protocol::{Code, Refusal, StreamName};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::Empty;

use crate::{
    access, answer, call,
    caller::Caller,
    connection::Reply,
    context::Context,
    control,
    known_polls::{Asking, Grounds},
    limits::{HEADER_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX},
    publish::{self, Body},
    refusals::Told,
    routes::STREAMS,
    subscribe,
};

/// A request of a stream, whole.
pub(crate) struct Plain {
    pub(crate) request: Request<Empty<Bytes>>,
    /// What is appended.
    pub(crate) body: Bytes,
}

/// Reads a plain request from the beginning of `bytes`; also tells where the next one begins. `None`: it is for hyper.
pub(crate) fn read(bytes: &[u8], body_bytes_max: usize) -> Option<(Plain, usize)> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(head_bytes)) = head.parse_with_uninit_headers(bytes, &mut headers) else {
        return None;
    };
    let (Some(method), Some(path), Some(1)) = (head.method, head.path, head.version) else { return None };
    let reads = method == "GET";
    let name = path.strip_prefix(STREAMS)?;
    if !(reads || method == "POST")
        || name.is_empty()
        || name.starts_with(['?', '#'])
        || name.starts_with(control::ROOT)
    {
        return None;
    }
    let mut map = HeaderMap::with_capacity(head.headers.len());
    let mut length = None;
    for given in head.headers.iter() {
        let name = HeaderName::from_bytes(given.name.as_bytes()).ok()?;
        if name == header::TRANSFER_ENCODING || name == header::EXPECT {
            return None;
        }
        if name == header::CONTENT_LENGTH {
            let digits = str::from_utf8(given.value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
            if length.replace(digits.parse::<usize>().ok()?).is_some() {
                return None;
            }
        }
        map.append(name, HeaderValue::from_bytes(given.value).ok()?);
    }
    let length = length.unwrap_or(0);
    if (reads && length > 0) || length > body_bytes_max {
        return None;
    }
    let end = head_bytes.checked_add(length)?;
    let body = bytes.get(head_bytes..end)?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = if reads { Method::GET } else { Method::POST };
    *request.uri_mut() = path.parse::<Uri>().ok()?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = map;
    Some((Plain { request, body: Bytes::copy_from_slice(body) }, end))
}

impl Plain {
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// What it gets, and whether the client will send another request behind it.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, and each request is one")]
    pub(crate) fn answer(
        mut self,
        context: Arc<Context>,
        caller: Arc<Caller>,
    ) -> impl Future<Output = (Reply, bool)> + Send {
        async move {
            let (goes_on, told) = (keeps_alive(&self.request), Told::of(&mut self.request, &caller, &context));
            let reply = self.readable_reply(&context, &caller, &mut None).await;
            (counted(reply, told, context), goes_on)
        }
    }

    /// The same, and the shard learns from it.
    #[expect(clippy::manual_async_fn, reason = "as above")]
    pub(crate) fn answer_and_learn(
        mut self,
        context: Arc<Context>,
        caller: Arc<Caller>,
        asking: Asking,
    ) -> impl Future<Output = (Reply, bool)> + Send {
        async move {
            let (goes_on, told) = (keeps_alive(&self.request), Told::of(&mut self.request, &caller, &context));
            let mut grounds = None;
            let reply = self.readable_reply(&context, &caller, &mut grounds).await;
            if let (Reply::Whole(answer), Some(grounds), true) = (&reply, grounds, goes_on)
                && !context.settings.access.has_hook()
            {
                context.polls.learn(asking, grounds, answer);
            }
            (counted(reply, told, context), goes_on)
        }
    }

    async fn readable_reply(
        &mut self,
        context: &Arc<Context>,
        caller: &Caller,
        grounds: &mut Option<Grounds>,
    ) -> Reply {
        let page = access::page_with_cookies(self.request.headers(), context);
        let reply = self.reply(context, caller, grounds).await.unwrap_or_else(Reply::from);
        reply.readable_by(page)
    }

    async fn reply(
        &mut self,
        context: &Arc<Context>,
        caller: &Caller,
        grounds: &mut Option<Grounds>,
    ) -> Result<Reply, Refusal> {
        let request = &self.request;
        admit(request, caller, context)?;
        let name = request.uri().path().strip_prefix(STREAMS).expect("it was read because it begins so");
        let name = StreamName::parse(name)?;
        if request.method() == Method::GET {
            let admitted =
                access::admit(request, access::reading(request), name.as_str(), caller.address(), context).await?;
            return subscribe::get(request, &name, admitted, context, grounds).await;
        }
        if name.is_call() {
            return call::post(request, &name, caller.address(), context).await.map(Reply::Whole);
        }
        let admitted = access::admit(request, Verb::Append, name.as_str(), caller.address(), context).await?;
        let (parts, _) = std::mem::take(&mut self.request).into_parts();
        let body = Body::Whole(std::mem::take(&mut self.body));
        let done = publish::begin(&parts, body, &name, &admitted.who, context).await?;
        Ok(Reply::Appending(Box::pin(async move { done.await.unwrap_or_else(|refusal| answer::refusal(&refusal)) })))
    }
}

/// The same, and it is counted what the request got; of an append, once it has it.
fn counted(mut reply: Reply, told: Told, context: Arc<Context>) -> Reply {
    let Reply::Appending(answering) = reply else {
        told.answered(&mut reply, &context.tally);
        return reply;
    };
    Reply::Appending(Box::pin(async move {
        let mut answer = answering.await;
        told.whole(&mut answer, &context.tally);
        answer
    }))
}

/// What holds for every request, whatever it asks for, before anything else is looked at.
///
/// Errors: its head is too large, or there were too many of its caller.
pub(crate) fn admit<B>(request: &Request<B>, caller: &Caller, context: &Context) -> Result<(), Refusal> {
    context.limits.request(caller)?;
    check_head(request)?;
    if request.method() == Method::POST && request.uri().path().starts_with(STREAMS) {
        context.limits.append(caller)?;
    }
    Ok(())
}

fn check_head<B>(request: &Request<B>) -> Result<(), Refusal> {
    let url = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if url > URL_BYTES_MAX {
        return Err(Refusal::new(
            Code::UrlTooLong,
            format!("the URL has {url} bytes, at most {URL_BYTES_MAX} are read: shorten it"),
        ));
    }
    let (mut bytes, mut hosts, mut codings) = (0, 0, 0);
    for (name, value) in request.headers() {
        bytes += name.as_str().len() + value.len();
        if name == header::HOST {
            hosts += 1;
        } else if name == header::TRANSFER_ENCODING {
            codings += if value.as_bytes().eq_ignore_ascii_case(b"chunked") { 1 } else { 2 };
        }
    }
    if bytes > HEADER_BYTES_MAX {
        let detail = format!("the headers have {bytes} bytes, at most {HEADER_BYTES_MAX} are read: send fewer");
        return Err(Refusal::new(Code::HeadersTooLarge, detail));
    }
    // Spec: RFC 9112, "Request Target". Whoever is between us may go by another one of two.
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(Refusal::new(Code::BadRequest, format!("there are {hosts} Host headers: send one")));
    }
    // Spec: RFC 9112, "Transfer-Encoding". hyper goes by the last one, and would leave the others to be stored.
    if codings > 1 {
        let detail = "Transfer-Encoding is 'chunked' or is not there: send the body as it is";
        return Err(Refusal::new(Code::UnknownTransferCoding, detail));
    }
    Ok(())
}

/// Whether the client will send another request on this connection.
pub(crate) fn keeps_alive<B>(request: &Request<B>) -> bool {
    let says = |word: &str| {
        let values = request.headers().get_all(header::CONNECTION);
        values
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().eq_ignore_ascii_case(word))
    };
    if request.version() == Version::HTTP_10 { says("keep-alive") } else { !says("close") }
}

#[cfg(test)]
mod tests {
    use crate::fuzzing::plain_as_hyper_frames_it;

    use super::*;

    fn is_plain(text: &str) -> Option<usize> {
        read(text.as_bytes(), 10).map(|(_, end)| text.len() - end)
    }

    #[test]
    fn a_whole_read_and_a_whole_append_are_plain() {
        assert_eq!(is_plain("GET /v1/stream/a?offset=-1 HTTP/1.1\r\nhost: x\r\n\r\n"), Some(0));
        assert_eq!(is_plain("GET /v1/stream/a HTTP/1.1\r\ncontent-length: 0\r\n\r\nGET"), Some(3));
        assert_eq!(is_plain("POST /v1/stream/a HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi!"), Some(1));
        assert_eq!(is_plain("POST /v1/stream/a HTTP/1.1\r\n\r\n"), Some(0));
    }

    #[test]
    fn whatever_is_not_plain_is_left_alone() {
        for head in [
            "GET /v1/stream/a HTTP/1.1\r\nhost: x\r\n",
            "GET /v1/stream/a HTTP/1.0\r\n\r\n",
            "GET /v1/stream/ HTTP/1.1\r\n\r\n",
            "GET /v1/stream/?limit=1 HTTP/1.1\r\n\r\n",
            "GET /v1/stream/__ds/subscriptions/a HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "PUT /v1/stream/a HTTP/1.1\r\n\r\n",
            "GET /v1/stream/a HTTP/1.1\r\ncontent-length: 1\r\n\r\nx",
            "POST /v1/stream/a HTTP/1.1\r\ncontent-length: 2\r\n\r\nh",
            "POST /v1/stream/a HTTP/1.1\r\ncontent-length: 11\r\n\r\nhello world",
            "POST /v1/stream/a HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
            "POST /v1/stream/a HTTP/1.1\r\ncontent-length: +2\r\n\r\nhi",
            "POST /v1/stream/a HTTP/1.1\r\ncontent-length: \r\n\r\nhi",
            "POST /v1/stream/a HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\nhi",
            "POST /v1/stream/a HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi",
            "POST /v1/stream/a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /v1/stream/a HTTP/1.1\r\nbad header\r\n\r\n",
        ] {
            assert_eq!(is_plain(head), None, "{head}");
        }
    }

    const LINES: [&str; 10] = [
        "GET /v1/stream/a?offset=-1 HTTP/1.1\r\n",
        "GET /v1/stream/a%2Fb/c?offset=now&live=sse HTTP/1.1\r\n",
        "POST /v1/stream/a HTTP/1.1\r\n",
        "POST /v1/stream/b HTTP/1.1\r\n",
        "GET http://x/v1/stream/a HTTP/1.1\r\n",
        "GET /v1/stream/a#b HTTP/1.1\r\n",
        "GET /v1/stream/a HTTP/1.0\r\n",
        "HEAD /v1/stream/a HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT x:1 HTTP/1.1\r\n",
    ];

    const HEADERS: [&str; 24] = [
        "host: x\r\n",
        "Content-Length: 5\r\n",
        "content-length: 0\r\n",
        "content-length: 05\r\n",
        "content-length:\t5 \r\n",
        "content-length: 5, 5\r\n",
        "content-length : 5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 18446744073709551616\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "Transfer_Encoding: chunked\r\n",
        "connection: close\r\n",
        "connection: keep-alive, close\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\n",
        "connection: keep-alive\r\n",
        "expect: 100-continue\r\n",
        "a:\r\n",
        "a: b\n",
        "a: b\r\n c\r\n",
        "a: \u{e9}\u{1}\r\n",
        ": b\r\n",
        "te: trailers\r\n",
    ];

    const BODIES: [&str; 6] =
        ["", "hello", "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "\r\n", "GET /v1/stream/x HTTP/1.1\r\n\r\n"];

    fn any(random: &mut fastrand::Rng, of: &[&'static str]) -> &'static str {
        of[random.usize(..of.len())]
    }

    /// A few requests behind each other, and what a careless or evil client makes of them.
    fn mangled(random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..4) {
            // The first ones of each table are plain, and most should be.
            let tame = random.bool();
            bytes.extend_from_slice(any(random, if tame { &LINES[..4] } else { &LINES }).as_bytes());
            for _ in 0..random.usize(..4) {
                bytes.extend_from_slice(any(random, if tame { &HEADERS[..3] } else { &HEADERS }).as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(any(random, &BODIES).as_bytes());
        }
        for _ in 0..random.usize(..4).saturating_sub(1) {
            let at = random.usize(..bytes.len());
            match random.u8(..5) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, *random.choice(b"\r\n\0 \t:,#?%/\xff\x7f0;").unwrap()),
                3 => bytes.truncate(at + 1),
                _ => drop(bytes.splice(at..at, any(random, &HEADERS).bytes()).count()),
            }
        }
        bytes
    }

    /// For each a few hundred microseconds; `FOURFOLD_FUZZ_ROUNDS` sets another number.
    const ROUNDS: u64 = 3_000;

    #[tokio::test]
    async fn requests_are_framed_as_hyper_frames_them() {
        let mut plain = 0;
        let rounds = std::env::var("FOURFOLD_FUZZ_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a whole number"));
        for seed in 0..rounds {
            let bytes = mangled(&mut fastrand::Rng::with_seed(seed));
            let framed = plain_as_hyper_frames_it(&bytes).await;
            plain += framed.unwrap_or_else(|why| panic!("{seed}: {why}: {:?}", String::from_utf8_lossy(&bytes)));
        }
        assert!(rounds < ROUNDS || plain > 1_000, "only {plain} requests were plain");
    }
}
