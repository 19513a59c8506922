//! Hundreds of calls at once: in bounded memory, each to the letter, and one more is refused.

use std::{fs, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    serving, state,
    upstream::{Step, Upstream, flooded, head, ms},
    url,
};
use crate::{
    harness::{DEADLINE, run},
    reader::{Reader, Target, WAYS, answer, header, http},
    records::Kind,
};

const CALLS: usize = 500;
const RECORDS: u64 = 20;
const PIECE: usize = 97; // Bytes: nothing that a record has to do with.
const REST: Duration = Duration::from_millis(100);

/// What the server may take for a call that runs: a debug build without anybody's tuning. It took 60 KiB here.
const CALL_KIB_MAX: u64 = 160;

fn said(call: &str) -> Vec<String> {
    (0..RECORDS).map(|n| Kind::Json.record(call, n)).collect()
}

#[test]
fn five_hundred_calls_at_once_are_exact_in_bounded_memory_and_one_more_is_refused() {
    // All have been asked before any has said a word of its body, so that all are there at once.
    let upstream = Upstream::start(|asked| {
        let name = String::from_utf8(asked.body.clone()).expect("a name");
        let body = said(&name).join("\n");
        let head = head("200 OK", &["content-type: application/x-ndjson"]);
        vec![head, Step::AwaitRequests(CALLS), Step::Drip(body.into(), PIECE, REST)]
    });
    let server = serving(&format!("calls-max = {CALLS}\n{}", url("crowd", &upstream.url("crowd"), "")));
    let address = server.address();
    let before = pss_kib(server.pid());
    run(async {
        let http = Arc::new(http());
        let begin = |name: String| http.post(format!("http://{address}/v1/call/crowd")).body(name).timeout(DEADLINE);
        let mut beginning = JoinSet::new();
        for n in 0..CALLS {
            let request = begin(format!("call-{n}"));
            beginning.spawn(async move {
                let answer = answer(request, &[201]).await.expect("it is up");
                (format!("call-{n}"), header(&answer, "Call-Id").expect("an id").to_owned())
            });
        }
        let ids = beginning.join_all().await;
        let began = Instant::now();
        let refused = begin("one more".into()).send().await.expect("it is up");
        assert_eq!(refused.status(), 429);
        let again: u64 = header(&refused, "Retry-After").expect("when to come again").parse().expect("seconds");
        assert!(again > 0 && refused.text().await.expect("a body").contains("too-many-calls"));

        let mut peak = before;
        let all_ended = async {
            for (_, id) in &ids {
                while state(&address, id).await["state"] != "ended" {
                    peak = peak.max(pss_kib(server.pid()));
                    sleep(ms(100)).await;
                }
            }
        };
        timeout(DEADLINE, all_ended).await.expect("the end before the deadline");
        let took = began.elapsed();
        for (n, (name, id)) in ids.iter().enumerate() {
            let target = Target { address: address.clone(), stream: format!("calls/{id}"), kind: Kind::Json };
            let way = WAYS[n % WAYS.len()];
            let reader = timeout(DEADLINE, Reader::read(&target, way, usize::MAX)).await.expect("before the deadline");
            assert_eq!(reader.records, said(name), "{way:?}");
            assert_eq!(state(&address, id).await["ending"]["outcome"], "finished");
        }
        let each = (peak - before) / CALLS as u64;
        eprintln!("{CALLS} calls at once for {took:.1?}: {before} KiB before, {peak} KiB at most, {each} KiB a call");
        assert!(each <= CALL_KIB_MAX, "{each} KiB a call");
    });
}

#[test]
fn a_flood_goes_through_in_bounded_memory() {
    const BYTES: usize = 256 << 20;
    let upstream =
        Upstream::start(|_| vec![head("200 OK", &[&format!("content-length: {BYTES}")]), Step::Flood(BYTES)]);
    let server = serving(&url("flood", &upstream.url("flood"), ""));
    let (address, before) = (server.address(), pss_kib(server.pid()));
    run(async {
        let http = http();
        let request = http.post(format!("http://{address}/v1/call/flood"));
        let begun = answer(request, &[201]).await.expect("it is up");
        let id = header(&begun, "Call-Id").expect("an id").to_owned();
        // Read while it flows: what is not durable is not there.
        let (mut offset, mut place, mut peak) = ("-1".to_owned(), 0, before);
        let read = async {
            loop {
                let url = format!("http://{address}/v1/stream/calls/{id}?offset={offset}&live=long-poll&timeout=30");
                let answer = answer(http.get(url), &[200, 204]).await.expect("it is up");
                header(&answer, "Stream-Next-Offset").expect("where to go on").clone_into(&mut offset);
                let closed = header(&answer, "Stream-Closed") == Some("true");
                let part = answer.bytes().await.expect("a whole answer");
                assert!(part == flooded(place, part.len()), "the bytes from {place} on are others");
                place += part.len();
                peak = peak.max(pss_kib(server.pid()));
                if closed {
                    return;
                }
            }
        };
        timeout(DEADLINE, read).await.expect("the end before the deadline");
        let ending = state(&address, &id).await["ending"].clone();
        assert_eq!((place, ending["bytes"].as_u64()), (BYTES, Some(BYTES as u64)));
        assert_eq!(ending["outcome"], "finished");
        eprintln!("{BYTES} bytes in {} ms: {before} KiB before, {peak} KiB at most", ending["durationMs"]);
        assert!(peak - before < FLOOD_KIB_MAX, "{} KiB more", peak - before);
    });
}

/// What the engine itself may hold of a flood: a memory table of 64 MiB, the one before it while a busy machine writes that to the disk, caches;
/// not the flood.
const FLOOD_KIB_MAX: u64 = 192 << 10;

/// Its share of the memory.
fn pss_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
