//! `fourfold demo`: the vitals flow, and their numbers go on after a restart.

use serde_json::Value;

use crate::harness::{Running, fourfold};

fn start(data: &str) -> (Running, String) {
    let demo = fourfold(&["demo", "--listen", "127.0.0.1:0", "--data-dir", data, "--log", "off"]);
    let url = demo.line().strip_prefix("listening on ").expect("the line of the contract").to_owned();
    assert!(demo.line().starts_with(&format!("open {url}/ ")));
    (demo, url)
}

/// The numbers of the first `limit` records. The stream may not have been created yet.
fn numbers(url: &str, limit: u64) -> Vec<u64> {
    for _ in 0..600 {
        let tail = fourfold(&["tail", "demo/vitals", "--url", url, "--offset", "-1", "--limit", &limit.to_string()]);
        let finished = tail.finish();
        if finished.stderr.contains("there is no stream") {
            continue;
        }
        let n = |line: &String| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap();
        return finished.succeeded().lines.iter().map(n).collect();
    }
    panic!("demo/vitals was not created");
}

#[test]
fn the_vitals_are_numbered_without_holes_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let (demo, url) = start(data);
    assert_eq!(numbers(&url, 3), [1, 2, 3]);
    drop(demo); // kill -9
    let (_demo, url) = start(data);
    let after = numbers(&url, 8);
    assert_eq!(after, (1..=8).collect::<Vec<u64>>());
}
