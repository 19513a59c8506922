//! A small server with bad habits: it takes what is posted to `/pub` and hands it to whoever reads `/sub` or `/poll` as nchan
//! does, or `/socket.io/`.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use serde_json::json;

/// What it does wrong, with each tenth record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Habit {
    Honest,
    Loses,
    Doubles,
    /// Sends it behind the next one.
    Swaps,
    /// Leaves out its end.
    Cuts,
    /// Takes half a second over one answer.
    Stalls,
    /// Ends the connection with each answer to a reader.
    Closes,
}

struct Shared {
    habit: Habit,
    log: Mutex<Log>,
    grown: Condvar,
}

#[derive(Default)]
struct Log {
    posted: usize,
    records: Vec<String>,
    swapped: Option<String>,
}

/// Starts it; it ends with the test's process.
pub(super) fn server(habit: Habit) -> SocketAddr {
    let shared = Arc::new(Shared { habit, log: Mutex::default(), grown: Condvar::new() });
    listen(move |socket| {
        let shared = Arc::clone(&shared);
        // A client that hangs up ends its thread with an error, which is how it should be.
        thread::spawn(move || converse(socket, &shared));
    })
}

/// A bare loop of writes: `records` records in pairs, one pair in a frame, to each of `readers`.
pub(super) fn floor(readers: usize, records: u64) -> SocketAddr {
    let sockets = Mutex::new(Vec::new());
    listen(move |socket| {
        let mut sockets = sockets.lock().unwrap();
        head(&mut BufReader::new(socket.try_clone().unwrap())).unwrap();
        sockets.push(socket);
        if sockets.len() < readers {
            return;
        }
        for n in (0..records).step_by(2) {
            let pair = format!(r#"{{"b":"{n},1;xx"}},{{"b":"{},1;xx"}}"#, n + 1);
            for socket in sockets.iter_mut() {
                socket.write_all(&frame(&pair)).unwrap();
            }
        }
    })
}

fn listen(mut accepted: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(&mut accepted));
    address
}

/// What matters of a request's head.
#[derive(Default)]
struct Head {
    first: String,
    length: usize,
    /// `If-None-Match`: how many records the reader has had.
    etag: usize,
    wants_events: bool,
}

fn head(from: &mut impl BufRead) -> Option<Head> {
    let mut head = Head::default();
    from.read_line(&mut head.first).ok().filter(|bytes| *bytes > 0)?;
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.trim_end().split_once(": ") {
            None => return Some(head),
            Some(("content-length", value)) => head.length = value.parse().unwrap(),
            Some(("if-none-match", value)) => head.etag = value.parse().unwrap(),
            Some(("accept", value)) => head.wants_events = value == "text/event-stream",
            Some(_) => {}
        }
    }
}

fn converse(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut from = BufReader::new(socket.try_clone()?);
    while let Some(Head { first, length, etag, wants_events }) = head(&mut from) {
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        if first.starts_with("POST") {
            post(shared, String::from_utf8(body).unwrap());
            socket.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")?;
        } else if first.starts_with("GET /socket.io/") {
            return socket_io(socket, &mut from, shared);
        } else if wants_events {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n")?;
            for n in 0.. {
                let text = record(shared, n, true).expect("it was waited for");
                socket.write_all(format!("id: {n}\ndata: {text}\n\n").as_bytes())?;
            }
        } else if first.starts_with("GET") {
            let answer = match record(shared, etag, first.starts_with("GET /sub")) {
                Some(text) => {
                    let (length, etag) = (text.len(), etag + 1);
                    let closes = if shared.habit == Habit::Closes { "Connection: close\r\n" } else { "" };
                    format!("HTTP/1.1 200 OK\r\nEtag: {etag}\r\n{closes}Content-Length: {length}\r\n\r\n{text}")
                }
                None => format!("HTTP/1.1 304 Not Modified\r\nEtag: {etag}\r\n\r\n"),
            };
            socket.write_all(answer.as_bytes())?;
            if shared.habit == Habit::Closes {
                return Ok(());
            }
        } else {
            socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
    Ok(())
}

fn post(shared: &Shared, mut text: String) {
    let mut log = shared.log.lock().unwrap();
    log.posted += 1;
    let suffers = log.posted % 10 == 5;
    let swapped = log.swapped.take();
    match shared.habit {
        Habit::Loses if suffers => return,
        Habit::Swaps if suffers => return log.swapped = Some(text),
        Habit::Cuts if suffers => text.truncate(20),
        Habit::Doubles if suffers => log.records.push(text.clone()),
        Habit::Stalls if log.posted == 20 => thread::sleep(Duration::from_millis(500)),
        _ => {}
    }
    log.records.push(text);
    log.records.extend(swapped);
    shared.grown.notify_all();
}

/// The record of this number; `None` if it is not there yet, and should not be waited for.
fn record(shared: &Shared, number: usize, waits: bool) -> Option<String> {
    let mut log = shared.log.lock().unwrap();
    while waits && log.records.len() <= number {
        log = shared.grown.wait(log).unwrap();
    }
    log.records.get(number).cloned()
}

/// Engine.IO 4 over WebSocket, and Socket.IO 5 on top of it. It hands out nothing before it was joined and its ping was answered.
fn socket_io(mut socket: TcpStream, from: &mut impl Read, shared: &Shared) -> io::Result<()> {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    socket.write_all(switching.as_bytes())?;
    for (said, answer) in [(r#"0{"sid":"x"}"#, "40"), (r#"40{"sid":"y"}"#, ""), ("2", "3")] {
        socket.write_all(&frame(said))?;
        if !answer.is_empty() {
            // The mask is zeros, as everybody may choose it.
            let mut answered = vec![0; 6 + answer.len()];
            from.read_exact(&mut answered)?;
            assert_eq!((&answered[2..6], &answered[6..]), (&[0; 4][..], answer.as_bytes()));
        }
    }
    for n in 0.. {
        let text = record(shared, n, true).expect("it was waited for");
        socket.write_all(&frame(&format!("42{}", json!(["b", text]))))?;
    }
    Ok(())
}

/// A text frame of a server.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()).expect("records of tests are small") {
        length @ ..=125 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}
