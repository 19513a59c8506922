//! What a subscription is, and how it changes: facts that are kept in order make a state. Pure, no clock.
//!
//! ```text
//!            pending, a wake is issued          done, lease expired, delivery failed
//!   idle ───────────────────────────► wake ───────────────────────────────────────► idle
//!                                      │ claimed or extended: its lease moves
//!                                      └──┘
//! ```
//!
//! Whatever is not a cursor or the standing can be found again: tails are the streams' own.

use std::collections::{BTreeMap, BTreeSet};

use fourfold_protocol::{Offset, Pattern};
use serde::{Deserialize, Serialize};

use crate::{
    keys::sha256,
    limits::{RETRY_MS_MAX, RETRY_MS_MIN},
};

/// What a subscription was created with, normalized: its bytes as JSON tell whether another one is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) delivery: Delivery,
    pub(crate) pattern: Option<String>,
    /// In order, each once.
    pub(crate) streams: Vec<String>,
    pub(crate) lease_ttl_ms: u64,
    pub(crate) description: Option<String>,
}

/// How a worker is woken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Delivery {
    /// A request to this URL.
    Webhook { url: String },
    /// An event in this stream, for whoever claims first.
    PullWake { wake_stream: String },
}

impl Config {
    pub(crate) fn hash(&self) -> String {
        sha256(&serde_json::to_vec(self).expect("a configuration can be written to memory"))
    }
}

/// What stays as it is for a subscription's whole life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Birth {
    pub(crate) config: Config,
    /// Tells this life of the id from others, so that no old token opens it.
    pub(crate) life: String,
    /// The streams' root, as whoever created it knows the server.
    pub(crate) root: String,
    pub(crate) created_at_ms: u64,
}

/// A stream's cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// Named, and not only matched.
    pub(crate) explicit: bool,
    /// The last place processed; `None` is the start of a stream that was not there.
    #[serde(with = "token")]
    pub(crate) acked: Option<Offset>,
    /// Where the stream ends, as far as is known; `None` if it is not there.
    #[serde(skip)]
    pub(crate) tail: Option<Offset>,
}

impl Link {
    pub(crate) fn pending(&self) -> bool {
        match (self.tail, self.acked) {
            (Some(tail), Some(acked)) if tail.epoch == acked.epoch => tail > acked,
            // Another life of the stream, or the first: pending as soon as there is a record.
            (Some(tail), acked) => tail.position > 0 && acked.is_none_or(|acked| tail.epoch > acked.epoch),
            (None, _) => false,
        }
    }
}

/// Where the subscription stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Of the present wake, or of the last one.
    pub(crate) generation: u64,
    pub(crate) wake: Option<Wake>,
    /// Deliveries that failed one after the other.
    pub(crate) failures: u32,
    /// No delivery before then.
    pub(crate) next_attempt_ms: Option<u64>,
}

/// A wake under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wake {
    pub(crate) id: String,
    /// The webhook has answered, or the event is in the wake stream.
    pub(crate) delivered: bool,
    /// Where the wake stream ended with that event: a restore, or a deletion, may have begun another life of it since.
    #[serde(with = "token", default, skip_serializing_if = "Option::is_none")]
    pub(crate) told: Option<Offset>,
    /// The worker that claimed it.
    pub(crate) holder: Option<String>,
    /// An unclaimed event has none.
    pub(crate) lease_until_ms: Option<u64>,
}

/// One change, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    Born(Birth),
    /// These streams' cursors are so now.
    Linked(BTreeMap<String, Link>),
    /// These streams are followed no more.
    Unlinked(BTreeSet<String>),
    /// It stands so now.
    Stands(Standing),
}

/// A subscription as the facts make it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) birth: Birth,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) standing: Standing,
    pub(crate) links: BTreeMap<String, Link>,
}

impl State {
    pub(crate) fn new(birth: Birth) -> Self {
        let pattern = birth.config.pattern.as_deref().and_then(|text| Pattern::parse(text).ok());
        Self { birth, pattern, standing: Standing::default(), links: BTreeMap::new() }
    }

    /// `None` unless the first fact is the birth.
    pub(crate) fn replay(facts: impl IntoIterator<Item = Fact>) -> Option<Self> {
        let mut facts = facts.into_iter();
        let Some(Fact::Born(birth)) = facts.next() else { return None };
        let mut state = Self::new(birth);
        facts.for_each(|fact| state.apply(fact));
        Some(state)
    }

    pub(crate) fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Born(birth) => self.birth = birth,
            Fact::Linked(links) => {
                for (path, mut link) in links {
                    // What is known of the tail is not kept.
                    link.tail = link.tail.or_else(|| self.links.get(&path)?.tail);
                    self.links.insert(path, link);
                }
            }
            Fact::Unlinked(paths) => self.links.retain(|path, _| !paths.contains(path)),
            Fact::Stands(standing) => self.standing = standing,
        }
    }

    /// The facts that make this state, the shortest way.
    pub(crate) fn summary(&self) -> Vec<Fact> {
        let mut facts = vec![Fact::Born(self.birth.clone())];
        let mut part = BTreeMap::new();
        for (path, link) in &self.links {
            part.insert(path.clone(), link.clone());
            if part.len() == LINKS_IN_A_FACT {
                facts.push(Fact::Linked(std::mem::take(&mut part)));
            }
        }
        if !part.is_empty() {
            facts.push(Fact::Linked(part));
        }
        facts.push(Fact::Stands(self.standing.clone()));
        facts
    }

    /// Whether the pattern takes this stream. Its own wake events do not wake a subscription.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.wake_stream() != Some(path) && self.pattern.as_ref().is_some_and(|pattern| pattern.matches(path))
    }

    pub(crate) fn wake_stream(&self) -> Option<&str> {
        match &self.birth.config.delivery {
            Delivery::PullWake { wake_stream } => Some(wake_stream),
            Delivery::Webhook { .. } => None,
        }
    }

    pub(crate) fn pending(&self) -> bool {
        self.links.values().any(Link::pending)
    }

    /// A lease that is over.
    pub(crate) fn overdue(&self, now_ms: u64) -> bool {
        self.standing.wake.as_ref().and_then(|wake| wake.lease_until_ms).is_some_and(|until| until <= now_ms)
    }

    /// A wake of the next generation. Its id must be one that was never used.
    pub(crate) fn next_wake(&self, id: String) -> Standing {
        let wake = Wake { id, delivered: false, told: None, holder: None, lease_until_ms: None };
        Standing {
            generation: self.standing.generation + 1,
            wake: Some(wake),
            next_attempt_ms: None,
            ..self.standing.clone()
        }
    }

    /// No wake, and nothing that failed.
    pub(crate) fn released(&self) -> Standing {
        Standing { wake: None, failures: 0, next_attempt_ms: None, ..self.standing.clone() }
    }

    /// As it stands after a failed delivery. `chance` is from 0 to 1.
    pub(crate) fn failed(&self, now_ms: u64, chance: f64) -> Standing {
        let failures = self.standing.failures.saturating_add(1);
        let next_attempt_ms = Some(now_ms + backoff_ms(failures, chance));
        Standing { failures, next_attempt_ms, ..self.standing.clone() }
    }
}

/// From 1 s, doubled with each failure, up to 60 s; jittered by 20 % either way.
fn backoff_ms(failures: u32, chance: f64) -> u64 {
    let plain = RETRY_MS_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY_MS_MAX);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let jittered = (plain as f64 * (0.8 + 0.4 * chance.clamp(0.0, 1.0))) as u64; // between 800 and 72,000
    jittered
}

/// About 20 to 200 KB of a record.
const LINKS_IN_A_FACT: usize = 200;

mod token {
    use fourfold_protocol::Offset;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(offset: &Option<Offset>, to: S) -> Result<S::Ok, S::Error> {
        match offset {
            Some(offset) => to.collect_str(offset),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Offset>, D::Error> {
        let Some(token) = Option::<String>::deserialize(from)? else { return Ok(None) };
        Offset::parse(&token).map(Some).ok_or_else(|| D::Error::custom("not an offset"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fourfold_protocol::Epoch;

    fn at(epoch: u64, position: u64) -> Offset {
        Offset { epoch: Epoch(epoch), position }
    }

    fn born() -> State {
        State::new(Birth {
            config: Config {
                delivery: Delivery::PullWake { wake_stream: "wake/pool".into() },
                pattern: Some("**".into()),
                streams: vec!["a".into()],
                lease_ttl_ms: 1_000,
                description: None,
            },
            life: "l".into(),
            root: "http://x/v1/stream/".into(),
            created_at_ms: 5,
        })
    }

    fn link(acked: Option<Offset>, tail: Option<Offset>) -> Link {
        Link { explicit: false, acked, tail }
    }

    #[test]
    fn what_is_kept_reads_back_and_its_summary_is_the_same() {
        let mut state = born();
        let mut facts = vec![Fact::Born(state.birth.clone())];
        let links: BTreeMap<_, _> = (0..450).map(|n| (format!("s/{n}"), link(Some(at(1, n)), None))).collect();
        for fact in [
            Fact::Linked(links),
            Fact::Stands(state.next_wake("w".into())),
            Fact::Linked([("s/7".into(), link(Some(at(1, 99)), None)), ("new".into(), link(None, None))].into()),
            Fact::Unlinked(["s/8".into(), "never".into()].into()),
            Fact::Stands(state.failed(1_000, 0.5)),
        ] {
            state.apply(fact.clone());
            facts.push(fact);
        }
        assert_eq!((state.links.len(), state.links["s/7"].acked), (450, Some(at(1, 99))));
        let read = |facts: &[Fact]| {
            let lines: Vec<String> = facts.iter().map(|fact| serde_json::to_string(fact).unwrap()).collect();
            State::replay(lines.iter().map(|line| serde_json::from_str(line).unwrap())).unwrap()
        };
        for again in [read(&facts), read(&state.summary())] {
            assert_eq!((&again.birth, &again.standing, &again.links), (&state.birth, &state.standing, &state.links));
        }
        assert!(State::replay(facts.drain(1..)).is_none());
    }

    #[test]
    fn pending_is_what_lies_behind_the_ack() {
        for (acked, tail, pending) in [
            (None, None, false),
            (None, Some(at(1, 0)), false),
            (None, Some(at(1, 1)), true),
            (Some(at(1, 1)), Some(at(1, 1)), false),
            (Some(at(1, 1)), Some(at(1, 2)), true),
            (Some(at(1, 9)), Some(at(2, 1)), true),
            (Some(at(1, 9)), Some(at(2, 0)), false),
            (Some(at(2, 0)), Some(at(1, 9)), false),
            (Some(at(1, 1)), None, false),
        ] {
            assert_eq!(link(acked, tail).pending(), pending, "{acked:?} {tail:?}");
        }
    }

    #[test]
    fn a_subscription_is_not_woken_by_its_own_wakes() {
        let state = born();
        assert!(state.matches("wake/other"));
        assert!(!state.matches("wake/pool"));
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_minute() {
        let middle: Vec<u64> = (1..=8).map(|failures| backoff_ms(failures, 0.5)).collect();
        assert_eq!(middle, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!((backoff_ms(1, 0.0), backoff_ms(1, 1.0), backoff_ms(u32::MAX, 1.0)), (800, 1_200, 72_000));
    }

    #[test]
    fn a_configuration_is_the_same_if_it_means_the_same() {
        let config = born().birth.config;
        assert_eq!(config.hash(), config.clone().hash());
        assert_ne!(config.hash(), Config { description: Some(String::new()), ..config.clone() }.hash());
        assert_ne!(config.hash(), Config { lease_ttl_ms: 1_001, ..config.clone() }.hash());
    }
}
