//! A real full disk: a small filesystem of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use fourfold_engines::Durability;
use fourfold_stream::{Append, AppendError, CreateError, Engine, Unavailable};

use crate::ground::{ALL, Ground, appended, by, name, open, plain, records, run};

/// A small filesystem, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and a word about it, where mounting is not allowed.
    fn mounted(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("SKIPPED: a full disk cannot be tried here, mounting is not allowed: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes up room until it is removed.
    fn ballast(&self, mib: usize) -> PathBuf {
        let file = self.path().join("ballast");
        fs::write(&file, vec![1; mib * 1024 * 1024]).unwrap();
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    let Some(disk) = SmallDisk::mounted("96m") else { return };
    run(|| async {
        let ballast = disk.ballast(40);
        let dir = disk.path().join("data");
        let (engine, shard) = open(&dir, Durability::Synced).unwrap();
        let ground = Ground { engine: Arc::new(engine), shard, dir: None };
        let engine = &*ground.engine;
        let stream = ground.create("a", plain()).await;
        let other = ground.create("b", plain()).await;
        engine.append(&other, by("p", 0, 0, "x")).await.unwrap();
        let large = |n: u64| Append {
            records: vec![vec![u8::try_from(n % 251).unwrap(); 512 * 1024].into()],
            ..Append::default()
        };
        let mut acknowledged = 0;
        let refused = loop {
            match engine.append(&stream, large(acknowledged)).await {
                Ok(done) => {
                    acknowledged += 1;
                    assert_eq!(done.next, acknowledged);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(refused, AppendError::Unavailable(Unavailable::Full));
        assert!(acknowledged > 4);
        assert_eq!(stream.tail().position, acknowledged);
        // Below what is kept free, where small things would still have found room.
        let more = disk.path().join("more");
        fs::write(&more, vec![1; 3 * 1024 * 1024]).unwrap();
        let full = Err(CreateError::Unavailable(Unavailable::Full));
        assert_eq!(engine.create(&name("c"), plain()).await.map(|_| ()), full);
        assert!(engine.append(&other, by("p", 0, 0, "x")).await.unwrap().duplicate, "what needs no room is answered");
        let all = async |engine: &dyn Engine| {
            let stream = engine.open(&name("a")).await.unwrap();
            let batch = engine.read(&stream, 0, ALL).await.unwrap();
            for (n, record) in (0..).zip(&batch.records) {
                assert!(record.data == large(n).records[0], "record {n}");
            }
            batch.next
        };
        assert_eq!(all(engine).await, acknowledged);
        engine.delete(&other).await.unwrap();

        fs::remove_file(ballast).unwrap();
        fs::remove_file(more).unwrap();
        assert_eq!(engine.append(&stream, large(acknowledged)).await, Ok(appended(acknowledged + 1)));
        assert_eq!(engine.append(&ground.create("c", plain()).await, records(["x"])).await, Ok(appended(1)));
        drop((stream, other, ground));
        let (engine, _) = open(&dir, Durability::Synced).unwrap();
        assert_eq!(all(&engine).await, acknowledged + 1);
    });
}
