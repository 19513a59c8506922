//! Delivering to cursors, without a socket: all sleep on one stream, an append wakes them, each takes the shared frame and sleeps again.

use std::{cell::Cell, hint::black_box, rc::Rc, sync::Arc};

use bytes::Bytes;
use fourfold_protocol::{Epoch, Record, StreamName};
use fourfold_stream::{
    Cursor, Dialect, Next, Portion, Relay, Retention, Streams, Tail, cursor::PORTION, engine::StreamConfig,
    stream::RECENT_BYTES_MAX,
};
use tokio::task;

use crate::{counted, encode, record};

/// So many cursors on the stream; the figure is for one of them, with its share of the append and of encoding it once.
pub(crate) const CURSORS: u32 = 100;

/// The first ones grow buffers.
const WARM_UP: u32 = 10;

struct Messages;

impl Dialect for Messages {
    fn number(&self) -> u8 {
        1
    }

    fn encode(&self, portion: &Portion<'_>) -> Bytes {
        encode::message(portion)
    }
}

pub(crate) fn run(rounds: u32) {
    counted(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        task::LocalSet::new().block_on(&runtime, deliver(rounds));
    });
}

async fn deliver(rounds: u32) {
    let (relay, mut shards) = Relay::new(1);
    let shard = shards.pop().expect("there is one");
    let number = shard.shard();
    task::spawn_local(shard.run());
    let config = Arc::new(StreamConfig {
        content_type: "application/json".into(),
        ttl_seconds: None,
        expires_at_ms: None,
        retention: Retention::default(),
        created_at_ms: 0,
        forked: None,
        note: None,
        restored: Vec::new(),
    });
    let name = StreamName::new("news").expect("a name");
    let stream = Streams::new(relay).heat(&name, Epoch(1), &config, 0, Tail::open(0), None);
    let data = Bytes::from(record(0));
    let append = || {
        let position = stream.tail().position;
        stream.advance(vec![Record { position, data: data.clone() }], position + 1, false, 0);
    };
    // Until an old record is dropped from memory for each new one.
    (0..RECENT_BYTES_MAX / data.len()).for_each(|_| append());
    let delivered = Rc::new(Cell::new(0));
    for _ in 0..CURSORS {
        let (mut cursor, delivered) =
            (Cursor::new(Arc::clone(&stream), stream.tail().position, number), Rc::clone(&delivered));
        cursor.greeted();
        task::spawn_local(async move {
            loop {
                match cursor.next(&Messages, PORTION) {
                    Next::Frame(frame) => {
                        black_box(frame.bytes);
                        delivered.set(delivered.get() + 1);
                    }
                    Next::Wait => cursor.moved().await,
                    Next::Behind | Next::Ended(_) => panic!("the records are in memory, and the stream is open"),
                }
            }
        });
    }
    for round in 0..WARM_UP + rounds {
        append();
        while delivered.get() < (round + 1) * CURSORS {
            task::yield_now().await;
        }
    }
}
