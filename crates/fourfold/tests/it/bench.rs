//! The load generator: it counts exactly, and it notices what a server must not do.

mod server;

use serde_json::Value;
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use crate::harness::{Finished, fourfold};
use server::{Habit, floor, server};

/// Runs `bench` for a second; how it ended, and its report.
fn bench(line: &str) -> (Finished, Value) {
    let words = ["bench", "--json", "-", "--warm-up", "0", "--seconds", "1"].into_iter();
    let arguments: Vec<_> = words.chain(line.split_whitespace()).collect();
    let finished = fourfold(&arguments).finish();
    let report = finished.lines.first().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    (finished, report)
}

/// The figures at these paths.
fn figures<const N: usize>(report: &Value, paths: [&str; N]) -> [u64; N] {
    paths.map(|path| report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {report}")))
}

const FAULTS: [&str; 4] = ["/delivered/lost", "/delivered/duplicates", "/delivered/outOfOrder", "/delivered/cut"];

#[test]
fn every_record_is_counted_once_on_every_transport() {
    for transport in ["websocket", "sse", "long-poll", "portions", "short-poll"] {
        let line = format!(
            "--transport {transport} --interval 50 --engine memory --subscribers 10 --streams 2 --writers 2 --rate 40 --batch 2"
        );
        let (finished, report) = bench(&line);
        finished.succeeded();
        assert_eq!(figures(&report, FAULTS), [0; 4], "{transport}");
        // 5 readers each of 2 streams with 40 records.
        let counted = figures(&report, ["/appended/acknowledged", "/delivered/records", "/delivered/measured"]);
        assert_eq!(counted, [80, 400, 400], "{transport}");
        assert_eq!(figures(&report, ["/delivered/latency/count", "/appended/latency/count"]), [400, 40], "{transport}");
        assert!(figures(&report, ["/server/cpuMicros", "/generator/cpuMicros"]).iter().all(|us| *us > 0));
        let [requests] = figures(&report, ["/wire/requests"]);
        let asks_again = matches!(transport, "long-poll" | "short-poll");
        assert_eq!(requests > 0, asks_again, "{transport}: {requests}");
    }
}

#[test]
fn large_records_arrive_whole_as_fast_as_they_are_acknowledged() {
    for transport in ["websocket", "sse", "long-poll", "portions", "short-poll"] {
        let line = format!(
            "--transport {transport} --interval 50 --engine memory --subscribers 3 --rate 0 --in-flight 4 --size 300000"
        );
        let (finished, report) = bench(&line);
        finished.succeeded();
        assert_eq!(figures(&report, FAULTS), [0; 4], "{transport}");
        let [appended, delivered] = figures(&report, ["/appended/acknowledged", "/delivered/records"]);
        assert!(appended > 0 && delivered == 3 * appended, "{transport}: {appended} {delivered}");
    }
}

#[test]
fn idle_readers_are_weighed_and_get_the_last_record_and_stalled_ones_do_no_harm() {
    for transport in ["websocket", "sse", "long-poll", "portions", "short-poll"] {
        let line = format!(
            "--transport {transport} --interval 50 --engine memory --subscribers 2 --idle 40 --stalled 3 --rate 20"
        );
        let (finished, report) = bench(&line);
        finished.succeeded();
        let counted =
            figures(&report, ["/idle/readers", "/idle/answered", "/delivered/records", "/connections/failed"]);
        assert_eq!(counted, [40, 40, 40, 0], "{transport}");
        let [start, with_idle] = figures(&report, ["/server/pssBytesAtStart", "/server/pssBytesWithIdle"]);
        assert!(start > 100_000 && with_idle > 100_000, "{start} {with_idle}");
    }
}

#[test]
fn a_server_that_loses_doubles_swaps_or_cuts_records_is_noticed() {
    // 100 records to each of 2 readers; each tenth suffers.
    for (habit, faults, words) in [
        (Habit::Honest, [0, 0, 0, 0], ""),
        (Habit::Loses, [20, 0, 0, 0], "20 lost"),
        (Habit::Doubles, [0, 20, 0, 0], "20 twice"),
        (Habit::Swaps, [0, 0, 20, 0], "20 out of order"),
    ] {
        let address = server(habit);
        let line = format!("http://{address} --profile nchan --transport sse --subscribers 2 --rate 100");
        let (finished, report) = bench(&line);
        assert_eq!(figures(&report, FAULTS), faults, "{habit:?}");
        assert!(report["server"].is_null(), "its process is not known");
        if words.is_empty() {
            finished.succeeded();
        } else {
            assert!(finished.failed().contains(words), "{habit:?}: {}", finished.stderr);
        }
    }
}

#[test]
fn a_record_that_ends_too_soon_is_noticed_and_counts_as_lost() {
    let address = server(Habit::Cuts);
    let line = format!("http://{address} --profile nchan --transport long-poll --subscribers 2 --rate 20");
    let (finished, report) = bench(&line);
    let [lost, twice, late, cut] = figures(&report, FAULTS);
    assert!(lost == cut && cut > 0 && (twice, late) == (0, 0), "{report}");
    assert!(finished.failed().contains("cut short"), "{}", finished.stderr);
}

#[test]
fn a_server_that_stalls_is_seen_to_stall_by_all_the_records_that_had_to_wait() {
    let address = server(Habit::Stalls);
    let line = format!("http://{address} --profile nchan --transport sse --subscribers 1 --rate 100");
    let (finished, report) = bench(&line);
    finished.succeeded();
    // One answer takes 500 ms, so that fifty records come late, by up to that. Counted from the moment of sending it would
    // be one in a hundred, and the ninth decile would not see it.
    let p90 = figures(&report, ["/delivered/latency/p90", "/appended/latency/p90"]);
    assert!(p90.iter().all(|us| *us > 200_000), "{p90:?}");
}

#[test]
fn a_polling_reader_takes_up_where_the_server_said() {
    for transport in ["long-poll", "short-poll"] {
        let address = server(Habit::Honest);
        let line =
            format!("http://{address} --profile nchan --transport {transport} --interval 20 --subscribers 2 --rate 50");
        let (finished, report) = bench(&line);
        finished.succeeded();
        assert_eq!(figures(&report, FAULTS), [0; 4], "{transport}");
        assert_eq!(figures(&report, ["/delivered/records"]), [100], "{transport}");
    }
}

#[test]
fn a_polling_reader_comes_back_when_the_server_hangs_up() {
    for transport in ["long-poll", "short-poll"] {
        let address = server(Habit::Closes);
        let line =
            format!("http://{address} --profile nchan --transport {transport} --interval 20 --subscribers 2 --rate 50");
        let (finished, report) = bench(&line);
        finished.succeeded();
        assert_eq!(figures(&report, ["/delivered/records", "/connections/ended"]), [100, 0], "{transport}");
        let [reconnected] = figures(&report, ["/connections/reconnected"]);
        assert!(reconnected >= 100, "{transport}: {reconnected}");
    }
}

#[test]
fn socket_io_is_spoken_with_its_greeting_and_its_pings() {
    let address = server(Habit::Honest);
    let (finished, report) = bench(&format!("http://{address} --profile socketio --subscribers 3 --rate 50"));
    finished.succeeded();
    assert_eq!(figures(&report, FAULTS), [0; 4]);
    assert_eq!(figures(&report, ["/delivered/records", "/connections/ended"]), [150, 0]);
}

#[test]
fn the_floor_is_measured_like_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let command = dir.path().join("floor");
    let arguments = dir.path().join("arguments");
    let address = floor(3, 40);
    let script =
        format!("#!/bin/sh\necho $* > {}\necho listening on http://{address}\nexec sleep 60\n", arguments.display());
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let (finished, report) =
        bench(&format!("--floor --floor-command {} --subscribers 3 --rate 40 --batch 2 --size 64", command.display()));
    finished.succeeded();
    assert_eq!(fs::read_to_string(arguments).unwrap(), "3 20.000 1 64 2\n");
    assert_eq!(figures(&report, ["/delivered/records", "/delivered/latency/count"]), [120, 120]);
    assert_eq!((&report["appended"], report["plan"]["target"].as_str()), (&Value::Null, Some("floor")));
}

#[test]
fn another_machine_is_loaded_only_on_purpose() {
    let (finished, _) = bench("http://192.0.2.1:80");
    assert_eq!(finished.code, Some(2));
    assert!(finished.failed().contains("--allow-remote"), "{}", finished.stderr);
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let (finished, _) = bench("http://127.0.0.1:1");
    assert!(finished.failed().contains("refused"), "{}", finished.stderr);
}

#[test]
fn without_json_there_is_a_table() {
    let finished = fourfold(&["bench", "--engine", "memory", "--seconds", "1", "--warm-up", "0", "--subscribers", "2"]);
    let finished = finished.finish().succeeded();
    for name in ["appended", "delivered", "server's CPU", "measuring cost"] {
        assert!(finished.lines.iter().any(|line| line.starts_with(name)), "{name} in {:?}", finished.lines);
    }
}

#[test]
fn the_shape_of_the_json_is_the_one_that_scripts_know() {
    let (finished, report) = bench("--engine memory --subscribers 1 --idle 1");
    finished.succeeded();
    let mut paths = BTreeSet::new();
    gather("", &report, &mut paths);
    let expected: BTreeSet<String> = include_str!("bench/shape.txt").lines().map(ToOwned::to_owned).collect();
    assert_eq!(paths, expected);
}

fn gather(path: &str, value: &Value, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| gather(&format!("{path}/{name}"), value, paths))
        }
        _ => {
            paths.insert(path.to_owned());
        }
    }
}
