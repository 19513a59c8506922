//! One group: operations judged in order against what is stored and what the group itself has staged, written as one batch.
//!
//! Nothing is answered before the batch is durable, not even a refusal: it may rest on an append of the same group.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fourfold_protocol::{Epoch, Record, StreamName};
use fourfold_stream::{
    Admission, Append, AppendError, Appended, Create, CreateError, Created, OpenError, ProducerState, Retention,
    Stages, Stream, Tail, Unavailable, admission::admit,
};

use super::{
    keys::{self, Space},
    ledger::{Around, Changes, Ledger, Life, Map, Outcome, State},
    meta::{self, Log, Named},
    store::{Store, Write, damaged, unavailable},
};
use crate::rules;

/// An append clears away as many old records as it adds, and so many more, until none are left to clear.
pub(crate) const CLEARED_MORE: u64 = 64;

/// Answers an operation.
pub(crate) type Answer<T> = tokio::sync::oneshot::Sender<T>;

/// What can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Anything.
    Plenty,
    /// What makes room: deletions.
    Full,
    /// Nothing.
    Frozen(Unavailable),
}

/// The operations of one group.
pub(crate) struct Group<'a> {
    pub(super) ledger: &'a mut Ledger,
    pub(crate) around: &'a Around,
    pub(crate) store: &'a Store,
    pub(super) room: Room,
    pub(crate) now: u64,
    pub(super) lives: Map<Epoch, Life>,
    pub(super) names: Map<StreamName, Option<Epoch>>,
    pub(super) first_forks: Map<Epoch, Vec<u8>>,
    pub(super) producers: Map<(Epoch, String), ProducerState>,
    /// The time and length of staged records, where retention may ask.
    pub(super) staged: Map<(Epoch, u64), (u64, u64)>,
    pub(super) records: Vec<Write>,
    /// One write a key: within a batch they have no order.
    pub(super) writes: BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>,
    pub(super) last_epoch: u64,
    pub(super) outcomes: Vec<Outcome>,
}

/// A judged group.
pub(crate) struct Judged {
    pub(crate) writes: Vec<Write>,
    pub(crate) changes: Changes,
}

impl<'a> Group<'a> {
    pub(crate) fn new(ledger: &'a mut Ledger, around: &'a Around, store: &'a Store, room: Room) -> Self {
        ledger.bound();
        let last_epoch = ledger.last_epoch;
        Self {
            ledger,
            around,
            store,
            room,
            now: rules::now_ms(),
            lives: Map::default(),
            names: Map::default(),
            first_forks: Map::default(),
            producers: Map::default(),
            staged: Map::default(),
            records: Vec::new(),
            writes: BTreeMap::new(),
            last_epoch,
            outcomes: Vec::new(),
        }
    }

    pub(crate) fn create(&mut self, name: &StreamName, wish: Create, answer: Answer<Result<Created, CreateError>>) {
        match self.judge_create(name, wish) {
            Err(error) => self.answer(answer, Stages::default(), Err(error)),
            Ok((life, records, fresh)) => {
                let around = self.around.clone();
                self.outcomes.push(Box::new(move |durable| {
                    let created = durable.map(|()| {
                        if !fresh {
                            return Created { stream: life.heat(&around), fresh };
                        }
                        // Heated empty and then moved, so that the first records are in memory.
                        let head = &life.log.head;
                        life.tell(&around.timers);
                        let begin = life.config.forked.as_ref().map_or(0, |fork| fork.point);
                        let stream =
                            around.streams.heat(&life.name, life.epoch, &life.config, 0, Tail::open(begin), None);
                        stream.advance(records, head.tail, head.closed, head.oldest);
                        Created { stream, fresh }
                    });
                    let _ = answer.send(created.map_err(|why| why.clone().into()));
                }));
            }
        }
    }

    fn judge_create(&mut self, name: &StreamName, wish: Create) -> Result<(Life, Vec<Record>, bool), CreateError> {
        if let Some(life) = self.find(name)? {
            return match rules::conflict(&life.config, &life.log.head, &wish) {
                Some(what) => Err(CreateError::Conflict(what)),
                None => Ok((life.clone(), Vec::new(), false)),
            };
        }
        if self.is_gone(name) {
            return Err(CreateError::Gone);
        }
        self.room()?;
        let epoch = Epoch(self.now.max(self.last_epoch + 1));
        let (config, log, part) = match &wish.fork {
            None => (rules::configure(&wish, self.around.defaults, self.now), Log::default(), None),
            Some(fork) => self.leave(epoch, &wish, fork)?,
        };
        let named = Named { epoch, config: config.clone() };
        let life = Life {
            name: name.clone(),
            epoch,
            config: Arc::new(config),
            known_clearable: log.cleared,
            log: Log { used_ms: self.now, ..log },
            state: State::Changed,
        };
        self.lives.insert(epoch, life);
        let records = part.into_iter().chain(wish.records).collect();
        let first = Append { records, close: wish.closed, ..Append::default() };
        let pushed = self.push(epoch, first, None);
        let (records, _) = pushed.inspect_err(|_| drop(self.lives.remove(&epoch)))?;
        self.put(Space::Names, name.as_str().into(), named.encode());
        self.put(Space::Meta, keys::LAST_EPOCH.into(), epoch.0.to_be_bytes().into());
        self.last_epoch = epoch.0;
        self.names.insert(name.clone(), Some(epoch));
        self.tie_fresh(epoch);
        Ok((self.lives[&epoch].clone(), records, true))
    }

    pub(crate) fn open(&mut self, name: &StreamName, answer: Answer<Result<Arc<Stream>, OpenError>>) {
        let found = self.find(name).map(|life| life.cloned());
        let gone = self.is_gone(name);
        let around = self.around.clone();
        self.outcomes.push(Box::new(move |durable| {
            let _ = answer.send(match (durable, found) {
                (Err(why), _) => Err(why.clone().into()),
                (_, Err(why)) => Err(why.into()),
                (_, Ok(None)) if gone => Err(OpenError::Gone),
                (_, Ok(None)) => Err(OpenError::NotFound),
                (_, Ok(Some(life))) => Ok(life.heat(&around)),
            });
        }));
    }

    pub(crate) fn append(
        &mut self,
        stream: Arc<Stream>,
        append: Append,
        answer: Answer<Result<Appended, AppendError>>,
    ) {
        let stages = append.stages.clone();
        let judged = self.judge_append(&stream, append);
        let around = self.around.clone();
        match judged {
            Err(error) => self.answer(answer, stages, Err(error)),
            Ok((None, done)) => {
                self.around.timers.renew(&stream, self.now);
                self.answer(answer, stages, Ok(done));
            }
            Ok((Some((life, records)), done)) => self.outcomes.push(Box::new(move |durable| {
                stages.committed();
                let done = durable.map(|()| {
                    let head = &life.log.head;
                    life.tell(&around.timers);
                    stream.decide(&life.config);
                    stream.conclude(head.ending.as_ref());
                    stream.advance(records, head.tail, head.closed, head.oldest);
                    done
                });
                let _ = answer.send(done.map_err(|why| why.clone().into()));
            })),
        }
    }

    #[expect(clippy::type_complexity, reason = "used once")]
    fn judge_append(
        &mut self,
        stream: &Stream,
        append: Append,
    ) -> Result<(Option<(Life, Vec<Record>)>, Appended), AppendError> {
        let epoch = stream.epoch();
        let Some(life) = self.find(stream.name())?.filter(|life| life.epoch == epoch) else {
            return Err(AppendError::NotFound);
        };
        let head = life.log.head.clone();
        let state = match &append.producer {
            Some(by) => self.producer(epoch, &by.id)?,
            None => None,
        };
        match admit(&head, state, &append)? {
            Admission::Done(done) => Ok((None, done)),
            Admission::Write(advanced) => {
                self.room()?;
                let (records, done) = self.push(epoch, append, advanced)?;
                Ok((Some((self.lives[&epoch].clone(), records)), done))
            }
        }
    }

    pub(crate) fn delete(&mut self, stream: &Stream, answer: Answer<Result<(), OpenError>>) {
        let (name, epoch) = (stream.name().clone(), stream.epoch());
        let ended = match self.find(&name).map(|life| life.map(|life| life.epoch)) {
            Err(why) => Err(why.into()),
            Ok(Some(found)) if found == epoch => self.frozen().and_then(|()| self.end(epoch)).map_err(Into::into),
            Ok(None) if self.is_gone(&name) && self.names[&name] == Some(epoch) => Err(OpenError::Gone),
            Ok(_) => Err(OpenError::NotFound),
        };
        self.answer(answer, Stages::default(), ended);
    }

    /// Stages records, the producer's state and the head, after admission.
    fn push(
        &mut self,
        epoch: Epoch,
        append: Append,
        advanced: Option<ProducerState>,
    ) -> Result<(Vec<Record>, Appended), Unavailable> {
        let life = self.lives.get(&epoch).expect("the caller has found it");
        let mut log = life.log.clone();
        let decided = rules::decide(&life.config, &log.head, append.content_type.as_ref());
        let config = decided.clone().unwrap_or_else(|| Arc::clone(&life.config));
        let (first, known_clearable) = (log.head.tail, life.known_clearable);
        let done = rules::apply(&mut log.head, &append, advanced);
        log.used_ms = self.now;
        // Whose the new records are: of the life since the last restore.
        let owner = config.owner(epoch, first);
        let remember = config.retention != Retention::default();
        let mut added = 0_u64;
        for (position, data) in (first..).zip(&append.records) {
            let length = length(data);
            added += length;
            if remember {
                self.staged.insert((owner, position), (self.now, length));
            }
        }
        log.bytes += added;
        self.trim(epoch, &mut log, config.retention)?;
        let stale = self.stale(epoch, &log, &config)?;
        self.moved(epoch, &mut log)?;
        // From here on nothing can fail: a part of an append must not be staged.
        if let (Some(by), Some(state)) = (append.producer, advanced) {
            self.put(Space::Producers, keys::producer(epoch, &by.id), meta::encode_producer(state));
            self.producers.insert((epoch, by.id), state);
        }
        let records: Vec<Record> =
            (first..).zip(append.records).map(|(position, data)| Record { position, data }).collect();
        for record in &records {
            let key = keys::record(owner, record.position).to_vec();
            let value = Some(meta::encode_record(self.now, &record.data));
            self.records.push(Write { space: Space::Records, key, value });
        }
        self.clear(epoch, &mut log, &config, known_clearable, records.len() as u64 + CLEARED_MORE);
        self.plan(epoch, &mut log, &config, stale);
        let life = self.lives.get_mut(&epoch).expect("the caller has found it");
        (life.log, life.state) = (log, State::Changed);
        if let Some(config) = decided {
            life.config = Arc::clone(&config);
            let (name, named) = (life.name.as_str().into(), Named { epoch, config: (*config).clone() });
            self.put(Space::Names, name, named.encode());
        }
        Ok((records, done))
    }

    /// The stream if it lives, trimmed by age as of now. One that has expired is ended.
    pub(super) fn find(&mut self, name: &StreamName) -> Result<Option<&Life>, Unavailable> {
        let Some(epoch) = self.epoch(name)? else { return Ok(None) };
        let life = &self.lives[&epoch];
        if life.gone() {
            return Ok(None);
        }
        if self.expired(life) {
            if self.frozen().is_ok() {
                self.end(epoch)?;
            }
            return Ok(None);
        }
        if life.config.retention.age_seconds.is_some() && self.frozen().is_ok() {
            let (mut log, config) = (life.log.clone(), Arc::clone(&life.config));
            self.trim(epoch, &mut log, config.retention)?;
            let oldest = log.head.oldest;
            if oldest > self.lives[&epoch].log.head.oldest {
                self.moved(epoch, &mut log)?;
                let life = self.lives.get_mut(&epoch).expect("it was there");
                (life.log, life.state) = (log, State::Changed);
                let (streams, name) = (self.around.streams.clone(), name.clone());
                self.outcomes.push(Box::new(move |durable| {
                    if let (Ok(()), Some(stream)) = (durable, streams.get(&name))
                        && stream.epoch() == epoch
                    {
                        stream.trim(oldest);
                    }
                }));
            }
        }
        Ok(self.lives.get(&epoch))
    }

    /// Brings a life into the group.
    pub(super) fn epoch(&mut self, name: &StreamName) -> Result<Option<Epoch>, Unavailable> {
        if let Some(staged) = self.names.get(name) {
            return Ok(*staged);
        }
        let found = match self.ledger.names.get(name) {
            Some(epoch) => {
                if !self.lives.contains_key(epoch) {
                    self.lives.insert(*epoch, self.ledger.lives[epoch].clone());
                }
                Some(*epoch)
            }
            None => {
                let life = self.load(name)?;
                let epoch = life.as_ref().map(|life| life.epoch);
                if let Some(life) = life {
                    self.lives.insert(life.epoch, life);
                }
                epoch
            }
        };
        self.names.insert(name.clone(), found);
        Ok(found)
    }

    fn load(&self, name: &StreamName) -> Result<Option<Life>, Unavailable> {
        let read = |space, key: &[u8]| self.store.get(space, key).map_err(|e| unavailable(&e));
        let Some(named) = read(Space::Names, name.as_str().as_bytes())? else { return Ok(None) };
        let Named { epoch, config } = Named::decode(&named).ok_or_else(|| damaged("stream"))?;
        let head = read(Space::Heads, &keys::epoch(epoch))?.ok_or_else(|| damaged("head"))?;
        let log = Log::decode(&head).ok_or_else(|| damaged("head"))?;
        let known_clearable = log.ties.clearable(&log.head);
        let (name, config) = (name.clone(), Arc::new(config));
        Ok(Some(Life { name, epoch, config, log, known_clearable, state: State::Stored }))
    }

    fn producer(&self, epoch: Epoch, id: &str) -> Result<Option<ProducerState>, Unavailable> {
        if let Some(state) = self.producers.get(&(epoch, id.to_owned())) {
            return Ok(Some(*state));
        }
        let stored = self.store.get(Space::Producers, &keys::producer(epoch, id)).map_err(|e| unavailable(&e))?;
        stored.map(|value| meta::decode_producer(&value).ok_or_else(|| damaged("producer"))).transpose()
    }

    pub(crate) fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert((space, key), Some(value));
    }

    pub(crate) fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.writes.insert((space, key), None);
    }

    /// Takes a staged write back.
    pub(crate) fn unstage(&mut self, space: Space, key: Vec<u8>) {
        self.writes.remove(&(space, key));
    }

    fn room(&self) -> Result<(), Unavailable> {
        match &self.room {
            Room::Plenty => Ok(()),
            Room::Full => Err(Unavailable::Full),
            Room::Frozen(why) => Err(why.clone()),
        }
    }

    pub(super) fn frozen(&self) -> Result<(), Unavailable> {
        match &self.room {
            Room::Frozen(why) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    fn answer<T: Send + 'static, E: From<Unavailable> + Send + 'static>(
        &mut self,
        answer: Answer<Result<T, E>>,
        stages: Stages,
        result: Result<T, E>,
    ) {
        self.outcomes.push(Box::new(move |durable| {
            stages.committed();
            let _ = answer.send(durable.map_err(|why| why.clone().into()).and(result));
        }));
    }

    /// Whether a stream has ended.
    pub(crate) fn ended(&self) -> bool {
        self.lives.values().any(|life| life.state == State::Ended)
    }

    /// The batch to be written, heads included.
    pub(crate) fn judged(mut self) -> Judged {
        let lives = std::mem::take(&mut self.lives);
        for (epoch, life) in &lives {
            match life.state {
                State::Stored => {}
                State::Changed => self.put(Space::Heads, keys::epoch(*epoch).into(), life.log.encode()),
                State::Ended => self.remove(Space::Heads, keys::epoch(*epoch).into()),
            }
        }
        let mut writes = self.records;
        writes.extend(self.writes.into_iter().map(|((space, key), value)| Write { space, key, value }));
        let (names, first_forks) = (self.names, self.first_forks);
        let changes = Changes { lives, names, first_forks, last_epoch: self.last_epoch, outcomes: self.outcomes };
        Judged { writes, changes }
    }
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).expect("a length fits in 64 bits")
}
