//! Requests that are answered at once, from their bytes to the answer's, over a socket.

use std::sync::Arc;

use fourfold_engines::{Durability, EmbeddedEngine, EmbeddedOptions};
use fourfold_stream::{Engine, Retention};

use crate::served::{self, STREAM, Served, header, records, request};

/// The first ones grow buffers.
const WARM_UP: u32 = 100;

/// A poll that finds nothing new, by one who has asked just before.
pub(crate) fn not_modified(rounds: u32) {
    polls(rounds, |_| 0);
}

/// The same by one whom the shard does not know.
pub(crate) fn not_modified_new(rounds: u32) {
    polls(rounds, |round| round);
}

fn polls(rounds: u32, who: fn(u32) -> u32) {
    let served = Served::in_memory();
    let mut client = served.connect();
    client.ask(&served::append(&records(0, 1)), "204");
    let target = format!("{STREAM}?offset=-1");
    let first = client.ask(&request("GET", &target, "", ""), "200");
    let etag = header(&first, "etag").expect("an ETag");
    for round in 0..WARM_UP + rounds {
        let headers = format!("If-None-Match: {etag}\r\nUser-Agent: {:08}\r\n", who(round));
        client.ask(&request("GET", &target, &headers, ""), "304");
    }
}

/// A poll that gets sixteen records.
pub(crate) fn sixteen(rounds: u32) {
    let served = Served::in_memory();
    let mut client = served.connect();
    client.ask(&served::append(&records(0, 16)), "204");
    let read = request("GET", &format!("{STREAM}?offset=-1"), "", "");
    for _ in 0..WARM_UP + rounds {
        client.ask(&read, "200");
    }
}

/// An append of so many records to a stream in memory.
pub(crate) fn append(rounds: u32, count: usize) {
    appends(&Served::in_memory(), rounds, count);
}

/// An append of one record to a stream on the disk, answered when it is durable. Without the sync, how many threads are awake at a time is
/// a matter of luck, and the count varies by 4 %.
pub(crate) fn append_synced(rounds: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_owned();
    let options = EmbeddedOptions { durability: Durability::Synced, retention: Retention::default() };
    let open =
        move |relay| -> Arc<dyn Engine> { Arc::new(EmbeddedEngine::open(&path, options, relay).expect("an engine")) };
    appends(&Served::on(open), rounds, 1);
}

fn appends(served: &Served, rounds: u32, count: usize) {
    served.fill();
    let mut client = served.connect();
    for round in 0..WARM_UP + rounds {
        client.ask(&served::append(&records(round, count)), "204");
    }
}
