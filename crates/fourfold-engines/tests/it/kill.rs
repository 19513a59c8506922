//! `kill -9` at any moment loses nothing that was acknowledged, and doubles nothing.
//!
//! This test binary starts itself again as the victim: it appends, tells each acknowledgement on its standard output, and is killed.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use fourfold_engines::Durability;
use fourfold_stream::{Append, Create, Engine, Retention};

use crate::ground::{ALL, keeping, name, open, plain, records, run};

pub(crate) const DIR: &str = "FOURFOLD_VICTIM_DIR";
const ROUNDS: u32 = 20;
const STREAMS: u64 = 3;
/// Kept small, so that trimming and clearing away are under way when the blow falls.
const KEPT: u64 = 500;

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = [0_u64; STREAMS as usize];
    for round in 0..ROUNDS {
        let durability = if round % 2 == 0 { Durability::Synced } else { Durability::Os };
        let told = killed("kill::victim", dir.path(), durability, 20 + u64::from(round) * 37 % 400);
        for (stream, next) in told {
            let known = &mut acknowledged[stream];
            assert!(next > *known, "stream {stream} was at {known}, now {next}");
            *known = next;
        }
        run(|| check(dir.path(), durability, &mut acknowledged));
    }
    assert!(acknowledged.iter().sum::<u64>() > u64::from(ROUNDS), "the victims did something: {acknowledged:?}");
}

/// What a victim told before it was killed after so many acknowledgements: a stream's number, and how far it had come.
pub(crate) fn killed(victim: &str, dir: &Path, durability: Durability, after: u64) -> Vec<(usize, u64)> {
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", victim, "--nocapture", "--test-threads=1"])
        .env(DIR, format!("{}|{}", dir.display(), durability == Durability::Synced))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = victim.stdout.take().unwrap();
    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The last line may be cut short by the kill.
            if let ["told", stream, next, "ok"] = line.split(' ').collect::<Vec<_>>()[..] {
                let _ = tell.send((stream.parse().unwrap(), next.parse().unwrap()));
            }
        }
    });
    let mut all = Vec::new();
    while (all.len() as u64) < after {
        match told.recv_timeout(Duration::from_secs(30)) {
            Ok(one) => all.push(one),
            Err(_) => break,
        }
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    reader.join().unwrap();
    all.extend(told.try_iter());
    assert!(!all.is_empty(), "the victim told nothing");
    all
}

async fn check(dir: &Path, durability: Durability, acknowledged: &mut [u64]) {
    let (engine, _) = open(dir, durability).unwrap();
    for (n, known) in acknowledged.iter_mut().enumerate() {
        let stream = engine.open(&name(&format!("s/{n}"))).await.unwrap();
        let tail = stream.tail().position;
        assert!(tail >= *known, "stream {n}: {known} were acknowledged, {tail} are there");
        assert_eq!(stream.oldest(), tail.saturating_sub(KEPT));
        let batch = engine.read(&stream, stream.oldest(), ALL).await.unwrap();
        assert_eq!(batch.next, tail);
        for record in batch.records {
            assert_eq!(record.data, data(n as u64, record.position), "stream {n}");
        }
        *known = tail;
    }
}

/// Different lengths, the place in it, so that neither loss nor doubling nor mixing up goes unseen.
fn data(stream: u64, position: u64) -> bytes::Bytes {
    format!("{stream} {position} {}", "x".repeat(usize::try_from(position * 7 % 300).unwrap())).into()
}

/// Not a fact: the victim. Does nothing unless it was started as one.
#[test]
fn victim() {
    let Ok(order) = env::var(DIR) else { return };
    let (dir, synced) = order.rsplit_once('|').unwrap();
    let durability = if synced == "true" { Durability::Synced } else { Durability::Os };
    run(|| async {
        let (engine, _) = open(Path::new(dir), durability).unwrap();
        let retention = Retention { records: Some(KEPT), ..Retention::default() };
        let mut streams = Vec::new();
        for n in 0..STREAMS {
            let wish = keeping(retention);
            streams.push(engine.create(&name(&format!("s/{n}")), wish).await.unwrap().stream);
        }
        // The test harness has begun a line of its own.
        writeln!(std::io::stdout()).unwrap();
        loop {
            // Something that is created and deleted all the time, too.
            let passing =
                engine.create(&name("passing"), Create { records: vec!["x".into()], ..plain() }).await.unwrap();
            engine.append(&passing.stream, records(["y"])).await.unwrap();
            let mut answers = Vec::new();
            for (n, stream) in (0..).zip(&streams) {
                // All earlier ones are acknowledged, so that the tail stands still.
                let tail = stream.tail().position;
                for position in tail..tail + 3 {
                    let append = Append { records: vec![data(n, position)], ..Append::default() };
                    answers.push((n, engine.append(stream, append)));
                }
            }
            for (n, answer) in answers {
                let next = answer.await.unwrap().next;
                let mut out = std::io::stdout().lock();
                writeln!(out, "told {n} {next} ok").unwrap();
                out.flush().unwrap();
            }
            engine.delete(&passing.stream).await.unwrap();
        }
    });
}
