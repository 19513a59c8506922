//! Calls keep their promise, through the whole server: hostile upstreams and programs, kills, many at once, clients that are cut and change over.

mod crowd;
mod endings;
mod kill;
mod programs;
mod restore;
mod switching;
mod told;
pub(crate) mod upstream;

use std::{fs, sync::Mutex};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    harness::Server,
    kill::free_address,
    reader::{AGAIN, answer, header, http},
    records::Kind,
    seeded::{Seeded, fresh_seed},
};
use upstream::{Step, Upstream, head};

/// A server whose configuration file has these lines, also after a restart.
fn serving(configuration: &str) -> Server {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("fourfold.toml");
    fs::write(&file, configuration).expect("a file");
    let file = file.to_str().expect("temporary paths are UTF-8").to_owned();
    Server::start_in(dir, &free_address(&mut Seeded::new(fresh_seed())), &["--config", &file])
}

/// Begins a call; its id.
async fn begin(address: &str, name: &str, body: Vec<u8>) -> String {
    let request = http().post(format!("http://{address}/v1/call/{name}")).body(body);
    let answer = answer(request, &[201]).await.expect("it is up");
    header(&answer, "Call-Id").expect("every call has one").to_owned()
}

async fn state(address: &str, id: &str) -> Value {
    let answer = answer(http().get(format!("http://{address}/v1/calls/{id}")), &[200]).await.expect("it is up");
    serde_json::from_str(&answer.text().await.expect("a whole answer")).expect("JSON")
}

/// Waits until a call has ended, without being one who watches it.
async fn ended(address: &str, id: &str) {
    while state(address, id).await["state"] != "ended" {
        sleep(AGAIN).await;
    }
}

/// Waits until something of a call's output is there.
async fn has_begun(address: &str, id: &str) {
    let url = format!("http://{address}/v1/stream/calls/{id}?offset=-1&live=long-poll&timeout=60");
    assert_eq!(answer(http().get(url), &[200]).await.expect("it is up").status(), 200);
}

/// Numbered records, to the letter as they are in the end.
fn expected(kind: Kind, count: u64) -> Vec<String> {
    (0..count).map(|n| kind.record("paced", n)).collect()
}

/// What makes a target say them: an upstream and a program that give back what they get, slowly.
fn wish(kind: Kind, count: u64) -> String {
    let records = expected(kind, count);
    match kind {
        Kind::Json => records.join("\n") + "\n",
        Kind::Text => records.concat(),
    }
}

/// JSON lines, cut anywhere.
fn paced_upstream(chance: Seeded) -> Upstream {
    let chance = Mutex::new(chance);
    Upstream::start(move |asked| {
        let mut chance = chance.lock().expect("nobody panics with it").branch();
        let mut steps = vec![head("200 OK", &["content-type: application/x-ndjson"])];
        let mut rest = &asked.body[..];
        while !rest.is_empty() {
            let (piece, more) =
                rest.split_at(rest.len().min(usize::try_from(chance.within(1..500)).expect("it is small")));
            steps.extend([Step::Say(piece.to_vec()), Step::Rest(chance.pause(0..20))]);
            rest = more;
        }
        steps
    })
}

/// Lines of text. Whoever it was run for is noted where `$RAN` says.
const PACED_PROGRAM: &str = r#"echo "$FOURFOLD_CALL_ID" >> "${RAN:-/dev/null}"; while IFS= read -r line; do printf '%s\n' "$line"; sleep 0.01; done"#;

/// One of several.
fn one_of<T: Copy>(chance: &mut Seeded, several: &[T]) -> T {
    several[usize::try_from(chance.within(0..several.len() as u64)).expect("it is an index")]
}

/// A program of the shell, as the configuration has it.
fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[calls.{name}]\ncommand = ['/bin/sh', '-c', '''{script}''']\ngrace = '100ms'\n{more}\n")
}

/// An upstream, as the configuration has it.
fn url(name: &str, url: &str, more: &str) -> String {
    format!("[calls.{name}]\nurl = '{url}'\n{more}\n")
}
