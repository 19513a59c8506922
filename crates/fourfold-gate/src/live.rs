//! Deliveries to live readers, from an append's bytes on one socket to its records on others.

use crate::{
    mark, record,
    served::{Client, STREAM, Served, append, header, request},
};

/// So many readers; the figure is for one of them, with its share of the append.
pub(crate) const READERS: u32 = 50;

/// The first ones grow buffers.
const WARM_UP: u32 = 10;

pub(crate) fn sse(rounds: u32) {
    deliver(rounds, "&live=sse", "");
}

pub(crate) fn websocket(rounds: u32) {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    deliver(rounds, "", upgrade);
}

pub(crate) fn ndjson(rounds: u32) {
    deliver(rounds, "&live=long-poll&timeout=60", "Accept: application/x-ndjson\r\n");
}

fn deliver(rounds: u32, query: &str, headers: &str) {
    let served = Served::in_memory();
    served.fill();
    let mut writer = served.connect();
    let read = request("GET", &format!("{STREAM}?offset=now{query}"), headers, "");
    let mut readers: Vec<Client> = (0..READERS).map(|_| served.connect()).collect();
    readers.iter_mut().for_each(|reader| reader.send(&read));
    served.wait_for_followers(READERS);
    for round in 0..WARM_UP + rounds {
        writer.ask(&append(&record(round)), "204");
        readers.iter_mut().for_each(|reader| reader.hear_of(&mark(round)));
    }
}

/// A long poll that waits, the append that ends it, and its answer: one operation.
pub(crate) fn long_poll(rounds: u32) {
    let served = Served::in_memory();
    served.fill();
    let (mut writer, mut reader) = (served.connect(), served.connect());
    let mut next = String::from("now");
    for round in 0..WARM_UP + rounds {
        reader.send(&request("GET", &format!("{STREAM}?offset={next}&live=long-poll"), "", ""));
        served.wait_for_followers(1);
        writer.ask(&append(&record(round)), "204");
        let answer = reader.answer("200");
        assert!(answer.contains(&mark(round)), "the record that was appended");
        next = header(&answer, "stream-next-offset").expect("an offset").to_owned();
    }
}
