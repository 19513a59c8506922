//! The keys and rules of one configuration, and the tokens that were found good under them.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    AccessError, Material, Options, Rules,
    claims::Claims,
    fault::Fault,
    key::Key,
    limits::{AUDIENCES_MAX, KEYS_MAX, KEYS_TRIED_MAX, LEEWAY_MAX, TOKENS_BYTES_MAX, TOKENS_MAX},
    recent::Recent,
    rules::Leave,
    token::{Header, Parts},
    who::{Principal, number},
};

/// Under which keys and rules a token was found good: a number that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

pub(crate) struct State {
    pub(crate) options: Options,
    /// What everybody may do.
    pub(crate) everybody: Leave,
    keys: Vec<Arc<Key>>,
    epoch: Epoch,
    tokens: RwLock<Recent<Arc<str>, Arc<Principal>>>,
}

impl State {
    /// Errors: what cannot be meant.
    pub(crate) fn of(options: Options) -> Result<Self, AccessError> {
        static EPOCHS: AtomicU64 = AtomicU64::new(0);
        check(&options)?;
        let mut keys = Vec::new();
        for (index, key) in options.keys.iter().enumerate() {
            let fault = |why| AccessError { key: "keys", index: Some(index), why };
            let &[algorithm] = key.algorithms.as_slice() else {
                return Err(fault("name one algorithm".into()));
            };
            let made = match &key.material {
                Material::Secret(secret) => Key::of_secret(algorithm, key.kid.clone(), &secret.0),
                Material::Pem(pem) => Key::of_pem(algorithm, key.kid.clone(), pem),
                Material::Jwks(_) => Err("a set of keys is not fetched yet".into()),
            };
            keys.push(Arc::new(made.map_err(fault)?));
        }
        Ok(Self {
            everybody: options.anonymous.filled(&Claims::default()),
            options,
            keys,
            epoch: Epoch(EPOCHS.fetch_add(1, Ordering::Relaxed)),
            tokens: RwLock::new(Recent::new(TOKENS_MAX, TOKENS_BYTES_MAX)),
        })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A token that was found good under the keys and rules of now, if it is remembered. It may have expired since.
    pub(crate) fn known(&self, token: &str) -> Option<Arc<Principal>> {
        let (principal, fading) = self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(token)?;
        if principal.epoch != self.epoch() {
            return None;
        }
        if fading {
            self.remember(&principal);
        }
        Some(principal)
    }

    /// Looks at a token that is not remembered.
    pub(crate) fn verify(&self, token: &str, now: u64) -> Result<Arc<Principal>, Fault> {
        if self.options.keys.is_empty() {
            return Err(Fault::NotTaken);
        }
        let epoch = self.epoch(); // Before the keys are looked at: one that goes meanwhile takes the token with it.
        let parts = Parts::of(token)?;
        let candidates = self.candidates(&parts.header)?;
        if !candidates.iter().any(|key| key.verifies(parts.signed, parts.signature)) {
            return Err(Fault::Signature);
        }
        let claims = Claims::decode(parts.claims)?;
        let expires = self.admit(&claims, now)?;
        let subject = claims.string("sub")?.map(str::to_owned);
        let principal = Arc::new(Principal {
            token: token.into(),
            epoch,
            key: number(subject.as_deref(), token),
            subject,
            expires,
            authenticated: self.options.authenticated.filled(&claims),
            claimed: claims.leave()?,
            streams_max: claims.count("streams-max")?,
            bytes_max: claims.count("bytes-max")?,
        });
        self.remember(&principal);
        Ok(principal)
    }

    /// The keys that a token with this header may be signed by.
    fn candidates(&self, header: &Header) -> Result<Vec<Arc<Key>>, Fault> {
        let mut kin = self.keys.iter().filter(|key| key.algorithm == header.algorithm).peekable();
        if kin.peek().is_none() {
            return Err(Fault::Algorithm);
        }
        let Some(kid) = &header.kid else { return Ok(kin.take(KEYS_TRIED_MAX).cloned().collect()) };
        let (named, unnamed): (Vec<_>, Vec<_>) = kin
            .filter(|key| key.kid.as_ref().is_none_or(|ours| ours == kid))
            .cloned()
            .partition(|key| key.kid.is_some());
        // A key that nobody named may be called anything by who signs.
        let found = if named.is_empty() { unnamed } else { named };
        if found.is_empty() { Err(Fault::UnknownKey) } else { Ok(found.into_iter().take(KEYS_TRIED_MAX).collect()) }
    }

    /// Whether a token with these claims is for us, and now. Returns when it expires.
    fn admit(&self, claims: &Claims, now: u64) -> Result<Option<u64>, Fault> {
        if !claims.is_for(&self.options.audience) {
            return Err(Fault::Audience);
        }
        if let Some(issuer) = &self.options.issuer
            && claims.string("iss")? != Some(issuer)
        {
            return Err(Fault::Issuer);
        }
        let expires = claims.moment("exp")?;
        if expires.is_none() && !self.options.allow_no_expiry {
            return Err(Fault::NoExpiry);
        }
        self.still_good(expires, now)?;
        if let Some(from) = claims.moment("nbf")?
            && from > now + self.options.leeway.as_secs()
        {
            return Err(Fault::Early(from - now));
        }
        Ok(expires)
    }

    /// Errors: it has expired.
    pub(crate) fn still_good(&self, expires: Option<u64>, now: u64) -> Result<(), Fault> {
        match expires {
            Some(expires) if now >= expires + self.options.leeway.as_secs() => Err(Fault::Expired(now - expires)),
            _ => Ok(()),
        }
    }

    fn remember(&self, principal: &Arc<Principal>) {
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(Arc::clone(&principal.token), Arc::clone(principal), principal.weight());
    }
}

/// In seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn check(options: &Options) -> Result<(), AccessError> {
    let fault = |key, why: String| Err(AccessError::new(key, why));
    if !options.keys.is_empty() && options.audience.is_empty() {
        return fault("audience", "name what the 'aud' of tokens says, else a token for any other service of the same issuer is good here, too: audience = \"fourfold\"".into());
    }
    if options.audience.len() > AUDIENCES_MAX {
        return fault("audience", format!("there are more than {AUDIENCES_MAX}"));
    }
    if options.audience.iter().chain(&options.issuer).any(String::is_empty) {
        return fault("audience", "audience and issuer are not empty".into());
    }
    if options.keys.len() > KEYS_MAX {
        return fault("keys", format!("there are more than {KEYS_MAX}"));
    }
    if options.leeway > LEEWAY_MAX {
        return fault("leeway", format!("{:?} is too long; at most {LEEWAY_MAX:?}", options.leeway));
    }
    if options.anonymous.claim().is_some() {
        return fault(
            "anonymous",
            "a rule for everybody has no place for a claim: who brings no token has none".into(),
        );
    }
    let is_idle = |rules: &Rules| !rules.is_empty() && options.keys.is_empty();
    if is_idle(&options.authenticated) {
        return fault(
            "authenticated",
            "these rules are for tokens, and there are no [[access.keys]] to know a good one by".into(),
        );
    }
    Ok(())
}
