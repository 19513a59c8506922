//! What is promised of whatever is read of a token before its signature is known to be good, of patterns, rules and sets of keys, for any bytes at all.
//!
//! Two look for bytes that break a promise: `fuzz/` at the root, by coverage and for as long as one likes, and the tests below, with mutations at
//! random and whenever tests run.
//!
//! ```text
//! FOURFOLD_FUZZ_ROUNDS=1000000 cargo test -p fourfold-access fuzzing
//! ```
//!
//! Rounds default to 20,000 a target. The seed is fixed, so that a run repeats; `FOURFOLD_FUZZ_SEED` sets another, and a failure prints the input.
//! `FOURFOLD_FUZZ_CORPUS` names a folder that the inputs to begin with are written to, for `fuzz/`.

use std::{str, time::Duration};

use fourfold_protocol::{Code, Pattern, name::NAME_BYTES_MAX};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::{
    Access, Algorithm, Credential, KeyOptions, Material, Options, Place, Rules, Secret, Verb, Who, jwks,
    limits::{CLAIMS_DEPTH_MAX, CLAIMS_MAX, JWKS_KEYS_MAX, KID_BYTES_MAX, TOKEN_BYTES_MAX, TOKEN_PATTERNS_MAX},
    mint::Signer,
    state::now,
};

/// A token as it comes; and if there is a line's end, what stands before and behind it as header and claims that are signed, by the key itself.
pub fn token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    thread_local!(static ISSUED: Issued = Issued::new());
    ISSUED.with(|issued| {
        issued.is_taken_only_as_it_was_signed(text);
        if let Some((header, claims)) = text.split_once('\n') {
            issued.is_judged_by_what_it_says(header, claims);
        }
    });
}

/// A pattern, and if there is a line's end, the name behind it.
pub fn patterns(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (text, other) = text.split_once('\n').unwrap_or((text, ""));
    let is_rule = Rules::default().allow(Verb::Read, text).is_ok();
    let parsed = Pattern::parse(text);
    assert!(text.contains(['{', '}']) || is_rule == parsed.is_ok(), "without places a rule is a pattern: {text:?}");
    let Ok(pattern) = parsed else { return };
    for name in ["a", "a/b", "a/x/b", "orders-1/ann/x", "x/x/x/x", "é世", "__ds/x", text, other] {
        if name.len() > NAME_BYTES_MAX {
            continue; // It would take the one that tells too long.
        }
        assert_eq!(pattern.matches(name), naive(text, name), "{text} {name}");
        assert!(!pattern.matches(name) || name.starts_with(pattern.prefix()), "{text} {name}");
    }
    if !text.contains('*') {
        assert!(pattern.matches(text), "a name without stars stands for itself");
    }
}

/// A set of keys, as an endpoint may answer.
pub fn keys(bytes: &[u8]) {
    let Ok(taken) = jwks::read(bytes, &Algorithm::ALL) else { return };
    let set: Value = serde_json::from_slice(bytes).expect("a set is JSON");
    let all = set.get("keys").and_then(Value::as_array).expect("a set is an object with keys");
    assert!((1..=JWKS_KEYS_MAX).contains(&taken.len()) && depth(&set) <= CLAIMS_DEPTH_MAX, "{set}");
    for (jwk, key) in &taken {
        assert!(all.contains(jwk) && !key.algorithm.is_shared(), "{jwk}");
        assert!(key.kid.as_ref().is_none_or(|kid| kid.len() <= KID_BYTES_MAX && jwk["kid"] == **kid), "{jwk}");
        assert!(jwk.get("alg").is_none_or(|alg| alg == key.algorithm.as_str()), "{jwk}");
        let others: Vec<_> = Algorithm::ALL.into_iter().filter(|other| *other != key.algorithm).collect();
        let only = json!({ "keys": [jwk] }).to_string();
        assert!(jwks::read(only.as_bytes(), &others).is_err(), "{jwk} is not for another algorithm");
        for signature in ["", "AAAA", "!"] {
            assert!(!key.verifies("e30.e30", signature), "{jwk}");
        }
    }
}

/// Somebody who verifies by three kinds of keys, and the one token that was given out.
struct Issued {
    runtime: Runtime,
    access: Access,
    signer: Signer,
    good: String,
}

impl Issued {
    fn new() -> Self {
        let key = |algorithm, kid: Option<&str>, material| KeyOptions {
            algorithms: vec![algorithm],
            kid: kid.map(str::to_owned),
            material,
        };
        let options = Options {
            audience: vec!["fourfold".into()],
            keys: vec![
                key(Algorithm::Hs256, None, Material::Secret(Secret(SECRET.to_vec()))),
                key(Algorithm::Es256, Some("es"), Material::Pem(ES256.into())),
                key(Algorithm::EdDsa, Some("ed"), Material::Pem(ED25519.into())),
            ],
            allow_no_expiry: true,
            leeway: LEEWAY,
            ..Options::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
        let access = runtime.block_on(Access::start(options)).expect("these can be meant");
        let signer = Signer::of_secret(Algorithm::Hs256, None, &Secret(SECRET.to_vec())).expect("it is by a secret");
        let good = signer.sign_parts(HEADER, CLAIMS).expect("a secret signs");
        Self { runtime, access, signer, good }
    }

    fn identify(&self, token: &str) -> Result<Who, Code> {
        let credential = Some(Credential { token, place: Place::Header });
        self.runtime.block_on(self.access.identify(credential)).map_err(|refusal| refusal.code)
    }

    fn is_taken_only_as_it_was_signed(&self, token: &str) {
        match self.identify(token) {
            Ok(_) => assert_eq!(token, self.good, "what differs in a byte was taken"),
            Err(code) => assert!(code == Code::InvalidToken && token != self.good, "{code:?} {token}"),
        }
    }

    fn is_judged_by_what_it_says(&self, header: &str, claims: &str) {
        let token = self.signer.sign_parts(header, claims).expect("a secret signs");
        let who = match self.identify(&token) {
            Ok(who) => who,
            Err(code) => return assert!(matches!(code, Code::InvalidToken | Code::ExpiredToken), "{code:?} {token}"),
        };
        assert!(token.len() <= TOKEN_BYTES_MAX, "{} bytes", token.len());
        let header = object(header);
        assert_eq!(header["alg"], "HS256", "{header:?}");
        assert!(["crit", "b64"].iter().all(|name| header.get(*name).is_none_or(Value::is_null)), "{header:?}");
        let claims = object(claims);
        assert!(claims.len() <= CLAIMS_MAX && claims.values().all(|claim| depth(claim) < CLAIMS_DEPTH_MAX));
        let audience = &claims["aud"];
        let is_ours = audience == "fourfold" || audience.as_array().is_some_and(|all| all.contains(&json!("fourfold")));
        assert!(is_ours, "{claims:?}");
        let (now, leeway) = (now() as f64, LEEWAY.as_secs_f64());
        let moment = |name: &str| claims.get(name).map(|at| at.as_f64().expect("a moment is a number"));
        assert!(moment("exp").is_none_or(|at| at + leeway + 1.0 > now), "{claims:?} has ended");
        assert!(moment("nbf").is_none_or(|at| at <= now + leeway + 1.0), "{claims:?} has not begun");
        assert!(claims.get("sub").is_none_or(Value::is_string), "{claims:?}");
        for verb in [Verb::Read, Verb::Append] {
            let patterns = patterns_of(&claims, verb);
            assert!(patterns.len() <= TOKEN_PATTERNS_MAX);
            for name in ["a", "a/b", "users/ann/x", "é世", "__ds/x"] {
                let granted = self.runtime.block_on(self.access.judge(&who, verb, name, None));
                if patterns.iter().all(|pattern| !pattern.contains('{')) {
                    let wanted = patterns.iter().any(|pattern| naive(pattern, name));
                    assert_eq!(granted.is_ok(), wanted, "{verb} {name} {claims:?}");
                }
                assert!(granted.is_err() || !patterns.is_empty(), "{verb} {name} {claims:?}");
            }
        }
    }
}

/// What the verb's claim has, all of which are patterns, or the token would not have been taken.
fn patterns_of(claims: &Map<String, Value>, verb: Verb) -> Vec<&str> {
    match claims.get(verb.as_str()) {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(all) => {
            let all = all.as_array().expect("patterns are an array").iter();
            all.map(|one| one.as_str().expect("a pattern is a string")).collect()
        }
    }
}

fn object(json: &str) -> Map<String, Value> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => object,
        other => panic!("taken, but no object: {other:?}"),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
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

const SECRET: &[u8] = b"a secret of the fuzzer, 32 bytes or more";

/// Nobody has what signs for these two.
const ES256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYHk/1cDTsGML16An1PWDTKps/Df0
uo3KnWDTP8mcKQQuErLMm8MXVL7toT2XAUI1ToQ5Sqki8ZSQVhUrEorb4g==
-----END PUBLIC KEY-----
";

const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAC5R1OavqHr/ssv1569zm3zzDqQoWrwDcbsN+gChazdQ=
-----END PUBLIC KEY-----
";

const LEEWAY: Duration = Duration::from_secs(30);

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

const CLAIMS: &str = r#"{"aud":"fourfold","sub":"ann","read":["a/*"],"x":{"y":[1,2.5,null]}}"#;

#[cfg(test)]
mod tests {
    use std::{env, fs, panic, path::Path};

    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn parts(header: &str, claims: &str, signature: &str) -> Vec<u8> {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{signature}", part(header), part(claims)).into_bytes()
    }

    fn is_good(token: &str) -> bool {
        Issued::new().identify(token).is_ok()
    }

    #[test]
    fn tokens() {
        let good = Issued::new().good;
        assert!(is_good(&good));
        let other = parts(r#"{"alg":"HS256","kid":"k","jwk":{},"crit":["x"]}"#, "{}", "AAAA");
        let long = "A".repeat(86);
        fuzz(
            "token",
            "whole",
            &[
                good.into_bytes(),
                other,
                parts(r#"{"alg":"none"}"#, CLAIMS, "AA"),
                parts(r#"{"alg":"ES256","kid":"es"}"#, CLAIMS, &long),
                parts(r#"{"alg":"EdDSA"}"#, CLAIMS, &long),
                b"a.b.c".to_vec(),
            ],
            token,
        );
    }

    #[test]
    fn what_was_signed_may_be_anything_and_is_judged_all_the_same() {
        let pairs = [
            (HEADER, CLAIMS),
            (r#"{"alg":"HS256","kid":"a","x5c":[],"jku":"https://a.example"}"#, CLAIMS),
            (HEADER, r#"{"aud":["a","fourfold"],"exp":99999999999,"nbf":0,"iat":-1,"read":"{sub}/**","sub":"é*"}"#),
            (
                HEADER,
                r#"{"aud":"fourfold","read":["**","users/{sub}/**"],"append":["a/*"],"streams-max":1,"exp":1e11}"#,
            ),
        ];
        for (header, claims) in pairs {
            let token = Issued::new().signer.sign_parts(header, claims).expect("a secret signs");
            assert!(is_good(&token), "{header} {claims}");
        }
        fuzz("token", "signed", &pairs.map(|(header, claims)| format!("{header}\n{claims}").into_bytes()), token);
    }

    #[test]
    fn every_pattern_means_what_it_would_be_told_to_mean() {
        let corpus = [
            "a/*/b\na/x/b",
            "**\n",
            "orders-*/{sub}/**",
            "**/x/**\na/x/b",
            "é*世/{a}{b}",
            "__ds/x",
            "a*b*c/**/d\naxbxc/y/d",
        ];
        fuzz("patterns", "pattern", &corpus.map(|text| text.as_bytes().to_vec()), patterns);
    }

    #[test]
    fn sets_of_keys() {
        let modulus = format!("wA{}", "AQ".repeat(169)); // Of a public RSA key nothing is looked at but its form.
        let corpus = [
            json!({"keys": [{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"ed","use":"sig"}]}),
            json!({"keys": [{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","key_ops":["verify"],"alg":"ES256"}]}),
            json!({"keys": [{"kty":"RSA","n":modulus,"e":"AQAB","kid":"rsa"}, {"kty":"oct","k":"AAAA"}, "x"]}),
        ];
        assert!(corpus[..2].iter().all(|set| jwks::read(set.to_string().as_bytes(), &Algorithm::ALL).is_ok()));
        fuzz("keys", "set", &corpus.map(|set| set.to_string().into_bytes()), keys);
    }

    /// Runs `promise` on the corpus, then on as many mutations of it as there are rounds.
    fn fuzz(target: &str, name: &str, corpus: &[Vec<u8>], promise: fn(&[u8])) {
        if let Some(folder) = env::var_os("FOURFOLD_FUZZ_CORPUS") {
            let folder = Path::new(&folder).join(target);
            fs::create_dir_all(&folder).expect("a folder can be made");
            for (n, input) in corpus.iter().enumerate() {
                fs::write(folder.join(format!("{name}-{n}")), input).expect("a file can be written");
            }
        }
        corpus.iter().for_each(|input| promise(input));
        let number = |name: &str, default| env::var(name).map_or(default, |text| text.parse().expect("a number"));
        let (rounds, seed) = (number("FOURFOLD_FUZZ_ROUNDS", 20_000), number("FOURFOLD_FUZZ_SEED", 4437));
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..rounds {
            let input = mutated(corpus, &mut random);
            if let Err(panicked) = panic::catch_unwind(|| promise(&input)) {
                eprintln!(
                    "{target}: round {round} of FOURFOLD_FUZZ_SEED={seed}: {:?}",
                    String::from_utf8_lossy(&input)
                );
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
}
