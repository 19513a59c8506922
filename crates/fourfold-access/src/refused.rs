//! What is said to those who may not. The same words whether or not there is a stream.

use fourfold_protocol::{Code, Refusal};

use crate::Verb;

/// Nobody in particular may, somebody might.
pub(crate) fn missing() -> Refusal {
    Refusal::new(Code::MissingToken, "this needs a token: send one as 'Authorization: Bearer TOKEN'")
        .with("wwwAuthenticate", "Bearer realm=\"fourfold\"")
}

/// Somebody else knows, and does not say.
pub(crate) fn unavailable(what: &str) -> Refusal {
    Refusal::new(Code::AccessUnavailable, format!("{what}: try again")).with("retryAfter", RETRY_AFTER_SECONDS)
}

/// Longer than what is not answered is held against a backend.
const RETRY_AFTER_SECONDS: u64 = 2;

/// They may not.
pub(crate) fn not_permitted(verb: Verb, anonymous: bool) -> Refusal {
    let detail = if anonymous {
        format!("the rules do not let everybody {verb} this")
    } else {
        format!(
            "the token does not let you {verb} this: neither the rules nor its claim '{verb}' have a pattern for it"
        )
    };
    Refusal::new(Code::NotPermitted, detail)
}
