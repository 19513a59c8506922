//! A set of keys that is fetched: by one task, which is the only one that ever asks the endpoint.
//!
//! It fetches when it begins, when what it has is old, and when somebody brings a key that it does not know; the last not more often than the
//! configuration says, so that a flood of unknown names costs the endpoint nothing. What was found is kept while the endpoint is down, for so long as the
//! configuration says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::{
    Algorithm, JwksOptions,
    backend::{Backend, Unanswered},
    claims::depth,
    key::Key,
    limits::{CLAIMS_DEPTH_MAX, JWKS_BYTES_MAX, JWKS_KEYS_MAX, JWKS_PAUSE_MAX, JWKS_WAIT_MAX},
};

/// A set of keys and the task that fetches it, which ends with this.
pub(crate) struct Source {
    pub(crate) options: JwksOptions,
    pub(crate) algorithms: Vec<Algorithm>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    found: watch::Sender<Found>,
    /// Somebody brings a key that is not known.
    wanted: Notify,
    /// How often a key has gone.
    removals: AtomicU64,
}

/// What is known now.
#[derive(Clone, Default)]
struct Found {
    /// With what each was made of.
    keys: Arc<Vec<(Value, Arc<Key>)>>,
    /// When the keys were fetched, unless they never were or are too old by now.
    fetched: Option<Instant>,
    /// Whether the last fetch failed.
    failed: bool,
    /// How many fetches have ended.
    ended: u64,
    /// When the last one began.
    began: Option<Instant>,
    under_way: bool,
}

/// Why a set is not one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfetched {
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error("the answer was {0}")]
    Status(StatusCode),
    #[error("the answer is not a set of keys")]
    Garbled,
    #[error("none of its keys is one of the configured algorithms")]
    Useless,
}

impl Source {
    /// Begins to fetch. Panics if there is no tokio runtime.
    pub(crate) fn start(options: JwksOptions, algorithms: Vec<Algorithm>, roots: Vec<CertificateDer<'static>>) -> Self {
        let shared =
            Arc::new(Shared { found: watch::Sender::default(), wanted: Notify::new(), removals: AtomicU64::new(0) });
        let backend = Backend::new(options.url.clone(), roots);
        let task = tokio::spawn(follow(options.clone(), algorithms.clone(), backend, Arc::clone(&shared)));
        Self { options, algorithms, shared, task: task.abort_handle() }
    }

    /// All keys that are known.
    pub(crate) fn keys(&self) -> Vec<Arc<Key>> {
        self.shared.found.borrow().keys.iter().map(|(_, key)| Arc::clone(key)).collect()
    }

    /// How often a key has gone: what was found good before may not be any more.
    pub(crate) fn removals(&self) -> u64 {
        self.shared.removals.load(Ordering::Acquire)
    }

    /// Whether what is known is all that there is: it was fetched, and the endpoint is not down.
    pub(crate) fn is_current(&self) -> bool {
        let found = self.shared.found.borrow();
        found.fetched.is_some() && !found.failed
    }

    /// Has it fetched anew if that was long enough ago, and waits for the end of a fetch that is under way. Cancel-safe.
    pub(crate) async fn refresh(&self) {
        let mut found = self.shared.found.subscribe();
        let (ended, wait) = {
            let now = found.borrow();
            let may = now.began.is_none_or(|began| began.elapsed() >= self.options.refetch);
            if may && !now.under_way && now.ended > 0 {
                self.shared.wanted.notify_one();
            }
            (now.ended, may || now.under_way || now.ended == 0)
        };
        if wait {
            let _ = timeout(JWKS_WAIT_MAX, found.wait_for(|found| found.ended != ended)).await;
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(options: JwksOptions, algorithms: Vec<Algorithm>, backend: Backend, shared: Arc<Shared>) {
    let mut pause = PAUSE_FIRST;
    loop {
        shared.found.send_modify(|found| {
            found.began = Some(Instant::now());
            found.under_way = true;
        });
        let fetched = fetch(&backend, &algorithms).await;
        let next = match fetched {
            Ok(keys) => {
                take(&shared, keys);
                pause = PAUSE_FIRST;
                Instant::now() + options.refresh
            }
            Err(error) => {
                tracing::warn!(host = options.url.host_str(), %error, "the keys that verify tokens cannot be fetched");
                let next = Instant::now() + pause.min(options.refresh);
                pause = (pause * 2).min(JWKS_PAUSE_MAX);
                shared.found.send_modify(|found| {
                    found.failed = true;
                    found.under_way = false;
                    found.ended += 1;
                });
                next
            }
        };
        wait(&options, &shared, next).await;
    }
}

/// Until `next`, or until somebody needs a key; meanwhile what is too old goes.
async fn wait(options: &JwksOptions, shared: &Shared, next: Instant) {
    loop {
        let (began, stale) = {
            let found = shared.found.borrow();
            (found.began, found.fetched.map(|fetched| fetched + options.stale))
        };
        let wanted = async {
            shared.wanted.notified().await;
            began.is_none_or(|began| began.elapsed() >= options.refetch)
        };
        tokio::select! {
            () = sleep_until(next) => return,
            may = wanted => if may { return },
            () = sleep_until(stale.unwrap_or(next)), if stale.is_some_and(|stale| stale < next) => {
                tracing::warn!(host = options.url.host_str(), "the keys that verify tokens are too old to be used");
                shared.found.send_modify(|found| {
                    found.keys = Arc::default();
                    found.fetched = None;
                });
                shared.removals.fetch_add(1, Ordering::Release);
            }
        }
    }
}

/// Keys that were there before stay what they are.
fn take(shared: &Shared, keys: Vec<(Value, Key)>) {
    let old = Arc::clone(&shared.found.borrow().keys);
    let known = |jwk: &Value| old.iter().find(|(before, _)| before == jwk).map(|(_, key)| Arc::clone(key));
    let keys: Vec<_> = keys
        .into_iter()
        .map(|(jwk, key)| {
            let key = known(&jwk).unwrap_or_else(|| Arc::new(key));
            (jwk, key)
        })
        .collect();
    let has_gone = old.iter().any(|(before, _)| keys.iter().all(|(jwk, _)| jwk != before));
    shared.found.send_modify(|found| {
        found.keys = Arc::new(keys);
        found.fetched = Some(Instant::now());
        found.failed = false;
        found.under_way = false;
        found.ended += 1;
    });
    if has_gone {
        // After the keys: whoever sees the new number must not see the old keys.
        shared.removals.fetch_add(1, Ordering::Release);
    }
}

async fn fetch(backend: &Backend, algorithms: &[Algorithm]) -> Result<Vec<(Value, Key)>, Unfetched> {
    let (status, body) = backend.ask(Method::GET, Bytes::new(), JWKS_BYTES_MAX, JWKS_WAIT_MAX).await?;
    if status != StatusCode::OK {
        return Err(Unfetched::Status(status));
    }
    read(&body, algorithms)
}

/// The keys of a set that are of use here. What else is in it is passed over: providers publish keys for other purposes, too.
pub(crate) fn read(body: &[u8], algorithms: &[Algorithm]) -> Result<Vec<(Value, Key)>, Unfetched> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    // serde would take an array for the members in their order.
    if depth(body) > CLAIMS_DEPTH_MAX || !body.trim_ascii_start().starts_with(b"{") {
        return Err(Unfetched::Garbled);
    }
    let set: Set = serde_json::from_slice(body).map_err(|_| Unfetched::Garbled)?;
    let good = set.keys.into_iter().filter_map(|jwk| {
        let key = Key::of_jwk(&jwk, algorithms)?;
        Some((jwk, key))
    });
    let keys: Vec<_> = good.take(JWKS_KEYS_MAX).collect();
    if keys.is_empty() { Err(Unfetched::Useless) } else { Ok(keys) }
}

const PAUSE_FIRST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_keys_for_signatures_of_the_configured_algorithms_are_taken() {
        let ed = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037, appendix A.2
        let p256 = json!({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}); // RFC 7515, A.3
        let with = |mut key: Value, more: Value| {
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let okp = json!({"kty": "OKP", "crv": "Ed25519", "x": ed, "kid": "ed"});
        let all = [Algorithm::EdDsa, Algorithm::Es256];
        let taken = |key: &Value, algorithms: &[Algorithm]| {
            read(json!({ "keys": [key] }).to_string().as_bytes(), algorithms).is_ok()
        };
        for good in [
            okp.clone(),
            with(okp.clone(), json!({"use": "sig", "alg": "EdDSA", "key_ops": ["verify"]})),
            p256.clone(),
            with(p256.clone(), json!({"alg": "ES256"})),
        ] {
            assert!(taken(&good, &all), "{good}");
        }
        assert!(!taken(&okp, &[Algorithm::Es256]), "not a configured algorithm");
        for bad in [
            with(okp.clone(), json!({"use": "enc"})),
            with(okp.clone(), json!({"key_ops": ["sign"]})),
            with(okp.clone(), json!({"alg": "RS256"})),
            with(okp.clone(), json!({"x": "AAAA"})),
            with(okp.clone(), json!({"kid": 7})),
            with(p256.clone(), json!({"crv": "P-384"})),
            with(p256, json!({"x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
            json!({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            json!("x"),
        ] {
            assert!(!taken(&bad, &[Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256, Algorithm::Hs256]), "{bad}");
        }
    }

    #[test]
    fn an_array_is_no_set_and_its_first_element_no_list_of_keys() {
        let okp = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let is_set = |text: String| read(text.as_bytes(), &[Algorithm::EdDsa]).is_ok();
        assert!(is_set(format!(" {{\"keys\":[{okp}]}}")));
        assert!(!is_set(format!("[[{okp}]]")));
    }
}
