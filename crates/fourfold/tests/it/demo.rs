//! `fourfold demo`: the vitals flow and their numbers go on after a restart, tasks are bounded and end, the relay's weather is real.

mod tasks;
mod weather;

use serde_json::Value;

use crate::{
    harness::{Running, fourfold},
    reader::http,
};

/// A demo over a data directory, and its URL.
fn start(data: &str) -> (Running, String) {
    let demo = fourfold(&["demo", "--listen", "127.0.0.1:0", "--data-dir", data, "--log", "off"]);
    let url = demo.line().strip_prefix("listening on ").expect("the line of the contract").to_owned();
    assert!(demo.line().starts_with(&format!("open {url}/ ")));
    (demo, url)
}

#[test]
fn a_demo_with_rules_says_why_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fourfold.toml");
    std::fs::write(&config, "engine = 'memory'\n[access.anonymous]\nread = ['**']\n").unwrap();
    let finished = fourfold(&["demo", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()]).finish();
    assert!(finished.failed().contains("leave that section out, or run 'fourfold serve'"), "{}", finished.stderr);
    assert_eq!(finished.code, Some(2));
}

/// A demo that has begun: the address of its relay, too.
async fn started(data: &str) -> (Running, String, String) {
    let (demo, url) = start(data);
    for _ in 0..600 {
        let answer = http().get(format!("{url}/demo/config.json")).send().await.unwrap();
        if answer.status() == 200 {
            let config = json(answer).await;
            return (demo, url, config["weather"].as_str().unwrap().to_owned());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await; // It says 503 until it has begun.
    }
    panic!("the demo has not begun");
}

async fn json(answer: reqwest::Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// The first `limit` records: number and time. The stream may not have been created yet.
fn first(url: &str, limit: u64) -> Vec<(u64, u64)> {
    for _ in 0..600 {
        let tail = fourfold(&["tail", "demo/vitals", "--url", url, "--offset", "-1", "--limit", &limit.to_string()]);
        let finished = tail.finish();
        if finished.stderr.contains("there is no stream") {
            continue;
        }
        let read = |line: &String| {
            let record: Value = serde_json::from_str(line).unwrap();
            (record["n"].as_u64().unwrap(), record["at"].as_u64().unwrap())
        };
        return finished.succeeded().lines.iter().map(read).collect();
    }
    panic!("demo/vitals was not created");
}

#[test]
fn the_vitals_are_numbered_without_holes_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let (demo, url) = start(data);
    let before = first(&url, 3);
    drop(demo); // kill -9
    let (_demo, url) = start(data);
    let after = first(&url, 8);
    assert_eq!(after[..3], before, "the records of before are there");
    let numbers: Vec<u64> = after.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}
