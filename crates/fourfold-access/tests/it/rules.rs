//! What is granted to whom.

use fourfold_access::{Access, Options, Verb};
use fourfold_protocol::Code;
use serde_json::json;

use crate::harness::{ask, identify, options, rules, start, token};

#[tokio::test]
async fn open_lets_everybody_do_everything() {
    let access = Access::open();
    assert!(access.is_open());
    for verb in Verb::ALL {
        let grant = ask(&access, Some("no token at all"), verb, "any/path").await.unwrap();
        assert!(grant.public && grant.expires_at.is_none());
    }
}

#[tokio::test]
async fn what_no_rule_grants_is_refused_by_default() {
    let access = start(options()).await;
    assert!(!access.is_open());
    for verb in Verb::ALL {
        let refusal = ask(&access, None, verb, "any/path").await.unwrap_err();
        assert_eq!(refusal.code, Code::MissingToken);
        assert_eq!(refusal.problem()["wwwAuthenticate"], "Bearer realm=\"fourfold\"");
        let refusal = ask(&access, Some(&token(json!({}))), verb, "any/path").await.unwrap_err();
        assert_eq!(refusal.code, Code::NotPermitted, "{verb}");
    }
    let access = start(Options::default()).await;
    let refusal = ask(&access, None, Verb::Read, "x").await.unwrap_err();
    assert_eq!(refusal.code, Code::NotPermitted, "where there are no tokens, none is asked for");
}

#[tokio::test]
async fn the_anonymous_may_what_the_rules_say_and_all_others_too() {
    let access = start(Options { anonymous: rules(&[(Verb::Read, "news/**")]), ..options() }).await;
    let good = token(json!({"sub": "ann"}));
    for who in [None, Some(good.as_str())] {
        assert!(ask(&access, who, Verb::Read, "news/today").await.unwrap().public);
        assert!(ask(&access, who, Verb::Append, "news/today").await.is_err());
        assert!(ask(&access, who, Verb::Read, "other").await.is_err());
    }
}

#[tokio::test]
async fn a_claim_grants_its_verb_and_no_other_until_the_token_ends() {
    let access = start(options()).await;
    for verb in Verb::ALL {
        let token = token(json!({ verb.as_str(): ["a/*", "b/**"] }));
        for other in Verb::ALL {
            let grant = ask(&access, Some(&token), other, "a/x").await;
            assert_eq!(grant.is_ok(), verb == other, "{verb} {other}");
        }
        let grant = ask(&access, Some(&token), verb, "b/x/y").await.unwrap();
        assert!(!grant.public && grant.expires_at.is_some());
        assert!(ask(&access, Some(&token), verb, "a/x/y").await.is_err());
    }
}

#[tokio::test]
async fn rules_for_every_good_token_have_places_for_its_claims() {
    let granted = rules(&[(Verb::Append, "users/{sub}/**"), (Verb::Read, "teams/{team}/*"), (Verb::List, "**")]);
    let access = start(Options { authenticated: granted, ..options() }).await;
    let ann = token(json!({"sub": "ann", "team": 7}));
    assert!(ask(&access, Some(&ann), Verb::Append, "users/ann/a/b").await.is_ok());
    assert!(ask(&access, Some(&ann), Verb::Append, "users/bob/a/b").await.is_err());
    assert!(ask(&access, Some(&ann), Verb::Read, "teams/7/x").await.is_ok());
    assert!(ask(&access, Some(&ann), Verb::List, "anything").await.is_ok());
    assert!(ask(&access, None, Verb::List, "anything").await.is_err());
    for sub in ["*", "**", "ann/../bob", "a/b", "", ".", "..", "a\u{0}b", "bob\n"] {
        let token = token(json!({"sub": sub}));
        for path in ["users/ann/x", "users/bob/x", "users/a/b/x", "users/*/x"] {
            assert!(ask(&access, Some(&token), Verb::Append, path).await.is_err(), "{sub:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_token_s_own_patterns_have_places_too() {
    let access = start(options()).await;
    let of = |sub: &str| token(json!({"sub": sub, "read": ["inbox/{sub}", "rooms/{sub}-*/**"]}));
    assert!(ask(&access, Some(&of("ann")), Verb::Read, "inbox/ann").await.is_ok());
    assert!(ask(&access, Some(&of("ann")), Verb::Read, "rooms/ann-1/x").await.is_ok());
    assert!(ask(&access, Some(&of("*")), Verb::Read, "inbox/ann").await.is_err());
    assert!(ask(&access, Some(&of("世界")), Verb::Read, "inbox/世界").await.is_ok());
}

#[tokio::test]
async fn refusals_are_the_same_for_every_path() {
    let access = start(options()).await;
    let token = token(json!({}));
    for verb in Verb::ALL {
        let one = ask(&access, Some(&token), verb, "there").await.unwrap_err();
        let other = ask(&access, Some(&token), verb, "not/there").await.unwrap_err();
        assert_eq!(one, other);
        assert!(!one.detail.contains("there"));
    }
}

#[tokio::test]
async fn who_asks_can_be_counted() {
    let access = start(options()).await;
    let ann = identify(&access, &token(json!({"sub": "ann", "streams-max": 3, "bytes-max": 4096}))).await.unwrap();
    let again = identify(&access, &token(json!({"sub": "ann", "read": "x"}))).await.unwrap();
    let bob = identify(&access, &token(json!({"sub": "bob"}))).await.unwrap();
    let nobody = identify(&access, &token(json!({}))).await.unwrap();
    assert_eq!((ann.subject(), ann.streams_max(), ann.bytes_max()), (Some("ann"), Some(3), Some(4096)));
    assert_eq!(ann.key(), again.key());
    assert_ne!(ann.key(), bob.key());
    assert!(nobody.key().is_some() && nobody.subject().is_none());
    let anonymous = access.identify(None).await.unwrap();
    assert!(anonymous.is_anonymous() && anonymous.key().is_none() && !ann.is_anonymous());
}

#[tokio::test]
async fn a_reload_holds_for_whoever_is_there_and_a_fault_changes_nothing() {
    let access = start(Options { authenticated: rules(&[(Verb::Read, "old")]), ..options() }).await;
    let clone = access.clone();
    let who = identify(&access, &token(json!({"sub": "ann", "append": "mine"}))).await.unwrap();
    assert!(access.judge(&who, Verb::Read, "old", None).await.is_ok());
    let fault = access.reload(Options { audience: Vec::new(), ..options() }).unwrap_err();
    assert_eq!(fault.key, "audience");
    assert!(clone.judge(&who, Verb::Read, "old", None).await.is_ok());
    access.reload(Options { authenticated: rules(&[(Verb::Read, "new")]), ..options() }).unwrap();
    assert!(clone.judge(&who, Verb::Read, "old", None).await.is_err());
    assert!(clone.judge(&who, Verb::Read, "new", None).await.is_ok());
    assert!(clone.judge(&who, Verb::Append, "mine", None).await.is_ok());
    // The key that signed it is gone: so is what it granted.
    let keys = vec![crate::harness::secret(crate::harness::OTHER_SECRET, None)];
    access.reload(Options { keys, ..options() }).unwrap();
    assert_eq!(clone.judge(&who, Verb::Append, "mine", None).await.unwrap_err().code, Code::InvalidToken);
    access.reload(None).unwrap();
    assert!(clone.is_open() && clone.judge(&who, Verb::Append, "mine", None).await.is_ok());
}
