//! Sets of keys that are fetched, over real sockets.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fourfold_access::{Access, Algorithm, JwksOptions, KeyOptions, Material, Options, Verb, mint::Signer};
use fourfold_protocol::Code;
use serde_json::{Value, json};

use crate::{
    backend::{self, Backend},
    harness::{ask, claims, identify, options, start},
};

/// A key of Ed25519 and what a set says about it.
struct Pair {
    signer: Signer,
    jwk: Value,
}

fn pair(kid: &str) -> Pair {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = BASE64_URL_SAFE_NO_PAD.encode(key.public_key_raw());
    Pair {
        signer: Signer::of_pem(Algorithm::EdDsa, Some(kid.into()), &key.serialize_pem()).unwrap(),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}),
    }
}

impl Pair {
    fn token(&self) -> String {
        self.signer.sign(&claims(json!({"sub": "ann", "read": "x"}))).unwrap()
    }
}

fn set(pairs: &[&Pair]) -> String {
    let keys: Vec<_> = pairs.iter().map(|pair| &pair.jwk).collect();
    backend::json("200 OK", &json!({ "keys": keys }).to_string())
}

fn of(url: &str, change: impl FnOnce(&mut JwksOptions)) -> Options {
    let mut jwks = JwksOptions::new(url.parse().unwrap());
    change(&mut jwks);
    let key = KeyOptions { algorithms: vec![Algorithm::EdDsa], kid: None, material: Material::Jwks(jwks) };
    Options { keys: vec![key], ..options() }
}

fn at(backend: &Backend, change: impl FnOnce(&mut JwksOptions)) -> Options {
    of(&format!("http://{}/keys", backend.address), change)
}

async fn code(access: &Access, token: &str) -> Option<Code> {
    identify(access, token).await.err().map(|refusal| refusal.code)
}

#[tokio::test]
async fn the_first_who_come_wait_for_the_keys_and_one_fetch_serves_all() {
    let ann = pair("a");
    let backend = Backend::start(set(&[&ann])).await;
    let access = start(at(&backend, |_| {})).await;
    let token = ann.token();
    let all = (0..50).map(|_| ask(&access, Some(&token), Verb::Read, "x"));
    for grant in futures(all).await {
        grant.unwrap();
    }
    assert_eq!(backend.asked(), 1);
    assert!(backend.seen()[0].starts_with("GET /keys HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_new_key_is_found_when_it_is_used_and_a_gone_one_is_gone() {
    let (old, new) = (pair("old"), pair("new"));
    let backend = Backend::start(set(&[&old])).await;
    // As good as at once: a machine may be quicker than any time that says more.
    let access = start(at(&backend, |jwks| jwks.refetch = Duration::from_nanos(1))).await;
    let token = old.token();
    let who = identify(&access, &token).await.unwrap();
    backend.answers(set(&[&new]));
    assert_eq!(code(&access, &new.token()).await, None);
    assert_eq!(backend.asked(), 2);
    assert_eq!(code(&access, &token).await, Some(Code::InvalidToken), "remembered, but its key is gone");
    assert_eq!(access.judge(&who, Verb::Read, "x", None).await.unwrap_err().code, Code::InvalidToken);
}

#[tokio::test]
async fn a_flood_of_unknown_names_is_one_fetch() {
    let (ours, theirs) = (pair("ours"), pair("theirs"));
    let backend = Backend::start(set(&[&ours])).await;
    let access = start(at(&backend, |jwks| jwks.refetch = Duration::from_secs(3600))).await;
    assert_eq!(code(&access, &ours.token()).await, None);
    for n in 0..300 {
        let header = json!({"alg": "EdDSA", "kid": format!("k{n}")}).to_string();
        let token = theirs.signer.sign_parts(&header, &Value::Object(claims(json!({}))).to_string()).unwrap();
        assert_eq!(code(&access, &token).await, Some(Code::InvalidToken));
    }
    assert_eq!(code(&access, &theirs.token()).await, Some(Code::InvalidToken));
    assert_eq!(backend.asked(), 1, "within the interval nothing is fetched");
    let access = start(at(&backend, |jwks| jwks.refetch = Duration::from_millis(1))).await;
    assert_eq!(code(&access, &ours.token()).await, None);
    backend.pause(true);
    let before = backend.asked();
    let token = theirs.token();
    let asking = futures((0..300).map(|_| code(&access, &token)));
    let release = async {
        backend.until_asked(before + 1).await;
        backend.pause(false);
    };
    let (codes, ()) = tokio::join!(asking, release);
    assert!(codes.iter().all(|code| *code == Some(Code::InvalidToken)));
    assert!(
        backend.asked() <= before + 2,
        "those who come during a fetch wait for its end: {}",
        backend.asked() - before
    );
}

#[tokio::test]
async fn without_keys_the_answer_is_to_come_back() {
    let ann = pair("a");
    let backend = Backend::start("").await;
    let address = backend.address;
    drop(backend);
    let access = start(of(&format!("http://{address}/"), |_| {})).await;
    let refusal = identify(&access, &ann.token()).await.unwrap_err();
    assert_eq!(refusal.code, Code::AccessUnavailable);
    assert_eq!(refusal.problem()["retryAfter"], 2);
    assert!(ask(&access, None, Verb::Read, "x").await.is_err_and(|refusal| refusal.code == Code::MissingToken));
    // It comes up, and nobody has to be told: the next try is at most seconds away.
    let backend = Backend::again(address, set(&[&ann])).await;
    backend.until_asked(1).await;
    assert_eq!(code(&access, &ann.token()).await, None);
}

#[tokio::test]
async fn what_is_no_set_of_keys_is_not_taken() {
    let ann = pair("a");
    let huge = format!("{{\"keys\":[{}],\"x\":\"{}\"}}", ann.jwk, "x".repeat(300 * 1024));
    let nested = format!("{{\"keys\":[{}],\"x\":{}{}}}", ann.jwk, "[".repeat(5_000), "]".repeat(5_000));
    let secret = json!({"keys": [{"kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode([7; 40]), "kid": "a"}]}).to_string();
    let elsewhere = Backend::start(set(&[&ann])).await;
    for answer in [
        backend::json("200 OK", "no JSON"),
        backend::json("200 OK", "{}"),
        backend::json("200 OK", &huge),
        backend::json("200 OK", &nested),
        backend::json("200 OK", &secret),
        backend::json("500 Internal Server Error", &json!({"keys": [ann.jwk]}).to_string()),
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", elsewhere.address),
        "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{\"keys\":".to_owned(),
        "SSH-2.0-nobody\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000)),
    ] {
        let backend = Backend::start(answer.clone()).await;
        let access = start(at(&backend, |_| {})).await;
        assert_eq!(
            code(&access, &ann.token()).await,
            Some(Code::AccessUnavailable),
            "{}",
            &answer[..answer.len().min(80)]
        );
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect is not followed");
}

#[tokio::test]
async fn keys_are_used_while_their_endpoint_is_down_and_not_for_ever() {
    let (known, unknown) = (pair("known"), pair("unknown"));
    let backend = Backend::start(set(&[&known])).await;
    let short = |jwks: &mut JwksOptions| {
        jwks.refresh = Duration::from_millis(50);
        jwks.refetch = Duration::from_millis(1);
        jwks.stale = Duration::from_millis(1_500);
    };
    let access = start(at(&backend, short)).await;
    let token = known.token();
    assert_eq!(code(&access, &token).await, None);
    backend.answers(backend::json("503 Service Unavailable", ""));
    backend.until_asked(backend.asked() + 2).await;
    assert_eq!(code(&access, &token).await, None, "known");
    assert_eq!(code(&access, &known.token()).await, None, "and not yet remembered");
    assert_eq!(code(&access, &unknown.token()).await, Some(Code::AccessUnavailable), "nobody knows whether it is good");
    let forged = unknown.signer.sign_parts(r#"{"alg":"EdDSA","kid":"known"}"#, "{}").unwrap();
    assert_eq!(
        code(&access, &forged).await,
        Some(Code::InvalidToken),
        "the key that it names is here, and did not sign it"
    );
    tokio::time::timeout(Duration::from_secs(10), async {
        while code(&access, &token).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await; // Nothing tells that keys grow old but their use.
        }
    })
    .await
    .expect("what is too old is not used");
    assert_eq!(code(&access, &token).await, Some(Code::AccessUnavailable));
    backend.answers(set(&[&known]));
    backend.until_asked(backend.asked() + 1).await;
    assert_eq!(code(&access, &token).await, None);
}

#[tokio::test]
async fn keys_come_over_tls_from_whoever_is_trusted() {
    let ann = pair("a");
    let (backend, authority) = Backend::secure(set(&[&ann])).await;
    let url = format!("https://localhost:{}/keys", backend.address.port());
    let access = start(Options { roots: vec![authority], ..of(&url, |_| {}) }).await;
    assert_eq!(code(&access, &ann.token()).await, None);
    let access = start(of(&url, |_| {})).await;
    assert_eq!(code(&access, &ann.token()).await, Some(Code::AccessUnavailable), "signed by nobody that is known");
}

#[tokio::test]
async fn a_reload_keeps_what_was_fetched() {
    let ann = pair("a");
    let backend = Backend::start(set(&[&ann])).await;
    let access = start(at(&backend, |_| {})).await;
    assert_eq!(code(&access, &ann.token()).await, None);
    access.reload(at(&backend, |_| {})).unwrap();
    assert_eq!(code(&access, &ann.token()).await, None);
    assert_eq!(backend.asked(), 1);
    access.reload(Options { keys: Vec::new(), ..options() }).unwrap();
    assert_eq!(code(&access, &ann.token()).await, Some(Code::InvalidToken));
}

#[tokio::test]
async fn sources_that_cannot_be_meant_are_told_at_the_start() {
    for (url, part) in [
        ("http://id.example/keys", "https://"),
        ("http://10.0.0.1/keys", "https://"),
        ("ftp://localhost/keys", "https://"),
        ("https://a:b@id.example/keys", "password"),
    ] {
        let fault = Access::start(of(url, |_| {})).await.unwrap_err().to_string();
        assert!(fault.contains(part), "{url}: {fault}");
    }
    let mut shared = of("https://id.example/keys", |_| {});
    shared.keys[0].algorithms = vec![Algorithm::Hs256];
    assert!(Access::start(shared).await.unwrap_err().to_string().contains("HS256 is by a secret"));
    assert!(Access::start(of("http://[::1]:9/keys", |_| {})).await.is_ok());
}

/// All of them at once.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        let mut done = true;
        for (one, out) in &mut all {
            if out.is_none() {
                match one.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *out = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().map(|(_, out)| out.unwrap()).collect()
}
