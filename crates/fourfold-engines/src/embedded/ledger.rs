//! What the committer remembers from group to group, and what a group changes in it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use fourfold_protocol::{Epoch, StreamName};
use fourfold_stream::{Retention, Stream, StreamConfig, Streams, Tail, Unavailable};

use super::{meta::Log, timers::Timers};
use crate::family::Kin;

/// Streams whose heads the committer has in memory, so that an append to a busy stream reads nothing.
pub(crate) const LIVES_MAX: usize = 16_384;

/// What becomes of an operation when its group is durable, or is not.
pub(crate) type Outcome = Box<dyn FnOnce(Result<(), &Unavailable>) + Send>;

pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One life of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) name: StreamName,
    pub(crate) epoch: Epoch,
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) log: Log,
    /// Own records before this one were needed by nobody after the last durable group, as readers know it.
    pub(super) known_clearable: u64,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Stored,
    Changed,
    Ended,
}

/// What the committer remembers from group to group.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(super) lives: Map<Epoch, Life>,
    pub(super) names: Map<StreamName, Epoch>,
    /// No fork of the source has a key before this one. Without it each end of a fork would wade through the keys of those that ended
    /// before it.
    pub(super) first_forks: Map<Epoch, Vec<u8>>,
    pub(super) last_epoch: u64,
}

impl Ledger {
    /// Nothing in memory; epochs go on after this one.
    pub(crate) fn starting(last_epoch: u64) -> Self {
        Self { last_epoch, ..Self::default() }
    }

    /// Forgets everything once it is too much: what is busy comes back at once.
    pub(super) fn bound(&mut self) {
        if self.lives.len() > LIVES_MAX || self.names.len() > LIVES_MAX {
            self.lives.clear();
            self.names.clear();
        }
        if self.first_forks.len() > LIVES_MAX {
            self.first_forks.clear();
        }
    }
}

/// What all groups share.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) streams: Streams,
    pub(crate) timers: Arc<Timers>,
    pub(crate) defaults: Retention,
}

/// What a written group changes in memory.
pub(crate) struct Changes {
    pub(super) lives: Map<Epoch, Life>,
    pub(super) names: Map<StreamName, Option<Epoch>>,
    pub(super) first_forks: Map<Epoch, Vec<u8>>,
    pub(super) last_epoch: u64,
    pub(super) outcomes: Vec<Outcome>,
}

impl Changes {
    /// The group is durable: remembers it and tells everybody, in order.
    pub(crate) fn done(self, ledger: &mut Ledger) {
        ledger.last_epoch = self.last_epoch;
        ledger.first_forks.extend(self.first_forks);
        for (epoch, mut life) in self.lives {
            if life.state == State::Ended {
                ledger.lives.remove(&epoch);
                ledger.first_forks.remove(&epoch);
                if let Entry::Occupied(named) = ledger.names.entry(life.name)
                    && *named.get() == epoch
                {
                    named.remove();
                }
            } else {
                (life.state, life.known_clearable) = (State::Stored, life.clearable());
                ledger.lives.insert(epoch, life);
            }
        }
        for (name, epoch) in self.names {
            if let Some(epoch) = epoch {
                ledger.names.insert(name, epoch);
            }
        }
        for outcome in self.outcomes {
            outcome(Ok(()));
        }
    }

    /// Nothing of the group was written.
    pub(crate) fn failed(self, why: &Unavailable) {
        for outcome in self.outcomes {
            outcome(Err(why));
        }
    }
}

impl Life {
    pub(super) fn heat(&self, around: &Around) -> Arc<Stream> {
        let head = &self.log.head;
        self.tell(&around.timers);
        let tail = Tail { closed: head.closed, ..Tail::open(head.tail) };
        around.streams.heat(&self.name, self.epoch, &self.config, head.oldest, tail, head.ending.as_ref())
    }

    /// Whether it is kept for its forks only.
    pub(super) fn gone(&self) -> bool {
        self.log.ties.gone
    }

    /// Own records before this one are needed by nobody.
    pub(super) fn clearable(&self) -> u64 {
        self.log.ties.clearable(&self.log.head)
    }

    pub(super) fn kin(&self) -> Kin {
        let (name, config) = (self.name.clone(), Arc::clone(&self.config));
        Kin { name, epoch: self.epoch, config, oldest: self.log.head.oldest, ties: self.log.ties }
    }

    pub(super) fn tell(&self, timers: &Timers) {
        if self.gone() {
            return;
        }
        timers.set(self.epoch, &self.name, &self.config, self.log.used_ms, self.log.look_ms);
    }
}
