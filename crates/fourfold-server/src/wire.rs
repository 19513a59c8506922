//! The socket as hyper sees it: bytes that were read before come first, and what hyper itself refuses is explained.
//!
//! hyper answers a head that it cannot parse with a bare status, before any code of ours is asked. Such an answer is recognised by
//! beginning when every request has its answer and all of that is written; it is replaced by a problem. What is written is never
//! looked at to tell: records are other people's words.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use fourfold_protocol::{Code, Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    answer,
    budget::{self, Taken},
    limits::{HEAD_BUFFER_BYTES, URL_BYTES_MAX},
    socket::Socket,
};

/// A socket under hyper.
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    unread: Bytes,
    exchange: Arc<Exchange>,
    /// All that hyper had to write is written.
    flushed: bool,
    /// Requests whose answer is written.
    written: usize,
    /// Our words instead of hyper's, not yet written.
    instead: Bytes,
    /// hyper has refused a head, and the client was told.
    pub(crate) refused: bool,
    /// Counts a head that hyper refuses, and tells what the client is told.
    judge: Judge,
    stall_wait_max: Duration,
    /// There while the client takes nothing.
    stalled: Option<Stalled>,
}

/// Until when a client that takes nothing is waited for, and what is held for it.
#[derive(Debug)]
struct Stalled {
    until: Pin<Box<Sleep>>,
    held: Taken,
}

/// Makes of a refusal what is said in the end.
type Judge = Box<dyn Fn(Refusal) -> Refusal + Send>;

/// What the service tells the wire.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    requests: AtomicUsize,
    /// Those whose answer was given to hyper.
    answered: AtomicUsize,
    /// A line of the head that is being read has ended.
    line_ended: AtomicBool,
}

impl Exchange {
    /// A request was parsed.
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.line_ended.store(false, Relaxed);
    }

    /// Whether any request was parsed.
    pub(crate) fn has_begun(&self) -> bool {
        self.requests.load(Relaxed) > 0
    }

    /// The present request's answer goes to hyper now.
    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }
}

/// What hyper cannot parse.
pub(crate) fn not_http() -> Refusal {
    Refusal::new(Code::BadRequest, "the request line or a header is not valid HTTP/1.1")
}

impl Wire {
    pub(crate) fn new(socket: Socket, unread: Bytes, stall_wait_max: Duration) -> (Self, Arc<Exchange>) {
        let exchange = Arc::<Exchange>::default();
        (
            Self {
                socket,
                unread,
                exchange: Arc::clone(&exchange),
                flushed: true,
                written: 0,
                instead: Bytes::new(),
                refused: false,
                judge: Box::new(|refusal| refusal),
                stall_wait_max,
                stalled: None,
            },
            exchange,
        )
    }

    /// Has what hyper refuses by itself judged.
    pub(crate) fn judged_by(self, judge: impl Fn(Refusal) -> Refusal + Send + 'static) -> Self {
        Self { judge: Box::new(judge), ..self }
    }

    /// What is said instead of hyper's refusal, or where it says nothing.
    pub(crate) fn last_words(&self, refusal: Refusal) -> Bytes {
        answer::last_words(&(self.judge)(refusal)).into()
    }

    fn looked_at(&self, read: &[u8]) {
        if !self.exchange.line_ended.load(Relaxed) && read.contains(&b'\n') {
            self.exchange.line_ended.store(true, Relaxed);
        }
    }

    /// Notes that hyper writes; true if it is its own refusal, which is replaced.
    fn replaces(&mut self, first: &[u8]) -> bool {
        let begins = std::mem::replace(&mut self.flushed, false);
        if !begins || self.exchange.requests.load(Relaxed) > self.written {
            return false;
        }
        let Some(status) = first.strip_prefix(b"HTTP/1.1 ").or_else(|| first.strip_prefix(b"HTTP/1.0 ")) else {
            return false;
        };
        let url = Refusal::new(Code::UrlTooLong, format!("the URL is longer than {URL_BYTES_MAX} bytes: shorten it"));
        let refusal = match status.get(..3) {
            Some(b"414") => url,
            Some(b"431") if !self.exchange.line_ended.load(Relaxed) => url,
            Some(b"431") => {
                let detail = format!("the headers are more than {HEAD_BUFFER_BYTES} bytes or too many: send fewer");
                Refusal::new(Code::HeadersTooLarge, detail)
            }
            _ => not_http(),
        };
        self.refused = true;
        self.instead = self.last_words(refusal);
        true
    }

    /// hyper has no deadline for writing: a client that asks and takes nothing would keep its answer in memory for ever.
    fn poll_stalled(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
        unsent: usize,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let wait = self.stall_wait_max;
        let begin = || Stalled { until: Box::pin(sleep(wait)), held: budget::of_unsent() };
        let stalled = self.stalled.get_or_insert_with(begin);
        if !stalled.held.reach(unsent) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        ready!(stalled.until.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let result = Pin::new(&mut self.socket).poll_write(cx, &self.instead);
            let written = ready!(self.poll_stalled(cx, result, 0))?;
            self.instead.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.unread.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        } else {
            let bytes = self.unread.len().min(buf.remaining());
            let first = self.unread.split_to(bytes);
            buf.put_slice(&first);
        }
        self.looked_at(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if self.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.poll_stalled(cx, result, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if bufs.first().is_some_and(|first| self.replaces(first)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        let unsent = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_stalled(cx, result, unsent)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.flushed = true;
        self.written = self.exchange.answered.load(Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_client_that_asks_and_takes_nothing_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (mut wire, _) = Wire::new(socket.into(), Bytes::new(), Duration::from_millis(50));
        let answer = vec![b'x'; 64 << 20]; // More than any socket buffers.
        let ended = timeout(Duration::from_secs(10), wire.write_all(&answer)).await.expect("it is let go");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
