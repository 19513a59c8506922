//! A herd of readers is sent away: one after the other over a time, to come back over another, and each with all that there is.

use std::time::{Duration, Instant};

use fourfold_server::limits::PACED_CONNECTIONS_MIN;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};

use super::append;
use crate::{
    harness::{DEADLINE, Server, run},
    reader::{Reader, Target, Way, http},
    records::Kind,
    writer::create,
};

/// More than are sent away at once.
const READERS: usize = PACED_CONNECTIONS_MIN + PACED_CONNECTIONS_MIN / 5;

/// Over how long goodbyes are said, and then also the return is spread.
const SPREAD: Duration = Duration::from_secs(2);

/// No client is told to come back earlier.
const COME_BACK_MS_MIN: u64 = 500;

const RECORDS: usize = 4;

#[test]
fn a_herd_is_sent_away_over_a_while_with_all_that_was_acknowledged() {
    many_files();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let spread = format!("{}ms", SPREAD.as_millis());
    // Nobody has to be cut: a leg that ends otherwise than by a goodbye fails the test.
    let settings = ["--drain-deadline", "50s", "--drain-spread", &spread];
    let mut server = Server::start_in(dir, "127.0.0.1:0", &settings);
    let target = Target { address: server.address(), stream: "herd".into(), kind: Kind::Json };
    run(async {
        create(&target).await;
        append(&target, 0).await;
        let (client, mut herd, mut beginnings) = (http(), JoinSet::new(), Vec::new());
        for n in 0..READERS {
            let mut reader = Reader::by(&target, client.clone());
            beginnings.push(reader.progress.subscribe());
            let way = if n % 2 == 0 { Way::Sse } else { Way::WebSocket };
            herd.spawn(async move {
                reader.leg(way).await.unwrap_or_else(|cut| panic!("{way:?} is cut: {cut}"));
                (way, Instant::now(), reader)
            });
        }
        for mut beginning in beginnings {
            let begun = timeout(DEADLINE, beginning.wait_for(|records| *records == 1)).await;
            drop(begun.expect("in time").expect("it reads what is there"));
        }
        // Acknowledged, and on its way when the drain begins.
        for n in 1..RECORDS {
            append(&target, n as u64).await;
        }
        let asked = Instant::now();
        server.ask_to_end();
        let (mut returns, mut late) = (Vec::new(), 0);
        while let Some(left) = timeout(DEADLINE, herd.join_next()).await.expect("in time") {
            let (way, left, reader) = left.expect("it reads");
            // That it names the reader's own offset is checked where it is read.
            let goodbye = reader.goodbye.unwrap_or_else(|| panic!("{way:?} has no goodbye"));
            assert!(!reader.closed && reader.records.len() == RECORDS, "{way:?} has {}", reader.records.len());
            let goodbye: Value = serde_json::from_str(&goodbye).expect("JSON");
            returns.push(goodbye["goodbye"]["reconnectAfterMs"].as_u64().expect("a number"));
            late += usize::from(left - asked >= SPREAD / 2);
        }
        server.finish().succeeded();
        assert_eq!(returns.len(), READERS);
        // Half of them by chance. A slow machine makes it more, and never fewer.
        assert!(late > READERS / 4, "{late} of {READERS} goodbyes came in the second half of the time");
        let spread_ms = u64::try_from(SPREAD.as_millis()).expect("it is small");
        for quarter in 0..4 {
            let from = COME_BACK_MS_MIN + quarter * spread_ms / 4;
            let count = returns.iter().filter(|ms| (from..=from + spread_ms / 4).contains(*ms)).count();
            assert!(count > READERS / 8, "{count} of {READERS} come back from {from} ms on for a quarter of the time");
        }
        assert!(returns.iter().all(|ms| (COME_BACK_MS_MIN..=COME_BACK_MS_MIN + spread_ms).contains(ms)), "{returns:?}");
    });
}

/// Many systems let a process open 1,024 files unless it asks for more; the server asks for itself.
fn many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the maximum");
}
