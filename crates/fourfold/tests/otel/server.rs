//! A server that traces.

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{DEADLINE, Finished, Running, fourfold_with, run};

/// A server with one stream, `a`, of text.
pub(crate) struct Server {
    running: Running,
    pub(crate) address: String,
    _dir: TempDir,
}

impl Server {
    /// Exports to this collector, by these further variables. What is created is a stream's name, and its records are text.
    pub(crate) fn start(collector: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = path(dir.path());
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data, "--drain-spread", "0s"];
        let variables = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector)], variables].concat();
        let running = fourfold_with(&[&fixed, arguments].concat(), &variables);
        let address = running.line().strip_prefix("listening on http://").expect("the first line").to_owned();
        let server = Self { running, address, _dir: dir };
        server.create("a");
        server
    }

    pub(crate) fn create(&self, stream: &str) {
        let answer = self.exchange(&format!(
            "PUT /v1/stream/{stream} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// Appends a record to `a` with these headers; the answer.
    pub(crate) fn append(&self, headers: &str) -> String {
        self.exchange(&request("a", &format!("connection: close\r\n{headers}"), "hello"))
    }

    /// Sends bytes and reads all that comes until the connection ends.
    pub(crate) fn exchange(&self, bytes: &str) -> String {
        run(async {
            let mut socket = TcpStream::connect(&self.address).await.expect("it listens");
            socket.write_all(bytes.as_bytes()).await.expect("it takes it");
            let mut answer = Vec::new();
            timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("in time").expect("it answers");
            String::from_utf8_lossy(&answer).into_owned()
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// SIGTERM, and the end: by then all that could be sent was sent.
    pub(crate) fn end(self) -> Finished {
        self.running.signal(Signal::TERM);
        self.running.finish().succeeded()
    }
}

/// An append of a record.
pub(crate) fn request(stream: &str, headers: &str, record: &str) -> String {
    let length = record.len();
    format!(
        "POST /v1/stream/{stream} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n{headers}\r\n{record}"
    )
}

fn path(path: &Path) -> String {
    path.join("data").to_str().expect("temporary paths are UTF-8").to_owned()
}

/// A trace that somebody else has begun, and how a request says so.
pub(crate) struct Begun {
    pub(crate) trace: String,
    pub(crate) span: String,
    sampled: bool,
}

impl Begun {
    /// The `n`th, sampled.
    pub(crate) fn sampled(n: u8) -> Self {
        Self {
            trace: format!("4bf92f3577b34da6a3ce929d0e0e47{n:02x}"),
            span: format!("00f067aa0ba902{n:02x}"),
            sampled: true,
        }
    }

    /// The `n`th, not sampled.
    pub(crate) fn unsampled(n: u8) -> Self {
        Self { sampled: false, ..Self::sampled(n) }
    }

    pub(crate) fn value(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    pub(crate) fn header(&self) -> String {
        format!("traceparent: {}\r\n", self.value())
    }
}
