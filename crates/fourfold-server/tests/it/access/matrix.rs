//! The matrix: transport × place of the token × kind of token.

use serde_json::json;

use super::{SECRET, create, guarded, now, signer, token, token_by};
use crate::{
    harness::Harness,
    http::{Answer, Client},
    websocket::HANDSHAKE,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asking {
    ShortPoll,
    LongPoll,
    Portions,
    Events,
    WebSocket,
    OnlyAppending,
    Head,
    Append,
    Close,
    Create,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Header,
    Cookie,
    Query,
    Subprotocol,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Valid,
    Expired,
    WrongAudience,
    WrongKey,
    Garbage,
    None,
    ForbiddenStream,
    ForbiddenVerb,
}

const ALL: [Asking; 11] = [
    Asking::ShortPoll,
    Asking::LongPoll,
    Asking::Portions,
    Asking::Events,
    Asking::WebSocket,
    Asking::OnlyAppending,
    Asking::Head,
    Asking::Append,
    Asking::Close,
    Asking::Create,
    Asking::Delete,
];

const KINDS: [Kind; 8] = [
    Kind::Valid,
    Kind::Expired,
    Kind::WrongAudience,
    Kind::WrongKey,
    Kind::Garbage,
    Kind::None,
    Kind::ForbiddenStream,
    Kind::ForbiddenVerb,
];

impl Asking {
    fn upgrades(self) -> bool {
        matches!(self, Self::WebSocket | Self::OnlyAppending)
    }

    /// The claim that it needs.
    fn claim(self) -> &'static str {
        match self {
            Self::Append | Self::Close | Self::OnlyAppending => "append",
            Self::Create => "create",
            Self::Delete => "delete",
            _ => "read",
        }
    }

    fn success(self) -> &'static [u16] {
        match self {
            Self::WebSocket | Self::OnlyAppending => &[101],
            Self::LongPoll | Self::Append | Self::Close | Self::Delete => &[204],
            Self::Create => &[201],
            _ => &[200],
        }
    }

    fn request(self, client: &mut Client, name: &str, query: &str, headers: &[(&str, &str)]) {
        let (method, parameters, more, body): (_, _, &[(&str, &str)], &[u8]) = match self {
            Self::ShortPoll => ("GET", "offset=-1", &[], b""),
            Self::LongPoll => ("GET", "offset=now&live=long-poll&timeout=0.01", &[], b""),
            Self::Portions => {
                ("GET", "offset=now&live=long-poll&timeout=0.01", &[("accept", "application/x-ndjson")], b"")
            }
            Self::Events => ("GET", "offset=-1&live=sse", &[], b""),
            Self::WebSocket => ("GET", "offset=-1", &HANDSHAKE, b""),
            Self::OnlyAppending => ("GET", "records=none", &HANDSHAKE, b""),
            Self::Head => ("HEAD", "", &[], b""),
            Self::Append => ("POST", "", &[("content-type", "application/json")], b"1"),
            Self::Close => ("POST", "", &[("stream-closed", "true")], b""),
            Self::Create => ("PUT", "", &[("content-type", "application/json")], b""),
            Self::Delete => ("DELETE", "", &[], b""),
        };
        let target = format!("/v1/stream/{name}?{parameters}&{query}");
        client.request(method, &target, &[headers, more].concat(), body);
    }
}

fn ask(harness: &Harness, asking: Asking, name: &str, place: Place, token: Option<&str>) -> Answer {
    let mut client = harness.connect();
    let text = match (place, token) {
        (_, None) => String::new(),
        (Place::Header, Some(token)) => format!("Bearer {token}"),
        (Place::Cookie, Some(token)) => format!("theme=dark; session={token}"),
        (Place::Query, Some(token)) => format!("access_token={token}"),
        (Place::Subprotocol, Some(token)) => format!("fourfold, fourfold.token.{token}"),
    };
    let headers: &[(&str, &str)] = match place {
        _ if token.is_none() => &[],
        Place::Header => &[("authorization", &text)],
        Place::Cookie => &[("cookie", &text), ("origin", "http://test")],
        Place::Query => &[],
        Place::Subprotocol => &[("sec-websocket-protocol", &text)],
    };
    asking.request(&mut client, name, if place == Place::Query { &text } else { "" }, headers);
    let head = client.head();
    let has_body = head.status >= 400 && asking != Asking::Head;
    let length = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let body = if has_body { client.take(length) } else { Vec::new() };
    Answer { head, body }
}

/// What a token of this kind gets, for a request that needs `claim`.
fn expected(kind: Kind) -> Option<(u16, &'static str)> {
    Some(match kind {
        Kind::Valid => return None,
        Kind::Expired => (401, "expired-token"),
        Kind::WrongAudience | Kind::WrongKey | Kind::Garbage => (401, "invalid-token"),
        Kind::None => (401, "missing-token"),
        Kind::ForbiddenStream | Kind::ForbiddenVerb => (403, "not-permitted"),
    })
}

fn token_of(kind: Kind, claim: &str) -> Option<String> {
    let others: Vec<_> = ["read", "append", "create", "delete"].into_iter().filter(|other| *other != claim).collect();
    Some(match kind {
        Kind::Valid => token(&json!({ claim: ["users/{sub}/**"] })),
        Kind::Expired => token(&json!({ claim: ["users/{sub}/**"], "exp": now() - 10 })),
        Kind::WrongAudience => token(&json!({ claim: ["users/{sub}/**"], "aud": "elsewhere" })),
        Kind::WrongKey => {
            let mut other = SECRET;
            other[0] ^= 1;
            token_by(&signer(other), &json!({ claim: ["users/{sub}/**"] }))
        }
        Kind::Garbage => "not.a.token".into(),
        Kind::None => return None,
        Kind::ForbiddenStream => token(&json!({ claim: ["users/{sub}/**"], "sub": "bob" })),
        Kind::ForbiddenVerb => {
            token(&json!({ others[0]: ["**"], others[1]: ["**"], others[2]: ["**"], "list": ["**"] }))
        }
    })
}

/// What was said, but for how long ago the token expired: a second may have passed between two answers.
fn timeless(answer: &Answer) -> String {
    let text = answer.text();
    match text.split_once("the token expired ").and_then(|(before, rest)| Some((before, rest.split_once(" s ago")?.1)))
    {
        Some((before, after)) => format!("{before}the token expired N s ago{after}"),
        None => text,
    }
}

#[test]
fn every_way_of_asking_with_every_token_in_every_place() {
    let harness = guarded();
    let mut asked = 0;
    for asking in ALL {
        for place in [Place::Header, Place::Cookie, Place::Query, Place::Subprotocol] {
            if place == Place::Subprotocol && !asking.upgrades() {
                continue; // There are none.
            }
            for kind in KINDS {
                let what = format!("{asking:?} {place:?} {kind:?}");
                let name = format!("users/ann/{}", what.to_lowercase().replace(' ', "-"));
                if asking != Asking::Create {
                    create(&harness, &name);
                }
                let token = token_of(kind, asking.claim());
                let answer = ask(&harness, asking, &name, place, token.as_deref());
                asked += 1;
                let Some((status, code)) = expected(kind) else {
                    assert!(asking.success().contains(&answer.head.status), "{what}: {}", answer.text());
                    if place == Place::Subprotocol {
                        assert_eq!(answer.get("sec-websocket-protocol"), Some("fourfold"), "{what}");
                    }
                    continue;
                };
                assert_eq!(answer.head.status, status, "{what}: {}", answer.text());
                assert_eq!(answer.header("referrer-policy"), "no-referrer");
                if status == 401 {
                    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
                }
                if asking != Asking::Head {
                    answer.problem(status, code);
                }
                // A stranger is told the same of a stream that is not there, to the letter.
                let absent = ask(&harness, asking, &format!("{name}x"), place, token.as_deref());
                assert_eq!((absent.head.status, timeless(&absent)), (status, timeless(&answer)), "{what}");
                if let Some(token) = &token {
                    assert!(!answer.text().contains(token.as_str()), "{what}");
                }
            }
        }
    }
    assert_eq!(asked, (11 * 3 + 2) * 8);
    harness.still_serves();
}

#[test]
fn what_everybody_may_read_needs_no_token_and_takes_a_good_one() {
    let harness = guarded();
    create(&harness, "public/a");
    for asking in
        [Asking::ShortPoll, Asking::LongPoll, Asking::Portions, Asking::Events, Asking::WebSocket, Asking::Head]
    {
        for token in [None, Some(token(&json!({})))] {
            let answer = ask(&harness, asking, "public/a", Place::Header, token.as_deref());
            assert!(asking.success().contains(&answer.head.status), "{asking:?}: {}", answer.text());
        }
    }
    ask(&harness, Asking::Append, "public/a", Place::Header, None).problem(401, "missing-token");
    ask(&harness, Asking::ShortPoll, "public/a", Place::Header, Some("x")).problem(401, "invalid-token");
}
