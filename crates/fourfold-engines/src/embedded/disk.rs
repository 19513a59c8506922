//! How much room the disk has.

use std::{io, path::Path};

/// So much of the disk is left free, so that what is in memory can still be written out, tidied up and deleted.
pub(crate) const RESERVE_MAX: u64 = 64 * 1024 * 1024;

/// On a small disk the reserve is this part of it.
const RESERVE_PART: u64 = 16;

/// A disk at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) size: u64,
}

impl Disk {
    /// The disk that holds `dir`, as an unprivileged user sees it.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free: bytes(stat.f_bavail), size: bytes(stat.f_blocks) })
    }

    /// What is left free for tidying up.
    pub(crate) fn reserve(self) -> u64 {
        RESERVE_MAX.min(self.size / RESERVE_PART)
    }
}

/// Whether a failed write failed for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_of_a_small_disk_is_small() {
        let mib = 1024 * 1024;
        assert_eq!(Disk { free: 0, size: 96 * mib }.reserve(), 6 * mib);
        assert_eq!(Disk { free: 0, size: 1 << 40 }.reserve(), RESERVE_MAX);
    }

    #[test]
    fn a_directory_lies_on_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Disk::of(dir.path()).unwrap().size > 0);
        assert!(Disk::of(&dir.path().join("none")).is_err());
    }
}
