//! All subscriptions of a server: a thread of their own, the way from streams that move, who is created and deleted.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread::{self, JoinHandle},
};

use fourfold_protocol::{Code, Refusal};
use fourfold_stream::{Engine, Unavailable};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, oneshot},
};

use crate::{
    courier::Courier,
    entry::{Entry, Means, matching, now_ms, tail_of},
    journal::Journal,
    keys,
    limits::{LINKS_MAX, SUBSCRIPTIONS_MAX},
    refused::{gone, invalid, unavailable},
    state::{Birth, Config, Link, State},
};

/// How webhooks are delivered.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Webhooks may point to this machine, as `localhost` or `127.0.0.x`, also without TLS. For development.
    pub local_webhooks: bool,
    /// Certificate authorities (DER) that are trusted beside those of the system.
    pub webhook_roots: Vec<Vec<u8>>,
}

/// All subscriptions. Cheap to clone.
#[derive(Clone)]
pub struct Subscriptions {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) means: Arc<Means>,
    entries: RwLock<HashMap<String, Arc<Entry>>>,
    /// Held while one is created or deleted, so that an id has one life at a time.
    changing: AsyncMutex<()>,
    /// Held while what has moved is handed on, so that nobody finds it in neither place.
    pumping: Mutex<()>,
    runtime: Handle,
    thread: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Subscriptions {
    /// Reads what is kept and goes on with it, on a thread of its own. Takes time for the subscriptions that there are, not for streams.
    ///
    /// Errors: the engine cannot be read, or what is kept of keys is damaged.
    pub async fn start(engine: Arc<dyn Engine>, options: Options) -> io::Result<Self> {
        let failed = |why: Unavailable| io::Error::other(format!("subscriptions cannot be read: {why}"));
        let kept = Journal::all(&engine).await.map_err(failed)?;
        let roots = options.webhook_roots.into_iter().map(Into::into).collect();
        let courier = Courier::new(options.local_webhooks, roots);
        let means = Arc::new(Means::new(engine, courier));
        if !kept.is_empty() {
            means.load_keys().await.map_err(failed)?;
        }
        let entries = kept.into_iter().map(|(journal, state)| {
            let entry = Entry::new(Arc::clone(&means), journal, state);
            (entry.id.clone(), entry)
        });
        let entries: HashMap<_, _> = entries.collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            means,
            entries: RwLock::new(entries),
            changing: AsyncMutex::default(),
            pumping: Mutex::default(),
            runtime: runtime.handle().clone(),
            thread: Mutex::default(),
        });
        shared.watch(!shared.entries().is_empty());
        for entry in shared.entries().values() {
            runtime.spawn(Arc::clone(entry).run());
        }
        let (stop, stopped) = oneshot::channel();
        let dispatching = Arc::clone(&shared);
        let thread = thread::Builder::new().name("fourfold-subscriptions".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = dispatching.dispatch() => {}
                    _ = stopped => {}
                }
            });
            // Deliveries end with their tasks; what they were about is kept and goes on after the next start.
            runtime.shutdown_background();
        })?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop, thread));
        Ok(Self { shared })
    }

    /// Ends the thread and every delivery. The engine is let go with the last clone of this.
    pub fn stop(&self) {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = thread {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread of subscriptions has ended by a panic");
            }
        }
    }
}

impl Shared {
    /// The subscription. Errors: [`Code::SubscriptionNotFound`].
    pub(crate) fn entry(&self, id: &str) -> Result<Arc<Entry>, Refusal> {
        self.pump(); // So that whoever asks finds everything that was appended before.
        self.entries().get(id).cloned().ok_or_else(|| gone(id))
    }

    /// Creates it; false if it was there with the same configuration. Errors: [`Code::SubscriptionExists`].
    pub(crate) async fn create(&self, id: &str, config: Config, root: String) -> Result<(Arc<Entry>, bool), Refusal> {
        let _changing = self.changing.lock().await;
        let found = self.entries().get(id).cloned();
        if let Some(entry) = found {
            let same = entry.open().await.map_err(|why| unavailable(&why))?.state.birth.config.hash() == config.hash();
            return if same {
                Ok((entry, false))
            } else {
                let detail =
                    format!("'{id}' exists with another configuration: use it as it is, delete it, or take another id");
                Err(Refusal::new(Code::SubscriptionExists, detail))
            };
        }
        if self.entries().len() >= SUBSCRIPTIONS_MAX {
            let detail = format!("there are {SUBSCRIPTIONS_MAX} subscriptions already: delete one");
            return Err(Refusal::new(Code::Overloaded, detail));
        }
        self.watch(true); // Before tails are looked at, so that nothing is missed.
        let made = self.make(id, config, root).await;
        if made.is_err() {
            self.watch(!self.entries().is_empty());
        }
        made.map(|entry| (entry, true))
    }

    async fn make(&self, id: &str, config: Config, root: String) -> Result<Arc<Entry>, Refusal> {
        let broken = |why: Unavailable| unavailable(&why);
        let engine = &self.means.engine;
        self.means.load_keys().await.map_err(broken)?;
        let life = keys::nonce().map_err(|e| broken(Unavailable::Failed(e.to_string())))?;
        let mut state = State::new(Birth { config, life, root, created_at_ms: now_ms() });
        let mut links = BTreeMap::new();
        if let Some(pattern) = &state.pattern {
            for (path, tail) in matching(&**engine, pattern).await.map_err(broken)? {
                if state.matches(&path) {
                    links.insert(path, Link { explicit: false, acked: Some(tail), tail: Some(tail) });
                }
            }
        }
        for path in &state.birth.config.streams {
            let tail = tail_of(&**engine, path).await.map_err(broken)?;
            links.insert(path.clone(), Link { explicit: true, acked: tail, tail });
        }
        if links.len() > LINKS_MAX {
            let detail = format!("it would follow more than {LINKS_MAX} streams: give a narrower pattern");
            return Err(invalid(detail));
        }
        state.links = links;
        let journal = Journal::begin(engine, id, &state.summary()).await.map_err(broken)?;
        let entry = Entry::new(Arc::clone(&self.means), journal, state);
        self.entries_mut().insert(id.to_owned(), Arc::clone(&entry));
        self.runtime.spawn(Arc::clone(&entry).run());
        Ok(entry)
    }

    /// Deletes it. Errors: [`Code::SubscriptionNotFound`].
    pub(crate) async fn delete(&self, id: &str) -> Result<(), Refusal> {
        let _changing = self.changing.lock().await;
        let entry = self.entry(id)?;
        if !entry.end().await.map_err(|why| unavailable(&why))? {
            return Err(gone(id));
        }
        let mut entries = self.entries_mut();
        entries.remove(id);
        self.watch(!entries.is_empty());
        Ok(())
    }

    /// Takes what has moved to those who follow it.
    fn pump(&self) {
        let _pumping = self.pumping.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = self.means.engine.streams().watch().take();
        for entry in self.entries().values() {
            if moved.overflowed {
                entry.note_all();
            }
            for stream in &moved.streams {
                entry.note(stream);
            }
        }
    }

    async fn dispatch(&self) {
        loop {
            self.means.engine.streams().watch().moved().await;
            self.pump();
        }
    }

    fn watch(&self, on: bool) {
        self.means.engine.streams().watch().switch(on);
    }

    pub(crate) fn entries(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Entry>>> {
        self.entries.read().expect("no code panics while it holds the subscriptions")
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, HashMap<String, Arc<Entry>>> {
        self.entries.write().expect("no code panics while it holds the subscriptions")
    }
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions").field("count", &self.shared.entries().len()).finish()
    }
}
