//! Opening: takes the directory, looks through the journals, opens the store, and checks that nothing acknowledged is missing.
//!
//! What is found | what happens
//! --- | ---
//! an unfinished last group (power cut) | it is cut off; it was never acknowledged
//! damage before later groups, or a journal that ends before the mark (`mark.rs`) | refused, naming the file
//! the same without `Synced`, where a power cut may do it, past the mark | cut off, kept beside the journal, and told as an error
//! a damaged table or manifest, or one that is missing | refused, naming the place
//!
//! What remains: a damaged byte in the very last group, less than a second before a crash, looks like an unfinished group.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{
    Durability,
    journal::{self, Scan},
    keys::{FORMAT, SPACES, Space},
    mark::{Mark, Marked, RESTORING},
    meta,
    store::{Store, Write},
};

/// Why an engine was not opened. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// The directory has one engine at a time.
    #[error("{} is in use by another process: stop it, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// It cannot be created or written.
    #[error("{} cannot be written: {}", .0.display(), .1)]
    Unwritable(PathBuf, #[source] io::Error),
    /// A later version wrote it.
    #[error("{} has format {}, this version reads format {}: use the version that wrote it", .0.display(), .1, meta::FORMAT)]
    Format(PathBuf, u64),
    /// A file is damaged, and going on would lose acknowledged records without a word.
    #[error("{} is damaged ({why}): restore the directory from a backup, or move it away and begin anew", .file.display())]
    Broken {
        /// The file, or the directory of files in which the storage found it.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// An open store and what it is at.
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// The number of the last group.
    pub(crate) last: u64,
}

/// Takes the directory for this process.
pub(crate) fn take(dir: &Path) -> Result<Mark, OpenFailure> {
    let unwritable = |e| OpenFailure::Unwritable(dir.to_owned(), e);
    make(dir).map_err(unwritable)?;
    let mark = Mark::take(dir).map_err(unwritable)?.ok_or_else(|| OpenFailure::InUse(dir.to_owned()))?;
    let mode = fs::metadata(dir).map_err(unwritable)?.permissions().mode();
    if mode & OTHERS_ENTER != 0 {
        // Not ours to change: somebody may have a reason.
        tracing::warn!(dir = %dir.display(), "other users of this machine can read the streams and their keys: chmod 700");
    }
    Ok(mark)
}

/// Whoever gets into the directory reads the log: the files in it are as the process makes all of its files.
const OTHERS_ENTER: u32 = 0o011;

/// The directory, for nobody else if it is new.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

/// Opens what the directory holds, or begins anew.
pub(crate) fn open(dir: &Path, mark: &Mark, durability: Durability) -> Result<Opened, OpenFailure> {
    let unreadable = |e: io::Error| OpenFailure::Broken { file: mark.path().to_owned(), why: e.to_string() };
    let upto = match mark.read().map_err(unreadable)? {
        Marked::Format(format) => return Err(OpenFailure::Format(dir.to_owned(), format)),
        Marked::Upto(RESTORING) => {
            let why = "a restore into the directory did not finish".into();
            return Err(OpenFailure::Broken { file: mark.path().to_owned(), why });
        }
        Marked::Upto(upto) => upto,
        Marked::Nothing => 0,
        Marked::Damaged => {
            tracing::warn!(file = %mark.path().display(), "the mark is damaged: a cut end of the journal would go unnoticed");
            0
        }
    };
    let version = dir.join("version");
    if !version.exists() {
        if upto > 0 {
            return Err(OpenFailure::Broken { file: version, why: "it is missing".into() });
        }
        clear_unborn(dir).map_err(|e| OpenFailure::Unwritable(dir.to_owned(), e))?;
    }
    let last = mend(dir, upto, u64::MAX, durability)?;
    if upto > 0 || last.is_some() {
        check_spaces(dir)?;
    }
    let store = guarded(dir)?;
    let broken = |e: fjall::Error| OpenFailure::Broken { file: tables(dir), why: e.to_string() };
    check_format(dir, &store)?;
    let stored = store.last().map_err(broken)?.unwrap_or(0);
    if stored < upto || last.is_some_and(|last| last != stored) {
        let why = format!("it ends at group {stored}, but group {} was on the disk", last.unwrap_or(upto));
        return Err(OpenFailure::Broken { file: newest(dir), why });
    }
    Ok(Opened { store, last: stored })
}

/// Opens again after a failed write, without what was not acknowledged.
pub(crate) fn reopen(dir: &Path, acknowledged: u64, durability: Durability) -> Result<Store, OpenFailure> {
    mend(dir, 0, acknowledged, durability)?;
    guarded(dir)
}

/// Cuts off what must not be replayed. The number of the last group in the journals.
///
/// Groups after `until` were refused to their callers; those up to `upto` must be there.
pub(crate) fn mend(dir: &Path, upto: u64, until: u64, durability: Durability) -> Result<Option<u64>, OpenFailure> {
    let journals = journals(dir).map_err(|e| OpenFailure::Unwritable(dir.to_owned(), e))?;
    let mut last = None;
    for (index, path) in journals.iter().enumerate() {
        let failed = |e: io::Error| OpenFailure::Broken { file: path.clone(), why: e.to_string() };
        let broken = |why: String| Err(OpenFailure::Broken { file: path.clone(), why });
        let bytes = fs::read(path).map_err(failed)?;
        let found: Scan = journal::scan(&bytes, last, until);
        let newest = index + 1 == journals.len();
        last = found.last.or(last);
        if !found.broken && !newest {
            continue;
        }
        let next = last.map_or(0, |last| last + 1);
        if found.broken && !newest {
            return broken(format!("at byte {}, and later journals follow", found.end));
        }
        if last.is_some_and(|last| last < upto) {
            return broken(format!("at byte {}, before group {upto}, which was on the disk", found.end));
        }
        if found.broken && found.later && until == u64::MAX {
            if durability == Durability::Synced {
                return broken(format!("at byte {}, and later groups follow", found.end));
            }
            tracing::error!(file = %path.display(), byte = found.end, group = next,
                "the journal has a hole: what follows was not synced and is cut off");
        } else if found.broken {
            tracing::warn!(file = %path.display(), byte = found.end, group = next,
                "the journal ends in an unfinished group, which is cut off");
        }
        if found.broken {
            cut(path, &bytes, found.end).map_err(failed)?;
        }
    }
    Ok(last)
}

/// Keeps what is cut off beside the journal.
fn cut(path: &Path, bytes: &[u8], end: usize) -> io::Result<()> {
    let used = journal::used(bytes);
    let aside = path.with_extension(format!("cut-at-{end}"));
    if let Err(error) = fs::write(&aside, &bytes[end..used.max(end)]) {
        tracing::warn!(file = %aside.display(), %error, "what is cut off the journal could not be kept");
        let _ = fs::remove_file(&aside);
    }
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(end as u64)?;
    file.sync_all()
}

/// fjall takes a keyspace without its pointer for one that was never created, and begins it anew. All of them are created
/// before the first group is written.
fn check_spaces(dir: &Path) -> Result<(), OpenFailure> {
    let tables = tables(dir);
    let broken = |file: &Path, why: &str| OpenFailure::Broken { file: file.to_owned(), why: why.into() };
    let entries = fs::read_dir(&tables).map_err(|e| broken(&tables, &e.to_string()))?;
    let spaces: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    for space in &spaces {
        let pointer = space.join("current");
        if !pointer.exists() {
            return Err(broken(&pointer, "it is missing"));
        }
    }
    // And one of fjall's own.
    if spaces.len() <= SPACES.len() {
        return Err(broken(&tables, "a directory in it is missing"));
    }
    Ok(())
}

/// fjall may stop in the middle on damaged files, also by a panic.
fn guarded(dir: &Path) -> Result<Store, OpenFailure> {
    let broken = |file, why: String| Err(OpenFailure::Broken { file, why });
    match catch_unwind(AssertUnwindSafe(|| Store::open(dir))) {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(fjall::Error::Locked)) => Err(OpenFailure::InUse(dir.to_owned())),
        Ok(Err(fjall::Error::Io(e)))
            if super::disk::is_full(&e)
                || matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
        {
            Err(OpenFailure::Unwritable(dir.to_owned(), e))
        }
        Ok(Err(fjall::Error::InvalidVersion(_))) => broken(dir.join("version"), "it is no version marker".into()),
        Ok(Err(e @ fjall::Error::JournalRecovery(_))) => broken(newest(dir), e.to_string()),
        Ok(Err(e)) => broken(tables(dir), e.to_string()),
        Err(_) => broken(tables(dir), "the storage stopped while it read them".into()),
    }
}

fn check_format(dir: &Path, store: &Store) -> Result<(), OpenFailure> {
    let broken = |e: fjall::Error| OpenFailure::Broken { file: tables(dir), why: e.to_string() };
    match store.get(Space::Meta, FORMAT).map_err(broken)? {
        Some(value) => match super::keys::number(&value) {
            Some(meta::FORMAT) => Ok(()),
            Some(other) => Err(OpenFailure::Format(dir.to_owned(), other)),
            None => Err(OpenFailure::Broken { file: tables(dir), why: "the format is no number".into() }),
        },
        None => {
            let format = meta::FORMAT.to_be_bytes().to_vec();
            let first = Write { space: Space::Meta, key: FORMAT.to_vec(), value: Some(format) };
            let number = store.last().map_err(broken)?.unwrap_or(0) + 1;
            let written = store.write(number, vec![first]).and_then(|()| store.sync());
            written.map_err(|e| OpenFailure::Unwritable(dir.to_owned(), io::Error::other(e)))
        }
    }
}

/// A creation that a crash interrupted has left files that fjall would stumble over. Nothing was ever written to them.
fn clear_unborn(dir: &Path) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    absent_is_fine(fs::remove_file(dir.join("0.jnl")))?;
    absent_is_fine(fs::remove_dir_all(tables(dir)))
}

fn tables(dir: &Path) -> PathBuf {
    dir.join("keyspaces")
}

fn newest(dir: &Path) -> PathBuf {
    journals(dir).ok().and_then(|mut all| all.pop()).unwrap_or_else(|| dir.to_owned())
}

/// The journals, oldest first.
pub(crate) fn journals(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(u64, PathBuf)> = fs::read_dir(dir)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse().ok()?;
            Some((number, path))
        })
        .collect();
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
