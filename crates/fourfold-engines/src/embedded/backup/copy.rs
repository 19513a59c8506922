//! Writes a backup from a snapshot, while the committer goes on.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fjall::Readable;
use fourfold_stream::Unavailable;

use super::{
    Counts, Summary,
    frame::{BROKEN_OFF, END, ENTRIES, FrameWriter, HEAD},
};
use crate::{
    embedded::{
        Durability, OpenFailure,
        keys::{COMMIT, SPACES, Space},
        meta, recovery,
        store::{Shelf, Store},
    },
    rules::now_ms,
};

/// A frame is written once it has so many bytes. A backup holds about twice as much in memory, or its largest record.
const PAYLOAD_BYTES: usize = 256 << 10;

/// Whoever takes nothing for so long is given up: a backup under way keeps old data on the disk.
const STALLED_MAX: Duration = Duration::from_secs(30);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// There is nothing to copy.
    #[error("there are no streams in {0}")]
    Nothing(String),
    /// The streams cannot be read.
    #[error("the streams cannot be read: {0}")]
    Read(String),
    /// Whoever takes it has gone, or takes nothing any more.
    #[error("it cannot be written: {0}")]
    Write(io::Error),
    /// The server ends, or opens its storage again after a failed write.
    #[error("the server closes its storage: make the backup again")]
    Closing,
}

/// Makes backups of an open engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backups {
    shelf: Arc<Shelf>,
}

impl Backups {
    pub(in crate::embedded) fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf }
    }

    /// Writes a backup of what is durable now: of everything that was acknowledged before this call. Blocks until it is written.
    ///
    /// `out` may answer `WouldBlock` or `TimedOut`; it is asked again for a while. If this fails, what was written says so, if it can still be said.
    pub fn write(&self, out: &mut dyn Write) -> Result<Summary, BackupError> {
        let store = self.shelf.get().map_err(|why| BackupError::Read(why.to_string()))?;
        let closing = || self.shelf.is_wanted();
        write(&store, &closing, out)
    }
}

/// Writes a backup of a directory that no process has open.
pub fn copy_of(dir: &Path, out: &mut dyn Write) -> Result<Summary, BackupError> {
    if !dir.join("version").exists() {
        return Err(BackupError::Nothing(dir.display().to_string()));
    }
    let mark = recovery::take(dir)?;
    let opened = recovery::open(dir, &mark, Durability::Synced)?;
    write(&opened.store, &|| false, out)
}

fn write(store: &Store, closing: &dyn Fn() -> bool, out: &mut dyn Write) -> Result<Summary, BackupError> {
    let mut out = BufWriter::with_capacity(PAYLOAD_BYTES, Patient { out, closing, gave_up: false });
    let mut frames = FrameWriter::begin(&mut out).map_err(BackupError::Write)?;
    let copied = copy(store, closing, &mut frames);
    if let Err(why) = &copied {
        // Whoever reads it learns it anyway, from the missing end.
        let _ = frames.frame(BROKEN_OFF, why.to_string().as_bytes());
    }
    let flushed = out.flush();
    match (copied, flushed) {
        (_, Err(_)) if closing() => Err(BackupError::Closing),
        (Ok(_), Err(error)) => Err(BackupError::Write(error)),
        (copied, _) => copied,
    }
}

fn copy(store: &Store, closing: &dyn Fn() -> bool, frames: &mut FrameWriter<'_>) -> Result<Summary, BackupError> {
    let unreadable = |error: fjall::Error| BackupError::Read(error.to_string());
    let made_at_ms = now_ms();
    let at = store.durable();
    let last = at.get(store.space(Space::Meta), COMMIT).map_err(unreadable)?;
    let group = last.and_then(|value| super::super::keys::number(value.get(..8)?)).unwrap_or(0);
    frames.frame(HEAD, &head(group, made_at_ms)).map_err(BackupError::Write)?;
    let mut counts = Counts::default();
    let mut payload = Vec::with_capacity(2 * PAYLOAD_BYTES);
    for (space, count) in (0_u8..).zip(&mut counts) {
        payload.clear();
        for entry in at.iter(&store.spaces()[usize::from(space)]) {
            let (key, value) = entry.into_inner().map_err(unreadable)?;
            if space == Space::Meta as u8 && *key == *COMMIT {
                continue; // A restored log counts its own groups.
            }
            if payload.is_empty() {
                payload.push(space);
            }
            let key_length = u16::try_from(key.len()).map_err(|_| BackupError::Read("a key is too long".into()))?;
            let length = u32::try_from(value.len()).map_err(|_| BackupError::Read("a value is too long".into()))?;
            payload.extend_from_slice(&key_length.to_be_bytes());
            payload.extend_from_slice(&length.to_be_bytes());
            payload.extend_from_slice(&key);
            payload.extend_from_slice(&value);
            *count = (count.0 + 1, count.1 + (key.len() + value.len()) as u64);
            if payload.len() >= PAYLOAD_BYTES {
                if closing() {
                    return Err(BackupError::Closing);
                }
                frames.frame(ENTRIES, &payload).map_err(BackupError::Write)?;
                payload.clear();
                payload.shrink_to(2 * PAYLOAD_BYTES);
            }
        }
        if !payload.is_empty() {
            frames.frame(ENTRIES, &payload).map_err(BackupError::Write)?;
        }
    }
    drop(at);
    let end: Vec<u8> =
        counts.iter().flat_map(|(entries, bytes)| [entries.to_be_bytes(), bytes.to_be_bytes()]).flatten().collect();
    let digest = frames.frame(END, &end).map_err(BackupError::Write)?;
    let (streams, records) = (counts[Space::Names as usize].0, counts[Space::Records as usize].0);
    Ok(Summary { group, made_at_ms, streams, records, bytes: frames.bytes, digest })
}

fn head(group: u64, made_at_ms: u64) -> Vec<u8> {
    let mut head: Vec<u8> = [meta::FORMAT, group, made_at_ms].into_iter().flat_map(u64::to_be_bytes).collect();
    for name in SPACES {
        head.push(u8::try_from(name.len()).expect("the names are words"));
        head.extend_from_slice(name.as_bytes());
    }
    head
}

/// Asks again whoever does not take it now.
struct Patient<'a> {
    out: &'a mut dyn Write,
    closing: &'a dyn Fn() -> bool,
    /// Then it is not asked for another while.
    gave_up: bool,
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let since = Instant::now();
        loop {
            match self.out.write(bytes) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.gave_up || since.elapsed() >= STALLED_MAX || (self.closing)() {
                        self.gave_up = true;
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing of it was taken for too long"));
                    }
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl From<Unavailable> for BackupError {
    fn from(why: Unavailable) -> Self {
        Self::Read(why.to_string())
    }
}
