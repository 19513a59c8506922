//! A server in this process, and a client of it.

use std::{
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use fourfold_engines::MemoryEngine;
use fourfold_protocol::StreamName;
use fourfold_server::{Server, Settings};
use fourfold_stream::{Engine, Relay, Retention, stream::RECENT_BYTES_MAX};

use crate::record;

/// Nothing takes so long, even under callgrind, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The stream that everything is about.
pub(crate) const STREAM: &str = "/v1/stream/news";

/// Few enough to be one plain request.
const RECORDS_OF_A_FILL: usize = 16;

/// A server with one shard and one stream of JSON. It ends with the process.
pub(crate) struct Served {
    address: SocketAddr,
    engine: Arc<dyn Engine>,
}

impl Served {
    /// In memory, with as few records as it takes to read them.
    pub(crate) fn in_memory() -> Self {
        let retention = Retention { records: Some(100), ..Retention::default() };
        Self::on(move |relay| Arc::new(MemoryEngine::new(relay, retention)))
    }

    pub(crate) fn on(engine: impl FnOnce(Relay) -> Arc<dyn Engine> + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let address = "127.0.0.1:0".parse().expect("an address");
                let server = Server::bind(address, Settings::default()).await.expect("a port is free");
                let (relay, shards) = Relay::new(1);
                let engine = engine(relay);
                let address = server.address().expect("it listens");
                tell.send((address, Arc::clone(&engine))).expect("the main thread waits for it");
                server.run(engine, shards, pending()).await.expect("it runs until the process ends");
            });
        });
        let (address, engine) = told.recv_timeout(PATIENCE).expect("the server listens");
        let served = Self { address, engine };
        served.connect().ask(&request("PUT", STREAM, "Content-Type: application/json\r\n", ""), "201");
        served
    }

    /// Appends until old records are dropped from memory for each new one.
    pub(crate) fn fill(&self) {
        let mut client = self.connect();
        for _ in 0..=RECENT_BYTES_MAX / (RECORDS_OF_A_FILL * 128) {
            client.ask(&append(&records(0, RECORDS_OF_A_FILL)), "204");
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let socket = TcpStream::connect(self.address).expect("the server listens");
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Client { socket, heard: Vec::with_capacity(64 * 1024) }
    }

    /// Waits until so many readers follow the stream.
    pub(crate) fn wait_for_followers(&self, count: u32) {
        let name = StreamName::new("news").expect("a name");
        let stream = self.engine.streams().get(&name).expect("the stream is hot");
        while stream.cursors() < count as usize {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A request as a plain client sends it.
pub(crate) fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost:4437\r\n{headers}{length}\r\n{body}")
}

/// An append of JSON.
pub(crate) fn append(body: &str) -> String {
    request("POST", STREAM, "Content-Type: application/json\r\n", body)
}

/// One record by itself, or several as an array.
pub(crate) fn records(first: u32, count: usize) -> String {
    let records: Vec<String> = (first..).take(count).map(record).collect();
    if count == 1 { records.concat() } else { format!("[{}]", records.join(",")) }
}

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    pub(crate) fn send(&mut self, request: &str) {
        self.socket.write_all(request.as_bytes()).expect("the server reads");
    }

    /// Sends a request and returns the whole answer, which has this status.
    pub(crate) fn ask(&mut self, request: &str, status: &str) -> String {
        self.send(request);
        self.answer(status)
    }

    /// The whole answer to a request that was sent.
    pub(crate) fn answer(&mut self, status: &str) -> String {
        self.heard.clear();
        loop {
            self.hear();
            let answer = str::from_utf8(&self.heard).expect("answers are text here");
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = header(head, "content-length").map_or(0, |length| length.parse().expect("a length"));
            if body.len() == length {
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
                return answer.to_owned();
            }
        }
    }

    /// Reads until a word has come.
    pub(crate) fn hear_of(&mut self, word: &str) {
        self.heard.clear();
        while !self.heard.windows(word.len()).any(|window| window == word.as_bytes()) {
            self.hear();
        }
    }

    fn hear(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let bytes = self.socket.read(&mut buffer).expect("the server answers in time");
        assert!(bytes > 0, "the server has hung up after {}", String::from_utf8_lossy(&self.heard));
        self.heard.extend_from_slice(&buffer[..bytes]);
    }
}

/// The value of a header in the head of an answer.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
