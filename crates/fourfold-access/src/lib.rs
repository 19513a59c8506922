//! Who may do what: tokens, rules for those who bring none, and the hook to a backend of the user's own.
//!
//! ```text
//! credential ── identify ──► Who ── judge(verb, path) ──► Grant, or a refusal
//! ```
//!
//! Nothing here knows whether a stream exists, so that no refusal can tell.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use fourfold_protocol::Refusal;

/// What a request wants to do with what its path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read a stream by any transport, or its metadata.
    Read,
    /// Append to a stream, or close it.
    Append,
    /// Create a stream.
    Create,
    /// Delete a stream, or cancel a call.
    Delete,
    /// See a stream or a call in a listing.
    List,
    /// Begin the call of this name.
    Call,
    /// Have a worker woken: the control interfaces below `__ds`.
    Control,
}

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
#[derive(Clone, Copy, Debug)]
pub struct Credential<'a> {
    /// Not yet looked at.
    pub token: &'a str,
    /// Where it stood.
    pub place: Place,
}

/// Who asks, as far as that is known: cheap to clone, shared by all connections that brought the same token.
#[derive(Clone, Debug, Default)]
pub struct Who(Option<Arc<Principal>>);

#[derive(Debug)]
struct Principal {}

/// Leave to do what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Until then. A read that goes on says goodbye before it.
    pub expires_at: Option<SystemTime>,
    /// Nobody in particular was granted it: caches may give the answer to others.
    pub public: bool,
}

/// The rules in force. Cheap to clone; all clones follow a reload.
#[derive(Clone, Debug, Default)]
pub struct Access {}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        true
    }

    /// Who brings this credential. Anonymous without one.
    ///
    /// Errors: the token is no good, or cannot be judged now.
    pub async fn identify(&self, _credential: Option<Credential<'_>>) -> Result<Who, Refusal> {
        Ok(Who::default())
    }

    /// Whether they may do it. `path` is a stream's name, a call's name, or what stands behind `__ds/`.
    ///
    /// Errors: they may not, or it cannot be judged now.
    pub async fn judge(
        &self,
        _who: &Who,
        _verb: Verb,
        _path: &str,
        _address: Option<IpAddr>,
    ) -> Result<Grant, Refusal> {
        Ok(Grant { expires_at: None, public: true })
    }
}
