//! Calls as they are shown: what each is, how far it has come, how it ended.

use std::fmt;

use fourfold_protocol::{Offset, Refusal, name::CALLS};
use fourfold_stream::{Listed, OpenError, Stream};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Calls,
    calls::stream_name,
    keys::Note,
    limits::LOOKED_AT_MAX,
    recovery::call,
    refused::{not_found, unavailable},
};

/// Which calls are wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Those of this name.
    pub name: Option<&'a str>,
    /// Those that run.
    pub running: bool,
    /// At most so many.
    pub limit: usize,
    /// Those behind this id.
    pub after: Option<&'a str>,
    /// Whether this call may be seen, by its id, and whether a call of this name may be begun.
    pub sees: &'a (dyn Fn(Seen<'_>) -> bool + Sync),
    /// What stands as `next` for the id of a call that may not be seen: whoever knows an id can read the call.
    pub hides: &'a (dyn Fn(&str) -> Result<String, Refusal> + Sync),
}

/// What a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A call, by its id.
    Call(&'a str),
    /// That calls of this name can be begun.
    Name(&'a str),
}

impl fmt::Debug for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, running, limit, after, .. } = self;
        f.debug_struct("Wanted")
            .field("name", name)
            .field("running", running)
            .field("limit", limit)
            .field("after", after)
            .finish_non_exhaustive()
    }
}

/// What is shown of a call.
struct View<'a> {
    id: &'a str,
    note: Note,
    content_type: &'a str,
    created_at_ms: u64,
    next: Offset,
    closed: bool,
    ending: Option<&'a str>,
}

impl Calls {
    /// A page of calls, newest first, and the names that are configured. It may have fewer than were wanted and still go on: then it has `next`.
    pub async fn list(&self, wanted: Wanted<'_>) -> Result<Value, Refusal> {
        let (calls, next) = if wanted.running { self.running(wanted) } else { self.kept(wanted).await? };
        let names = self.shared.configs.iter().filter(|(name, _)| (wanted.sees)(Seen::Name(name)));
        let names = names.map(|(name, config)| json!({ "name": name, "kind": config.kind() })).collect();
        let mut page = Map::new();
        page.insert("calls".into(), Value::Array(calls));
        if let Some(next) = next {
            page.insert("next".into(), json!(next));
        }
        page.insert("names".into(), Value::Array(names));
        Ok(Value::Object(page))
    }

    /// One call. Errors: [`Code::CallNotFound`](fourfold_protocol::Code::CallNotFound).
    pub async fn state(&self, id: &str) -> Result<Value, Refusal> {
        let stream = self.shared.engine.open(&stream_name(id)?).await.map_err(|why| match why {
            OpenError::Unavailable(why) => unavailable(&why),
            OpenError::NotFound | OpenError::Gone => not_found(id),
        })?;
        View::of_stream(&stream).map(View::json).ok_or_else(|| not_found(id))
    }

    fn running(&self, wanted: Wanted<'_>) -> (Vec<Value>, Option<String>) {
        let mut running = self.shared.running();
        running.retain(|running| {
            wanted.after.is_none_or(|after| running.id.as_str() > after)
                && wanted.name.is_none_or(|name| running.name == name)
                && (wanted.sees)(Seen::Call(&running.id))
        });
        let more = running.len() > wanted.limit;
        running.truncate(wanted.limit);
        let next = running.last().filter(|_| more).map(|last| last.id.clone());
        (running.iter().filter_map(|running| View::of_stream(&running.stream)).map(View::json).collect(), next)
    }

    async fn kept(&self, wanted: Wanted<'_>) -> Result<(Vec<Value>, Option<String>), Refusal> {
        let (mut calls, mut looked_at) = (Vec::new(), 0);
        let mut after = wanted.after.map(|id| format!("{CALLS}{id}"));
        let mut last_shown = None;
        // Without a name nearly all that is listed is wanted. One more than that: that it is there may be told, and not whether what may not be seen is.
        let mut some = if wanted.name.is_some() { PAGE } else { wanted.limit.saturating_add(1).min(PAGE) };
        loop {
            let listing = self.shared.engine.list(CALLS, after.as_deref(), some);
            let listing = listing.await.map_err(|why| unavailable(&why))?;
            looked_at += listing.streams.len();
            for view in listing.streams.iter().filter_map(View::of_listed) {
                if wanted.name.is_some_and(|name| view.note.call != name) || !(wanted.sees)(Seen::Call(view.id)) {
                    continue;
                }
                if calls.len() == wanted.limit {
                    return Ok((calls, last_shown));
                }
                last_shown = Some(view.id.to_owned());
                calls.push(view.json());
            }
            if !listing.more {
                return Ok((calls, None));
            }
            after = listing.streams.last().map(|last| last.name.as_str().to_owned());
            if looked_at >= LOOKED_AT_MAX {
                let Some(id) = after.as_deref().and_then(|name| name.strip_prefix(CALLS)) else {
                    return Ok((calls, None));
                };
                let next = if (wanted.sees)(Seen::Call(id)) { id.to_owned() } else { (wanted.hides)(id)? };
                return Ok((calls, Some(next)));
            }
            some = PAGE.min(LOOKED_AT_MAX - looked_at); // However little is wanted, not a question to the engine for each.
        }
    }
}

impl<'a> View<'a> {
    fn of_stream(stream: &'a Stream) -> Option<Self> {
        let config = stream.config();
        let tail = stream.tail();
        Some(Self {
            id: stream.name().as_str().strip_prefix(CALLS)?,
            note: Note::read(config.note.as_deref())?,
            content_type: &config.content_type,
            created_at_ms: config.created_at_ms,
            next: stream.offset(tail.position),
            closed: tail.closed,
            ending: stream.ending().map(|ending| &**ending),
        })
    }

    fn of_listed(listed: &'a Listed) -> Option<Self> {
        let (id, note) = call(listed)?;
        let Listed { epoch, tail, .. } = *listed;
        Some(Self {
            id,
            note,
            content_type: &listed.config.content_type,
            created_at_ms: listed.config.created_at_ms,
            next: listed.config.offset(epoch, tail),
            closed: listed.closed,
            ending: listed.ending.as_deref(),
        })
    }

    fn json(self) -> Value {
        let state = match (self.closed, self.content_type) {
            (true, _) => "ended",
            (false, "") => "starting",
            (false, _) => "running",
        };
        let mut json = json!({
            "id": self.id,
            "name": self.note.call,
            "stream": format!("/v1/stream/{CALLS}{}", self.id),
            "state": state,
            "startedAt": timestamp(self.created_at_ms),
            "streamNextOffset": self.next.to_string(),
        });
        if !self.content_type.is_empty() {
            json["contentType"] = json!(self.content_type);
        }
        if let Some(ending) = self.ending.and_then(|ending| serde_json::from_str::<Value>(ending).ok()) {
            json["ending"] = ending;
        }
        json
    }
}

fn timestamp(ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default()
}

/// What is listed of the engine at once.
const PAGE: usize = 1_000;
