//! What keeps the logs, and what it promises.
//!
//! Nothing above this trait knows which engine it has. One contract suite (`fourfold-engines/tests`) runs on every engine.
//! To add one: implement [`Engine`], decide appends by [`crate::admission`], publish through
//! [`Stream::advance`](crate::Stream::advance) only what a crash cannot take back, and pass that suite.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use fourfold_protocol::{Epoch, Offset, Record, Segment, StreamName};

use crate::{
    Stages, Stream, Streams,
    fork::{Fork, ForkWish},
    meter::Distribution,
};

/// A future that an engine hands out; boxed, so that a server holds any engine as `Arc<dyn Engine>`.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Keeps streams.
///
/// **Order.** The order of calls to [`append`](Self::append) on one stream is the order of the appends: a call takes its place
/// in the queue before it returns the future. Dropping the future does not take the append back.
///
/// **Durability.** A future of `create`, `append` or `delete` resolves once a crash (of the kind that the engine's durability mode names) cannot
/// take the change back. Only then the stream's tail moves and sleepers wake.
pub trait Engine: Send + Sync + 'static {
    /// Creates a stream, or finds that it exists with the same configuration. A fork keeps its source's records readable for itself, whatever
    /// becomes of the source; none are copied.
    fn create(&self, name: &StreamName, wish: Create) -> Pending<Result<Created, CreateError>>;

    /// The hot handle of a stream. The same handle for everybody while anybody holds it.
    ///
    /// Finds neither deleted nor expired streams. Does not count as a use for the stream's TTL, see [`renew`](Self::renew).
    fn open(&self, name: &StreamName) -> Pending<Result<Arc<Stream>, OpenError>>;

    /// Appends all records or none, moves the producer's state and closes, in one atomic step. Counts as a use.
    fn append(&self, stream: &Arc<Stream>, append: Append) -> Pending<Result<Appended, AppendError>>;

    /// Records from position `from` on, in order: at least one if there is any before the visible tail, however large it is;
    /// beyond that at most what `limit` says. Never past [`Stream::tail`]. Positions may have holes.
    ///
    /// Does not count as a use.
    fn read(&self, stream: &Arc<Stream>, from: u64, limit: Limit) -> Pending<Result<Batch, ReadError>>;

    /// Deletes the stream with its records. Cursors on it end as [`Ended::Deleted`](crate::Ended::Deleted).
    ///
    /// With forks of it alive the name stays taken ([`OpenError::Gone`]) and the records that they show stay, until the last one has gone.
    /// The same when it expires.
    fn delete(&self, stream: &Arc<Stream>) -> Pending<Result<(), OpenError>>;

    /// Streams in byte order of their names, without those that have expired or are gone.
    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Pending<Result<Listing, Unavailable>>;

    /// Counts as a use: a stream with a TTL begins its countdown again. Cheap, never waits; survives a restart to within
    /// a tenth of the TTL.
    fn renew(&self, stream: &Arc<Stream>);

    /// The streams that are hot.
    fn streams(&self) -> &Streams;

    /// What it has done and what it has before it, for whoever watches the server; `None` where there is nothing to tell. Cheap, never waits.
    fn stats(&self) -> Option<EngineStats> {
        None
    }
}

/// An engine at a moment: sums since it was opened, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Groups by how many records they made durable at one go.
    pub group_records: Distribution,
    /// How long each sync took, in microseconds.
    pub sync_micros: Distribution,
    /// Operations that wait.
    pub queue_ops: u64,
    /// The bytes in them.
    pub queue_bytes: u64,
    /// What the streams take on the disk, in bytes.
    pub disk_bytes: u64,
    /// What is free on that disk, in bytes.
    pub disk_free_bytes: u64,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// In order.
    pub records: Vec<Record>,
    /// Where to read on: after the last record, or `from` if there is none.
    pub next: u64,
}

/// Bounds of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// At most so many records.
    pub records: usize,
    /// Stop before the record that would take the sum of the records' bytes past this, except the first.
    pub bytes: usize,
}

/// What a stream was created with. Immutable, but for a content type that is decided later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamConfig {
    /// The media type as given at creation. Empty while it is undecided, see [`Append::content_type`].
    pub content_type: String,
    /// Seconds without a use after which the stream expires.
    pub ttl_seconds: Option<u64>,
    /// When the stream expires whatever happens, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// What may be dropped.
    pub retention: Retention,
    /// When it was created, in milliseconds since the Unix epoch. For people; ordering uses the epoch.
    pub created_at_ms: u64,
    /// Where it comes from, if it is a fork.
    pub forked: Option<Box<Fork>>,
    /// What its creator wrote about it, for itself: clients never see it.
    pub note: Option<String>,
    /// Where it was restored from a backup, and of which life its records are from there on. What was handed out behind that place before,
    /// and was lost, belongs to none of its lives.
    pub restored: Vec<Segment>,
}

/// What a stream keeps at most: whole records are dropped from the old end as soon as one of these is passed, but never
/// the newest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Drop records older than so many seconds.
    pub age_seconds: Option<u64>,
    /// Keep at most so many bytes of records.
    pub bytes: Option<u64>,
    /// Keep at most so many records.
    pub records: Option<u64>,
}

/// A wish to create a stream.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// The media type. Empty leaves it undecided until an append says it. Of a fork it is the source's; empty if that is not checked.
    pub content_type: String,
    /// See [`StreamConfig::ttl_seconds`].
    pub ttl_seconds: Option<u64>,
    /// See [`StreamConfig::expires_at_ms`].
    pub expires_at_ms: Option<u64>,
    /// As asked for; `None` in a field takes the engine's default and matches whatever an existing stream has.
    pub retention: Retention,
    /// The first records.
    pub records: Vec<Bytes>,
    /// Whether the stream is closed from the start.
    pub closed: bool,
    /// To begin with the records of another stream. What is `None` above is then as the source has it.
    pub fork: Option<ForkWish>,
    /// See [`StreamConfig::note`]; at most [`NOTE_BYTES_MAX`]. Of a stream that exists it is not compared.
    pub note: Option<String>,
}

/// The longest note and ending of a stream, in bytes each: they are in memory with the stream.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// A stream was created, or was there.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its handle.
    pub stream: Arc<Stream>,
    /// False if it existed with the same configuration; nothing was appended then.
    pub fresh: bool,
}

/// Something to append.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// In order; may be empty only with `close` or `content_type`.
    pub records: Vec<Bytes>,
    /// Spec: "Idempotent Producers".
    pub producer: Option<Producer>,
    /// `Stream-Seq`: must be greater, as bytes, than the last one of the stream.
    pub seq: Option<String>,
    /// Close the stream after the records.
    pub close: bool,
    /// Decides the media type of a stream that was created without one and has no records yet; any other stream ignores it.
    pub content_type: Option<String>,
    /// With `close`: how what the stream tells of has ended, a JSON object of at most [`NOTE_BYTES_MAX`]. Told wherever the end is told.
    pub ending: Option<Arc<str>>,
    /// Where the engine notes how far it has come.
    pub stages: Stages,
}

/// Who appends, and the how-manieth append of theirs this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Stable over restarts of the producer. Not empty.
    pub id: String,
    /// Grows with each restart.
    pub epoch: u64,
    /// From 0 in each epoch, one more for each append.
    pub seq: u64,
}

/// What an append did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The tail after it; for a duplicate the present tail.
    pub next: u64,
    /// Whether the stream is closed now.
    pub closed: bool,
    /// The producer had sent this before; nothing was appended.
    pub duplicate: bool,
    /// The producer's epoch and greatest accepted sequence, if there was a producer.
    pub producer: Option<(u64, u64)>,
}

/// A page of streams.
#[derive(Clone, Debug)]
pub struct Listing {
    /// In byte order of names.
    pub streams: Vec<Listed>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// A stream in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: StreamName,
    /// Its life.
    pub epoch: Epoch,
    /// What it was created with.
    pub config: Arc<StreamConfig>,
    /// The position of the oldest record kept.
    pub oldest: u64,
    /// The tail.
    pub tail: u64,
    /// The bytes of the records kept; of a fork those of its own, and what its retention counts of its source's.
    pub bytes: u64,
    /// Whether it is closed.
    pub closed: bool,
    /// See [`Append::ending`].
    pub ending: Option<Arc<str>>,
}

/// The engine cannot do it now.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unavailable {
    /// No room on the disk; nothing was changed. Try again when there is room.
    #[error("the disk is full")]
    Full,
    /// Too much is queued already; nothing was changed. Try again soon.
    #[error("too many appends are waiting")]
    Overloaded,
    /// The engine failed; the text says how. Whether the change was made is not known.
    #[error("the engine failed: {0}")]
    Failed(String),
}

/// Why a stream was not created.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CreateError {
    /// It exists, and differs in what the text names.
    #[error("the stream exists with another {0}")]
    Conflict(&'static str),
    /// It was deleted or has expired, and forks of it live.
    #[error("the stream is gone, but forks of it live")]
    Gone,
    /// It cannot be forked from there.
    #[error(transparent)]
    Fork(#[from] ForkError),
    /// See there.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a stream was not forked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ForkError {
    /// There is no such source.
    #[error("there is no such source")]
    NotFound,
    /// The source was deleted or has expired, and other forks of it live.
    #[error("the source is gone")]
    Gone,
    /// The fork was to have another content type than the source.
    #[error("the source's content type is {0}")]
    ContentType(String),
    /// The offset was never handed out for the source.
    #[error("the offset belongs to another stream")]
    AnotherEpoch,
    /// The offset lies past the source's tail.
    #[error("the offset lies past the source's tail {tail}")]
    PastTail {
        /// Where the source ends.
        tail: Offset,
    },
    /// Retention has dropped the source's records there.
    #[error("the source's records before {oldest} were dropped")]
    Trimmed {
        /// The oldest record that the source keeps.
        oldest: Offset,
    },
    /// The sub-offset names more than there is.
    #[error("the sub-offset goes {0}")]
    SubOffset(&'static str),
    /// The source is a fork of a fork, and so on, too often.
    #[error("the chain of forks is too long")]
    TooDeep,
}

/// Why a stream was not opened.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// Never created, deleted, or expired.
    #[error("there is no such stream")]
    NotFound,
    /// Deleted or expired, and forks of it live.
    #[error("the stream is gone, but forks of it live")]
    Gone,
    /// See there.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why nothing was appended.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AppendError {
    /// The stream was deleted or has expired.
    #[error("there is no such stream")]
    NotFound,
    /// Closed at this tail.
    #[error("the stream is closed")]
    Closed {
        /// The final tail.
        tail: u64,
    },
    /// `Stream-Seq` did not grow.
    #[error("the sequence does not grow: the last one was {last:?}")]
    SequenceRegression {
        /// The last one accepted.
        last: String,
    },
    /// The producer's epoch is over.
    #[error("the producer's epoch is over, the present one is {current}")]
    StaleEpoch {
        /// The present one.
        current: u64,
    },
    /// A new epoch must start at sequence 0.
    #[error("a new producer epoch starts at sequence 0")]
    EpochStart,
    /// Appends are missing in between.
    #[error("the producer's sequence has a hole: expected {expected}, received {received}")]
    ProducerGap {
        /// The next one that would be accepted.
        expected: u64,
        /// The one that came.
        received: u64,
    },
    /// See there.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why nothing was read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// The stream was deleted or has expired.
    #[error("there is no such stream")]
    NotFound,
    /// Retention has passed `from`.
    #[error("the records before {oldest} were dropped")]
    Trimmed {
        /// The oldest position kept.
        oldest: u64,
    },
    /// See there.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
