//! `kill -9` of the server during calls: nothing that a watcher saw is taken back, no call is left open, none is executed twice.
//!
//! `FOURFOLD_KILL_SEED=7 FOURFOLD_KILL_ROUNDS=50` repeats what chance has decided, or goes on for longer.

use std::{collections::HashMap, fs};

use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{PACED_PROGRAM, expected, one_of, paced_upstream, serving, shell, state, url, wish};
use crate::{
    harness::{DEADLINE, Server, run},
    reader::{AGAIN, Begun, FORMS, Reader, Target, WAYS, Way, answer, http},
    records::Kind,
    seeded::{Seeded, asked_for, fresh_seed},
};

const CALLS_A_ROUND: usize = 12;
const RECORDS: u64 = 60;

/// A call of a round, and what its watcher had before the kill.
struct Watched {
    key: String,
    kind: Kind,
    /// `None`: it never learned which call it is.
    reader: Option<Reader>,
}

/// A call as it is for good.
struct Settled {
    target: Target,
    records: Vec<String>,
    ending: Value,
}

#[test]
fn a_kill_takes_nothing_back_leaves_no_call_open_and_executes_none_twice() {
    let seed = asked_for("FOURFOLD_KILL_SEED").unwrap_or_else(fresh_seed);
    let rounds = asked_for("FOURFOLD_KILL_ROUNDS").unwrap_or(5);
    eprintln!("FOURFOLD_KILL_SEED={seed} FOURFOLD_KILL_ROUNDS={rounds}");
    let mut chance = Seeded::new(seed);
    let upstream = paced_upstream(chance.branch());
    let notes = tempfile::NamedTempFile::new().expect("a temporary file");
    let ran = format!("environment = {{ RAN = '{}' }}", notes.path().display());
    let mut server =
        serving(&format!("{}{}", url("json", &upstream.url("json"), ""), shell("text", PACED_PROGRAM, &ran)));
    let (mut settled, mut begun_twice, mut interrupted, mut seen) = (Vec::<Settled>::new(), 0, 0, 0);
    for round in 0..rounds {
        let watched = struck(&mut server, &mut chance, round);
        if chance.once_in(3) {
            server.stumble(chance.pause(1..80));
        }
        server.restart();
        run(async {
            assert_eq!(running(&server).await, Vec::<Value>::new(), "no call is open after a restart");
            for watched in watched {
                seen += watched.reader.as_ref().map_or(0, |reader| reader.records.len());
                begun_twice += usize::from(watched.reader.is_none());
                let call = timeout(DEADLINE, settle(&server, watched)).await.expect("an end before the deadline");
                interrupted += usize::from(call.ending["outcome"] == "interrupted");
                settled.push(call);
            }
        });
    }
    server.kill();
    server.restart();
    run(async {
        for call in &settled {
            let fresh = Reader::read(&call.target, one_of(&mut chance, &WAYS), usize::MAX).await;
            assert_eq!(fresh.records, call.records, "what is there stays there");
            assert_eq!(ending(&call.target).await, call.ending, "and so does how it ended");
        }
    });
    let asked = upstream.asked_by_key();
    assert!(asked.values().all(|count| *count == 1), "{asked:?}");
    let mut ran = HashMap::<String, usize>::new();
    for id in fs::read_to_string(notes.path()).expect("it is text").lines() {
        *ran.entry(id.to_owned()).or_default() += 1;
    }
    assert!(ran.values().all(|count| *count == 1), "{ran:?}");
    for call in &settled {
        let id = call.target.stream.strip_prefix("calls/").expect("it is a call's");
        let executed = match call.target.kind {
            Kind::Json => upstream.asked().iter().any(|asked| asked.call == id),
            Kind::Text => ran.contains_key(id),
        };
        assert!(executed || call.records.is_empty(), "{id} has records from nowhere");
    }
    eprintln!(
        "{rounds} kills, {} calls, {interrupted} of them interrupted; {begun_twice} were not known to their caller at the kill; watchers had {seen} records",
        settled.len()
    );
    assert!(interrupted > 0, "no kill fell on a call");
}

/// Begins a round's calls, watches them in all forms and ways, and kills the server in the middle.
fn struck(server: &mut Server, chance: &mut Seeded, round: u64) -> Vec<Watched> {
    let address = server.address();
    run(async {
        let (kill, killed) = watch::channel(false);
        let mut watching = JoinSet::new();
        for n in 0..CALLS_A_ROUND {
            let (address, mut chance, mut killed) = (address.clone(), chance.branch(), killed.clone());
            watching.spawn(async move {
                let (name, kind) = if n % 2 == 0 { ("json", Kind::Json) } else { ("text", Kind::Text) };
                let key = format!("{round}-{n}");
                sleep(chance.pause(0..300)).await; // Some kills fall on a beginning.
                let (http, body) = (http(), wish(kind, RECORDS));
                let begun = Begun { http: &http, address: &address, name, key: &key, body: &body, kind };
                let patience = if chance.once_in(2) { DEADLINE } else { chance.pause(1..300) };
                // Both end by themselves when the server does.
                let mut reader = match begun.read(one_of(&mut chance, &FORMS), patience).await {
                    Some(reader) => Some(reader),
                    None => tokio::select! {
                        (target, _) = begun.plainly() => Some(Reader::new(&target)),
                        _ = killed.wait_for(|killed| *killed) => None,
                    },
                };
                if let Some(reader) = &mut reader {
                    while !reader.done() && !*killed.borrow() {
                        let leg = timeout(chance.pause(1..250), reader.leg(one_of(&mut chance, &WAYS)));
                        tokio::select! {
                            _ = leg => {}
                            _ = killed.wait_for(|killed| *killed) => {}
                        }
                    }
                }
                Watched { key, kind, reader }
            });
        }
        sleep(chance.pause(20..700)).await;
        assert!(!server.has_ended(), "the server has ended by itself");
        server.kill();
        kill.send_replace(true);
        timeout(DEADLINE, watching.join_all()).await.expect("they notice")
    })
}

/// After the restart: the call of this key, which is what its watcher has seen and perhaps more.
async fn settle(server: &Server, watched: Watched) -> Settled {
    let (address, http) = (server.address(), http());
    let Watched { key, kind, reader } = watched;
    let name = if kind == Kind::Json { "json" } else { "text" };
    let body = wish(kind, RECORDS);
    let begun = Begun { http: &http, address: &address, name, key: &key, body: &body, kind };
    let (target, replayed) = begun.plainly().await;
    if let Some(reader) = &reader {
        assert!(replayed, "a call that was told of is there");
        assert_eq!(reader.path(), target.path(), "the same key is the same call");
    }
    let mut fresh = Reader::new(&target);
    while !fresh.done() {
        if fresh.leg(Way::Portions).await.is_err() {
            sleep(AGAIN).await;
        }
    }
    for way in WAYS {
        let other = Reader::read(&target, way, usize::MAX).await;
        assert!(other.records == fresh.records && other.offset == fresh.offset, "{way:?} differs");
    }
    let (ending, expected) = (ending(&target).await, expected(kind, RECORDS));
    assert!(expected.starts_with(&fresh.records), "{} records are not the first of those sent", fresh.records.len());
    match (replayed, ending["outcome"].as_str().expect("an outcome")) {
        (_, "finished") => assert_eq!(fresh.records.len(), expected.len(), "{ending}"),
        (true, "interrupted") => assert_eq!(ending["code"], "killed"),
        _ => panic!("{ending}"),
    }
    if let Some(reader) = reader {
        assert!(fresh.records.starts_with(&reader.records), "what a watcher saw was taken back");
    }
    Settled { target, records: fresh.records, ending }
}

async fn running(server: &Server) -> Vec<Value> {
    let url = format!("{}/v1/calls?running=true", server.url());
    let answer = answer(http().get(url), &[200]).await.expect("it is up").text().await.expect("a whole answer");
    let page: Value = serde_json::from_str(&answer).expect("JSON");
    page["calls"].as_array().expect("calls").clone()
}

async fn ending(target: &Target) -> Value {
    let id = target.stream.strip_prefix("calls/").expect("it is a call's");
    let state = state(&target.address, id).await;
    assert_eq!(state["state"], "ended");
    state["ending"].clone()
}
