//! What the configuration says about access, read and checked as far as it can be without asking anybody.

use std::{fmt, time::Duration};

use tokio_rustls::rustls::pki_types::CertificateDer;
use url::Url;

use crate::{Algorithm, Rules, state::keys_of};

/// The rules, the keys, and the hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// A token's `aud` names one of these. Not empty where there are keys.
    pub audience: Vec<String>,
    /// A token's `iss` is this.
    pub issuer: Option<String>,
    /// How far the clock of who signs tokens may be from ours.
    pub leeway: Duration,
    /// Takes tokens that never expire.
    pub allow_no_expiry: bool,
    /// The cookie that may carry a token.
    pub cookie: Option<String>,
    /// Whether the query parameter `access_token` may.
    pub query: bool,
    /// What tokens are verified with.
    pub keys: Vec<KeyOptions>,
    /// What everybody may do.
    pub anonymous: Rules,
    /// What everybody with a token that is good may do.
    pub authenticated: Rules,
    /// Whom to ask when neither rules nor claims decide.
    pub hook: Option<HookOptions>,
    /// Certificates that are trusted beside those of the system, by the fetches of keys and by the hook.
    pub roots: Vec<CertificateDer<'static>>,
}

/// A key, or where keys are found.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyOptions {
    /// What its tokens are signed by: one, or with [`Material::Jwks`] some.
    pub algorithms: Vec<Algorithm>,
    /// What tokens call it.
    pub kid: Option<String>,
    /// The key itself.
    pub material: Material,
}

/// What a key is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Material {
    /// Of HS256 and its kin: these bytes, known to who signs and to who verifies.
    Secret(Secret),
    /// A public key in PEM.
    Pem(String),
    /// A set of public keys, fetched.
    Jwks(JwksOptions),
}

/// Where a set of keys is, and how long what was found is good.
#[derive(Clone, Debug, PartialEq)]
pub struct JwksOptions {
    /// `https`, or `http` on this machine.
    pub url: Url,
    /// It is fetched anew so often.
    pub refresh: Duration,
    /// An unknown key has it fetched at most so often.
    pub refetch: Duration,
    /// What was found is used for so long while it cannot be fetched.
    pub stale: Duration,
}

/// A backend that is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct HookOptions {
    /// `http` or `https`.
    pub url: Url,
    /// How long an answer holds.
    pub cache: Duration,
    /// How long it may take.
    pub deadline: Duration,
    /// Whether it is given the token.
    pub forward_token: bool,
}

/// Bytes that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

/// Why the rules cannot be used: one clause that names the key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct AccessError {
    /// Such as `audience`, or `keys`.
    pub key: &'static str,
    /// Which of several, from 0.
    pub index: Option<usize>,
    /// What is wrong and what to write.
    pub why: String,
}

impl AccessError {
    pub(crate) fn new(key: &'static str, why: impl Into<String>) -> Self {
        Self { key, index: None, why: why.into() }
    }
}

impl Options {
    /// Looks whether they can be meant, keys included; fetches nothing.
    ///
    /// Errors: the first fault.
    pub fn check(&self) -> Result<(), AccessError> {
        keys_of(self).map(drop)
    }
}

impl JwksOptions {
    /// With the usual times.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            refresh: Duration::from_secs(600),
            refetch: Duration::from_secs(10),
            stale: Duration::from_secs(24 * 3600),
        }
    }
}

impl HookOptions {
    /// With the usual times.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, cache: Duration::from_secs(5), deadline: Duration::from_secs(2), forward_token: false }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            audience: Vec::new(),
            issuer: None,
            leeway: Duration::from_secs(30),
            allow_no_expiry: false,
            cookie: None,
            query: true,
            keys: Vec::new(),
            anonymous: Rules::default(),
            authenticated: Rules::default(),
            hook: None,
            roots: Vec::new(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
