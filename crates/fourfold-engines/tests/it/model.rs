//! Any sequence of operations does what a simple model does.

use std::collections::HashMap;

use bytes::Bytes;
use fourfold_protocol::Start;
use fourfold_stream::{
    Append, AppendError, Create, CreateError, ForkError, ForkWish, Limit, OpenError, Producer, ReadError, Retention,
};
use proptest::prelude::*;

use crate::ground::{Ground, name, plain, run};

#[derive(Clone, Debug)]
enum Step {
    Create { stream: u8, kept: Option<u64>, first: u8, closed: bool },
    Fork { stream: u8, from: u8, back: Option<u64>, kept: Option<u64>, first: u8 },
    Append { stream: u8, sizes: Vec<u8>, close: bool, seq: Option<u8>, producer: Option<(u8, u64, u64)> },
    Read { stream: u8, from: u64, records: usize, bytes: usize },
    Delete { stream: u8 },
    Reopen,
}

#[derive(Debug, Default)]
struct Model {
    streams: HashMap<u8, Log>,
    lives: u64,
    /// Name, life and source of those that are kept for their forks.
    gone: HashMap<u8, (u64, Option<u64>)>,
}

impl Model {
    fn log(&mut self, log: Log) -> Log {
        self.lives += 1;
        Log { life: self.lives, ..log }
    }

    fn absent(&self, stream: u8) -> OpenError {
        if self.gone.contains_key(&stream) { OpenError::Gone } else { OpenError::NotFound }
    }

    fn delete(&mut self, stream: u8) -> bool {
        let Some(log) = self.streams.remove(&stream) else { return false };
        self.gone.insert(stream, (log.life, log.source));
        // Those without forks go, and then perhaps their sources.
        loop {
            let sources =
                self.streams.values().map(|log| log.source).chain(self.gone.values().map(|(_, source)| *source));
            let kept: Vec<u64> = sources.flatten().collect();
            let before = self.gone.len();
            self.gone.retain(|_, (life, _)| kept.contains(life));
            if self.gone.len() == before {
                return true;
            }
        }
    }
}

#[derive(Debug, Default)]
struct Log {
    life: u64,
    source: Option<u64>,
    /// What its source had dropped when it was forked.
    dropped: u64,
    kept: Option<u64>,
    records: Vec<Bytes>,
    closed: bool,
    seq: Option<String>,
    producers: HashMap<u8, (u64, u64)>,
    closer: Option<(u8, u64, u64)>,
}

impl Log {
    fn oldest(&self) -> u64 {
        let tail = self.records.len() as u64;
        self.kept.map_or(0, |kept| tail.saturating_sub(kept.max(1))).max(self.dropped)
    }

    /// `Ok(true)` if the append goes in.
    fn admits(&self, close_only: bool, seq: Option<&str>, by: Option<(u8, u64, u64)>) -> Result<bool, AppendError> {
        let closed = || AppendError::Closed { tail: self.records.len() as u64 };
        if let Some((id, epoch, n)) = by {
            let known = self.producers.get(&id).copied();
            if let Some((current, _)) = known.filter(|(current, _)| epoch < *current) {
                return Err(AppendError::StaleEpoch { current });
            }
            if self.closed {
                return if known.is_some() && self.closer == by || close_only { Ok(false) } else { Err(closed()) };
            }
            match known {
                Some((current, last)) if current == epoch && n <= last => return Ok(false),
                Some((current, last)) if current == epoch && n > last + 1 => {
                    return Err(AppendError::ProducerGap { expected: last + 1, received: n });
                }
                Some((current, _)) if current != epoch && n != 0 => return Err(AppendError::EpochStart),
                None if n != 0 => return Err(AppendError::ProducerGap { expected: 0, received: n }),
                _ => {}
            }
        } else if self.closed {
            return if close_only { Ok(false) } else { Err(closed()) };
        }
        match (seq, &self.seq) {
            (Some(seq), Some(last)) if seq <= last.as_str() => {
                Err(AppendError::SequenceRegression { last: last.clone() })
            }
            _ => Ok(true),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..5_u8;
    prop_oneof![
        2 => (stream(), prop::option::weighted(0.7, 0..6_u64), 0..4_u8, prop::bool::weighted(0.1))
            .prop_map(|(stream, kept, first, closed)| Step::Create { stream, kept, first, closed }),
        3 => (
            stream(),
            stream(),
            prop::option::weighted(0.6, 0..8_u64),
            prop::option::weighted(0.3, 0..6_u64),
            0..3_u8,
        )
            .prop_map(|(stream, from, back, kept, first)| Step::Fork { stream, from, back, kept, first }),
        8 => (
            stream(),
            prop::collection::vec(any::<u8>(), 0..5),
            prop::bool::weighted(0.05),
            prop::option::weighted(0.2, 0..5_u8),
            prop::option::weighted(0.4, (0..2_u8, 0..3_u64, 0..4_u64)),
        )
            .prop_map(|(stream, sizes, close, seq, producer)| {
                let close = close || sizes.is_empty();
                Step::Append { stream, sizes, close, seq, producer }
            }),
        4 => (stream(), 0..20_u64, 0..5_usize, 0..300_usize)
            .prop_map(|(stream, from, records, bytes)| Step::Read { stream, from, records, bytes }),
        2 => stream().prop_map(|stream| Step::Delete { stream }),
        1 => Just(Step::Reopen),
    ]
}

async fn agrees(mut ground: Ground, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut last_epoch = None;
    for (n, step) in steps.into_iter().enumerate() {
        let data = |size: u8| Bytes::from(format!("{n}{}", "x".repeat(usize::from(size))));
        match step {
            Step::Create { stream, kept, first, closed } => {
                let retention = Retention { records: kept, ..Retention::default() };
                let first: Vec<Bytes> = (0..first).map(data).collect();
                let wish = Create { retention, records: first.clone(), closed, ..plain() };
                let got = ground.engine.create(&name(&format!("m/{stream}")), wish).await;
                match model.streams.get(&stream) {
                    None if model.gone.contains_key(&stream) => assert_eq!(got.unwrap_err(), CreateError::Gone),
                    None => {
                        let got = got.unwrap();
                        assert!(got.fresh && Some(got.stream.epoch()) > last_epoch);
                        last_epoch = Some(got.stream.epoch());
                        let log = model.log(Log { kept, records: first, closed, ..Log::default() });
                        model.streams.insert(stream, log);
                    }
                    Some(log) if log.source.is_some() => {
                        assert_eq!(got.unwrap_err(), CreateError::Conflict("source or fork point"));
                    }
                    Some(log) if log.closed != closed => {
                        assert_eq!(got.unwrap_err(), CreateError::Conflict("closed status"));
                    }
                    Some(log) if kept.is_some() && kept != log.kept => {
                        assert_eq!(got.unwrap_err(), CreateError::Conflict("retention"));
                    }
                    Some(_) => assert!(!got.unwrap().fresh),
                }
            }
            Step::Fork { stream, from, back, kept, first } => {
                let source = ground.engine.open(&name(&format!("m/{from}"))).await.ok();
                let point = model.streams.get(&from).map(|log| {
                    let tail = log.records.len() as u64;
                    tail.saturating_sub(back.unwrap_or(0)).max(log.oldest())
                });
                let at = back.and(source.as_ref().zip(point)).map(|(source, point)| Start::At(source.offset(point)));
                let first: Vec<Bytes> = (0..first).map(data).collect();
                let fork = Some(ForkWish { from: name(&format!("m/{from}")), at, sub: 0 });
                let retention = Retention { records: kept, ..Retention::default() };
                let wish = Create { retention, records: first.clone(), fork, ..plain() };
                let got = ground.engine.create(&name(&format!("m/{stream}")), wish).await;
                if let Some(log) = model.streams.get(&stream) {
                    match got {
                        Ok(created) => assert!(!created.fresh && log.source.is_some()),
                        Err(error) => assert!(matches!(error, CreateError::Conflict(_)), "{error}"),
                    }
                    continue;
                }
                if model.gone.contains_key(&stream) {
                    assert_eq!(got.unwrap_err(), CreateError::Gone);
                    continue;
                }
                let Some((log, point)) = model.streams.get(&from).zip(point) else {
                    let gone = model.gone.contains_key(&from);
                    let error = if gone { ForkError::Gone } else { ForkError::NotFound };
                    assert_eq!(got.unwrap_err(), error.into());
                    continue;
                };
                let got = got.unwrap();
                assert!(got.fresh && Some(got.stream.epoch()) > last_epoch);
                last_epoch = Some(got.stream.epoch());
                let inherited = &log.records[..usize::try_from(point).unwrap()];
                let records = inherited.iter().cloned().chain(first).collect();
                let (source, dropped) = (Some(log.life), log.oldest());
                let fork = Log { source, dropped, kept: kept.or(log.kept), records, ..Log::default() };
                let fork = model.log(fork);
                model.streams.insert(stream, fork);
            }
            Step::Append { stream, sizes, close, seq, producer } => {
                let handle = ground.engine.open(&name(&format!("m/{stream}"))).await;
                let absent = model.absent(stream);
                let Some(log) = model.streams.get_mut(&stream) else {
                    assert_eq!(handle.unwrap_err(), absent);
                    continue;
                };
                let records: Vec<Bytes> = sizes.into_iter().map(data).collect();
                let seq = seq.map(|seq| seq.to_string());
                let id = |(id, epoch, seq): (u8, u64, u64)| Producer { id: id.to_string(), epoch, seq };
                let append = Append {
                    records: records.clone(),
                    close,
                    seq: seq.clone(),
                    producer: producer.map(id),
                    ..Append::default()
                };
                let got = ground.engine.append(&handle.unwrap(), append).await;
                match log.admits(records.is_empty() && close, seq.as_deref(), producer) {
                    Err(error) => assert_eq!(got.unwrap_err(), error),
                    Ok(fresh) => {
                        if fresh {
                            log.records.extend(records);
                            log.seq = seq.or(log.seq.take());
                            if let Some((id, epoch, n)) = producer {
                                log.producers.insert(id, (epoch, n));
                            }
                            if close {
                                (log.closed, log.closer) = (true, producer);
                            }
                        }
                        let got = got.unwrap();
                        assert_eq!((got.duplicate, got.closed), (!fresh, log.closed));
                        assert_eq!(got.next, log.records.len() as u64);
                        assert_eq!(got.producer, producer.and_then(|(id, _, _)| log.producers.get(&id).copied()));
                    }
                }
            }
            Step::Read { stream, from, records, bytes } => {
                let handle = ground.engine.open(&name(&format!("m/{stream}"))).await;
                let Some(log) = model.streams.get(&stream) else {
                    assert_eq!(handle.unwrap_err(), model.absent(stream));
                    continue;
                };
                let handle = handle.unwrap();
                assert_eq!((handle.oldest(), handle.tail().position), (log.oldest(), log.records.len() as u64));
                let got = ground.engine.read(&handle, from, Limit { records, bytes }).await;
                if from < log.oldest() {
                    assert_eq!(got, Err(ReadError::Trimmed { oldest: log.oldest() }));
                    continue;
                }
                let start = usize::try_from(from).unwrap().min(log.records.len());
                let mut sum = 0;
                let expected: Vec<&Bytes> = log.records[start..]
                    .iter()
                    .take(records.max(1))
                    .enumerate()
                    .take_while(|(n, record)| {
                        sum += record.len();
                        *n == 0 || sum <= bytes
                    })
                    .map(|(_, record)| record)
                    .collect();
                let got = got.unwrap();
                assert_eq!(got.next, from + expected.len() as u64);
                assert!(got.records.iter().map(|record| &record.data).eq(expected));
            }
            Step::Delete { stream } => {
                if model.delete(stream) {
                    let handle = ground.engine.open(&name(&format!("m/{stream}"))).await.unwrap();
                    ground.engine.delete(&handle).await.unwrap();
                }
            }
            Step::Reopen if ground.dir.is_some() => ground = ground.reopened(),
            Step::Reopen => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn memory_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        run(|| async { agrees(Ground::memory(), steps).await });
    }
}

proptest! {
    // Each case opens and closes a database several times.
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 50, ..ProptestConfig::default() })]
    #[test]
    fn embedded_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        run(|| async { agrees(Ground::embedded(), steps).await });
    }
}
