//! Heavy tasks on request: each has a thread and a stream of its own. The stream carries progress, then the result, and is
//! closed: whoever reads it later, or for the second time, sees the same.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    feed::{FeedError, now_ms, record},
    notices::Notice,
    work::{Outcome, work},
};
use crate::{
    client::Client,
    failure::checked,
    message::Format,
    producer::{Producer, Record},
    retry::{Retry, random, tell},
};

/// Where the streams of tasks are.
pub(super) const PREFIX: &str = "demo/tasks/";

/// Tasks at once: each takes a core, and a demo should not take the machine.
pub(super) const TASKS_MAX: usize = 2;

/// The largest file, in millions of bytes: half a gigabyte of a disk that is not ours.
pub(super) const MEGABYTES_MAX: u64 = 512;

/// How long a finished task can be read, in seconds.
const TTL_SECONDS: u64 = 3_600;

/// Progress on its way: a stream that cannot keep up slows the task.
const UNSENT_MAX: usize = 16;

/// What `POST /demo/tasks` takes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    #[serde(default = "megabytes_default")]
    pub(super) megabytes: u64,
}

const fn megabytes_default() -> u64 {
    256
}

/// Starts tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    url: String,
    /// Where the producers of the tasks run.
    runtime: Handle,
    running: Arc<AtomicUsize>,
    /// The stream that lists tasks.
    list: mpsc::Sender<Record>,
    notices: mpsc::Sender<Notice>,
}

/// A task's place among those that run.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Tasks {
    pub(super) fn new(url: String, runtime: Handle, list: mpsc::Sender<Record>, notices: mpsc::Sender<Notice>) -> Self {
        Self { url, runtime, running: Arc::default(), list, notices }
    }

    /// A seat, unless all are taken.
    pub(super) fn seat(&self) -> Option<Seat> {
        let seat = Seat(Arc::clone(&self.running));
        // Counted before it is judged; an unfit seat gives itself back.
        (self.running.fetch_add(1, SeqCst) < TASKS_MAX).then_some(seat)
    }

    /// Creates the stream, and begins. What it returns is also in the list of tasks.
    pub(super) async fn start(&self, seat: Seat, wish: Wish) -> Result<Value, FeedError> {
        let id = format!("{:08x}", random() >> 32);
        let stream = format!("{PREFIX}{id}");
        let client = Client::new(&self.url, &stream)?;
        let mut retry = Retry::new(client.server(), None);
        let ttl = [("stream-ttl", TTL_SECONDS.to_string())];
        client.ensure(Some("application/json"), &ttl, &mut retry).await?;
        let entry = json!({"task": id, "stream": stream, "megabytes": wish.megabytes, "at": now_ms()});
        let (sender, receiver) = mpsc::channel(UNSENT_MAX);
        let (notices, name) = (self.notices.clone(), id.clone());
        let (outcomes, outcome) = tokio::sync::oneshot::channel();
        self.runtime.spawn(async move {
            if let Err(error) = publish(client, receiver, retry).await {
                tell(&format!("the progress of task {name} is not told: {error}"));
            }
            // Only now, so that what the notice speaks of is there.
            if let Ok(outcome) = outcome.await {
                let _ = notices.send(Notice::Task { task: name, outcome }).await;
            }
            drop(seat);
        });
        let _ = self.list.send(record(entry.to_string())).await;
        let bytes = wish.megabytes.saturating_mul(1_000_000);
        std::thread::spawn(move || {
            let outcome = run(&id, bytes, &sender);
            drop(sender);
            let _ = outcomes.send(outcome);
        });
        Ok(entry)
    }
}

/// Appends what comes, and closes the stream behind it.
async fn publish(client: Client, mut records: mpsc::Receiver<Record>, mut retry: Retry) -> Result<(), FeedError> {
    let mut producer = Producer::new(client.clone(), Format::Json, Retry::new(client.server(), None));
    producer.run(&mut records, |_| {}).await?;
    Ok(client.close(&mut retry).await?)
}

/// The work, with a number in each record. If the stream takes no more the work goes on for its result.
fn run(task: &str, bytes: u64, records: &mpsc::Sender<Record>) -> Option<Outcome> {
    let mut n = 0;
    let mut send = |mut value: Value| {
        n += 1;
        value["task"] = task.into();
        value["n"] = n.into();
        let _ = records.blocking_send(record(value.to_string()));
    };
    let worked = work(bytes, |progress| send(serde_json::to_value(progress).expect("numbers and words are JSON")));
    match worked {
        Ok(outcome) => {
            send(json!({"progress": 1, "result": outcome}));
            Some(outcome)
        }
        Err(error) => {
            send(json!({"failed": error.to_string()}));
            None
        }
    }
}

/// Closes the streams of tasks that ended with an earlier process, and says so in them.
pub(super) async fn close_abandoned(url: &str) -> Result<(), FeedError> {
    #[derive(Deserialize)]
    struct Listing {
        streams: Vec<Listed>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        name: String,
        stream_closed: bool,
    }
    let any = Client::new(url, PREFIX.trim_end_matches('/'))?;
    let listed = format!("{}/v1/stream/?limit=1000&prefix={PREFIX}", any.server());
    let response = checked(any.get(&listed).send().await.map_err(crate::failure::Failure::from)?).await?;
    let body = response.bytes().await.map_err(crate::failure::Failure::from)?;
    let Ok(Listing { streams }) = serde_json::from_slice(&body) else { return Ok(()) };
    for Listed { name, .. } in streams.into_iter().filter(|listed| !listed.stream_closed) {
        let client = Client::new(url, &name)?;
        let retry = Retry::new(client.server(), None);
        let (sender, records) = mpsc::channel(1);
        let failed = json!({"task": name.trim_start_matches(PREFIX), "failed": "the server was stopped meanwhile"});
        let _ = sender.send(record(failed.to_string())).await;
        drop(sender);
        publish(client, records, retry).await?;
    }
    Ok(())
}
