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

#[cfg(test)]
mod tests {
    use fourfold_protocol::{Epoch, StreamName};

    use super::*;
    use crate::{Relay, StreamConfig, Streams, Tail};

    fn stream(streams: &Streams, name: &str) -> Arc<Stream> {
        let config = StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() };
        let name = StreamName::internal(name).unwrap();
        streams.heat(&name, Epoch(1), &Arc::new(config), 0, Tail::open(0), None)
    }

    fn names(moved: &Moved) -> Vec<&str> {
        moved.streams.iter().map(|stream| stream.name().as_str()).collect()
    }

    #[test]
    fn a_stream_is_listed_once_until_it_is_taken_and_only_if_somebody_watches() {
        let streams = Streams::new(Relay::new(1).0);
        let watch = streams.watch();
        let (a, own) = (stream(&streams, "a"), stream(&streams, "__ds/keys"));
        let advance = |stream: &Arc<Stream>, tail| stream.advance(Vec::new(), tail, false, 0);
        advance(&a, 1);
        assert!(names(&watch.take()).is_empty());
        watch.switch(true);
        for tail in 2..5 {
            advance(&a, tail);
            advance(&own, tail);
        }
        assert_eq!(names(&watch.take()), ["a"]);
        advance(&a, 5);
        assert_eq!(names(&watch.take()), ["a"]);
        advance(&a, 6);
        watch.switch(false);
        assert!(names(&watch.take()).is_empty());
        watch.switch(true);
        advance(&a, 7);
        assert_eq!(names(&watch.take()), ["a"], "it is not thought to be listed still");
    }

    #[test]
    fn more_than_fits_is_told_and_listed_again_later() {
        let streams = Streams::new(Relay::new(1).0);
        let watch = streams.watch();
        watch.switch(true);
        let all: Vec<_> = (0..=MOVED_STREAMS_MAX).map(|n| stream(&streams, &n.to_string())).collect();
        let advance = |tail| all.iter().for_each(|stream| stream.advance(Vec::new(), tail, false, 0));
        advance(1);
        let moved = watch.take();
        assert_eq!((moved.streams.len(), moved.overflowed), (MOVED_STREAMS_MAX, true));
        let last = all.last().unwrap();
        last.advance(Vec::new(), 2, false, 0);
        let moved = watch.take();
        assert_eq!((names(&moved), moved.overflowed), (vec![last.name().as_str()], false));
    }
}
