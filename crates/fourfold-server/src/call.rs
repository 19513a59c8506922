//! Calls: HTTP around `fourfold-calls`. A call is a stream that the server itself fills; it is read as any other, also on the request that begins it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use fourfold_access::{Verb, Who};
use fourfold_calls::{Begun, Seen, Wanted, Wish};
use fourfold_protocol::{Code, Refusal, StreamName, name::CALLS as BELOW};
use fourfold_stream::{Cursor, Limit};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    access,
    answer::{self, Answer},
    connection::Reply,
    context::Context,
    limits::{ANSWER_BYTES_MAX, ANSWER_RECORDS_MAX, LIST_DEFAULT, LIST_MAX, LONG_POLL_WAIT_MAX},
    publish::{self, Body},
    query::{Live, Query},
    routes::not_allowed,
    subscribe::accepts,
    transports::{
        Leave, Reader,
        awaited::{self, Awaited, Until},
        form::{self, Form},
        heartbeat::Heartbeat,
        long_poll::Waits,
        portions, sse,
    },
};

/// What the paths of new calls begin with.
const CALL: &str = "/v1/call/";
/// The list of calls; below it each by its id.
const CALLS: &str = "/v1/calls";

/// Whether a path is about calls.
pub(crate) fn has(path: &str) -> bool {
    path.starts_with(CALL) || path.strip_prefix(CALLS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(crate) async fn answer(
    request: Request<Incoming>,
    peer: Option<IpAddr>,
    context: &Arc<Context>,
) -> Result<Reply, Refusal> {
    let path = request.uri().path();
    if let Some(target) = path.strip_prefix(CALL) {
        let target = target.to_owned();
        return match *request.method() {
            Method::POST => begin(request, &target, peer, context).await,
            Method::OPTIONS => Ok(Reply::Whole(answer::options("POST, OPTIONS"))),
            _ => Err(not_allowed("POST, OPTIONS")),
        };
    }
    let id = path.strip_prefix(CALLS).unwrap_or_default().trim_start_matches('/');
    let (id, methods) = match id.strip_suffix("/cancel") {
        Some(id) => (id, "POST, OPTIONS"),
        None if id.is_empty() => (id, "GET, HEAD, OPTIONS"),
        None => (id, "GET, HEAD, DELETE, OPTIONS"),
    };
    let introduced = match *request.method() {
        Method::OPTIONS => return Ok(Reply::Whole(answer::options(methods))),
        _ => access::introduce(&request, context).await?,
    };
    let stream = format!("{BELOW}{id}");
    let done = match *request.method() {
        Method::GET | Method::HEAD if methods.starts_with("GET") && id.is_empty() => {
            list(&request, introduced.known()?, context).await
        }
        Method::GET | Method::HEAD if methods.starts_with("GET") => {
            introduced.may(Verb::Read, &stream, peer, context).await?;
            context.calls.state(id).await.map(|state| json(StatusCode::OK, &state))
        }
        Method::POST if methods.starts_with("POST") => {
            introduced.may(Verb::Delete, &stream, peer, context).await?;
            cancel(id, context).await
        }
        Method::DELETE if methods.contains("DELETE") => {
            introduced.may(Verb::Delete, &stream, peer, context).await?;
            context.calls.state(id).await?; // Another stream is not deleted from here.
            delete(&StreamName::new(&stream)?, context).await
        }
        _ => Err(not_allowed(methods)),
    };
    done.map(Reply::Whole)
}

/// A `POST` to a stream below `calls/`: one path cancels, nothing else is taken.
pub(crate) async fn post<B>(
    request: &Request<B>,
    name: &StreamName,
    peer: Option<IpAddr>,
    context: &Context,
) -> Result<Answer, Refusal> {
    let Some(stream) = name.as_str().strip_suffix("/cancel") else {
        access::admit(request, Verb::Append, name.as_str(), peer, context).await?;
        return Err(calls_only());
    };
    access::admit(request, Verb::Delete, stream, peer, context).await?;
    match stream.strip_prefix(BELOW) {
        Some(id) => cancel(id, context).await,
        None => Err(calls_only()),
    }
}

/// A `DELETE` of a stream below `calls/`: a call that runs is cancelled, and its records stay.
pub(crate) async fn delete(name: &StreamName, context: &Context) -> Result<Answer, Refusal> {
    let id = name.as_str().strip_prefix(BELOW).unwrap_or_default();
    if context.calls.cancel(id) {
        return context.calls.state(id).await.map(|state| json(StatusCode::ACCEPTED, &state));
    }
    publish::delete(name, context).await
}

/// What others than calls may not do.
pub(crate) fn calls_only() -> Refusal {
    Refusal::new(Code::CallsOnly, "streams below calls/ are written by calls: POST /v1/call/NAME")
}

async fn cancel(id: &str, context: &Context) -> Result<Answer, Refusal> {
    let runs = context.calls.cancel(id);
    let state = context.calls.state(id).await?;
    if runs {
        return Ok(json(StatusCode::ACCEPTED, &state));
    }
    Err(Refusal::new(Code::CallEnded, "the call has ended: there is nothing to cancel")
        .with("ending", state["ending"].clone()))
}

async fn list(request: &Request<Incoming>, who: &Who, context: &Context) -> Result<Answer, Refusal> {
    let query = Query::parse(request.uri().query())?;
    let said = |name: &str| {
        let pairs = request.uri().query().unwrap_or_default().split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| (key == name).then_some(value))
    };
    let running = match said("running") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::new(Code::InvalidQuery, "'running' is 'true' or 'false'")),
    };
    let limit = query.limit(LIST_MAX)?.unwrap_or(LIST_DEFAULT);
    let access = &context.settings.access;
    let sees = |seen: Seen<'_>| match seen {
        Seen::Call(id) => access.allows(who, Verb::List, &format!("{BELOW}{id}")),
        Seen::Name(name) => access.allows(who, Verb::Call, name),
    };
    let after = query.after.map(|after| context.bookmarks.find(CALLS, after)).transpose()?;
    let hides = |id: &str| context.bookmarks.put(CALLS, id);
    let wanted = Wanted { name: said("name"), running, limit, after: after.as_deref(), sees: &sees, hides: &hides };
    context.calls.list(wanted).await.map(|page| json(StatusCode::OK, &page))
}

fn json(status: StatusCode, value: &Value) -> Answer {
    let mut parts = answer::head(status);
    answer::put(&mut parts, header::CONTENT_TYPE, "application/json");
    answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    answer::full(parts, value.to_string())
}

/// How the request that begins a call goes on.
enum Reading {
    /// It does not: whoever wants to reads the stream.
    No,
    Events(Option<Heartbeat>),
    Lines(Waits, Option<Heartbeat>),
    Poll(Until, Waits, Limit, Form),
}

async fn begin(
    request: Request<Incoming>,
    target: &str,
    peer: Option<IpAddr>,
    context: &Arc<Context>,
) -> Result<Reply, Refusal> {
    let admitted = {
        let name = target.split('/').next().unwrap_or_default();
        access::admit_call(&request, name, peer, context).await?
    };
    let (parts, body) = request.into_parts();
    let at = target.find('/').unwrap_or(target.len());
    let (name, rest) = (target[..at].to_owned(), target[at..].to_owned());
    let bytes_max = context.calls.body_bytes_max(&name)?;
    if let Some(origin) = parts.headers.get(header::ORIGIN) {
        let host = access::host(&parts.uri, &parts.headers);
        context.calls.check_origin(&name, origin.to_str().unwrap_or_default(), host)?;
    }
    let (ours, theirs) = shared_out(parts.uri.query());
    let query = Query::parse(Some(&ours))?;
    if query.offset.is_some() {
        let detail = "a call is read from its start: leave 'offset' out, and read on at its stream";
        return Err(Refusal::new(Code::InvalidQuery, detail));
    }
    let (reading, applied) = reading(&parts, &query, context)?;
    let key = publish::text(&parts, &IDEMPOTENCY_KEY)?.map(str::to_owned);
    let body = Body::incoming(&parts, body, bytes_max, context);
    let body = body.read().await.map_err(|refusal| match refusal.code {
        Code::BodyTooLarge => {
            Refusal { detail: format!("the call '{name}' takes bodies of at most {bytes_max} bytes"), ..refusal }
        }
        _ => refusal,
    })?;
    let headers = parts.headers.clone();
    let begun = context.calls.begin(Wish { name, rest, query: theirs, headers, body, key, caller: peer }).await?;
    let created = created(&parts, &begun, applied, context);
    let stream = &begun.stream;
    if matches!(reading, Reading::No) {
        let mut parts = answer::head(StatusCode::CREATED);
        parts.headers.extend(created);
        answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
        return Ok(Reply::Whole(answer::empty(parts)));
    }
    let request = Request::from_parts(parts, ());
    let cursor = Cursor::new(Arc::clone(stream), stream.oldest(), context.shard);
    let reader = Reader::new(&request, &query, cursor, &admitted, &context.limits)?;
    let with = |heartbeat, reader| Reader { heartbeat, created: Some(Box::new(created.clone())), ..reader };
    Ok(match reading {
        Reading::No => unreachable!("it was answered above"),
        Reading::Events(heartbeat) => sse::begin(with(heartbeat, reader)),
        Reading::Lines(waits, heartbeat) => portions::begin(with(heartbeat, reader), waits),
        Reading::Poll(until, waits, limit, form) => {
            let Reader { cursor, keeps_alive, leave, .. } = reader;
            let deadline = Leave::cut(leave.as_deref(), Instant::now() + waits.timeout);
            let linger = waits.linger;
            awaited::begin(Awaited {
                cursor,
                until,
                deadline,
                _leave: leave,
                linger,
                limit,
                form,
                keeps_alive,
                created,
            })
        }
    })
}

/// The reading that a request asks for, checked before anything is executed, and whether it is a preference that is granted.
fn reading(parts: &Parts, query: &Query, context: &Context) -> Result<(Reading, bool), Refusal> {
    let (live, heartbeat, timeout) = (query.live()?, query.heartbeat()?, query.timeout()?);
    let records = query.records()?.unwrap_or(ANSWER_RECORDS_MAX);
    let linger = query.linger()?;
    let limit = Limit { records, bytes: ANSWER_BYTES_MAX };
    let form = if accepts(&parts.headers, form::MESSAGE) { Form::Message } else { Form::Base };
    let waits = Waits { timeout: timeout.unwrap_or(context.settings.long_poll_timeout), linger };
    let events = live == Some(Live::Sse) || (live.is_none() && accepts(&parts.headers, "text/event-stream"));
    Ok(match (events, live, preferred_wait(&parts.headers)) {
        (true, ..) => (Reading::Events(heartbeat), false),
        (_, Some(_), _) if accepts(&parts.headers, "application/x-ndjson") => (Reading::Lines(waits, heartbeat), false),
        (_, Some(_), _) => (Reading::Poll(Until::Record, waits, limit, form), false),
        (_, None, Some(timeout)) => {
            (Reading::Poll(Until::End, Waits { timeout, linger: Duration::ZERO }, limit, form), true)
        }
        (_, None, None) => (Reading::No, false),
    })
}

/// `Prefer: wait`, at most [`LONG_POLL_WAIT_MAX`]. What is not understood is no preference (RFC 7240).
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=').map_or((preference, None), |(name, value)| (name, Some(value)));
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let seconds = value.map_or("", |value| value.trim().trim_matches('"'));
        match seconds {
            "" => Some(LONG_POLL_WAIT_MAX),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                let seconds = Duration::from_secs(digits.parse().unwrap_or(u64::MAX));
                Some(seconds.min(LONG_POLL_WAIT_MAX))
            }
            _ => None,
        }
    })
}

/// The query's parameters that are for the server, and those that are for the target, as they came.
fn shared_out(query: Option<&str>) -> (String, Option<String>) {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let (ours, theirs): (Vec<_>, Vec<_>) =
        pairs.partition(|pair| OURS.contains(&pair.split('=').next().unwrap_or_default()));
    (ours.join("&"), Some(theirs.join("&")).filter(|theirs| !theirs.is_empty()))
}

const OURS: [&str; 7] = ["offset", "live", "limit", "timeout", "linger", "heartbeat", "cursor"];

/// The headers that every answer to the beginning of a call has.
fn created(parts: &Parts, begun: &Begun, applied: bool, context: &Context) -> HeaderMap {
    let stream = &begun.stream;
    let mut headers = HeaderMap::with_capacity(6);
    let location = publish::location(parts, stream.name(), context);
    for (name, value) in [
        (header::LOCATION, Some(location.as_str())),
        (answer::STREAM_NEXT_OFFSET, Some(stream.offset(stream.oldest()).to_string().as_str())),
        (CALL_ID, Some(begun.id.as_str())),
        (IDEMPOTENCY_REPLAYED, begun.replayed.then_some("true")),
        (PREFERENCE_APPLIED, applied.then_some("wait")),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const CALL_ID: HeaderName = HeaderName::from_static("call-id");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_to_wait_is_understood_and_bounded() {
        let wait = |text: &str| {
            let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_str(text).unwrap())]);
            preferred_wait(&headers).map(|wait| wait.as_secs())
        };
        for (text, seconds) in [
            ("wait", Some(60)),
            ("Wait=5", Some(5)),
            ("respond-async, wait = \"7\"; x=1", Some(7)),
            ("wait=99999999999999999999999", Some(60)),
            ("wait=0", Some(0)),
            ("wait=soon", None),
            ("wait=-1", None),
            ("waiting", None),
            ("respond-async", None),
        ] {
            assert_eq!(wait(text), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_parameter_of_a_read_is_passed_on_as_it_came() {
        let (ours, theirs) = shared_out(Some("a=%2F&live=sse&b&limit=3&a=+"));
        assert_eq!((ours.as_str(), theirs.as_deref()), ("live=sse&limit=3", Some("a=%2F&b&a=+")));
        assert_eq!(shared_out(Some("live=sse")), ("live=sse".into(), None));
        assert_eq!(shared_out(None), (String::new(), None));
    }

    #[test]
    fn paths_of_calls_are_told_from_others() {
        for path in ["/v1/call/x", "/v1/call/", "/v1/calls", "/v1/calls/", "/v1/calls/x/cancel"] {
            assert!(has(path), "{path}");
        }
        for path in ["/v1/call", "/v1/callsx", "/v1/stream/calls/x", "/"] {
            assert!(!has(path), "{path}");
        }
    }
}
