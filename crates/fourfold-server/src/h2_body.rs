//! Answers on a stream of HTTP/2. None is made before there is room for it: what a client does not take is not read from its cursor either.
//!
//! ```text
//! hyper asks for a frame ─ the slot is empty: the follower runs, reads its cursor, fills the slot ─ the frame goes
//! the client gives no room: nobody asks, nothing runs; the cursor stands where it stood
//! ```

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    caller::Connected,
    h2_patience,
    line::Watch,
    transports::follow::{Follow, Manner, Outlet},
};

/// What hyper is given of a whole answer at a time, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// hyper is done with a stream once it has the last piece, though all before may still wait for the client. The last one of a long answer is
/// therefore a single byte, that is handed over when the rest has gone; short answers, in bytes, go in one piece.
const SHORT_BYTES: usize = 1024;

/// The body of an answer.
pub(crate) enum Body {
    Whole { rest: Bytes, room: Option<OwnedSemaphorePermit> },
    Following(Following),
}

/// What a follower writes.
pub(crate) struct Following {
    slot: Slot,
    /// Counts it among the connections of whom a proxy asks for.
    held: Option<Connected>,
    /// There until it has ended.
    follower: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Where a follower puts what it has written, one frame at most.
#[derive(Clone)]
pub(crate) struct Slot(Arc<Mutex<Bytes>>);

impl From<Bytes> for Body {
    fn from(rest: Bytes) -> Self {
        Self::Whole { rest, room: None }
    }
}

impl Body {
    /// The body that a follower writes into the slot.
    pub(crate) fn following<M: Manner>(mut follow: Follow<M, Slot>, slot: Slot) -> Self {
        let follower = async move {
            let _ = follow.follow().await; // A slot has no errors.
        };
        Self::Following(Following { slot, held: None, follower: Some(Box::pin(follower)) })
    }

    /// How long it is, where all of it is here.
    pub(crate) fn whole(&self) -> Option<usize> {
        match self {
            Self::Whole { rest, .. } => Some(rest.len()),
            Self::Following(_) => None,
        }
    }

    /// Keeps its place among those that are in memory until it has gone.
    pub(crate) fn keep(&mut self, permit: OwnedSemaphorePermit) {
        if let Self::Whole { room, .. } = self {
            *room = Some(permit);
        }
    }

    /// A read that stays keeps its place among somebody's connections until it is over.
    pub(crate) fn hold(&mut self, place: Option<Connected>) {
        if let Self::Following(following) = self {
            following.held = place;
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        h2_patience::asked();
        let piece = match self.get_mut() {
            Self::Whole { rest, .. } if rest.is_empty() => None,
            Self::Whole { rest, .. } => {
                let bytes = if rest.len() <= SHORT_BYTES { rest.len() } else { PIECE_BYTES.min(rest.len() - 1) };
                Some(rest.split_to(bytes))
            }
            Self::Following(following) => match following.poll(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole { rest, .. } if rest.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        self.whole().map_or_else(SizeHint::default, |bytes| SizeHint::with_exact(bytes as u64))
    }
}

impl Following {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let frame = self.slot.take();
            if !frame.is_empty() {
                return Poll::Ready(Some(frame));
            }
            let Some(follower) = &mut self.follower else { return Poll::Ready(None) };
            if follower.as_mut().poll(cx).is_ready() {
                self.follower = None;
            } else if self.slot.takes() {
                return Poll::Pending;
            }
        }
    }
}

impl Slot {
    /// A slot for a follower, and the same for whoever takes from it.
    pub(crate) fn holding(first: Bytes) -> (Self, Self) {
        let slot = Self(Arc::new(Mutex::new(first)));
        (slot.clone(), slot)
    }

    fn take(&self) -> Bytes {
        std::mem::take(&mut self.frame())
    }

    fn frame(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().expect("nobody panics while it holds the slot")
    }
}

impl Outlet for Slot {
    fn takes(&self) -> bool {
        self.frame().is_empty()
    }

    fn write_now(&self, bytes: Bytes) -> io::Result<Bytes> {
        let mut frame = self.frame();
        if !frame.is_empty() {
            return Ok(bytes);
        }
        *frame = bytes;
        Ok(Bytes::new())
    }

    async fn write_all(&self, mut bytes: Bytes) -> io::Result<()> {
        // Nobody needs to be woken: who takes from the slot asks again.
        poll_fn(|_| {
            if !self.takes() {
                return Poll::Pending;
            }
            Poll::Ready(self.write_now(std::mem::take(&mut bytes)).map(drop))
        })
        .await
    }

    /// Dropped with the stream, it never sees one go.
    fn poll_gone(&self, _: &mut Watch, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
