//! Calls on an engine that cannot always do what it is asked to: real programs, the memory engine, and refusals such as the embedded one gives.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use fourfold_calls::{Begun, Calls, Options, Wish};
use fourfold_engines::MemoryEngine;
use fourfold_protocol::{Code, StreamName};
use fourfold_stream::{
    Append, AppendError, Appended, Batch, Create, CreateError, Created, Engine, Limit, Listing, OpenError, Pending,
    ReadError, Relay, Retention, Stream, Streams, Unavailable,
};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

/// The memory engine behind a door that refuses the next so many appends.
struct Tired {
    engine: MemoryEngine,
    busy: AtomicUsize,
    full: AtomicUsize,
    refused: AtomicUsize,
}

impl Engine for Tired {
    fn append(&self, stream: &Arc<Stream>, append: Append) -> Pending<Result<Appended, AppendError>> {
        let due = |counter: &AtomicUsize| counter.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        let why = if due(&self.busy) {
            Unavailable::Overloaded
        } else if due(&self.full) {
            Unavailable::Full
        } else {
            return self.engine.append(stream, append);
        };
        self.refused.fetch_add(1, SeqCst);
        Box::pin(ready(Err(why.into())))
    }

    fn create(&self, name: &StreamName, wish: Create) -> Pending<Result<Created, CreateError>> {
        self.engine.create(name, wish)
    }

    fn open(&self, name: &StreamName) -> Pending<Result<Arc<Stream>, OpenError>> {
        self.engine.open(name)
    }

    fn read(&self, stream: &Arc<Stream>, from: u64, limit: Limit) -> Pending<Result<Batch, ReadError>> {
        self.engine.read(stream, from, limit)
    }

    fn delete(&self, stream: &Arc<Stream>) -> Pending<Result<(), OpenError>> {
        self.engine.delete(stream)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Pending<Result<Listing, Unavailable>> {
        self.engine.list(prefix, after, limit)
    }

    fn renew(&self, stream: &Arc<Stream>) {
        self.engine.renew(stream);
    }

    fn streams(&self) -> &Streams {
        self.engine.streams()
    }
}

fn tired() -> Arc<Tired> {
    let engine = MemoryEngine::new(Relay::new(1).0, Retention::default());
    let none = || AtomicUsize::new(0);
    Arc::new(Tired { engine, busy: none(), full: none(), refused: none() })
}

async fn start(engine: &Arc<Tired>, script: &str) -> Calls {
    let config = serde_json::from_value(json!({ "command": ["/bin/sh", "-c", script], "grace": "100ms" })).unwrap();
    let options = Options { calls: BTreeMap::from([("work".to_owned(), config)]), ..Options::default() };
    Calls::start(Arc::clone(engine) as Arc<dyn Engine>, options, Arc::new(())).await.unwrap()
}

fn wish(key: Option<&str>) -> Wish {
    Wish {
        name: "work".into(),
        rest: String::new(),
        query: None,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        key: key.map(str::to_owned),
        caller: None,
    }
}

/// Waits for the end, which comes in time or is no end.
async fn ending(begun: &Begun) -> Value {
    let closed = async {
        while !begun.stream.tail().closed {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), closed).await.expect("the call ends");
    serde_json::from_str(begun.stream.ending().expect("it says how")).unwrap()
}

async fn text(engine: &Tired, begun: &Begun) -> String {
    let all = Limit { records: usize::MAX, bytes: usize::MAX };
    let batch = engine.read(&begun.stream, 0, all).await.unwrap();
    batch.records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

#[tokio::test]
async fn an_engine_that_has_too_much_to_do_makes_the_call_slower_and_takes_nothing_from_it() {
    let engine = tired();
    let calls = start(&engine, "for n in 1 2 3 4 5; do echo $n; sleep 0.01; done").await;
    engine.busy.store(5, SeqCst);
    let begun = calls.begin(wish(None)).await.unwrap();
    let ending = ending(&begun).await;
    assert_eq!((&ending["outcome"], &ending["records"], &ending["bytes"]), (&json!("finished"), &json!(5), &json!(10)));
    assert_eq!((text(&engine, &begun).await.as_str(), engine.refused.load(SeqCst)), ("1\n2\n3\n4\n5\n", 5));
    calls.stop();
}

#[tokio::test]
async fn a_full_disk_ends_the_call_and_says_so_once_there_is_room() {
    let engine = tired();
    let calls = start(&engine, "echo first; exec sleep 100").await;
    engine.full.store(3, SeqCst); // The record, and the end twice.
    let begun = calls.begin(wish(None)).await.unwrap();
    let ending = ending(&begun).await;
    assert_eq!((&ending["outcome"], &ending["code"]), (&json!("failed"), &json!("storage-full")));
    assert_eq!((&ending["records"], text(&engine, &begun).await.as_str()), (&json!(0), ""));
    assert_eq!(engine.refused.load(SeqCst), 3);
    calls.stop();
}

#[tokio::test]
async fn nothing_is_kept_behind_what_could_not_be_kept() {
    let engine = tired();
    // The line that is whole is refused; there is room again for the beginning of the one behind it.
    let calls = start(&engine, "sleep 0.3; printf 'lost\\nbeginning'; exec sleep 100").await;
    let begun = calls.begin(wish(None)).await.unwrap();
    while begun.stream.config().content_type.is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    engine.full.store(1, SeqCst);
    let ending = ending(&begun).await;
    assert_eq!((&ending["outcome"], &ending["code"]), (&json!("failed"), &json!("storage-full")));
    assert_eq!((&ending["records"], text(&engine, &begun).await.as_str()), (&json!(0), ""));
    calls.stop();
}

#[tokio::test]
async fn a_call_that_a_start_finds_open_is_closed_as_soon_as_there_is_room() {
    let engine = tired();
    let before = start(&engine, "exec sleep 100").await;
    let begun = before.begin(wish(Some("k"))).await.unwrap();
    before.stop(); // Without a drain, as a kill.
    assert!(!begun.stream.tail().closed);
    engine.full.store(2, SeqCst);
    let after = start(&engine, "exec sleep 100").await;
    let ending = ending(&begun).await;
    assert_eq!((&ending["outcome"], &ending["code"]), (&json!("interrupted"), &json!("killed")));
    let again = after.begin(wish(Some("k"))).await.unwrap();
    assert_eq!((again.id.as_str(), again.replayed), (begun.id.as_str(), true));
    after.stop();
}

#[tokio::test]
async fn what_is_deleted_while_it_runs_runs_no_more() {
    let engine = tired();
    let calls = start(&engine, "while :; do echo x; sleep 0.01; done").await;
    let begun = calls.begin(wish(None)).await.unwrap();
    engine.delete(&begun.stream).await.unwrap();
    let over = async {
        while calls.cancel(&begun.id) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), over).await.expect("it is let go");
    assert_eq!(calls.state(&begun.id).await.unwrap_err().code, Code::CallNotFound);
    calls.drain(Duration::from_secs(5)).await;
    assert_eq!(calls.begin(wish(None)).await.unwrap_err().code, Code::Draining);
    calls.stop();
    assert_eq!(calls.begin(wish(None)).await.unwrap_err().code, Code::Draining);
}
