//! One subscription while the server runs: its state under a lock, and a task that does what is due.
//!
//! Every change is kept by the [`Journal`] first and applied to the state then, both under the lock; so what a worker or a client has seen outlives a crash.
//! The lock is never held while a webhook is waited for. What moved is put into an inbox without the lock; whoever holds the lock next looks at it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fourfold_protocol::{Offset, Pattern, StreamName};
use fourfold_stream::{Engine, OpenError, Stream, Unavailable};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify, OnceCell, Semaphore};

use crate::{
    counts::Wakes,
    courier::Courier,
    journal::{self, Journal},
    keys::{self, Keys},
    limits::{DELIVERIES_MAX, LINKS_MAX, MOVED_MAX, WAKE_STREAMS_MAX},
    state::{Delivery, Fact, Link, Standing, State, Wake},
};

/// What all subscriptions work with.
pub(crate) struct Means {
    pub(crate) engine: Arc<dyn Engine>,
    /// Made for the first subscription, or when somebody asks for the public half.
    keys: OnceCell<Keys>,
    pub(crate) courier: Courier,
    /// One for each webhook request under way.
    pub(crate) permits: Semaphore,
    pub(crate) wakes: Wakes,
}

impl Means {
    pub(crate) fn new(engine: Arc<dyn Engine>, courier: Courier) -> Self {
        Self {
            engine,
            keys: OnceCell::new(),
            courier,
            permits: Semaphore::new(DELIVERIES_MAX),
            wakes: Wakes::default(),
        }
    }

    /// The keys, from where they are kept.
    pub(crate) async fn load_keys(&self) -> Result<&Keys, Unavailable> {
        self.keys.get_or_try_init(|| journal::keys(&*self.engine)).await
    }

    pub(crate) fn keys(&self) -> &Keys {
        self.keys.get().expect("keys are loaded before there is a subscription")
    }
}

/// One subscription.
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) means: Arc<Means>,
    inbox: Mutex<Inbox>,
    pub(crate) nudge: Notify,
    desk: AsyncMutex<Desk>,
}

/// What has happened to its streams.
struct Inbox {
    pattern: Option<Pattern>,
    explicit: HashSet<String>,
    moved: HashMap<StreamName, Arc<Stream>>,
    /// Look at every stream.
    rescan: bool,
}

/// What may be changed, by one at a time.
pub(crate) struct Desk {
    pub(crate) state: State,
    journal: Journal,
    /// Deleted: nothing changes any more.
    pub(crate) gone: bool,
    /// A delivery waits for its turn.
    pub(crate) queued: bool,
    /// Ends the webhook request under way.
    pub(crate) ended: Arc<Notify>,
}

/// When to look again, in milliseconds since the Unix epoch.
enum Next {
    Never,
    At(u64),
    Gone,
}

impl Entry {
    pub(crate) fn new(means: Arc<Means>, journal: Journal, state: State) -> Arc<Self> {
        let explicit = explicit(&state);
        // From the start every stream is looked at once: what has moved before this is in no inbox.
        let inbox = Inbox { pattern: state.pattern.clone(), explicit, moved: HashMap::new(), rescan: true };
        let id = journal.id().to_owned();
        let desk = Desk { state, journal, gone: false, queued: false, ended: Arc::default() };
        Arc::new(Self { id, means, inbox: Mutex::new(inbox), nudge: Notify::new(), desk: AsyncMutex::new(desk) })
    }

    /// Tells it of a stream that has moved; it takes only what it follows.
    pub(crate) fn note(&self, stream: &Arc<Stream>) {
        let name = stream.name().as_str();
        let mut inbox = self.inbox();
        if !inbox.explicit.contains(name) && !inbox.pattern.as_ref().is_some_and(|pattern| pattern.matches(name)) {
            return;
        }
        if inbox.moved.len() >= MOVED_MAX {
            inbox.moved.clear();
            inbox.rescan = true;
        } else {
            inbox.moved.insert(stream.name().clone(), Arc::clone(stream));
        }
        drop(inbox);
        self.nudge.notify_one();
    }

    /// Tells it that anything may have moved.
    pub(crate) fn note_all(&self) {
        self.inbox().rescan = true;
        self.nudge.notify_one();
    }

    /// Its state, with all that has moved looked at: so nobody is told that nothing is pending when something is.
    pub(crate) async fn open(&self) -> Result<AsyncMutexGuard<'_, Desk>, Unavailable> {
        let mut desk = self.desk.lock().await;
        if !desk.gone {
            let looked = self.catch_up(&mut desk).await;
            if looked.is_err() {
                self.inbox().rescan = true;
            }
            looked?;
        }
        Ok(desk)
    }

    /// Nobody waits for a turn any more.
    pub(crate) async fn unqueue(&self) {
        self.desk.lock().await.queued = false;
    }

    /// Does what is due, until the subscription is deleted.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let next = self.look().await.unwrap_or_else(|why| {
                tracing::warn!(id = self.id, error = %why, "a subscription cannot go on for now");
                Next::At(now_ms() + STORAGE_WAIT_MS)
            });
            let due = async {
                match next {
                    Next::At(at) => tokio::time::sleep(Duration::from_millis(at.saturating_sub(now_ms()))).await,
                    Next::Never | Next::Gone => std::future::pending().await,
                }
            };
            if matches!(next, Next::Gone) {
                return;
            }
            tokio::select! {
                () = self.nudge.notified() => {}
                () = due => {}
            }
        }
    }

    /// Deletes it. Whoever works on a wake of it finds it gone.
    pub(crate) async fn end(&self) -> Result<bool, Unavailable> {
        let mut desk = self.desk.lock().await;
        if desk.gone {
            return Ok(false);
        }
        desk.journal.end().await?;
        desk.gone = true;
        desk.ended.notify_one();
        self.nudge.notify_one();
        Ok(true)
    }

    /// Keeps and applies changes.
    pub(crate) async fn commit(&self, desk: &mut Desk, facts: Vec<Fact>) -> Result<(), Unavailable> {
        desk.journal.keep(&facts).await?;
        let named = facts.iter().any(|fact| match fact {
            Fact::Linked(links) => links
                .iter()
                .any(|(path, link)| link.explicit != desk.state.links.get(path).is_some_and(|link| link.explicit)),
            Fact::Unlinked(_) => true,
            Fact::Born(_) | Fact::Stands(_) => false,
        });
        for fact in facts {
            desk.state.apply(fact);
        }
        if named {
            self.inbox().explicit = explicit(&desk.state);
        }
        if let Err(why) = desk.journal.summarize(&desk.state).await {
            tracing::warn!(id = self.id, error = %why, "a subscription's state could not be summarized");
        }
        Ok(())
    }

    /// The lease is over, or was never there to begin with. True if it was.
    pub(crate) async fn expire(&self, desk: &mut Desk, now: u64) -> Result<bool, Unavailable> {
        if !desk.state.overdue(now) {
            return Ok(false);
        }
        let webhook = matches!(desk.state.birth.config.delivery, Delivery::Webhook { .. });
        let unanswered = webhook && desk.state.standing.wake.as_ref().is_some_and(|wake| !wake.delivered);
        let standing = if unanswered {
            Standing { wake: None, ..desk.state.failed(now, fastrand::f64()) }
        } else {
            desk.state.released()
        };
        tracing::info!(id = self.id, generation = standing.generation, "a lease has ended without an answer");
        self.commit(desk, vec![Fact::Stands(standing)]).await?;
        desk.ended.notify_one();
        Ok(true)
    }

    /// Looks at the streams that seem pending, because some may have been deleted.
    pub(crate) async fn refresh(&self, desk: &mut Desk) -> Result<(), Unavailable> {
        let pending = desk.state.links.iter().filter(|(_, link)| link.pending());
        let paths: Vec<String> = pending.take(WAKE_STREAMS_MAX).map(|(path, _)| path.clone()).collect();
        for path in paths {
            let tail = tail_of(&*self.means.engine, &path).await?;
            if let Some(link) = desk.state.links.get_mut(&path) {
                link.tail = tail;
            }
        }
        self.cross(desk).await
    }

    /// The place where two lives of a stream meet has a token of each, and a restore makes every tail such a place. A cursor that stands at a tail by
    /// the older token stands there by the newer one, too: nothing is pending.
    async fn cross(&self, desk: &mut Desk) -> Result<(), Unavailable> {
        for (path, link) in &mut desk.state.links {
            let (Some(acked), Some(tail)) = (link.acked, link.tail) else { continue };
            let meet = acked.position == tail.position && acked.epoch < tail.epoch;
            if meet && inherited(&*self.means.engine, path, acked).await? {
                link.acked = Some(tail);
            }
        }
        Ok(())
    }

    async fn look(self: &Arc<Self>) -> Result<Next, Unavailable> {
        let mut desk = self.open().await?;
        if desk.gone {
            return Ok(Next::Gone);
        }
        let now = now_ms();
        self.expire(&mut desk, now).await?;
        let state = &desk.state;
        let later = state.standing.next_attempt_ms.filter(|at| *at > now);
        let pull = state.wake_stream().is_some();
        match &state.standing.wake {
            Some(wake) if pull && wake.holder.is_none() && !wake.delivered => match later {
                Some(at) => Ok(Next::At(at)),
                None => self.announce(&mut desk).await,
            },
            Some(wake) => Ok(wake.lease_until_ms.map_or(Next::Never, Next::At)),
            None if !state.pending() => Ok(Next::Never),
            None => match later {
                Some(at) => Ok(Next::At(at)),
                None if pull => self.wake(&mut desk).await,
                None => {
                    self.queue_delivery(&mut desk);
                    Ok(Next::Never)
                }
            },
        }
    }

    /// Begins a wake that is claimed by whoever comes first.
    async fn wake(&self, desk: &mut Desk) -> Result<Next, Unavailable> {
        self.refresh(desk).await?;
        if !desk.state.pending() {
            return Ok(Next::Never);
        }
        let standing = desk.state.next_wake(wake_id()?);
        self.commit(desk, vec![Fact::Stands(standing)]).await?;
        self.announce(desk).await
    }

    /// Writes the event of the present wake into the wake stream. After a crash in between it may be there twice.
    async fn announce(&self, desk: &mut Desk) -> Result<Next, Unavailable> {
        let Some(wake_stream) = desk.state.wake_stream() else { return Ok(Next::Never) };
        let pending = desk.state.links.iter().find(|(_, link)| link.pending());
        let path = pending.or_else(|| desk.state.links.iter().next()).map(|(path, _)| path.as_str());
        let event = serde_json::json!({
            "type": "wake",
            "subscription_id": self.id,
            "stream": path,
            "generation": desk.state.standing.generation,
            "ts": now_ms(),
        });
        let told = append(&*self.means.engine, wake_stream, event.to_string()).await;
        let standing = match &told {
            Ok(told) => {
                self.means.wakes.announced.one();
                let wake = desk.state.standing.wake.clone();
                let wake = wake.map(|wake| Wake { delivered: true, told: Some(*told), ..wake });
                Standing { wake, ..desk.state.released() }
            }
            Err(why) => {
                self.means.wakes.failed.one();
                tracing::warn!(id = self.id, wake_stream, error = why, "a wake event cannot be written");
                desk.state.failed(now_ms(), fastrand::f64())
            }
        };
        let next = standing.next_attempt_ms.map_or(Next::Never, Next::At);
        self.commit(desk, vec![Fact::Stands(standing)]).await?;
        Ok(next)
    }

    /// Takes what is in the inbox: tails, and streams that are new to the pattern.
    async fn catch_up(&self, desk: &mut Desk) -> Result<(), Unavailable> {
        let (rescan, moved) = {
            let mut inbox = self.inbox();
            (std::mem::take(&mut inbox.rescan), std::mem::take(&mut inbox.moved))
        };
        if rescan {
            self.scan(desk).await?;
        }
        let found = moved.values().map(|stream| {
            let tail = stream.tail();
            (stream.name().as_str().to_owned(), (!tail.deleted).then(|| stream.offset(tail.position)))
        });
        let found = found.collect();
        self.found(desk, found).await
    }

    /// Notes where streams end, and links those that are new: from their start, as they were not there when the subscription was made.
    async fn found(&self, desk: &mut Desk, found: Vec<(String, Option<Offset>)>) -> Result<(), Unavailable> {
        let mut fresh = BTreeMap::new();
        let mut refused = 0_usize;
        for (path, tail) in found {
            if let Some(link) = desk.state.links.get_mut(&path) {
                link.tail = link.tail.max(tail); // A scan may bring what has been overtaken.
            } else if tail.is_none() || !desk.state.matches(&path) {
            } else if desk.state.links.len() + fresh.len() >= LINKS_MAX {
                refused += 1;
            } else {
                fresh.insert(path, Link { explicit: false, acked: None, tail });
            }
        }
        if refused > 0 {
            tracing::error!(
                id = self.id,
                refused,
                max = LINKS_MAX,
                "a subscription's pattern matches more streams than it can follow"
            );
        }
        if !fresh.is_empty() {
            self.commit(desk, vec![Fact::Linked(fresh)]).await?;
        }
        Ok(())
    }

    /// Looks at every stream that it follows or might: at the start, and when an inbox has overflowed.
    async fn scan(&self, desk: &mut Desk) -> Result<(), Unavailable> {
        let engine = &*self.means.engine;
        let mut found: HashMap<String, Option<Offset>> = HashMap::new();
        if let Some(pattern) = &desk.state.pattern {
            for (path, tail) in matching(engine, pattern).await? {
                found.insert(path, Some(tail));
            }
        }
        let mut unlinked = BTreeSet::new();
        for (path, link) in desk.state.links.iter_mut().filter(|(path, _)| !found.contains_key(*path)) {
            link.tail = tail_of(engine, path).await?;
            // Only matched, a stream that is gone needs no cursor: should it come again, it begins anew.
            if link.tail.is_none() && !link.explicit {
                unlinked.insert(path.clone());
            }
        }
        if !unlinked.is_empty() {
            self.commit(desk, vec![Fact::Unlinked(unlinked)]).await?;
        }
        self.found(desk, found.into_iter().collect()).await?;
        self.cross(desk).await?;
        self.doubt(desk).await
    }

    /// A wake that is told waits to be claimed. But after a restore the event may be one that a worker has read and acted on long since, so that nobody
    /// would come for it: it is told once more.
    async fn doubt(&self, desk: &mut Desk) -> Result<(), Unavailable> {
        let told = desk.state.standing.wake.as_ref().filter(|wake| wake.holder.is_none()).and_then(|wake| wake.told);
        let (Some(told), Some(wake_stream)) = (told, desk.state.wake_stream()) else { return Ok(()) };
        let begun_anew = tail_of(&*self.means.engine, wake_stream).await?.is_some_and(|tail| tail.epoch > told.epoch);
        if begun_anew && let Some(wake) = &mut desk.state.standing.wake {
            wake.delivered = false;
        }
        Ok(())
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no code panics while it holds an inbox")
    }
}

/// After a failure of the engine.
pub(crate) const STORAGE_WAIT_MS: u64 = 1_000;

fn explicit(state: &State) -> HashSet<String> {
    state.links.iter().filter(|(_, link)| link.explicit).map(|(path, _)| path.clone()).collect()
}

pub(crate) fn wake_id() -> Result<String, Unavailable> {
    let nonce = keys::nonce().map_err(|e| Unavailable::Failed(e.to_string()))?;
    Ok(format!("w_{nonce}"))
}

/// Milliseconds since the Unix epoch: leases and retries outlive the process, so they are told by the wall clock.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Where a stream ends; `None` if it is not there.
pub(crate) async fn tail_of(engine: &dyn Engine, path: &str) -> Result<Option<Offset>, Unavailable> {
    let Ok(name) = StreamName::new(path) else { return Ok(None) };
    match engine.open(&name).await {
        Ok(stream) => Ok(Some(stream.offset(stream.tail().position))),
        Err(OpenError::Unavailable(why)) => Err(why),
        Err(_) => Ok(None),
    }
}

/// Whether the stream has records of several lives, and this is a place among them.
pub(crate) async fn inherited(engine: &dyn Engine, path: &str, offset: Offset) -> Result<bool, Unavailable> {
    let Ok(name) = StreamName::new(path) else { return Ok(false) };
    match engine.open(&name).await {
        Ok(stream) => Ok(!stream.chain().is_empty() && stream.position(offset).is_some()),
        Err(OpenError::Unavailable(why)) => Err(why),
        Err(_) => Ok(false),
    }
}

/// The streams that a pattern matches and where they end: one more than may be linked at most.
pub(crate) async fn matching(engine: &dyn Engine, pattern: &Pattern) -> Result<Vec<(String, Offset)>, Unavailable> {
    let mut found = Vec::new();
    let mut after = None::<String>;
    loop {
        let page = fourfold_stream::listing::public(engine, pattern.prefix(), after.as_deref(), PAGE).await?;
        for listed in &page.streams {
            if pattern.matches(listed.name.as_str()) {
                let tail = listed.config.offset(listed.epoch, listed.tail);
                found.push((listed.name.as_str().to_owned(), tail));
            }
        }
        after = page.streams.last().filter(|_| page.more).map(|last| last.name.as_str().to_owned());
        if after.is_none() || found.len() > LINKS_MAX {
            return Ok(found);
        }
    }
}

const PAGE: usize = 1_000;

/// The tail behind the record.
async fn append(engine: &dyn Engine, path: &str, record: String) -> Result<Offset, String> {
    let name = StreamName::new(path).map_err(|e| e.detail)?;
    let stream = engine.open(&name).await.map_err(|e| e.to_string())?;
    let append = fourfold_stream::Append { records: vec![record.into()], ..Default::default() };
    let appended = engine.append(&stream, append).await.map_err(|e| e.to_string())?;
    Ok(stream.offset(appended.next))
}
