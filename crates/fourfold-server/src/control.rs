//! The control interfaces below `/v1/stream/__ds/`: HTTP around `fourfold-subscriptions`. Spec: "Reserved Subscription APIs".

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use fourfold_access::Verb;
use fourfold_protocol::Refusal;
use fourfold_subscriptions::{ControlRequest, Door, door, limits::CONTROL_BODY_BYTES_MAX, methods};
use http::{HeaderMap, Method, Request, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use crate::{
    access,
    answer::{self, Answer},
    context::Context,
    publish::Body,
    routes::{STREAMS, not_allowed},
};

/// What their paths begin with, behind the root of all streams.
pub(crate) const ROOT: &str = "__ds/";

pub(crate) async fn answer(
    request: Request<Incoming>,
    peer: Option<IpAddr>,
    context: &Arc<Context>,
) -> Result<Answer, Refusal> {
    let below = request.uri().path().strip_prefix(STREAMS).and_then(|path| path.strip_prefix(ROOT)).unwrap_or_default();
    match door(request.method(), below) {
        _ if request.method() == Method::OPTIONS => {}
        Door::Open => {}
        // Where there are rules, the names of subscriptions are told to nobody else.
        Door::Token if context.settings.access.is_open() => {}
        Door::Token => context.subscriptions.vouch(below, bearer(request.headers())).await?,
        Door::Leave => drop(access::admit(&request, Verb::Control, below, peer, context).await?),
    }
    let (parts, incoming) = request.into_parts();
    let path = parts.uri.path().strip_prefix(STREAMS).and_then(|path| path.strip_prefix(ROOT)).unwrap_or_default();
    let methods = methods(path)?;
    if parts.method == Method::OPTIONS {
        return Ok(answer::options(methods));
    }
    let body = match parts.method {
        Method::PUT | Method::POST => Body::incoming(&parts, incoming, CONTROL_BODY_BYTES_MAX, context).read().await?,
        Method::GET | Method::HEAD | Method::DELETE => Bytes::new(),
        _ => return Err(not_allowed(methods)),
    };
    let (root, bearer, local) = (root(&parts), bearer(&parts.headers), is_local(&parts, peer));
    let request = ControlRequest { method: &parts.method, path, root, bearer, body, local };
    let done = context.subscriptions.control(request).await?;
    let mut head = answer::head(StatusCode::from_u16(done.status).expect("subscriptions answer with real statuses"));
    answer::put(&mut head, header::CACHE_CONTROL, done.cache);
    if done.body.is_empty() {
        return Ok(answer::empty(head));
    }
    answer::put(&mut head, header::CONTENT_TYPE, done.content_type);
    Ok(answer::full(head, done.body))
}

/// The streams' root as the client knows the server.
fn root(parts: &Parts) -> String {
    let says = |header: &str| parts.headers.get(header).and_then(|value| value.to_str().ok());
    let scheme = if says("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    says("host")
        .filter(|host| !host.is_empty())
        .map_or_else(|| STREAMS.to_owned(), |host| format!("{scheme}://{host}{STREAMS}"))
}

/// Whether a program on this machine asks. A proxy says for whom it asks, be it before the first byte of HTTP, a browser for which page, and both would
/// let a stranger point webhooks to services of this machine.
fn is_local(parts: &Parts, peer: Option<IpAddr>) -> bool {
    if !peer.is_some_and(|peer| peer.is_loopback()) {
        return false;
    }
    let mut names = parts.headers.keys().map(header::HeaderName::as_str);
    if names.any(|name| matches!(name, "origin" | "referer" | "forwarded" | "via") || name.starts_with("x-forwarded")) {
        return false;
    }
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name);
    name == "localhost" || name == "[::1]" || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_client_is_called_back_where_it_knows_the_server() {
        assert_eq!(root(&parts(&[("host", "a:1")])), "http://a:1/v1/stream/");
        assert_eq!(root(&parts(&[("host", "a"), ("x-forwarded-proto", "https")])), "https://a/v1/stream/");
    }

    #[test]
    fn a_stranger_does_not_point_webhooks_to_this_machine() {
        let here = Some(Ipv4Addr::LOCALHOST.into());
        for host in ["localhost", "localhost:4437", "127.0.0.1:4437", "127.0.0.9", "[::1]:4437", "[::1]"] {
            assert!(is_local(&parts(&[("host", host)]), here), "{host}");
            for elsewhere in [Some([203, 0, 113, 7].into()), None] {
                assert!(!is_local(&parts(&[("host", host)]), elsewhere), "{host}, and a proxy has said who asks");
            }
        }
        for host in ["", "example", "example:4437", "127.0.0.1.example", "10.0.0.1:4437"] {
            assert!(!is_local(&parts(&[("host", host)]), here), "{host}");
        }
        for header in ["origin", "referer", "forwarded", "via", "x-forwarded-for", "x-forwarded-proto"] {
            assert!(!is_local(&parts(&[("host", "127.0.0.1:4437"), (header, "x")]), here), "{header}");
        }
    }

    #[test]
    fn a_token_is_told_by_its_scheme() {
        assert_eq!(bearer(&parts(&[("authorization", "bearer  x ")]).headers), Some("x"));
        assert_eq!(bearer(&parts(&[("authorization", "Basic x")]).headers), None);
        assert_eq!(bearer(&parts(&[]).headers), None);
    }
}
