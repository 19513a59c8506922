//! Whether the server is alive, and whether it is ready: asked of what does the work, not of the process.
//!
//! *Alive*: each shard's runtime takes a turn when it is asked to. *Ready*: a record can be appended to a stream of the server's own, made durable,
//! and read back through the engine, within a deadline. A flood of questions costs one proof a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fourfold_protocol::{Code, StreamName};
use fourfold_stream::{
    Append, AppendError, Create, CreateError, Engine, Limit, OpenError, Retention, Stream, Unavailable,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, Notify},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    context::Drain,
    limits::{PROBE_AGE_MAX, PROBE_RECORDS_MAX, PROBE_WAIT_MAX, TURN_WAIT_MAX},
};

/// Where the proofs are kept. Below `__ds`, where clients neither see nor name anything.
const STREAM: &str = "__ds/health";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Why not, by a stable code and in words.
    pub(crate) fault: Option<(&'static str, String)>,
    /// How long it took to find out.
    pub(crate) took: Duration,
}

/// A shard, to be asked for a turn.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    runtime: Handle,
    asked: Arc<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// A turn was asked for and not taken yet; another one is not asked for meanwhile.
    pending: AtomicBool,
    taken: Notify,
}

impl Turn {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, asked: Arc::default() }
    }

    /// Whether the shard takes a turn in time.
    pub(crate) async fn is_taken(&self) -> bool {
        let mut taken = std::pin::pin!(self.asked.taken.notified());
        taken.as_mut().enable();
        if !self.asked.pending.swap(true, SeqCst) {
            let asked = Arc::clone(&self.asked);
            self.runtime.spawn(async move {
                asked.pending.store(false, SeqCst);
                asked.taken.notify_waiters();
            });
        }
        timeout(TURN_WAIT_MAX, taken).await.is_ok()
    }
}

/// Proves readiness, one proof for all who ask at about the same time.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    last: Mutex<Last>,
    /// Tells one proof's record from another's.
    proofs: AtomicU64,
}

#[derive(Debug, Default)]
struct Last {
    proof: Option<(Instant, Proof)>,
    /// A proof that has not come to its end. While it has not, no other is begun.
    pending: Option<JoinHandle<Result<(), (&'static str, String)>>>,
}

impl Readiness {
    /// The last proof, if it is of the last second, or a new one.
    pub(crate) async fn prove(&self, engine: Option<Arc<dyn Engine>>, drain: &Drain) -> Proof {
        let begun = Instant::now();
        let fault =
            |code: Code, detail: &str| Proof { fault: Some((code.as_str(), detail.to_owned())), took: begun.elapsed() };
        if drain.begun() {
            return fault(Code::Draining, "the server drains: it takes no new connections and is about to end");
        }
        let Some(engine) = engine else { return fault(Code::Overloaded, "the server starts: it does not serve yet") };
        let mut last = self.last.lock().await;
        if let Some((at, proof)) = &last.proof
            && at.elapsed() < PROBE_AGE_MAX
        {
            return proof.clone();
        }
        let number = self.proofs.fetch_add(1, Relaxed);
        let mut proof = last.pending.take().unwrap_or_else(|| tokio::spawn(append_and_read(engine, number)));
        let proof = match timeout(PROBE_WAIT_MAX, &mut proof).await {
            Ok(Ok(result)) => Proof { fault: result.err(), took: begun.elapsed() },
            Ok(Err(_)) => fault(Code::Internal, "the proof has ended by a panic"),
            Err(_) => {
                last.pending = Some(proof);
                let seconds = PROBE_WAIT_MAX.as_secs();
                fault(
                    Code::Overloaded,
                    &format!(
                        "an append is not durable after {seconds} s: the disk or the engine is stuck, or overloaded"
                    ),
                )
            }
        };
        last.proof = Some((Instant::now(), proof.clone()));
        proof
    }
}

/// Appends a record that was never there before, and reads exactly that one.
async fn append_and_read(engine: Arc<dyn Engine>, number: u64) -> Result<(), (&'static str, String)> {
    let stream = stream(&*engine).await.map_err(told)?;
    let record = Bytes::from(format!("{number} {:016x}", fastrand::u64(..)));
    let append = Append { records: vec![record.clone()], ..Append::default() };
    let appended = engine.append(&stream, append).await.map_err(|why| match why {
        AppendError::Unavailable(why) => told(why),
        why => failed(why.to_string()),
    })?;
    let at = appended.next.saturating_sub(1);
    let batch = engine.read(&stream, at, Limit { records: 1, bytes: 1024 }).await;
    let batch = batch.map_err(|why| failed(format!("what was appended cannot be read: {why}")))?;
    match batch.records.first() {
        Some(read) if read.position == at && read.data == record => Ok(()),
        _ => Err(failed("what was read is not what was appended".into())),
    }
}

async fn stream(engine: &dyn Engine) -> Result<Arc<Stream>, Unavailable> {
    let name = StreamName::internal(STREAM).expect("the name is a constant");
    match engine.open(&name).await {
        Ok(stream) => return Ok(stream),
        Err(OpenError::Unavailable(why)) => return Err(why),
        Err(OpenError::NotFound | OpenError::Gone) => {}
    }
    let wish = Create {
        content_type: "text/plain".into(),
        // Said, because what is left open takes the server's defaults.
        retention: Retention { age_seconds: Some(u64::MAX), bytes: Some(u64::MAX), records: Some(PROBE_RECORDS_MAX) },
        ..Create::default()
    };
    match engine.create(&name, wish).await {
        Ok(created) => Ok(created.stream),
        Err(CreateError::Unavailable(why)) => Err(why),
        Err(why) => Err(Unavailable::Failed(why.to_string())),
    }
}

fn told(why: Unavailable) -> (&'static str, String) {
    let code = match why {
        Unavailable::Full => Code::StorageFull,
        Unavailable::Overloaded => Code::Overloaded,
        Unavailable::Failed(_) => Code::Internal,
    };
    (code.as_str(), why.to_string())
}

fn failed(why: String) -> (&'static str, String) {
    (Code::Internal.as_str(), why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fourfold_engines::memory::MemoryEngine;
    use fourfold_stream::{Relay, listing};

    use super::*;

    fn engine() -> Arc<dyn Engine> {
        let (relay, _shards) = Relay::new(1);
        Arc::new(MemoryEngine::new(relay, Retention::default()))
    }

    #[tokio::test]
    async fn proofs_are_shared_and_leave_few_records() {
        let (engine, drain, readiness) = (engine(), Drain::default(), Readiness::default());
        let prove = || readiness.prove(Some(Arc::clone(&engine)), &drain);
        let first = prove().await;
        assert_eq!(first.fault, None);
        assert_eq!(prove().await, first, "of the same second");
        assert_eq!(readiness.proofs.load(Relaxed), 1);
        for number in 0..50 {
            append_and_read(Arc::clone(&engine), number).await.unwrap();
        }
        let stream = engine.open(&StreamName::internal(STREAM).unwrap()).await.unwrap();
        assert!(stream.tail().position - stream.oldest() <= PROBE_RECORDS_MAX, "retention drops the old ones");
    }

    #[tokio::test]
    async fn the_stream_of_proofs_is_neither_listed_nor_named_from_outside() {
        let engine = engine();
        append_and_read(Arc::clone(&engine), 0).await.unwrap();
        assert!(engine.list("", None, 10).await.unwrap().streams.len() == 1);
        assert!(listing::public(&*engine, "", None, 10).await.unwrap().streams.is_empty());
        assert!(StreamName::parse(STREAM).is_err());
    }

    #[tokio::test]
    async fn a_server_that_drains_or_starts_is_not_ready() {
        let (drain, readiness) = (Drain::default(), Readiness::default());
        assert_eq!(readiness.prove(None, &drain).await.fault.unwrap().0, "overloaded");
        drain.begin(Duration::ZERO);
        assert_eq!(readiness.prove(Some(engine()), &drain).await.fault.unwrap().0, "draining");
    }

    #[test]
    fn a_shard_that_is_stuck_takes_no_turn_and_is_asked_once() {
        let stuck = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let turn = Turn::new(stuck.handle().clone()); // Nobody runs it.
        let asking = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        asking.block_on(async {
            let (one, two) = tokio::join!(turn.is_taken(), turn.is_taken());
            assert!(!one && !two);
        });
        assert_eq!(stuck.metrics().num_alive_tasks(), 1);
        stuck.block_on(tokio::task::yield_now());
        let running =
            std::thread::spawn(move || stuck.block_on(async { tokio::time::sleep(Duration::from_secs(5)).await }));
        assert!(asking.block_on(turn.is_taken()));
        drop(running);
    }
}
