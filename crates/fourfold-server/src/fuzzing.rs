//! What is promised of whatever is read of a request before anybody knows who asks, for any bytes at all.
//!
//! `fuzz/` at the root looks for bytes that break a promise, by coverage and for as long as one likes. The tests below only look at the inputs that
//! it begins with; `FOURFOLD_FUZZ_CORPUS` names a folder that these are written to.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use fourfold_access::Place;
use fourfold_protocol::{Code, Start};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt, duplex},
    runtime::Runtime,
};

use crate::{
    access::{agreed_subprotocol, credential},
    forwarded::{self, ForwardedHeader},
    limits::{
        ANSWER_RECORDS_MAX, HEAD_BUFFER_BYTES, HEADERS_MAX, HEARTBEAT_SECONDS_MAX, LINGER_MAX, LONG_POLL_WAIT_MAX,
        PROXY_HEADER_BYTES_MAX,
    },
    network::Network,
    proxy_protocol,
    query::{self, Query},
    request::{self, Plain, keeps_alive},
    websocket::Handshake,
};

/// What comes on a connection: requests behind each other.
pub fn head(bytes: &[u8]) {
    thread_local!(static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread"));
    let framed = RUNTIME.with(|runtime| runtime.block_on(plain_as_hyper_frames_it(bytes)));
    framed.unwrap_or_else(|why| panic!("{why}"));
}

/// A query, and in the lines behind it headers.
pub fn asks(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(query) = str::from_utf8(lines.next().unwrap_or_default()) else { return };
    parameters_are_bounded_and_there_once(query);
    let Ok(mut request) = Request::get(format!("/v1/stream/a?{query}")).body(()) else { return };
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            let full = request.headers_mut().try_append(name, value);
            full.expect("a line has a byte at least, and an input is short");
        }
    }
    the_token_is_the_only_one_of_its_place(&request);
    a_handshake_agrees_to_what_is_offered(&request);
}

/// What a proxy says: a PROXY header, and as lines the values of `X-Forwarded-For` or `Forwarded`.
pub fn proxies(bytes: &[u8]) {
    a_proxy_header_is_known_by_its_last_byte(bytes);
    for which in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        nobody_left_of_the_client_changes_who_it_is(bytes, which);
    }
}

/// A request as a service sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    line: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

fn seen<B>(request: &Request<B>, body: Bytes) -> Seen {
    let line = format!("{} {} {:?}", request.method(), request.uri(), request.version());
    let headers = request.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Seen { line, headers, body }
}

/// What hyper makes of these bytes, and the end of the connection behind them.
async fn by_hyper(bytes: &[u8]) -> Vec<Seen> {
    let all = Arc::<Mutex<Vec<Seen>>>::default();
    let service = service_fn(|request: Request<Incoming>| {
        let all = Arc::clone(&all);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            all.lock().expect("nobody panics with it").push(seen(&Request::from_parts(parts, ()), body));
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (ours, mut theirs) = duplex(bytes.len().max(1 << 20));
    theirs.write_all(bytes).await.expect("there is room");
    theirs.shutdown().await.expect("it is open");
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_BUFFER_BYTES).max_headers(HEADERS_MAX).half_close(true);
    let _broken = builder.serve_connection(TokioIo::new(ours), service).await;
    std::mem::take(&mut *all.lock().expect("nobody panics with it"))
}

/// The requests that are plain, how many bytes they take, and whether the connection goes on behind them.
fn by_us(bytes: &[u8]) -> (Vec<Seen>, usize, bool) {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some((Plain { request, body }, end)) = request::read(&bytes[at..], 1 << 20) {
        at += end;
        all.push(seen(&request, body));
        if !keeps_alive(&request) {
            return (all, at, false);
        }
    }
    (all, at, true)
}

/// How many requests are plain. Errors: hyper, if it is given all of it, sees others than if it is given what is not plain.
pub(crate) async fn plain_as_hyper_frames_it(bytes: &[u8]) -> Result<usize, String> {
    let (mut ours, at, goes_on) = by_us(bytes);
    let plain = ours.len();
    if goes_on {
        ours.extend(by_hyper(&bytes[at..]).await);
    }
    let all = by_hyper(bytes).await;
    if ours == all { Ok(plain) } else { Err(format!("{ours:?} instead of {all:?}")) }
}

fn parameters_are_bounded_and_there_once(text: &str) {
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(query::decode(&encoded).as_deref(), Some(text), "what is encoded is decoded");
    let given = |name: &str| text.split('&').filter(|pair| pair.split('=').next() == Some(name)).count();
    let known = ["offset", "live", "limit", "timeout", "linger", "heartbeat", "records", "cursor", "prefix", "after"];
    let query = match Query::parse(Some(text)) {
        Ok(query) => query,
        Err(refusal) => return assert!(matches!(refusal.code, Code::InvalidQuery | Code::InvalidOffset)),
    };
    assert!(known.iter().all(|name| given(name) <= 1), "{text}");
    match query.start() {
        Ok(None) => assert_eq!(given("offset"), 0, "{text}"),
        Ok(Some(start)) => {
            let said = query.offset.as_deref().expect("it was said");
            assert!(matches!((start, said), (Start::Oldest, "-1") | (Start::Now, "now") | (Start::At(_), _)));
            assert!(!matches!(start, Start::At(at) if at.to_string() != said), "{said}");
        }
        Err(refusal) => assert_eq!(refusal.code, Code::InvalidOffset),
    }
    let second = Duration::from_secs(1);
    assert!(
        query.records().is_ok_and(|n| n.is_none_or(|n| (1..=ANSWER_RECORDS_MAX).contains(&n)))
            || query.records().is_err()
    );
    assert!(query.timeout().is_err() || query.timeout().is_ok_and(|t| t.is_none_or(|t| t <= LONG_POLL_WAIT_MAX)));
    assert!(query.linger().is_err() || query.linger().is_ok_and(|linger| linger <= LINGER_MAX));
    let beats = second..=second * u32::from(HEARTBEAT_SECONDS_MAX);
    assert!(
        query.heartbeat().is_err() || query.heartbeat().is_ok_and(|h| h.is_none_or(|h| beats.contains(&h.every())))
    );
    let _ = (query.live(), query.wants_records(), query.cursor());
}

/// By the rule itself: the places in their order, of which the first with a token decides, and two of them in it are refused.
fn the_token_is_the_only_one_of_its_place(request: &Request<()>) {
    let texts = |name: HeaderName| {
        let values = request.headers().get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>()
    };
    let bearers = texts(header::AUTHORIZATION).into_iter().filter_map(|text| {
        let words: Vec<_> = text.trim().splitn(2, ' ').collect();
        words[0].eq_ignore_ascii_case("bearer").then(|| words.get(1).map_or("", |token| token.trim()))
    });
    let offered = texts(header::SEC_WEBSOCKET_PROTOCOL).join(",");
    let subprotocols = offered.split(',').map(str::trim).filter(|one| one.starts_with("fourfold.token."));
    let subprotocols = subprotocols.map(|one| &one["fourfold.token.".len()..]);
    let query = request.uri().query().unwrap_or_default();
    let parameters = query.split('&').filter(|pair| pair.starts_with("access_token="));
    let parameters = parameters.map(|pair| &pair["access_token=".len()..]);
    let cookies = texts(header::COOKIE).join(";");
    let cookies = cookies.split(';').map(str::trim).filter(|cookie| cookie.starts_with("session="));
    let cookies = cookies.map(|cookie| cookie["session=".len()..].trim_matches('"'));
    let places: [(Place, Vec<&str>); 4] = [
        (Place::Header, bearers.collect()),
        (Place::Subprotocol, subprotocols.collect()),
        (Place::Query, parameters.collect()),
        (Place::Cookie, cookies.collect()),
    ];
    for (upgrade, cookie, parameter) in
        [(true, Some("session"), Some("access_token")), (false, Some("session"), None), (false, None, None)]
    {
        let is_on = |place: Place| match place {
            Place::Header => true,
            Place::Subprotocol => upgrade,
            Place::Query => parameter.is_some(),
            Place::Cookie => cookie.is_some(),
        };
        let expected = match places.iter().find(|(place, tokens)| is_on(*place) && !tokens.is_empty()) {
            None => Ok(None),
            Some((Place::Query, tokens)) if tokens.len() == 1 => {
                query::decode(tokens[0]).map(|token| Some((Place::Query, token))).ok_or(Code::InvalidQuery)
            }
            Some((place, tokens)) if tokens.len() == 1 => Ok(Some((*place, tokens[0].to_owned()))),
            Some(_) => Err(Code::InvalidHeader),
        };
        let found = credential::find(request, upgrade, cookie, parameter);
        let found = found.map(|found| found.map(|found| (found.place, found.token.into_owned())));
        assert_eq!(found.map_err(|refusal| refusal.code), expected, "{request:?}");
    }
}

fn a_handshake_agrees_to_what_is_offered(request: &Request<()>) {
    let all = |name: HeaderName| {
        let values = request.headers().get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",")
    };
    let offers = |word: &str| all(header::SEC_WEBSOCKET_PROTOCOL).split(',').any(|one| one.trim() == word);
    match agreed_subprotocol(request.headers()) {
        Ok(agreed) => assert_eq!(agreed, offers("fourfold"), "{request:?}"),
        Err(_) => assert!(all(header::SEC_WEBSOCKET_PROTOCOL).contains("fourfold.token.") && !offers("fourfold")),
    }
    let Ok(handshake) = Handshake::read(request) else { return };
    assert_eq!(handshake.accept.len(), 28, "{request:?}");
    assert_eq!(all(header::SEC_WEBSOCKET_VERSION).split(',').next(), Some("13"), "{request:?}");
    assert!(all(header::CONNECTION).to_ascii_lowercase().contains("upgrade"), "{request:?}");
    assert!(handshake.protocol.is_none_or(offers), "{request:?}");
    let extensions = all(header::SEC_WEBSOCKET_EXTENSIONS).to_ascii_lowercase();
    assert!(handshake.agreed.is_none() || extensions.contains("permessage-deflate"), "{request:?}");
}

fn a_proxy_header_is_known_by_its_last_byte(bytes: &[u8]) {
    // Longer ones are not read from a socket.
    let bytes = &bytes[..bytes.len().min(PROXY_HEADER_BYTES_MAX)];
    let mut known = Ok(None);
    for end in 0..=bytes.len() {
        let now = proxy_protocol::parse(&bytes[..end]);
        match (&known, &now) {
            (Ok(None), Ok(Some(said))) => assert_eq!(said.bytes, end, "it was whole before"),
            (Ok(None), _) => {}
            _ => assert_eq!(now, known, "more of it changes nothing: {end}"),
        }
        known = now;
    }
    if let Ok(Some(said)) = known {
        assert!(said.client.is_none_or(|client| client == client.to_canonical()), "{said:?}");
    }
}

fn nobody_left_of_the_client_changes_who_it_is(bytes: &[u8], which: ForwardedHeader) {
    let (name, invented) = match which {
        ForwardedHeader::XForwardedFor => (HeaderName::from_static("x-forwarded-for"), "6.6.6.6"),
        ForwardedHeader::Forwarded => (header::FORWARDED, "for=6.6.6.6"),
    };
    let values: Vec<_> =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let asked = |first: Option<&str>, trusted: &str| -> Option<IpAddr> {
        let first = first.map(|text| HeaderValue::from_str(text).expect("it is plain"));
        let all = first.into_iter().chain(values.iter().cloned());
        let headers: HeaderMap = all.map(|value| (name.clone(), value)).collect();
        forwarded::client(&headers, which, &Network::parse_all(trusted).expect("networks"))
    };
    let ours = "127.0.0.1, 10.0.0.0/8, fd00::/8";
    let is_ours = |address| Network::parse_all(ours).expect("networks").iter().any(|network| network.contains(address));
    let (before, after) = (asked(None, ours), asked(Some(invented), ours));
    match before {
        Some(address) => {
            assert_eq!(address, address.to_canonical());
            let is_next = after.is_none_or(|after| after.to_string() == "6.6.6.6"); // None: one hop too many.
            assert!(if is_ours(address) { is_next } else { after == before }, "{before:?} {after:?} {values:?}");
        }
        None => assert!(after.is_none() || values.is_empty(), "{after:?} {values:?}"),
    }
    // Who trusts nobody believes the last hop, and no other.
    let last = asked(None, "");
    assert!(before.is_none() || last.is_some_and(|last| is_ours(last) || before == Some(last)), "{before:?} {last:?}");
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    fn begin(target: &str, promise: fn(&[u8]), corpus: &[&[u8]]) {
        if let Some(folder) = env::var_os("FOURFOLD_FUZZ_CORPUS") {
            let folder = Path::new(&folder).join(target);
            fs::create_dir_all(&folder).expect("a folder can be made");
            for (n, input) in corpus.iter().enumerate() {
                fs::write(folder.join(format!("seed-{n}")), input).expect("a file can be written");
            }
        }
        corpus.iter().for_each(|input| promise(input));
    }

    #[test]
    fn requests_behind_each_other() {
        begin(
            "head",
            head,
            &[
                b"GET /v1/stream/a?offset=-1 HTTP/1.1\r\nhost: x\r\n\r\nPOST /v1/stream/b HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
                b"POST /v1/stream/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                b"GET /v1/stream/a HTTP/1.1\r\nconnection: close\r\n\r\nGET /v1/stream/b HTTP/1.1\r\n\r\n",
                b"POST /v1/stream/a HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\nhi",
                b"\r\nGET http://x/v1/stream/%61#b HTTP/1.0\nconnection: keep-alive\n\n",
                b"GET /v1/stream/a HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\na: b\r\n c\r\n\r\n\x81\x80",
                b"OPTIONS * HTTP/1.1\r\ncontent-length: 0\r\n\r\nCONNECT x:1 HTTP/1.1\r\n\r\n",
            ],
        );
    }

    #[test]
    fn queries_and_headers() {
        begin(
            "asks",
            asks,
            &[
                b"offset=-1&live=sse&limit=10&timeout=0.5&linger=5&heartbeat=1&records=none&cursor=7",
                b"offset=000000000001_0000000000000042&prefix=a%2f&after=%E4%B8%96+b&access_token=a.b.c",
                b"access_token=%61&access_token=b\nauthorization:Bearer  x.y.z\ncookie:session=\"c\"; session=d",
                b"\nauthorization:Basic x\nsec-websocket-protocol:fourfold, fourfold.token.x\nupgrade:websocket\nconnection:keep-alive, Upgrade\nsec-websocket-version:13\nsec-websocket-key:dGhlIHNhbXBsZSBub25jZQ==\nsec-websocket-extensions:permessage-deflate; server_max_window_bits=9",
            ],
        );
    }

    #[test]
    fn what_proxies_say() {
        begin(
            "proxies",
            proxies,
            &[
                b"PROXY TCP4 1.2.3.4 10.0.0.1 5678 443\r\nGET",
                b"PROXY TCP6 2001:db8::1 ::1 5678 443\r\n",
                b"PROXY UNKNOWN\r\n",
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x0a\0\0\x01\0\x50\x01\xbbGET",
                b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
                b"6.6.6.6, 1.2.3.4\n10.1.1.1,127.0.0.1:80",
                b"for=6.6.6.6;proto=https, For=\"[2001:db8::17]:4711\";by=x\nfor=10.0.0.1;host=\"a\\\",for=b\"",
            ],
        );
    }
}
