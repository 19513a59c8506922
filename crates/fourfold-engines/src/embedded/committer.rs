//! The one thread that changes anything: takes what is waiting, judges it in order, writes one batch, makes it durable, and only
//! then tells anybody. What arrives during one sync rides on the next.

use std::{
    fs::File,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fourfold_protocol::StreamName;
use fourfold_stream::{
    Append, AppendError, Appended, Create, CreateError, Created, OpenError, Stream, Unavailable, stages::Moment,
};

use super::{
    Durability,
    disk::Disk,
    group::{Answer, Group, Judged, Room},
    ledger::{Around, Ledger},
    mark::Mark,
    meters::Meters,
    queue::Queue,
    recovery,
    store::{Shelf, Store, Write, unavailable},
    sweep::Sweep,
};
use crate::rules::SWEEP_EVERY;

/// A write is in the journal, in a table, and in a table that takes its place.
const COPIES: u64 = 3;

/// How often the mark follows the log. What it cannot tell is the loss of the last groups before a crash.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// After a failed attempt to open the store again, so long until the next.
const REOPEN_EVERY: Duration = Duration::from_millis(500);

/// What the committer does for callers.
pub(crate) enum Op {
    Create(StreamName, Create, Answer<Result<Created, CreateError>>),
    Open(StreamName, Answer<Result<Arc<Stream>, OpenError>>),
    Append(Arc<Stream>, Append, Answer<Result<Appended, AppendError>>),
    Delete(Arc<Stream>, Answer<Result<(), OpenError>>),
}

pub(crate) struct Committer {
    pub(crate) queue: Arc<Queue<Op>>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) around: Around,
    pub(crate) durability: Durability,
    pub(crate) mark: Mark,
    pub(crate) ledger: Ledger,
    pub(crate) sweep: Sweep,
    /// The number of the last group written.
    pub(crate) written: u64,
    /// The number of the last group that is on the disk for certain.
    pub(crate) synced: u64,
    /// Refuse when less than this is free; `None` reckons it. For tests that want to see a write fail.
    pub(crate) reserve: Option<u64>,
    pub(crate) meters: Arc<Meters>,
}

impl Committer {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _last = Last(Arc::clone(&self.queue));
        let (mut swept, mut marked, mut synced_at) = (Instant::now(), Instant::now(), Instant::now());
        let mut marked_upto = self.synced;
        let mut more = true;
        loop {
            let wake = match self.durability {
                _ if more => Instant::now(),
                // What was written last must not wait for the sweep.
                Durability::Interval(every) if self.synced < self.written => {
                    (synced_at + every).min(swept + SWEEP_EVERY)
                }
                _ => swept + SWEEP_EVERY,
            };
            let Some(ops) = self.queue.group(wake) else { break };
            let sweeping = more || swept.elapsed() >= SWEEP_EVERY;
            if sweeping {
                swept = Instant::now();
            }
            if !ops.is_empty() || sweeping {
                more = self.commit(ops, sweeping);
            }
            if let Durability::Interval(every) = self.durability
                && synced_at.elapsed() >= every
            {
                synced_at = Instant::now();
                if let Ok(store) = self.shelf.get() {
                    self.sync(&store);
                }
            }
            if marked.elapsed() >= MARK_EVERY && self.synced > marked_upto {
                (marked, marked_upto) = (Instant::now(), self.synced);
                self.set_mark();
            }
        }
        self.commit(Vec::new(), true);
        self.end();
    }

    /// Whether the sweep has more to do at once.
    fn commit(&mut self, ops: Vec<Op>, sweeping: bool) -> bool {
        let taken = Moment::now();
        let bytes = ops.iter().map(Op::bytes).sum::<usize>() as u64;
        let records = ops.iter().map(Op::records).sum::<usize>() as u64;
        let room = self.room(bytes);
        let store = match self.shelf.get() {
            Ok(store) => store,
            Err(why) => {
                ops.into_iter().for_each(|op| op.refuse(&why));
                return false;
            }
        };
        let mut group = Group::new(&mut self.ledger, &self.around, &store, room.clone());
        let mut more = false;
        for op in ops {
            match op {
                Op::Create(name, wish, answer) => group.create(&name, wish, answer),
                Op::Open(name, answer) => group.open(&name, answer),
                Op::Append(stream, append, answer) => {
                    append.stages.taken(taken);
                    group.append(stream, append, answer);
                }
                Op::Delete(stream, answer) => group.delete(&stream, answer),
            }
        }
        if sweeping && !matches!(room, Room::Frozen(_)) {
            match self.sweep.slice(&mut group) {
                Ok(left) => more = left,
                Err(error) => tracing::error!(%error, "a sweep stopped"),
            }
        }
        let ended = group.ended();
        let Judged { writes, changes } = group.judged();
        let written = self.write(&store, writes);
        let _rung_at_the_end = self.around.streams.batch();
        match written {
            Ok(()) => {
                if records > 0 {
                    self.meters.group_records.add(records);
                }
                if sweeping {
                    self.weigh(&store);
                }
                changes.done(&mut self.ledger);
                if ended {
                    self.sweep.stir();
                }
                more
            }
            Err(why) => {
                changes.failed(&why);
                self.sweep.failed();
                false
            }
        }
    }

    /// Makes a group as durable as promised.
    fn write(&mut self, store: &Store, writes: Vec<Write>) -> Result<(), Unavailable> {
        if writes.is_empty() {
            return Ok(());
        }
        let number = self.written + 1;
        if let Err(error) = store.write(number, writes) {
            tracing::error!(dir = %self.shelf.dir().display(), %error, "a write failed: appends are refused until it can be mended");
            return Err(match unavailable(&error) {
                Unavailable::Failed(_) if self.short(0, store) => Unavailable::Full,
                why => why,
            });
        }
        self.written = number;
        if self.durability == Durability::Synced {
            self.sync(store);
        }
        store.publish();
        Ok(())
    }

    fn sync(&mut self, store: &Store) {
        if self.synced == self.written {
            return;
        }
        let begun = Instant::now();
        let synced = match store.sync() {
            // A background worker has failed, not this sync, which fjall has left out: do it ourselves.
            Err(fjall::Error::Poisoned) => recovery::journals(self.shelf.dir())
                .and_then(|journals| journals.iter().try_for_each(|path| File::open(path)?.sync_data()))
                .map_err(fjall::Error::Io),
            other => other,
        };
        if let Err(error) = synced {
            // What the kernel could not write it may have dropped: a second sync would succeed and mean nothing.
            tracing::error!(dir = %self.shelf.dir().display(), %error, "a sync failed: ending at once, nothing unsynced was acknowledged");
            process::abort();
        }
        self.meters.sync_micros.add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.synced = self.written;
    }

    /// What can be written now. Opens a store again whose writes have failed, as soon as there is room.
    fn room(&mut self, bytes: u64) -> Room {
        let Ok(store) = self.shelf.get() else {
            return match self.reopen() {
                Ok(()) => Room::Plenty,
                Err(why) => Room::Frozen(why),
            };
        };
        let short = self.short(bytes, &store);
        match (store.ready(), short) {
            (true, false) => Room::Plenty,
            (true, true) => Room::Full,
            (false, true) => Room::Frozen(Unavailable::Full),
            (false, false) => {
                drop(store);
                match self.reopen() {
                    Ok(()) => Room::Plenty,
                    Err(why) => Room::Frozen(why),
                }
            }
        }
    }

    /// Whether the disk has too little room for so many bytes more.
    fn short(&self, bytes: u64, store: &Store) -> bool {
        let Ok(disk) = Disk::of(self.shelf.dir()) else { return false };
        let needed = self.reserve.unwrap_or_else(|| {
            disk.reserve().saturating_add(store.unwritten()).saturating_add(bytes.saturating_mul(COPIES))
        });
        disk.free < needed
    }

    /// For whoever watches; what cannot be told stays as it was.
    fn weigh(&self, store: &Store) {
        if let Ok(bytes) = store.disk_bytes() {
            self.meters.disk_bytes.set(bytes);
        }
        if let Ok(disk) = Disk::of(self.shelf.dir()) {
            self.meters.disk_free_bytes.set(disk.free);
        }
    }

    fn reopen(&mut self) -> Result<(), Unavailable> {
        let (dir, written, durability) = (self.shelf.dir().to_owned(), self.written, self.durability);
        let opened = self.shelf.replace(|| recovery::reopen(&dir, written, durability).map(Some));
        let checked = match opened {
            Ok(()) => match self.shelf.get()?.last() {
                Ok(last) if last.unwrap_or(0) == written => Ok(()),
                Ok(last) => Err(format!("group {written} was the last one, but {last:?} is stored")),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = checked {
            tracing::error!(dir = %dir.display(), why, "the storage could not be opened again");
            thread::sleep(REOPEN_EVERY);
            return Err(Unavailable::Failed(why));
        }
        tracing::info!(dir = %dir.display(), "the storage is open again after a failed write");
        Ok(())
    }

    fn set_mark(&self) {
        if let Err(error) = self.mark.write(self.synced) {
            tracing::debug!(file = %self.mark.path().display(), %error, "the mark was not written");
        }
    }

    /// Closes the store. A write that failed may be completed by that; it was refused and is taken back.
    fn end(mut self) {
        if let Ok(store) = self.shelf.get() {
            let poisoned = store.poisoned();
            self.sync(&store);
            drop(store);
            let Ok(()) = self.shelf.replace(|| Ok::<_, std::convert::Infallible>(None));
            if poisoned && let Err(error) = recovery::mend(self.shelf.dir(), 0, self.written, self.durability) {
                tracing::error!(%error, "the journal could not be mended at the end");
            }
        }
        self.set_mark();
    }
}

/// Whatever ends the committer, callers are answered.
struct Last(Arc<Queue<Op>>);

impl Drop for Last {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the committer has panicked: nothing can be appended until a restart");
        }
        self.0.abandon();
    }
}

impl Op {
    /// What it counts in the queue: its records, and about what it takes besides.
    pub(crate) fn bytes(&self) -> usize {
        const BESIDES: usize = 256;
        self.appended().iter().map(|record| record.len() + 32).fold(BESIDES, usize::saturating_add)
    }

    fn records(&self) -> usize {
        self.appended().len()
    }

    fn appended(&self) -> &[Bytes] {
        match self {
            Self::Create(_, wish, _) => &wish.records,
            Self::Append(_, append, _) => &append.records,
            Self::Open(..) | Self::Delete(..) => &[],
        }
    }

    fn refuse(self, why: &Unavailable) {
        let why = why.clone();
        // Whoever asked may have gone away.
        let _gone = match self {
            Self::Create(_, _, answer) => answer.send(Err(why.into())).is_err(),
            Self::Open(_, answer) => answer.send(Err(why.into())).is_err(),
            Self::Append(_, _, answer) => answer.send(Err(why.into())).is_err(),
            Self::Delete(_, answer) => answer.send(Err(why.into())).is_err(),
        };
    }
}
