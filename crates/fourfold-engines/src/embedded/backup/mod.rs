//! Backups: everything that the engine keeps, as of one group of the committer, in one file.
//!
//! ```text
//! "fourfold backup\n" version(u32)
//! { kind(u8) length(u32) payload check(u64) }*      see `frame`
//!
//! kind  payload
//! 1     format(u64) group(u64) made at(u64, ms) { length(u8) name of a keyspace }*      first
//! 2     keyspace(u8) { key#(u16) value#(u32) key value }*                               in the order of the keys
//! 3     { entries(u64) bytes(u64) of a keyspace }*                                      last: without it the file is not whole
//! 4     text                                                                            broken off, and why
//! ```
//!
//! All numbers are big-endian. A check runs over all frames before it, too: the last one is the digest of the whole.
//!
//! `copy` writes one while the committer goes on; [`restore`] reads it into an empty directory, `segments` makes sure there that no
//! offset comes to mean another record.

mod copy;
mod frame;
mod restore;
mod segments;

pub use self::{
    copy::{BackupError, Backups, copy_of},
    restore::{RestoreError, Restored, restore, verify},
};
use super::keys::SPACES;

/// What a backup holds, as its first and last frames say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The number of the committer's last group in it.
    pub group: u64,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub made_at_ms: u64,
    /// How many streams, those that are kept for their forks included.
    pub streams: u64,
    /// How many records.
    pub records: u64,
    /// The length of the backup.
    pub bytes: u64,
    /// Over everything.
    pub digest: u64,
}

/// Entries and their bytes, by keyspace.
type Counts = [(u64, u64); SPACES.len()];
