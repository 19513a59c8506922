//! Which tokens are good, and what is said about those that are not.

use fourfold_access::{Access, Algorithm, Judgement, KeyOptions, Material, Options, Secret, Verb, mint::Signer};
use fourfold_protocol::{Code, Refusal};
use serde_json::{Value, json};

use crate::harness::{OTHER_SECRET, SECRET, ask, claims, identify, now, options, pem, secret, signer, start, token};

async fn refused(access: &Access, token: &str) -> Refusal {
    let refusal = identify(access, token).await.expect_err("it is no good");
    if token.len() > 20 {
        assert!(!refusal.to_string().contains(token) && !refusal.detail.contains(&token[..20]), "{refusal}");
    }
    let said = refusal.problem()["wwwAuthenticate"].clone();
    assert_eq!(said, "Bearer realm=\"fourfold\", error=\"invalid_token\"", "{refusal}");
    refusal
}

#[track_caller]
fn says(refusal: &Refusal, code: Code, part: &str) {
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.detail.contains(part), "{refusal}");
}

#[tokio::test]
async fn a_good_token_is_good_twice() {
    let access = start(options()).await;
    let token = token(json!({"sub": "ann", "read": ["x"]}));
    for _ in 0..2 {
        assert_eq!(identify(&access, &token).await.unwrap().subject(), Some("ann"));
        assert!(ask(&access, Some(&token), Verb::Read, "x").await.is_ok());
    }
}

#[tokio::test]
async fn what_is_no_token_is_told() {
    let access = start(options()).await;
    let good = token(json!({}));
    for bad in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        &good[1..],
        &good[..good.len() - 1],
        &format!("{good}="),
        &format!("{good}.x"),
        &format!(" {good}"),
        &good.replace('.', ".."),
    ] {
        assert_eq!(refused(&access, bad).await.code, Code::InvalidToken, "{bad}");
    }
    says(&refused(&access, &"a".repeat(8 * 1024 + 1)).await, Code::InvalidToken, "more than 8192 bytes");
}

#[tokio::test]
async fn a_token_that_nobody_signed_is_refused() {
    let access = start(options()).await;
    let claims = Value::Object(claims(json!({}))).to_string();
    let mine = signer(SECRET, None);
    for alg in ["none", "None", "NONE", "nOnE", "", "HS257", "hs256", "RS256", "ES256"] {
        let token = mine.sign_parts(&json!({"alg": alg}).to_string(), &claims).unwrap();
        says(&refused(&access, &token).await, Code::InvalidToken, "'alg'");
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert_eq!(refused(&access, &format!("{unsigned}.")).await.code, Code::InvalidToken);
    }
    // The right algorithm, and the signature of another one.
    let token = mine.sign_parts(r#"{"alg":"HS512"}"#, &claims).unwrap();
    says(&refused(&access, &token).await, Code::InvalidToken, "'alg'");
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = pair.public_key_pem();
    let keys = vec![pem(Algorithm::Es256, None, &public), secret(SECRET, None)];
    let access = start(Options { keys, ..options() }).await;
    // What a careless library would take: HS256 with the text of the public key as its secret.
    for secret in [public.as_bytes().to_vec(), public.trim().as_bytes().to_vec(), pair.public_key_raw().to_vec()] {
        let forged = signer(&secret, None).sign(&claims(json!({}))).unwrap();
        says(&refused(&access, &forged).await, Code::InvalidToken, "signature");
    }
    let good = Signer::of_pem(Algorithm::Es256, None, &pair.serialize_pem()).unwrap();
    assert!(identify(&access, &good.sign(&claims(json!({}))).unwrap()).await.is_ok());
}

#[tokio::test]
async fn each_algorithm_verifies_its_own_and_no_other() {
    let mut keys = Vec::new();
    let mut signers = Vec::new();
    for (algorithm, kind) in [
        (Algorithm::Es256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (Algorithm::EdDsa, &rcgen::PKCS_ED25519),
        (Algorithm::Rs256, &rcgen::PKCS_RSA_SHA256),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        keys.push(pem(algorithm, None, &pair.public_key_pem()));
        signers.push(Signer::of_pem(algorithm, None, &pair.serialize_pem()).unwrap());
    }
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let secret = Secret([SECRET, OTHER_SECRET].concat());
        keys.push(KeyOptions { algorithms: vec![algorithm], kid: None, material: Material::Secret(secret.clone()) });
        signers.push(Signer::of_secret(algorithm, None, &secret).unwrap());
    }
    for (mine, key) in keys.iter().enumerate() {
        let access = start(Options { keys: vec![key.clone()], ..options() }).await;
        for (theirs, signer) in signers.iter().enumerate() {
            let token = signer.sign(&claims(json!({"sub": "ann"}))).unwrap();
            assert_eq!(identify(&access, &token).await.is_ok(), mine == theirs, "{:?} {signer:?}", key.algorithms);
        }
    }
    let access = start(Options { keys, ..options() }).await;
    for signer in &signers {
        assert!(identify(&access, &signer.sign(&claims(json!({}))).unwrap()).await.is_ok(), "{signer:?}");
    }
}

#[tokio::test]
async fn another_key_s_signature_is_none() {
    let access = start(options()).await;
    let forged = signer(OTHER_SECRET, None).sign(&claims(json!({}))).unwrap();
    says(&refused(&access, &forged).await, Code::InvalidToken, "signature");
    let (ours, theirs) = (token(json!({"sub": "ann"})), token(json!({"sub": "bob"})));
    let (signed, _) = ours.rsplit_once('.').unwrap();
    let (_, signature) = theirs.rsplit_once('.').unwrap();
    says(&refused(&access, &format!("{signed}.{signature}")).await, Code::InvalidToken, "signature");
}

#[tokio::test]
async fn the_audience_is_named_once_or_among_others() {
    let access = start(Options { audience: vec!["fourfold".into(), "https://x.example".into()], ..options() }).await;
    for (aud, good) in [
        (json!("fourfold"), true),
        (json!(["a", "https://x.example"]), true),
        (json!("Fourfold"), false),
        (json!(["a", "b"]), false),
        (json!([]), false),
        (json!(null), false),
        (json!({"a": "fourfold"}), false),
        (json!([["fourfold"]]), false),
    ] {
        let token = token(json!({ "aud": aud }));
        if good {
            assert!(identify(&access, &token).await.is_ok(), "{aud}");
        } else {
            says(&refused(&access, &token).await, Code::InvalidToken, "'aud'");
        }
    }
}

#[tokio::test]
async fn the_issuer_is_the_configured_one() {
    let access = start(Options { issuer: Some("https://id.example".into()), ..options() }).await;
    assert!(identify(&access, &token(json!({"iss": "https://id.example"}))).await.is_ok());
    for iss in [json!("https://id.example/"), json!(["https://id.example"]), json!(null)] {
        says(&refused(&access, &token(json!({ "iss": iss }))).await, Code::InvalidToken, "'iss'");
    }
}

#[tokio::test]
async fn a_token_ends_when_its_leeway_does() {
    let access = start(options()).await;
    let at = |seconds: i64| token(json!({ "exp": i64::try_from(now()).unwrap() + seconds }));
    assert!(identify(&access, &at(-27)).await.is_ok(), "30 s of leeway");
    says(&refused(&access, &at(-30)).await, Code::ExpiredToken, "expired 30 s ago");
    says(&refused(&access, &at(-3600)).await, Code::ExpiredToken, "come back with a new one");
    let strict = start(Options { leeway: std::time::Duration::ZERO, ..options() }).await;
    says(&refused(&strict, &at(0)).await, Code::ExpiredToken, "expired");
    assert!(identify(&strict, &at(3)).await.is_ok());
}

#[tokio::test]
async fn a_remembered_token_ends_all_the_same() {
    let access = start(Options { leeway: std::time::Duration::ZERO, ..options() }).await;
    let token = token(json!({"exp": now() + 1, "read": "x"}));
    let who = identify(&access, &token).await.unwrap();
    let grant = access.judge(&who, Verb::Read, "x", None).await.unwrap();
    let left = grant.expires_at.unwrap().duration_since(std::time::SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + std::time::Duration::from_millis(5)).await; // The clock itself is what is waited for.
    assert_eq!(access.judge(&who, Verb::Read, "x", None).await.unwrap_err().code, Code::ExpiredToken);
    assert_eq!(identify(&access, &token).await.unwrap_err().code, Code::ExpiredToken);
}

#[tokio::test]
async fn a_token_without_end_needs_leave() {
    let access = start(options()).await;
    let endless = token(json!({"exp": null, "read": "x"}));
    says(&refused(&access, &endless).await, Code::InvalidToken, "no 'exp'");
    let lenient = start(Options { allow_no_expiry: true, ..options() }).await;
    assert_eq!(ask(&lenient, Some(&endless), Verb::Read, "x").await.unwrap().expires_at, None);
    for exp in [json!("soon"), json!(-1), json!(1e300), json!([1]), json!(u64::MAX)] {
        says(&refused(&lenient, &token(json!({ "exp": exp }))).await, Code::InvalidToken, "'exp' is not a time");
    }
    assert!(identify(&access, &token(json!({"exp": now() as f64 + 100.5}))).await.is_ok());
}

#[tokio::test]
async fn a_token_of_tomorrow_waits() {
    let access = start(options()).await;
    assert!(identify(&access, &token(json!({"nbf": now() + 29}))).await.is_ok());
    says(&refused(&access, &token(json!({"nbf": now() + 100}))).await, Code::InvalidToken, "'nbf' lies ahead");
}

#[tokio::test]
async fn keys_rotate_by_their_names() {
    let keys = vec![secret(SECRET, Some("old")), secret(OTHER_SECRET, Some("new"))];
    let access = start(Options { keys: keys.clone(), ..options() }).await;
    let by = |secret, kid| signer(secret, kid).sign(&claims(json!({}))).unwrap();
    assert!(identify(&access, &by(SECRET, Some("old"))).await.is_ok());
    assert!(identify(&access, &by(OTHER_SECRET, Some("new"))).await.is_ok());
    assert!(identify(&access, &by(OTHER_SECRET, None)).await.is_ok(), "without a name each is tried");
    says(&refused(&access, &by(SECRET, Some("new"))).await, Code::InvalidToken, "signature");
    says(&refused(&access, &by(SECRET, Some("older"))).await, Code::InvalidToken, "'kid'");
    let long = "k".repeat(257);
    says(&refused(&access, &by(SECRET, Some(&long))).await, Code::InvalidToken, "'kid'");
    let unnamed = start(options()).await;
    assert!(identify(&unnamed, &by(SECRET, Some("any"))).await.is_ok(), "a key that nobody named");
    access.reload(Options { keys: keys[1..].to_vec(), ..options() }).unwrap();
    assert!(identify(&access, &by(SECRET, Some("old"))).await.is_err());
}

#[tokio::test]
async fn what_a_header_brings_along_is_not_used() {
    let access = start(options()).await;
    let claims = Value::Object(claims(json!({}))).to_string();
    let header = |more: Value| {
        let mut header = json!({"alg": "HS256"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        header.to_string()
    };
    let own = json!({"jwk": {"kty": "oct", "k": "b3RoZXI"}, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/", "x5c": ["x"]});
    let forged = signer(OTHER_SECRET, None).sign_parts(&header(own.clone()), &claims).unwrap();
    says(&refused(&access, &forged).await, Code::InvalidToken, "signature");
    let good = signer(SECRET, None).sign_parts(&header(own), &claims).unwrap();
    assert!(identify(&access, &good).await.is_ok(), "it is not looked at");
    for critical in [json!({"crit": ["b64"]}), json!({"crit": []}), json!({"b64": false})] {
        let token = signer(SECRET, None).sign_parts(&header(critical), &claims).unwrap();
        says(&refused(&access, &token).await, Code::InvalidToken, "'crit'");
    }
}

#[tokio::test]
async fn what_stands_twice_is_refused() {
    let access = start(options()).await;
    let end = now() + 100;
    for (header, claims) in [
        (r#"{"alg":"HS256","alg":"HS256"}"#, format!(r#"{{"aud":"fourfold","exp":{end}}}"#)),
        (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, format!(r#"{{"aud":"fourfold","exp":{end}}}"#)),
        (r#"{"alg":"HS256"}"#, format!(r#"{{"aud":"fourfold","exp":{end},"exp":1}}"#)),
        (r#"{"alg":"HS256"}"#, format!(r#"{{"aud":"fourfold","exp":{end},"sub":"a","s\u0075b":"b"}}"#)),
    ] {
        let token = signer(SECRET, None).sign_parts(header, &claims).unwrap();
        assert_eq!(refused(&access, &token).await.code, Code::InvalidToken, "{header} {claims}");
    }
}

#[tokio::test]
async fn a_header_that_is_an_array_of_its_members_is_refused() {
    let access = start(options()).await;
    let claims = json!({"aud": "fourfold", "exp": now() + 100}).to_string();
    for header in [r#"["HS256",null,null,null]"#, r#" ["HS256","a",null,null]"#] {
        let token = signer(SECRET, None).sign_parts(header, &claims).unwrap();
        assert_eq!(refused(&access, &token).await.code, Code::InvalidToken, "{header}");
    }
}

#[tokio::test]
async fn bombs_are_refused() {
    let access = start(options()).await;
    let end = now() + 100;
    let nested = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let many: String = (0..200).map(|n| format!(",\"c{n}\":1")).collect();
    let patterns: Vec<_> = (0..101).map(|n| format!("p{n}")).collect();
    for (header, claims) in [
        (format!(r#"{{"alg":"HS256","x":{nested}}}"#), format!(r#"{{"aud":"fourfold","exp":{end}}}"#)),
        (r#"{"alg":"HS256"}"#.into(), format!(r#"{{"aud":"fourfold","exp":{end},"x":{nested}}}"#)),
        (r#"{"alg":"HS256"}"#.into(), format!(r#"{{"aud":"fourfold","exp":{end}{many}}}"#)),
        (r#"{"alg":"HS256"}"#.into(), json!({"aud": "fourfold", "exp": end, "read": patterns}).to_string()),
        (r#"{"alg":"HS256"}"#.into(), "[]".into()),
        (r#"{"alg":"HS256"}"#.into(), "\"x\"".into()),
        (r#"["HS256"]"#.into(), format!(r#"{{"aud":"fourfold","exp":{end}}}"#)),
        (r#"{"alg":7}"#.into(), format!(r#"{{"aud":"fourfold","exp":{end}}}"#)),
    ] {
        let token = signer(SECRET, None).sign_parts(&header, &claims).unwrap();
        assert_eq!(refused(&access, &token).await.code, Code::InvalidToken, "{header} {claims}");
    }
}

#[tokio::test]
async fn a_claim_that_grants_nothing_understandable_is_told() {
    let access = start(options()).await;
    for (claim, part) in [
        (json!({"read": true}), "'read' is not an array"),
        (json!({"append": [7]}), "'append' has a pattern that is not a string"),
        (json!({"create": ["a//b"]}), "'create' has a pattern that is none"),
        (json!({"delete": ["x{"]}), "'delete' has a pattern that is none"),
        (json!({"sub": 7}), "'sub' is not a string"),
        (json!({"streams-max": "many"}), "'streams-max' is not a whole number"),
        (json!({"bytes-max": -1}), "'bytes-max' is not a whole number"),
    ] {
        says(&refused(&access, &token(claim)).await, Code::InvalidToken, part);
    }
}

#[tokio::test]
async fn where_no_tokens_are_taken_that_is_told() {
    let access = start(Options::default()).await;
    says(&refused(&access, &token(json!({}))).await, Code::InvalidToken, "takes no tokens");
}

#[tokio::test]
async fn keys_that_cannot_be_meant_are_told_at_the_start() {
    let weak = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (key, part) in [
        (secret(b"short", None), "the secret has 5 bytes and HS256 needs 32 at least"),
        (KeyOptions { algorithms: vec![Algorithm::Hs512], ..secret(SECRET, None) }, "HS512 needs 64"),
        (KeyOptions { algorithms: vec![Algorithm::Rs256], ..secret(SECRET, None) }, "RS256 has no secret"),
        (pem(Algorithm::Es256, None, "nonsense"), "this is no public key of ES256"),
        (pem(Algorithm::Es256, None, &weak.public_key_pem()), "its keys are on the curve P-256"),
        (pem(Algorithm::Rs256, None, &ed.public_key_pem()), "this is no public key of RS256"),
        (pem(Algorithm::EdDsa, None, &ed.serialize_pem()), "this is a private key"),
        (pem(Algorithm::Hs256, None, &ed.public_key_pem()), "HS256 is by a secret"),
        (KeyOptions { algorithms: vec![], ..secret(SECRET, None) }, "name one algorithm"),
    ] {
        let fault = Access::start(Options { keys: vec![key], ..options() }).await.unwrap_err();
        assert!(fault.to_string().contains(part), "{fault}");
        assert_eq!((fault.key, fault.index), ("keys", Some(0)));
    }
}

#[test]
fn nothing_shows_a_secret_or_a_token() {
    let token = token(json!({"sub": "ann"}));
    let shown = format!(
        "{:?} {:?} {:?}",
        options(),
        signer(SECRET, None),
        fourfold_access::Credential { token: &token, place: fourfold_access::Place::Query }
    );
    assert!(!shown.contains("secret of") && !shown.contains("eyJ") && !shown.contains("97, 32"), "{shown}");
}

#[tokio::test]
async fn a_token_whose_streams_cannot_be_counted_is_explained() {
    let access = start(options()).await;
    for claim in ["streams-max", "bytes-max"] {
        let nobody_s = token(json!({ claim: 1, "create": ["**"], "read": ["**"] }));
        let explained = access.explain(&nobody_s).await.unwrap();
        let but = explained.but.unwrap();
        assert!(explained.refusal.is_none() && but.contains(claim) && but.contains("no 'sub'"), "{but}");
        assert!(matches!(access.why(Some(&nobody_s), Verb::Create, "x").await, Judgement::Refused(why) if why == but));
        assert!(matches!(access.why(Some(&nobody_s), Verb::Read, "x").await, Judgement::Granted(_)));
        let ann_s = token(json!({ claim: 1, "create": ["**"], "sub": "ann" }));
        assert_eq!(access.explain(&ann_s).await.unwrap().but, None);
        assert!(matches!(access.why(Some(&ann_s), Verb::Create, "x").await, Judgement::Granted(_)));
    }
}
