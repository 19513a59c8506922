//! Where the facts are tried: a fresh engine, a shard, a deadline.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_engines::{Durability, EmbeddedEngine, EmbeddedOptions, MemoryEngine, OpenFailure};
use fourfold_protocol::StreamName;
use fourfold_stream::{
    Append, Appended, Create, Engine, Limit, Producer, ReadError, Relay, RelayTask, Retention, Shard, Stream,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(240);
pub(crate) const ALL: Limit = Limit { records: usize::MAX, bytes: usize::MAX };

/// A fresh engine and its shard.
pub(crate) struct Ground {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) shard: Shard,
    pub(crate) dir: Option<tempfile::TempDir>,
}

impl Ground {
    pub(crate) fn memory() -> Self {
        let (relay, shard) = relay();
        Self { engine: Arc::new(MemoryEngine::new(relay, Retention::default())), shard, dir: None }
    }

    pub(crate) fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (engine, shard) = open(dir.path(), Durability::Synced).unwrap();
        Self { engine: Arc::new(engine), shard, dir: Some(dir) }
    }

    /// Closes the engine and opens it again on the same directory.
    pub(crate) fn reopened(self) -> Self {
        let Self { engine, dir, .. } = self;
        assert_eq!(Arc::strong_count(&engine), 1);
        drop(engine);
        let dir = dir.expect("only what is on a disk can be opened again");
        let (engine, shard) = open(dir.path(), Durability::Synced).unwrap();
        Self { engine: Arc::new(engine), shard, dir: Some(dir) }
    }

    pub(crate) async fn create(&self, stream: &str, wish: Create) -> Arc<Stream> {
        let created = self.engine.create(&name(stream), wish).await.unwrap();
        assert!(created.fresh);
        created.stream
    }
}

/// Must be called within a runtime: the shard is on it.
fn relay() -> (Relay, Shard) {
    let (relay, tasks) = Relay::new(1);
    let task: RelayTask = tasks.into_iter().next().unwrap();
    let shard = task.shard();
    tokio::spawn(task.run());
    (relay, shard)
}

pub(crate) fn open(dir: &Path, durability: Durability) -> Result<(EmbeddedEngine, Shard), OpenFailure> {
    let (relay, shard) = relay();
    let options = EmbeddedOptions { durability, retention: Retention::default() };
    EmbeddedEngine::open(dir, options, relay).map(|engine| (engine, shard))
}

/// Runs a fact on a runtime like a server's, with a deadline.
pub(crate) fn run<F: Future<Output = ()>>(fact: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(DEADLINE, fact()).await.expect("the fact did not come true in time") });
}

/// Tries each fact on every engine.
macro_rules! on_every_engine {
    ($($fact:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $fact() { crate::ground::run(|| super::$fact(crate::ground::Ground::memory())); })*
        }
        mod embedded {
            $(#[test] fn $fact() { crate::ground::run(|| super::$fact(crate::ground::Ground::embedded())); })*
        }
    };
}
pub(crate) use on_every_engine;

pub(crate) fn name(text: &str) -> StreamName {
    StreamName::new(text).unwrap()
}

pub(crate) fn plain() -> Create {
    Create { content_type: "text/plain".into(), ..Create::default() }
}

pub(crate) fn keeping(retention: Retention) -> Create {
    Create { retention, ..plain() }
}

pub(crate) fn records<const N: usize>(data: [&'static str; N]) -> Append {
    Append { records: data.map(Bytes::from).to_vec(), ..Append::default() }
}

pub(crate) fn by(id: &str, epoch: u64, seq: u64, data: &'static str) -> Append {
    Append { producer: Some(Producer { id: id.into(), epoch, seq }), ..records([data]) }
}

pub(crate) fn close() -> Append {
    Append { close: true, ..Append::default() }
}

pub(crate) fn appended(next: u64) -> Appended {
    Appended { next, closed: false, duplicate: false, producer: None }
}

/// Everything from `from` on, and where it ends.
pub(crate) async fn read(engine: &dyn Engine, stream: &Arc<Stream>, from: u64) -> Result<Vec<String>, ReadError> {
    let batch = engine.read(stream, from, ALL).await?;
    for (position, record) in (from..).zip(&batch.records) {
        assert_eq!(record.position, position);
    }
    assert_eq!(batch.next, from + batch.records.len() as u64);
    Ok(batch.records.into_iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap()).collect())
}

/// Waits for something that nobody tells.
pub(crate) async fn until(mut true_now: impl AsyncFnMut() -> bool) {
    while !true_now().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
