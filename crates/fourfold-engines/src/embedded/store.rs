//! fjall's handles, all together, so that they can be dropped and opened again without a restart.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot,
    UserValue,
};
use fourfold_stream::Unavailable;

use super::{
    journal::Sum,
    keys::{COMMIT, SPACES, Space},
};

/// Written out at this size. Small, so that a small disk can hold what is not written out yet; large enough that 16 MiB of
/// records become one table.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;

/// The other keyspaces are small values under few keys.
const SMALL_MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;

/// fjall's own minimum: it writes out what holds back the oldest journal beyond it.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;

/// Blocks of tables that were read lately. Recent records are kept above the engine, so that this serves catching up.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// fjall makes a commit wait for ever at 4 sealed memtables or 30 runs if its workers have died meanwhile. We wait before that, with
/// our eyes open.
const SEALED_MAX: usize = 3;
const RUNS_MAX: usize = 26;

/// One write of a group.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) space: Space,
    pub(crate) key: Vec<u8>,
    /// `None` removes the key.
    pub(crate) value: Option<Vec<u8>>,
}

/// An open database.
pub(crate) struct Store {
    db: Database,
    spaces: Vec<Keyspace>,
    /// What was durable at the last commit: for those who look without asking the committer.
    durable: Mutex<Snapshot>,
}

impl Store {
    pub(crate) fn open(dir: &Path) -> fjall::Result<Self> {
        let db = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .max_journaling_size(JOURNALS_BYTES)
            .worker_threads(2)
            .open()?;
        let spaces = SPACES
            .iter()
            .map(|name| {
                let size = if *name == "records" { MEMTABLE_BYTES } else { SMALL_MEMTABLE_BYTES };
                db.keyspace(name, || {
                    KeyspaceCreateOptions::default().max_memtable_size(size).manual_journal_persist(true)
                })
            })
            .collect::<fjall::Result<_>>()?;
        let durable = Mutex::new(db.snapshot());
        Ok(Self { db, spaces, durable })
    }

    pub(crate) fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    /// In the order of [`SPACES`].
    pub(crate) fn spaces(&self) -> &[Keyspace] {
        &self.spaces
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> fjall::Result<Option<UserValue>> {
        self.space(space).get(key)
    }

    /// The state after the last group that was made durable.
    pub(crate) fn durable(&self) -> Snapshot {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A background worker or a write has failed: nothing can be written until the store is opened again.
    pub(crate) fn poisoned(&self) -> bool {
        self.db.persist(PersistMode::Buffer).is_err()
    }

    /// What is in memory and has to find room on the disk yet.
    pub(crate) fn unwritten(&self) -> u64 {
        self.db.write_buffer_size()
    }

    /// What it takes on the disk. For the committer: it waits for what commits wait for.
    pub(crate) fn disk_bytes(&self) -> fjall::Result<u64> {
        self.db.disk_space()
    }

    /// Waits until a commit would not be made to wait by fjall. False if the store is poisoned.
    pub(crate) fn ready(&self) -> bool {
        loop {
            if self.poisoned() {
                return false;
            }
            let busy = self
                .spaces
                .iter()
                .any(|space| space.sealed_memtable_count() >= SEALED_MAX || space.tree.l0_run_count() >= RUNS_MAX);
            if !busy {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Writes a group to the operating system. An error: nothing of it is visible, nor will be once it has been opened again.
    pub(crate) fn write(&self, number: u64, writes: Vec<Write>) -> fjall::Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        let mut sum = Sum::new(number);
        for Write { space, key, value } in writes {
            sum = sum.item(value.is_some(), &key, value.as_deref().unwrap_or_default());
            match value {
                Some(value) => batch.insert(self.space(space), key, value),
                None => batch.remove(self.space(space), key),
            }
        }
        batch.insert(self.space(Space::Meta), COMMIT, sum.commit(number));
        batch.commit()
    }

    /// The number of the last group in here.
    pub(crate) fn last(&self) -> fjall::Result<Option<u64>> {
        let value = self.get(Space::Meta, COMMIT)?;
        Ok(value.and_then(|value| super::keys::number(value.get(..8)?)))
    }

    pub(crate) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncData)
    }

    /// From now on others see what has been written.
    pub(crate) fn publish(&self) {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = self.db.snapshot();
    }
}

/// The place of the open store: empty while it is being opened again and after the end.
pub(crate) struct Shelf {
    dir: PathBuf,
    store: RwLock<Option<Arc<Store>>>,
    /// Whoever uses it for long should let go of it.
    wanted: AtomicBool,
}

impl Shelf {
    pub(crate) fn new(dir: PathBuf, store: Store) -> Self {
        Self { dir, store: RwLock::new(Some(Arc::new(store))), wanted: AtomicBool::new(false) }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the store is to be given back at once.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(SeqCst)
    }

    /// The store, to be given back soon. Waits while it is being opened again.
    pub(crate) fn get(&self) -> Result<Arc<Store>, Unavailable> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.clone().ok_or_else(|| Unavailable::Failed("the storage is not open".into()))
    }

    /// Drops the store, waiting for those who use it, and puts there what `open` gives.
    pub(crate) fn replace<E>(&self, open: impl FnOnce() -> Result<Option<Store>, E>) -> Result<(), E> {
        let mut place = self.store.write().unwrap_or_else(PoisonError::into_inner);
        self.wanted.store(true, SeqCst);
        let mut old = place.take();
        while let Some(shared) = old {
            old = match Arc::try_unwrap(shared) {
                Ok(store) => {
                    drop(store);
                    None
                }
                Err(shared) => {
                    thread::sleep(Duration::from_millis(1));
                    Some(shared)
                }
            };
        }
        let opened = open();
        self.wanted.store(false, SeqCst);
        *place = opened?.map(Arc::new);
        Ok(())
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What a failed read or write means to a caller.
pub(crate) fn unavailable(error: &fjall::Error) -> Unavailable {
    match error {
        fjall::Error::Io(e) if super::disk::is_full(e) => Unavailable::Full,
        other => Unavailable::Failed(other.to_string()),
    }
}

/// A value that is there but cannot be understood.
pub(crate) fn damaged(what: &str) -> Unavailable {
    Unavailable::Failed(format!("a stored {what} is damaged: restore the directory from a backup"))
}

/// Reads through a snapshot.
pub(crate) fn get_at(store: &Store, at: &Snapshot, space: Space, key: &[u8]) -> Result<Option<UserValue>, Unavailable> {
    at.get(store.space(space), key).map_err(|e| unavailable(&e))
}
