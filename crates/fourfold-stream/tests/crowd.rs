//! Cursors that come, sleep, change tasks and go while streams move from other threads: none sleeps past an end.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fourfold_protocol::{Epoch, Record, StreamName};
use fourfold_stream::{Cursor, Relay, Shard, Stream, StreamConfig, Streams, Tail};
use tokio::{task::JoinHandle, time::timeout};

/// Each ends once, and only a wake-up that is lost at an end is missed for ever.
const STREAMS: usize = 4_000;
const MOVES: u64 = 6;

/// On each shard.
const READERS: usize = 4;
const SHARDS: u16 = 2;

/// Nothing here takes so long unless somebody sleeps on.
const PATIENCE: Duration = Duration::from_secs(20);

fn streams(relay: Relay) -> (Streams, Vec<Arc<Stream>>) {
    let config = Arc::new(StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() });
    let streams = Streams::new(relay);
    let heat = |n| {
        let name = StreamName::new(&format!("s/{n}")).expect("a plain name");
        streams.heat(&name, Epoch(1), &config, 0, Tail::open(0), None)
    };
    let all = (0..STREAMS).map(heat).collect();
    (streams, all)
}

/// Moves one stream after the other to its end, some moves in batches, with rests in which the readers fall asleep.
fn write(streams: &Streams, all: &[Arc<Stream>]) {
    let mut random = fastrand::Rng::with_seed(0);
    let mut held = None;
    for stream in all {
        let came = Instant::now();
        while stream.cursors() < READERS * usize::from(SHARDS) {
            drop(held.take());
            assert!(came.elapsed() < PATIENCE, "the readers have come from the stream before");
            thread::yield_now();
        }
        for position in 0..MOVES {
            match random.u8(..8) {
                0 | 1 => held = Some(streams.batch()),
                2 | 3 => held = None,
                4 => thread::yield_now(),
                _ => {}
            }
            let record = Record { position, data: Bytes::from_static(b"x") };
            stream.advance(vec![record], position + 1, position + 1 == MOVES, 0);
        }
    }
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
                    poll_fn(|cx| Poll::Ready(cursor.poll_moved(cx).is_ready())).await;
                    cursor = Cursor::new(Arc::clone(cursor.stream()), 0, cursor.shard());
                }
                1 => {
                    // Asleep, and then another task's.
                    poll_fn(|cx| Poll::Ready(cursor.poll_moved(cx).is_ready())).await;
                    return follow(cursor, random.u64(..)).await.expect("it does not panic");
                }
                2 => tokio::task::yield_now().await,
                _ => cursor.moved().await,
            }
        }
    })
}

/// Follows one stream after the other.
async fn read(all: Vec<Arc<Stream>>, number: usize, shard: Shard) {
    for (n, stream) in all.into_iter().enumerate() {
        follow(Cursor::new(stream, 0, shard), (number * STREAMS + n) as u64).await.expect("it does not panic");
    }
}

#[test]
fn nobody_sleeps_past_an_end() {
    let (relay, tasks) = Relay::new(SHARDS);
    let (streams, all) = streams(relay);
    thread::scope(|scope| {
        for task in tasks {
            let all = all.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
                runtime.block_on(async move {
                    let shard: Shard = task.shard();
                    tokio::spawn(task.run());
                    let readers: Vec<_> = (0..READERS).map(|n| tokio::spawn(read(all.clone(), n, shard))).collect();
                    for reader in readers {
                        timeout(PATIENCE, reader).await.expect("nobody sleeps past an end").expect("nobody panics");
                    }
                });
            });
        }
        // Just one writer: the bell of another would make up for one that was forgotten.
        write(&streams, &all);
    });
    assert!(all.iter().all(|stream| stream.cursors() == 0), "every cursor is counted out once");
    drop(streams);
    assert!(all.iter().all(|stream| Arc::strong_count(stream) == 1), "nothing else holds a stream");
}
