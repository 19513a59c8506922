//! Damaged files: what opens has a whole prefix of what was acknowledged, or refuses and names the file. Never a hole.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use fourfold_engines::{Durability, OpenFailure};
use fourfold_stream::{Append, Engine, OpenError, ReadError, Unavailable};

use crate::ground::{ALL, Ground, name, open, plain, run};

const RECORDS: u64 = 60;

/// A directory with a stream, as an engine leaves it that was ended, or killed (the mark is then behind).
async fn filled(killed: bool) -> tempfile::TempDir {
    let ground = Ground::embedded();
    let stream = ground.create("a", plain()).await;
    for n in 0..RECORDS {
        append(&*ground.engine, &stream, n).await;
    }
    let Ground { engine, dir, .. } = ground;
    let dir = dir.unwrap();
    if killed {
        // What is on the disk at this moment is what a kill would leave.
        let copy = copied(dir.path());
        drop(engine);
        return copy;
    }
    drop(engine);
    dir
}

async fn append(engine: &dyn Engine, stream: &Arc<fourfold_stream::Stream>, n: u64) {
    let records = vec![format!("record {n}").into()];
    engine.append(stream, Append { records, ..Append::default() }).await.unwrap();
}

fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if entry.file_name().to_str().unwrap().ends_with(".jnl") {
            // Sparse: only what was written, the rest is zeros.
            let bytes = fs::read(entry.path()).unwrap();
            fs::write(&target, &bytes[..used(&bytes)]).unwrap();
            fs::File::options().write(true).open(&target).unwrap().set_len(bytes.len() as u64).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// How long it is without the zeros at the end.
fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end >= ZEROS.len() && bytes[end - ZEROS.len()..end] == ZEROS {
        end -= ZEROS.len();
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

fn journal(dir: &Path) -> PathBuf {
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "jnl"));
    all.sort();
    all.pop().unwrap()
}

/// How many records are there, from the first on and in order; or why it was not opened.
async fn opened(dir: &Path, durability: Durability) -> Result<u64, OpenFailure> {
    let (engine, _) = open(dir, durability)?;
    let stream = match engine.open(&name("a")).await {
        Ok(stream) => stream,
        Err(OpenError::NotFound) => return Ok(0),
        Err(OpenError::Unavailable(why)) => return Ok(told(&why)),
    };
    match engine.read(&stream, 0, ALL).await {
        Ok(batch) => {
            assert_eq!(batch.next, stream.tail().position);
            for (n, record) in batch.records.iter().enumerate() {
                assert_eq!(record.data, format!("record {n}"));
            }
            // And it goes on from there.
            let next = batch.next;
            append(&engine, &stream, next).await;
            assert_eq!(stream.tail().position, next + 1);
            Ok(next)
        }
        Err(ReadError::Unavailable(why)) => Ok(told(&why)),
        Err(other) => panic!("{other}"),
    }
}

/// A damage that is found only by reading is told by that.
fn told(why: &Unavailable) -> u64 {
    assert!(matches!(why, Unavailable::Failed(text) if !text.is_empty()));
    RECORDS
}

fn names(failure: &OpenFailure, dir: &Path) {
    let OpenFailure::Broken { file, .. } = failure else { panic!("{failure}") };
    assert!(file.starts_with(dir) && file != dir, "{failure}");
    let text = failure.to_string();
    assert!(text.contains("restore") && !text.contains('\n'), "{text}");
}

#[test]
fn a_journal_that_was_cut_is_refused_after_an_orderly_end() {
    run(|| async {
        let dir = filled(false).await;
        let length = used(&fs::read(journal(dir.path())).unwrap());
        for cut in [0, 1, length / 3, length / 2, length - 40, length - 1] {
            let copy = copied(dir.path());
            let file = journal(copy.path());
            fs::File::options().write(true).open(&file).unwrap().set_len(cut as u64).unwrap();
            let failure = opened(copy.path(), Durability::Synced).await.unwrap_err();
            names(&failure, copy.path());
            assert!(failure.to_string().contains(".jnl"), "{failure}");
        }
        assert_eq!(opened(dir.path(), Durability::Synced).await.unwrap(), RECORDS);
    });
}

#[test]
fn a_torn_end_after_a_crash_leaves_every_whole_group() {
    run(|| async {
        let dir = filled(true).await;
        let length = used(&fs::read(journal(dir.path())).unwrap());
        for back in [1, 5, 17, 40, 60] {
            let copy = copied(dir.path());
            let file = journal(copy.path());
            let mut bytes = fs::read(&file).unwrap();
            bytes[length - back..length].fill(0);
            fs::write(&file, bytes).unwrap();
            assert_eq!(opened(copy.path(), Durability::Synced).await.unwrap(), RECORDS - 1);
            assert!(
                fs::read_dir(copy.path())
                    .unwrap()
                    .any(|entry| { entry.unwrap().file_name().to_str().unwrap().contains(".cut-at-") })
            );
            // The cut is mended for good.
            assert_eq!(reopened_count(copy.path()).await, RECORDS);
        }
    });
}

async fn reopened_count(dir: &Path) -> u64 {
    let (engine, _) = open(dir, Durability::Synced).unwrap();
    engine.open(&name("a")).await.unwrap().tail().position
}

#[test]
fn a_flipped_bit_in_the_journal_never_drops_what_follows_in_silence() {
    run(|| async {
        for killed in [false, true] {
            let dir = filled(killed).await;
            let length = used(&fs::read(journal(dir.path())).unwrap());
            let mut refused = 0;
            for at in (0..length).step_by(length / 60) {
                let copy = copied(dir.path());
                let file = journal(copy.path());
                let mut bytes = fs::read(&file).unwrap();
                bytes[at] ^= 1 << (at % 8);
                fs::write(&file, bytes).unwrap();
                match opened(copy.path(), Durability::Synced).await {
                    Err(failure) => {
                        names(&failure, copy.path());
                        assert!(failure.to_string().contains(".jnl"), "{failure}");
                        refused += 1;
                    }
                    Ok(count) => assert!(killed && count == RECORDS - 1, "byte {at} of {length}: {count}"),
                }
            }
            assert!(refused > 50, "{refused}");
        }
    });
}

#[test]
fn a_hole_in_an_unsynced_journal_is_cut_off_and_kept_aside() {
    run(|| async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = open(dir.path(), Durability::Os).unwrap();
        let stream = engine.create(&name("a"), plain()).await.unwrap().stream;
        for n in 0..RECORDS {
            append(&engine, &stream, n).await;
        }
        let copy = copied(dir.path());
        let file = journal(copy.path());
        let mut bytes = fs::read(&file).unwrap();
        let length = used(&bytes);
        bytes[length / 2..length / 2 + 10].fill(0);
        fs::write(&file, bytes).unwrap();
        let count = opened(copy.path(), Durability::Os).await.unwrap();
        assert!(count > 10 && count < RECORDS - 10, "{count}");
    });
}

#[test]
fn damaged_tables_are_told_and_never_read_as_something_else() {
    run(|| async {
        let dir = filled(false).await;
        // So that there are tables: the journal is written out when it is replayed and the memtables are rotated.
        {
            let db = fjall::Database::builder(dir.path()).open().unwrap();
            for space in ["names", "heads", "records", "meta"] {
                let space = db.keyspace(space, fjall::KeyspaceCreateOptions::default).unwrap();
                space.rotate_memtable_and_wait().unwrap();
            }
        }
        assert_eq!(opened(copied(dir.path()).path(), Durability::Synced).await.unwrap(), RECORDS);
        let mut files = Vec::new();
        below(&dir.path().join("keyspaces"), &mut files);
        let mut refused = 0;
        for file in files {
            let length = fs::metadata(&file).unwrap().len();
            for at in (0..length).step_by(usize::try_from(length / 12).unwrap().max(1)) {
                let copy = copied(dir.path());
                let damaged = copy.path().join(file.strip_prefix(dir.path()).unwrap());
                let mut bytes = fs::read(&damaged).unwrap();
                bytes[usize::try_from(at).unwrap()] ^= 0x10;
                if at % 5 == 4 {
                    bytes.truncate(usize::try_from(at).unwrap());
                }
                fs::write(&damaged, bytes).unwrap();
                match opened(copy.path(), Durability::Synced).await {
                    Err(failure) => {
                        names(&failure, copy.path());
                        refused += 1;
                    }
                    Ok(count) => assert_eq!(count, RECORDS, "{} byte {at}", damaged.display()),
                }
            }
        }
        assert!(refused > 0);
    });
}

#[test]
fn a_keyspace_without_its_pointer_does_not_begin_anew() {
    run(|| async {
        let dir = filled(false).await;
        let spaces = fs::read_dir(dir.path().join("keyspaces")).unwrap();
        for space in spaces.map(|entry| entry.unwrap().path()) {
            let whole = copied(dir.path());
            let lost = whole.path().join(space.strip_prefix(dir.path()).unwrap());
            fs::remove_file(lost.join("current")).unwrap();
            let failure = opened(whole.path(), Durability::Synced).await.unwrap_err();
            names(&failure, whole.path());
            assert!(failure.to_string().contains("current is damaged (it is missing)"), "{failure}");
            fs::remove_dir_all(lost).unwrap();
            names(&opened(whole.path(), Durability::Synced).await.unwrap_err(), whole.path());
        }
    });
}

fn below(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            below(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

#[test]
fn a_format_of_the_future_is_refused() {
    run(|| async {
        let dir = filled(false).await;
        let db = fjall::Database::builder(dir.path()).open().unwrap();
        let meta = db.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
        meta.insert("format", 2_u64.to_be_bytes()).unwrap();
        meta.rotate_memtable_and_wait().unwrap();
        drop((meta, db));
        let failure = opened(dir.path(), Durability::Synced).await.unwrap_err();
        assert!(matches!(failure, OpenFailure::Format(_, 2)), "{failure}");
    });
}
