//! What a delivery costs: CPU time of the server process for each record that reaches a reader, by transport, beside a bare loop
//! of `write()` over the same number of sockets.
//!
//! ```text
//! cargo build --release && cargo run --release --example fan_out -- target/release/fourfold 1000 50 10
//! ```
//!
//! Readers of one stream, records a second, seconds. All read at once, on a thread of this process. Trust the ratios.

use std::{
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const STREAM: &str = "/v1/stream/fan-out";
const RECORD: &str = r#"{"pad":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, readers, rate, seconds] = &args[..]
        && mode == "--floor"
    {
        return floor(readers.parse()?, rate.parse()?, seconds.parse()?);
    }
    let [binary, readers, rate, seconds] = &args[..] else {
        return Err("usage: fan_out PATH-OF-FOURFOLD READERS RECORDS-A-SECOND SECONDS".into());
    };
    let (readers, rate, seconds): (usize, u64, u64) = (readers.parse()?, rate.parse()?, seconds.parse()?);
    let mut out = io::stdout();
    writeln!(out, "| transport | deliveries | CPU µs each | × floor |\n|---|---|---|---|")?;
    let myself = std::env::current_exe()?;
    let floor_args = ["--floor".to_owned(), readers.to_string(), rate.to_string(), seconds.to_string()];
    let mut floor_us = 0.0;
    for transport in ["floor", "WebSocket", "SSE", "long poll", "floor", "WebSocket", "SSE", "long poll"] {
        let server = if transport == "floor" {
            Server::start(Command::new(&myself).args(&floor_args))?
        } else {
            Server::start(Command::new(binary).args(["serve", "--listen", "127.0.0.1:0", "--engine", "memory"]))?
        };
        let delivered = Arc::new(AtomicU64::new(0));
        let reading = read(&server.address, transport, readers, &delivered)?;
        let before = server.cpu_us()?;
        if transport == "floor" {
            thread::sleep(Duration::from_secs(seconds) + Duration::from_millis(500));
        } else {
            append(&server.address, rate, seconds)?;
        }
        let cpu = server.cpu_us()? - before;
        let deliveries = delivered.load(Relaxed);
        drop(reading);
        let each = cpu as f64 / deliveries.max(1) as f64;
        if transport == "floor" {
            floor_us = each;
        }
        writeln!(out, "| {transport} | {deliveries} | {each:.2} | {:.2} |", each / floor_us)?;
    }
    Ok(())
}

/// One thread that writes a prebuilt frame to each socket, and nothing else.
fn floor(readers: usize, rate: u64, seconds: u64) -> Result<(), Box<dyn Error>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    let mut sockets = Vec::new();
    for _ in 0..readers {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    thread::sleep(Duration::from_millis(300));
    let frame = format!("{:>260}", "\"records\"");
    let start = Instant::now();
    for n in 0..rate * seconds {
        thread::sleep((start + Duration::from_millis(n * 1000 / rate)).saturating_duration_since(Instant::now()));
        for socket in &mut sockets {
            socket.write_all(frame.as_bytes())?;
        }
    }
    thread::sleep(Duration::from_secs(5));
    Ok(())
}

fn read(address: &str, transport: &str, readers: usize, delivered: &Arc<AtomicU64>) -> Result<Reading, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (query, headers) = match transport {
        "WebSocket" => (
            "",
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        ),
        "SSE" => ("&live=sse", ""),
        _ => ("&live=long-poll&timeout=60", ""),
    };
    if transport != "floor" {
        runtime.block_on(request(address, "PUT", ""))?;
    }
    let sockets = runtime.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..readers {
            sockets.push(TcpStream::connect(address).await?);
        }
        io::Result::Ok(sockets)
    })?;
    for mut socket in sockets {
        let request =
            move |offset: &str| format!("GET {STREAM}?offset={offset}{query} HTTP/1.1\r\nhost: bench\r\n{headers}\r\n");
        let first = request("now");
        let (is_poll, is_floor) = (transport == "long poll", transport == "floor");
        let delivered = Arc::clone(delivered);
        runtime.spawn(async move {
            if !is_floor {
                socket.write_all(first.as_bytes()).await?;
            }
            let mut piece = vec![0; 16 * 1024];
            loop {
                let bytes = socket.read(&mut piece).await?;
                if bytes == 0 {
                    return io::Result::Ok(());
                }
                let text = &piece[..bytes];
                if is_floor {
                    delivered.fetch_add((bytes / 260) as u64, Relaxed);
                } else {
                    let pads = text.windows(5).filter(|w| *w == b"\"pad\"").count();
                    delivered.fetch_add(pads as u64, Relaxed);
                }
                if is_poll {
                    let head = String::from_utf8_lossy(text);
                    if let Some((_, rest)) = head.split_once("stream-next-offset: ") {
                        let offset = &rest[..29];
                        socket.write_all(request(offset).as_bytes()).await?;
                    }
                }
            }
        });
    }
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let thread = thread::spawn(move || {
        // Ends when the sender is dropped.
        let _ = runtime.block_on(stopped);
    });
    thread::sleep(Duration::from_millis(700));
    Ok(Reading { _stop: stop, _thread: thread })
}

/// The readers; they end when this is dropped.
struct Reading {
    _stop: tokio::sync::oneshot::Sender<()>,
    _thread: thread::JoinHandle<()>,
}

fn append(address: &str, rate: u64, seconds: u64) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut socket = TcpStream::connect(address).await?;
        let length = RECORD.len();
        let request = format!("POST {STREAM} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{RECORD}");
        let start = tokio::time::Instant::now();
        let mut answer = vec![0; 4096];
        for n in 0..rate * seconds {
            tokio::time::sleep_until(start + Duration::from_millis(n * 1000 / rate)).await;
            socket.write_all(request.as_bytes()).await?;
            let bytes = socket.read(&mut answer).await?;
            if !answer[..bytes].starts_with(b"HTTP/1.1 204") {
                return Err("an append was refused".into());
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    })
}

async fn request(address: &str, method: &str, body: &str) -> io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    let head = format!(
        "{method} {STREAM} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(())
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self, Box<dyn Error>> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("standard output was piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://").ok_or("the server did not start")?.to_owned();
        Ok(Self { child, address })
    }

    /// User and system time of the process.
    fn cpu_us(&self) -> Result<u64, Box<dyn Error>> {
        let mut ns = 0;
        // By thread, in nanoseconds: the ticks of `stat` are 10 ms.
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            ns += schedstat.split_whitespace().next().ok_or("no figure")?.parse::<u64>()?;
        }
        Ok(ns / 1000)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
