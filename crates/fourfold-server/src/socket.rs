//! A client's socket: plain, or with TLS on it. Whoever holds one cannot tell which.
//!
//! It has what the transports use of tokio's `TcpStream`, with the same promises, and one more: what was accepted of a write is with the
//! kernel, whole. Nothing of it stays behind in a buffer that somebody would have to flush, so a socket that nobody writes to is idle.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use socket2::SockRef;

use crate::{
    limits::{LAST_WORDS_BYTES_MAX, UNSENT_BYTES_MAX},
    tls_socket::TlsSocket,
};

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsSocket>),
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// Reads what there is. Errors: `WouldBlock` if that is nothing.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(into),
            Self::Tls(tls) => tls.try_read(into),
        }
    }

    /// Writes what fits now. Errors: `WouldBlock` if that is nothing. Whoever got that comes again with the same bytes, and perhaps more behind them.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Completes when a read may bring something. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// Completes when a write may be accepted. Cancel-safe.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Lets the kernel hold so many unsent bytes more, though the client takes none; false if that is too much for it, or for us.
    pub(crate) fn make_room(&self, bytes: usize) -> bool {
        if bytes > LAST_WORDS_BYTES_MAX {
            return false;
        }
        let socket = SockRef::from(self.tcp());
        let in_all = LAST_WORDS_BYTES_MAX + UNSENT_BYTES_MAX as usize;
        // Never less than it has found to be right by itself.
        if socket.send_buffer_size().is_ok_and(|has| has < 2 * in_all) && socket.set_send_buffer_size(in_all).is_err() {
            return false;
        }
        socket.set_tcp_notsent_lowat(u32::try_from(in_all).unwrap_or(u32::MAX)).is_ok()
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_read_ready(cx),
        }
    }

    /// As a read, but what was read will be read again.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => tcp.poll_peek(cx, into),
            Self::Tls(tls) => tls.poll_peek(cx, into),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => tls.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => tls.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => tls.poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_socket_is_no_larger_than_without_tls() {
        assert_eq!(size_of::<Socket>(), size_of::<TcpStream>());
    }
}
