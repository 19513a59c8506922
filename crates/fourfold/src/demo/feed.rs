//! Feeds a stream with numbered records at a steady pace, over the public wire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::vitals::NoVitals;
use crate::{
    answer,
    client::{AddressError, Client, EnsureError, Server},
    failure::{Failure, checked},
    message::{Format, Message},
    producer::{Producer, ProducerError, Record},
    retry::{GaveUp, Retry},
};

/// Why a stream is not fed. The server goes on without.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Ensure(#[from] EnsureError),
    #[error(transparent)]
    Read(#[from] Failure),
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    #[error(transparent)]
    Vitals(#[from] NoVitals),
    #[error(transparent)]
    Producer(#[from] ProducerError),
}

/// A stream of JSON that has its last records kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) stream: &'static str,
    pub(super) age: Duration,
    pub(super) records: u32,
}

/// What is read of a record.
#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

/// The stream, created if it is not there.
pub(super) async fn ensured(url: &str, kept: Kept) -> Result<(Client, Retry), FeedError> {
    let client = Client::new(Server::open(url)?, kept.stream)?;
    let mut retry = Retry::new(client.server(), None);
    let retention = [
        ("stream-retention-age", kept.age.as_secs().to_string()),
        ("stream-retention-records", kept.records.to_string()),
    ];
    client.ensure(Some("application/json"), &retention, &mut retry).await?;
    Ok((client, retry))
}

/// Appends what `make` makes of a number and the time in milliseconds, for ever. Numbers go on after a restart.
pub(super) async fn feed(
    url: &str,
    kept: Kept,
    every: Duration,
    mut make: impl FnMut(u64, u64) -> Result<String, NoVitals>,
) -> Result<(), FeedError> {
    let (client, mut retry) = ensured(url, kept).await?;
    let last = last_number(&client, &mut retry).await?;
    let (sender, mut records) = mpsc::channel(1);
    let mut producer = Producer::new(client, Format::Json, retry);
    let made = async {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for n in last + 1.. {
            ticks.tick().await;
            if sender.send(record(make(n, now_ms())?)).await.is_err() {
                break;
            }
        }
        Ok::<_, NoVitals>(())
    };
    tokio::select! {
        made = made => Ok(made?),
        produced = producer.run(&mut records, |_| {}) => Ok(produced?),
    }
}

/// JSON on its way into a stream.
pub(super) fn record(json: String) -> Record {
    let bytes = json.len() as u64;
    Record { json, bytes }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(at).unwrap_or(u64::MAX)
}

/// The number of the last record, 0 if there is none. Reads all that is kept, a few MiB, since offsets are opaque and a
/// stream is read forward.
pub(super) async fn last_number(client: &Client, retry: &mut Retry) -> Result<u64, FeedError> {
    let mut offset = "-1".to_owned();
    let mut last = 0;
    loop {
        let message = read_on(client, &offset, "", retry).await?;
        if let Some(record) = message.records.last()
            && let Ok(Numbered { n }) = serde_json::from_str(record.get())
        {
            last = n;
        }
        match message.stream_next_offset {
            Some(next) if !message.up_to_date => offset = next,
            _ => return Ok(last),
        }
    }
}

/// What is behind an offset; with `&live=long-poll` it waits for it. Tries again what passes.
pub(super) async fn read_on(
    client: &Client,
    offset: &str,
    parameters: &str,
    retry: &mut Retry,
) -> Result<Message, FeedError> {
    loop {
        let read = async {
            let response = checked(client.get(&client.read_url(offset, parameters)).send().await?).await?;
            Ok(answer::read(Format::Json, response).await?.0)
        };
        match read.await {
            Ok(message) => {
                retry.reset();
                return Ok(message);
            }
            Err(Failure::Passing { why, after }) => retry.wait(&why, after).await?,
            Err(failure) => return Err(failure.into()),
        }
    }
}
