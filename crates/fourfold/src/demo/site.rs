//! What the demo answers below `/demo`: its page, and what the page asks of it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fourfold_protocol::{Code, Refusal};
use fourfold_server::{Answering, Extra};
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{
    assets,
    notices::{self, ROOMS},
    replay,
    tasks::CALL,
    weather::{Faults, Visitors},
};

const ROOT: &str = "/demo";

/// A body that the page sends, in bytes: a few numbers and names.
const BODY_BYTES_MAX: usize = 4 << 10;

/// The demo as a part of the server.
#[derive(Debug, Default)]
pub(super) struct Site {
    pub(super) visitors: Arc<Visitors>,
    /// There when the server listens.
    pub(super) open: OnceLock<Open>,
}

/// What is known once the server listens.
#[derive(Debug)]
pub(super) struct Open {
    /// The port of the relay, on loopback.
    pub(super) weather_port: u16,
}

impl Extra for Site {
    fn has(&self, path: &str) -> bool {
        path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn link(&self) -> Option<(&'static str, &'static str)> {
        Some((ROOT, "See it in four real scenarios →"))
    }

    fn answer(&self, request: Request<Bytes>) -> Answering<'_> {
        Box::pin(async move { self.answered(&request).await })
    }
}

impl Site {
    async fn answered(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
        let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default().trim_start_matches('/');
        let Some(open) = self.open.get() else {
            return Err(Refusal::new(Code::Overloaded, "the demo is starting: try again").with("retryAfter", 1));
        };
        if request.body().len() > BODY_BYTES_MAX {
            let detail = format!("at most {BODY_BYTES_MAX} bytes are taken here");
            return Err(Refusal::new(Code::BodyTooLarge, detail));
        }
        let token = path.strip_prefix("network/");
        match (path, request.method()) {
            (_, &Method::PUT) if token.is_some() => self.change(token.unwrap_or_default(), request.body()),
            (_, &Method::GET | &Method::HEAD) => match token {
                Some(token) if Visitors::is_token(token) => Ok(told(StatusCode::OK, &json!(self.visitors.get(token)))),
                Some(_) => Err(no_token()),
                None if path == "config.json" => Ok(told(StatusCode::OK, &config(open))),
                None => assets::get(path, open.weather_port)
                    .ok_or_else(|| Refusal::new(Code::NotFound, "nothing is at this path: the demo is at /demo")),
            },
            _ if token.is_some() => Err(not_allowed("GET, HEAD, PUT")),
            _ => Err(not_allowed("GET, HEAD")),
        }
    }

    fn change(&self, token: &str, body: &[u8]) -> Result<Response<Bytes>, Refusal> {
        if !Visitors::is_token(token) {
            return Err(no_token());
        }
        let faults: Faults =
            serde_json::from_slice(body).map_err(|error| Refusal::new(Code::InvalidJson, error.to_string()))?;
        if !faults.is_valid() {
            let detail = "latencyMs is at most 5000, and cutEveryMs is 0 or at least 500";
            return Err(Refusal::new(Code::InvalidQuery, detail));
        }
        match self.visitors.set(token, faults) {
            Ok(()) => Ok(told(StatusCode::OK, &json!(faults))),
            Err(_) => Ok(too_many("all networks are taken: try again when somebody has left", 30)),
        }
    }
}

fn config(open: &Open) -> Value {
    json!({
        "weather": format!("http://127.0.0.1:{}", open.weather_port),
        "streams": {
            "vitals": super::VITALS.stream,
            "replay": replay::STREAM,
            "notices": notices::STREAM.stream,
            "rooms": ROOMS.map(|room| json!({"name": room, "stream": notices::room_stream(room)})),
        },
        "call": CALL,
    })
}

fn told(status: StatusCode, value: &Value) -> Response<Bytes> {
    answer(status, "application/json", value.to_string())
}

/// 429: no refusal of the protocol's.
fn too_many(detail: &str, after_seconds: u32) -> Response<Bytes> {
    let problem = json!({
        "type": "urn:fourfold:problem:demo-too-many", "title": "the demo has too much to do", "status": 429,
        "code": "demo-too-many", "detail": detail, "retry": true, "retryAfter": after_seconds,
    });
    let mut answer = answer(StatusCode::TOO_MANY_REQUESTS, "application/problem+json", problem.to_string());
    answer.headers_mut().insert(header::RETRY_AFTER, after_seconds.into());
    answer
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

fn no_token() -> Refusal {
    Refusal::new(Code::NotFound, "a network is named by 1 to 64 letters, digits, '-' and '_'")
}

fn not_allowed(methods: &'static str) -> Refusal {
    Refusal::new(Code::MethodNotAllowed, format!("use one of {methods}")).with("allow", methods)
}
