//! A test of its own: writes that really fail, on a real small filesystem, because nobody looked at the free space before.

use std::{fs, process::Command};

use bytes::Bytes;
use fourfold_protocol::StreamName;
use fourfold_stream::{Append, Create, Engine, Limit, Relay, Retention};

use super::{Durability, EmbeddedEngine, EmbeddedOptions};

fn data(n: u64) -> Bytes {
    // Odd lengths, so that a write is cut anywhere.
    format!("{n} {}", "x".repeat(100_000 + usize::try_from(n * 7919 % 9973).unwrap())).into()
}

async fn check(engine: &EmbeddedEngine, acknowledged: u64) {
    let stream = engine.open(&StreamName::new("a").unwrap()).await.unwrap();
    assert_eq!(stream.tail().position, acknowledged);
    let mut next = 0;
    while next < acknowledged {
        let batch = engine.read(&stream, next, Limit { records: 10, bytes: usize::MAX }).await.unwrap();
        for record in &batch.records {
            assert!(record.data.starts_with(format!("{} ", record.position).as_bytes()), "{next}");
        }
        next = batch.next;
    }
    assert_eq!(next, acknowledged);
}

#[test]
fn a_failed_write_is_taken_back_and_the_store_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(dir.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a failing write cannot be tried here, mounting is not allowed");
        return;
    }
    for durability in [Durability::Synced, Durability::Os] {
        let (data_dir, ballast) = (dir.path().join(format!("{durability:?}")), dir.path().join("ballast"));
        fs::write(&ballast, vec![1; 20 * 1024 * 1024]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = EmbeddedOptions { durability, retention: Retention::default() };
            let open = || EmbeddedEngine::open_with(&data_dir, options, Relay::new(1).0, Some(0)).unwrap();
            let mut engine = open();
            let wish = Create {
                content_type: "text/plain".into(),
                ttl_seconds: None,
                expires_at_ms: None,
                retention: Retention::default(),
                records: Vec::new(),
                closed: false,
            };
            let name = StreamName::new("a").unwrap();
            engine.create(&name, wish).await.unwrap();
            let mut acknowledged = 0;
            for round in 0..3 {
                let stream = engine.open(&name).await.unwrap();
                let mut refused = 0;
                while refused < 5 {
                    // Two at a time: a group of one, or of two.
                    let answers = [0, 1].map(|more| {
                        let append = Append { records: vec![data(acknowledged + more)], ..Append::default() };
                        engine.append(&stream, append)
                    });
                    for answer in answers {
                        match answer.await {
                            Ok(done) => acknowledged = done.next,
                            Err(_) => refused += 1,
                        }
                    }
                    assert_eq!(stream.tail().position, acknowledged);
                    if refused % 2 == 1 {
                        break; // the second of a pair went in with the first one's data: not what this is about
                    }
                }
                check(&engine, acknowledged).await;
                drop(stream);
                if round == 1 {
                    drop(engine);
                    engine = open();
                    check(&engine, acknowledged).await;
                }
            }
            assert!(acknowledged > 20);
            fs::remove_file(&ballast).unwrap();
            let stream = engine.open(&name).await.unwrap();
            let append = Append { records: vec![data(acknowledged)], ..Append::default() };
            assert_eq!(engine.append(&stream, append).await.unwrap().next, acknowledged + 1);
            check(&engine, acknowledged + 1).await;
            drop((stream, engine));
            check(&open(), acknowledged + 1).await;
        });
        fs::remove_dir_all(&data_dir).unwrap();
    }
    let _ = Command::new("umount").arg(dir.path()).status();
}
