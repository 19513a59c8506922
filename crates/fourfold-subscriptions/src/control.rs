//! The control interface: everything below `/v1/stream/__ds/`, without HTTP around it. Spec: "Reserved Subscription APIs".

use std::sync::Arc;

use bytes::Bytes;
use fourfold_protocol::{Code, Pattern, Refusal, StreamName, name::RESERVED_SEGMENT};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Subscriptions,
    delivery::{link_type, offset},
    entry::{Desk, Entry, now_ms, tail_of},
    lease::Report,
    limits::{
        DESCRIPTION_BYTES_MAX, ID_BYTES_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, LINKS_MAX, WORKER_BYTES_MAX,
    },
    refused::{gone, invalid, unavailable},
    state::{Config, Delivery, Fact, Link},
    target::Target,
};

/// A request below `__ds`.
#[derive(Debug)]
pub struct ControlRequest<'a> {
    /// `HEAD` is for the caller to make of `GET`.
    pub method: &'a Method,
    /// The path behind `__ds/`, percent-encoded as it came.
    pub path: &'a str,
    /// The streams' root as the client knows it, such as `https://example.org/v1/stream/`.
    pub root: String,
    /// What stands behind `Bearer` in `Authorization`.
    pub bearer: Option<&'a str>,
    /// All of it, at most [`CONTROL_BODY_BYTES_MAX`](crate::limits::CONTROL_BODY_BYTES_MAX).
    pub body: Bytes,
    /// Whether it comes from this machine itself, not through a proxy nor from a web page: only then may a webhook point to this machine.
    pub local: bool,
}

/// An answer to it.
#[derive(Debug)]
pub struct ControlAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// `Cache-Control`.
    pub cache: &'static str,
    /// Empty with a 204.
    pub body: String,
}

/// What a path names.
enum Place<'a> {
    Keys,
    Subscription(String),
    Streams(String),
    Stream(String, String),
    Action(String, &'a str),
}

impl Place<'_> {
    fn methods(&self) -> &'static str {
        match self {
            Self::Keys => "GET, HEAD, OPTIONS",
            Self::Subscription(_) => "GET, HEAD, PUT, DELETE, OPTIONS",
            Self::Streams(_) | Self::Action(..) => "POST, OPTIONS",
            Self::Stream(..) => "DELETE, OPTIONS",
        }
    }
}

/// Who may make a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Everybody: the public keys.
    Open,
    /// Whoever shows the token that came with a wake; see [`Subscriptions::vouch`].
    Token,
    /// Whoever has leave to steer subscriptions.
    Leave,
}

/// Who may make a request of this path behind `__ds/`.
#[must_use]
pub fn door(method: &Method, path: &str) -> Door {
    match place(path) {
        Ok(Place::Keys) => Door::Open,
        Ok(Place::Action(_, "callback" | "ack" | "release")) if method == Method::POST => Door::Token,
        _ => Door::Leave,
    }
}

/// The methods that a path behind `__ds/` takes. Errors: nothing is there.
pub fn methods(path: &str) -> Result<&'static str, Refusal> {
    place(path).map(|place| place.methods())
}

impl Subscriptions {
    /// Whether this token came with a wake of the subscription that the path names, whichever wake that was.
    ///
    /// Errors: [`Code::InvalidToken`], whether or not there is such a subscription: it is the token that tells.
    pub async fn vouch(&self, path: &str, bearer: Option<&str>) -> Result<(), Refusal> {
        let id = match place(path)? {
            Place::Keys => return Ok(()),
            Place::Subscription(id) | Place::Streams(id) | Place::Stream(id, _) | Place::Action(id, _) => id,
        };
        let keys = self.shared.means.load_keys().await.map_err(|why| unavailable(&why))?;
        keys.unseal(bearer, &id, now_ms() / 1000).map(drop)
    }

    /// Answers a request. Whatever the answer says is durable.
    pub async fn control(&self, request: ControlRequest<'_>) -> Result<ControlAnswer, Refusal> {
        let place = place(request.path)?;
        let shared = &self.shared;
        let get = matches!(*request.method, Method::GET | Method::HEAD);
        match (request.method, &place) {
            (_, Place::Keys) if get => {
                let body = shared.means.load_keys().await.map_err(|why| unavailable(&why))?.jwks().to_string();
                Ok(ControlAnswer { status: 200, content_type: "application/jwk-set+json", cache: KEYS_CACHE, body })
            }
            (_, Place::Subscription(id)) if get => {
                let entry = shared.entry(id)?;
                let desk = live(&entry).await?;
                Ok(json_answer(200, &self.view(&entry, &desk, &request.root)))
            }
            (&Method::PUT, Place::Subscription(id)) => {
                let config = config(&request.body, shared.means.courier.local && request.local)?;
                let (entry, fresh) = shared.create(id, config, request.root.clone()).await?;
                let desk = live(&entry).await?;
                Ok(json_answer(if fresh { 201 } else { 200 }, &self.view(&entry, &desk, &request.root)))
            }
            (&Method::DELETE, Place::Subscription(id)) => shared.delete(id).await.map(|()| nothing()),
            (&Method::POST, Place::Streams(id)) => {
                let wish: Streams = read(&request.body)?;
                add(&*shared.entry(id)?, &paths(&wish.streams)?).await.map(|()| nothing())
            }
            (&Method::DELETE, Place::Stream(id, path)) => remove(&*shared.entry(id)?, path).await.map(|()| nothing()),
            (&Method::POST, Place::Action(id, action)) => self.act(&shared.entry(id)?, action, &request).await,
            _ => {
                let methods = place.methods();
                Err(Refusal::new(Code::MethodNotAllowed, format!("use one of {methods}")).with("allow", methods))
            }
        }
    }

    async fn act(
        &self,
        entry: &Arc<Entry>,
        action: &str,
        request: &ControlRequest<'_>,
    ) -> Result<ControlAnswer, Refusal> {
        let pull = live(entry).await?.state.wake_stream().is_some();
        if pull != (action != "callback") {
            let detail =
                if pull { "it is pull-wake: use claim, ack and release" } else { "it is a webhook: use callback" };
            return Err(invalid(format!("the subscription does not take '{action}': {detail}")));
        }
        match action {
            "claim" => {
                let wish: Claim = read(&request.body)?;
                if wish.worker.is_empty() || wish.worker.len() > WORKER_BYTES_MAX {
                    return Err(invalid(format!("worker has from 1 to {WORKER_BYTES_MAX} bytes")));
                }
                Ok(json_answer(200, &entry.claim(wish.worker).await?))
            }
            "release" => entry.release(request.bearer, &report(&request.body)?).await.map(|()| nothing()),
            _ => {
                let next_wake = entry.report(request.bearer, &report(&request.body)?).await?;
                Ok(json_answer(200, &json!({ "ok": true, "next_wake": next_wake })))
            }
        }
    }

    /// A subscription as its owner sees it.
    fn view(&self, entry: &Entry, desk: &Desk, root: &str) -> Value {
        let (birth, standing) = (&desk.state.birth, &desk.state.standing);
        let link = |(path, link): (&String, &Link)| json!({ "path": path, "link_type": link_type(link), "acked_offset": offset(link.acked) });
        let (kind, webhook, wake_stream) = match &birth.config.delivery {
            Delivery::Webhook { url } => {
                let jwks_url = format!("{root}{RESERVED_SEGMENT}/jwks.json");
                let signing = json!({ "alg": "ed25519", "kid": self.shared.means.keys().kid(), "jwks_url": jwks_url });
                ("webhook", json!({ "url": url, "signing": signing }), Value::Null)
            }
            Delivery::PullWake { wake_stream } => ("pull-wake", Value::Null, json!(wake_stream)),
        };
        json!({
            "id": entry.id,
            "subscription_id": entry.id,
            "type": kind,
            "pattern": birth.config.pattern,
            "streams": desk.state.links.iter().map(link).collect::<Value>(),
            "webhook": webhook,
            "wake_stream": wake_stream,
            "lease_ttl_ms": birth.config.lease_ttl_ms,
            "created_at": timestamp(birth.created_at_ms),
            "status": if standing.next_attempt_ms.is_some() { "failed" } else { "active" },
            "description": birth.config.description,
        })
    }
}

const KEYS_CACHE: &str = "public, max-age=300";

fn json_answer(status: u16, body: &Value) -> ControlAnswer {
    ControlAnswer { status, content_type: "application/json", cache: "no-store", body: body.to_string() }
}

fn nothing() -> ControlAnswer {
    ControlAnswer { status: 204, content_type: "", cache: "no-store", body: String::new() }
}

async fn live(entry: &Entry) -> Result<tokio::sync::MutexGuard<'_, Desk>, Refusal> {
    let desk = entry.open().await.map_err(|why| unavailable(&why))?;
    if desk.gone { Err(gone(&entry.id)) } else { Ok(desk) }
}

/// New explicit streams begin at their tail; those that are linked keep their cursor.
async fn add(entry: &Entry, paths: &[String]) -> Result<(), Refusal> {
    let mut desk = live(entry).await?;
    let mut linked = std::collections::BTreeMap::new();
    for path in paths {
        if desk.state.wake_stream() == Some(path) {
            return Err(own_wake_stream());
        }
        let link = match desk.state.links.get(path) {
            Some(link) if link.explicit => continue,
            Some(link) => Link { explicit: true, ..link.clone() },
            None => {
                let tail = tail_of(&*entry.means.engine, path).await.map_err(|why| unavailable(&why))?;
                Link { explicit: true, acked: tail, tail }
            }
        };
        linked.insert(path.clone(), link);
    }
    if desk.state.links.len() + linked.len() > LINKS_MAX {
        return Err(invalid(format!("a subscription follows at most {LINKS_MAX} streams")));
    }
    if !linked.is_empty() {
        entry.commit(&mut desk, vec![Fact::Linked(linked)]).await.map_err(|why| unavailable(&why))?;
        entry.note_all(); // A record may have come between the look at the tail and the link.
    }
    Ok(())
}

async fn remove(entry: &Entry, path: &str) -> Result<(), Refusal> {
    let mut desk = live(entry).await?;
    let Some(link) = desk.state.links.get(path).filter(|link| link.explicit) else { return Ok(()) };
    let fact = if desk.state.matches(path) {
        Fact::Linked([(path.to_owned(), Link { explicit: false, ..link.clone() })].into())
    } else {
        Fact::Unlinked([path.to_owned()].into())
    };
    entry.commit(&mut desk, vec![fact]).await.map_err(|why| unavailable(&why))
}

fn place(path: &str) -> Result<Place<'_>, Refusal> {
    let nowhere = || {
        let detail = "paths below '__ds' are reserved: there are 'subscriptions/{id}' and 'jwks.json'";
        Refusal::new(Code::ReservedName, detail)
    };
    if path == "jwks.json" {
        return Ok(Place::Keys);
    }
    let rest = path.strip_prefix("subscriptions/").ok_or_else(nowhere)?;
    let (id, rest) = rest.split_once('/').map_or((rest, None), |(id, rest)| (id, Some(rest)));
    let id = StreamName::parse(id).map_err(|refusal| invalid(format!("the id is not one: {}", refusal.detail)))?;
    if id.as_str().len() > ID_BYTES_MAX {
        return Err(invalid(format!("the id is longer than {ID_BYTES_MAX} bytes")));
    }
    let id = id.as_str().to_owned();
    match rest {
        None => Ok(Place::Subscription(id)),
        Some("streams") => Ok(Place::Streams(id)),
        Some(action @ ("callback" | "claim" | "ack" | "release")) => Ok(Place::Action(id, action)),
        Some(rest) => {
            let encoded = rest.strip_prefix("streams/").ok_or_else(nowhere)?;
            // The path of a stream within a path: here an encoded slash is one.
            let slashes = encoded.replace("%2F", "/").replace("%2f", "/");
            Ok(Place::Stream(id, StreamName::parse(&slashes)?.as_str().to_owned()))
        }
    }
}

#[derive(Deserialize)]
struct Wish {
    #[serde(rename = "type")]
    kind: String,
    pattern: Option<String>,
    streams: Option<Vec<String>>,
    webhook: Option<Webhook>,
    wake_stream: Option<String>,
    lease_ttl_ms: Option<u64>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Webhook {
    url: String,
}

#[derive(Deserialize)]
struct Streams {
    streams: Vec<String>,
}

#[derive(Deserialize)]
struct Claim {
    worker: String,
}

#[derive(Deserialize)]
struct Said {
    wake_id: String,
    generation: u64,
    #[serde(default)]
    acks: Vec<Ack>,
    #[serde(default)]
    done: bool,
}

#[derive(Deserialize)]
struct Ack {
    stream: String,
    offset: String,
}

/// Members that are not known are left to later versions of the protocol.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => invalid(format!("the body is not what is asked for here: {e}")),
        _ => Refusal::new(Code::InvalidJson, format!("the body is not JSON: {e}")),
    })
}

fn report(body: &[u8]) -> Result<Report, Refusal> {
    let said: Said = read(body)?;
    let acks = said.acks.into_iter().map(|ack| (ack.stream, ack.offset)).collect();
    Ok(Report { wake_id: said.wake_id, generation: said.generation, acks, done: said.done })
}

/// In order, each once.
fn paths(streams: &[String]) -> Result<Vec<String>, Refusal> {
    if streams.len() > LINKS_MAX {
        return Err(invalid(format!("a subscription follows at most {LINKS_MAX} streams")));
    }
    let mut paths = streams
        .iter()
        .map(|path| StreamName::new(path).map(|name| name.as_str().to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

fn own_wake_stream() -> Refusal {
    invalid("a subscription cannot follow its own wake stream: each wake would cause another")
}

/// Reads, checks and normalizes a configuration.
fn config(body: &[u8], local: bool) -> Result<Config, Refusal> {
    let wish: Wish = read(body)?;
    let streams = paths(&wish.streams.clone().unwrap_or_default())?;
    if wish.pattern.is_none() && streams.is_empty() {
        return Err(invalid("it follows nothing: give a pattern, or streams"));
    }
    let pattern = wish
        .pattern
        .map(|text| Pattern::parse(&text).map(|_| text))
        .transpose()
        .map_err(|bad| invalid(bad.to_string()))?;
    let lease_ttl_ms = wish.lease_ttl_ms.unwrap_or(LEASE_MS_DEFAULT);
    if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ttl_ms) {
        return Err(invalid(format!("lease_ttl_ms is from {LEASE_MS_MIN} to {LEASE_MS_MAX}")));
    }
    if wish.description.as_ref().is_some_and(|text| text.len() > DESCRIPTION_BYTES_MAX) {
        return Err(invalid(format!("the description is longer than {DESCRIPTION_BYTES_MAX} bytes")));
    }
    let delivery = match (wish.kind.as_str(), wish.webhook, wish.wake_stream) {
        ("webhook", Some(Webhook { url }), None) => {
            Target::parse(&url, local)?;
            Delivery::Webhook { url }
        }
        ("pull-wake", None, Some(wake_stream)) => {
            let wake_stream = StreamName::new(&wake_stream)?;
            if wake_stream.is_call() {
                return Err(Refusal::new(Code::CallsOnly, "a wake stream cannot lie below calls/: take another name"));
            }
            let wake_stream = wake_stream.as_str().to_owned();
            if streams.contains(&wake_stream) {
                return Err(own_wake_stream());
            }
            Delivery::PullWake { wake_stream }
        }
        ("webhook", _, None) => return Err(invalid("a webhook subscription needs webhook.url")),
        ("pull-wake", None, _) => return Err(invalid("a pull-wake subscription needs wake_stream")),
        ("webhook" | "pull-wake", ..) => return Err(invalid("give either webhook or wake_stream, as the type says")),
        _ => return Err(invalid("type is 'webhook' or 'pull-wake'")),
    };
    Ok(Config { delivery, pattern, streams, lease_ttl_ms, description: wish.description })
}

fn timestamp(ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> Code {
        config(body.as_bytes(), true).expect_err(body).code
    }

    #[test]
    fn a_configuration_is_normalized() {
        let a = config(br#"{"type":"pull-wake","streams":["b","a","b"],"wake_stream":"w"}"#, false).unwrap();
        let b = config(
            br#"{"type":"pull-wake","streams":["a","b"],"wake_stream":"w","lease_ttl_ms":30000,"later":1}"#,
            false,
        );
        assert_eq!(a, b.unwrap());
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        for body in [
            "{}",
            "[]",
            r#"{"type":"x","pattern":"a","wake_stream":"w"}"#,
            r#"{"type":"webhook","pattern":"a"}"#,
            r#"{"type":"pull-wake","pattern":"a"}"#,
            r#"{"type":"pull-wake","wake_stream":"w"}"#,
            r#"{"type":"pull-wake","streams":[],"wake_stream":"w"}"#,
            r#"{"type":"pull-wake","streams":["w"],"wake_stream":"w"}"#,
            r#"{"type":"pull-wake","pattern":"a","wake_stream":"w","lease_ttl_ms":999}"#,
            r#"{"type":"pull-wake","pattern":"a","wake_stream":"w","lease_ttl_ms":600001}"#,
            r#"{"type":"pull-wake","pattern":"a","wake_stream":"w","webhook":{"url":"https://worker.example"}}"#,
            r#"{"type":"pull-wake","pattern":"a//b","wake_stream":"w"}"#,
        ] {
            assert_eq!(code(body), Code::InvalidSubscription, "{body}");
        }
        assert_eq!(code("{"), Code::InvalidJson);
        assert_eq!(code(r#"{"type":"pull-wake","streams":["__ds/keys"],"wake_stream":"w"}"#), Code::ReservedName);
        assert_eq!(code(r#"{"type":"pull-wake","pattern":"a","wake_stream":"__ds/w"}"#), Code::ReservedName);
        let inside = r#"{"type":"webhook","pattern":"a","webhook":{"url":"http://10.0.0.1/hook"}}"#;
        assert_eq!(code(inside), Code::WebhookUrlRejected);
    }

    #[test]
    fn every_path_is_read_one_way() {
        assert!(
            matches!(place("subscriptions/a/streams/x%2Fy/z%20"), Ok(Place::Stream(id, path)) if id == "a" && path == "x/y/z ")
        );
        assert!(matches!(place("subscriptions/a%20b"), Ok(Place::Subscription(id)) if id == "a b"));
        for path in ["", "keys", "state/a/0000000000000000", "subscriptions", "subscriptions/a/x", "subscriptions/a/"] {
            assert_eq!(place(path).err().expect(path).code, Code::ReservedName, "{path}");
        }
        assert!(place("subscriptions/").is_err() && place("subscriptions/a%2fb").is_err());
        assert!(place("subscriptions/a/streams/__ds%2Fkeys").is_err() && place("subscriptions/a/streams/").is_err());
    }
}
