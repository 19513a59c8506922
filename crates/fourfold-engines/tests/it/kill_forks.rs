//! `kill -9` among forks, deletions and cascades: no acknowledged fork loses what it inherits, no reference dangles, and when everything has been
//! deleted nothing is left on the disk.
//!
//! The victim does one random thing after another and tells of each before and after; the last one may have happened or not.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use fourfold_engines::{Durability, EmbeddedEngine};
use fourfold_stream::{Append, Create, Engine, OpenError, Retention, Stream};

use crate::{
    forks::fork_at,
    ground::{keeping, name, open, plain, read, run, until},
};

const DIR: &str = "FOURFOLD_FORKS_VICTIM_DIR";
const ROUNDS: u64 = 12;
/// Few enough that chains and cascades are common.
const LIVING_MAX: usize = 12;

/// A stream that was told of. Names are not used twice.
#[derive(Clone, Debug)]
struct Told {
    source: Option<u64>,
    content: String,
    deleted: bool,
}

type Family = BTreeMap<u64, Told>;

#[test]
fn no_kill_parts_a_fork_from_what_it_inherits() {
    let dir = tempfile::tempdir().unwrap();
    let mut family = Family::new();
    for round in 0..ROUNDS {
        killed(dir.path(), round, 10 + round * 53 % 300, &mut family);
        run(|| check(dir.path(), &mut family));
        sound(dir.path());
    }
    assert!(family.values().filter(|told| told.source.is_some() && told.deleted).count() > 10, "{}", family.len());
    run(|| nothing_is_left(dir.path(), &family));
}

/// Lets a victim do so many things, and notes what it told.
fn killed(dir: &Path, round: u64, after: u64, family: &mut Family) {
    let first = family.keys().next_back().map_or(0, |last| last + 1);
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill_forks::victim", "--nocapture", "--test-threads=1"])
        .env(DIR, format!("{}|{round}|{first}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = victim.stdout.take().unwrap();
    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if line.starts_with("told ") && line.ends_with(" ok") {
                let _ = tell.send(line);
            }
        }
    });
    let mut lines = Vec::new();
    while (lines.len() as u64) < after {
        match told.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => lines.push(line),
            Err(_) => break,
        }
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    reader.join().unwrap();
    lines.extend(told.try_iter());
    assert!(lines.len() as u64 >= after, "the victim stopped by itself");
    // Whatever is begun counts as unknown until it is told that it was done.
    for line in lines {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["told", "about", n, source, "ok"] => {
                let told = Told { source: source.parse().ok(), content: UNKNOWN.into(), deleted: false };
                family.entry(n.parse().unwrap()).or_insert(told).content = UNKNOWN.into();
            }
            ["told", "is", n, content, "ok"] => family.get_mut(&n.parse().unwrap()).unwrap().content = content.into(),
            ["told", "deleted", n, "ok"] => {
                let told = family.get_mut(&n.parse().unwrap()).unwrap();
                (told.deleted, told.content) = (true, String::new());
            }
            _ => panic!("{line}"),
        }
    }
}

const UNKNOWN: &str = "?";

async fn check(dir: &Path, family: &mut Family) {
    let (engine, _) = open(dir, Durability::Synced).unwrap();
    let mut unknown = 0;
    for (n, told) in family.iter_mut().filter(|(_, told)| !told.deleted) {
        let found = engine.open(&name(&n.to_string())).await;
        if told.content == UNKNOWN {
            unknown += 1;
            (told.deleted, told.content) = match &found {
                Ok(stream) => (false, content(&engine, stream).await),
                Err(_) => (true, String::new()),
            };
        } else {
            let stream = found.unwrap_or_else(|why| panic!("{n} was acknowledged: {why}"));
            assert_eq!(content(&engine, &stream).await, told.content, "{n}: {told:?}");
        }
    }
    assert!(unknown <= 1, "one thing at a time");
    // Whoever was deleted is kept exactly as long as a descendant lives.
    let mut kept = HashSet::new();
    for (n, _) in family.iter().filter(|(_, told)| !told.deleted) {
        let mut next = Some(*n);
        while let Some(n) = next.filter(|n| kept.insert(*n)) {
            next = family[&n].source;
        }
    }
    for (n, _) in family.iter().filter(|(_, told)| told.deleted) {
        let expected = if kept.contains(n) { OpenError::Gone } else { OpenError::NotFound };
        assert_eq!(engine.open(&name(&n.to_string())).await.unwrap_err(), expected, "{n}");
    }
}

/// What a stream shows, and from where on.
async fn content(engine: &EmbeddedEngine, stream: &Arc<Stream>) -> String {
    let records = read(engine, stream, stream.oldest()).await.unwrap();
    format!("{}:{}", stream.oldest(), records.join(","))
}

fn keys(db: &fjall::Database, space: &str) -> Vec<Vec<u8>> {
    let space = db.keyspace(space, fjall::KeyspaceCreateOptions::default).unwrap();
    space.iter().map(|entry| entry.key().unwrap().to_vec()).collect()
}

/// No reference dangles, and no record is without a stream.
fn sound(dir: &Path) {
    let db = fjall::Database::builder(dir).open().unwrap();
    let heads: BTreeSet<Vec<u8>> = keys(&db, "heads").into_iter().collect();
    let doomed: BTreeSet<Vec<u8>> = keys(&db, "doomed").into_iter().collect();
    assert_eq!(keys(&db, "names").len(), heads.len());
    for key in keys(&db, "forks") {
        assert!(heads.contains(&key[..8]) && heads.contains(&key[16..]), "{key:?}");
    }
    for key in keys(&db, "records") {
        assert!(heads.contains(&key[..8]) || doomed.contains(&key[..8]), "{key:?}");
    }
}

async fn nothing_is_left(dir: &Path, family: &Family) {
    {
        let (engine, _) = open(dir, Durability::Synced).unwrap();
        for n in family.iter().filter(|(_, told)| !told.deleted).map(|(n, _)| n) {
            let stream = engine.open(&name(&n.to_string())).await.unwrap();
            engine.delete(&stream).await.unwrap();
        }
        for n in family.keys() {
            assert_eq!(engine.open(&name(&n.to_string())).await.unwrap_err(), OpenError::NotFound);
        }
    }
    until(async || {
        {
            let (engine, _) = open(dir, Durability::Synced).unwrap();
            for _ in 0..100 {
                // Each takes a turn of the committer, which clears away in between.
                engine.open(&name("none")).await.unwrap_err();
            }
        }
        let db = fjall::Database::builder(dir).open().unwrap();
        let spaces = ["names", "heads", "records", "producers", "agenda", "doomed", "forks"];
        spaces.iter().all(|space| keys(&db, space).is_empty())
    })
    .await;
}

/// Not a fact: the victim. Does nothing unless it was started as one.
#[test]
fn victim() {
    let Ok(order) = env::var(DIR) else { return };
    let [dir, round, first] = order.split('|').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let durability = if round.parse::<u64>().unwrap() % 2 == 0 { Durability::Synced } else { Durability::Os };
    let mut chance = Chance(round.parse::<u64>().unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    run(|| async {
        let (engine, _) = open(Path::new(dir), durability).unwrap();
        let mut next: u64 = first.parse().unwrap();
        // The test harness has begun a line of its own.
        writeln!(std::io::stdout()).unwrap();
        loop {
            let living = engine.list("", None, 100).await.unwrap().streams;
            let of = (!living.is_empty()).then(|| living[chance.below(living.len())].name.clone());
            let stream = match &of {
                Some(of) => Some(engine.open(of).await.unwrap()),
                None => None,
            };
            match (chance.below(10), &stream) {
                (0..4, Some(source)) if living.len() < LIVING_MAX => {
                    let tail = source.tail().position;
                    let at =
                        source.oldest() + chance.below(usize::try_from(tail - source.oldest() + 1).unwrap()) as u64;
                    let sub = if at < tail { chance.below(2) as u64 } else { 0 };
                    let mut wish = fork_at(source.name().as_str(), Some(source.offset(at)), sub);
                    wish.retention.records = [None, Some(2), Some(100)][chance.below(3)];
                    tell(&format!("about {next} {}", source.name().as_str()));
                    let fork = engine.create(&name(&next.to_string()), wish).await.unwrap().stream;
                    tell(&format!("is {next} {}", content(&engine, &fork).await));
                    next += 1;
                }
                (4..8, Some(stream)) => {
                    let n = stream.name().as_str();
                    tell(&format!("about {n} -"));
                    let tail = stream.tail().position;
                    let data = |position| Bytes::from(format!("{n}.{position}"));
                    let records = (tail..tail + 1 + chance.below(5) as u64).map(data).collect();
                    engine.append(stream, Append { records, ..Append::default() }).await.unwrap();
                    tell(&format!("is {n} {}", content(&engine, stream).await));
                }
                (8.., Some(stream)) => {
                    let n = stream.name().as_str();
                    tell(&format!("about {n} -"));
                    engine.delete(stream).await.unwrap();
                    tell(&format!("deleted {n}"));
                }
                _ if living.len() < LIVING_MAX => {
                    let records = vec!["root".into(); 1 + chance.below(4)];
                    let kept = if chance.below(2) == 0 { Some(3) } else { None };
                    let retention = Retention { records: kept, ..Retention::default() };
                    tell(&format!("about {next} -"));
                    let wish = Create { records, ..if kept.is_some() { keeping(retention) } else { plain() } };
                    let root = engine.create(&name(&next.to_string()), wish).await.unwrap().stream;
                    tell(&format!("is {next} {}", content(&engine, &root).await));
                    next += 1;
                }
                _ => {}
            }
        }
    });
}

fn tell(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "told {what} ok").unwrap();
    out.flush().unwrap();
}

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
