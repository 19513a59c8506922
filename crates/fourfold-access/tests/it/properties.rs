//! What holds for every token and every pattern.

use fourfold_access::{Options, Verb, mint::Signer};
use proptest::prelude::*;
use serde_json::json;

use crate::harness::{SECRET, ask, claims, identify, options, rules, signer, start};

fn run<T>(done: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(done)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_token_that_differs_in_a_letter_is_not_taken(sub in "\\PC{0,20}", at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_.=-]") {
        let token = signer(SECRET, None).sign(&claims(json!({ "sub": sub }))).unwrap();
        let at = at.index(token.len());
        let other = format!("{}{letter}{}", &token[..at], &token[at + 1..]);
        run(async {
            let access = start(options()).await;
            let good = identify(&access, &token).await.expect("it is good");
            prop_assert_eq!(good.subject(), Some(sub.as_str()));
            prop_assert_eq!(identify(&access, &other).await.is_ok(), other == token);
            Ok(())
        })?;
    }

    #[test]
    fn nobody_gets_beyond_their_own_name(sub in "\\PC{1,12}|[*./{}a-c]{1,6}", path in "users/(\\PC{1,12}|[*./{}a-c]{1,6})/x") {
        let token = signer(SECRET, None).sign(&claims(json!({ "sub": sub }))).unwrap();
        run(async {
            let access = start(Options { authenticated: rules(&[(Verb::Read, "users/{sub}/*")]), ..options() }).await;
            let granted = ask(&access, Some(&token), Verb::Read, &path).await.is_ok();
            prop_assert!(!granted || path == format!("users/{sub}/x"), "{} {}", sub, path);
            Ok(())
        })?;
    }

    #[test]
    fn no_other_secret_signs(secret in prop::collection::vec(any::<u8>(), 32..64)) {
        prop_assume!(secret != SECRET);
        let token = signer(&secret, None).sign(&claims(json!({}))).unwrap();
        run(async {
            let access = start(options()).await;
            prop_assert!(identify(&access, &token).await.is_err());
            Ok(())
        })?;
    }
}

/// What a request costs: run with `--release --nocapture` to read it.
#[tokio::test]
async fn a_remembered_token_costs_less_than_a_signature() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let es256 = fourfold_access::Algorithm::Es256;
    let keys = vec![crate::harness::secret(SECRET, None), crate::harness::pem(es256, None, &pair.public_key_pem())];
    let access = start(Options { keys, ..options() }).await;
    let by_pair = Signer::of_pem(es256, None, &pair.serialize_pem()).unwrap();
    for (name, signer) in [("HS256", signer(SECRET, None)), ("ES256", by_pair)] {
        let sign = |n: usize| {
            signer.sign(&claims(json!({"sub": "ann", "jti": n, "read": ["a/*", "users/{sub}/**"]}))).unwrap()
        };
        let tokens: Vec<_> = (0..2_000).map(sign).collect();
        let mut spent = Vec::new();
        for _ in 0..2 {
            let begun = std::time::Instant::now();
            for token in &tokens {
                identify(&access, token).await.unwrap();
            }
            spent.push(begun.elapsed() / 2_000);
        }
        let who = identify(&access, &tokens[0]).await.unwrap();
        let begun = std::time::Instant::now();
        for _ in 0..2_000 {
            access.judge(&who, Verb::Read, "users/ann/x/y", None).await.unwrap();
        }
        println!("{name}: identify {:?}, remembered {:?}, judge {:?}", spent[0], spent[1], begun.elapsed() / 2_000);
        assert!(spent[1] < spent[0], "{name}: {spent:?}");
    }
}
