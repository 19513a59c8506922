//! Takes one request to a webhook and brings its answer back.
//!
//! Every address behind the host is checked, and a checked one is connected to, so what a name resolves to a moment later does not matter. Redirects
//! are answers like any other that is no success: nobody follows them. Time and bytes are bounded.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use bytes::Bytes;
use fourfold_trust::Distrust;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::CertificateDer};

use crate::{
    limits::{WEBHOOK_ANSWER_BYTES_MAX, WEBHOOK_WAIT_MAX},
    target::{Place, Target, is_public},
};

/// Brings requests to webhooks.
pub(crate) struct Courier {
    /// This machine may be delivered to, by `localhost` and `127.0.0.x`.
    pub(crate) local: bool,
    roots: Vec<CertificateDer<'static>>,
    /// Read when the first webhook needs it: the system's store takes milliseconds.
    tls: OnceLock<Result<TlsConnector, Distrust>>,
}

/// What a webhook that was reached and content has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// All that it was told of is processed.
    Done,
    /// It will call back.
    Later,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undelivered {
    #[error("the URL is not delivered to any more: {0}")]
    Url(String),
    #[error("the host cannot be resolved: {0}")]
    Resolve(std::io::Error),
    #[error("the host resolves to {0}, which is not on the open Internet")]
    Address(IpAddr),
    #[error("the host resolves to nothing")]
    Nowhere,
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("TLS cannot be spoken: {0}")]
    Distrust(#[from] Distrust),
    #[error("TLS cannot be spoken: {0}")]
    Tls(std::io::Error),
    #[error("the exchange broke off: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the answer was {0}")]
    Status(http::StatusCode),
    #[error("no answer within {} s", WEBHOOK_WAIT_MAX.as_secs())]
    Late,
    #[error("the lease ended before there was an answer")]
    Lease,
}

impl Courier {
    /// `roots` are trusted beside those of the system.
    pub(crate) fn new(local: bool, roots: Vec<CertificateDer<'static>>) -> Self {
        Self { local, roots, tls: OnceLock::new() }
    }

    /// Delivers a body. Cancel-safe in that the connection ends with the future.
    pub(crate) async fn deliver(&self, url: &str, body: Bytes, signature: &str) -> Result<Said, Undelivered> {
        timeout(WEBHOOK_WAIT_MAX, self.exchange(url, body, signature)).await.unwrap_or(Err(Undelivered::Late))
    }

    async fn exchange(&self, url: &str, body: Bytes, signature: &str) -> Result<Said, Undelivered> {
        let target = Target::parse(url, self.local).map_err(|refusal| Undelivered::Url(refusal.detail))?;
        let addresses = match &target.place {
            Place::Known(ip) => vec![SocketAddr::new(*ip, target.port)],
            Place::Name(name) => {
                let found = lookup_host((name.as_str(), target.port)).await.map_err(Undelivered::Resolve)?;
                checked(found.collect())?
            }
        };
        let socket = connect(&addresses).await?;
        let request = request(&target, body, signature);
        if !target.secure() {
            return converse(socket, request).await;
        }
        let trusted = || fourfold_trust::authorities(&self.roots).map(fourfold_trust::trusting);
        let tls = self.tls.get_or_init(trusted).as_ref().map_err(Clone::clone)?;
        let name = fourfold_trust::name(target.url.host_str().unwrap_or_default())?;
        let socket = tls.connect(name, socket).await.map_err(Undelivered::Tls)?;
        converse(socket, request).await
    }
}

/// The addresses, if every one is of the open Internet: a name that also leads elsewhere is not trusted at all.
fn checked(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Undelivered> {
    match addresses.iter().find(|address| !is_public(address.ip())) {
        Some(inside) => Err(Undelivered::Address(inside.ip())),
        None if addresses.is_empty() => Err(Undelivered::Nowhere),
        None => Ok(addresses),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Undelivered> {
    let mut failed = Undelivered::Nowhere;
    for address in addresses.iter().take(ADDRESSES_TRIED) {
        match timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(e)) => failed = Undelivered::Connect(e),
            Err(_) => failed = Undelivered::Connect(std::io::ErrorKind::TimedOut.into()),
        }
    }
    Err(failed)
}

/// For each address, so that one that is dead leaves time for another.
const CONNECT_WAIT: Duration = Duration::from_secs(8);
const ADDRESSES_TRIED: usize = 3;

fn request(target: &Target, body: Bytes, signature: &str) -> Request<Full<Bytes>> {
    let url = &target.url;
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut request = Request::post(path).body(Full::new(body)).expect("a parsed URL has a path that is valid in HTTP");
    let headers = request.headers_mut();
    for (name, value) in [
        (header::HOST, host.as_str()),
        (header::CONTENT_TYPE, "application/json"),
        (header::ACCEPT, "application/json"),
        (header::USER_AGENT, concat!("fourfold/", env!("CARGO_PKG_VERSION"))),
        (header::CONNECTION, "close"),
        (header::HeaderName::from_static("webhook-signature"), signature),
    ] {
        headers.insert(name, HeaderValue::from_str(value).expect("a parsed host and base64 are plain text"));
    }
    request
}

async fn converse<S>(socket: S, request: Request<Full<Bytes>>) -> Result<Said, Undelivered>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(WEBHOOK_ANSWER_BYTES_MAX)
        .handshake::<_, Full<Bytes>>(TokioIo::new(socket))
        .await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Undelivered::Status(status));
        }
        match Limited::new(answer.into_body(), WEBHOOK_ANSWER_BYTES_MAX).collect().await {
            Ok(body) => Ok(said(&body.to_bytes())),
            Err(e) if e.is::<LengthLimitError>() => Ok(Said::Later),
            Err(e) => match e.downcast::<hyper::Error>() {
                Ok(e) => Err((*e).into()),
                Err(_) => Ok(Said::Later),
            },
        }
    };
    tokio::pin!(answer, connection);
    let mut ended = false;
    // Driven side by side, so that both end with this future.
    std::future::poll_fn(|cx| {
        if !ended && connection.as_mut().poll(cx).is_ready() {
            ended = true;
        }
        answer.as_mut().poll(cx)
    })
    .await
}

fn said(body: &[u8]) -> Said {
    let done = serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|answer| answer["done"] == true);
    if done { Said::Done } else { Said::Later }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("local", &self.local).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_inside_is_not_connected_to() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (out, inside) = (address("1.1.1.1:443"), address("10.0.0.1:443"));
        assert_eq!(checked(vec![out]).unwrap(), [out]);
        for rebound in
            [vec![inside], vec![out, inside], vec![address("[::ffff:127.0.0.1]:443")], vec![address("127.0.0.1:443")]]
        {
            assert!(matches!(checked(rebound), Err(Undelivered::Address(_))));
        }
        assert!(matches!(checked(Vec::new()), Err(Undelivered::Nowhere)));
    }

    #[test]
    fn only_done_is_done() {
        assert_eq!(said(br#"{"done":true}"#), Said::Done);
        for body in ["", "{}", r#"{"done":"true"}"#, r#"{"done":false}"#, "true", "[]"] {
            assert_eq!(said(body.as_bytes()), Said::Later, "{body}");
        }
    }
}
