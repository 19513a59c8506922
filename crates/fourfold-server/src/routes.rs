//! Every URL, on one page.

use std::{net::IpAddr, sync::Arc};

use fourfold_access::Verb;
use fourfold_protocol::{Code, Refusal, StreamName};
use http::{Method, Request, request::Parts};
use hyper::body::Incoming;

use crate::{
    Extra, access, answer, call,
    connection::Reply,
    context::Context,
    control, extra, list, page,
    publish::{self, Body},
    query::Query,
    subscribe,
};

/// The root of all streams.
pub(crate) const STREAMS: &str = "/v1/stream/";

/// `peer` is who sends it.
pub(crate) async fn answer(request: Request<Incoming>, peer: Option<IpAddr>, context: &Arc<Context>) -> Reply {
    let page = access::page_with_cookies(request.headers(), context);
    let path = request.uri().path();
    let result = match path.strip_prefix(STREAMS) {
        Some("") => listing(&request, context).await,
        Some(name) if name.starts_with(control::ROOT) => {
            control::answer(request, peer, context).await.map(Reply::Whole)
        }
        Some(name) => match StreamName::parse(name) {
            Ok(name) => stream(request, name, peer, context).await,
            Err(refusal) => Err(refusal),
        },
        None if path == "/v1/stream" => listing(&request, context).await,
        None if call::has(path) => call::answer(request, peer, context).await,
        None => beside(request, context).await,
    };
    result.unwrap_or_else(Reply::from).readable_by(page)
}

async fn stream(
    request: Request<Incoming>,
    name: StreamName,
    peer: Option<IpAddr>,
    context: &Arc<Context>,
) -> Result<Reply, Refusal> {
    let verb = match *request.method() {
        Method::GET => access::reading(&request),
        Method::HEAD => Verb::Read,
        Method::PUT => Verb::Create,
        Method::POST if name.is_call() => return call::post(&request, &name, peer, context).await.map(Reply::Whole),
        Method::POST => Verb::Append,
        Method::DELETE => Verb::Delete,
        Method::OPTIONS => return Ok(Reply::Whole(answer::options(answer::METHODS))),
        _ => return Err(not_allowed(answer::METHODS)),
    };
    let introduced = access::introduce(&request, context).await?;
    let admitted = introduced.may(verb, name.as_str(), peer, context).await?;
    match *request.method() {
        Method::GET => subscribe::get(&request, &name, admitted, context, &mut None).await,
        Method::HEAD => subscribe::head(&name, context).await.map(Reply::Whole),
        Method::PUT | Method::POST => {
            let (parts, body) = request.into_parts();
            let body = whole(&parts, body, context);
            if parts.method == Method::PUT {
                if let Some(source) = publish::source(&parts)? {
                    introduced.may(Verb::Read, source.as_str(), peer, context).await?; // A fork shows all that its source has.
                }
                publish::put(&parts, body, &name, &introduced.who, context).await.map(Reply::Whole)
            } else {
                publish::post(&parts, body, &name, &introduced.who, context).await.map(Reply::Whole)
            }
        }
        Method::DELETE if name.is_call() => call::delete(&name, context).await.map(Reply::Whole),
        _ => publish::delete(&name, context).await.map(Reply::Whole),
    }
}

fn whole(parts: &Parts, body: Incoming, context: &Context) -> Body {
    Body::incoming(parts, body, context.settings.body_bytes_max, context)
}

async fn listing(request: &Request<Incoming>, context: &Arc<Context>) -> Result<Reply, Refusal> {
    match *request.method() {
        Method::GET | Method::HEAD => {
            let introduced = access::introduce(request, context).await?;
            list::get(&Query::parse(request.uri().query())?, introduced.known()?, context).await.map(Reply::Whole)
        }
        Method::OPTIONS => Ok(Reply::Whole(answer::options(READ_ONLY))),
        _ => Err(not_allowed(READ_ONLY)),
    }
}

/// The page, and what the one who mounts the server adds.
async fn beside(request: Request<Incoming>, context: &Arc<Context>) -> Result<Reply, Refusal> {
    let extra = context.settings.extra.as_deref();
    let path = request.uri().path();
    let Some(answer) = page::get(path, extra.and_then(Extra::link), context.settings.access.is_open()) else {
        if let Some(extra) = extra.filter(|extra| extra.has(path)) {
            let (parts, body) = request.into_parts();
            let body = whole(&parts, body, context).read().await?;
            return extra.answer(Request::from_parts(parts, body)).await.map(extra::finished).map(Reply::Whole);
        }
        let detail = format!("nothing is at this path: streams are below {STREAMS}");
        return Err(Refusal::new(Code::NotFound, detail));
    };
    match *request.method() {
        Method::GET | Method::HEAD => Ok(Reply::Whole(answer)),
        Method::OPTIONS => Ok(Reply::Whole(answer::options(READ_ONLY))),
        _ => Err(not_allowed(READ_ONLY)),
    }
}

const READ_ONLY: &str = "GET, HEAD, OPTIONS";

pub(crate) fn not_allowed(methods: &'static str) -> Refusal {
    Refusal::new(Code::MethodNotAllowed, format!("use one of {methods}")).with("allow", methods)
}
