//! A connection to an upstream, with TLS where its URL says so. Only the configured host is resolved and connected to, and nothing stands between: no proxy
//! of the environment.

use std::{io, net::SocketAddr, sync::OnceLock};

use fourfold_trust::Distrust;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::limits::{ADDRESSES_MAX, UPSTREAM_KERNEL_BYTES};

/// A socket, with or without TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Why an upstream is not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("the host cannot be resolved: {0}")]
    Resolve(io::Error),
    #[error("the host resolves to nothing")]
    Nowhere,
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("TLS cannot be spoken: {0}")]
    Distrust(#[from] Distrust),
    #[error("TLS cannot be spoken: {0}")]
    Tls(io::Error),
}

/// Connects to the host of `url`, which the configuration has checked. `trusted` stands for what the system trusts.
pub(super) async fn connect(url: &Url, trusted: Option<TlsConnector>) -> Result<Box<dyn Socket>, Unreachable> {
    let port = url.port_or_known_default().ok_or(Unreachable::Nowhere)?;
    let host = url.host().ok_or(Unreachable::Nowhere)?;
    let addresses = match host {
        Host::Domain(name) => lookup_host((name, port)).await.map_err(Unreachable::Resolve)?.collect(),
        Host::Ipv4(ip) => vec![SocketAddr::new(ip.into(), port)],
        Host::Ipv6(ip) => vec![SocketAddr::new(ip.into(), port)],
    };
    let socket = first(&addresses).await?;
    if url.scheme() != "https" {
        return Ok(Box::new(socket));
    }
    let tls = match trusted {
        Some(tls) => tls,
        None => system()?,
    };
    let name = fourfold_trust::name(url.host_str().unwrap_or_default())?;
    let socket = tls.connect(name, socket).await.map_err(Unreachable::Tls)?;
    Ok(Box::new(socket))
}

async fn first(addresses: &[SocketAddr]) -> Result<TcpStream, Unreachable> {
    let mut failed = Unreachable::Nowhere;
    for &address in addresses.iter().take(ADDRESSES_MAX) {
        match dial(address).await {
            Ok(socket) => return Ok(socket),
            Err(e) => failed = Unreachable::Connect(address, e),
        }
    }
    Err(failed)
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(UPSTREAM_KERNEL_BYTES)?; // Before the connection: its window follows from it.
    let socket = socket.connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Trusts what the system trusts, read once: it takes milliseconds.
fn system() -> Result<TlsConnector, Distrust> {
    static SYSTEM: OnceLock<Result<TlsConnector, Distrust>> = OnceLock::new();
    SYSTEM.get_or_init(|| fourfold_trust::authorities(&[]).map(fourfold_trust::trusting)).clone()
}
