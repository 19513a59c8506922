//! A small file beside the journal: who has the directory, and a group that is on the disk for certain.
//!
//! The mark is a lower bound, written about once a second and at the end, after the sync that it tells of, without a sync of its
//! own. A journal that ends before the mark has lost something that was acknowledged, even where nothing in it says so.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

use super::{journal::Sum, keys, meta};

/// The file's name in the engine's directory.
pub(crate) const NAME: &str = "fourfold.mark";

/// What the mark says while a backup is restored: that no log is whole. No group has this number.
pub(crate) const RESTORING: u64 = u64::MAX;

/// The open, locked file. The lock ends with the process or with this.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
}

/// What stood in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// The file is new, or was never written.
    Nothing,
    /// This group and all before it are on the disk.
    Upto(u64),
    /// Another layout.
    Format(u64),
    /// Not what was written: says nothing.
    Damaged,
}

impl Mark {
    /// Takes the directory; `None` if another process has it.
    pub(crate) fn take(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file, path })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&self) -> io::Result<Marked> {
        let mut bytes = [0; 24];
        if self.file.metadata()?.len() == 0 {
            return Ok(Marked::Nothing);
        }
        if self.file.read_exact_at(&mut bytes, 0).is_err() {
            return Ok(Marked::Damaged);
        }
        let number = |at: usize| keys::number(&bytes[at..at + 8]).expect("eight bytes");
        let (format, upto) = (number(0), number(8));
        Ok(if bytes != encode(format, upto) {
            Marked::Damaged
        } else if format != meta::FORMAT {
            Marked::Format(format)
        } else {
            Marked::Upto(upto)
        })
    }

    pub(crate) fn write(&self, upto: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(meta::FORMAT, upto), 0)
    }

    /// The same, and it is on the disk.
    pub(crate) fn write_synced(&self, upto: u64) -> io::Result<()> {
        self.write(upto).and_then(|()| self.file.sync_all())
    }
}

fn encode(format: u64, upto: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&format.to_be_bytes());
    bytes[8..].copy_from_slice(&Sum::new(format).add(&upto.to_be_bytes()).commit(upto));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_damaged_one_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::take(dir.path()).unwrap().unwrap();
        assert_eq!(mark.read().unwrap(), Marked::Nothing);
        mark.write(77).unwrap();
        assert_eq!(mark.read().unwrap(), Marked::Upto(77));
        for at in 0..24 {
            mark.write(77).unwrap();
            mark.file.write_all_at(&[0xff], at).unwrap();
            assert_eq!(mark.read().unwrap(), Marked::Damaged, "byte {at}");
        }
    }

    #[test]
    fn a_directory_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::take(dir.path()).unwrap().unwrap();
        assert!(Mark::take(dir.path()).unwrap().is_none());
        drop(mark);
        assert!(Mark::take(dir.path()).unwrap().is_some());
    }
}
