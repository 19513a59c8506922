//! What each permission is for, and what is private.

use fourfold_protocol::StreamName;
use fourfold_server::limits::LIST_LOOKED_AT_MAX;
use fourfold_stream::Create;
use serde_json::json;

use super::{bearer, create, guarded, guarded_by, master, options, token};
use crate::{
    harness::{Harness, url},
    http::Answer,
};

fn ask(harness: &Harness, token: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let authorization = bearer(token);
    harness.ask(method, target, &[headers, &[("authorization", &authorization)]].concat(), body)
}

#[test]
fn a_fork_needs_leave_to_read_its_source() {
    let harness = guarded();
    create(&harness, "secret");
    create(&harness, "mine");
    let creates = token(&json!({ "create": ["**"], "read": ["mine"] }));
    let from = |source: &str| format!("/v1/stream/{source}");
    ask(&harness, &creates, "PUT", &url("f1"), &[("stream-forked-from", &from("mine"))], b"").expect(201);
    for source in ["secret", "none"] {
        let fork = [("stream-forked-from", &*from(source))];
        ask(&harness, &creates, "PUT", &url("f2"), &fork, b"").problem(403, "not-permitted");
    }
}

#[test]
fn a_listing_shows_what_may_be_listed_and_goes_on_behind_what_may_not() {
    let harness = guarded();
    for n in 0..5 {
        create(&harness, &format!("hidden/{n}"));
        create(&harness, &format!("shown/{n}"));
    }
    let names = |answer: &Answer| -> Vec<String> {
        let page = answer.json();
        let streams = page["streams"].as_array().unwrap();
        streams.iter().map(|stream| stream["name"].as_str().unwrap().to_owned()).collect()
    };
    let lists = token(&json!({ "list": ["shown/*"] }));
    let all = ask(&harness, &lists, "GET", "/v1/stream/", &[], b"").expect(200);
    assert_eq!(names(&all), (0..5).map(|n| format!("shown/{n}")).collect::<Vec<_>>());
    let mut told = Vec::new();
    let mut after = String::new();
    loop {
        let page = ask(&harness, &lists, "GET", &format!("/v1/stream/?limit=2&after={after}"), &[], b"").expect(200);
        told.extend(names(&page));
        let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { break };
        after = next;
    }
    assert_eq!(told, names(&all));
    assert!(names(&harness.get("/v1/stream/").expect(200)).is_empty(), "a stranger sees nothing");
    let reads = token(&json!({ "read": ["**"] }));
    assert!(names(&ask(&harness, &reads, "GET", "/v1/stream/", &[], b"").expect(200)).is_empty());
}

/// What only the server's own code creates so many of at once.
fn create_all(harness: &Harness, names: impl Iterator<Item = String>, note: Option<&str>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for name in names {
        let content_type = "text/plain".to_owned();
        let wish = Create { content_type, note: note.map(str::to_owned), ..Create::default() };
        runtime.block_on(harness.engine().create(&StreamName::new(&name).unwrap(), wish)).unwrap();
    }
}

#[test]
fn next_tells_no_name_that_may_not_be_seen() {
    let harness = guarded();
    create_all(&harness, (0..LIST_LOOKED_AT_MAX + 50).map(|n| format!("private/customer-{n:05}")), None);
    create_all(&harness, ["private/zebra".to_owned(), "private/zebras".to_owned()].into_iter(), None);
    let lists = token(&json!({ "list": ["private/zebra"] }));
    let page = |query: &str| ask(&harness, &lists, "GET", &format!("/v1/stream/?{query}"), &[], b"");
    for limit in ["1", "7", "1000"] {
        let first = page(&format!("prefix=private/&limit={limit}")).expect(200).json();
        assert_eq!(first["streams"], json!([]));
        let next = first["next"].as_str().unwrap();
        assert!(!next.contains("customer"), "{next}");
        let second = page(&format!("prefix=private/&limit={limit}&after={next}")).expect(200).json();
        assert_eq!(second["streams"][0]["name"], "private/zebra");
        assert!(second.get("next").is_none(), "what lies behind may not be seen: {second}");
        let problem = page(&format!("prefix=p&after={next}")).problem(400, "invalid-query");
        assert!(problem["detail"].as_str().unwrap().contains("without 'after'"), "{problem}");
        let restarted = guarded().ask("GET", &format!("/v1/stream/?prefix=private/&after={next}"), &[], b"");
        restarted.problem(400, "invalid-query");
    }
    // Also a client's own choice of a name goes on, and tells no more.
    let chosen = page("prefix=private/&after=private/customer-00000").expect(200).json();
    assert!(!chosen["next"].as_str().unwrap().contains("customer"), "{chosen}");
    let page = ask(&harness, &master(), "GET", "/v1/stream/?prefix=private/&limit=2", &[], b"").expect(200).json();
    assert_eq!(page["next"], "private/customer-00001", "what may be seen is told as ever");
}

#[test]
fn next_tells_no_call_that_may_not_be_seen() {
    let harness = guarded();
    let calls = (0..LIST_LOOKED_AT_MAX + 50).map(|n| format!("calls/{n:032}"));
    create_all(&harness, calls, Some(r#"{"call":"report"}"#));
    let last = format!("{:032}", LIST_LOOKED_AT_MAX + 40);
    let lists = token(&json!({ "list": [format!("calls/{last}")] }));
    for query in ["limit=1", "limit=1000", "name=report"] {
        let page = |after: &str| {
            ask(&harness, &lists, "GET", &format!("/v1/calls?{query}&after={after}"), &[], b"").expect(200).json()
        };
        let first = page("");
        assert_eq!(first["calls"], json!([]));
        let next = first["next"].as_str().unwrap();
        assert!(next.starts_with("./"), "{next}");
        let second = page(next);
        assert_eq!(second["calls"][0]["id"], json!(last));
        assert!(second.get("next").is_none(), "what lies behind may not be seen: {second}");
    }
    let page = ask(&harness, &master(), "GET", "/v1/calls?limit=2", &[], b"").expect(200).json();
    assert_eq!(page["next"], json!(format!("{:032}", 1)), "what may be seen is told as ever");
}

#[test]
fn what_is_private_is_kept_by_no_cache() {
    let harness = guarded();
    for name in ["public/a", "private/a"] {
        create(&harness, name);
        for n in ["1", "2"] {
            ask(&harness, &master(), "POST", &url(name), &[("content-type", "application/json")], n.as_bytes());
        }
    }
    let caching = |name: &str, token: Option<&str>, in_query: bool| {
        let first = ask(&harness, &master(), "GET", &url(&format!("{name}?limit=1&offset=-1")), &[], b"").expect(200);
        let start = ask(&harness, &master(), "HEAD", &url(name), &[], b"").header("stream-oldest-offset").to_owned();
        assert_ne!(first.header("stream-next-offset"), start);
        let query = if in_query { format!("&access_token={}", token.unwrap()) } else { String::new() };
        let target = url(&format!("{name}?limit=1&offset={start}{query}"));
        let authorization = token.filter(|_| !in_query).map(bearer);
        let headers: Vec<_> = authorization.iter().map(|text| ("authorization", text.as_str())).collect();
        harness.ask("GET", &target, &headers, b"").expect(200).header("cache-control").to_owned()
    };
    let master = master();
    assert!(caching("public/a", None, false).starts_with("public, max-age"));
    assert!(caching("public/a", Some(&master), false).starts_with("public, max-age"));
    assert_eq!(caching("public/a", Some(&master), true), "private, no-cache", "its URL is a secret");
    assert_eq!(caching("private/a", Some(&master), false), "private, no-cache");
    assert_eq!(caching("private/a", Some(&master), true), "private, no-cache");
}

#[test]
fn calls_are_begun_listed_and_shown_to_those_who_may() {
    let report = serde_json::from_value(json!({ "command": ["/bin/true"] })).unwrap();
    let build = serde_json::from_value(json!({ "command": ["/bin/true"] })).unwrap();
    let harness = guarded_by(options(), |settings| {
        settings.calls.calls.insert("report".into(), report);
        settings.calls.calls.insert("build".into(), build);
    });
    let caller = token(&json!({ "call": ["report"], "read": ["calls/*"] }));
    harness.ask("POST", "/v1/call/report", &[], b"").problem(401, "missing-token");
    ask(&harness, &caller, "POST", "/v1/call/build", &[], b"").problem(403, "not-permitted");
    ask(&harness, &caller, "POST", "/v1/call/none", &[], b"").problem(403, "not-permitted");
    let begun = ask(&harness, &caller, "POST", "/v1/call/report", &[], b"").expect(201);
    let id = begun.header("call-id").to_owned();
    assert_eq!(
        ask(&harness, &caller, "GET", &format!("/v1/calls/{id}"), &[], b"").expect(200).json()["name"],
        "report"
    );
    harness.get(&format!("/v1/calls/{id}")).problem(401, "missing-token");
    for target in [format!("/v1/calls/{id}/cancel"), url(&format!("calls/{id}/cancel"))] {
        ask(&harness, &caller, "POST", &target, &[], b"").problem(403, "not-permitted");
    }
    let page = ask(&harness, &caller, "GET", "/v1/calls", &[], b"").expect(200).json();
    assert_eq!(page["names"], json!([{ "name": "report", "kind": "command" }]));
    assert_eq!(page["calls"], json!([]), "reading one does not show which there are");
    let lister = token(&json!({ "list": ["calls/*"] }));
    let page = ask(&harness, &lister, "GET", "/v1/calls", &[], b"").expect(200).json();
    assert_eq!((page["calls"][0]["id"].as_str(), &page["names"]), (Some(id.as_str()), &json!([])));
}

#[test]
fn workers_are_steered_by_who_may_and_a_wake_by_its_own_token() {
    let harness = guarded();
    let wish = br#"{"type":"pull-wake","pattern":"jobs/*","wake_stream":"wakes"}"#;
    let target = url("__ds/subscriptions/s1");
    harness.ask("PUT", &target, &[], wish).problem(401, "missing-token");
    let reader = token(&json!({ "read": ["**"] }));
    ask(&harness, &reader, "PUT", &target, &[], wish).problem(403, "not-permitted");
    let steers = token(&json!({ "control": ["subscriptions/**"] }));
    let json = [("content-type", "application/json")];
    let made = ask(&harness, &steers, "PUT", &target, &json, wish);
    assert!([200, 201, 400].contains(&made.head.status), "it got past the door: {}", made.text());
    ask(&harness, &reader, "GET", &target, &[], b"").problem(403, "not-permitted");
    harness.get(&url("__ds/jwks.json")).expect(200);
    // The bearer of an ack is that of the wake: it is judged by the subscription, not at the door.
    create(&harness, "jobs/1");
    ask(&harness, &master(), "POST", &url("jobs/1"), &json, b"1").expect(204);
    let claim =
        ask(&harness, &steers, "POST", &format!("{target}/claim"), &json, br#"{"worker":"w"}"#).expect(200).json();
    let done = json!({ "wake_id": claim["wake_id"], "generation": claim["generation"], "done": true }).to_string();
    let wake = claim["token"].as_str().expect("a token");
    ask(&harness, &steers, "POST", &format!("{target}/ack"), &json, done.as_bytes()).problem(401, "invalid-token");
    ask(&harness, wake, "POST", &format!("{target}/ack"), &json, done.as_bytes()).expect(200);
}

/// With a subscription `s1`, and a token of who steers it.
fn subscribed() -> (Harness, String) {
    let harness = guarded();
    let steers = token(&json!({ "control": ["subscriptions/**"] }));
    let wish = br#"{"type":"pull-wake","pattern":"jobs/*","wake_stream":"wakes"}"#;
    let json = [("content-type", "application/json")];
    ask(&harness, &steers, "PUT", &url("__ds/subscriptions/s1"), &json, wish).expect(201);
    (harness, steers)
}

#[test]
fn the_name_of_a_stream_is_no_leave_to_unfollow_it() {
    let (harness, steers) = subscribed();
    let target = url("__ds/subscriptions/s1");
    let reader = token(&json!({ "read": ["**"] }));
    // A stream of that name is no action: what it is called does not open the door.
    for stream in ["ack", "orders/ack", "x/callback", "x/release"] {
        let link = format!("{target}/streams/{stream}");
        harness.ask("DELETE", &link, &[], b"").problem(401, "missing-token");
        ask(&harness, &reader, "DELETE", &link, &[], b"").problem(403, "not-permitted");
        ask(&harness, &steers, "DELETE", &link, &[], b"").expect(204);
    }
}

#[test]
fn without_a_token_of_its_wakes_nobody_learns_of_a_subscription() {
    let (harness, _) = subscribed();
    let json = [("content-type", "application/json")];
    // Whether there is such a subscription, and of which kind, is for whoever holds a token of it.
    let there = [("ack", br#"{"acks":[]}"#.as_slice()), ("callback", b"{}"), ("release", b"no JSON")];
    for (action, body) in there {
        let refusals = ["s1", "s2"].map(|id| {
            let answer = harness.ask("POST", &url(&format!("__ds/subscriptions/{id}/{action}")), &json, body);
            answer.problem(401, "invalid-token");
            answer.text()
        });
        assert_eq!(refusals[0], refusals[1]);
    }
}
