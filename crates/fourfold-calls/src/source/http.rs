//! An upstream: one request on a connection of its own, and its answer as it comes.
//!
//! The connection is driven only while somebody waits for the next piece, so an upstream whose answer nobody takes stands still; dropped, it is closed.
//! Redirects are told, never followed; a body is kept as it comes, so it must not be compressed.

use std::{
    error::Error as _,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fourfold_protocol::record::is_content_type;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Event, Facts, Failure, Head, Order, Piece, connection::connect};
use crate::{
    config::{Target, Upstream},
    limits::{KEPT_HEADER_BYTES_MAX, UPSTREAM_BUFFER_BYTES},
};

/// A request to an upstream and its answer.
pub(super) struct Exchange {
    state: State,
    status: Option<StatusCode>,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>),
    Open(Pin<Box<Driven>>, Incoming),
    Over,
}

/// The connection's own future: it ends with the connection, and what was wrong the body tells, too.
type Driven = dyn Future<Output = Result<(), hyper::Error>> + Send;

struct Opened {
    head: Head,
    status: StatusCode,
    connection: Option<Pin<Box<Driven>>>,
    body: Incoming,
}

impl Exchange {
    /// Nothing is asked before the first [`poll`](Self::poll). `trusted` stands for what the system trusts.
    pub(super) fn start(order: Order, trusted: Option<TlsConnector>) -> Self {
        Self { state: State::Opening(Box::pin(open(order, trusted))), status: None }
    }

    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.state, State::Opening(_))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Failure>> {
        match &mut self.state {
            State::Opening(opening) => {
                let opened = ready!(opening.as_mut().poll(cx));
                self.state = State::Over;
                let opened = opened?;
                self.status = Some(opened.status);
                let connection = opened.connection.unwrap_or_else(|| Box::pin(std::future::pending()));
                self.state = State::Open(connection, opened.body);
                Poll::Ready(Ok(Event::Piece(Piece::Head(opened.head))))
            }
            State::Open(connection, body) => {
                let piece = ready!(next_piece(connection, body, cx));
                if !matches!(piece, Ok(Event::Piece(_))) {
                    self.state = State::Over; // The connection is closed now, not when the ending has been written.
                }
                Poll::Ready(piece)
            }
            State::Over => Poll::Ready(Ok(Event::End)),
        }
    }

    pub(super) fn end(self) -> Facts {
        let failure = self
            .status
            .filter(|status| status.as_u16() >= 400)
            .map(|status| Failure::failed("upstream-status", format!("the upstream answered {}", status.as_u16())));
        Facts { failure, ..Facts::default() }
    }
}

fn next_piece(
    connection: &mut Pin<Box<Driven>>,
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Result<Event, Failure>> {
    loop {
        if connection.as_mut().poll(cx).is_ready() {
            *connection = Box::pin(std::future::pending()); // A future that has ended is not asked again.
        }
        return match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => Poll::Ready(Ok(Event::End)),
            Some(Ok(frame)) => match frame.into_data() {
                // A copy: a slice would keep a whole read buffer for as long as the record is kept.
                Ok(data) if !data.is_empty() => {
                    Poll::Ready(Ok(Event::Piece(Piece::Bytes(Bytes::copy_from_slice(&data)))))
                }
                _ => continue, // Trailers.
            },
            Some(Err(e)) => {
                let text = format!("the upstream's answer broke off: {}", told(&e));
                Poll::Ready(Err(Failure::failed("upstream-cut", text)))
            }
        };
    }
}

async fn open(order: Order, trusted: Option<TlsConnector>) -> Result<Opened, Failure> {
    let Target::Url(upstream) = &order.config.target else { unreachable!("an exchange is begun for an upstream") };
    let request = request(upstream, &order)?;
    let unreachable = |why: String| Failure::failed("upstream-unreachable", why);
    let socket = match timeout(upstream.connect_timeout, connect(&upstream.url, trusted)).await {
        Ok(socket) => socket.map_err(|e| unreachable(e.to_string()))?,
        Err(_) => {
            let text = format!("no connection to the upstream within {:?}", upstream.connect_timeout);
            return Err(Failure::timeout("connect-timeout", text));
        }
    };
    let asked = async {
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(UPSTREAM_BUFFER_BYTES).handshake(TokioIo::new(socket)).await?;
        let mut connection: Option<Pin<Box<Driven>>> = Some(Box::pin(connection));
        let mut answer = Box::pin(sender.send_request(request));
        // Driven side by side, so that both end with this future.
        let answer = std::future::poll_fn(|cx| {
            if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
                connection = None;
            }
            answer.as_mut().poll(cx)
        })
        .await?;
        Ok::<_, hyper::Error>((answer, connection))
    };
    match timeout(upstream.head_timeout, asked).await {
        Ok(Ok((answer, connection))) => understood(upstream, answer, connection),
        Ok(Err(e)) if e.is_parse() => Err(protocol(format!("the upstream does not speak HTTP: {}", told(&e)))),
        Ok(Err(e)) => {
            let text = format!("the upstream ended the connection before its answer: {}", told(&e));
            Err(Failure::failed("upstream-cut", text))
        }
        Err(_) => {
            let text = format!("the upstream has not answered within {:?}", upstream.head_timeout);
            Err(Failure::timeout("head-timeout", text))
        }
    }
}

fn understood(
    upstream: &Upstream,
    answer: Response<Incoming>,
    connection: Option<Pin<Box<Driven>>>,
) -> Result<Opened, Failure> {
    let (parts, body) = answer.into_parts();
    let status = parts.status;
    let mut headers = kept(&parts.headers, &upstream.keep_headers);
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        if !upstream.keep_headers.contains(&header::LOCATION) {
            headers.extend(kept(&parts.headers, &[header::LOCATION]));
        }
        let text = format!("the upstream answered {}, and redirects are not followed", status.as_u16());
        return Err(Failure { status: Some(status.as_u16()), headers, ..Failure::failed("redirect", text) });
    }
    if status.is_informational() {
        return Err(protocol(format!("the upstream answered {}, which nobody asked for", status.as_u16())));
    }
    let encodings = parts.headers.get_all(header::CONTENT_ENCODING);
    if let Some(encoding) = encodings.iter().find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(protocol(format!("the upstream's answer is compressed, which nobody asked for: {encoding:?}")));
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.filter(|text| is_content_type(text)).unwrap_or("application/octet-stream");
    let head = Head { content_type: content_type.to_owned(), status: Some(status.as_u16()), headers };
    Ok(Opened { head, status, connection, body })
}

fn request(upstream: &Upstream, order: &Order) -> Result<Request<Full<Bytes>>, Failure> {
    // Once more: a path that nobody has looked at is not sent.
    let refused = |why: String| Failure::failed("rest-refused", why);
    order.config.admits(&order.rest, order.query.as_deref()).map_err(|e| refused(e.to_string()))?;
    let target = target(upstream, order).parse::<Uri>().map_err(|e| refused(format!("no request target: {e}")))?;
    let mut request = Request::builder()
        .method(upstream.method.clone())
        .uri(target)
        .body(Full::new(order.body.clone()))
        .expect("its parts are checked");
    let headers = request.headers_mut();
    for name in &upstream.pass_headers {
        for value in order.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    for (name, value) in &upstream.headers {
        headers.insert(name, value.clone());
    }
    headers
        .entry(header::USER_AGENT)
        .or_insert(const { HeaderValue::from_static(concat!("fourfold/", env!("CARGO_PKG_VERSION"))) });
    let url = &upstream.url;
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    for (name, value) in [
        (header::HOST, host.as_str()),
        (header::CONNECTION, "close"),
        (header::ACCEPT_ENCODING, "identity"),
        (HeaderName::from_static("idempotency-key"), order.key.as_deref().unwrap_or(&order.id)),
        (HeaderName::from_static("fourfold-call"), &order.id),
    ] {
        let value = HeaderValue::from_str(value).map_err(|_| refused(format!("'{name}' cannot be sent")))?;
        headers.insert(name, value);
    }
    Ok(request)
}

/// The configured path and query, and behind each what the caller adds.
fn target(upstream: &Upstream, order: &Order) -> String {
    let base = upstream.url.path();
    let base = if order.rest.is_empty() { base } else { base.trim_end_matches('/') };
    let queries = [upstream.url.query(), order.query.as_deref()];
    let queries: Vec<&str> = queries.into_iter().flatten().filter(|query| !query.is_empty()).collect();
    let mark = if queries.is_empty() { "" } else { "?" };
    format!("{base}{}{mark}{}", order.rest, queries.join("&"))
}

fn kept(headers: &HeaderMap, names: &[HeaderName]) -> Vec<(String, String)> {
    let value = |name: &HeaderName| {
        let values: Vec<_> = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        let mut value = values.join(", ");
        let cut = (0..=KEPT_HEADER_BYTES_MAX).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
        value.truncate(if value.len() > KEPT_HEADER_BYTES_MAX { cut } else { value.len() });
        value
    };
    names
        .iter()
        .filter(|name| headers.contains_key(*name))
        .map(|name| (name.as_str().to_owned(), value(name)))
        .collect()
}

fn protocol(text: String) -> Failure {
    Failure::failed("upstream-protocol", text)
}

/// An error and what caused it: the library's own words leave the cause out.
fn told(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // What a connection's end within a body looks like to the library says little.
        let is_end = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof);
        text = if is_end { format!("{text}: the connection ended too early") } else { format!("{text}: {error}") };
        cause = error.source();
    }
    text
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("status", &self.status).finish_non_exhaustive()
    }
}
