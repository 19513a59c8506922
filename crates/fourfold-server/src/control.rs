//! The control interfaces below `/v1/stream/__ds/`: HTTP around `fourfold-subscriptions`. Spec: "Reserved Subscription APIs".

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use fourfold_access::Verb;
use fourfold_protocol::Refusal;
use fourfold_subscriptions::{ControlRequest, limits::CONTROL_BODY_BYTES_MAX, methods};
use http::{Method, Request, StatusCode, header, request::Parts};
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
    if request.method() != Method::OPTIONS && !shows_its_own_token(below) {
        access::admit(&request, Verb::Control, below, peer, context).await?;
    }
    let (parts, incoming) = request.into_parts();
    let path = parts.uri.path().strip_prefix(STREAMS).and_then(|path| path.strip_prefix(ROOT)).unwrap_or_default();
    let methods = methods(path)?;
    if parts.method == Method::OPTIONS {
        return Ok(answer::options(methods));
    }
    let body = match parts.method {
        Method::PUT | Method::POST => {
            Body::Incoming {
                body: incoming,
                bytes_max: CONTROL_BODY_BYTES_MAX,
                wait_max: context.settings.body_wait_max,
            }
            .read()
            .await?
        }
        Method::GET | Method::HEAD | Method::DELETE => Bytes::new(),
        _ => return Err(not_allowed(methods)),
    };
    let (root, bearer, local) = (root(&parts), bearer(&parts), is_local(&parts));
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

/// What needs no leave: the public keys, and what a worker says of the wake that it was given, with the token that came with it.
fn shows_its_own_token(path: &str) -> bool {
    let verb = path.strip_prefix("subscriptions/").and_then(|rest| rest.rsplit_once('/')).map(|(_, verb)| verb);
    path == "jwks.json" || matches!(verb, Some("callback" | "ack" | "release"))
}

/// The streams' root as the client knows the server.
fn root(parts: &Parts) -> String {
    let says = |header: &str| parts.headers.get(header).and_then(|value| value.to_str().ok());
    let scheme = if says("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    says("host")
        .filter(|host| !host.is_empty())
        .map_or_else(|| STREAMS.to_owned(), |host| format!("{scheme}://{host}{STREAMS}"))
}

/// Whether a program on this machine asks. A proxy says for whom it asks, a browser for which page, and both would let a stranger point
/// webhooks to services of this machine.
fn is_local(parts: &Parts) -> bool {
    let mut names = parts.headers.keys().map(header::HeaderName::as_str);
    if names.any(|name| matches!(name, "origin" | "referer" | "forwarded" | "via") || name.starts_with("x-forwarded")) {
        return false;
    }
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name);
    name == "localhost" || name == "[::1]" || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn bearer(parts: &Parts) -> Option<&str> {
    let (scheme, token) = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
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
        for host in ["localhost", "localhost:4437", "127.0.0.1:4437", "127.0.0.9", "[::1]:4437", "[::1]"] {
            assert!(is_local(&parts(&[("host", host)])), "{host}");
        }
        for host in ["", "example", "example:4437", "127.0.0.1.example", "10.0.0.1:4437"] {
            assert!(!is_local(&parts(&[("host", host)])), "{host}");
        }
        for header in ["origin", "referer", "forwarded", "via", "x-forwarded-for", "x-forwarded-proto"] {
            assert!(!is_local(&parts(&[("host", "127.0.0.1:4437"), (header, "x")])), "{header}");
        }
    }

    #[test]
    fn a_token_is_told_by_its_scheme() {
        assert_eq!(bearer(&parts(&[("authorization", "bearer  x ")])), Some("x"));
        assert_eq!(bearer(&parts(&[("authorization", "Basic x")])), None);
        assert_eq!(bearer(&parts(&[])), None);
    }
}
