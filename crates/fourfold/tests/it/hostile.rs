//! Everything at once that a hostile crowd can do, while a well-behaved client appends and reads: it loses nothing and is answered in time, and the
//! server's memory stays bounded and comes back.
//!
//! By hand, for figures: `FOURFOLD_HOSTILE=10000 cargo nextest run --release -p fourfold -E 'test(hostile_crowd)' --no-capture` (raise the limit of open
//! files first: it takes one socket here and one in the server for each).

mod attacks;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{harness::Server, seeded::asked_for};

/// The well-behaved client waits no longer for an answer, where it is run by hand: in every run other tests take the processors, and then only that it is
/// answered counts, within the deadline of [`Client::connect`].
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// What the server may grow by, in MiB, beside what each of the crowd may hold: the budgets of `--bodies-max` and `--unsent-max` below with room for
/// buffers that grow, the engine's memtables, and the allocator's own.
const GROWTH_MIB_MAX: u64 = 400;
/// For each of the crowd.
const GROWTH_KIB_EACH: u64 = 40;

/// A crowd as large as nobody has it in passing.
const BY_HAND: usize = 1_000;

const STREAM: &str = "/v1/stream/good";

#[test]
fn a_hostile_crowd_costs_bounded_memory_and_a_well_behaved_client_loses_nothing() {
    let crowd = usize::try_from(asked_for("FOURFOLD_HOSTILE").unwrap_or(150)).expect("a number of sockets");
    let server = Server::start_with(&["--body-max", "1MiB", "--bodies-max", "64MiB", "--unsent-max", "64MiB"]);
    let address = server.address();
    let mut good = Client::connect(&address);
    good.ask("PUT", STREAM, "application/json", "");
    attacks::prepare(&address);

    let mut appended = 0;
    let mut rounds = 200;
    let before = well_behaved(&address, &mut appended, || {
        rounds -= 1;
        rounds > 0
    });
    let rss_before = rss_mib(server.pid());
    let over = Arc::new(AtomicBool::new(false));
    let attackers = attacks::begin(&address, crowd, &over);
    let mut rss_peak = rss_before;
    let until = Instant::now() + Duration::from_secs(if crowd >= BY_HAND { 40 } else { 8 });
    let during = well_behaved(&address, &mut appended, || {
        rss_peak = rss_peak.max(rss_mib(server.pid()));
        Instant::now() < until
    });
    over.store(true, Relaxed);
    let told: Vec<_> =
        attackers.into_iter().map(|attacker| attacker.join().expect("an attacker does not panic")).collect();

    let mut reader = Client::connect(&address);
    let expected: Vec<String> = (0..appended).map(|n| n.to_string()).collect();
    assert_eq!(reader.all(), expected, "nothing is lost, doubled or reordered");
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut rss_after = rss_mib(server.pid());
    while rss_after > rss_before + GROWTH_MIB_MAX / 2 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(200));
        rss_after = rss_mib(server.pid());
    }
    eprintln!("crowd of {crowd}: {}", told.join(", "));
    eprintln!("well-behaved before: {before}\nwell-behaved during: {during}");
    eprintln!("RSS in MiB: before {rss_before}, peak {rss_peak}, after {rss_after}");
    let bound = rss_before + GROWTH_MIB_MAX + GROWTH_KIB_EACH * crowd as u64 / 1024;
    assert!(rss_peak <= bound, "{rss_peak} MiB at the peak, at most {bound} is stated");
    assert!(crowd < BY_HAND || during.worst <= ANSWER_WAIT_MAX, "{during}");
}

/// How long answers took.
struct Latency {
    p50: Duration,
    p99: Duration,
    worst: Duration,
    /// When that was, since the first one.
    worst_at: Duration,
    rounds: usize,
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, worst, worst_at, rounds } = self;
        write!(
            f,
            "p50 {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?} (after {worst_at:.1?}) of {rounds} appends with a read each"
        )
    }
}

/// Appends and reads what it has appended, again and again, on one connection.
fn well_behaved(address: &str, appended: &mut u64, mut goes_on: impl FnMut() -> bool) -> Latency {
    let mut client = Client::connect(address);
    let mut offset = client.tail();
    let mut took = Vec::new();
    let first = Instant::now();
    while goes_on() {
        let begun = Instant::now();
        client.ask("POST", STREAM, "application/json", &appended.to_string());
        let (body, next) = client.read(&offset);
        assert_eq!(body, format!("[{appended}]"));
        took.push((begun.elapsed(), begun - first));
        (*appended, offset) = (*appended + 1, next);
        thread::sleep(Duration::from_millis(5)); // A client that thinks, not a load.
    }
    took.sort();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    Latency { p50: at(50).0, p99: at(99).0, worst: at(100).0, worst_at: at(100).1, rounds: took.len() }
}

/// HTTP as a simple client speaks it.
struct Client {
    socket: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: &str) -> Self {
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).expect("a socket option");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a deadline");
        Self { socket: BufReader::new(socket) }
    }

    /// The headers of the answer, and its body.
    fn exchange(&mut self, request: &str) -> (u16, Vec<(String, String)>, String) {
        self.socket.get_mut().write_all(request.as_bytes()).expect("it goes on");
        let mut line = String::new();
        self.socket.read_line(&mut line).expect("an answer");
        let status =
            line.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.socket.read_line(&mut line).expect("a head");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().expect("a length"));
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).expect("a body");
        (status, headers, String::from_utf8(body).expect("JSON"))
    }

    fn ask(&mut self, method: &str, target: &str, content_type: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let (status, _, body) = self.exchange(&request);
        assert!((200..300).contains(&status), "{method} {target}: {status} {body}");
    }

    /// What is behind the offset, and the next one.
    fn read(&mut self, offset: &str) -> (String, String) {
        let (status, headers, body) =
            self.exchange(&format!("GET {STREAM}?offset={offset} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert_eq!(status, 200, "{body}");
        let next = headers.into_iter().find(|(name, _)| name == "stream-next-offset").expect("it is always told").1;
        (body, next)
    }

    fn tail(&mut self) -> String {
        self.read("now").1
    }

    /// Every record of the stream.
    fn all(&mut self) -> Vec<String> {
        let (mut all, mut offset) = (Vec::new(), "-1".to_owned());
        loop {
            let (body, next) = self.read(&offset);
            let records = body.trim_start_matches('[').trim_end_matches(']');
            if records.is_empty() {
                return all;
            }
            all.extend(records.split(',').map(str::to_owned));
            offset = next;
        }
    }
}

fn rss_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") / 1024
}
