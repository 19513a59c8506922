//! One request to a backend, and its answer: of the hook, or of a set of keys. Redirects are answers like any other, nobody follows them; no proxy of
//! the environment stands between; time and bytes are bounded.

use std::{io, net::SocketAddr, sync::OnceLock, time::Duration};

use bytes::Bytes;
use fourfold_trust::Distrust;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::CertificateDer};
use url::{Host, Url};

use crate::limits::ADDRESSES_MAX;

/// Where requests go, and whom it trusts.
pub(crate) struct Backend {
    url: Url,
    roots: Vec<CertificateDer<'static>>,
    /// Read when it is needed first: the system's store takes milliseconds.
    tls: OnceLock<Result<TlsConnector, Distrust>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("the host cannot be resolved: {0}")]
    Resolve(io::Error),
    #[error("the host resolves to nothing")]
    Nowhere,
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("TLS cannot be spoken: {0}")]
    Distrust(#[from] Distrust),
    #[error("TLS cannot be spoken: {0}")]
    Tls(io::Error),
    #[error("the exchange broke off: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the answer broke off, or has more than {0} bytes")]
    Body(usize),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

impl Backend {
    /// `roots` are trusted beside those of the system.
    pub(crate) fn new(url: Url, roots: Vec<CertificateDer<'static>>) -> Self {
        Self { url, roots, tls: OnceLock::new() }
    }

    /// Asks, and brings the whole answer. Cancel-safe in that the connection ends with the future.
    pub(crate) async fn ask(
        &self,
        method: Method,
        body: Bytes,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        let request = self.request(method, body);
        let asked = async { converse(self.connect().await?, request, bytes_max).await };
        timeout(wait, asked).await.unwrap_or(Err(Unanswered::Late(wait)))
    }

    fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let url = &self.url;
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let has_body = !body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a parsed URL has a path that is valid in HTTP");
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_str(&host).expect("a parsed host is plain text"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("fourfold/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if has_body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request
    }

    async fn connect(&self) -> Result<Box<dyn Socket>, Unanswered> {
        let port = self.url.port_or_known_default().ok_or(Unanswered::Nowhere)?;
        let addresses = match self.url.host().ok_or(Unanswered::Nowhere)? {
            Host::Domain(name) => lookup_host((name, port)).await.map_err(Unanswered::Resolve)?.collect(),
            Host::Ipv4(ip) => vec![SocketAddr::new(ip.into(), port)],
            Host::Ipv6(ip) => vec![SocketAddr::new(ip.into(), port)],
        };
        let socket = first(&addresses).await?;
        if self.url.scheme() != "https" {
            return Ok(Box::new(socket));
        }
        let trusted = || fourfold_trust::authorities(&self.roots).map(fourfold_trust::trusting);
        let tls = self.tls.get_or_init(trusted).as_ref().map_err(Clone::clone)?;
        let name = fourfold_trust::name(self.url.host_str().unwrap_or_default())?;
        let socket = tls.connect(name, socket).await.map_err(Unanswered::Tls)?;
        Ok(Box::new(socket))
    }
}

async fn first(addresses: &[SocketAddr]) -> Result<TcpStream, Unanswered> {
    let mut failed = Unanswered::Nowhere;
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(e) => failed = Unanswered::Connect(e),
        }
    }
    Err(failed)
}

async fn converse(
    socket: Box<dyn Socket>,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), Unanswered> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake::<_, Full<Bytes>>(TokioIo::new(socket)).await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), bytes_max).collect().await;
        Ok((status, body.map_err(|_| Unanswered::Body(bytes_max))?.to_bytes()))
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

/// What is read at once, and the longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
