//! Forks within a group: where they begin, and what a stream's end or the loss of its old records means for its relatives.
//!
//! Who was forked from whom is stored twice: with the fork's name, and as a key under the source, which also tells what the fork needs.
//! Both are written in the batch of the creation, and go in that of the end.

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
        let owner = |position| life.config.owner(life.epoch, position);
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
            self.put_fork(source, needs, epoch);
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
                self.put_fork(source, ties.needs, epoch);
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

    fn put_fork(&mut self, source: Epoch, needs: u64, fork: Epoch) {
        let key = keys::fork(source, needs, fork);
        if key < self.first_fork(source) {
            self.first_forks.insert(source, key.clone());
        }
        self.put(Space::Forks, key, Vec::new());
    }

    /// A key of a fork, or before them all.
    fn first_fork(&self, source: Epoch) -> Vec<u8> {
        let known = self.first_forks.get(&source).or_else(|| self.ledger.first_forks.get(&source));
        known.cloned().unwrap_or_else(|| keys::fork(source, 0, Epoch(0)))
    }

    /// Nobody reads or appends to this life any more.
    fn forsake(&mut self, epoch: Epoch) {
        let life = self.lives.get_mut(&epoch).expect("the caller has found it");
        let (name, look) = (life.name.clone(), std::mem::take(&mut life.log.look_ms));
        self.hide(epoch, name, look);
    }
}

impl Family for Group<'_> {
    type Error = Unavailable;

    fn kin(&mut self, name: &StreamName, epoch: Epoch) -> Result<Kin, Unavailable> {
        let found = self.epoch(name)?.filter(|found| *found == epoch).ok_or_else(|| damaged("source"))?;
        Ok(self.lives[&found].kin())
    }

    fn least(&mut self, of: Epoch, except: Option<Epoch>) -> Result<Option<u64>, Unavailable> {
        let keys = self.first_fork(of)..=keys::fork(of, NOTHING, Epoch(u64::MAX));
        let read = |key: &[u8]| keys::forked(key).ok_or_else(|| damaged("fork"));
        let (mut least, mut first) = (None, keys.end().clone());
        let (start, end) = ((Space::Forks, keys.start().clone()), (Space::Forks, keys.end().clone()));
        for ((_, key), _) in self.writes.range(start..=end).filter(|(_, value)| value.is_some()) {
            let (needs, fork) = read(key)?;
            first = first.min(key.clone());
            if Some(fork) != except {
                least = Some(needs);
                break;
            }
        }
        for entry in self.store.space(Space::Forks).range(keys) {
            let key = entry.key().map_err(|e| unavailable(&e))?.to_vec();
            let (needs, fork) = read(&key)?;
            let staged = (Space::Forks, key);
            if self.writes.contains_key(&staged) {
                continue;
            }
            first = first.min(staged.1);
            if Some(fork) != except {
                least = Some(least.map_or(needs, |staged: u64| staged.min(needs)));
                break;
            }
        }
        // Only for a stream with forks: there are few of them.
        if least.is_some() || except.is_some() {
            self.first_forks.insert(of, first);
        }
        Ok(least)
    }
}
