//! Who asks.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock},
};

use crate::{rules::Leave, state::Epoch};

/// Where a token stood in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// `Authorization: Bearer`.
    Header,
    /// A cookie, which a browser sends by itself.
    Cookie,
    /// An offered WebSocket subprotocol.
    Subprotocol,
    /// A query parameter.
    Query,
}

/// A token as it came.
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    /// Not yet looked at.
    pub token: &'a str,
    /// Where it stood.
    pub place: Place,
}

/// Who asks, as far as that is known: cheap to clone, shared by all connections that brought the same token.
#[derive(Clone, Debug, Default)]
pub struct Who(pub(crate) Option<Arc<Principal>>);

/// Whoever a good token stands for.
pub(crate) struct Principal {
    /// As it came: after a change of keys or rules it is looked at again.
    pub(crate) token: Arc<str>,
    /// Under which keys and rules it was found good.
    pub(crate) epoch: Epoch,
    /// Whether a key has signed it. If not, it means something to the hook only.
    pub(crate) verified: bool,
    pub(crate) subject: Option<String>,
    pub(crate) key: u64,
    /// In seconds since 1970.
    pub(crate) expires: Option<u64>,
    /// What the rules for every good token come to, with its claims in their places.
    pub(crate) authenticated: Leave,
    /// What its own claims grant.
    pub(crate) claimed: Leave,
    pub(crate) streams_max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
}

impl Who {
    /// Who brings no token.
    #[must_use]
    pub fn nobody() -> &'static Self {
        &Self(None)
    }

    /// Whether no token was brought.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.0.is_none()
    }

    /// The token's `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.as_ref()?.subject.as_deref()
    }

    /// A number for what is counted per token: the same for all tokens of a subject, and for a token without one its own. Another one after a restart.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        self.0.as_ref().map(|principal| principal.key)
    }

    /// The token's `streams-max`: how many streams it may bring into being.
    #[must_use]
    pub fn streams_max(&self) -> Option<u64> {
        self.0.as_ref()?.streams_max
    }

    /// The token's `bytes-max`: how many bytes of records there may be in the streams that its subject has created.
    #[must_use]
    pub fn bytes_max(&self) -> Option<u64> {
        self.0.as_ref()?.bytes_max
    }

    /// The claim that bounds the streams which its subject has created, if there is no subject (`sub`) to count them by: then it creates none.
    #[must_use]
    pub fn unaccountable(&self) -> Option<&'static str> {
        self.0.as_ref()?.unaccountable()
    }
}

impl Principal {
    /// See [`Who::unaccountable`].
    pub(crate) fn unaccountable(&self) -> Option<&'static str> {
        let said = [("streams-max", self.streams_max), ("bytes-max", self.bytes_max)];
        said.into_iter().find(|(_, max)| max.is_some() && self.subject.is_none()).map(|(claim, _)| claim)
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        2 * size_of::<Self>() + self.token.len() + self.authenticated.weight() + self.claimed.weight()
    }
}

/// See [`Who::key`].
pub(crate) fn number(subject: Option<&str>, token: &str) -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    KEYS.get_or_init(RandomState::new).hash_one(subject.map_or((1, token), |subject| (0, subject)))
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("place", &self.place).finish_non_exhaustive()
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("subject", &self.subject).finish_non_exhaustive()
    }
}
