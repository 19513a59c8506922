//! Keys, tokens and questions.

use std::time::{SystemTime, UNIX_EPOCH};

use fourfold_access::{
    Access, Algorithm, Credential, Grant, KeyOptions, Material, Options, Place, Rules, Secret, Verb, Who, mint::Signer,
};
use fourfold_protocol::Refusal;
use serde_json::{Map, Value, json};

pub(crate) const SECRET: &[u8] = b"a secret of the tests, 32 bytes or more";
pub(crate) const OTHER_SECRET: &[u8] = b"another secret of the tests, as long as it";

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Takes tokens of `SECRET` for `fourfold`.
pub(crate) fn options() -> Options {
    Options { audience: vec!["fourfold".into()], keys: vec![secret(SECRET, None)], ..Options::default() }
}

pub(crate) fn secret(secret: &[u8], kid: Option<&str>) -> KeyOptions {
    KeyOptions {
        algorithms: vec![Algorithm::Hs256],
        kid: kid.map(str::to_owned),
        material: Material::Secret(Secret(secret.to_vec())),
    }
}

pub(crate) fn pem(algorithm: Algorithm, kid: Option<&str>, pem: &str) -> KeyOptions {
    KeyOptions { algorithms: vec![algorithm], kid: kid.map(str::to_owned), material: Material::Pem(pem.to_owned()) }
}

pub(crate) fn signer(secret: &[u8], kid: Option<&str>) -> Signer {
    Signer::of_secret(Algorithm::Hs256, kid.map(str::to_owned), &Secret(secret.to_vec())).unwrap()
}

/// Claims for an hour, with what `more` says besides or instead; `null` takes a claim away.
pub(crate) fn claims(more: Value) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("aud".into(), json!("fourfold"));
    claims.insert("exp".into(), json!(now() + 3600));
    let Value::Object(more) = more else { panic!("claims are an object") };
    for (name, value) in more {
        if value.is_null() {
            claims.remove(&name);
        } else {
            claims.insert(name, value);
        }
    }
    claims
}

/// A token of `SECRET`.
pub(crate) fn token(more: Value) -> String {
    signer(SECRET, None).sign(&claims(more)).unwrap()
}

pub(crate) async fn start(options: Options) -> Access {
    Access::start(options).await.unwrap()
}

pub(crate) async fn identify(access: &Access, token: &str) -> Result<Who, Refusal> {
    access.identify(Some(Credential { token, place: Place::Header })).await
}

/// Whether the bearer of `token` may, from nowhere in particular.
pub(crate) async fn ask(access: &Access, token: Option<&str>, verb: Verb, path: &str) -> Result<Grant, Refusal> {
    let who = match token {
        Some(token) => identify(access, token).await?,
        None => access.identify(None).await?,
    };
    access.judge(&who, verb, path, None).await
}

pub(crate) fn rules(granted: &[(Verb, &str)]) -> Rules {
    let mut rules = Rules::default();
    for (verb, pattern) in granted {
        rules.allow(*verb, pattern).unwrap();
    }
    rules
}
