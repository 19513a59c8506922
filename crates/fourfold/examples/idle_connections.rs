//! What an idle connection costs: bytes of the server process for each, by transport.
//!
//! ```text
//! cargo build --release && cargo run --release --example idle_connections -- target/release/fourfold 5000
//! ```
//!
//! Starts the server (memory engine, loopback, port 0), opens so many connections of a transport, waits until each has its
//! first word, and takes the growth of the process's PSS; then the next transport, on top. Then one record is appended and every
//! connection must get it: idle, but not dead.

use std::{
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

const STREAM: &str = "/v1/stream/idle";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let binary = args.next().ok_or("usage: idle_connections PATH-OF-FOURFOLD [CONNECTIONS]")?;
    let connections: usize = args.next().map_or(Ok(5_000), |n| n.parse())?;
    let server = Server::start(&binary)?;
    server.request("PUT", "content-type: application/json\r\n", "")?;
    // The first connections pay for what all share.
    drop(open(&server, "WebSocket", 200)?);
    let mut out = io::stdout();
    writeln!(out, "| transport | connections | process PSS before | after | bytes each |\n|---|---|---|---|---|")?;
    let mut idle = Vec::new();
    for transport in ["WebSocket", "SSE", "long poll"] {
        let before = server.pss()?;
        let opened = open(&server, transport, connections)?;
        let after = server.pss()?;
        let each = (after.saturating_sub(before)) / connections as u64;
        writeln!(out, "| {transport} | {connections} | {before} | {after} | {each} |")?;
        idle.push((transport, opened));
    }
    server.request("POST", "content-type: application/json\r\n", r#"{"here":true}"#)?;
    for (transport, sockets) in idle {
        let mut got = 0;
        for mut socket in sockets {
            read_until(&mut socket, b"{\"here\":true}")?;
            got += 1;
        }
        writeln!(out, "{transport}: the record came on {got} of {connections}")?;
    }
    Ok(())
}

fn open(server: &Server, transport: &str, connections: usize) -> Result<Vec<TcpStream>, Box<dyn Error>> {
    let (query, headers, first): (_, _, &[u8]) = match transport {
        "WebSocket" => (
            "",
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
            b"upToDate",
        ),
        "SSE" => ("&live=sse", "", b"upToDate"),
        _ => ("&live=long-poll&timeout=60", "", b""),
    };
    let request = format!("GET {STREAM}?offset=now{query} HTTP/1.1\r\nhost: bench\r\n{headers}\r\n");
    let mut sockets = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut socket = TcpStream::connect(&server.address)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.write_all(request.as_bytes())?;
        if !first.is_empty() {
            read_until(&mut socket, first)?;
        }
        sockets.push(socket);
    }
    if first.is_empty() {
        // A waiting long poll says nothing: one plain answer on a later connection shows that the earlier ones were read,
        // twice over, once for each shard.
        for _ in 0..16 {
            server.request("HEAD", "", "")?;
        }
    }
    Ok(sockets)
}

fn read_until(socket: &mut TcpStream, wanted: &[u8]) -> io::Result<()> {
    let (mut seen, mut piece) = (Vec::new(), [0; 2048]);
    while !seen.windows(wanted.len()).any(|w| w == wanted) {
        match socket.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => seen.extend_from_slice(&piece[..bytes]),
        }
    }
    Ok(())
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(binary: &str) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--engine", "memory"])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("standard output was piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://").ok_or("the server did not start")?.to_owned();
        Ok(Self { child, address })
    }

    fn request(&self, method: &str, headers: &str, body: &str) -> io::Result<()> {
        let mut socket = TcpStream::connect(&self.address)?;
        let length = body.len();
        let head = format!(
            "{method} {STREAM} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        if answer.starts_with(b"HTTP/1.1 2") { Ok(()) } else { Err(io::Error::other("the server refused")) }
    }

    fn pss(&self) -> Result<u64, Box<dyn Error>> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).ok_or("no Pss line")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
