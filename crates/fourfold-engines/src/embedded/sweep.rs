//! What the committer does between appends, a bounded slice at a time: expires and trims what is due, clears away what was deleted, stores
//! the last uses of streams that are only read.

use std::ops::Bound;

use fjall::Readable;
use fourfold_protocol::{Epoch, StreamName};
use fourfold_stream::Unavailable;

use super::{
    group::Group,
    keys::{self, Space},
    store::unavailable,
};

/// So many streams are looked at in one slice: an append that comes meanwhile waits some milliseconds.
const LOOKS_MAX: usize = 256;

/// So many records are removed from the disk in one slice, for the same reason.
const REMOVALS_MAX: usize = 1_024;

/// Where the last slice stopped.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// The stream being cleared away, and the key to go on from: looking again from the start would wade through
    /// what was removed just now.
    clearing: Option<(Epoch, Space, Vec<u8>)>,
    /// What was deleted may lie about from an earlier run, too.
    settled: bool,
}

impl Sweep {
    /// Something was deleted.
    pub(crate) fn stir(&mut self) {
        self.settled = false;
    }

    /// Stages a slice. Whether there is more to do at once.
    pub(crate) fn slice(&mut self, group: &mut Group<'_>) -> Result<bool, Unavailable> {
        let looked = looks(group)?;
        uses(group)?;
        let cleared = !self.settled && self.clear(group)?;
        Ok(looked || cleared)
    }

    fn clear(&mut self, group: &mut Group<'_>) -> Result<bool, Unavailable> {
        let (epoch, space, from) = match self.clearing.take() {
            Some(place) => place,
            None => match group.store.space(Space::Doomed).first_key_value() {
                Some(entry) => {
                    let key = entry.key().map_err(|e| unavailable(&e))?;
                    let epoch = Epoch(keys::number(&key).ok_or_else(|| super::store::damaged("epoch"))?);
                    (epoch, Space::Records, keys::epoch(epoch).to_vec())
                }
                None => {
                    self.settled = true;
                    return Ok(false);
                }
            },
        };
        let prefix = keys::epoch(epoch);
        let mut last = None;
        let mut count = 0;
        for entry in group.store.space(space).range((Bound::Included(from), Bound::Unbounded)).take(REMOVALS_MAX) {
            let key = entry.key().map_err(|e| unavailable(&e))?;
            if !key.starts_with(&prefix) {
                break;
            }
            group.remove(space, key.to_vec());
            last = Some(key.to_vec());
            count += 1;
        }
        self.clearing = match (last, space) {
            (Some(last), space) if count == REMOVALS_MAX => Some((epoch, space, last)),
            (_, Space::Records) => Some((epoch, Space::Producers, prefix.to_vec())),
            _ => {
                group.remove(Space::Doomed, prefix.to_vec());
                None
            }
        };
        Ok(true)
    }

    /// The slice was not written: begin again.
    pub(crate) fn failed(&mut self) {
        *self = Self::default();
    }
}

/// Whatever the agenda has for now.
fn looks(group: &mut Group<'_>) -> Result<bool, Unavailable> {
    let until = keys::agenda(group.now, Epoch(u64::MAX)).to_vec();
    let mut due = Vec::new();
    for entry in group.store.durable().range(group.store.space(Space::Agenda), ..=until).take(LOOKS_MAX) {
        let (key, name) = entry.into_inner().map_err(|e| unavailable(&e))?;
        due.push((key.to_vec(), name));
    }
    let count = due.len();
    for (key, name) in due {
        let name = std::str::from_utf8(&name).ok().and_then(|name| StreamName::internal(name).ok());
        if let (Some((_, epoch)), Some(name)) = (keys::numbers(&key), name) {
            group.remove(Space::Agenda, key.clone());
            if let Err(error) = group.attend(&name, Epoch(epoch), REMOVALS_MAX as u64) {
                // The others are due all the same.
                tracing::warn!(stream = %name, %error, "a stream that is due cannot be looked at");
                group.unstage(Space::Agenda, key);
            }
        }
    }
    Ok(count == LOOKS_MAX)
}

/// Uses that were not appends, and streams in use by being followed.
fn uses(group: &mut Group<'_>) -> Result<(), Unavailable> {
    let mut stored = 0;
    for (epoch, timer) in group.around.timers.idle() {
        let hot = group.around.streams.get(&timer.name).filter(|stream| stream.epoch() == epoch);
        match &hot {
            Some(stream) if stream.cursors() > 0 => group.around.timers.renew(stream, group.now),
            _ => {}
        }
        if timer.lags() && stored < LOOKS_MAX {
            group.attend(&timer.name, epoch, 0)?;
            stored += 1;
        } else if hot.is_none() && timer.used_ms <= timer.saved_ms {
            group.around.timers.forget(epoch);
        }
    }
    Ok(())
}
