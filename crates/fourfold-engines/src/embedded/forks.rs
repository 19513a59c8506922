//! Forks within a group: where they begin, and what a stream's end or the loss of its old records means for its relatives.
//!
//! Who was forked from whom is stored twice: with the fork's name, and as a key under the source, which also tells what the fork needs.
//! Both are written in the batch of the creation, and go in that of the end.

use std::ops::Bound;

use bytes::Bytes;
use fourfold_protocol::{Epoch, StreamName};
use fourfold_stream::{Create, CreateError, ForkError, ForkWish, Head, StreamConfig, Unavailable};

use super::{
    group::Group,
    keys::{self, Space},
    ledger::State,
    meta::Log,
    store::{damaged, unavailable},
};
use crate::{
    family::{self, Change, Family, Kin, NOTHING},
    forking::{self, Source},
};

impl Group<'_> {
    /// Where a fork leaves its source: its configuration, its log without records of its own, its first record.
    pub(super) fn leave(
        &mut self,
        epoch: Epoch,
        wish: &Create,
        fork: &ForkWish,
    ) -> Result<(StreamConfig, Log, Option<Bytes>), CreateError> {
        let Some(life) = self.find(&fork.from)?.cloned() else {
            return Err(if self.is_gone(&fork.from) { ForkError::Gone } else { ForkError::NotFound }.into());
        };
        let owner = |position| life.config.forked.as_ref().and_then(|fork| fork.owner(position)).unwrap_or(life.epoch);
        let source = Source { epoch: life.epoch, config: &life.config, head: &life.log.head };
        let look = |position| {
            self.record(owner(position), position, |_, data| Bytes::copy_from_slice(data)).map_err(Into::into)
        };
        let leaving = forking::leave::<CreateError>(source, &wish.content_type, fork, look)?;
        let config = forking::configure(epoch, source, &leaving, wish, fork, self.now);
        let (oldest, bytes) = forking::inherit(source, life.log.bytes, config.retention, leaving.point, |position| {
            self.look(owner(position), position).map(|(_, length)| length)
        })?;
        let head = Head { oldest, tail: leaving.point, ..Head::default() };
        Ok((config, Log { head, bytes, cleared: leaving.point, ..Log::default() }, leaving.part))
    }

    /// Stages that a fork is there, after its first records.
    pub(super) fn tie_fresh(&mut self, epoch: Epoch) {
        let life = &self.lives[&epoch];
        let needs = life.log.ties.needs;
        if let Some(source) = life.config.forked.as_ref().map(|fork| fork.epoch) {
            // It was staged that this key goes; it has never been there.
            self.unstage(Space::Forks, keys::fork(source, NOTHING, epoch));
            self.put(Space::Forks, keys::fork(source, needs, epoch), Vec::new());
        }
    }

    /// Whether there is a stream of that name only for its forks.
    pub(super) fn is_gone(&self, name: &StreamName) -> bool {
        self.names.get(name).copied().flatten().is_some_and(|epoch| self.lives[&epoch].gone())
    }

    /// Ends a life: for good, or as far as others see, if forks of it live.
    pub(super) fn end(&mut self, epoch: Epoch) -> Result<(), Unavailable> {
        let kin = self.lives[&epoch].kin();
        let changes = family::end(self, kin)?;
        self.change(changes, None);
        Ok(())
    }

    /// Tells a fork's relatives that its retention has moved, and `log` what it needs. Nothing is staged if it fails.
    pub(super) fn moved(&mut self, epoch: Epoch, log: &mut Log) -> Result<(), Unavailable> {
        let life = &self.lives[&epoch];
        if life.config.forked.is_none() {
            return Ok(());
        }
        let kin = Kin { oldest: log.head.oldest, ..life.kin() };
        let changes = family::moved(self, kin)?;
        self.change(changes, Some((epoch, log)));
        Ok(())
    }

    /// Stages what was decided. The log in `held` is not in the group yet.
    fn change(&mut self, changes: Vec<Change>, mut held: Option<(Epoch, &mut Log)>) {
        for change in changes {
            let (Change::Ended(kin) | Change::Tied(kin, _)) = &change;
            let (epoch, before) = (kin.epoch, kin.ties);
            let source = kin.config.forked.as_ref().map(|fork| fork.epoch);
            let ties = match change {
                Change::Ended(_) => {
                    if let Some(source) = source {
                        self.remove(Space::Forks, keys::fork(source, before.needs, epoch));
                    }
                    self.doom(epoch);
                    continue;
                }
                Change::Tied(_, ties) => ties,
            };
            if let Some(source) = source.filter(|_| ties.needs != before.needs) {
                self.remove(Space::Forks, keys::fork(source, before.needs, epoch));
                self.put(Space::Forks, keys::fork(source, ties.needs, epoch), Vec::new());
            }
            if let Some((_, log)) = held.as_mut().filter(|(held, _)| *held == epoch) {
                log.ties = ties;
                continue;
            }
            let life = self.lives.get_mut(&epoch).expect("it was looked at");
            (life.log.ties, life.state) = (ties, State::Changed);
            if ties.gone && !before.gone {
                self.forsake(epoch);
            }
            let (mut log, config) = (self.lives[&epoch].log.clone(), self.lives[&epoch].config.clone());
            self.plan(epoch, &mut log, &config, None);
            self.lives.get_mut(&epoch).expect("it was there").log = log;
        }
    }

    /// Nobody reads or appends to this life any more.
    fn forsake(&mut self, epoch: Epoch) {
        let life = self.lives.get_mut(&epoch).expect("the caller has found it");
        let (name, look) = (life.name.clone(), std::mem::take(&mut life.log.look_ms));
        if look > 0 {
            self.remove(Space::Agenda, keys::agenda(look, epoch).into());
        }
        let around = self.around.clone();
        self.outcomes.push(Box::new(move |durable| {
            if durable.is_ok() {
                around.timers.forget(epoch);
                around.streams.cool(&name, epoch);
            }
        }));
    }
}

impl Family for Group<'_> {
    type Error = Unavailable;

    fn kin(&mut self, name: &StreamName, epoch: Epoch) -> Result<Kin, Unavailable> {
        let found = self.epoch(name)?.filter(|found| *found == epoch).ok_or_else(|| damaged("source"))?;
        Ok(self.lives[&found].kin())
    }

    fn least(&self, of: Epoch, except: Option<Epoch>) -> Result<Option<u64>, Unavailable> {
        let prefix = keys::epoch(of).to_vec();
        let other = |key: &[u8]| {
            let (needs, fork) = keys::forked(key).ok_or_else(|| damaged("fork"))?;
            Ok::<_, Unavailable>((Some(fork) != except).then_some(needs))
        };
        let mut least = None;
        let staged = self.writes.range((Bound::Included((Space::Forks, prefix.clone())), Bound::Unbounded));
        for ((space, key), value) in staged {
            if *space != Space::Forks || !key.starts_with(&prefix) {
                break;
            }
            if value.is_some()
                && let Some(needs) = other(key)?
            {
                least = Some(needs);
                break;
            }
        }
        for entry in self.store.space(Space::Forks).prefix(&prefix) {
            let key = entry.key().map_err(|e| unavailable(&e))?;
            if self.writes.contains_key(&(Space::Forks, key.to_vec())) {
                continue;
            }
            if let Some(needs) = other(&key)? {
                least = Some(least.map_or(needs, |staged: u64| staged.min(needs)));
                break;
            }
        }
        Ok(least)
    }
}
