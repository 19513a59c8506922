//! `kill -9` between a stream's creation and its end: what was acknowledged is there, and no step is there by half.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    path::Path,
};

use fourfold_engines::Durability;
use fourfold_stream::{Append, Create, Engine};

use crate::{
    ground::{name, open, read, run},
    kill::{DIR, killed},
};

const ROUNDS: u64 = 8;
/// Ended side by side, so that one commit has steps of several streams.
const AT_ONCE: u64 = 3;
const CONTENT_TYPE: &str = "text/html; charset=utf-8";
/// What is told of a stream: it was created; its type and first record are there; it has ended.
const CREATED: u64 = 0;
const DECIDED: u64 = 1;
const ENDED: u64 = 2;

#[test]
fn no_kill_parts_a_close_from_what_was_said_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = BTreeMap::new();
    for round in 0..ROUNDS {
        for (stream, step) in killed("kill_endings::victim", dir.path(), Durability::Synced, 10 + round * 53 % 200) {
            told.insert(stream as u64, step);
        }
        run(|| check(dir.path(), &told));
    }
    assert!(told.values().any(|step| *step == ENDED), "{told:?}");
}

async fn check(dir: &Path, told: &BTreeMap<u64, u64>) {
    let (engine, _) = open(dir, Durability::Synced).unwrap();
    for (n, step) in told {
        let stream = engine.open(&name(&format!("c/{n}"))).await.unwrap();
        assert_eq!(stream.config().note, Some(note(*n)));
        let found = match (stream.is_undecided(), stream.tail().closed) {
            (true, false) => CREATED,
            (false, false) => DECIDED,
            (false, true) => ENDED,
            (true, true) => panic!("{n} was closed before it was decided"),
        };
        assert!(found >= *step, "{n} was at {step}, now {found}");
        let records = read(&engine, &stream, 0).await.unwrap();
        assert_eq!(records.len() as u64, found, "each step had one record");
        assert_eq!(stream.config().content_type, if found >= DECIDED { CONTENT_TYPE } else { "" });
        assert_eq!(stream.ending().map(|ending| (**ending).to_owned()), (found == ENDED).then(|| ending(*n)));
    }
}

fn note(n: u64) -> String {
    format!("{{\"n\":{n}}}")
}

fn ending(n: u64) -> String {
    format!("{{\"outcome\":\"finished\",\"n\":{n}}}")
}

fn tell(n: u64, step: u64) {
    let mut out = io::stdout().lock();
    writeln!(out, "told {n} {step} ok").unwrap();
    out.flush().unwrap();
}

/// Not a fact: the victim. Does nothing unless it was started as one.
#[test]
fn victim() {
    let Ok(order) = env::var(DIR) else { return };
    let (dir, _) = order.rsplit_once('|').unwrap();
    run(|| async {
        let (engine, _) = open(Path::new(dir), Durability::Synced).unwrap();
        let last = engine.list("c/", None, usize::MAX).await.unwrap().streams.len() as u64;
        // The test harness has begun a line of its own.
        writeln!(io::stdout()).unwrap();
        for first in (last..).step_by(usize::try_from(AT_ONCE).unwrap()) {
            let mut streams = Vec::new();
            for n in first..first + AT_ONCE {
                let wish = Create { note: Some(note(n)), ..Create::default() };
                streams.push((n, engine.create(&name(&format!("c/{n}")), wish).await.unwrap().stream));
                tell(n, CREATED);
            }
            let append = Append { records: vec!["a".into()], ..Append::default() };
            let decide = Append { content_type: Some(CONTENT_TYPE.into()), ..append.clone() };
            let mut steps = Vec::new();
            for (n, stream) in &streams {
                let end = Append { close: true, ending: Some(ending(*n).into()), ..append.clone() };
                steps.push((*n, DECIDED, engine.append(stream, decide.clone())));
                steps.push((*n, ENDED, engine.append(stream, end)));
            }
            for (n, step, done) in steps {
                done.await.unwrap();
                tell(n, step);
            }
        }
    });
}
