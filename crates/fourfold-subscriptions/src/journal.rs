//! Where subscriptions are kept: each in an internal stream of the engine, a fact a record.
//!
//! ```text
//! __ds/keys                      the server's keys, one record
//! __ds/state/{id}/{n}            a subscription's facts; n grows with each summary
//! ```
//!
//! When the facts have become many, their summary begins the next stream (in one step with its creation) and the old one is deleted; a crash in
//! between leaves both, and the later one counts. Nothing here is visible to clients: see [`StreamName::internal`].

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fourfold_protocol::StreamName;
use fourfold_stream::{
    Append, AppendError, Create, CreateError, Engine, Limit, OpenError, ReadError, Retention, Stream, Unavailable,
};

use crate::{
    keys::{Kept, Keys},
    limits::CHANGES_MAX,
    state::{Fact, State},
};

const KEYS: &str = "__ds/keys";
const STATES: &str = "__ds/state/";

/// One subscription's facts.
pub(crate) struct Journal {
    engine: Arc<dyn Engine>,
    id: String,
    number: u64,
    stream: Arc<Stream>,
    /// Facts since the summary.
    facts: usize,
    /// A summary was begun, and whether it is there is not known: it would hide what is kept from now on.
    unsure: bool,
}

impl Journal {
    /// Begins with these facts. What an earlier life of the id may have left behind ends.
    pub(crate) async fn begin(engine: &Arc<dyn Engine>, id: &str, facts: &[Fact]) -> Result<Self, Unavailable> {
        for (_, left) in parts(&**engine, &format!("{STATES}{id}/")).await? {
            for number in left {
                remove(&**engine, &name(id, number)).await?;
            }
        }
        let stream = create(&**engine, &name(id, 0), lines(facts)).await?;
        Ok(Self { engine: Arc::clone(engine), id: id.to_owned(), number: 0, stream, facts: 0, unsure: false })
    }

    /// Every subscription that is kept. One that cannot be read is told to the operator and left where it is.
    pub(crate) async fn all(engine: &Arc<dyn Engine>) -> Result<Vec<(Self, State)>, Unavailable> {
        let mut all = Vec::new();
        for (id, mut numbers) in parts(&**engine, STATES).await? {
            let Some(number) = numbers.pop() else { continue };
            for old in numbers {
                remove(&**engine, &name(&id, old)).await?;
            }
            let Some(stream) = open(&**engine, &name(&id, number)).await? else { continue };
            let mut facts = Vec::new();
            let mut from = 0;
            while from < stream.tail().position {
                let batch = match engine.read(&stream, from, PORTION).await {
                    Ok(batch) => batch,
                    Err(ReadError::Unavailable(why)) => return Err(why),
                    Err(why) => return Err(Unavailable::Failed(why.to_string())),
                };
                from = batch.next;
                facts.extend(batch.records.iter().map(|record| serde_json::from_slice::<Fact>(&record.data)));
            }
            let count = facts.len();
            match facts.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(facts) => match State::replay(facts) {
                    Some(state) => {
                        let engine = Arc::clone(engine);
                        all.push((Self { engine, id, number, stream, facts: count, unsure: false }, state));
                    }
                    None => tracing::error!(%id, "a subscription has no beginning and is not served"),
                },
                Err(error) => tracing::error!(%id, %error, "a subscription cannot be read and is not served"),
            }
        }
        Ok(all)
    }

    /// Keeps the facts, all or none; then they may be applied.
    pub(crate) async fn keep(&mut self, facts: &[Fact]) -> Result<(), Unavailable> {
        if self.unsure {
            remove(&*self.engine, &name(&self.id, self.number + 1)).await?;
            self.unsure = false;
        }
        let append = Append { records: lines(facts), ..Append::default() };
        match self.engine.append(&self.stream, append).await {
            Ok(_) => {
                self.facts += facts.len();
                Ok(())
            }
            Err(AppendError::Unavailable(why)) => Err(why),
            Err(why) => Err(Unavailable::Failed(format!("a subscription's own stream: {why}"))),
        }
    }

    /// Replaces the facts by their summary, if they have become many.
    pub(crate) async fn summarize(&mut self, state: &State) -> Result<(), Unavailable> {
        if self.facts < CHANGES_MAX + state.links.len() {
            return Ok(());
        }
        let next = name(&self.id, self.number + 1);
        self.unsure = true;
        let stream = create(&*self.engine, &next, lines(&state.summary())).await?;
        let old = name(&self.id, self.number);
        (self.stream, self.number, self.facts, self.unsure) = (stream, self.number + 1, 0, false);
        remove(&*self.engine, &old).await
    }

    /// The subscription is gone.
    pub(crate) async fn end(&self) -> Result<(), Unavailable> {
        // Also what a failed summary may have left on either side, or the subscription would come back; the one in force last but
        // for a newer one, so that a crash in between leaves it whole.
        for number in self.number.saturating_sub(1)..=self.number + 1 {
            remove(&*self.engine, &name(&self.id, number)).await?;
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// The server's keys, made when the first one asks. Not for two at once.
pub(crate) async fn keys(engine: &dyn Engine) -> Result<Keys, Unavailable> {
    let failed = |why: &dyn std::fmt::Display| Unavailable::Failed(why.to_string());
    let name = StreamName::internal(KEYS).expect("the name is a constant");
    let stream = match open(engine, &name).await? {
        Some(stream) => stream,
        None => {
            let kept = Kept::fresh().map_err(|e| failed(&e))?;
            let line = serde_json::to_vec(&kept).expect("keys can be written to memory");
            create(engine, &name, vec![line.into()]).await?
        }
    };
    let batch = engine.read(&stream, 0, PORTION).await.map_err(|e| failed(&e))?;
    let kept = batch.records.last().and_then(|record| serde_json::from_slice::<Kept>(&record.data).ok());
    let kept = kept.ok_or_else(|| failed(&"the keys of subscriptions cannot be read"))?;
    Keys::from(&kept).map_err(|e| failed(&e))
}

/// The numbers of each id's streams, in order.
async fn parts(engine: &dyn Engine, prefix: &str) -> Result<BTreeMap<String, Vec<u64>>, Unavailable> {
    let mut parts = BTreeMap::<String, Vec<u64>>::new();
    let mut after = None::<String>;
    loop {
        let page = engine.list(prefix, after.as_deref(), PAGE).await?;
        for listed in &page.streams {
            let rest = listed.name.as_str().strip_prefix(STATES).and_then(|rest| rest.rsplit_once('/'));
            if let Some((id, number)) = rest.and_then(|(id, number)| Some((id, number.parse().ok()?))) {
                parts.entry(id.to_owned()).or_default().push(number);
            }
        }
        after = page.streams.last().filter(|_| page.more).map(|last| last.name.as_str().to_owned());
        if after.is_none() {
            return Ok(parts);
        }
    }
}

fn name(id: &str, number: u64) -> StreamName {
    StreamName::internal(&format!("{STATES}{id}/{number:016}")).expect("an id was checked to be a segment")
}

fn lines(facts: &[Fact]) -> Vec<Bytes> {
    facts.iter().map(|fact| serde_json::to_vec(fact).expect("a fact can be written to memory").into()).collect()
}

async fn open(engine: &dyn Engine, name: &StreamName) -> Result<Option<Arc<Stream>>, Unavailable> {
    match engine.open(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(OpenError::Unavailable(why)) => Err(why),
        Err(_) => Ok(None),
    }
}

async fn create(engine: &dyn Engine, name: &StreamName, records: Vec<Bytes>) -> Result<Arc<Stream>, Unavailable> {
    let wish = Create { content_type: "application/json".into(), retention: EVERYTHING, records, ..Create::default() };
    match engine.create(name, wish).await {
        Ok(created) => Ok(created.stream),
        Err(CreateError::Unavailable(why)) => Err(why),
        Err(why) => Err(Unavailable::Failed(format!("{name}: {why}"))),
    }
}

async fn remove(engine: &dyn Engine, name: &StreamName) -> Result<(), Unavailable> {
    let Some(stream) = open(engine, name).await? else { return Ok(()) };
    match engine.delete(&stream).await {
        Err(OpenError::Unavailable(why)) => Err(why),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Said, because what is left open takes the server's defaults, and those are for clients' streams.
const EVERYTHING: Retention = Retention { age_seconds: Some(u64::MAX), bytes: Some(u64::MAX), records: Some(u64::MAX) };

const PAGE: usize = 1_000;
const PORTION: Limit = Limit { records: 1_000, bytes: 1024 * 1024 };
