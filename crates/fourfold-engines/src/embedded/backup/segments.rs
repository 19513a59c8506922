//! What a restore does so that no offset comes to mean another record.
//!
//! Offsets that were handed out after the backup are in clients' hands, and the records that they lie behind are lost. The next records take
//! the same positions. So every stream that can still grow begins a new life at its tail: what was handed out up to there stays valid, what comes
//! from there on has another epoch, and the lost offsets belong to neither, which their holders are told.

use fjall::Readable;
use fourfold_protocol::{Epoch, Segment};
use fourfold_stream::Unavailable;

use super::RestoreError;
use crate::{
    embedded::{
        keys::{self, Space},
        meta::{Log, Named},
        store::{Store, damaged, get_at, unavailable},
    },
    rules::now_ms,
};

/// The server that was lost may have given epochs so far ahead of its clock, or of this one, in milliseconds: it gives one a stream, and
/// counts on where many streams are created at once.
const AHEAD_MS: u64 = 60_000;

/// Gives every open stream a new life from its tail on. Returns how many.
pub(super) fn begin(
    store: &Store,
    mut put: impl FnMut(Space, &[u8], &[u8]) -> Result<(), RestoreError>,
) -> Result<u64, RestoreError> {
    let last = store.get(Space::Meta, keys::LAST_EPOCH).map_err(|e| bad(&unavailable(&e)))?;
    let last = last.and_then(|value| keys::number(&value)).unwrap_or(0);
    let mut epoch = last.max(now_ms()) + AHEAD_MS;
    let mut begun = 0;
    let at = store.durable();
    for entry in at.iter(store.space(Space::Names)) {
        let (name, value) = entry.into_inner().map_err(|e| bad(&unavailable(&e)))?;
        let mut named = Named::decode(&value).ok_or_else(|| bad(&damaged("stream")))?;
        let head = get_at(store, &at, Space::Heads, &keys::epoch(named.epoch)).map_err(|why| bad(&why))?;
        let Log { head, ties, .. } = head.and_then(|head| Log::decode(&head)).ok_or_else(|| bad(&damaged("head")))?;
        if head.closed || ties.gone {
            continue; // Nothing follows.
        }
        epoch += 1;
        begun += 1;
        named.config.restored.push(Segment { epoch: Epoch(epoch), from: head.tail });
        put(Space::Names, &name, &named.encode())?;
    }
    put(Space::Meta, keys::LAST_EPOCH, &epoch.to_be_bytes())?;
    Ok(begun)
}

fn bad(why: &Unavailable) -> RestoreError {
    RestoreError::Streams(why.to_string())
}
