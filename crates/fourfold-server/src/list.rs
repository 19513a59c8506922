//! `GET /v1/stream/`: which streams there are. Beyond the base protocol, which every console misses.

use fourfold_access::{Verb, Who};
use fourfold_protocol::Refusal;
use fourfold_stream::{Listed, listing};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    answer::{self, Answer},
    context::{Context, unavailable},
    limits::{LIST_DEFAULT, LIST_LOOKED_AT_MAX, LIST_MAX},
    query::Query,
    timestamp,
};

/// A page of the streams that `who` may see. May be short, or empty, with more behind it: what is looked at for a page is bounded.
pub(crate) async fn get(query: &Query, who: &Who, context: &Context) -> Result<Answer, Refusal> {
    let limit = query.limit(LIST_MAX)?.unwrap_or(LIST_DEFAULT);
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let sees = |name: &str| context.settings.access.allows(who, Verb::List, name);
    let place = format!("streams {prefix}");
    let mut after = query.after.clone().map(|after| context.bookmarks.find(&place, after)).transpose()?;
    let (mut seen, mut looked_at) = (Vec::new(), 0);
    // One more than is wanted: that it is there may be told, and not whether what may not be seen is.
    let mut some = limit + 1;
    let next = loop {
        let listing =
            listing::public(&*context.engine, prefix, after.as_deref(), some).await.map_err(|why| unavailable(&why))?;
        looked_at += listing.streams.len();
        after = listing.streams.last().map(|last| last.name.as_str().to_owned());
        seen.extend(listing.streams.into_iter().filter(|listed| sees(listed.name.as_str())));
        if seen.len() > limit {
            seen.truncate(limit);
            break seen.last().map(|last| last.name.as_str().to_owned());
        }
        if !listing.more {
            break None;
        }
        if looked_at >= LIST_LOOKED_AT_MAX {
            break match after {
                Some(name) if !sees(&name) => Some(context.bookmarks.put(&place, &name)?),
                name => name,
            };
        }
        some = PAGE.min(LIST_LOOKED_AT_MAX - looked_at); // However little is wanted, not a question to the engine for each.
    };
    let mut page = Map::new();
    page.insert("streams".into(), seen.iter().map(entry).collect());
    if let Some(next) = next {
        page.insert("next".into(), json!(next));
    }
    let mut parts = answer::head(StatusCode::OK);
    answer::put(&mut parts, header::CONTENT_TYPE, "application/json");
    answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    Ok(answer::full(parts, Value::Object(page).to_string()))
}

fn entry(listed: &Listed) -> Value {
    let forked = listed.config.forked.as_deref();
    let offset = |position| listed.config.offset(listed.epoch, position).to_string();
    let mut entry = json!({
        "name": listed.name.as_str(),
        "streamNextOffset": offset(listed.tail),
        "oldestOffset": offset(listed.oldest),
        "streamClosed": listed.closed,
        "createdAt": timestamp::format(listed.config.created_at_ms),
    });
    if !listed.config.content_type.is_empty() {
        entry["contentType"] = json!(listed.config.content_type);
    }
    if let Some(ending) = listed.ending.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
        entry["ending"] = ending;
    }
    if let Some(seconds) = listed.config.ttl_seconds {
        entry["ttlSeconds"] = json!(seconds);
    }
    if let Some(ms) = listed.config.expires_at_ms {
        entry["expiresAt"] = json!(timestamp::format(ms));
    }
    if let Some(fork) = forked {
        entry["forkedFrom"] = json!(fork.from.as_str());
        entry["forkOffset"] = json!(fork.anchor().to_string());
        if fork.sub > 0 {
            entry["forkSubOffset"] = json!(fork.sub);
        }
    }
    entry
}

/// What is listed of the engine at once, behind the first look.
const PAGE: usize = 1_000;
