//! The rules in force.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fourfold_protocol::Refusal;

use crate::{
    AccessError, Credential, Explanation, Judgement, Options, Verb, Who, explain,
    hook::Said,
    refused,
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
        let before = self.state();
        let state = options.into().map(|options| State::of(options, before.as_deref())).transpose()?.map(Arc::new);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether a backend is asked for what rules and claims do not grant. What it grants may be for one address only.
    #[must_use]
    pub fn has_hook(&self) -> bool {
        self.state().is_some_and(|state| state.hook.is_some())
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

    /// Who brings this credential. Anonymous without one, and where everybody may do everything.
    ///
    /// Waits only for keys that have to be fetched, a few seconds at most. Cancel-safe.
    ///
    /// Errors: the token is no good, or cannot be judged now.
    pub async fn identify(&self, credential: Option<Credential<'_>>) -> Result<Who, Refusal> {
        let (Some(state), Some(credential)) = (self.state(), credential) else { return Ok(Who::default()) };
        let principal = principal(&state, credential.token).await?;
        Ok(Who(Some(principal)))
    }

    /// Whether they may do it. `path` is a stream's name, a call's name, or what stands behind `__ds/`.
    ///
    /// Errors: they may not, or it cannot be judged now.
    pub async fn judge(&self, who: &Who, verb: Verb, path: &str, address: Option<IpAddr>) -> Result<Grant, Refusal> {
        let Some(state) = self.state() else { return Ok(Grant { expires_at: None, public: true }) };
        if state.everybody.to(verb, path).is_some() {
            return Ok(Grant { expires_at: None, public: true });
        }
        let principal = match &who.0 {
            Some(principal) => Some(current(&state, principal).await?),
            None => None,
        };
        if let Some(principal) = &principal
            && principal.authenticated.to(verb, path).or_else(|| principal.claimed.to(verb, path)).is_some()
        {
            return Ok(Grant { expires_at: expires_at(&state, principal), public: false });
        }
        if let Some(hook) = &state.hook {
            let asked = Box::pin(hook.ask(principal.as_deref(), verb, path, address)); // Boxed: few questions come so far.
            match asked.await {
                Said::Allow(until) => {
                    let ends = principal.as_deref().and_then(|principal| expires_at(&state, principal));
                    return Ok(Grant { expires_at: until.into_iter().chain(ends).min(), public: false });
                }
                Said::Deny => {}
                Said::Nothing => return Err(refused::unavailable("the backend that decides does not answer")),
            }
        }
        let takes_tokens =
            !state.options.keys.is_empty() || state.options.hook.as_ref().is_some_and(|hook| hook.forward_token);
        Err(match principal {
            None if takes_tokens => refused::missing(),
            None => refused::not_permitted(verb, true),
            Some(_) => refused::not_permitted(verb, false),
        })
    }

    /// Everything that is to be said about a token; `None` where everybody may do everything. Fetches keys as [`identify`](Self::identify) does.
    pub async fn explain(&self, token: &str) -> Option<Explanation> {
        Some(explain::explain(&*self.state()?, token).await)
    }

    /// Why whoever brings `token`, or nobody in particular, may or may not, by rules and claims; the hook is not asked.
    pub async fn why(&self, token: Option<&str>, verb: Verb, path: &str) -> Judgement {
        match self.state() {
            Some(state) => explain::judge(&state, token, verb, path).await,
            None => Judgement::Granted("there are no rules: everybody may do everything".into()),
        }
    }

    /// Whether rules and claims alone grant it: for listings, which ask about thousands and cannot wait for the hook.
    #[must_use]
    pub fn allows(&self, who: &Who, verb: Verb, path: &str) -> bool {
        let Some(state) = self.state() else { return true };
        if state.everybody.to(verb, path).is_some() {
            return true;
        }
        let principal = who.0.as_ref().and_then(|principal| match principal.epoch == state.epoch() {
            true => state.still_good(principal.expires, now()).is_ok().then(|| Arc::clone(principal)),
            false => state.verify_at_once(&principal.token, now()).ok(),
        });
        principal.is_some_and(|p| p.authenticated.to(verb, path).or_else(|| p.claimed.to(verb, path)).is_some())
    }

    fn state(&self) -> Option<Arc<State>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whoever the token stands for, now.
pub(crate) async fn principal(state: &State, token: &str) -> Result<Arc<Principal>, Refusal> {
    let now = now();
    if let Some(known) = state.known(token) {
        state.still_good(known.expires, now)?;
        return Ok(known);
    }
    Ok(Box::pin(state.verify(token, now)).await?) // Boxed: a request that waits for no keys should not be larger for it.
}

/// The same principal under the keys and rules of now.
async fn current(state: &State, principal: &Arc<Principal>) -> Result<Arc<Principal>, Refusal> {
    if principal.epoch != state.epoch() {
        return self::principal(state, &principal.token).await;
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
