//! Reads a backup into an empty directory. Nothing of it can be opened before all of it was checked.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Counts, Summary,
    frame::{BROKEN_OFF, END, ENTRIES, FrameReader, HEAD, Unreadable},
    segments,
};
use crate::embedded::{
    OpenFailure, keys,
    keys::{COMMIT, SPACES, Space},
    mark::RESTORING,
    meta, recovery,
    store::{Store, Write},
};

/// So many bytes are written and synced at a time.
const BATCH_BYTES: usize = 8 << 20;

/// Why nothing was restored. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Another file.
    #[error("this is no backup: it does not begin as one")]
    NoBackup,
    /// From the future.
    #[error("the backup has version {0}, this program reads version {version}: use the one that made it", version = super::frame::VERSION)]
    Version(u32),
    /// Of another layout of the streams.
    #[error("the backup holds streams of format {0}, this program reads format {format}: use the one that made it", format = meta::FORMAT)]
    Format(u64),
    /// It is not whole.
    #[error("the backup is cut off at byte {0}: it was not finished, or not copied whole; use another")]
    Truncated(u64),
    /// It says itself that it is not whole.
    #[error("the backup was broken off ({0}): use another")]
    BrokenOff(String),
    /// It is not what was written.
    #[error("the backup is damaged after entry {entries}, in what begins at byte {byte}: use another")]
    Damaged {
        /// So many entries before it are sound.
        entries: u64,
        /// From 0.
        byte: u64,
    },
    /// It cannot be read.
    #[error("the backup cannot be read: {0}")]
    Read(io::Error),
    /// Something is there.
    #[error("{} is not empty: restore into a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// The directory cannot be had.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// The streams in it cannot be understood.
    #[error("the streams in the backup cannot be read: {0}")]
    Streams(String),
    /// The streams cannot be written.
    #[error("{} cannot be written: {why}", dir.display())]
    Write {
        /// Where.
        dir: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub summary: Summary,
    /// How many streams were open: offsets that were handed out for them after the backup are of a former life from now on.
    pub reopened: u64,
}

/// Reads a backup to its end and checks all of it.
pub fn verify(from: &mut dyn Read) -> Result<Summary, RestoreError> {
    read(from, |_, _, _| Ok(()))
}

/// Restores a backup into `dir`, which is absent or empty. When this returns all of it was checked and is on the disk. If it fails the directory
/// is empty again; if the process ends meanwhile, an engine refuses to open it.
pub fn restore(from: &mut dyn Read, dir: &Path) -> Result<Restored, RestoreError> {
    let unwritable = |e| OpenFailure::Unwritable(dir.to_owned(), e);
    recovery::make(dir).map_err(unwritable)?;
    if entries(dir).map_err(unwritable)?.next().is_some() {
        return Err(RestoreError::NotEmpty(dir.to_owned()));
    }
    let mark = recovery::take(dir)?;
    let restored = fill(from, dir, &mark).and_then(|(summary, last, reopened)| {
        mark.write_synced(last).and_then(|()| synced(dir)).map_err(unwritable)?;
        Ok(Restored { summary, reopened })
    });
    if restored.is_err() {
        // It was empty, and nobody else can have it open.
        for path in entries(dir).into_iter().flatten() {
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
    restored
}

/// Returns the number of the last group written, and how many streams were given a new life.
fn fill(from: &mut dyn Read, dir: &Path, mark: &super::super::mark::Mark) -> Result<(Summary, u64, u64), RestoreError> {
    let unwritable = |e: io::Error| RestoreError::Open(OpenFailure::Unwritable(dir.to_owned(), e));
    let failed = |e: fjall::Error| RestoreError::Write { dir: dir.to_owned(), why: e.to_string() };
    // Until the end, so that nobody takes a part for the whole.
    mark.write_synced(RESTORING).and_then(|()| synced(dir)).map_err(unwritable)?;
    let store = Store::open(dir).map_err(failed)?;
    let mut batches = Batches { store: &store, dir, number: 0, writes: Vec::new(), bytes: 0 };
    let summary = read(from, |space, key, value| batches.put(space, key, value))?;
    batches.write()?;
    let reopened = segments::begin(&store, |space, key, value| batches.put(space, key, value))?;
    batches.write()?;
    let last = batches.number;
    drop(store);
    Ok((summary, last, reopened))
}

/// What is restored, on its way to the disk.
struct Batches<'a> {
    store: &'a Store,
    dir: &'a Path,
    number: u64,
    writes: Vec<Write>,
    bytes: usize,
}

impl Batches<'_> {
    fn put(&mut self, space: Space, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        self.bytes += key.len() + value.len() + size_of::<Write>();
        self.writes.push(Write { space, key: key.to_vec(), value: Some(value.to_vec()) });
        if self.bytes >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), RestoreError> {
        let failed = |why: String| RestoreError::Write { dir: self.dir.to_owned(), why };
        if !self.store.ready() {
            return Err(failed("the storage has stopped; is the disk full?".into()));
        }
        self.number += 1;
        self.bytes = 0;
        let written = self.store.write(self.number, std::mem::take(&mut self.writes)).and_then(|()| self.store.sync());
        self.store.publish();
        written.map_err(|e| failed(e.to_string()))
    }
}

/// Reads all of a backup, entry by entry. What an entry says is not to be believed before this has returned.
fn read(
    from: &mut dyn Read,
    mut entry: impl FnMut(Space, &[u8], &[u8]) -> Result<(), RestoreError>,
) -> Result<Summary, RestoreError> {
    let mut counts = Counts::default();
    let total = |counts: &Counts| counts.iter().map(|(entries, _)| entries).sum::<u64>();
    let told = |why: Unreadable, counts: &Counts| match why {
        Unreadable::NoBackup => RestoreError::NoBackup,
        Unreadable::Version(version) => RestoreError::Version(version),
        Unreadable::Truncated(at) => RestoreError::Truncated(at),
        Unreadable::Damaged(byte) => RestoreError::Damaged { entries: total(counts), byte },
        Unreadable::Io(error) => RestoreError::Read(error),
    };
    let mut frames = FrameReader::begin(from).map_err(|why| told(why, &counts))?;
    let mut head = None;
    loop {
        let byte = frames.bytes;
        let damaged = |counts: &Counts| RestoreError::Damaged { entries: total(counts), byte };
        let (kind, payload) = frames.frame().map_err(|why| told(why, &counts))?;
        match (kind, head) {
            (HEAD, None) => head = Some(read_head(payload).map_err(|why| why.unwrap_or_else(|| damaged(&counts)))?),
            (BROKEN_OFF, _) => return Err(RestoreError::BrokenOff(String::from_utf8_lossy(payload).into_owned())),
            (ENTRIES, Some(_)) => read_entries(payload, &mut counts, &mut entry)?.ok_or_else(|| damaged(&counts))?,
            (END, Some((group, made_at_ms))) => {
                let said = payload.chunks(16).map(|count| {
                    count.split_at_checked(8).and_then(|(a, b)| Some((keys::number(a)?, keys::number(b)?)))
                });
                if !said.eq(counts.iter().map(|count| Some(*count))) {
                    return Err(damaged(&counts));
                }
                frames.ended().map_err(|why| told(why, &counts))?;
                let (streams, records) = (counts[Space::Names as usize].0, counts[Space::Records as usize].0);
                let (bytes, digest) = (frames.bytes, frames.check);
                return Ok(Summary { group, made_at_ms, streams, records, bytes, digest });
            }
            _ => return Err(damaged(&counts)),
        }
    }
}

/// The group and the time. An error without a reason is damage.
fn read_head(payload: &[u8]) -> Result<(u64, u64), Option<RestoreError>> {
    let (numbers, mut names) = payload.split_at_checked(24).ok_or(None)?;
    let number = |at: usize| keys::number(&numbers[at..at + 8]).expect("eight bytes");
    if number(0) != meta::FORMAT {
        return Err(Some(RestoreError::Format(number(0))));
    }
    for expected in SPACES {
        let (length, rest) = names.split_first().ok_or(None)?;
        let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(None)?;
        if name != expected.as_bytes() {
            return Err(None);
        }
        names = rest;
    }
    if names.is_empty() { Ok((number(8), number(16))) } else { Err(None) }
}

/// `None` if it does not come out even.
fn read_entries(
    payload: &[u8],
    counts: &mut Counts,
    entry: &mut impl FnMut(Space, &[u8], &[u8]) -> Result<(), RestoreError>,
) -> Result<Option<()>, RestoreError> {
    let Some((space, mut rest)) = payload.split_first() else { return Ok(None) };
    let Some(space) = Space::of(*space) else { return Ok(None) };
    let count = &mut counts[space as usize];
    while !rest.is_empty() {
        let Some((key, value, after)) = split(rest) else { return Ok(None) };
        if space == Space::Meta && key == COMMIT {
            return Ok(None);
        }
        entry(space, key, value)?;
        *count = (count.0 + 1, count.1 + (key.len() + value.len()) as u64);
        rest = after;
    }
    Ok(Some(()))
}

fn split(from: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lengths, rest) = from.split_at_checked(6)?;
    let key = usize::from(u16::from_be_bytes(lengths[..2].try_into().ok()?));
    let value = usize::try_from(u32::from_be_bytes(lengths[2..].try_into().ok()?)).ok()?;
    let (key, rest) = rest.split_at_checked(key)?;
    let (value, rest) = rest.split_at_checked(value)?;
    Some((key, value, rest))
}

/// What is in it; a filesystem's own directory does not count.
fn entries(dir: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter(|entry| entry.file_name() != "lost+found").map(|entry| entry.path()))
}

/// The directory and its own entry survive a loss of power.
fn synced(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    match dir.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
