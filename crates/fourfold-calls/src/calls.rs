//! All calls of a server: a thread of their own, who may begin one, which run.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fourfold_protocol::{Code, Refusal, StreamName, name::CALLS};
use fourfold_stream::{Create, CreateError, Engine, OpenError, Retention, Stream, Unavailable, meter::Count};
use http::HeaderMap;
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, Notify, oneshot},
    time::{Instant, timeout},
};

use crate::{
    config::{CallConfig, Options, Refused},
    ending::{Ending, Outcome},
    keys::{Digest, Keys, Note, fresh_id},
    limits::KEY_BYTES_MAX,
    pen::Pen,
    recovery,
    refused::{not_configured, not_found, unavailable},
    room::Room,
    run::{Running, Stop, run},
    source::Order,
};

/// A wish to begin a call.
#[derive(Debug)]
pub struct Wish {
    /// Which one, by configuration.
    pub name: String,
    /// The path behind the name, as it was sent: empty, or from a slash on.
    pub rest: String,
    /// The query, without what the server itself reads of it.
    pub query: Option<String>,
    /// As the client sent them; the configuration says which are passed on.
    pub headers: HeaderMap,
    /// All of it, at most [`Calls::body_bytes_max`].
    pub body: Bytes,
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// Whence it comes.
    pub caller: Option<IpAddr>,
}

/// A call that has begun, now or before.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Its stream, durable.
    pub stream: Arc<Stream>,
    /// The last segment of the stream's name.
    pub id: String,
    /// The key was known: this is the call of an earlier request.
    pub replayed: bool,
}

/// How many calls.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// That run now, or are about to.
    pub running: u64,
    /// That have ended, by every way in which a call ends.
    pub ended: Vec<(&'static str, u64)>,
}

/// All calls. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    room: Arc<dyn Room>,
    pub(crate) configs: BTreeMap<String, Arc<CallConfig>>,
    calls_max: usize,
    calls_per_caller: usize,
    registry: Mutex<Registry>,
    /// The last call that ran has ended.
    emptied: Notify,
    /// By how they ended.
    ended: [Count; Outcome::ALL.len()],
    runtime: Handle,
    thread: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

#[derive(Default)]
struct Registry {
    running: HashMap<String, Arc<Running>>,
    /// Those that run or are about to, in all, by name and by caller.
    total: usize,
    by_name: HashMap<String, usize>,
    by_caller: HashMap<IpAddr, usize>,
    keys: Keys,
    /// Held while a call with this key begins, so that one request executes it and the others find it.
    beginning: HashMap<Digest, Arc<AsyncMutex<()>>>,
    /// No new ones: until when targets may take to end.
    draining: Option<Instant>,
}

impl Calls {
    /// Closes what a kill has left open, and learns which keys are known; then calls are taken, on a thread of their own.
    ///
    /// Errors: the engine cannot be read, or there is no thread to be had.
    pub async fn start(engine: Arc<dyn Engine>, options: Options, room: Arc<dyn Room>) -> io::Result<Self> {
        let failed = |why: Unavailable| io::Error::other(format!("calls cannot be read: {why}"));
        let found = recovery::recover(&engine).await.map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for pen in found.unclosed {
            runtime.spawn(recovery::close(pen));
        }
        let shared = Arc::new(Shared {
            engine,
            room,
            configs: options.calls.into_iter().map(|(name, config)| (name, Arc::new(config))).collect(),
            calls_max: options.calls_max,
            calls_per_caller: options.calls_per_caller,
            registry: Mutex::new(Registry { keys: found.keys, ..Registry::default() }),
            emptied: Notify::new(),
            ended: Default::default(),
            runtime: runtime.handle().clone(),
            thread: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("fourfold-calls".into()).spawn(move || {
            runtime.block_on(async {
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        })?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop, thread));
        Ok(Self { shared })
    }

    /// How large the body of a request for this call may be, in bytes. Errors: [`Code::CallNotFound`].
    pub fn body_bytes_max(&self, name: &str) -> Result<usize, Refusal> {
        Ok(self.shared.config(name)?.body_bytes_max)
    }

    /// Whether a page of `origin` may begin this call, on a server that its browser knows as `host`.
    ///
    /// Errors: [`Code::CallNotFound`], [`Code::CrossOriginCall`].
    pub fn check_origin(&self, name: &str, origin: &str, host: Option<&str>) -> Result<(), Refusal> {
        if self.shared.config(name)?.admits_origin(origin, host) {
            return Ok(());
        }
        let detail = format!("a page of {origin} may not begin '{name}': name it in the call's 'origins'");
        Err(Refusal::new(Code::CrossOriginCall, detail))
    }

    /// Begins a call: answers once its stream is durable, and asks the target after that. With a key that is known it is the call of then.
    ///
    /// Goes on if the future is dropped. Errors: [`Code::CallNotFound`], [`Code::TooManyCalls`], [`Code::IdempotencyKeyReused`],
    /// [`Code::Draining`], an invalid key, path or query, what the engine and the [`Room`] refuse.
    pub async fn begin(&self, wish: Wish) -> Result<Begun, Refusal> {
        let (tell, told) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            let _ = tell.send(shared.begin(wish).await); // Whoever asked may have gone; the call runs.
        });
        told.await.unwrap_or_else(|_| Err(draining()))
    }

    /// Ends a call that runs, soon; false if it does not run.
    #[must_use]
    pub fn cancel(&self, id: &str) -> bool {
        let running = self.shared.registry().running.get(id).cloned();
        running.map(|running| running.stop(Stop::Asked)).is_some()
    }

    /// Somebody polls a call's stream. Those who stay on it are seen anyway.
    pub fn seen(&self, stream: &Stream) {
        let Some(id) = stream.name().as_str().strip_prefix(CALLS) else { return };
        if let Some(running) = self.shared.registry().running.get(id) {
            running.seen();
        }
    }

    /// No new calls from now on. Those that run are stopped and closed as interrupted; completes when that is done, or after so long.
    pub async fn drain(&self, within: Duration) {
        let running: Vec<_> = {
            let mut registry = self.shared.registry();
            // Targets that take all of the time would leave none to write down how they ended.
            let by = Instant::now() + within.mul_f32(0.8);
            registry.draining = Some(by);
            registry.running.values().cloned().map(|running| (running, by)).collect()
        };
        for (running, by) in &running {
            running.stop(Stop::Draining(*by));
        }
        let emptied = async {
            let mut emptied = std::pin::pin!(self.shared.emptied.notified());
            loop {
                emptied.as_mut().enable();
                if self.shared.registry().total == 0 {
                    return;
                }
                emptied.as_mut().await;
                emptied.set(self.shared.emptied.notified());
            }
        };
        if timeout(within, emptied).await.is_err() {
            let left = self.shared.registry().total;
            tracing::warn!(left, "calls that could not be closed in time: the next start closes them");
        }
    }

    /// How many run, and how many have ended in which way since the server started.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let ended = Outcome::ALL.iter().zip(&self.shared.ended);
        Counts {
            running: self.shared.registry().total as u64,
            ended: ended.map(|(outcome, count)| (outcome.as_str(), count.get())).collect(),
        }
    }

    /// Ends the thread and every call. The engine is let go with the last clone of this.
    pub fn stop(&self) {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = thread {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread of calls has ended by a panic");
            }
        }
    }
}

impl Shared {
    /// Errors: [`Code::CallNotFound`].
    fn config(&self, name: &str) -> Result<&Arc<CallConfig>, Refusal> {
        self.configs.get(name).ok_or_else(|| not_configured(name))
    }

    /// Those that run, newest first.
    pub(crate) fn running(&self) -> Vec<Arc<Running>> {
        let mut running: Vec<_> = self.registry().running.values().cloned().collect();
        running.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        running
    }

    async fn begin(self: Arc<Self>, wish: Wish) -> Result<Begun, Refusal> {
        let config = Arc::clone(self.config(&wish.name)?);
        config.admits(&wish.rest, wish.query.as_deref()).map_err(|why| {
            let code = match why {
                Refused::Rest => Code::CallNotFound,
                Refused::RestTooLong | Refused::RestUnsafe(_) => Code::InvalidName,
                Refused::Query | Refused::QueryTooLong | Refused::QueryUnsafe => Code::InvalidQuery,
            };
            Refusal::new(code, why.to_string())
        })?;
        let Some(key) = &wish.key else {
            let place = Place::take(&self, &wish, &config)?;
            return self.create(wish, config, None, place).await;
        };
        check_key(key)?;
        let key = Digest::of(&[wish.name.as_bytes(), key.as_bytes()]);
        let query = wish.query.as_deref().unwrap_or_default();
        let request = Digest::of(&[wish.rest.as_bytes(), query.as_bytes(), &wish.body]);
        let gate = Arc::clone(self.registry().beginning.entry(key).or_default());
        let begun = {
            let _first = gate.lock().await;
            self.begin_once(wish, config, key, request).await
        };
        let mut registry = self.registry();
        drop(gate);
        if registry.beginning.get(&key).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            registry.beginning.remove(&key);
        }
        begun
    }

    async fn begin_once(
        self: &Arc<Self>,
        wish: Wish,
        config: Arc<CallConfig>,
        key: Digest,
        request: Digest,
    ) -> Result<Begun, Refusal> {
        let known = self.registry().keys.get(&key).cloned();
        if let Some(known) = known {
            match self.engine.open(&stream_name(&known.id)?).await {
                Ok(_) if known.request != request => {
                    let detail = "the same Idempotency-Key came with another path, query or body: use a new key";
                    return Err(Refusal::new(Code::IdempotencyKeyReused, detail));
                }
                Ok(stream) => {
                    self.engine.renew(&stream);
                    return Ok(Begun { stream, id: known.id, replayed: true });
                }
                Err(OpenError::Unavailable(why)) => return Err(unavailable(&why)),
                Err(OpenError::NotFound | OpenError::Gone) => self.registry().keys.forget(&key, &known.id),
            }
        }
        let place = Place::take(self, &wish, &config)?;
        self.create(wish, config, Some((key, request)), place).await
    }

    async fn create(
        self: &Arc<Self>,
        wish: Wish,
        config: Arc<CallConfig>,
        key: Option<(Digest, Digest)>,
        place: Place,
    ) -> Result<Begun, Refusal> {
        let failed = |why: String| unavailable(&Unavailable::Failed(why));
        let id = fresh_id(now_ms()).map_err(|e| failed(e.to_string()))?;
        let note = Note { call: wish.name.clone(), key: key.map(|(key, _)| key), request: key.map(|(_, r)| r) };
        let create = Create {
            content_type: String::new(), // The target decides it.
            ttl_seconds: Some(config.keep.as_secs().max(1)),
            expires_at_ms: None,
            retention: EVERYTHING,
            records: Vec::new(),
            closed: false,
            fork: None,
            note: Some(note.text()),
        };
        let name = stream_name(&id)?;
        let taken = self.room.take(&name).await?;
        let created = self.engine.create(&name, create).await;
        taken(created.is_ok());
        let stream = match created {
            Ok(created) => created.stream,
            Err(CreateError::Unavailable(why)) => return Err(unavailable(&why)),
            Err(why) => return Err(failed(why.to_string())),
        };
        let running = Running::new(id.clone(), wish.name, Arc::clone(&stream));
        {
            let mut registry = self.registry();
            if let Some((key, request)) = key {
                registry.keys.remember(key, id.clone(), request);
            }
            registry.running.insert(id.clone(), Arc::clone(&running));
            if let Some(by) = registry.draining {
                running.stop(Stop::Draining(by)); // The drain began after the place was taken.
            }
        }
        let order = Order {
            config,
            rest: wish.rest,
            query: wish.query,
            headers: wish.headers,
            body: wish.body,
            id: id.clone(),
            key: wish.key,
        };
        let (shared, engine, room) = (Arc::clone(self), Arc::clone(&self.engine), Arc::clone(&self.room));
        tokio::spawn(async move {
            let ended = Ended { place, id: running.id.clone() };
            let stream = Arc::clone(&running.stream);
            if tokio::spawn(run(running, order, Arc::clone(&engine), room)).await.is_err() {
                tracing::error!(stream = %stream.name(), "a call has ended by a panic");
                Pen::new(engine, Arc::clone(&stream)).conclude(|_, _| Ending::panicked().text()).await;
            }
            if let Some(outcome) = stream.ending().and_then(|ending| Outcome::of(ending)) {
                shared.ended[outcome as usize].one();
            }
            drop(ended);
        });
        Ok(Begun { stream, id, replayed: false })
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("no code panics while it holds the calls")
    }
}

/// A call's place among those that are counted; given back when it is dropped.
struct Place {
    shared: Arc<Shared>,
    name: String,
    caller: Option<IpAddr>,
}

impl Place {
    /// Errors: [`Code::TooManyCalls`], [`Code::Draining`].
    fn take(shared: &Arc<Shared>, wish: &Wish, config: &CallConfig) -> Result<Self, Refusal> {
        let caller = wish.caller.map(network);
        let mut registry = shared.registry();
        if registry.draining.is_some() {
            return Err(draining());
        }
        let full = |what: &str, max: usize| {
            let detail = format!("{max} calls {what} run already: try again when one has ended");
            Err(Refusal::new(Code::TooManyCalls, detail).with("retryAfter", RETRY_AFTER.as_secs()))
        };
        if registry.total >= shared.calls_max {
            return full("in all", shared.calls_max);
        }
        let of_name = registry.by_name.get(&wish.name).copied().unwrap_or_default();
        if let Some(max) = config.at_once.filter(|max| of_name >= *max) {
            return full(&format!("of '{}'", wish.name), max);
        }
        if let Some(caller) = caller {
            let of_caller = registry.by_caller.get(&caller).copied().unwrap_or_default();
            let max = shared.calls_per_caller.min(config.per_caller.unwrap_or(usize::MAX));
            if of_caller >= max {
                return full("of yours", max);
            }
            registry.by_caller.insert(caller, of_caller + 1);
        }
        registry.total += 1;
        *registry.by_name.entry(wish.name.clone()).or_default() += 1;
        Ok(Self { shared: Arc::clone(shared), name: wish.name.clone(), caller })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.shared.registry();
        registry.total -= 1;
        give_back(&mut registry.by_name, &self.name);
        if let Some(caller) = &self.caller {
            give_back(&mut registry.by_caller, caller);
        }
        if registry.total == 0 {
            self.shared.emptied.notify_waiters();
        }
    }
}

/// A call that runs: dropped when it has ended, however that came.
struct Ended {
    place: Place,
    id: String,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.place.shared.registry().running.remove(&self.id);
    }
}

fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Who counts as one caller: an address, of IPv6 the network that a site has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    let detail = format!("Idempotency-Key has from 1 to {KEY_BYTES_MAX} visible ASCII characters");
    Err(Refusal::new(Code::InvalidHeader, detail))
}

/// Errors: [`Code::CallNotFound`].
pub(crate) fn stream_name(id: &str) -> Result<StreamName, Refusal> {
    let name = if id.contains('/') { None } else { StreamName::new(&format!("{CALLS}{id}")).ok() };
    name.ok_or_else(|| not_found(id))
}

fn draining() -> Refusal {
    Refusal::new(Code::Draining, "the server is about to stop and takes no calls: try again").with("retryAfter", 1)
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Said, because what is left open takes the server's defaults: a call is kept whole, and `bytes-max` and `keep` bound it.
const EVERYTHING: Retention = Retention { age_seconds: Some(u64::MAX), bytes: Some(u64::MAX), records: Some(u64::MAX) };

/// When a place may be free again; nobody knows.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("running", &self.shared.registry().total).finish()
    }
}
