//! Tells one observer of every stream that moves.
//!
//! For whoever cares about many streams without a cursor on each. While nobody watches, a move costs one load. While somebody does, each stream
//! that moved is listed once until the observer has taken the list; the list is bounded, and what did not fit is told as such.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::sync::Notify;

use crate::Stream;

/// Streams that moved and were not taken yet. An observer that is behind by more looks at everything instead.
pub const MOVED_STREAMS_MAX: usize = 16_384;

/// The list of what has moved.
#[derive(Debug, Default)]
pub struct Watch {
    watched: AtomicBool,
    list: Mutex<Moved>,
    noted: Notify,
}

/// What has moved since the last look.
#[derive(Debug, Default)]
pub struct Moved {
    /// Each once, without the server's own streams; look at their tails now.
    pub streams: Vec<Arc<Stream>>,
    /// More than are listed have moved: look at every stream.
    pub overflowed: bool,
}

impl Watch {
    /// Begins to list, or ends it. Look at every tail once *after* this was switched on: then nothing is missed.
    pub fn switch(&self, on: bool) {
        self.watched.store(on, SeqCst);
        if !on {
            drop(self.take());
        }
    }

    /// What has moved since the last call. Never waits. A stream whose append was answered before is in this list or was in an earlier one.
    pub fn take(&self) -> Moved {
        let moved = std::mem::take(&mut *self.list.lock().expect("no code panics while it holds the list"));
        for stream in &moved.streams {
            // Before the observer looks at the tail, so that a later move is listed again.
            stream.noted.store(false, SeqCst);
        }
        moved
    }

    /// Completes when there is something to take. For one observer; cancel-safe.
    pub async fn moved(&self) {
        self.noted.notified().await;
    }

    pub(crate) fn note(&self, stream: &Arc<Stream>) {
        if self.watched.load(SeqCst) {
            self.enter(stream);
        }
    }

    #[cold]
    fn enter(&self, stream: &Arc<Stream>) {
        if stream.name().is_reserved() || stream.noted.swap(true, SeqCst) {
            return;
        }
        {
            let mut list = self.list.lock().expect("no code panics while it holds the list");
            if list.streams.len() < MOVED_STREAMS_MAX {
                list.streams.push(Arc::clone(stream));
            } else {
                list.overflowed = true;
                stream.noted.store(false, SeqCst);
            }
        }
        self.noted.notify_one();
    }
}
