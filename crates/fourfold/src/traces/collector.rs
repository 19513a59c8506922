//! The exporter's HTTP client: one connection for each export, driven on the exporter's own thread, with TLS as the rest of the server speaks it.
//!
//! Redirects are answers like any other, nobody follows them; no proxy of the environment stands between; time and bytes are bounded.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::OnceLock,
    time::Duration,
};

use bytes::Bytes;
use fourfold_server::limits::TRACE_ANSWER_BYTES_MAX;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// The collector, as far as there is something to know of it.
pub(super) struct Collector {
    wait: Duration,
    /// Whom the system trusts, read when it is needed first.
    tls: OnceLock<Result<TlsConnector, String>>,
}

/// Why an export did not arrive.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("the URL has no host")]
    Nowhere,
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
    #[error("the exchange broke off: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the answer broke off, or has more than {TRACE_ANSWER_BYTES_MAX} bytes")]
    Body,
    #[error("no answer within {0:?}")]
    Late(Duration),
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

impl Collector {
    /// Each export takes at most so long.
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, tls: OnceLock::new() }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sent = runtime.block_on(async {
            timeout(self.wait, self.exchange(request)).await.unwrap_or(Err(Unsent::Late(self.wait)))
        });
        runtime.shutdown_background(); // A resolver that hangs is not waited for.
        sent.map_err(|error| {
            // What the exporter says itself is only that it failed.
            tracing::warn!("the collector has not taken the traces: {error}");
            error.into()
        })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Unsent> {
        let uri = request.uri().clone();
        let socket = self.connect(&uri).await?;
        let (mut parts, body) = request.into_parts();
        let host = uri.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
        parts.headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| Unsent::Nowhere)?);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let agent = concat!("fourfold/", env!("CARGO_PKG_VERSION"));
        parts.headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        parts.uri = uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
        let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(socket)).await?;
        tokio::spawn(connection); // Ends with the runtime.
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, TRACE_ANSWER_BYTES_MAX).collect().await.map_err(|_| Unsent::Body)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    async fn connect(&self, uri: &Uri) -> Result<Box<dyn Socket>, Unsent> {
        let host = uri.host().ok_or(Unsent::Nowhere)?;
        let is_secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((bare, port)).await.map_err(Unsent::Connect)?;
        if !is_secure {
            return Ok(Box::new(socket));
        }
        let tls = self.tls.get_or_init(connector).as_ref().map_err(|why| Unsent::Tls(why.clone()))?;
        let name = fourfold_trust::name(host).map_err(|why| Unsent::Tls(why.to_string()))?;
        let socket = tls.connect(name, socket).await.map_err(|error| Unsent::Tls(error.to_string()))?;
        Ok(Box::new(socket))
    }
}

impl HttpClient for Collector {
    // By hand what the trait's macro would write. It is polled on the exporter's thread, which has nothing else to do.
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(ready(self.send(request)))
    }
}

fn connector() -> Result<TlsConnector, String> {
    let roots = fourfold_trust::authorities(&[]).map_err(|why| why.to_string())?;
    Ok(fourfold_trust::trusting(roots))
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("wait", &self.wait).finish_non_exhaustive()
    }
}
