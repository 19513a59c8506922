//! SIGTERM: every reader is told goodbye in its own way, what is under way is answered, and all go on after a restart.

mod paced;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    harness::{DEADLINE, Server, run},
    reader::{Reader, Target, WAYS, Way, http},
    records::Kind,
    writer::{Fate, Post, create},
};

/// Longer than the test waits for anything, so that an end before it is one that nobody had to be cut for.
const DRAIN_DEADLINE: &[&str] = &["--drain-deadline", "50s"];

/// The ways that wait, and so are told.
const WAITING: [Way; 5] = [Way::LongPoll, Way::Portions, Way::Sse, Way::WebSocket, Way::Deflated];

const RECORDS: usize = 6;

/// Long after what was sent must have come.
const ON_ITS_WAY: Duration = Duration::from_millis(150);

/// A request of which the server has read the beginning.
struct HalfSent(TcpStream);

impl HalfSent {
    /// As the first on its connection: on one that has been used, a head in the middle is no request yet.
    async fn first(target: &Target, text: &str) -> Self {
        let mut socket = TcpStream::connect(&target.address).await.expect("it listens");
        socket.write_all(text.as_bytes()).await.expect("it takes what it is sent");
        sleep(ON_ITS_WAY).await; // Nothing tells from outside that it has been read.
        Self(socket)
    }

    /// A whole request goes before it in one piece with it, so that its answer tells that both have been read.
    async fn behind_another(target: &Target, text: &str) -> Self {
        let mut socket = TcpStream::connect(&target.address).await.expect("it listens");
        let both = format!("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n{text}", target.path());
        socket.write_all(both.as_bytes()).await.expect("it takes what it is sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(DEADLINE, socket.read_u8()).await.expect("in time").expect("it answers"));
        }
        Self(socket)
    }

    /// Sends the rest; the whole answer, which ends with the connection.
    async fn end(mut self, rest: &str) -> String {
        self.0.write_all(rest.as_bytes()).await.expect("the connection is still there");
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.expect("the answer is whole");
        answer
    }
}

fn start(dir: tempfile::TempDir) -> (Server, Target) {
    let server = Server::start_in(dir, "127.0.0.1:0", DRAIN_DEADLINE);
    let target = Target { address: server.address(), stream: "drained".into(), kind: Kind::Json };
    (server, target)
}

async fn append(target: &Target, n: u64) {
    let body = target.kind.body(&[target.kind.record("w", n)]);
    let fate = Post::new(&http(), target, body).by("w", n).send_until_answered().await;
    assert!(matches!(fate, Fate::At(_)));
}

/// A reader that has all there is and waits for more; it comes home when its connection has ended.
async fn waiting(target: &Target, way: Way) -> JoinHandle<Reader> {
    let mut reader = Reader::new(target);
    let mut progress = reader.progress.subscribe();
    let task = tokio::spawn(async move {
        // A long poll that ran into its timeout at that moment has not been sent away.
        while reader.goodbye.is_none() {
            reader.leg(way).await.expect("nobody is cut");
        }
        reader
    });
    let at_tail = timeout(DEADLINE, progress.wait_for(|records| *records == RECORDS)).await;
    at_tail.expect("in time").expect("it reads what is there");
    if way == Way::LongPoll {
        sleep(ON_ITS_WAY).await; // Nothing tells from outside that its next request is there.
    }
    task
}

#[test]
fn every_waiting_reader_is_told_when_to_come_back_and_comes_back_to_the_same_place() {
    let (mut server, target) = start(tempfile::tempdir().expect("a temporary directory"));
    run(async {
        create(&target).await;
        for n in 0..RECORDS as u64 {
            append(&target, n).await;
        }
        let mut tasks = Vec::new();
        for way in WAITING {
            tasks.push((way, waiting(&target, way).await));
        }
        server.ask_to_end();
        let mut readers = Vec::new();
        for (way, task) in tasks {
            let reader = timeout(DEADLINE, task).await.unwrap_or_else(|_| panic!("{way:?} waits")).expect("it reads");
            assert!(!reader.closed && reader.records.len() == RECORDS, "{way:?}");
            readers.push((way, reader));
        }
        server.finish().succeeded();
        server.restart();
        append(&target, RECORDS as u64).await;
        for (way, mut reader) in readers {
            reader.want(RECORDS + 1);
            timeout(DEADLINE, reader.leg(way)).await.expect("in time").expect("it is up again");
            assert_eq!(reader.records[RECORDS], target.kind.record("w", RECORDS as u64), "{way:?}");
        }
    });
}

#[test]
fn what_is_under_way_is_answered_and_the_connection_then_closed() {
    let (mut server, target) = start(tempfile::tempdir().expect("a temporary directory"));
    run(async {
        create(&target).await;
        for n in 0..RECORDS as u64 {
            append(&target, n).await;
        }
        let body = target.kind.body(&[target.kind.record("w", RECORDS as u64)]);
        let (begun, rest) = body.split_at(body.len() / 2);
        let path = target.path();
        let post = HalfSent::behind_another(
            &target,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Producer-Id: w\r\nProducer-Epoch: 0\r\nProducer-Seq: {RECORDS}\r\n\r\n{begun}",
                body.len()
            ),
        )
        .await;
        let poll = HalfSent::first(&target, &format!("GET {path}?offset=-1 HTTP/1.1\r\nHost:")).await;
        let told = waiting(&target, Way::Sse).await;
        server.ask_to_end();
        // Who has been told goodbye proves that the drain has begun.
        timeout(DEADLINE, told).await.expect("in time").expect("it reads");
        let answer = timeout(DEADLINE, post.end(rest)).await.expect("in time").to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200") && answer.contains("\r\nconnection: close"), "{answer}");
        let answer = timeout(DEADLINE, poll.end(" x\r\n\r\n")).await.expect("in time");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close"), "{answer}");
        let (_, records) = answer.split_once("\r\n\r\n").expect("a body");
        assert_eq!(target.kind.split(records).len(), RECORDS + 1, "also what was appended during the drain");
        server.finish().succeeded();
        server.restart();
        for way in WAYS {
            let reader = timeout(DEADLINE, Reader::read(&target, way, RECORDS + 1)).await.expect("in time");
            assert_eq!(reader.records[RECORDS], target.kind.record("w", RECORDS as u64), "{way:?}");
        }
    });
}

#[test]
fn a_reader_that_does_not_leave_is_cut_at_the_deadline() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start_in(dir, "127.0.0.1:0", &["--drain-deadline", "300ms"]);
    let target = Target { address: server.address(), stream: "drained".into(), kind: Kind::Json };
    run(async {
        create(&target).await;
        let request = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", target.path());
        let mut never = HalfSent::behind_another(&target, &format!("{request}Content-Length: 100\r\n\r\n[1,")).await.0;
        server.ask_to_end();
        let mut nothing = String::new();
        let _ = timeout(DEADLINE, never.read_to_string(&mut nothing)).await.expect("it is cut");
        server.finish().succeeded();
        server.restart();
        append(&target, 0).await; // What was never whole is not there.
        let reader = Reader::read(&target, Way::ShortPoll, 1).await;
        assert_eq!(reader.records.len(), 1);
    });
}
