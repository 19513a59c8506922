//! `GET /v1/stream/`: which streams there are. Beyond the base protocol, which every console misses.

use fourfold_protocol::{Offset, Refusal};
use fourfold_stream::{Listed, listing};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    answer::{self, Answer},
    context::{Context, unavailable},
    limits::{LIST_DEFAULT, LIST_MAX},
    query::Query,
    timestamp,
};

pub(crate) async fn get(query: &Query, context: &Context) -> Result<Answer, Refusal> {
    let limit = query.limit(LIST_MAX)?.unwrap_or(LIST_DEFAULT);
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let listing = listing::public(&*context.engine, prefix, query.after.as_deref(), limit)
        .await
        .map_err(|why| unavailable(&why))?;
    let mut page = Map::new();
    page.insert("streams".into(), listing.streams.iter().map(entry).collect());
    if let Some(last) = listing.streams.last().filter(|_| listing.more) {
        page.insert("next".into(), json!(last.name.as_str()));
    }
    let mut parts = answer::head(StatusCode::OK);
    answer::put(&mut parts, header::CONTENT_TYPE, "application/json");
    answer::put(&mut parts, header::CACHE_CONTROL, "no-store");
    Ok(answer::full(parts, Value::Object(page).to_string()))
}

fn entry(listed: &Listed) -> Value {
    let forked = listed.config.forked.as_deref();
    let offset = |position| {
        let inherited = forked.and_then(|fork| fork.owner(position));
        Offset { epoch: inherited.unwrap_or(listed.epoch), position }.to_string()
    };
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
