//! The operator's listener: metrics and health, on an address of its own and a thread of its own, so that it answers while the shards have too much to do.
//!
//! ```text
//! GET /metrics        what was counted, for Prometheus
//! GET /health/live    200 while every shard takes its turns, else 503
//! GET /health/ready   200 if an append has just become durable and was read back, else 503 and why
//! ```
//!
//! One request a connection, few connections, little time. Pages in a browser are refused: the listener trusts whoever reaches it, and a page that someone
//! happens to look at should not be one of them.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use fourfold_protocol::{Code, Refusal};
use http::{StatusCode, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::{
    answer::{self, Answer},
    context::Drain,
    health::{Proof, Readiness, Turn},
    limits::{OPERATOR_CONNECTIONS_MAX, OPERATOR_HEAD_BYTES_MAX, OPERATOR_WAIT_MAX},
    metrics::{self, Metrics},
};

/// The operator's listener, listening and not yet answering.
#[derive(Debug)]
pub struct Operator {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the operator asks.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) readiness: Readiness,
    /// Empty until there are shards.
    pub(crate) shards: std::sync::OnceLock<Vec<Turn>>,
}

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Answering {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Operator {
    /// Listens. Must be called on a tokio runtime. Errors: the address is taken, or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(OPERATOR_CONNECTIONS_MAX as u32)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that was given if the port was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on.
    pub(crate) fn start(self, watched: Arc<Watched>) -> io::Result<Answering> {
        let listener = self.listener.into_std()?;
        let local = self.address.ip().is_loopback();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("fourfold-operator".into()).spawn(move || {
            runtime.block_on(async move {
                let listener = match TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "metrics and health are not there"),
                };
                tokio::select! {
                    () = accept(listener, watched, local) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Answering { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic of it was told already.
        }
    }
}

impl Watched {
    /// The shards that take no turn, by number.
    pub(crate) async fn stuck(&self) -> Vec<usize> {
        let mut asked = Vec::new();
        for (number, shard) in self.shards.get().into_iter().flatten().enumerate() {
            let shard = shard.clone();
            asked.push((number, tokio::spawn(async move { shard.is_taken().await })));
        }
        let mut stuck = Vec::new();
        for (number, taken) in asked {
            if !taken.await.unwrap_or(false) {
                stuck.push(number);
            }
        }
        stuck
    }

    async fn ready(&self) -> Proof {
        let engine = self.metrics.served().map(|served| served.engine);
        self.readiness.prove(engine, &self.drain).await
    }
}

async fn accept(listener: TcpListener, watched: Arc<Watched>, local: bool) {
    let places = Arc::new(Semaphore::new(OPERATOR_CONNECTIONS_MAX));
    loop {
        // Beyond them the kernel lets others wait: each place is free again soon.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let watched = Arc::clone(&watched);
                tokio::spawn(async move {
                    let _ = timeout(OPERATOR_WAIT_MAX, serve(socket, &watched, local)).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One request and its answer.
async fn serve(mut socket: TcpStream, watched: &Arc<Watched>, local: bool) -> io::Result<()> {
    let mut head = Vec::new();
    let (answer, with_body) = loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                let method = request.method.unwrap_or_default();
                let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
                let refused = refused(method, request.headers, local);
                let with_body = method != "HEAD";
                break match refused {
                    Some(refusal) => (answer::refusal(&refusal), with_body),
                    None => (answer(&path, watched).await, with_body),
                };
            }
            Ok(httparse::Status::Partial) if head.len() < OPERATOR_HEAD_BYTES_MAX => {}
            _ => {
                let refusal = Refusal::new(Code::BadRequest, "this is no request that is answered here");
                break (answer::refusal(&refusal), true);
            }
        }
        let mut piece = [0; 2048];
        let room = piece.len().min(OPERATOR_HEAD_BYTES_MAX - head.len());
        match socket.read(&mut piece[..room.max(1)]).await? {
            0 => return Ok(()),
            bytes => head.extend_from_slice(&piece[..bytes]),
        }
    };
    socket.write_all(&written(answer, with_body)).await?;
    socket.shutdown().await?;
    // What the client still sends is taken, or it would see a reset and not the answer.
    let mut rest = [0; 1024];
    for _ in 0..16 {
        if socket.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Without what answers of streams have: nothing here is for pages of other origins.
fn written(answer: Answer, with_body: bool) -> Vec<u8> {
    let (parts, body) = answer.into_parts();
    let mut out = format!(
        "HTTP/1.1 {} {}\r\nx-content-type-options: nosniff\r\ncross-origin-resource-policy: same-origin\r\ncache-control: no-store\r\nconnection: close\r\n\
         content-length: {}\r\n",
        parts.status.as_str(),
        parts.status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    for (name, value) in &parts.headers {
        if name != header::CACHE_CONTROL {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    if with_body {
        out.extend_from_slice(&body);
    }
    out
}

async fn answer(path: &str, watched: &Arc<Watched>) -> Answer {
    match path {
        "/metrics" => {
            let mut parts = answer::head(StatusCode::OK);
            answer::put(&mut parts, header::CONTENT_TYPE, metrics::CONTENT_TYPE);
            answer::full(parts, watched.metrics.exposition())
        }
        "/health/live" => match watched.stuck().await {
            stuck if stuck.is_empty() => healthy(&json!({ "status": "live" })),
            stuck => sick("not-live", "a shard is stuck", &format!("these shards take no turn: {stuck:?}"), json!({})),
        },
        "/health/ready" => {
            let Proof { fault, took } = watched.ready().await;
            let took = json!({ "probeMs": took.as_micros() as f64 / 1_000.0 });
            match fault {
                None => healthy(&json!({ "status": "ready", "probeMs": took["probeMs"] })),
                Some((code, why)) => sick(code, "the server is not ready", &why, took),
            }
        }
        _ => {
            let detail = "here are /metrics, /health/live and /health/ready: streams are at the server's own address";
            answer::refusal(&Refusal::new(Code::NotFound, detail))
        }
    }
}

fn healthy(body: &serde_json::Value) -> Answer {
    let mut parts = answer::head(StatusCode::OK);
    answer::put(&mut parts, header::CONTENT_TYPE, "application/json");
    answer::full(parts, body.to_string())
}

/// 503 whatever the code: that is what those who ask for health understand.
fn sick(code: &str, title: &str, why: &str, more: serde_json::Value) -> Answer {
    let mut problem = json!({
        "type": format!("urn:fourfold:problem:{code}"), "title": title, "status": 503, "code": code, "detail": why, "retry": true
    });
    if let (Some(problem), serde_json::Value::Object(more)) = (problem.as_object_mut(), more) {
        problem.extend(more);
    }
    let mut parts = answer::head(StatusCode::SERVICE_UNAVAILABLE);
    answer::put(&mut parts, header::CONTENT_TYPE, "application/problem+json");
    answer::full(parts, problem.to_string())
}

/// Why a request is not answered, whatever it asks for.
fn refused(method: &str, headers: &[httparse::Header<'_>], local: bool) -> Option<Refusal> {
    if !["GET", "HEAD"].contains(&method) {
        return Some(Refusal::new(Code::MethodNotAllowed, "use one of GET, HEAD").with("allow", "GET, HEAD"));
    }
    let value = |name: header::HeaderName| {
        headers.iter().find(|given| given.name.eq_ignore_ascii_case(name.as_str())).map(|given| given.value)
    };
    let by_a_page = value(header::ORIGIN).is_some()
        || value(header::HeaderName::from_static("sec-fetch-site"))
            .is_some_and(|site| ![&b"none"[..], b"same-origin"].contains(&site));
    // A name that somebody else resolves to this machine is how a page gets around its origin.
    let by_a_name = local && value(header::HOST).is_some_and(|host| !is_of_this_machine(host));
    (by_a_page || by_a_name).then(|| {
        let detail = "pages of other origins, and names for this machine other than localhost, are not answered here";
        Refusal::new(Code::NotFound, detail)
    })
}

fn is_of_this_machine(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, _)) => ip,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(method: &str, headers: &[(&str, &str)], local: bool) -> bool {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        refused(method, &headers, local).is_some()
    }

    #[test]
    fn whoever_scrapes_or_types_the_address_is_answered() {
        for headers in [
            &[][..],
            &[("Host", "127.0.0.1:5437")],
            &[("Host", "localhost:5437"), ("Sec-Fetch-Site", "none")],
            &[("host", "[::1]:5437")],
        ] {
            assert!(!is_refused("GET", headers, true), "{headers:?}");
        }
        assert!(
            !is_refused("HEAD", &[("Host", "fourfold.internal:5437")], false),
            "it listens to the network on purpose"
        );
    }

    #[test]
    fn a_page_is_not() {
        for headers in [
            [("Host", "127.0.0.1:5437"), ("Sec-Fetch-Site", "cross-site")],
            [("Host", "127.0.0.1:5437"), ("Origin", "https://evil.example")],
            [("Host", "rebound.example:5437"), ("Accept", "*/*")],
            [("Host", "127.0.0.1.evil.example"), ("Accept", "*/*")],
        ] {
            assert!(is_refused("GET", &headers, true), "{headers:?}");
        }
        assert!(is_refused("POST", &[], true) && is_refused("OPTIONS", &[], false));
    }
}
