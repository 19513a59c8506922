//! A socket that a live transport holds: writes with a deadline, and notices when the client goes.
//!
//! Nothing is buffered here. A write that does not fit waits, and the cursor with it.

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{io::ReadBuf, time::timeout};

use crate::{
    budget,
    limits::{
        LAST_WORDS_WAIT_MAX, LINGERING_CLOSE_BYTES_MAX, LINGERING_CLOSE_MAX, NEXT_REQUEST_BYTES_MAX, STRAY_BYTES_MAX,
    },
    socket::Socket,
};

/// Writes what fits now, and returns what does not.
pub(crate) fn write_now(socket: &Socket, mut bytes: Bytes) -> io::Result<Bytes> {
    while !bytes.is_empty() {
        match socket.try_write(&bytes) {
            Ok(written) => bytes.advance(written),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

/// Writes what fits at once, and returns what does not: all of it after an error, which whoever writes the rest will meet again.
pub(crate) fn write_some(socket: &Socket, bytes: &[u8]) -> Box<[u8]> {
    let written = socket.try_write(bytes).unwrap_or(0);
    bytes[written..].into()
}

/// Writes all of it. Errors: the client is gone, or too much is held already for clients that take none, or it [`Stalled`].
///
/// Not cancel-safe: dropped midway, some bytes may have been written.
pub(crate) async fn write_all(socket: &Socket, bytes: impl Into<Bytes>) -> io::Result<()> {
    let rest = write_now(socket, bytes.into())?;
    if rest.is_empty() {
        return Ok(());
    }
    // Boxed, so that an idle task does not carry the state of a stalled one.
    Box::pin(write_rest(socket, rest)).await
}

/// Writes both, one behind the other. Errors as [`write_all`].
pub(crate) async fn write_both(socket: &Socket, [first, second]: [Bytes; 2]) -> io::Result<()> {
    write_all(socket, first).await?;
    write_all(socket, second).await
}

async fn write_rest(socket: &Socket, mut rest: Bytes) -> io::Result<()> {
    let mut held = budget::of_unsent();
    if !held.reach(rest.len()) {
        // It has its offset, and comes back when it can read.
        tracing::debug!(bytes = rest.len(), max = held.max(), "a stalled reader is let go: unsent-max");
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    if rest.is_unique() {
        rest = Bytes::copy_from_slice(&rest); // Or what has gone already would be kept with it, and not be counted.
    }
    while !rest.is_empty() {
        match timeout(budget::stall_wait(), socket.writable()).await {
            Ok(writable) => writable?,
            Err(_) => return Err(Stalled::leaving(socket, rest).await.into()),
        }
        rest = write_now(socket, rest)?;
    }
    Ok(())
}

/// A client took no byte for too long (setting `stall-timeout`).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client took nothing for too long")]
pub(crate) struct Stalled {
    /// The kernel has all of what was to be written, so that something may follow that is the last.
    hears: bool,
}

impl Stalled {
    /// Has the kernel take what is left, for whenever the client reads on, if it is not too much.
    async fn leaving(socket: &Socket, rest: Bytes) -> Self {
        let room = socket.make_room(rest.len() + LAST_WORDS_BYTES);
        let is_writable = room && matches!(timeout(LAST_WORDS_WAIT_MAX, socket.writable()).await, Ok(Ok(())));
        Self { hears: is_writable && write_now(socket, rest).is_ok_and(|left| left.is_empty()) }
    }

    /// Whether that is what ended the connection.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// Hands the kernel the last words, in `bytes`, if they can still be understood.
    pub(crate) fn tell(self, socket: &Socket, bytes: impl FnOnce() -> Bytes) -> bool {
        self.hears && write_now(socket, bytes()).is_ok_and(|left| left.is_empty())
    }
}

impl From<Stalled> for io::Error {
    fn from(stalled: Stalled) -> Self {
        Self::new(io::ErrorKind::TimedOut, stalled)
    }
}

/// A goodbye with what ends an answer.
const LAST_WORDS_BYTES: usize = 4 * 1024;

/// Whether the client still listens, without a future that an idle task would have to carry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watch {
    /// Nothing is expected from it: what it sends is dropped, so many bytes until now.
    Stray(u16),
    /// What it sends is its next request and stays unread.
    NextRequest,
    /// It has sent its next request already; whether it goes is seen at the next write.
    Sent,
}

impl Watch {
    /// Ready when the client has closed its side, broken the connection, or sent more than it should.
    pub(crate) fn poll_gone(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Sent => Poll::Pending,
            Self::NextRequest => {
                let mut first = [0; 1];
                match ready!(socket.poll_peek(cx, &mut ReadBuf::new(&mut first))) {
                    Ok(0) | Err(_) => Poll::Ready(()),
                    Ok(_) => {
                        *self = Self::Sent;
                        Poll::Pending
                    }
                }
            }
            Self::Stray(stray) => loop {
                if ready!(socket.poll_read_ready(cx)).is_err() {
                    return Poll::Ready(());
                }
                match socket.try_read(&mut [0; 512]) {
                    Ok(0) => return Poll::Ready(()),
                    Ok(bytes) => {
                        *stray = stray.saturating_add(u16::try_from(bytes).unwrap_or(u16::MAX));
                        if *stray > STRAY_BYTES_MAX {
                            return Poll::Ready(());
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Poll::Ready(()),
                }
            },
        }
    }
}

/// Keeps what a client sends behind its request, so that its end is seen behind that. Ready as [`Watch::poll_gone`].
pub(crate) fn poll_gone_behind(unread: &mut Box<[u8]>, socket: &Socket, cx: &mut Context<'_>) -> Poll<()> {
    while unread.len() < NEXT_REQUEST_BYTES_MAX {
        if ready!(socket.poll_read_ready(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut piece = [0; 512];
        let room = piece.len().min(NEXT_REQUEST_BYTES_MAX - unread.len());
        match socket.try_read(&mut piece[..room]) {
            Ok(0) => return Poll::Ready(()),
            Ok(bytes) => *unread = [unread, &piece[..bytes]].concat().into(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(()),
        }
    }
    Watch::NextRequest.poll_gone(socket, cx)
}

/// Ends a connection so that the client gets all that was written, also if it is still sending.
pub(crate) async fn close(mut socket: Socket) {
    use tokio::io::AsyncWriteExt;
    let end = async {
        // With TLS there is a word to say, which a client that takes nothing does not take either.
        if socket.shutdown().await.is_err() {
            return;
        }
        let (mut sink, mut drained) = (vec![0; 16 * 1024], 0);
        while drained < LINGERING_CLOSE_BYTES_MAX && socket.readable().await.is_ok() {
            match socket.try_read(&mut sink) {
                Ok(0) => return,
                Ok(bytes) => drained += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(LINGERING_CLOSE_MAX, end).await;
}

/// A duration spread from half to one and a half of itself.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f32(0.5 + fastrand::f32())
}
