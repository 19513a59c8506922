//! What workers ask for: claim, callback or ack, release. Spec: "Pull-wake Claim, Ack, and Release", "Generation Fencing and Leases".

use std::collections::BTreeMap;

use fourfold_protocol::{Code, Offset, Refusal};
use serde_json::{Value, json};

use crate::{
    delivery::{shown, streams},
    entry::{Desk, Entry, inherited, now_ms, tail_of, wake_id},
    refused::{gone, unavailable},
    state::{Fact, Link, Standing, Wake},
};

/// What a worker says about the wake that it works on.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) wake_id: String,
    pub(crate) generation: u64,
    /// Streams and the last offsets processed.
    pub(crate) acks: Vec<(String, String)>,
    pub(crate) done: bool,
}

impl Entry {
    /// Gives the lease to a worker, unless another one holds it.
    ///
    /// Errors: [`Code::AlreadyClaimed`], [`Code::NothingPending`].
    pub(crate) async fn claim(&self, worker: String) -> Result<Value, Refusal> {
        let mut desk = self.open().await.map_err(|why| unavailable(&why))?;
        let desk = &mut *desk;
        self.settle(desk).await?;
        let standing = match &desk.state.standing.wake {
            Some(Wake { holder: Some(holder), .. }) => {
                let generation = desk.state.standing.generation;
                let detail = format!("'{holder}' holds the lease: wait for the next wake event");
                let error = json!({ "code": "ALREADY_CLAIMED", "current_holder": holder, "generation": generation });
                return Err(Refusal::new(Code::AlreadyClaimed, detail).with("error", error));
            }
            Some(_) => desk.state.standing.clone(),
            None => {
                self.refresh(desk).await.map_err(|why| unavailable(&why))?;
                if !desk.state.pending() {
                    let detail = "every stream is processed up to its tail: wait for a wake event";
                    let error = json!({ "code": "NO_PENDING_WORK" });
                    return Err(Refusal::new(Code::NothingPending, detail).with("error", error));
                }
                self.means.wakes.claimed.one();
                desk.state.next_wake(wake_id().map_err(|why| unavailable(&why))?)
            }
        };
        let ttl = desk.state.birth.config.lease_ttl_ms;
        let wake = standing.wake.clone().map(|wake| Wake {
            delivered: true,
            holder: Some(worker),
            lease_until_ms: Some(now_ms() + ttl),
            ..wake
        });
        let id = wake.as_ref().map(|wake| wake.id.clone());
        let standing = Standing { wake, failures: 0, next_attempt_ms: None, ..standing };
        self.commit(desk, vec![Fact::Stands(standing)]).await.map_err(|why| unavailable(&why))?;
        self.nudge.notify_one(); // The lease's end is a new thing to wait for.
        Ok(json!({
            "wake_id": id,
            "generation": desk.state.standing.generation,
            "token": self.token(&desk.state),
            "streams": streams(&shown(&desk.state)),
            "lease_ttl_ms": ttl,
        }))
    }

    /// Moves cursors, and ends the wake or extends its lease. True if it ended and another wake follows.
    ///
    /// Errors: [`Code::InvalidToken`], [`Code::Fenced`]; a bad ack, and then none counts.
    pub(crate) async fn report(&self, token: Option<&str>, report: &Report) -> Result<bool, Refusal> {
        let mut desk = self.authorized(token, report).await?;
        let desk = &mut *desk;
        let linked = self.acknowledged(desk, &report.acks).await?;
        let standing = if report.done {
            desk.state.released()
        } else {
            let until = now_ms() + desk.state.birth.config.lease_ttl_ms;
            let wake = desk.state.standing.wake.clone();
            let wake = wake.map(|wake| Wake { delivered: true, lease_until_ms: Some(until), ..wake });
            Standing { wake, ..desk.state.standing.clone() }
        };
        let mut facts = vec![Fact::Stands(standing)];
        if !linked.is_empty() {
            facts.push(Fact::Linked(linked));
        }
        self.commit(desk, facts).await.map_err(|why| unavailable(&why))?;
        self.refresh(desk).await.map_err(|why| unavailable(&why))?;
        self.nudge.notify_one();
        Ok(report.done && desk.state.pending())
    }

    /// Ends the wake without an ack; what is pending wakes again. Errors as [`report`](Self::report).
    pub(crate) async fn release(&self, token: Option<&str>, report: &Report) -> Result<(), Refusal> {
        let mut desk = self.authorized(token, report).await?;
        let standing = desk.state.released();
        self.commit(&mut desk, vec![Fact::Stands(standing)]).await.map_err(|why| unavailable(&why))?;
        self.nudge.notify_one();
        Ok(())
    }

    /// The desk, for whoever works on the present wake.
    async fn authorized(
        &self,
        token: Option<&str>,
        report: &Report,
    ) -> Result<tokio::sync::MutexGuard<'_, Desk>, Refusal> {
        let grant = self.means.keys().unseal(token, &self.id, now_ms() / 1000)?;
        let mut desk = self.open().await.map_err(|why| unavailable(&why))?;
        self.settle(&mut desk).await?;
        let state = &desk.state;
        if grant.life != state.birth.life {
            return Err(Refusal::new(Code::InvalidToken, "the token is for an earlier subscription of this id"));
        }
        let current = state.standing.wake.as_ref().is_some_and(|wake| wake.id == report.wake_id);
        let generation = state.standing.generation;
        if !current || generation != report.generation || generation != grant.generation {
            let detail = "the wake is over or was never this one: leave its work to whoever was woken after it";
            return Err(Refusal::new(Code::Fenced, detail).with("error", json!({ "code": "FENCED" })));
        }
        Ok(desk)
    }

    /// Nobody acts on a subscription that is gone, or under a lease that is over.
    async fn settle(&self, desk: &mut Desk) -> Result<(), Refusal> {
        if desk.gone {
            return Err(gone(&self.id));
        }
        if self.expire(desk, now_ms()).await.map_err(|why| unavailable(&why))? {
            self.nudge.notify_one();
        }
        Ok(())
    }

    /// The cursors that these acks move; they never go back.
    async fn acknowledged(
        &self,
        desk: &mut Desk,
        acks: &[(String, String)],
    ) -> Result<BTreeMap<String, Link>, Refusal> {
        let mut linked = BTreeMap::<String, Link>::new();
        for (path, token) in acks {
            let offset = Offset::parse(token).ok_or_else(|| {
                let detail =
                    format!("the ack for '{path}' is not an offset: send one that a read of the stream has answered");
                Refusal::new(Code::InvalidOffset, detail)
            })?;
            // Taken away meanwhile: there is no cursor to move.
            let Some(link) = linked.get(path).or_else(|| desk.state.links.get(path)).cloned() else { continue };
            let mut tail = link.tail;
            if tail.is_none_or(|tail| offset > tail) {
                // A reader may know before this does.
                tail = tail_of(&*self.means.engine, path).await.map_err(|why| unavailable(&why))?;
            }
            let life = |other: Option<Offset>| other.is_some_and(|other| other.epoch == offset.epoch);
            if life(tail) && tail.is_some_and(|tail| offset > tail) {
                let detail = format!("the ack for '{path}' lies past the end of the stream");
                return Err(Refusal::new(Code::OffsetPastTail, detail));
            }
            if !life(tail) && !inherited(&*self.means.engine, path, offset).await.map_err(|why| unavailable(&why))? {
                if tail.is_none_or(|tail| offset > tail) && !life(link.acked) {
                    let detail = format!("the ack for '{path}' belongs to no life of the stream that is known here");
                    return Err(Refusal::new(Code::InvalidOffset, detail));
                }
                continue; // Of a life that has ended: what is acked then needs no cursor.
            }
            linked.insert(path.clone(), Link { acked: link.acked.max(Some(offset)), tail, ..link });
        }
        Ok(linked)
    }
}
