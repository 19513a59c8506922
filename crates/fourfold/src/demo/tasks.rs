//! Heavy tasks on request: a call of the server, whose program is this very command. What it tells is a stream of the server's, which ends with
//! the result and outlives whoever asked; here is only how it is configured, and who says in the notices that one has ended.

use std::{collections::BTreeSet, io, time::Duration};

use fourfold_calls::CallConfig;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    feed::{FeedError, read_on},
    notices::Notice,
    work::WISH_BYTES_MAX,
};
use crate::{
    client::{Client, Server},
    failure::{Failure, checked},
    retry::Retry,
};

/// `POST /v1/call/demo-pack`, with `{"megabytes":256}`.
pub(super) const CALL: &str = "demo-pack";

/// Tasks at once: each takes a core, and a demo should not take the machine.
pub(super) const TASKS_MAX: usize = 2;

/// How often the list of calls is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The newest calls that are looked at: far more than can end between two looks.
const LOOKED_AT_MAX: usize = 20;

/// What the server is to run.
pub(super) fn call() -> io::Result<CallConfig> {
    let program = std::env::current_exe()?;
    let text = |path: std::path::PathBuf| {
        path.into_os_string().into_string().map_err(|_| io::Error::other("a path of this machine is not UTF-8"))
    };
    let typed = json!({
        "command": [text(program)?, "pack"],
        "content-type": "application/json",
        "environment": { "TMPDIR": text(std::env::temp_dir())? },
        "body-bytes-max": WISH_BYTES_MAX,
        "at-once": TASKS_MAX,
        "keep": "1h",
    });
    serde_json::from_value(typed).map_err(io::Error::other)
}

/// A call, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    ending: Option<Ending>,
}

#[derive(Debug, Deserialize)]
struct Ending {
    outcome: String,
}

/// Tells of each task that ends from now on, for ever.
pub(super) async fn listen(url: &str, notices: mpsc::Sender<Notice>) -> Result<(), FeedError> {
    let client = Client::new(Server::open(url)?, super::notices::STREAM.stream)?;
    let mut retry = Retry::new(client.server(), None);
    let mut known: Option<BTreeSet<String>> = None;
    loop {
        let calls = match look(&client).await {
            Ok(calls) => calls,
            Err(Failure::Passing { why, after }) => {
                retry.wait(&why, after).await?;
                continue;
            }
            Err(failure) => return Err(failure.into()),
        };
        retry.reset();
        let ended: Vec<(&str, &str)> = calls
            .iter()
            .rev()
            .filter_map(|call| Some((call.id.as_str(), call.ending.as_ref()?.outcome.as_str())))
            .collect();
        if let Some(known) = &known {
            for (id, outcome) in ended.iter().filter(|(id, _)| !known.contains(*id)) {
                let text = words(url, id, outcome).await?;
                let _ = notices.send(Notice::Task { task: (*id).to_owned(), text }).await;
            }
        }
        // Those that had ended before the first look are no news.
        known = Some(ended.into_iter().map(|(id, _)| id.to_owned()).collect());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(client: &Client) -> Result<Vec<Listed>, Failure> {
    #[derive(Deserialize)]
    struct Page {
        calls: Vec<Listed>,
    }
    let url = format!("{}/v1/calls?name={CALL}&limit={LOOKED_AT_MAX}", client.server());
    let body = checked(client.get(&url).send().await?).await?.bytes().await?;
    let page: Page = serde_json::from_slice(&body).map_err(|error| Failure::Garbled(error.to_string()))?;
    Ok(page.calls)
}

async fn words(url: &str, id: &str, outcome: &str) -> Result<String, FeedError> {
    let task = &id[id.len().saturating_sub(6)..];
    if outcome != "finished" {
        return Ok(format!("Task {task} was not finished: {outcome}"));
    }
    let client = Client::new(Server::open(url)?, &format!("calls/{id}"))?;
    let message = read_on(&client, "-1", "", &mut Retry::new(client.server(), None)).await?;
    let last = message.records.last().and_then(|record| serde_json::from_str::<Value>(record.get()).ok());
    let result = last.unwrap_or_default()["result"].take();
    let megabytes = result["bytes"].as_u64().unwrap_or_default() / 1_000_000;
    let seconds = result["seconds"].as_f64().unwrap_or_default();
    Ok(format!("Task {task} has packed {megabytes} MB in {seconds:.1} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_is_a_configuration() {
        let call = call().unwrap();
        assert_eq!((call.kind(), call.at_once), ("command", Some(TASKS_MAX)));
    }
}
