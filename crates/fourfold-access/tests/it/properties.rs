//! What holds for every token and every pattern.

use fourfold_access::{Options, Verb};
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
