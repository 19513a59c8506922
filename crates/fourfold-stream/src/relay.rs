//! Wakes the subscribers of a shard from within that shard.
//!
//! A shard is a runtime of its own on a thread of its own. Waking a task of another thread costs a lock and often a system call *each*;
//! so whoever moves a tail sends the stream once to each shard that has cursors on it, and the shard wakes its own.
//!
//! The queue holds a stream at most once, so it is bounded by the number of streams that have cursors.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{Stream, Watch};

/// Which runtime a cursor lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard(pub(crate) u16);

impl Shard {
    /// The number of the shard, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The way from an engine to the shards.
#[derive(Clone, Debug)]
pub struct Relay {
    shards: Arc<[mpsc::UnboundedSender<Arc<Stream>>]>,
    watch: Arc<Watch>,
}

/// The receiving end: run one on each shard.
#[derive(Debug)]
pub struct RelayTask {
    shard: Shard,
    moved: mpsc::UnboundedReceiver<Arc<Stream>>,
}

impl Relay {
    /// A relay to so many shards (at least one), and the task of each.
    #[must_use]
    pub fn new(shards: u16) -> (Self, Vec<RelayTask>) {
        let (senders, tasks) = (0..shards.max(1))
            .map(|index| {
                let (sender, moved) = mpsc::unbounded_channel();
                (sender, RelayTask { shard: Shard(index), moved })
            })
            .unzip::<_, _, Vec<_>, _>();
        (Self { shards: senders.into(), watch: Arc::default() }, tasks)
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    pub(crate) fn send(&self, shard: usize, stream: Arc<Stream>) {
        // A shard that has ended has no cursors left to wake.
        let _ = self.shards[shard].send(stream);
    }
}

impl RelayTask {
    /// The shard that this task serves.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Wakes the shard's cursors until the engine and every stream are gone.
    pub async fn run(mut self) {
        while let Some(stream) = self.moved.recv().await {
            stream.wake_shard(self.shard);
        }
    }
}
