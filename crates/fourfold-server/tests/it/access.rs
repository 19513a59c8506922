//! Who may do what, asked over real sockets: every way of asking, with every kind of token in every place.

mod cookies;
mod expiry;
mod http2;
mod matrix;
mod open;
mod verbs;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use fourfold_access::{Access, Algorithm, KeyOptions, Material, Options, Secret, Verb, mint::Signer};
use fourfold_server::Settings;
use fourfold_stream::{Engine, Relay};
use serde_json::{Map, Value, json};

use crate::harness::{Harness, memory};

pub(crate) const SECRET: [u8; 32] = *b"a secret of thirty-two bytes ...";

pub(crate) fn signer(secret: [u8; 32]) -> Signer {
    Signer::of_secret(Algorithm::Hs256, None, &Secret(secret.to_vec())).expect("HS256 is by a secret")
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A token of `ann`, good for an hour, with these members on top; `null` takes one away.
pub(crate) fn token(members: &Value) -> String {
    token_by(&signer(SECRET), members)
}

pub(crate) fn token_by(signer: &Signer, members: &Value) -> String {
    let mut claims = Map::from_iter([
        ("sub".to_owned(), json!("ann")),
        ("aud".to_owned(), json!("fourfold")),
        ("exp".to_owned(), json!(now() + 3600)),
    ]);
    for (name, value) in members.as_object().expect("members") {
        if value.is_null() {
            claims.remove(name)
        } else {
            claims.insert(name.clone(), value.clone())
        };
    }
    signer.sign(&claims).expect("it signs")
}

/// Everybody reads `public/**`; tokens say the rest, also in the cookie `session`.
pub(crate) fn options() -> Options {
    let mut options =
        Options { audience: vec!["fourfold".into()], cookie: Some("session".into()), ..Options::default() };
    options.keys.push(KeyOptions {
        algorithms: vec![Algorithm::Hs256],
        kid: None,
        material: Material::Secret(Secret(SECRET.to_vec())),
    });
    options.leeway = std::time::Duration::ZERO;
    options.anonymous.allow(Verb::Read, "public/**").expect("a pattern");
    options
}

/// A server with these rules. Its own witness may do everything on its stream.
pub(crate) fn guarded_by(options: Options, set: impl FnOnce(&mut Settings)) -> Harness {
    guarded_on(memory, options, set)
}

pub(crate) fn guarded_on(
    engine: impl FnOnce(Relay) -> Arc<dyn Engine> + Send + 'static,
    mut options: Options,
    set: impl FnOnce(&mut Settings),
) -> Harness {
    for verb in [Verb::Read, Verb::Append, Verb::Create, Verb::Delete] {
        options.anonymous.allow(verb, "witness").expect("a pattern");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let access = runtime.block_on(Access::start(options)).expect("the rules can be meant");
    Harness::on(engine, |settings| {
        settings.access = access;
        set(settings);
    })
}

pub(crate) fn guarded() -> Harness {
    guarded_by(options(), |_| {})
}

/// May do everything.
pub(crate) fn master() -> String {
    let all = json!(["**"]);
    token(
        &json!({ "read": all, "append": all, "create": all, "delete": all, "list": all, "call": all, "control": all }),
    )
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Creates a stream as who may.
pub(crate) fn create(harness: &Harness, name: &str) {
    let headers = [("authorization", bearer(&master())), ("content-type", "application/json".into())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    harness.ask("PUT", &crate::harness::url(name), &headers, b"").expect(201);
}
