//! The hook, over real sockets.

use std::{net::IpAddr, time::Duration};

use fourfold_access::{HookOptions, Options, Verb, Who};
use fourfold_protocol::Code;
use serde_json::{Value, json};

use crate::{
    backend::{self, Backend},
    harness::{ask, identify, options, rules, start, token},
};

const ALLOW: &str = r#"{"allow":true}"#;

fn at(backend: &Backend, change: impl FnOnce(&mut HookOptions)) -> Options {
    let mut hook = HookOptions::new(format!("http://{}/may?x=1", backend.address).parse().unwrap());
    hook.deadline = Duration::from_secs(20); // Longer than a loaded machine takes.
    change(&mut hook);
    Options { hook: Some(hook), ..options() }
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn it_is_asked_what_neither_rules_nor_claims_decide() {
    let backend = Backend::start(backend::json("200 OK", ALLOW)).await;
    let granted = rules(&[(Verb::Read, "public/*")]);
    let access = start(Options { anonymous: granted, ..at(&backend, |_| {}) }).await;
    let token = token(json!({"sub": "ann", "append": "mine"}));
    let who = identify(&access, &token).await.unwrap();
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    assert!(access.judge(&who, Verb::Read, "public/x", Some(address)).await.unwrap().public);
    assert!(access.judge(&who, Verb::Append, "mine", Some(address)).await.is_ok());
    assert_eq!(backend.asked(), 0);
    let grant = access.judge(&who, Verb::Read, "other/ü", Some(address)).await.unwrap();
    assert!(!grant.public && grant.expires_at.is_some(), "it ends with the token");
    let request = backend.seen().remove(0);
    assert!(request.starts_with("POST /may?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/json"), "{request}");
    let told =
        json!({"verb": "read", "path": "other/ü", "subject": "ann", "authenticated": true, "address": "192.0.2.7"});
    assert_eq!(body(&request), told);
    assert!(!request.contains(&token), "the token stays here");
}

#[tokio::test]
async fn the_token_goes_along_if_it_is_to_and_needs_no_keys_then() {
    let backend = Backend::start(backend::json("200 OK", ALLOW)).await;
    let options = Options { keys: Vec::new(), ..at(&backend, |hook| hook.forward_token = true) };
    let access = start(options).await;
    assert!(ask(&access, Some("session 123"), Verb::Read, "x").await.is_ok());
    let told = body(&backend.seen()[0]);
    assert_eq!(
        (&told["token"], &told["authenticated"], &told["subject"]),
        (&json!("session 123"), &json!(false), &json!(null))
    );
    assert!(ask(&access, None, Verb::Read, "x").await.is_ok());
    assert_eq!(body(&backend.seen()[1]).get("token"), None);
    backend.answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(ask(&access, None, Verb::Read, "y").await.unwrap_err().code, Code::MissingToken);
    assert_eq!(ask(&access, Some("session 123"), Verb::Read, "y").await.unwrap_err().code, Code::NotPermitted);
}

#[tokio::test]
async fn every_answer_means_one_thing() {
    for (answer, expected) in [
        (backend::json("200 OK", ALLOW), None),
        (backend::json("200 OK", r#"{"allow":true,"expires":3600,"more":1}"#), None),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), None),
        (backend::json("200 OK", r#"{"allow":false}"#), Some(Code::NotPermitted)),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".into(), Some(Code::NotPermitted)),
        (backend::json("403 Forbidden", ALLOW), Some(Code::NotPermitted)),
        (backend::json("200 OK", "yes"), Some(Code::AccessUnavailable)),
        (backend::json("200 OK", r#"{"allow":"true"}"#), Some(Code::AccessUnavailable)),
        (backend::json("200 OK", "{}"), Some(Code::AccessUnavailable)),
        (backend::json("401 Unauthorized", ALLOW), Some(Code::AccessUnavailable)),
        (backend::json("500 Internal Server Error", ALLOW), Some(Code::AccessUnavailable)),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".into(), Some(Code::AccessUnavailable)),
        (
            backend::json("200 OK", &format!("{{\"allow\":true,\"x\":\"{}\"}}", "x".repeat(20_000))),
            Some(Code::AccessUnavailable),
        ),
        ("garbage".into(), Some(Code::AccessUnavailable)),
        (String::new(), Some(Code::AccessUnavailable)),
    ] {
        let backend = Backend::start(answer.clone()).await;
        let access = start(at(&backend, |_| {})).await;
        let grant = ask(&access, Some(&token(json!({"sub": "ann"}))), Verb::Read, "x").await;
        assert_eq!(grant.err().map(|refusal| refusal.code), expected, "{}", &answer[..answer.len().min(80)]);
    }
}

#[tokio::test]
async fn who_asks_the_same_at_once_is_answered_at_once() {
    let backend = Backend::start(backend::json("200 OK", ALLOW)).await;
    let access = start(at(&backend, |_| {})).await;
    backend.pause(true);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let access = access.clone();
        asking.spawn(async move { access.judge(&Who::default(), Verb::Read, "x", None).await });
    }
    backend.until_asked(1).await;
    backend.pause(false);
    while let Some(grant) = asking.join_next().await {
        grant.unwrap().unwrap();
    }
    assert_eq!(backend.asked(), 1);
    // Another verb, path, address, or subject is another question.
    let ann = identify(&access, &token(json!({"sub": "ann"}))).await.unwrap();
    for (who, verb, path, address) in [
        (&Who::default(), Verb::Append, "x", None),
        (&Who::default(), Verb::Read, "y", None),
        (&Who::default(), Verb::Read, "x", Some(IpAddr::from([127, 0, 0, 1]))),
        (&ann, Verb::Read, "x", None),
    ] {
        let before = backend.asked();
        for _ in 0..3 {
            access.judge(who, verb, path, address).await.unwrap();
        }
        assert_eq!(backend.asked(), before + 1, "{verb} {path}");
    }
}

#[tokio::test]
async fn one_who_gives_up_leaves_the_others_their_answer() {
    let backend = Backend::start(backend::json("200 OK", ALLOW)).await;
    let access = start(at(&backend, |_| {})).await;
    backend.pause(true);
    let ask =
        |access: fourfold_access::Access| async move { access.judge(&Who::default(), Verb::Read, "x", None).await };
    let first = tokio::spawn(ask(access.clone()));
    backend.until_asked(1).await;
    let second = tokio::spawn(ask(access.clone()));
    tokio::task::yield_now().await;
    first.abort();
    backend.until_asked(2).await;
    backend.pause(false);
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn both_answers_hold_for_a_while() {
    for (answer, is_yes) in [(ALLOW, true), (r#"{"allow":false}"#, false)] {
        let backend = Backend::start(backend::json("200 OK", answer)).await;
        let access = start(at(&backend, |hook| hook.cache = Duration::from_secs(3600))).await;
        for _ in 0..10 {
            assert_eq!(ask(&access, None, Verb::Read, "x").await.is_ok(), is_yes);
        }
        assert_eq!(backend.asked(), 1);
        let access = start(at(&backend, |hook| hook.cache = Duration::ZERO)).await;
        for _ in 0..3 {
            assert_eq!(ask(&access, None, Verb::Read, "x").await.is_ok(), is_yes);
        }
        assert_eq!(backend.asked(), 4, "without a cache each is asked");
    }
    let backend = Backend::start(backend::json("200 OK", r#"{"allow":true,"expires":0}"#)).await;
    let access = start(at(&backend, |hook| hook.cache = Duration::from_secs(3600))).await;
    for _ in 0..3 {
        let grant = ask(&access, None, Verb::Read, "x").await.unwrap();
        assert!(grant.expires_at.unwrap() <= std::time::SystemTime::now());
    }
    assert_eq!(backend.asked(), 3, "an answer holds no longer than what it gives");
}

#[tokio::test]
async fn no_answer_is_no_leave_and_is_forgotten_soon() {
    let backend = Backend::start(backend::json("200 OK", ALLOW)).await;
    let address = backend.address;
    backend.pause(true);
    let access = start(at(&backend, |hook| hook.deadline = Duration::from_millis(50))).await;
    let refusal = ask(&access, None, Verb::Read, "x").await.unwrap_err();
    assert_eq!(refusal.code, Code::AccessUnavailable);
    assert_eq!(refusal.problem()["retryAfter"], 2);
    drop(backend);
    assert_eq!(ask(&access, None, Verb::Read, "y").await.unwrap_err().code, Code::AccessUnavailable);
    // It is there again: within a second its word counts.
    let _backend = Backend::again(address, backend::json("200 OK", ALLOW)).await;
    let back = async {
        while ask(&access, None, Verb::Read, "x").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await; // Nothing but asking tells that it is forgotten.
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("it is asked again");
}

#[tokio::test]
async fn hooks_that_cannot_be_meant_are_told_at_the_start() {
    for (url, part) in [("ftp://x/", "https://"), ("https://a:b@x/", "password")] {
        let hook = Some(HookOptions::new(url.parse().unwrap()));
        let fault = fourfold_access::Access::start(Options { hook, ..options() }).await.unwrap_err();
        assert!(fault.key == "hook" && fault.to_string().contains(part), "{fault}");
    }
    let backend = Backend::start("").await;
    for change in [
        |hook: &mut HookOptions| hook.deadline = Duration::ZERO,
        |hook: &mut HookOptions| hook.cache = Duration::from_secs(9999),
    ] {
        assert!(fourfold_access::Access::start(at(&backend, change)).await.is_err());
    }
}
