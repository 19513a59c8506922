//! What the embedded engine finds again.

use std::{fs, sync::Arc};

use fourfold_engines::{Durability, OpenFailure};
use fourfold_stream::{Append, AppendError, Appended, Create, CreateError, Engine, OpenError, ReadError, Retention};

use crate::forks::{fork_at, fork_of};
use crate::ground::{ALL, Ground, appended, by, keeping, name, open, plain, read, records, run, until};

#[test]
fn everything_is_there_again() {
    run(|| async {
        let ground = Ground::embedded();
        let retention = Retention { records: Some(3), bytes: Some(100), age_seconds: Some(10_000) };
        let wish = Create { ttl_seconds: Some(1000), ..keeping(retention) };
        let stream = ground.create("kept/ü", wish.clone()).await;
        for data in ["a", "b", "c", "d"] {
            ground.engine.append(&stream, Append { seq: Some(data.into()), ..records([data]) }).await.unwrap();
        }
        ground.engine.append(&stream, by("p", 4, 0, "e")).await.unwrap();
        let closed = ground.create("closed", plain()).await;
        let closing = Append { close: true, ..by("p", 0, 0, "end") };
        ground.engine.append(&closed, closing.clone()).await.unwrap();
        let deleted = ground.create("deleted", plain()).await;
        ground.engine.delete(&deleted).await.unwrap();
        let (epoch, config) = (stream.epoch(), Arc::clone(stream.config()));
        let (closed_epoch, deleted_epoch) = (closed.epoch(), deleted.epoch());
        drop((stream, closed, deleted));

        let ground = ground.reopened();
        let stream = ground.engine.open(&name("kept/ü")).await.unwrap();
        assert_eq!((stream.epoch(), stream.config()), (epoch, &config));
        assert_eq!((stream.oldest(), stream.tail().position), (2, 5));
        assert_eq!(read(&*ground.engine, &stream, 2).await.unwrap(), ["c", "d", "e"]);
        assert_eq!(ground.engine.read(&stream, 0, ALL).await, Err(ReadError::Trimmed { oldest: 2 }));
        assert!(!ground.engine.create(&name("kept/ü"), wish).await.unwrap().fresh);
        let old = Append { seq: Some("d".into()), ..records(["x"]) };
        assert_eq!(ground.engine.append(&stream, old).await, Err(AppendError::SequenceRegression { last: "d".into() }));
        assert_eq!(
            ground.engine.append(&stream, by("p", 4, 2, "x")).await,
            Err(AppendError::ProducerGap { expected: 1, received: 2 })
        );
        assert!(ground.engine.append(&stream, by("p", 4, 0, "e")).await.unwrap().duplicate);
        assert_eq!(ground.engine.append(&stream, records(["f"])).await, Ok(appended(6)));
        assert_eq!(stream.oldest(), 3);

        let closed = ground.engine.open(&name("closed")).await.unwrap();
        assert!(closed.tail().closed && closed.epoch() == closed_epoch);
        let again = Appended { next: 1, closed: true, duplicate: true, producer: Some((0, 0)) };
        assert_eq!(ground.engine.append(&closed, closing).await, Ok(again));
        assert_eq!(ground.engine.open(&name("deleted")).await.unwrap_err(), OpenError::NotFound);
        assert!(ground.create("deleted", plain()).await.epoch() > deleted_epoch);
    });
}

#[test]
fn a_use_by_reading_survives_a_restart() {
    run(|| async {
        let ground = Ground::embedded();
        let short = Create { ttl_seconds: Some(3), ..plain() };
        let (read, unused) = (ground.create("read", short.clone()).await, ground.create("unused", short).await);
        drop((unused.clone(), unused));
        let begun = std::time::Instant::now();
        until(async || {
            ground.engine.renew(&read);
            begun.elapsed().as_millis() > 2000
        })
        .await;
        drop(read);
        let ground = ground.reopened();
        until(async || ground.engine.open(&name("unused")).await.is_err()).await;
        ground.engine.open(&name("read")).await.unwrap();
        until(async || ground.engine.open(&name("read")).await.is_err()).await;
    });
}

#[test]
fn what_expires_while_the_engine_is_down_is_gone() {
    run(|| async {
        let ground = Ground::embedded();
        let at = crate::ground::now_ms() + 300;
        ground.create("a", Create { expires_at_ms: Some(at), ..plain() }).await;
        let Ground { engine, dir, .. } = ground;
        drop(engine);
        until(async || crate::ground::now_ms() > at).await;
        let dir = dir.unwrap();
        let (engine, shard) = open(dir.path(), Durability::Synced).unwrap();
        let ground = Ground { engine: Arc::new(engine), shard, dir: Some(dir) };
        assert_eq!(ground.engine.open(&name("a")).await.unwrap_err(), OpenError::NotFound);
        assert!(ground.create("a", plain()).await.tail().position == 0);
    });
}

#[test]
fn every_durability_finds_its_records_again() {
    run(|| async {
        for durability in
            [Durability::Synced, Durability::Interval(std::time::Duration::from_millis(20)), Durability::Os]
        {
            let dir = tempfile::tempdir().unwrap();
            for round in 0..3 {
                let (engine, shard) = open(dir.path(), durability).unwrap();
                let ground = Ground { engine: Arc::new(engine), shard, dir: None };
                let stream = ground.engine.create(&name("a"), plain()).await.unwrap().stream;
                assert_eq!(stream.tail().position, round * 10);
                for _ in 0..10 {
                    ground.engine.append(&stream, records(["x"])).await.unwrap();
                }
            }
        }
    });
}

#[test]
fn a_directory_is_used_by_one_engine_at_a_time() {
    run(|| async {
        let ground = Ground::embedded();
        let dir = ground.dir.as_ref().unwrap().path();
        let failure = open(dir, Durability::Synced).unwrap_err();
        assert!(matches!(&failure, OpenFailure::InUse(in_use) if in_use == dir));
        assert!(failure.to_string().contains("is in use by another process"));
    });
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    run(|| async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = open(&file.join("below"), Durability::Synced).unwrap_err();
        assert!(matches!(failure, OpenFailure::Unwritable(..)));
        assert!(failure.to_string().contains("file/below cannot be written"), "{failure}");
    });
}

#[test]
fn what_was_deleted_leaves_no_records_behind() {
    run(|| async {
        let ground = Ground::embedded();
        let many = Append { records: vec!["x".into(); 3000], ..Append::default() };
        for _ in 0..3 {
            let stream = ground.create("a", plain()).await;
            ground.engine.append(&stream, many.clone()).await.unwrap();
            ground.engine.append(&stream, by("p", 0, 0, "x")).await.unwrap();
            ground.engine.delete(&stream).await.unwrap();
        }
        // Down before all is cleared away: each run goes on with it, also a short one.
        let Ground { engine, dir, .. } = ground;
        drop(engine);
        let dir = dir.unwrap();
        until(async || {
            let (engine, _) = open(dir.path(), Durability::Synced).unwrap();
            for _ in 0..100 {
                // Each takes a turn of the committer, which clears away in between.
                engine.open(&name("none")).await.unwrap_err();
            }
            drop(engine);
            let db = fjall::Database::builder(dir.path()).open().unwrap();
            ["names", "heads", "records", "producers", "agenda", "doomed", "forks"]
                .iter()
                .all(|space| db.keyspace(space, fjall::KeyspaceCreateOptions::default).unwrap().is_empty().unwrap())
        })
        .await;
    });
}

#[test]
fn forks_are_there_again() {
    run(|| async {
        let ground = Ground::embedded();
        let kept = Retention { records: Some(2), ..Retention::default() };
        let source = ground.create("s", Create { records: vec!["ab".into(), "c".into()], ..plain() }).await;
        let fork = ground.create("f", Create { records: vec!["F".into()], ..fork_of("s") }).await;
        let part = ground.create("p", fork_at("f", Some(source.offset(0)), 1)).await;
        let short = ground.create("k", Create { retention: kept, ..fork_of("f") }).await;
        ground.engine.append(&source, records(["d"])).await.unwrap();
        ground.engine.delete(&source).await.unwrap();
        ground.engine.delete(&fork).await.unwrap();
        let tokens = [short.offset(1), short.offset(2), short.offset(3)];
        let (config, epoch) = (Arc::clone(short.config()), short.epoch());
        drop((source, fork, part, short));

        let ground = ground.reopened();
        for gone in ["s", "f"] {
            assert_eq!(ground.engine.open(&name(gone)).await.unwrap_err(), OpenError::Gone);
            assert_eq!(ground.engine.create(&name(gone), plain()).await.unwrap_err(), CreateError::Gone);
        }
        let part = ground.engine.open(&name("p")).await.unwrap();
        assert_eq!(read(&*ground.engine, &part, 0).await.unwrap(), ["a"]);
        let short = ground.engine.open(&name("k")).await.unwrap();
        assert_eq!((short.config(), short.epoch(), short.oldest()), (&config, epoch, 1));
        assert_eq!(tokens, [short.offset(1), short.offset(2), short.offset(3)]);
        assert_eq!(read(&*ground.engine, &short, 1).await.unwrap(), ["c", "F"]);
        assert_eq!(ground.engine.append(&short, records(["x"])).await, Ok(appended(4)));
        assert_eq!(read(&*ground.engine, &short, 2).await.unwrap(), ["F", "x"]);
        let again = ground.engine.create(&name("k"), Create { retention: kept, ..fork_of("f") }).await.unwrap();
        assert!(!again.fresh);
        ground.engine.delete(&short).await.unwrap();
        assert_eq!(ground.engine.open(&name("s")).await.unwrap_err(), OpenError::Gone);
        ground.engine.delete(&part).await.unwrap();
        drop((part, short, again));
        let ground = ground.reopened();
        for gone in ["s", "f", "p", "k"] {
            assert_eq!(ground.engine.open(&name(gone)).await.unwrap_err(), OpenError::NotFound);
        }
    });
}

#[test]
fn what_no_fork_shows_any_more_leaves_the_disk() {
    run(|| async {
        let ground = Ground::embedded();
        let kept = Retention { records: Some(2), ..Retention::default() };
        let source = ground.create("s", keeping(kept)).await;
        let many = Append { records: vec!["x".into(); 2000], ..Append::default() };
        ground.engine.append(&source, many.clone()).await.unwrap();
        let plenty = Retention { records: Some(1_000_000), ..Retention::default() };
        let fork = ground.create("f", Create { retention: plenty, ..fork_of("s") }).await;
        ground.engine.append(&source, many.clone()).await.unwrap();
        // The source has 2, the fork shows 2 older ones, and what lies between is in the way of nobody.
        let Ground { engine, dir, .. } = ground;
        assert_eq!(read(&*engine, &fork, 1998).await.unwrap().len(), 2);
        engine.delete(&fork).await.unwrap();
        drop((engine, source, fork));
        let dir = dir.unwrap();
        until(async || {
            let (engine, _) = open(dir.path(), Durability::Synced).unwrap();
            for _ in 0..100 {
                engine.open(&name("none")).await.unwrap_err();
            }
            drop(engine);
            let db = fjall::Database::builder(dir.path()).open().unwrap();
            let records = db.keyspace("records", fjall::KeyspaceCreateOptions::default).unwrap();
            records.iter().count() == 2
        })
        .await;
    });
}
