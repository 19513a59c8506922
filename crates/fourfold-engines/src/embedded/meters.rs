//! What the committer counts, for whoever watches. Read by other threads, which never wait for it.

use fourfold_stream::{
    EngineStats,
    meter::{CROWD, Count, Histogram, MICROS},
};

/// Written by the committer alone.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) group_records: Histogram,
    pub(crate) sync_micros: Histogram,
    /// As of the last sweep: asking the storage means to wait for its locks.
    pub(crate) disk_bytes: Count,
    pub(crate) disk_free_bytes: Count,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            group_records: Histogram::new(CROWD),
            sync_micros: Histogram::new(MICROS),
            disk_bytes: Count::default(),
            disk_free_bytes: Count::default(),
        }
    }
}

impl Meters {
    /// All but the queue.
    pub(crate) fn stats(&self) -> EngineStats {
        EngineStats {
            group_records: self.group_records.distribution(),
            sync_micros: self.sync_micros.distribution(),
            queue_ops: 0,
            queue_bytes: 0,
            disk_bytes: self.disk_bytes.get(),
            disk_free_bytes: self.disk_free_bytes.get(),
        }
    }
}
