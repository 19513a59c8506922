//! What the crowd does. Each attack has a thread, goes on until it is over, and tells what came of it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fourfold_protocol::websocket::Deflater;
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use super::Client;

/// A stream that stalled readers are given to read.
const LARGE: &str = "/v1/stream/large";
const LARGE_RECORDS: usize = 64;
const LARGE_RECORD_BYTES: usize = 60_000;

/// Streams of the attackers.
pub(super) fn prepare(address: &str) {
    let mut client = Client::connect(address);
    client.ask("PUT", LARGE, "text/plain", "");
    client.ask("PUT", "/v1/stream/bombs", "application/json", "");
    let record = "x".repeat(LARGE_RECORD_BYTES);
    for _ in 0..LARGE_RECORDS {
        client.ask("POST", LARGE, "text/plain", &record);
    }
}

/// Goes on until it is told to stop, and says how often it has struck.
type Attack = dyn FnOnce(&AtomicBool) -> usize + Send;

/// Begins all attacks; `crowd` is how many readers stall.
pub(super) fn begin(address: &str, crowd: usize, over: &Arc<AtomicBool>) -> Vec<JoinHandle<String>> {
    let address: SocketAddr = address.parse().expect("an address");
    let few = (crowd / 10).max(10);
    let attacks: Vec<(&str, Box<Attack>)> = vec![
        ("stalled readers", Box::new(move |over| stalled_readers(address, crowd, over))),
        ("slow heads", Box::new(move |over| slow_heads(address, few, over))),
        ("slow bodies", Box::new(move |over| slow_bodies(address, few, over))),
        ("header bombs", Box::new(move |over| again(over, || header_bomb(address)))),
        ("compression bombs", Box::new(move |over| compression_bombs(address, over))),
        ("frame floods", Box::new(move |over| frame_flood(address, over))),
        ("connections opened and left", Box::new(move |over| again(over, || churn(address)))),
        ("pipelined requests", Box::new(move |over| pipelining(address, over))),
    ];
    let begun = attacks.into_iter().map(|(name, attack)| {
        let over = Arc::clone(over);
        thread::spawn(move || format!("{} {name}", attack(&over)))
    });
    begun.collect()
}

fn again(over: &AtomicBool, mut once: impl FnMut()) -> usize {
    let mut times = 0;
    while !over.load(Relaxed) {
        once();
        times += 1;
        thread::sleep(Duration::from_millis(1)); // The machine that is measured is also the one that attacks.
    }
    times
}

/// A socket that the server soon cannot write to.
fn narrow(address: SocketAddr) -> std::io::Result<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&fd, 4 * 1024)?;
    connect(&fd, &address)?;
    Ok(TcpStream::from(fd))
}

/// Half of them follow by events, the others ask for all at once, or by WebSocket; none reads.
fn stalled_readers(address: SocketAddr, crowd: usize, over: &AtomicBool) -> usize {
    let handshake = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut held = Vec::new();
    for n in 0..crowd {
        if over.load(Relaxed) {
            break;
        }
        let (query, headers) = match n % 4 {
            0 | 1 => ("&live=sse", ""),
            2 => ("", ""),
            _ => ("", handshake),
        };
        let Ok(mut socket) = narrow(address) else { break };
        if socket
            .write_all(format!("GET {LARGE}?offset=-1{query} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes())
            .is_ok()
        {
            held.push(socket);
        }
    }
    again(over, || thread::sleep(Duration::from_millis(50)));
    held.len()
}

fn slow_heads(address: SocketAddr, count: usize, over: &AtomicBool) -> usize {
    let mut sockets: Vec<_> = (0..count).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let begun = sockets.len();
    for socket in &mut sockets {
        let _ = socket.write_all(b"GET /v1/stream/good HTTP/1.1\r\nhost: x\r\nx: ");
    }
    again(over, || {
        sockets.retain_mut(|socket| socket.write_all(b"y").is_ok());
        thread::sleep(Duration::from_millis(200));
    });
    begun
}

fn slow_bodies(address: SocketAddr, count: usize, over: &AtomicBool) -> usize {
    let mut sockets: Vec<_> = (0..count).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let begun = sockets.len();
    let head = "POST /v1/stream/bombs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    for socket in &mut sockets {
        let _ = socket.set_write_timeout(Some(Duration::from_millis(20)));
        let _ = socket.write_all(head.as_bytes());
    }
    let piece = vec![b' '; 64 * 1024];
    again(over, || {
        sockets.retain_mut(|socket| match socket.write(&piece) {
            Ok(written) => written > 0,
            Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
        });
        thread::sleep(Duration::from_millis(20));
    });
    begun
}

fn header_bomb(address: SocketAddr) {
    let Ok(mut socket) = TcpStream::connect(address) else { return };
    let _ = socket.set_write_timeout(Some(Duration::from_millis(200)));
    let line = format!("a: {}\r\n", "x".repeat(8_000));
    let _ = socket.write_all(b"GET /v1/stream/good HTTP/1.1\r\nhost: x\r\n");
    for _ in 0..100 {
        if socket.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

/// A WebSocket of an attacker, which reads nothing more.
fn websocket(address: SocketAddr) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    socket.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
    let head = "GET /v1/stream/bombs?offset=now HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n";
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).ok()?;
    answer.starts_with(b"HTTP/1.1 101").then_some(socket)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    [&[first, 0xff], length.as_slice(), &[0; 4], payload].concat()
}

/// Far more than a message may be, in a few kilobytes.
fn compression_bombs(address: SocketAddr, over: &AtomicBool) -> usize {
    let text = format!("{{\"append\":[\"{}\"]}}", "0".repeat(2 << 20));
    let bomb = frame(0xc1, &Deflater::default().deflate(text.as_bytes()).expect("zeros shrink"));
    again(over, || {
        if let Some(mut socket) = websocket(address) {
            let _ = socket.write_all(&bomb);
        }
        thread::sleep(Duration::from_millis(50));
    })
}

/// Pings, and messages that are no requests, as many as go, with nobody to take the answers.
fn frame_flood(address: SocketAddr, over: &AtomicBool) -> usize {
    let ping = [0x89, 0x80, 0, 0, 0, 0].repeat(1_000);
    let nonsense = [0x81, 0x81, 0, 0, 0, 0, b'x'].repeat(1_000);
    again(over, || {
        let Some(mut socket) = websocket(address) else { return };
        for _ in 0..50 {
            if socket.write_all(&ping).is_err() || socket.write_all(&nonsense).is_err() {
                return;
            }
        }
    })
}

fn churn(address: SocketAddr) {
    drop(TcpStream::connect(address));
}

fn pipelining(address: SocketAddr, over: &AtomicBool) -> usize {
    let requests = format!("GET {LARGE}?offset=-1 HTTP/1.1\r\nhost: x\r\n\r\n").repeat(100);
    again(over, || {
        let Ok(mut socket) = TcpStream::connect(address) else { return };
        let _ = socket.set_write_timeout(Some(Duration::from_millis(200)));
        while socket.write_all(requests.as_bytes()).is_ok() && !over.load(Relaxed) {}
    })
}
