//! Whatever is read of a token before its signature is known to be good, and patterns and rules, mutated at random: no panic, and the promises kept.
//!
//! ```text
//! FOURFOLD_FUZZ_ROUNDS=1000000 cargo test -p fourfold-access --test fuzz
//! ```
//!
//! Rounds default to 20,000 a target. The seed is fixed, so that a run repeats; `FOURFOLD_FUZZ_SEED` sets another, and a failure prints the input.

use std::{env, panic, str};

use fourfold_access::{
    Access, Algorithm, Credential, KeyOptions, Material, Options, Place, Rules, Secret, Verb, mint::Signer,
};
use fourfold_protocol::{Code, Pattern};
use serde_json::json;

const SECRET: &[u8] = b"a secret of the fuzzer, 32 bytes or more";

#[test]
fn tokens() {
    let options = Options {
        audience: vec!["fourfold".into()],
        keys: vec![KeyOptions {
            algorithms: vec![Algorithm::Hs256],
            kid: None,
            material: Material::Secret(Secret(SECRET.to_vec())),
        }],
        allow_no_expiry: true,
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let access = runtime.block_on(Access::start(options)).unwrap();
    let identify = |token: &str| {
        let credential = Some(Credential { token, place: Place::Header });
        runtime.block_on(access.identify(credential)).map_err(|refusal| refusal.code)
    };
    let signer = Signer::of_secret(Algorithm::Hs256, None, &Secret(SECRET.to_vec())).unwrap();
    let claims = json!({"aud": "fourfold", "sub": "ann", "read": ["a/*"], "x": {"y": [1, 2.5, null]}});
    let good = signer.sign(claims.as_object().unwrap()).unwrap();
    assert!(identify(&good).is_ok());
    let other = signer.sign_parts(r#"{"alg":"HS256","kid":"k","jwk":{},"crit":["x"]}"#, "{}").unwrap();
    fuzz("tokens", &[good.clone().into_bytes(), other.into_bytes(), b"a.b.c".to_vec()], |bytes| {
        let Ok(token) = str::from_utf8(bytes) else { return };
        match identify(token) {
            Ok(_) => assert_eq!(token, good, "what differs in a byte was taken"),
            Err(code) => assert_eq!(code, Code::InvalidToken),
        }
    });
    // What was signed may be anything, and is judged all the same.
    let headers =
        [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"a","typ":"JWT"}"#].map(|text| text.as_bytes().to_vec());
    fuzz("headers", &headers, |bytes| {
        let Ok(header) = str::from_utf8(bytes) else { return };
        let _ = identify(&signer.sign_parts(header, &claims.to_string()).unwrap());
    });
    let all = [
        claims.to_string().into_bytes(),
        json!({"aud": ["a", "fourfold"], "exp": 1e9, "nbf": 0, "iat": -1, "read": "{sub}/**", "sub": "é*"})
            .to_string()
            .into(),
    ];
    fuzz("claims", &all, |bytes| {
        let Ok(claims) = str::from_utf8(bytes) else { return };
        if let Ok(who) = identify(&signer.sign_parts(r#"{"alg":"HS256"}"#, claims).unwrap()) {
            let is_ours =
                serde_json::from_str::<serde_json::Value>(claims).unwrap()["aud"].to_string().contains("fourfold");
            assert!(is_ours, "{claims}");
            drop(runtime.block_on(access.judge(&who, Verb::Read, "a/b", None)));
        }
    });
}

#[test]
fn patterns() {
    let corpus =
        ["a/*/b", "**", "orders-*/{sub}/**", "**/x/**", "é*世/{a}{b}", "__ds/x"].map(|text| text.as_bytes().to_vec());
    fuzz("patterns", &corpus, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let mut rules = Rules::default();
        let _ = rules.allow(Verb::Read, text);
        let Ok(pattern) = Pattern::parse(text) else { return };
        for name in ["a", "a/b", "a/x/b", "orders-1/ann/x", "x/x/x/x", "é世", "__ds/x", text] {
            assert_eq!(pattern.matches(name), naive(text, name), "{text} {name}");
            assert!(!pattern.matches(name) || name.starts_with(pattern.prefix()), "{text} {name}");
        }
        if !text.contains('*') {
            assert!(pattern.matches(text), "a name without stars stands for itself");
        }
    });
}

/// What a pattern means, as it would be told.
fn naive(pattern: &str, name: &str) -> bool {
    fn segments(pattern: &[&str], name: &[&str]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((&"**", rest)) => (0..=name.len()).any(|taken| segments(rest, &name[taken..])),
            Some((first, rest)) => name
                .split_first()
                .is_some_and(|(one, others)| letters(first.as_bytes(), one.as_bytes()) && segments(rest, others)),
        }
    }
    fn letters(pattern: &[u8], text: &[u8]) -> bool {
        // By a table, or many stars would take for ever.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for &letter in pattern {
            let mut next = vec![false; text.len() + 1];
            for at in 0..=text.len() {
                next[at] = match letter {
                    b'*' => reached[at] || (at > 0 && next[at - 1]),
                    _ => at > 0 && reached[at - 1] && text[at - 1] == letter,
                };
            }
            reached = next;
        }
        reached[text.len()]
    }
    let pattern: Vec<_> = pattern.split('/').collect();
    let name: Vec<_> = name.split('/').collect();
    name[0] != "__ds" && segments(&pattern, &name)
}

fn fuzz(target: &str, corpus: &[Vec<u8>], promise: impl Fn(&[u8])) {
    let number = |name: &str, default| env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (rounds, seed) = (number("FOURFOLD_FUZZ_ROUNDS", 20_000), number("FOURFOLD_FUZZ_SEED", 4437));
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..rounds {
        let input = mutated(corpus, &mut random);
        if let Err(panicked) = panic::catch_unwind(panic::AssertUnwindSafe(|| promise(&input))) {
            eprintln!("{target}: round {round} of FOURFOLD_FUZZ_SEED={seed}: {:?}", String::from_utf8_lossy(&input));
            panic::resume_unwind(panicked);
        }
    }
}

fn mutated(corpus: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = random.choice(corpus).expect("there is a corpus").clone();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..7),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, *random.choice(LETTERS).expect("there are letters")),
            3 => bytes.truncate(at),
            4 => {
                let other = random.choice(corpus).expect("there is a corpus");
                let end = random.usize(0..=other.len());
                bytes.splice(at..at, other[..end].iter().copied());
            }
            _ if at < bytes.len() => bytes[at] = *random.choice(LETTERS).expect("there are letters"),
            _ => {}
        }
    }
    bytes
}

const LETTERS: &[u8] = b"{}[]\",:.*/\\-_=%aZ09+eE \n\0";
