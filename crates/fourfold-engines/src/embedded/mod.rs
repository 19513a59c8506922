//! Streams on the disk, over fjall.
//!
//! ```text
//! callers ─ queue ─ committer: judge → one batch → durable → tails move, answers ─ ...
//!                       └─ sweeps in between          readers ─ fjall, up to the visible tail
//! ```
//!
//! - `committer`: the one thread that changes anything; `queue` leads to it, `group` is what it does at one go, `ledger` what it
//!   remembers, `sweep` what it does in between
//! - `keys`, `meta`: where everything lies, and how it is written
//! - `store`: fjall's handles; [`recovery`], `journal`, `mark`: opening, and what is not to be passed over in silence
//! - [`backup`]: a copy of everything in one file, and the way back
//! - `meters`: what is counted
//! - `upkeep`: expiry and retention within a group; `forks`: forks, and what their ends mean for their sources; `timers`: clocks of hot streams; `disk`: free space

pub mod backup;
mod committer;
mod disk;
mod forks;
mod group;
mod journal;
mod keys;
mod ledger;
mod mark;
#[cfg(test)]
mod mending;
mod meta;
mod meters;
mod queue;
mod reading;
pub mod recovery;
mod store;
mod sweep;
mod timers;
mod upkeep;

use std::{
    fmt,
    future::ready,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use fourfold_protocol::StreamName;
use fourfold_stream::{
    Append, AppendError, Appended, Batch, Create, CreateError, Created, Engine, EngineStats, Limit, Listing, OpenError,
    Pending, ReadError, Relay, Retention, Stream, Streams, Unavailable,
};
use tokio::sync::oneshot;

pub use self::queue::{GROUP_BYTES_MAX, GROUP_OPS_MAX, QUEUE_BYTES_MAX, QUEUE_OPS_MAX};
pub use self::recovery::OpenFailure;
use self::{
    backup::Backups,
    committer::{Committer, Op},
    keys::Space,
    ledger::{Around, Ledger},
    meters::Meters,
    queue::Queue,
    reading::Readers,
    store::Shelf,
    timers::Timers,
};
use crate::rules::now_ms;

/// Which crash an acknowledged change survives. Every mode survives the end of the process, `kill -9` included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Loss of power: each group is synced (`fdatasync`) before it is acknowledged.
    #[default]
    Synced,
    /// Loss of power, but for the last such while: written to the operating system before it is acknowledged, synced this often.
    Interval(Duration),
    /// The end of the process only: written to the operating system before it is acknowledged, which syncs when it likes.
    Os,
}

/// How to open an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// See there.
    pub durability: Durability,
    /// For streams that were created without.
    pub retention: Retention,
}

/// Keeps streams in a directory.
///
/// Dropping it waits until everything that was called is durable and the directory is free.
pub struct EmbeddedEngine {
    queue: Arc<Queue<Op>>,
    around: Around,
    readers: Readers,
    backups: Backups,
    meters: Arc<Meters>,
    committer: Option<JoinHandle<()>>,
}

impl EmbeddedEngine {
    /// Opens the streams in `dir`, creating it if it is not there. Cursors are woken through `relay`.
    ///
    /// Takes time for the journals (at most some 128 MiB), not for streams. Starts a thread that ends with the engine.
    pub fn open(dir: &Path, options: EmbeddedOptions, relay: Relay) -> Result<Self, OpenFailure> {
        Self::open_with(dir, options, relay, None)
    }

    fn open_with(
        dir: &Path,
        options: EmbeddedOptions,
        relay: Relay,
        reserve: Option<u64>,
    ) -> Result<Self, OpenFailure> {
        let mark = recovery::take(dir)?;
        let opened = recovery::open(dir, &mark, options.durability)?;
        let last_epoch = opened.store.get(Space::Meta, keys::LAST_EPOCH).ok().flatten();
        let last_epoch = last_epoch.and_then(|value| keys::number(&value)).unwrap_or(0);
        let shelf = Arc::new(Shelf::new(dir.to_owned(), opened.store));
        let around =
            Around { streams: Streams::new(relay), timers: Arc::new(Timers::default()), defaults: options.retention };
        let (queue, meters) = (Arc::new(Queue::new()), Arc::<Meters>::default());
        let committer = Committer {
            queue: Arc::clone(&queue),
            shelf: Arc::clone(&shelf),
            around: around.clone(),
            durability: options.durability,
            mark,
            ledger: Ledger::starting(last_epoch),
            sweep: sweep::Sweep::default(),
            written: opened.last,
            synced: if options.durability == Durability::Synced { opened.last } else { 0 },
            reserve,
            meters: Arc::clone(&meters),
        };
        let committer = thread::Builder::new()
            .name("fourfold-commit".into())
            .spawn(move || committer.run())
            .map_err(|e| OpenFailure::Unwritable(dir.to_owned(), e))?;
        let backups = Backups::new(Arc::clone(&shelf));
        Ok(Self { queue, around, readers: Readers::new(shelf), backups, meters, committer: Some(committer) })
    }

    /// Makes backups while this is in use.
    pub fn backups(&self) -> Backups {
        self.backups.clone()
    }

    /// Takes the operation's place in the queue now; the future is only the answer.
    fn submit<T, E>(&self, op: impl FnOnce(group::Answer<Result<T, E>>) -> Op) -> Pending<Result<T, E>>
    where
        T: Send + 'static,
        E: From<Unavailable> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let op = op(answer);
        match self.queue.push(op.bytes(), op) {
            Err(why) => Box::pin(ready(Err(why.into()))),
            Ok(()) => Box::pin(async {
                let ended = |_| Err(Unavailable::Failed("the committer has ended".into()).into());
                answered.await.unwrap_or_else(ended)
            }),
        }
    }
}

impl Engine for EmbeddedEngine {
    fn streams(&self) -> &Streams {
        &self.around.streams
    }

    fn create(&self, name: &StreamName, wish: Create) -> Pending<Result<Created, CreateError>> {
        self.submit(|answer| Op::Create(name.clone(), wish, answer))
    }

    fn open(&self, name: &StreamName) -> Pending<Result<Arc<Stream>, OpenError>> {
        // Only where nothing can be due: expiry and age are the committer's to judge.
        match self.around.streams.get(name) {
            Some(stream) if self.around.timers.quiet(&stream, now_ms()) => Box::pin(ready(Ok(stream))),
            _ => self.submit(|answer| Op::Open(name.clone(), answer)),
        }
    }

    fn append(&self, stream: &Arc<Stream>, append: Append) -> Pending<Result<Appended, AppendError>> {
        self.submit(|answer| Op::Append(Arc::clone(stream), append, answer))
    }

    fn read(&self, stream: &Arc<Stream>, from: u64, limit: Limit) -> Pending<Result<Batch, ReadError>> {
        let (readers, stream) = (self.readers.clone(), Arc::clone(stream));
        let due = !self.around.timers.quiet(&stream, now_ms());
        let looked = due.then(|| self.submit(|answer| Op::Open(stream.name().clone(), answer)));
        Box::pin(async move {
            if let Some(looked) = looked {
                match looked.await {
                    Ok(found) if found.epoch() == stream.epoch() => {}
                    Ok(_) | Err(OpenError::NotFound | OpenError::Gone) => return Err(ReadError::NotFound),
                    Err(OpenError::Unavailable(why)) => return Err(why.into()),
                }
            }
            readers.read(stream, from, limit).await
        })
    }

    fn delete(&self, stream: &Arc<Stream>) -> Pending<Result<(), OpenError>> {
        self.submit(|answer| Op::Delete(Arc::clone(stream), answer))
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Pending<Result<Listing, Unavailable>> {
        let (readers, timers) = (self.readers.clone(), Arc::clone(&self.around.timers));
        let streams = self.around.streams.clone();
        let (prefix, after) = (prefix.to_owned(), after.map(ToOwned::to_owned));
        Box::pin(async move { readers.list(streams, timers, prefix, after, limit).await })
    }

    fn renew(&self, stream: &Arc<Stream>) {
        self.around.timers.renew(stream, now_ms());
    }

    fn stats(&self) -> Option<EngineStats> {
        let (queue_ops, queue_bytes) = self.queue.waits();
        Some(EngineStats { queue_ops, queue_bytes, ..self.meters.stats() })
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer has ended by a panic");
        }
    }
}

impl fmt::Debug for EmbeddedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedEngine").finish_non_exhaustive()
    }
}
