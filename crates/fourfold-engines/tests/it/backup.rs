//! Backups: one point in the order of commits, told when they are not whole, and everything is there after a restore.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use fourfold_engines::{
    Durability, EmbeddedEngine, OpenFailure,
    embedded::backup::{BackupError, RestoreError, copy_of, restore, verify},
};
use fourfold_stream::{Append, Create, Engine, ForkWish, OpenError, Retention};

use crate::ground::{appended, by, close, keeping, name, open, plain, read, records, run};

fn fork_of(source: &str) -> Create {
    let from = name(source);
    Create { content_type: String::new(), fork: Some(ForkWish { from, at: None, sub: 0 }), ..plain() }
}

/// Every sort of thing that an engine keeps.
async fn filled(engine: &EmbeddedEngine) {
    let create = async |stream: &str, wish: Create| engine.create(&name(stream), wish).await.unwrap().stream;
    let a = create("a", plain()).await;
    for (seq, data) in ["one", "two", "three"].into_iter().enumerate() {
        engine.append(&a, by("p", 1, seq as u64, data)).await.unwrap();
    }
    let fork = create("fork", fork_of("a")).await;
    engine.append(&fork, records(["four"])).await.unwrap();
    let closed = create("closed", plain()).await;
    engine.append(&closed, Append { ending: Some("{}".into()), ..close() }).await.unwrap();
    let kept = create("kept", keeping(Retention { records: Some(2), ..Retention::default() })).await;
    engine.append(&kept, records(["x", "y", "z"])).await.unwrap();
    let source = create("source", plain()).await;
    engine.append(&source, records(["s"])).await.unwrap();
    create("orphan", fork_of("source")).await;
    engine.delete(&source).await.unwrap();
    let gone = create("gone", plain()).await;
    engine.append(&gone, records(["g"])).await.unwrap();
    engine.delete(&gone).await.unwrap();
}

async fn check(engine: &EmbeddedEngine) {
    let find = async |stream: &str| engine.open(&name(stream)).await.unwrap();
    let a = find("a").await;
    assert_eq!(read(engine, &a, 0).await.unwrap(), ["one", "two", "three"]);
    assert_eq!(read(engine, &a, 2).await.unwrap(), ["three"]);
    assert!(engine.append(&a, by("p", 1, 2, "three")).await.unwrap().duplicate);
    let fork = find("fork").await;
    assert_eq!(read(engine, &fork, 0).await.unwrap(), ["one", "two", "three", "four"]);
    let closed = find("closed").await;
    assert!(closed.tail().closed);
    assert_eq!(closed.ending().map(|ending| &**ending), Some("{}"));
    let kept = find("kept").await;
    assert_eq!((kept.oldest(), read(engine, &kept, 1).await.unwrap()), (1, vec!["y".to_owned(), "z".to_owned()]));
    assert_eq!(engine.open(&name("source")).await.unwrap_err(), OpenError::Gone);
    assert_eq!(read(engine, &find("orphan").await, 0).await.unwrap(), ["s"]);
    assert_eq!(engine.open(&name("gone")).await.unwrap_err(), OpenError::NotFound);
}

/// A backup of it.
async fn backed_up() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _shard) = open(dir.path(), Durability::Synced).unwrap();
    filled(&engine).await;
    let mut bytes = Vec::new();
    engine.backups().write(&mut bytes).unwrap();
    bytes
}

#[test]
fn everything_is_there_after_a_restore() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _shard) = open(dir.path(), Durability::Synced).unwrap();
        filled(&engine).await;
        let mut bytes = Vec::new();
        let summary = engine.backups().write(&mut bytes).unwrap();
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!(verify(&mut bytes.as_slice()).unwrap(), summary);
        drop(engine);
        let mut offline = Vec::new();
        assert_eq!(copy_of(dir.path(), &mut offline).unwrap().streams, summary.streams);
        for bytes in [bytes, offline] {
            let to = tempfile::tempdir().unwrap();
            let new = to.path().join("new");
            restore(&mut bytes.as_slice(), &new).unwrap();
            for _ in 0..2 {
                let (engine, _shard) = open(&new, Durability::Synced).unwrap();
                check(&engine).await;
            }
            let (engine, _shard) = open(&new, Durability::Synced).unwrap();
            let a = engine.open(&name("a")).await.unwrap();
            assert_eq!(engine.append(&a, records(["more"])).await.unwrap(), appended(4));
            let before = a.epoch();
            let fresh = engine.create(&name("fresh"), plain()).await.unwrap().stream;
            assert!(fresh.epoch() > before);
        }
    });
}

#[test]
fn a_backup_is_one_point_in_the_order_of_commits() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _shard) = open(dir.path(), Durability::Os).unwrap();
        let engine = Arc::new(engine);
        let [a, b] = ["a", "b"].map(|stream| {
            let engine = Arc::clone(&engine);
            async move { engine.create(&name(stream), plain()).await.unwrap().stream }
        });
        let (a, b) = (a.await, b.await);
        let mut backups = Vec::new();
        for n in 0..200_u64 {
            // The second is sent when the first is acknowledged.
            engine.append(&a, by("p", 0, n, "x")).await.unwrap();
            if n % 50 == 25 {
                let (acknowledged, backup) = (a.tail().position, engine.backups());
                let taking = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    backup.write(&mut bytes).map(|_| bytes)
                });
                backups.push((acknowledged, taking));
            }
            engine.append(&b, by("p", 0, n, "x")).await.unwrap();
        }
        for (acknowledged, taking) in backups {
            let bytes = taking.await.unwrap().unwrap();
            let to = tempfile::tempdir().unwrap();
            restore(&mut bytes.as_slice(), to.path()).unwrap();
            let (engine, _shard) = open(to.path(), Durability::Synced).unwrap();
            let (a, b) = (engine.open(&name("a")).await.unwrap(), engine.open(&name("b")).await.unwrap());
            let (first, second) = (a.tail().position, b.tail().position);
            assert!(first >= acknowledged && (first == second || first == second + 1), "{first} {second}");
            assert_eq!(read(&engine, &a, 0).await.unwrap().len() as u64, first);
            assert!(engine.append(&a, by("p", 0, first - 1, "x")).await.unwrap().duplicate);
            assert!(!engine.append(&a, by("p", 0, first, "x")).await.unwrap().duplicate);
        }
    });
}

#[test]
fn a_backup_that_is_cut_anywhere_is_told() {
    run(async || {
        let bytes = backed_up().await;
        assert!(verify(&mut bytes.as_slice()).is_ok());
        for end in 0..bytes.len() {
            match verify(&mut &bytes[..end]) {
                Err(RestoreError::Truncated(at)) => assert_eq!(at, end as u64),
                Err(RestoreError::NoBackup) => assert_eq!(end, 0),
                other => panic!("{end}: {other:?}"),
            }
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(matches!(verify(&mut longer.as_slice()), Err(RestoreError::Damaged { .. })));
    });
}

#[test]
fn every_changed_byte_of_a_backup_is_told() {
    run(async || {
        let bytes = backed_up().await;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let error = verify(&mut changed.as_slice()).expect_err(&format!("byte {at}"));
            match at {
                0..16 => assert!(matches!(error, RestoreError::NoBackup), "{at}: {error}"),
                16..20 => assert!(matches!(error, RestoreError::Version(_)), "{at}: {error}"),
                _ => {
                    assert!(matches!(error, RestoreError::Damaged { .. } | RestoreError::Truncated(_)), "{at}: {error}")
                }
            }
        }
    });
}

#[test]
fn what_is_not_whole_leaves_the_directory_empty() {
    run(async || {
        let mut bytes = backed_up().await;
        let to = tempfile::tempdir().unwrap();
        let empty = || fs::read_dir(to.path()).unwrap().count() == 0;
        assert!(matches!(restore(&mut &bytes[..bytes.len() / 2], to.path()), Err(RestoreError::Truncated(_))));
        assert!(empty());
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let error = restore(&mut bytes.as_slice(), to.path()).unwrap_err();
        assert!(error.to_string().starts_with("the backup is damaged after entry "), "{error}");
        assert!(empty());
        bytes[middle] ^= 1;
        restore(&mut bytes.as_slice(), to.path()).unwrap();
        assert!(matches!(restore(&mut bytes.as_slice(), to.path()), Err(RestoreError::NotEmpty(_))));
        open(to.path(), Durability::Synced).unwrap();
    });
}

/// Copies the directory when it has given this much, as a kill then would leave it.
struct Watched<'a> {
    bytes: &'a [u8],
    left: usize,
    dir: &'a Path,
    copy: &'a Path,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            copy(self.dir, self.copy);
            self.left = usize::MAX;
        }
        let read = (&mut self.bytes).take(self.left as u64).read(into)?;
        self.left -= read;
        Ok(read)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

#[test]
fn a_restore_that_did_not_finish_is_not_opened() {
    run(async || {
        let bytes = backed_up().await;
        let to = tempfile::tempdir().unwrap();
        let (dir, killed) = (to.path().join("dir"), to.path().join("killed"));
        let left = bytes.len() - 20;
        restore(&mut Watched { bytes: &bytes, left, dir: &dir, copy: &killed }, &dir).unwrap();
        match open(&killed, Durability::Synced) {
            Err(OpenFailure::Broken { why, .. }) => assert_eq!(why, "a restore into the directory did not finish"),
            other => panic!("{other:?}"),
        }
        open(&dir, Durability::Synced).unwrap();
    });
}

#[test]
fn a_directory_without_streams_has_no_backup_and_one_in_use_only_by_its_owner() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        assert!(matches!(copy_of(dir.path(), &mut bytes), Err(BackupError::Nothing(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let (_engine, _shard) = open(dir.path(), Durability::Synced).unwrap();
        assert!(matches!(copy_of(dir.path(), &mut bytes), Err(BackupError::Open(OpenFailure::InUse(_)))));
        assert!(bytes.is_empty());
    });
}

/// Takes nothing, and says when it was asked.
struct Stalled(Arc<AtomicBool>);

impl Write for Stalled {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        self.0.store(true, SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn whoever_takes_nothing_holds_up_neither_appends_nor_the_end() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _shard) = open(dir.path(), Durability::Synced).unwrap();
        let a = engine.create(&name("a"), plain()).await.unwrap().stream;
        let large = Append { records: vec![vec![b'x'; 1 << 20].into()], ..Append::default() };
        engine.append(&a, large).await.unwrap();
        let (asked, backups) = (Arc::new(AtomicBool::new(false)), engine.backups());
        let mut stalled = Stalled(Arc::clone(&asked));
        let taking = tokio::task::spawn_blocking(move || backups.write(&mut stalled));
        crate::ground::until(async || asked.load(SeqCst)).await;
        engine.append(&a, records(["b"])).await.unwrap();
        drop((a, engine));
        assert!(matches!(taking.await.unwrap(), Err(BackupError::Closing)));
    });
}

/// A restore of what `engine` keeps now, opened.
async fn restored(engine: &EmbeddedEngine, to: &Path) -> EmbeddedEngine {
    let mut bytes = Vec::new();
    engine.backups().write(&mut bytes).unwrap();
    restore(&mut bytes.as_slice(), to).unwrap();
    open(to, Durability::Synced).unwrap().0
}

#[test]
fn an_offset_that_a_restore_has_lost_never_means_another_record() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _shard) = open(&dir.path().join("0"), Durability::Synced).unwrap();
        let create = async |stream: &str, wish| engine.create(&name(stream), wish).await.unwrap().stream;
        let (a, empty) = (create("a", plain()).await, create("empty", plain()).await);
        let closed = create("closed", Create { closed: true, ..plain() }).await;
        engine.append(&a, by("p", 0, 0, "one")).await.unwrap();
        engine.append(&a, by("p", 0, 1, "two")).await.unwrap();
        let fork = create("fork", fork_of("a")).await;
        engine.append(&fork, records(["three"])).await.unwrap();
        let first = restored(&engine, &dir.path().join("1")).await;
        // What is handed out from here on is lost.
        let mut lost = Vec::new();
        for stream in [&a, &empty, &fork] {
            for _ in 0..3 {
                let next = engine.append(stream, records(["lost"])).await.unwrap().next;
                lost.push((stream.name().clone(), stream.offset(next)));
            }
        }
        let find = async |stream: &str| first.open(&name(stream)).await.unwrap();
        let (a2, empty2, fork2) = (find("a").await, find("empty").await, find("fork").await);
        for (old, new) in [(&a, &a2), (&empty, &empty2), (&fork, &fork2)] {
            for position in 0..=new.tail().position {
                assert_eq!(new.position(old.offset(position)), Some(position), "{} {position}", old.name());
                assert_eq!(new.position(new.offset(position)), Some(position));
            }
        }
        assert_eq!(find("closed").await.offset(0), closed.offset(0), "nothing can follow it");
        for stream in [&a2, &empty2, &fork2] {
            for _ in 0..5 {
                first.append(stream, records(["new"])).await.unwrap();
            }
        }
        for (stream, offset) in &lost {
            assert_eq!(find(stream.as_str()).await.position(*offset), None, "{stream} {offset}");
        }
        assert_eq!(read(&first, &a2, 1).await.unwrap(), ["two", "new", "new", "new", "new", "new"]);
        assert!(first.append(&a2, by("p", 0, 1, "two")).await.unwrap().duplicate);
        assert!(a2.offset(1) < a2.offset(2) && a2.offset(2) < a2.offset(3));
        // Through another restore, and with a fork from behind the seam.
        let at = Some(fourfold_protocol::Start::At(a2.offset(4)));
        let wish =
            Create { content_type: String::new(), fork: Some(ForkWish { from: name("a"), at, sub: 0 }), ..plain() };
        let later = first.create(&name("later"), wish).await.unwrap().stream;
        first.append(&later, records(["own"])).await.unwrap();
        let second = restored(&first, &dir.path().join("2")).await;
        let [a3, later3] = [second.open(&name("a")).await.unwrap(), second.open(&name("later")).await.unwrap()];
        for stream in [&a3, &later3] {
            second.append(stream, records(["last"])).await.unwrap();
        }
        for position in 0..=7 {
            assert_eq!(a3.position(a2.offset(position)), Some(position));
        }
        assert_eq!(read(&second, &a3, 5).await.unwrap(), ["new", "new", "last"]);
        assert_eq!(read(&second, &later3, 0).await.unwrap(), ["one", "two", "new", "new", "own", "last"]);
        assert_eq!((later3.position(a3.offset(3)), later3.position(later.offset(5))), (Some(3), Some(5)));
        assert_eq!(later3.position(a3.offset(6)), None, "the source's own, behind the fork");
    });
}

#[test]
fn what_was_restored_is_trimmed_and_deleted_over_its_lives() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _shard) = open(&dir.path().join("0"), Durability::Synced).unwrap();
        let wish = keeping(Retention { records: Some(3), ..Retention::default() });
        let a = engine.create(&name("a"), wish).await.unwrap().stream;
        engine.append(&a, records(["1", "2", "3"])).await.unwrap();
        let again = restored(&engine, &dir.path().join("1")).await;
        let a = again.open(&name("a")).await.unwrap();
        let count = || again.backups().write(&mut io::sink()).unwrap().records;
        again.append(&a, records(["4", "5"])).await.unwrap();
        assert_eq!(read(&again, &a, 2).await.unwrap(), ["3", "4", "5"]);
        crate::ground::until(async || count() == 3).await;
        again.append(&a, records(["6", "7"])).await.unwrap();
        assert_eq!(read(&again, &a, 4).await.unwrap(), ["5", "6", "7"]);
        crate::ground::until(async || count() == 3).await;
        again.delete(&a).await.unwrap();
        crate::ground::until(async || count() == 0).await;
    });
}
