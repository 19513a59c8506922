//! The keys and rules of one configuration, and the tokens that were found good under them.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use fourfold_protocol::Refusal;
use serde_json::Value;
use url::{Host, Url};

use crate::{
    AccessError, Algorithm, JwksOptions, KeyOptions, Material, Options, Rules,
    claims::Claims,
    fault::Fault,
    hook::Hook,
    jwks::Source,
    key::Key,
    limits::{
        AUDIENCES_MAX, HOOK_CACHE_MAX, HOOK_DEADLINE_MAX, KEYS_MAX, KEYS_TRIED_MAX, LEEWAY_MAX, TOKEN_BYTES_MAX,
        TOKENS_BYTES_MAX, TOKENS_MAX,
    },
    recent::Recent,
    refused,
    rules::Leave,
    token::{Header, Parts},
    who::{Principal, number},
};

/// Under which keys and rules a token was found good: a number that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u64, u64);

/// Why a token does not stand for anybody now.
#[derive(Debug)]
pub(crate) enum Unknown {
    /// It is no good.
    Fault(Fault),
    /// A set of keys is not there.
    Unavailable,
}

pub(crate) struct State {
    pub(crate) options: Options,
    /// What everybody may do.
    pub(crate) everybody: Leave,
    pub(crate) hook: Option<Hook>,
    keys: Vec<Arc<Key>>,
    sources: Vec<Arc<Source>>,
    number: u64,
    tokens: RwLock<Recent<Arc<str>, Arc<Principal>>>,
}

impl State {
    /// Keeps the sets of keys of `before` that are still asked for. Errors: what cannot be meant; nothing has begun then.
    pub(crate) fn of(options: Options, before: Option<&Self>) -> Result<Self, AccessError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let keys = keys_of(&options)?;
        let source = |(jwks, algorithms): (&JwksOptions, &[Algorithm])| {
            let is_same = |source: &&Arc<Source>| source.options == *jwks && source.algorithms == algorithms;
            let kept = before.filter(|before| before.options.roots == options.roots);
            let kept = kept.and_then(|before| before.sources.iter().find(is_same).cloned());
            kept.unwrap_or_else(|| Arc::new(Source::start(jwks.clone(), algorithms.to_vec(), options.roots.clone())))
        };
        Ok(Self {
            sources: sets_of(&options).map(source).collect(),
            hook: options.hook.clone().map(|hook| Hook::new(hook, options.roots.clone())),
            everybody: options.anonymous.filled(&Claims::default()),
            options,
            keys,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            tokens: RwLock::new(Recent::new(TOKENS_MAX, TOKENS_BYTES_MAX)),
        })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.number, self.sources.iter().map(|source| source.removals()).sum())
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
    pub(crate) async fn verify(&self, token: &str, now: u64) -> Result<Arc<Principal>, Unknown> {
        if self.options.keys.is_empty() {
            return self.opaque(token).map_err(Unknown::Fault);
        }
        let parts = Parts::of(token)?;
        match self.attempt(token, &parts, now) {
            Err(Fault::Algorithm | Fault::UnknownKey | Fault::Signature) => {}
            done => return Ok(done?),
        }
        // A key that is not known yet may have signed it.
        let may_know = |source: &&Arc<Source>| source.algorithms.contains(&parts.header.algorithm);
        let sources: Vec<_> = self.sources.iter().filter(may_know).collect();
        for source in &sources {
            source.refresh().await;
        }
        match self.attempt(token, &parts, now) {
            // A key that has its name and did not sign it decides; else one that cannot be fetched may have.
            Err(Fault::Algorithm | Fault::UnknownKey | Fault::Signature)
                if !self.is_named(&parts.header) && sources.iter().any(|source| !source.is_current()) =>
            {
                Err(Unknown::Unavailable)
            }
            done => Ok(done?),
        }
    }

    /// The same by the keys that are here, for those who cannot wait.
    pub(crate) fn verify_at_once(&self, token: &str, now: u64) -> Result<Arc<Principal>, Fault> {
        if self.options.keys.is_empty() {
            return self.opaque(token);
        }
        match self.known(token) {
            Some(known) => self.still_good(known.expires, now).map(|()| known),
            None => self.attempt(token, &Parts::of(token)?, now),
        }
    }

    fn attempt(&self, token: &str, parts: &Parts<'_>, now: u64) -> Result<Arc<Principal>, Fault> {
        let epoch = self.epoch(); // Before the keys are looked at: one that goes meanwhile takes the token with it.
        self.signed_by(parts)?;
        let claims = Claims::decode(parts.claims)?;
        let expires = self.admit(&claims, now)?;
        let subject = claims.string("sub")?.map(str::to_owned);
        let principal = Arc::new(Principal {
            token: token.into(),
            epoch,
            verified: true,
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

    /// The key that has signed it.
    pub(crate) fn signed_by(&self, parts: &Parts<'_>) -> Result<Arc<Key>, Fault> {
        let mut candidates = self.candidates(&parts.header)?.into_iter();
        candidates.find(|key| key.verifies(parts.signed, parts.signature)).ok_or(Fault::Signature)
    }

    /// Without keys a token means something only to the hook, if that is given it.
    fn opaque(&self, token: &str) -> Result<Arc<Principal>, Fault> {
        if !self.options.hook.as_ref().is_some_and(|hook| hook.forward_token) {
            return Err(Fault::NotTaken);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        Ok(Arc::new(Principal {
            token: token.into(),
            epoch: self.epoch(),
            verified: false,
            key: number(None, token),
            subject: None,
            expires: None,
            authenticated: Leave::default(),
            claimed: Leave::default(),
            streams_max: None,
            bytes_max: None,
        }))
    }

    /// Whether a key is called as the header says.
    fn is_named(&self, header: &Header) -> bool {
        header.kid.is_some() && self.candidates(header).is_ok_and(|keys| keys.iter().any(|key| key.kid == header.kid))
    }

    /// The keys that a token with this header may be signed by.
    fn candidates(&self, header: &Header) -> Result<Vec<Arc<Key>>, Fault> {
        let fetched = self.sources.iter().flat_map(|source| source.keys());
        let mut kin =
            self.keys.iter().cloned().chain(fetched).filter(|key| key.algorithm == header.algorithm).peekable();
        if kin.peek().is_none() {
            return Err(Fault::Algorithm);
        }
        let Some(kid) = &header.kid else { return Ok(kin.take(KEYS_TRIED_MAX).collect()) };
        let (named, unnamed): (Vec<_>, Vec<_>) =
            kin.filter(|key| key.kid.as_ref().is_none_or(|ours| ours == kid)).partition(|key| key.kid.is_some());
        // A key that nobody named may be called anything by who signs.
        let found = if named.is_empty() { unnamed } else { named };
        if found.is_empty() { Err(Fault::UnknownKey) } else { Ok(found.into_iter().take(KEYS_TRIED_MAX).collect()) }
    }

    /// Whether a token with these claims is for us, and now. Returns when it expires.
    fn admit(&self, claims: &Claims, now: u64) -> Result<Option<u64>, Fault> {
        match self.faults(claims, now).into_iter().next() {
            Some(fault) => Err(fault),
            None => claims.moment("exp"),
        }
    }

    /// Why a token with these claims is not for us, or not now.
    pub(crate) fn faults(&self, claims: &Claims, now: u64) -> Vec<Fault> {
        let issuer = || match &self.options.issuer {
            Some(issuer) if claims.get("iss").and_then(Value::as_str) != Some(issuer) => Err(Fault::Issuer),
            _ => Ok(()),
        };
        let end = || match claims.moment("exp")? {
            None if !self.options.allow_no_expiry => Err(Fault::NoExpiry),
            expires => self.still_good(expires, now),
        };
        let beginning = || match claims.moment("nbf")? {
            Some(from) if from > now + self.options.leeway.as_secs() => Err(Fault::Early(from - now)),
            _ => Ok(()),
        };
        let audience = if claims.is_for(&self.options.audience) { Ok(()) } else { Err(Fault::Audience) };
        [audience, issuer(), end(), beginning()].into_iter().filter_map(Result::err).collect()
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

impl From<Fault> for Unknown {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Unknown> for Refusal {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Fault(fault) => fault.into(),
            Unknown::Unavailable => refused::unavailable("the keys that verify tokens cannot be fetched"),
        }
    }
}

/// In seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Makes the keys that are there. Errors: what cannot be meant, of all the options.
pub(crate) fn keys_of(options: &Options) -> Result<Vec<Arc<Key>>, AccessError> {
    check(options)?;
    let mut keys = Vec::new();
    for (index, key) in options.keys.iter().enumerate() {
        let fault = |why| AccessError { key: "keys", index: Some(index), why };
        if let Material::Jwks(jwks) = &key.material {
            check_jwks(key, jwks).map_err(fault)?;
            continue;
        }
        let &[algorithm] = key.algorithms.as_slice() else {
            return Err(fault("name one algorithm".into()));
        };
        let made = match &key.material {
            Material::Secret(secret) => Key::of_secret(algorithm, key.kid.clone(), &secret.0),
            Material::Pem(pem) => Key::of_pem(algorithm, key.kid.clone(), pem),
            Material::Jwks(_) => unreachable!("a set is not made here"),
        };
        keys.push(Arc::new(made.map_err(fault)?));
    }
    Ok(keys)
}

fn sets_of(options: &Options) -> impl Iterator<Item = (&JwksOptions, &[Algorithm])> {
    options.keys.iter().filter_map(|key| match &key.material {
        Material::Jwks(jwks) => Some((jwks, key.algorithms.as_slice())),
        _ => None,
    })
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
    let is_token =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if options.cookie.as_ref().is_some_and(|name| !is_token(name)) {
        return fault("cookie", "write a name of letters, digits, '_', '-' and '.'".into());
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
    if let Some(hook) = &options.hook {
        if !matches!(hook.url.scheme(), "http" | "https") || hook.url.host().is_none() {
            return fault("hook", "url: write one that begins with https:// or http://".into());
        }
        if has_password(&hook.url) {
            return fault("hook", "url: a user's name and password in it are not sent".into());
        }
        if hook.deadline.is_zero() || hook.deadline > HOOK_DEADLINE_MAX {
            return fault("hook", format!("deadline: give more than nothing and at most {HOOK_DEADLINE_MAX:?}"));
        }
        if hook.cache > HOOK_CACHE_MAX {
            return fault("hook", format!("cache: at most {HOOK_CACHE_MAX:?}"));
        }
    }
    Ok(())
}

fn check_jwks(key: &KeyOptions, jwks: &JwksOptions) -> Result<(), String> {
    if key.algorithms.is_empty() {
        return Err(
            "name the algorithms that its keys are taken for: algorithm = \"RS256\", or [\"RS256\", \"ES256\"]".into(),
        );
    }
    if let Some(shared) = key.algorithms.iter().find(|algorithm| algorithm.is_shared()) {
        return Err(format!("{shared} is by a secret, and a set of keys that is fetched has none"));
    }
    if key.kid.is_some() {
        return Err("the keys of a set have names of their own: leave 'kid' out".into());
    }
    let is_here = match jwks.url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if jwks.url.scheme() != "https" && !(jwks.url.scheme() == "http" && is_here) {
        return Err("jwks: keys that come over the network unprotected are anybody's: write an https:// URL".into());
    }
    if has_password(&jwks.url) {
        return Err("jwks: a user's name and password in it are not sent".into());
    }
    if jwks.refresh.is_zero() || jwks.refetch.is_zero() || jwks.stale < jwks.refresh {
        return Err("jwks: refresh is more than nothing, and stale at least as long".into());
    }
    Ok(())
}

fn has_password(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}
