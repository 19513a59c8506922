//! The rules in force.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fourfold_protocol::Refusal;

use crate::{
    AccessError, Credential, Options, Verb, Who, refused,
    state::{State, now},
    who::Principal,
};

/// The rules in force. Cheap to clone; all clones follow a reload.
#[derive(Clone, Default)]
pub struct Access {
    /// `None`: everybody may do everything.
    state: Arc<RwLock<Option<Arc<State>>>>,
}

/// Leave to do what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Until then. A read that goes on says goodbye before it.
    pub expires_at: Option<SystemTime>,
    /// Nobody in particular was granted it: caches may give the answer to others.
    pub public: bool,
}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Takes these rules, or with `None` lets everybody do everything. Sets of keys are fetched by tasks that are spawned here; nobody waits for them.
    ///
    /// Errors: what cannot be meant. Panics if there is no tokio runtime.
    pub async fn start(options: impl Into<Option<Options>>) -> Result<Self, AccessError> {
        let access = Self::default();
        access.reload(options)?;
        Ok(access)
    }

    /// Takes these rules in place of those in force, for connections that are open, too: what they hold is looked at anew when they next ask. A
    /// fault leaves the old rules in force. Sets of keys that both have are kept.
    ///
    /// Errors: what cannot be meant. Panics if there is no tokio runtime.
    pub fn reload(&self, options: impl Into<Option<Options>>) -> Result<(), AccessError> {
        let state = options.into().map(State::of).transpose()?.map(Arc::new);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The cookie that may carry a token.
    #[must_use]
    pub fn cookie_name(&self) -> Option<String> {
        self.state()?.options.cookie.clone()
    }

    /// The query parameter that may carry a token.
    #[must_use]
    pub fn query_name(&self) -> Option<&'static str> {
        self.state()?.options.query.then_some("access_token")
    }

    /// Pages of other origins that may use the server: origins such as `https://app.example`, or `*`.
    #[must_use]
    pub fn origins(&self) -> Vec<String> {
        self.state().map(|state| state.options.origins.clone()).unwrap_or_default()
    }

    /// Who brings this credential. Anonymous without one, and where everybody may do everything.
    ///
    /// Waits only for keys that have to be fetched, a few seconds at most. Cancel-safe.
    ///
    /// Errors: the token is no good, or cannot be judged now.
    pub async fn identify(&self, credential: Option<Credential<'_>>) -> Result<Who, Refusal> {
        let (Some(state), Some(credential)) = (self.state(), credential) else { return Ok(Who::default()) };
        principal(&state, credential.token).map(|principal| Who(Some(principal)))
    }

    /// Whether they may do it. `path` is a stream's name, a call's name, or what stands behind `__ds/`.
    ///
    /// Errors: they may not, or it cannot be judged now.
    pub async fn judge(&self, who: &Who, verb: Verb, path: &str, _address: Option<IpAddr>) -> Result<Grant, Refusal> {
        let Some(state) = self.state() else { return Ok(Grant { expires_at: None, public: true }) };
        if state.everybody.to(verb, path).is_some() {
            return Ok(Grant { expires_at: None, public: true });
        }
        let Some(principal) = &who.0 else {
            return Err(if state.options.keys.is_empty() {
                refused::not_permitted(verb, true)
            } else {
                refused::missing()
            });
        };
        let principal = current(&state, principal)?;
        if principal.authenticated.to(verb, path).or_else(|| principal.claimed.to(verb, path)).is_some() {
            return Ok(Grant { expires_at: expires_at(&state, &principal), public: false });
        }
        Err(refused::not_permitted(verb, false))
    }

    /// Whether rules and claims alone grant it: for listings, which ask about thousands and cannot wait for the hook.
    #[must_use]
    pub fn allows(&self, who: &Who, verb: Verb, path: &str) -> bool {
        let Some(state) = self.state() else { return true };
        if state.everybody.to(verb, path).is_some() {
            return true;
        }
        let principal = who.0.as_ref().and_then(|principal| current(&state, principal).ok());
        principal.is_some_and(|p| p.authenticated.to(verb, path).or_else(|| p.claimed.to(verb, path)).is_some())
    }

    fn state(&self) -> Option<Arc<State>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whoever the token stands for, now.
fn principal(state: &State, token: &str) -> Result<Arc<Principal>, Refusal> {
    let now = now();
    if let Some(known) = state.known(token) {
        state.still_good(known.expires, now)?;
        return Ok(known);
    }
    Ok(state.verify(token, now)?)
}

/// The same principal under the keys and rules of now.
fn current(state: &State, principal: &Arc<Principal>) -> Result<Arc<Principal>, Refusal> {
    if principal.epoch != state.epoch() {
        return self::principal(state, &principal.token);
    }
    state.still_good(principal.expires, now())?;
    Ok(Arc::clone(principal))
}

/// When what a token grants ends: with the token, or if that moment has passed, with the leeway that it is in.
fn expires_at(state: &State, principal: &Principal) -> Option<SystemTime> {
    let at = UNIX_EPOCH + Duration::from_secs(principal.expires?);
    Some(if at > SystemTime::now() { at } else { at + state.options.leeway })
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}
