//! The control interfaces below `/v1/stream/__ds/`: HTTP around `fourfold-subscriptions`. Spec: "Reserved Subscription APIs".

use std::sync::Arc;

use bytes::Bytes;
use fourfold_protocol::Refusal;
use fourfold_subscriptions::{ControlRequest, limits::CONTROL_BODY_BYTES_MAX, methods};
use http::{Method, Request, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use crate::{
    answer::{self, Answer},
    context::Context,
    publish::Body,
    routes::{STREAMS, not_allowed},
};

/// What their paths begin with, behind the root of all streams.
pub(crate) const ROOT: &str = "__ds/";

pub(crate) async fn answer(request: Request<Incoming>, context: &Arc<Context>) -> Result<Answer, Refusal> {
    let (parts, incoming) = request.into_parts();
    let path = parts.uri.path().strip_prefix(STREAMS).and_then(|path| path.strip_prefix(ROOT)).unwrap_or_default();
    let methods = methods(path)?;
    if parts.method == Method::OPTIONS {
        return Ok(answer::options(methods));
    }
    let body = match parts.method {
        Method::PUT | Method::POST => {
            Body { incoming, bytes_max: CONTROL_BODY_BYTES_MAX, wait_max: context.settings.body_wait_max }
                .read()
                .await?
        }
        Method::GET | Method::HEAD | Method::DELETE => Bytes::new(),
        _ => return Err(not_allowed(methods)),
    };
    let request = ControlRequest { method: &parts.method, path, root: root(&parts), bearer: bearer(&parts), body };
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
    fn a_token_is_told_by_its_scheme() {
        assert_eq!(bearer(&parts(&[("authorization", "bearer  x ")])), Some("x"));
        assert_eq!(bearer(&parts(&[("authorization", "Basic x")])), None);
        assert_eq!(bearer(&parts(&[])), None);
    }
}
