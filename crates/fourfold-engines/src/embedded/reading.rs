//! Reads past the committer.
//!
//! A read is a blocking look into files, mostly the page cache: some 10 to 100 µs for a portion, milliseconds on a cold disk. A server's
//! runtime holds thousands of sockets on one thread, so reads go to tokio's blocking threads (a hop of some 10 µs), a few at a time.
//! Subscribers that keep up never come here: their records are in memory.

use std::{ops::Bound, sync::Arc};

use fjall::Readable;
use fourfold_protocol::{Record, StreamName, record::gather};
use fourfold_stream::{Batch, Head, Limit, Listed, Listing, ReadError, Stream, Streams, Unavailable, fork::runs};
use tokio::sync::Semaphore;

use super::{
    keys::{self, Space},
    meta::{self, Log, Named},
    store::{Shelf, Store, damaged, get_at, unavailable},
    timers::Timers,
};
use crate::rules::{self, now_ms};

/// So many reads at a time: more threads than cores help only while reads wait for the disk, and each takes a stack.
const READERS_MAX: usize = 16;

/// A way to read. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    shelf: Arc<Shelf>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf, places: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    pub(crate) async fn read(&self, stream: Arc<Stream>, from: u64, limit: Limit) -> Result<Batch, ReadError> {
        let tail = stream.tail();
        if tail.deleted {
            return Err(ReadError::NotFound);
        }
        let oldest = stream.oldest();
        if from < oldest {
            return Err(ReadError::Trimmed { oldest });
        }
        if from >= tail.position {
            return Ok(Batch { records: Vec::new(), next: from });
        }
        let found = self.blocking({
            let stream = Arc::clone(&stream);
            move |store| range(store, &stream, from, tail.position, limit)
        });
        let records = found.await?;
        let next = records.last().map_or(from, |last| last.position + 1);
        // Meanwhile retention may have passed, or the stream may have gone, and taken records away from under the read.
        let oldest = stream.oldest();
        if stream.tail().deleted {
            Err(ReadError::NotFound)
        } else if from < oldest {
            Err(ReadError::Trimmed { oldest })
        } else if records.first().is_none_or(|first| first.position != from) || next - from != records.len() as u64 {
            // This engine leaves no holes.
            Err(damaged("log").into())
        } else {
            Ok(Batch { records, next })
        }
    }

    pub(crate) async fn list(
        &self,
        streams: Streams,
        timers: Arc<Timers>,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Listing, Unavailable> {
        self.blocking(move |store| page(store, &streams, &timers, &prefix, after.as_deref(), limit)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Store) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let shelf = Arc::clone(&self.shelf);
        let done = tokio::task::spawn_blocking(move || {
            // Kept until the end, also if whoever asked goes away.
            let _place = place;
            look(&*shelf.get()?)
        });
        done.await.unwrap_or_else(|_| Err(Unavailable::Failed("a read stopped: the storage may be damaged".into())))
    }
}

fn range(store: &Store, stream: &Stream, from: u64, tail: u64, limit: Limit) -> Result<Vec<Record>, Unavailable> {
    let runs = runs(stream.epoch(), stream.config(), from, tail);
    let keys = runs.into_iter().map(|(owner, from, until)| keys::record(owner, from)..keys::record(owner, until));
    let mut values = Vec::new();
    let mut bytes = 0_usize;
    for entry in keys.flat_map(|keys| store.space(Space::Records).range(keys)).take(limit.records.max(1)) {
        let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
        let (_, position) = keys::numbers(&key).ok_or_else(|| damaged("record"))?;
        let (_, data) = meta::decode_record(&value).ok_or_else(|| damaged("record"))?;
        bytes = bytes.saturating_add(data.len());
        if !values.is_empty() && bytes > limit.bytes {
            break;
        }
        values.push((position, value));
    }
    // One allocation of their own: they must not hold on to fjall's blocks.
    let data = gather(values.iter().map(|(_, value)| meta::decode_record(value).map_or(&[][..], |(_, data)| data)));
    Ok(values.iter().zip(data).map(|((position, _), data)| Record { position: *position, data }).collect())
}

fn page(
    store: &Store,
    streams: &Streams,
    timers: &Timers,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Listing, Unavailable> {
    let now = now_ms();
    let durable = store.durable();
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut page = Listing { streams: Vec::new(), more: false };
    for entry in durable.range::<&str, _>(store.space(Space::Names), (start, Bound::Unbounded)) {
        let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
        if !key.starts_with(prefix.as_bytes()) {
            break;
        }
        let name = std::str::from_utf8(&key).ok().and_then(|name| StreamName::internal(name).ok());
        let name = name.ok_or_else(|| damaged("name"))?;
        let Named { epoch, config } = Named::decode(&value).ok_or_else(|| damaged("stream"))?;
        let head = get_at(store, &durable, Space::Heads, &keys::epoch(epoch))?;
        let log = head.and_then(|head| Log::decode(&head)).ok_or_else(|| damaged("head"))?;
        if log.ties.gone {
            continue;
        }
        let followed = streams.get(&name).is_some_and(|stream| stream.epoch() == epoch && stream.cursors() > 0);
        let used = if followed { now } else { log.used_ms.max(timers.used_ms(epoch)) };
        if rules::expires_ms(&config, used).is_some_and(|at| at <= now) {
            continue;
        }
        if page.streams.len() == limit {
            page.more = true;
            break;
        }
        let Head { oldest, tail, closed, ending, .. } = log.head;
        let (config, bytes) = (Arc::new(config), log.bytes);
        page.streams.push(Listed { name, epoch, config, oldest, tail, bytes, closed, ending });
    }
    Ok(page)
}
