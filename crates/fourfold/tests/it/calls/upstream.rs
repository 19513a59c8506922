//! An upstream that does to its answers whatever a script says, byte by byte, and remembers what it was asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::channel},
    thread,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

/// What it does next. After the last it closes the connection as it should.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Say(Vec<u8>),
    /// These, in pieces of so many bytes, resting after each.
    Drip(Vec<u8>, usize, Duration),
    /// So many bytes: [`flooded`] of each place.
    Flood(usize),
    Rest(Duration),
    /// Nothing until it has been asked so often in all.
    AwaitRequests(usize),
    /// Nothing more, until the other side has closed.
    Hold,
    /// Closes so that the other side sees a reset.
    Reset,
}

/// One that was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// `Idempotency-Key`, which is the call's id where the caller gave none. Empty if this is a webhook that is woken.
    pub(crate) key: String,
    /// `Fourfold-Call`: the call's id, or empty.
    pub(crate) call: String,
    pub(crate) body: Vec<u8>,
}

/// An upstream on a thread of its own, which ends with the test's process.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    count: watch::Sender<usize>,
}

type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

/// A head may be larger than any that a test sends.
const HEAD_BYTES_MAX: usize = 64 << 10;

impl Upstream {
    pub(crate) fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let shared =
            Arc::new(Shared { script: Box::new(script), asked: Mutex::default(), count: watch::Sender::new(0) });
        let (tell, told) = channel();
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            crate::harness::run(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                tell.send(listener.local_addr().expect("it listens")).expect("the test waits for it");
                loop {
                    let (socket, _) = listener.accept().await.expect("a connection");
                    let shared = Arc::clone(&served);
                    // Whatever becomes of the connection is the server's to tell.
                    tokio::spawn(async move { shared.serve(socket).await });
                }
            })
        });
        Self { address: told.recv().expect("it starts"), shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// All that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked().clone()
    }

    /// The `n`th request, from 1, as soon as it has come.
    pub(crate) async fn request(&self, n: usize) -> Asked {
        self.shared.count.subscribe().wait_for(|count| *count >= n).await.expect("the sender is ours");
        self.asked()[n - 1].clone()
    }

    /// How often it was asked, by key.
    pub(crate) fn asked_by_key(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for asked in self.shared.asked().iter() {
            *counts.entry(asked.key.clone()).or_default() += 1;
        }
        counts
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?; // A byte at a time means a packet at a time.
        let Some(asked) = request(&mut socket).await? else { return Ok(()) };
        let script = (self.script)(&asked);
        self.asked().push(asked);
        self.count.send_modify(|count| *count += 1);
        for step in script {
            match step {
                Step::Say(bytes) => socket.write_all(&bytes).await?,
                Step::Drip(bytes, size, rest) => {
                    for piece in bytes.chunks(size) {
                        socket.write_all(piece).await?;
                        sleep(rest).await;
                    }
                }
                Step::Flood(bytes) => {
                    let mut sent = 0;
                    while sent < bytes {
                        let piece = flooded(sent, (64 << 10).min(bytes - sent));
                        socket.write_all(&piece).await?;
                        sent += piece.len();
                    }
                }
                Step::Rest(time) => sleep(time).await,
                Step::AwaitRequests(wanted) => {
                    self.count.subscribe().wait_for(|count| *count >= wanted).await.expect("the sender is ours");
                }
                Step::Hold => while socket.read(&mut [0; 1024]).await? > 0 {},
                Step::Reset => {
                    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
            }
        }
        socket.shutdown().await
    }
}

/// The request, if one comes.
async fn request(socket: &mut TcpStream) -> std::io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        assert!(bytes.len() < HEAD_BYTES_MAX, "a head without an end");
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is ASCII");
    let header = |wanted: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.clone().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        if socket.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Asked {
        path: head.split(' ').nth(1).expect("a request line").trim_start_matches('/').to_owned(),
        key: header("idempotency-key").unwrap_or_default(),
        call: header("fourfold-call").unwrap_or_default(),
        body,
    }))
}

/// A flood's bytes from `place` on: no two places of it look alike for long.
pub(crate) fn flooded(place: usize, count: usize) -> Vec<u8> {
    (place..place + count).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// A head that has these lines, ends with its connection unless they say otherwise.
pub(crate) fn head(status: &str, lines: &[&str]) -> Step {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    Step::Say(format!("HTTP/1.1 {status}\r\n{lines}\r\n").into_bytes())
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
