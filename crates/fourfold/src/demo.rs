//! `fourfold demo`: the server, and a client of its own that feeds it this machine's vitals.
//!
//! The feed goes over the public wire like anybody else's, so that what the demo shows is what a client gets.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::{
    answer,
    client::{AddressError, Client, EnsureError},
    config::ServeConfig,
    failure::{Failure, checked},
    message::Format,
    producer::{Producer, ProducerError, Record},
    retry::{GaveUp, Retry, tell},
    serve::{ServeError, announce, serve},
    vitals::{NoVitals, Sample},
};

const STREAM: &str = "demo/vitals";

/// Four records a second: a chart moves smoothly, and a day is 345,600 records of about 110 bytes.
const EVERY: Duration = Duration::from_millis(250);

/// What the stream keeps: a day, and about seven hours at least if the disk is small.
const RETENTION: [(&str, &str); 2] = [("stream-retention-age", "86400"), ("stream-retention-records", "100000")];

/// Why the stream is not fed. The server goes on without.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Runtime(#[from] std::io::Error),
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

/// What is read of a record.
#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

/// Runs the command: the server on this thread, until it ends; the feed on another.
pub(crate) fn demo(config: ServeConfig) -> Result<(), ServeError> {
    serve(config, |address| {
        announce(address);
        let url = format!("http://{}", reachable(address));
        // Nobody reads standard output if this fails; the demo runs all the same.
        let _ = writeln!(
            std::io::stdout(),
            "open {url}/ in a browser to see this machine's vitals, or: fourfold tail {STREAM}"
        );
        // Ends with the process: what it would still send is lost to nobody.
        thread::spawn(move || {
            if let Err(error) = feed(&url) {
                tell(&format!("the stream {STREAM} is not fed: {error}"));
            }
        });
    })
}

fn feed(url: &str) -> Result<(), FeedError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::new(url, STREAM)?;
        let mut retry = Retry::new(client.server(), None);
        let headers = RETENTION.map(|(name, value)| (name, value.to_owned()));
        client.ensure(Some("application/json"), &headers, &mut retry).await?;
        let n = last_number(&client, &mut retry).await?;
        let (sender, mut records) = mpsc::channel(1);
        let mut producer = Producer::new(client, Format::Json, retry);
        tokio::select! {
            measured = measure(n, &sender) => Ok(measured?),
            produced = producer.run(&mut records, |_| {}) => Ok(produced?),
        }
    })
}

/// Measures until nobody takes the records any more.
async fn measure(last: u64, records: &mpsc::Sender<Record>) -> Result<(), NoVitals> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    let mut earlier = Sample::take()?;
    for n in last + 1.. {
        ticks.tick().await;
        let now = Sample::take()?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let vitals = now.since(&earlier, n, u64::try_from(at).unwrap_or(u64::MAX));
        earlier = now;
        let json = serde_json::to_string(&vitals).expect("numbers are always JSON");
        let bytes = json.len() as u64;
        if records.send(Record { json, bytes }).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The number of the last record, 0 if there is none. Reads all that is kept, a few MiB, since offsets are opaque and a
/// stream is read forward.
async fn last_number(client: &Client, retry: &mut Retry) -> Result<u64, FeedError> {
    let mut offset = "-1".to_owned();
    let mut last = 0;
    loop {
        let message = match read_on(client, &offset).await {
            Ok(message) => message,
            Err(Failure::Passing { why, after }) => {
                retry.wait(&why, after).await?;
                continue;
            }
            Err(failure) => return Err(failure.into()),
        };
        retry.reset();
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

async fn read_on(client: &Client, offset: &str) -> Result<crate::message::Message, Failure> {
    let response = checked(client.get(&client.read_url(offset, "")).send().await?).await?;
    Ok(answer::read(Format::Json, response).await?.0)
}

/// Where a client on this machine reaches a server that listens on all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_on_loopback() {
        let of = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:4437"), "127.0.0.1:4437");
        assert_eq!(of("[::]:4437"), "[::1]:4437");
        assert_eq!(of("127.0.0.2:1"), "127.0.0.2:1");
    }
}
