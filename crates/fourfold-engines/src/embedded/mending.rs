//! A test of its own: writes that really fail, on a real small filesystem, because nobody looked at the free space before.

use std::{fs, path::Path, process::Command};

use bytes::Bytes;
use fourfold_protocol::StreamName;
use fourfold_stream::{Append, Create, Engine, Limit, Relay, Retention};

use super::{Durability, EmbeddedEngine, EmbeddedOptions};

/// So many appends are refused in each round.
const REFUSALS: usize = 5;

struct SmallDisk(tempfile::TempDir);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_failed_write_is_taken_back_and_the_store_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(dir.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a failing write cannot be tried here, mounting is not allowed");
        return;
    }
    let disk = SmallDisk(dir);
    for durability in [Durability::Synced, Durability::Os] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(filled_and_freed(disk.0.path(), durability));
    }
}

async fn filled_and_freed(disk: &Path, durability: Durability) {
    let (dir, ballast) = (disk.join("data"), disk.join("ballast"));
    fs::write(&ballast, vec![1; 20 * 1024 * 1024]).unwrap();
    let options = EmbeddedOptions { durability, retention: Retention::default() };
    let open = || EmbeddedEngine::open_with(&dir, options, Relay::new(1).0, Some(0)).unwrap();
    let mut engine = open();
    engine.create(&name(), plain()).await.unwrap();
    let (mut sent, mut acknowledged) = (0, Vec::new());
    for round in 0..3 {
        let stream = engine.open(&name()).await.unwrap();
        let mut refused = 0;
        while refused < REFUSALS {
            // Two at a time: a group of one, or of two.
            let answers = [0, 1].map(|more| {
                let data = data(sent + more);
                let append = Append { records: vec![data.clone()], ..Append::default() };
                (data, engine.append(&stream, append))
            });
            sent += 2;
            for (data, answer) in answers {
                match answer.await {
                    Ok(done) => {
                        acknowledged.push(data);
                        assert_eq!(done.next, acknowledged.len() as u64);
                    }
                    Err(_) => refused += 1,
                }
            }
            assert_eq!(stream.tail().position, acknowledged.len() as u64);
        }
        drop(stream);
        check(&engine, &acknowledged).await;
        if round == 1 {
            drop(engine);
            engine = open();
            check(&engine, &acknowledged).await;
        }
    }
    assert!(acknowledged.len() > 20);
    fs::remove_file(&ballast).unwrap();
    let stream = engine.open(&name()).await.unwrap();
    let append = Append { records: vec![data(sent)], ..Append::default() };
    engine.append(&stream, append).await.unwrap();
    acknowledged.push(data(sent));
    check(&engine, &acknowledged).await;
    drop((stream, engine));
    check(&open(), &acknowledged).await;
    fs::remove_dir_all(&dir).unwrap();
}

/// Odd lengths, so that a write is cut anywhere.
fn data(n: usize) -> Bytes {
    format!("{n} {}", "x".repeat(100_000 + n * 7919 % 9973)).into()
}

/// What was acknowledged is there, once and in order, and nothing else.
async fn check(engine: &EmbeddedEngine, acknowledged: &[Bytes]) {
    let stream = engine.open(&name()).await.unwrap();
    assert_eq!(stream.tail().position, acknowledged.len() as u64);
    let limit = Limit { records: usize::MAX, bytes: usize::MAX };
    let batch = engine.read(&stream, 0, limit).await.unwrap();
    assert!(batch.records.iter().map(|record| &record.data).eq(acknowledged));
}

fn name() -> StreamName {
    StreamName::new("a").unwrap()
}

fn plain() -> Create {
    Create { content_type: "text/plain".into(), ..Create::default() }
}
