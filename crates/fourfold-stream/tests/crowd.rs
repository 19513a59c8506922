//! Cursors that come, sleep, change tasks and go while streams move from other threads: none sleeps past the end.

use std::{future::poll_fn, sync::Arc, task::Poll, thread, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Epoch, Record, StreamName};
use fourfold_stream::{Cursor, Relay, Retention, Shard, Stream, StreamConfig, Streams, Tail};
use tokio::{task::JoinHandle, time::timeout};

const STREAMS: usize = 3;
const MOVES: u64 = 3_000;
const READERS: usize = 40;

/// Nothing here takes so long unless somebody sleeps on.
const PATIENCE: Duration = Duration::from_secs(20);

fn streams(relay: Relay) -> (Streams, Vec<Arc<Stream>>) {
    let config = Arc::new(StreamConfig {
        content_type: "text/plain".into(),
        ttl_seconds: None,
        expires_at_ms: None,
        retention: Retention::default(),
        created_at_ms: 0,
        forked: None,
    });
    let streams = Streams::new(relay);
    let heat = |n| {
        let name = StreamName::new(&format!("s/{n}")).expect("a plain name");
        streams.heat(&name, Epoch(1), &config, 0, Tail::open(0))
    };
    let all = (0..STREAMS).map(heat).collect();
    (streams, all)
}

/// Moves all streams to their end, some moves in batches, with rests in which the readers fall asleep.
fn write(streams: &Streams, all: &[Arc<Stream>], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut held = None;
    for position in 0..MOVES {
        match random.u8(..8) {
            0 => held = Some(streams.batch()),
            1 | 2 => held = None,
            3 if held.is_none() => thread::sleep(Duration::from_micros(random.u64(..200))),
            _ => {}
        }
        for stream in all {
            let record = Record { position, data: Bytes::from_static(b"x") };
            stream.advance(vec![record], position + 1, position + 1 == MOVES, 0);
        }
    }
    drop(held);
}

/// Follows to the end, with all the ways a cursor can be treated on the way.
fn follow(mut cursor: Cursor, seed: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut random = fastrand::Rng::with_seed(seed);
        loop {
            let tail = cursor.look();
            if tail.closed {
                assert_eq!(tail.position, MOVES);
                return;
            }
            match random.u8(..16) {
                0 => {
                    // Asleep, and gone.
                    poll_fn(|cx| Poll::Ready(drop(cursor.poll_moved(cx)))).await;
                    let (stream, shard) = (Arc::clone(cursor.stream()), cursor.shard());
                    cursor = Cursor::new(stream, 0, shard);
                }
                1 => {
                    // Asleep, and then another task's.
                    poll_fn(|cx| Poll::Ready(drop(cursor.poll_moved(cx)))).await;
                    return follow(cursor, random.u64(..)).await.expect("it does not panic");
                }
                2 => tokio::task::yield_now().await,
                _ => cursor.moved().await,
            }
        }
    })
}

#[test]
fn nobody_sleeps_past_the_end() {
    let (relay, tasks) = Relay::new(2);
    let (streams, all) = streams(relay);
    thread::scope(|scope| {
        for task in tasks {
            let all = all.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
                runtime.block_on(async move {
                    let shard: Shard = task.shard();
                    tokio::spawn(task.run());
                    let readers: Vec<_> = (0..READERS)
                        .map(|n| follow(Cursor::new(Arc::clone(&all[n % STREAMS]), 0, shard), n as u64))
                        .collect();
                    for reader in readers {
                        let ended = timeout(PATIENCE, reader).await;
                        ended.expect("nobody sleeps past the end").expect("nobody panics");
                    }
                });
            });
        }
        for (n, stream) in all.chunks(1).enumerate() {
            let streams = &streams;
            scope.spawn(move || write(streams, stream, n as u64));
        }
    });
    assert!(all.iter().all(|stream| stream.cursors() == 0), "every cursor is counted out once");
    drop(streams);
    assert!(all.iter().all(|stream| Arc::strong_count(stream) == 1), "nothing else holds a stream");
}
