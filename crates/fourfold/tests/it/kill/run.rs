//! One run: a server that is killed, and clients on a thread of their own who do not mind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::timeout};

use super::{
    account::{Tally, tally},
    reborn::{self, Former},
};
use crate::{
    harness::{Server, run},
    reader::{AGAIN, Reader, Target, WAYS, Way, answer, header, http, position},
    records::Kind,
    seeded::Seeded,
    writer::{Account, Enough, Fate, create, pipeline, plain, producer},
};

/// What is left to do after the last kill takes no longer.
const END_MAX: Duration = Duration::from_secs(60);

/// Readers of each stream who change their way.
const SWITCHING: usize = 2;

pub(super) struct Run {
    server: Server,
    chance: Seeded,
    targets: [Target; 2],
    enough: Enough,
    clients: JoinHandle<Outcome>,
    began: Instant,
    kills: u64,
}

/// What the clients bring home.
#[derive(Default)]
struct Outcome {
    /// For each stream.
    streams: [Seen; 2],
    former: Vec<Former>,
}

#[derive(Default)]
struct Seen {
    accounts: Vec<Account>,
    readings: Vec<(String, Reader)>,
    legs: u64,
    switches: u64,
}

impl Run {
    pub(super) fn begin(server: Server, mut chance: Seeded) -> Self {
        let target = |stream: &str, kind| Target { address: server.address(), stream: stream.into(), kind };
        let targets = [target("kill/json", Kind::Json), target("kill/text", Kind::Text)];
        let fleeting = target("kill/fleeting", Kind::Json);
        let enough = Enough::default();
        let clients = {
            let (targets, enough, mut chance) = (targets.clone(), enough.clone(), chance.branch());
            thread::spawn(move || {
                run(async move {
                    let former = tokio::spawn(reborn::reborn(fleeting, enough.clone()));
                    let [json, text] =
                        targets.map(|target| tokio::spawn(stream(target, chance.branch(), enough.clone())));
                    let streams = [json.await.expect("json"), text.await.expect("text")];
                    Outcome { streams, former: former.await.expect("fleeting") }
                })
            })
        };
        Self { server, chance, targets, enough, clients, began: Instant::now(), kills: 0 }
    }

    pub(super) fn kill(mut self, rounds: u64) -> Self {
        for round in 1..=rounds {
            if self.clients.is_finished() {
                break; // One has failed, or the stream was closed before the last kill.
            }
            // Now and then right after the start, when clients are just coming back.
            let pause = if self.chance.once_in(5) { 0..40 } else { 150..600 };
            thread::sleep(self.chance.pause(pause));
            if round == rounds {
                self.enough.say(); // The last one falls on the end of the stream.
                thread::sleep(self.chance.pause(0..60));
            }
            self.strike();
        }
        self
    }

    fn strike(&mut self) {
        assert!(!self.server.has_ended(), "the server has ended by itself");
        self.server.kill();
        self.kills += 1;
        if self.chance.once_in(4) {
            self.server.stumble(self.chance.pause(0..120));
            self.kills += 1;
        }
        self.server.restart();
    }

    pub(super) fn check(mut self) {
        let ended = Instant::now();
        while !self.clients.is_finished() {
            assert!(!self.server.has_ended(), "the server has ended by itself");
            assert!(ended.elapsed() < END_MAX, "the clients do not come to an end");
            thread::sleep(AGAIN);
        }
        let clients = std::mem::replace(&mut self.clients, thread::spawn(Outcome::default));
        let outcome = clients.join().expect("what the clients say is above");
        let took = self.began.elapsed();
        self.strike(); // What was seen is there after one more.
        for (target, seen) in self.targets.iter().zip(&outcome.streams) {
            let tally = run(check(target, seen));
            eprintln!("{}: {tally:?}", target.stream);
        }
        assert!(!outcome.former.is_empty(), "a stream was deleted and created again at least once");
        run(reborn::check(&outcome.former));
        self.report(&outcome, took);
    }

    fn report(&self, outcome: &Outcome, took: Duration) {
        let accounts = || outcome.streams.iter().flat_map(|seen| &seen.accounts);
        let count = |is: fn(&Fate) -> bool| accounts().map(|account| account.count(is)).sum::<usize>();
        eprintln!(
            "{} kills in {:.1} s; {} records acknowledged, by {} appends of {} writers; {} appends were repeated, of {} \
             nobody knows; {} readers on {} connections, {} switches; {} former lives",
            self.kills,
            took.as_secs_f64(),
            accounts().map(Account::acknowledged).sum::<u64>(),
            count(|fate| *fate != Fate::Unknown),
            accounts().count(),
            count(|fate| matches!(fate, Fate::Before(_))),
            count(|fate| *fate == Fate::Unknown),
            outcome.streams.iter().map(|seen| seen.readings.len()).sum::<usize>(),
            outcome.streams.iter().map(|seen| seen.legs).sum::<u64>(),
            outcome.streams.iter().map(|seen| seen.switches).sum::<u64>(),
            outcome.former.len(),
        );
    }
}

/// Writes and reads one stream until it is closed and everybody has seen that.
async fn stream(target: Target, mut chance: Seeded, enough: Enough) -> Seen {
    create(&target).await;
    let (legs, switches) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let mut readers = JoinSet::new();
    for way in WAYS {
        readers.spawn(follow(target.clone(), way, Arc::clone(&legs)));
    }
    for n in 0..SWITCHING {
        let (legs, switches) = (Arc::clone(&legs), Arc::clone(&switches));
        readers.spawn(switch(target.clone(), n, chance.branch(), legs, switches));
    }
    let alone = Enough::default();
    let closing = tokio::spawn(producer(target.clone(), "closing", chance.branch(), alone.clone()));
    let (pipelined, plain) = tokio::join!(
        pipeline(target.clone(), "pipelined", chance.branch(), enough.clone()),
        plain(target.clone(), "plain", chance.branch(), enough)
    );
    alone.say();
    let accounts = vec![closing.await.expect("closing"), pipelined, plain];
    let mut readings = Vec::new();
    while let Some(reading) = readers.join_next().await {
        readings.push(reading.expect("a reader"));
    }
    let (legs, switches) = (legs.load(Ordering::Relaxed), switches.load(Ordering::Relaxed));
    Seen { accounts, readings, legs, switches }
}

/// Always the same way.
async fn follow(target: Target, way: Way, legs: Arc<AtomicU64>) -> (String, Reader) {
    let mut reader = Reader::new(&target);
    while !reader.done() {
        legs.fetch_add(1, Ordering::Relaxed);
        if reader.leg(way).await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    }
    (format!("{way:?}"), reader)
}

/// Another way whenever the connection ends, and it ends it itself, wherever it stands.
async fn switch(
    target: Target,
    n: usize,
    mut chance: Seeded,
    legs: Arc<AtomicU64>,
    switches: Arc<AtomicU64>,
) -> (String, Reader) {
    let mut reader = Reader::new(&target);
    let mut way = WAYS[n];
    while !reader.done() {
        legs.fetch_add(1, Ordering::Relaxed);
        let patience = chance.pause(1..250);
        if let Ok(Err(_)) = timeout(patience, reader.leg(way)).await {
            tokio::time::sleep(AGAIN).await;
        }
        let other = WAYS[usize::try_from(chance.within(0..WAYS.len() as u64)).expect("it is small")];
        switches.fetch_add(u64::from(other != way), Ordering::Relaxed);
        way = other;
    }
    (format!("switching {n}"), reader)
}

/// After everything: each way reads the same from the start, it is what the readers saw and what the writers were told.
async fn check(target: &Target, seen: &Seen) -> Tally {
    let [fresh, others @ ..] = WAYS.map(|way| Reader::read(target, way, usize::MAX));
    let fresh = fresh.await;
    for (other, way) in others.into_iter().zip(&WAYS[1..]) {
        assert_same(&fresh, &other.await, &format!("a fresh {way:?}"));
    }
    for (name, reader) in &seen.readings {
        assert_same(&fresh, reader, name);
    }
    let head = answer(http().head(target.url()), &[200]).await.expect("it is up");
    assert_eq!(header(&head, "Stream-Next-Offset"), Some(&*fresh.offset));
    assert_eq!(header(&head, "Stream-Closed"), Some("true"));
    assert_eq!(position(&fresh.offset), fresh.records.len());
    let tally = tally(target.kind, &fresh.records, &seen.accounts);
    assert!(tally.is_clean(), "{}: {tally:?}", target.stream);
    tally
}

fn assert_same(fresh: &Reader, other: &Reader, who: &str) {
    let differs = fresh.records.iter().zip(&other.records).position(|(fresh, other)| fresh != other);
    let at = differs.unwrap_or(fresh.records.len().min(other.records.len()));
    assert!(
        fresh.records == other.records && fresh.offset == other.offset,
        "{who} saw {} records up to {}, there are {} up to {}; the first difference is at {at}: {:?} is {:?}",
        other.records.len(),
        other.offset,
        fresh.records.len(),
        fresh.offset,
        other.records.get(at),
        fresh.records.get(at),
    );
}
