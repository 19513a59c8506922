//! The streams that are hot: one handle for everybody, as long as anybody holds it or there is room.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use fourfold_protocol::{Epoch, StreamName};

use crate::{Relay, Stream, Tail, Watch, engine::StreamConfig, relay::Held};

/// Streams that nobody holds stay hot up to this number, so that pollers and writers find them; about 1 KiB each.
pub const IDLE_STREAMS_MAX: usize = 4096;

/// All streams' recent records and shared frames together, in bytes: beyond it a stream that moves keeps none.
pub const RECENT_BYTES_TOTAL_MAX: usize = 64 * 1024 * 1024;

/// The registry of hot streams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Streams {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hot: Mutex<HashMap<StreamName, Arc<Stream>, foldhash::fast::RandomState>>,
    relay: Relay,
    budget: Arc<Budget>,
}

impl Streams {
    /// No stream is hot yet; those that will be wake their cursors through `relay`.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self { shared: Arc::new(Shared { hot: Mutex::default(), relay, budget: Arc::default() }) }
    }

    /// The handle, if the stream is hot.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.hot().get(name).cloned()
    }

    /// The handle of this life of the stream; made from what the engine knows if it was not hot.
    ///
    /// A handle of an older life is replaced. For engines only: call it where no append to the stream can be under way.
    pub fn heat(
        &self,
        name: &StreamName,
        epoch: Epoch,
        config: &Arc<StreamConfig>,
        oldest: u64,
        tail: Tail,
        ending: Option<&Arc<str>>,
    ) -> Arc<Stream> {
        let mut hot = self.hot();
        if let Some(stream) = hot.get(name)
            && stream.epoch() >= epoch
        {
            return Arc::clone(stream);
        }
        if hot.len() >= IDLE_STREAMS_MAX && hot.len().is_multiple_of(IDLE_STREAMS_MAX / 4) {
            // Nobody can take a handle while we hold the map, so one that only the map holds is idle.
            hot.retain(|_, stream| Arc::strong_count(stream) > 1);
        }
        let (relay, budget) = (self.shared.relay.clone(), Arc::clone(&self.shared.budget));
        let stream = Arc::new(Stream::new(name.clone(), epoch, Arc::clone(config), oldest, tail, relay, budget));
        stream.conclude(ending);
        hot.insert(name.clone(), Arc::clone(&stream));
        stream
    }

    /// For engines: this life of the stream has ended; whoever holds the handle is told.
    pub fn cool(&self, name: &StreamName, epoch: Epoch) {
        let ended = {
            let mut hot = self.hot();
            match hot.get(name) {
                Some(stream) if stream.epoch() == epoch => hot.remove(name),
                _ => None,
            }
        };
        if let Some(stream) = ended {
            stream.end();
        }
    }

    /// For engines: nobody is woken until the guard is dropped, and then each shard once.
    pub fn batch(&self) -> Held {
        self.shared.relay.batch()
    }

    /// Who wants to know of every stream that moves.
    pub fn watch(&self) -> &Arc<Watch> {
        self.shared.relay.watch()
    }

    /// Every hot stream, for sweeps.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        self.hot().values().cloned().collect()
    }

    /// How many are hot.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hot().len()
    }

    fn hot(&self) -> MutexGuard<'_, HashMap<StreamName, Arc<Stream>, foldhash::fast::RandomState>> {
        self.shared.hot.lock().expect("no code panics while it holds the map")
    }
}

/// How much memory recent records and shared frames may take, all streams together.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    used: AtomicUsize,
}

impl Budget {
    /// Counts the bytes in; false if that is more than there should be.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        self.used.fetch_add(bytes, Relaxed) + bytes <= RECENT_BYTES_TOTAL_MAX
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}
