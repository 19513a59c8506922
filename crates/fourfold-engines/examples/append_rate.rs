//! How fast appends become durable: `append_rate DIR [STREAMS]`. Measures what one commit of so many records costs, then, if
//! asked, creates so many streams and opens the directory again.
#![expect(clippy::print_stdout, reason = "a bench talks")]

use std::{
    env,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fourfold_engines::{Durability, EmbeddedEngine, EmbeddedOptions};
use fourfold_protocol::StreamName;
use fourfold_stream::{Append, Create, Engine, Limit, Relay, Retention, Stream};

const RECORD_BYTES: usize = 200;
const EACH: Duration = Duration::from_secs(3);
const PIPELINED: usize = 256;

fn main() {
    let mut args = env::args().skip(1);
    let Some(dir) = args.next() else {
        println!("usage: append_rate DIR [STREAMS]");
        return;
    };
    let streams: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for durability in [Durability::Synced, Durability::Interval(Duration::from_millis(100)), Durability::Os] {
            rates(Path::new(&dir), durability).await;
        }
        if streams > 0 {
            many(Path::new(&dir), streams).await;
        }
    });
}

fn open(dir: &Path, durability: Durability) -> EmbeddedEngine {
    let options = EmbeddedOptions { durability, retention: Retention::default() };
    EmbeddedEngine::open(dir, options, Relay::new(1).0).expect("an engine")
}

fn plain() -> Create {
    Create { content_type: "application/octet-stream".into(), ..Create::default() }
}

async fn stream(engine: &EmbeddedEngine, name: &str) -> Arc<Stream> {
    let name = StreamName::new(name).expect("a name");
    engine.create(&name, plain()).await.expect("a stream").stream
}

async fn rates(dir: &Path, durability: Durability) {
    let engine = open(dir, durability);
    let record = Bytes::from(vec![b'x'; RECORD_BYTES]);
    let log = stream(&engine, "rate").await;
    for records in [1, 16, 64, 256] {
        let (begun, mut commits) = (Instant::now(), 0_u32);
        while begun.elapsed() < EACH {
            let append = Append { records: vec![record.clone(); records], ..Append::default() };
            engine.append(&log, append).await.expect("an append");
            commits += 1;
        }
        let took = begun.elapsed().as_secs_f64();
        let rate = f64::from(commits) * records as f64 / took;
        println!(
            "{durability:?}: {records:>3} records a commit: {rate:>9.0} records/s, {:.0} commits/s",
            f64::from(commits) / took
        );
    }
    let mut logs = Vec::new();
    for n in 0..PIPELINED {
        logs.push(stream(&engine, &format!("many/{n}")).await);
    }
    let (begun, mut appends) = (Instant::now(), 0_u32);
    while begun.elapsed() < EACH {
        let append = || Append { records: vec![record.clone()], ..Append::default() };
        let answers: Vec<_> = logs.iter().map(|log| engine.append(log, append())).collect();
        for answer in answers {
            answer.await.expect("an append");
            appends += 1;
        }
    }
    println!(
        "{durability:?}: {PIPELINED} appends at a time: {:>9.0} appends/s",
        f64::from(appends) / begun.elapsed().as_secs_f64()
    );
    let (begun, mut from, mut portions) = (Instant::now(), 0, 0_u32);
    while from < log.tail().position && begun.elapsed() < EACH {
        let limit = Limit { records: 1000, bytes: 64 * 1024 };
        from = engine.read(&log, from, limit).await.expect("a read").next;
        portions += 1;
    }
    println!(
        "{durability:?}: a portion of 64 KiB read in {:.0} us",
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(portions.max(1))
    );
}

async fn many(dir: &Path, streams: usize) {
    let engine = open(dir, Durability::Os);
    let begun = Instant::now();
    for first in (0..streams).step_by(PIPELINED) {
        let names =
            (first..(first + PIPELINED).min(streams)).map(|n| StreamName::new(&format!("s/{n:08}")).expect("a name"));
        let answers: Vec<_> = names.map(|name| engine.create(&name, plain())).collect();
        for answer in answers {
            answer.await.expect("a stream");
        }
    }
    println!("{streams} streams created in {:.1} s", begun.elapsed().as_secs_f64());
    drop(engine);
    let begun = Instant::now();
    let engine = open(dir, Durability::Os);
    println!("opened again in {:.2} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    for n in (0..streams).step_by((streams / 1000).max(1)) {
        let name = StreamName::new(&format!("s/{n:08}")).expect("a name");
        engine.open(&name).await.expect("a stream");
    }
    println!("a cold stream opened in {:.0} us", begun.elapsed().as_secs_f64() * 1e6 / 1000.0);
}
