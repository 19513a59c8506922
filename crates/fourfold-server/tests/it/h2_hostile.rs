//! HTTP/2 clients that mean ill, or do not know better: what they cost is bounded, and nobody else notices.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use h2::client;

use crate::{
    h2_client::{H2, a_moment, run, secured},
    harness::{Harness, PATIENCE, url},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET /v1/stream/witness`, as HPACK without any table of its own.
fn head() -> Vec<u8> {
    let mut head = vec![0x82, 0x87]; // :method GET, :scheme https
    for (index, value) in [(0x04, "/v1/stream/witness"), (0x01, "x")] {
        head.extend([index, u8::try_from(value.len()).expect("short")]);
        head.extend(value.as_bytes());
    }
    head
}

/// A connection on which bytes go as they are.
fn raw(harness: &Harness) -> TcpStream {
    let mut tcp = TcpStream::connect(harness.listens).expect("it listens");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    tcp.set_write_timeout(Some(PATIENCE)).expect("a deadline");
    tcp.write_all(PREFACE).expect("it is taken");
    tcp.write_all(&frame(SETTINGS, 0, 0, &[])).expect("it is taken");
    tcp
}

/// Whether the server has ended the connection before all of it was taken; reads what it says meanwhile.
fn is_cut_during(tcp: &mut TcpStream, pieces: impl Iterator<Item = Vec<u8>>) -> bool {
    let mut reader = tcp.try_clone().expect("another handle");
    let read = std::thread::spawn(move || {
        let mut sink = [0; 64 * 1024];
        while reader.read(&mut sink).is_ok_and(|bytes| bytes > 0) {}
    });
    for piece in pieces {
        if tcp.write_all(&piece).is_err() || read.is_finished() {
            return true;
        }
    }
    drop(tcp.shutdown(std::net::Shutdown::Write));
    read.join().expect("it does not panic");
    false
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has this line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[test]
fn streams_that_are_reset_at_once_and_for_ever_cost_nobody_anything() {
    let harness = Harness::start();
    let before = resident_bytes();
    let mut tcp = raw(&harness);
    let pieces = (0..20_000_u32).map(|n| {
        let stream = 2 * n + 1;
        [frame(HEADERS, END_STREAM | END_HEADERS, stream, &head()), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
            .concat()
    });
    is_cut_during(&mut tcp, pieces); // Either way; what matters is what is left of it.
    drop(tcp);
    harness.wait_for_connections(1);
    harness.still_serves();
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
}

#[test]
fn a_head_without_an_end_ends_the_connection() {
    let harness = Harness::start();
    let mut tcp = raw(&harness);
    let filler: Vec<u8> = [&[0x10, 1, b'x', 127, 0x81, 0x7e][..], &[b'y'; 16_256]].concat(); // A literal header that is never kept.
    let first = frame(HEADERS, END_STREAM, 1, &head());
    let more = frame(CONTINUATION, 0, 1, &filler);
    assert!(is_cut_during(&mut tcp, std::iter::once(first).chain(std::iter::repeat_n(more, 4_000))));
    let mut tcp = raw(&harness);
    let first = frame(HEADERS, END_STREAM, 1, &head());
    let more = frame(CONTINUATION, 0, 1, &[]);
    assert!(is_cut_during(&mut tcp, std::iter::once(first).chain(std::iter::repeat_n(more, 100_000))));
    harness.still_serves();
}

#[test]
fn pings_and_settings_that_nobody_reads_the_answers_of_are_not_kept() {
    let harness = Harness::start();
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let before = resident_bytes();
        let mut tcp = raw(&harness);
        tcp.set_write_timeout(Some(std::time::Duration::from_millis(500))).expect("a deadline");
        let flood = flood.repeat(10_000);
        let mut sent = 0;
        while sent < 64 << 20 && tcp.write_all(&flood).is_ok() {
            sent += flood.len();
        }
        harness.still_serves();
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    }
}

#[test]
fn many_large_headers_are_refused_or_ended() {
    let harness = secured();
    run(async {
        let mut h2 = H2::connect(&harness).await;
        let value = "v".repeat(1000);
        let names: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().take(40).map(|name| (name.as_str(), value.as_str())).collect();
        let refused = h2.ask("GET", &url("witness"), &headers, b"").await;
        assert_eq!(refused.status, 431, "{refused:?}");
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).chain([("y", "z")]).collect();
        assert_eq!(h2.ask("GET", &url("witness"), &many, b"").await.status, 431);
        let long = format!("{}?x={}", url("witness"), "y".repeat(9_000));
        assert_eq!(h2.ask("GET", &long, &[], b"").await.status, 414);
        h2.ask("GET", &url("witness"), &[], b"").await.expect(200);
    });
}

/// 40 readers on one connection that give no room, a publisher of 32 MiB, and one reader beside them that reads: it gets everything, and what the
/// others cost does not grow.
#[test]
fn streams_that_take_nothing_cost_nobody_anything() {
    const APPENDS: usize = 256;
    const BYTES: usize = 128 * 1024;
    let harness = Harness::start();
    harness.create_with("s", "text/plain", &[("stream-retention-records", "4")]);
    run(async {
        let tcp = tokio::net::TcpStream::connect(harness.listens).await.expect("it listens");
        let mut shut = H2::on(tcp, client::Builder::new().initial_window_size(0)).await;
        let mut stalled = Vec::new();
        for _ in 0..40 {
            stalled.push(shut.sse("s", "-1").await);
        }
        let mut h2 = H2::plain(harness.listens).await;
        let mut reader = h2.sse("s", "-1").await;
        let mut before = 0;
        for n in 0..APPENDS {
            if n == 64 {
                before = resident_bytes();
            }
            let record = format!("{n:08}").repeat(BYTES / 8);
            h2.ask("POST", &url("s"), &[("content-type", "text/plain")], record.as_bytes()).await.expect(204);
            let before = reader.until("event: data\ndata:").await;
            assert!(!before.contains("gap"), "the reader that reads misses nothing");
            let came = reader.until("\n").await.trim_end().to_owned();
            assert!(came == record, "record {n} is not what came, but {} bytes from {:.40}", came.len(), came);
            reader.until("\n\n").await;
            harness.still_serves();
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 12 << 20, "24 MiB more were published, and memory grew by {grown} bytes");
        // Room at last: the readers go on where they are.
        shut.ask("HEAD", &url("s"), &[], b"").await.expect(200);
    });
    harness.still_serves();
}

#[test]
fn answers_that_nobody_takes_are_bounded_by_connection() {
    let harness = Harness::start();
    harness.create("s", "application/octet-stream");
    for _ in 0..4 {
        harness.append("s", "application/octet-stream", &vec![7; 256 * 1024]);
    }
    run(async {
        let tcp = tokio::net::TcpStream::connect(harness.listens).await.expect("it listens");
        let mut shut = H2::on(tcp, client::Builder::new().initial_window_size(0)).await;
        let before = resident_bytes();
        let mut asked = Vec::new();
        for _ in 0..100 {
            let mut ready = shut.send.clone().ready().await.expect("it lives");
            let (answer, _) = ready.send_request(H2::request("GET", &url("s"), &[]), true).expect("it is sent");
            asked.push(answer);
        }
        for _ in 0..200 {
            a_moment().await;
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 60 << 20, "100 answers of 1 MiB were asked for, and memory grew by {grown} bytes");
        harness.still_serves();
        // Those that leave make room for the others.
        drop(asked);
        shut.ask("HEAD", &url("s"), &[], b"").await.expect(200);
    });
    harness.wait_for_connections(1);
}

#[test]
fn long_polls_that_nobody_takes_are_bounded_by_connection() {
    let harness = Harness::start();
    harness.create("s", "application/octet-stream");
    run(async {
        let tcp = tokio::net::TcpStream::connect(harness.listens).await.expect("it listens");
        let mut shut = H2::on(tcp, client::Builder::new().initial_window_size(0)).await;
        let mut asked = Vec::new();
        for n in 1..=100 {
            // Each wants another number of records at most, so that no two of them are given the same bytes.
            let target = url(&format!("s?offset=now&live=long-poll&limit={n}"));
            let mut ready = shut.send.clone().ready().await.expect("it lives");
            asked.push(ready.send_request(H2::request("GET", &target, &[]), true).expect("it is sent").0);
        }
        shut.ask("HEAD", &url("s"), &[], b"").await.expect(200);
        harness.wait_for_followers("s", 100);
        let before = resident_bytes();
        harness.append("s", "application/octet-stream", &vec![7; 1 << 20]);
        for _ in 0..200 {
            a_moment().await;
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 60 << 20, "100 answers of 1 MiB were waited for, and memory grew by {grown} bytes");
        harness.still_serves();
        // Those that leave make room for the others.
        drop(asked);
        shut.ask("HEAD", &url("s"), &[], b"").await.expect(200);
    });
    harness.wait_for_connections(1);
}

#[test]
fn a_window_of_single_bytes_gets_what_it_has_room_for() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    harness.append("s", "text/plain", b"0123456789");
    run(async {
        let tcp = tokio::net::TcpStream::connect(harness.listens).await.expect("it listens");
        let mut narrow = H2::on(tcp, client::Builder::new().initial_window_size(1)).await;
        let mut sse = narrow.sse("s", "-1").await;
        let mut said = Vec::new();
        while !said.ends_with(b"data:0123456789\n") {
            let piece = sse.piece().await.expect("it goes on");
            assert_eq!(piece.len(), 1);
            said.extend_from_slice(&piece);
        }
    });
}

#[test]
fn what_is_no_http2_behind_its_preface_ends_the_connection() {
    let harness = Harness::start();
    for garbage in [vec![0xff; 4096], frame(HEADERS, END_STREAM | END_HEADERS, 2, &head()), frame(9, 4, 1, b"x")] {
        let mut tcp = raw(&harness);
        tcp.write_all(&garbage).expect("it is taken");
        let mut said = Vec::new();
        tcp.read_to_end(&mut said).ok();
        assert!(said.len() < 4096);
    }
    harness.wait_for_connections(1);
}
