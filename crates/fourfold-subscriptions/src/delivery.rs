//! Webhooks: issues a wake, delivers it, and acts on the answer. Spec: "Webhook Delivery and Callback".
//!
//! Every attempt is a wake of its own: a worker that got a request whose answer was lost cannot act on it once another was sent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Offset, name::RESERVED_SEGMENT};
use fourfold_stream::Unavailable;
use serde_json::{Value, json};

use crate::{
    courier::{Said, Undelivered},
    entry::{Desk, Entry, STORAGE_WAIT_MS, now_ms, wake_id},
    keys::Grant,
    limits::{TOKEN_LIFE, WAKE_STREAMS_MAX},
    state::{Delivery, Fact, Link, Standing, State},
};

/// A wake on its way.
struct Parcel {
    url: String,
    body: Bytes,
    wake: String,
    /// Where the pending streams ended when it was issued.
    snapshot: Vec<(String, Offset)>,
    ended: Arc<tokio::sync::Notify>,
}

impl Entry {
    /// Delivers as soon as it may, if nobody waits to do so already.
    pub(crate) fn queue_delivery(self: &Arc<Self>, desk: &mut Desk) {
        if std::mem::replace(&mut desk.queued, true) {
            return;
        }
        let entry = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(why) = entry.deliver().await {
                tracing::warn!(id = entry.id, error = %why, "a wake could not be kept");
                tokio::time::sleep(Duration::from_millis(STORAGE_WAIT_MS)).await;
            }
            entry.nudge.notify_one();
        });
    }

    async fn deliver(&self) -> Result<(), Unavailable> {
        // Before the wake is issued: its lease should not run out in a queue.
        let Ok(permit) = self.means.permits.acquire().await else { return Ok(()) };
        let Some(parcel) = self.issue().await? else { return Ok(()) };
        let signature = self.means.keys().sign(now_ms() / 1000, &parcel.body);
        let outcome = tokio::select! {
            outcome = self.means.courier.deliver(&parcel.url, parcel.body.clone(), &signature) => outcome,
            () = parcel.ended.notified() => Err(Undelivered::Lease),
        };
        drop(permit);
        self.conclude(&parcel, outcome).await
    }

    /// A wake for the streams that are pending now, if there are any.
    async fn issue(&self) -> Result<Option<Parcel>, Unavailable> {
        let mut desk = self.open_queued().await?;
        let desk = &mut *desk;
        let now = now_ms();
        let early = desk.state.standing.next_attempt_ms.is_some_and(|at| at > now);
        if desk.gone || desk.state.standing.wake.is_some() || early {
            return Ok(None);
        }
        self.refresh(desk).await?;
        let Delivery::Webhook { url } = desk.state.birth.config.delivery.clone() else { return Ok(None) };
        if !desk.state.pending() {
            return Ok(None);
        }
        let wake = wake_id()?;
        let mut standing = desk.state.next_wake(wake.clone());
        if let Some(wake) = &mut standing.wake {
            wake.lease_until_ms = Some(now + desk.state.birth.config.lease_ttl_ms);
        }
        self.commit(desk, vec![Fact::Stands(standing)]).await?;
        self.nudge.notify_one(); // The lease's end is a new thing to wait for.
        let links = shown(&desk.state);
        let pending = links.iter().filter(|(_, link)| link.pending());
        let snapshot = pending.filter_map(|(path, link)| Some(((*path).to_owned(), link.tail?))).collect();
        let state = &desk.state;
        let body = json!({
            "subscription_id": self.id,
            "wake_id": wake,
            "generation": state.standing.generation,
            "streams": streams(&links),
            "callback_url": format!("{}{RESERVED_SEGMENT}/subscriptions/{}/callback", state.birth.root, encoded(&self.id)),
            "callback_token": self.token(state),
        });
        desk.ended = Arc::default();
        let ended = Arc::clone(&desk.ended);
        Ok(Some(Parcel { url, body: body.to_string().into(), wake, snapshot, ended }))
    }

    async fn conclude(&self, parcel: &Parcel, outcome: Result<Said, Undelivered>) -> Result<(), Unavailable> {
        let mut desk = self.open().await?;
        let desk = &mut *desk;
        let current = desk.state.standing.wake.as_ref().is_some_and(|wake| wake.id == parcel.wake);
        if desk.gone || !current {
            return Ok(()); // A callback, the end of the lease or a deletion was faster.
        }
        let wakes = &self.means.wakes;
        if outcome.is_ok() {
            wakes.delivered.one()
        } else {
            wakes.failed.one()
        }
        let facts = match outcome {
            Ok(Said::Done) => {
                let mut linked = BTreeMap::new();
                for (path, tail) in &parcel.snapshot {
                    if let Some(link) = desk.state.links.get(path) {
                        linked.insert(path.clone(), Link { acked: link.acked.max(Some(*tail)), ..link.clone() });
                    }
                }
                vec![Fact::Linked(linked), Fact::Stands(desk.state.released())]
            }
            Ok(Said::Later) => {
                let mut wake = desk.state.standing.wake.clone();
                wake.iter_mut().for_each(|wake| wake.delivered = true);
                vec![Fact::Stands(Standing { wake, ..desk.state.released() })]
            }
            Err(why) => {
                let standing = Standing { wake: None, ..desk.state.failed(now_ms(), fastrand::f64()) };
                tracing::info!(id = self.id, error = %why, failures = standing.failures, "a webhook was not delivered");
                vec![Fact::Stands(standing)]
            }
        };
        self.commit(desk, facts).await
    }

    /// The token of the present generation.
    pub(crate) fn token(&self, state: &State) -> String {
        self.means.keys().seal(&Grant {
            sub: self.id.clone(),
            life: state.birth.life.clone(),
            generation: state.standing.generation,
            exp: now_ms() / 1000 + TOKEN_LIFE.as_secs(),
        })
    }

    async fn open_queued(&self) -> Result<tokio::sync::MutexGuard<'_, Desk>, Unavailable> {
        match self.open().await {
            Ok(mut desk) => {
                desk.queued = false;
                Ok(desk)
            }
            Err(why) => {
                self.unqueue().await;
                Err(why)
            }
        }
    }
}

/// The streams of a wake: those that are pending first.
pub(crate) fn shown(state: &State) -> Vec<(&str, &Link)> {
    let of = |pending: bool| state.links.iter().filter(move |(_, link)| link.pending() == pending);
    of(true).chain(of(false)).take(WAKE_STREAMS_MAX).map(|(path, link)| (path.as_str(), link)).collect()
}

/// They as a worker sees them.
pub(crate) fn streams(links: &[(&str, &Link)]) -> Value {
    let one = |(path, link): &(&str, &Link)| {
        json!({
            "path": path,
            "link_type": link_type(link),
            "acked_offset": offset(link.acked),
            "tail_offset": offset(link.tail.or(link.acked)),
            "has_pending": link.pending(),
        })
    };
    links.iter().map(one).collect()
}

pub(crate) fn link_type(link: &Link) -> &'static str {
    if link.explicit { "explicit" } else { "glob" }
}

/// `-1`, the start, where there is none: a reader can send it as it is.
pub(crate) fn offset(offset: Option<Offset>) -> String {
    offset.map_or_else(|| "-1".to_owned(), |offset| offset.to_string())
}

/// An id as it stands in a URL.
pub(crate) fn encoded(id: &str) -> String {
    fourfold_protocol::StreamName::internal(id).map(|name| name.encoded()).unwrap_or_default()
}
