//! What a group does to a stream besides appends: expiry, retention, clearing away, the next look.

use std::sync::Arc;

use fourfold_protocol::{Epoch, StreamName};
use fourfold_stream::{Retention, StreamConfig, Unavailable};

use super::{
    group::Group,
    keys::{self, Space},
    ledger::{Life, State},
    meta::{self, Log},
    store::{damaged, unavailable},
};
use crate::rules::{self, Kept};

impl Group<'_> {
    pub(super) fn expired(&self, life: &Life) -> bool {
        let used = life.log.used_ms.max(self.around.timers.used_ms(life.epoch));
        let absolute = life.config.expires_at_ms.is_some_and(|at| at <= self.now);
        absolute || (rules::expires_ms(&life.config, used).is_some_and(|at| at <= self.now) && !self.followed(life))
    }

    pub(super) fn followed(&self, life: &Life) -> bool {
        self.around.streams.get(&life.name).is_some_and(|stream| stream.epoch() == life.epoch && stream.cursors() > 0)
    }

    /// Stages the end of a life for good; its records go later, bit by bit.
    pub(super) fn doom(&mut self, epoch: Epoch) {
        let life = self.lives.get_mut(&epoch).expect("the caller has found it");
        life.state = State::Ended;
        let (name, look, config) = (life.name.clone(), life.log.look_ms, Arc::clone(&life.config));
        self.names.insert(name.clone(), None);
        self.remove(Space::Names, name.as_str().into());
        for own in [epoch].into_iter().chain(config.restored.iter().map(|segment| segment.epoch)) {
            self.put(Space::Doomed, keys::epoch(own).into(), Vec::new());
        }
        self.hide(epoch, name, look);
    }

    /// Nobody finds a life any more, neither a reader nor a timer, as soon as that is durable. `look`: when it was to be looked at, or 0.
    pub(super) fn hide(&mut self, epoch: Epoch, name: StreamName, look: u64) {
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

    pub(super) fn trim(&self, epoch: Epoch, log: &mut Log, retention: Retention) -> Result<(), Unavailable> {
        let mut kept = Kept { oldest: log.head.oldest, tail: log.head.tail, bytes: log.bytes };
        let config = &self.lives[&epoch].config;
        rules::trim(&mut kept, retention, self.now, |position| self.look(config.owner(epoch, position), position))?;
        (log.head.oldest, log.bytes) = (kept.oldest, kept.bytes);
        Ok(())
    }

    /// When a record was appended, and its length.
    pub(super) fn look(&self, epoch: Epoch, position: u64) -> Result<(u64, u64), Unavailable> {
        if let Some(staged) = self.staged.get(&(epoch, position)) {
            return Ok(*staged);
        }
        self.record(epoch, position, |at, data| (at, data.len() as u64))
    }

    /// A record and the time of its append, stored or staged.
    pub(super) fn record<T>(
        &self,
        epoch: Epoch,
        position: u64,
        look: impl FnOnce(u64, &[u8]) -> T,
    ) -> Result<T, Unavailable> {
        let key = keys::record(epoch, position);
        let stored = self.store.get(Space::Records, &key).map_err(|e| unavailable(&e))?;
        // A fork may be created in the group of the append; it asks for the newest first.
        let staged =
            || self.records.iter().rev().find(|write| write.key == key).and_then(|write| write.value.as_deref());
        let value = stored.as_deref().or_else(staged).ok_or_else(|| damaged("record"))?;
        let (at, data) = meta::decode_record(value).ok_or_else(|| damaged("record"))?;
        Ok(look(at, data))
    }

    /// Removes some of the records that retention has passed from the disk.
    pub(super) fn clear(
        &mut self,
        epoch: Epoch,
        log: &mut Log,
        config: &StreamConfig,
        known_clearable: u64,
        most: u64,
    ) {
        // Only what readers have been told of: a removal shows before its group is durable. And a record of this group
        // could not be removed by it, because writes of one batch have no order.
        let until = known_clearable.min(log.cleared.saturating_add(most)).max(log.cleared);
        for position in log.cleared..until {
            self.remove(Space::Records, keys::record(config.owner(epoch, position), position).into());
        }
        log.cleared = until;
    }

    /// When the oldest record will be too old, if it may be dropped.
    pub(super) fn stale(&self, epoch: Epoch, log: &Log, config: &StreamConfig) -> Result<Option<u64>, Unavailable> {
        if config.retention.age_seconds.is_none() || log.head.tail - log.head.oldest < 2 {
            return Ok(None);
        }
        let (at, _) = self.look(config.owner(epoch, log.head.oldest), log.head.oldest)?;
        Ok(rules::stale_ms(config.retention, at))
    }

    /// Enters the next look into the agenda, unless an earlier one is there.
    pub(super) fn plan(&mut self, epoch: Epoch, log: &mut Log, config: &StreamConfig, stale: Option<u64>) {
        let used = log.used_ms.max(self.around.timers.used_ms(epoch));
        let backlog = (log.cleared < log.ties.clearable(&log.head)).then_some(self.now);
        let expires = if log.ties.gone { None } else { rules::expires_ms(config, used) };
        let Some(next) = [expires, stale, backlog].into_iter().flatten().min() else {
            return;
        };
        let next = next.max(1);
        if log.look_ms == 0 || next < log.look_ms {
            if log.look_ms > 0 {
                self.remove(Space::Agenda, keys::agenda(log.look_ms, epoch).into());
            }
            let name = self.lives[&epoch].name.as_str().into();
            self.put(Space::Agenda, keys::agenda(next, epoch).into(), name);
            log.look_ms = next;
        }
    }

    /// Does what is due at a stream: expires it, trims it, clears away, and plans the next look.
    pub(super) fn attend(&mut self, name: &StreamName, epoch: Epoch, clear: u64) -> Result<(), Unavailable> {
        self.find(name)?;
        let Some(life) = self.lives.get(&epoch).filter(|life| life.state != State::Ended) else { return Ok(()) };
        let (mut log, config, known_clearable) = (life.log.clone(), Arc::clone(&life.config), life.known_clearable);
        if self.followed(&self.lives[&epoch]) {
            log.used_ms = self.now;
        }
        log.used_ms = log.used_ms.max(self.around.timers.used_ms(epoch));
        let stale = if log.ties.gone { None } else { self.stale(epoch, &log, &config)? };
        if log.look_ms > 0 {
            self.remove(Space::Agenda, keys::agenda(log.look_ms, epoch).into());
            log.look_ms = 0;
        }
        self.clear(epoch, &mut log, &config, known_clearable, clear);
        self.plan(epoch, &mut log, &config, stale);
        let life = self.lives.get_mut(&epoch).expect("it was found");
        (life.log, life.state) = (log, State::Changed);
        let (life, timers) = (life.clone(), Arc::clone(&self.around.timers));
        self.outcomes.push(Box::new(move |durable| {
            if durable.is_ok() {
                life.tell(&timers);
            }
        }));
        Ok(())
    }
}
