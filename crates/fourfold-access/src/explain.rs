//! What is to be said about a token, for whoever wonders why it is refused: everything at once, where a client is told the first fault only.

use fourfold_protocol::{Code, Refusal};
use serde_json::Value;

use crate::{
    Verb,
    access::principal,
    claims::Claims,
    fault::Fault,
    rules::Leave,
    state::{State, now},
    token::Parts,
};

/// A token, taken apart. Holds no secret; claims are the token's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The header's `alg`, if it is one that is known.
    pub algorithm: Option<&'static str>,
    /// The header's `kid`.
    pub kid: Option<String>,
    /// Which key has signed it, or why none of those that are configured.
    pub key: Result<String, String>,
    /// What it says, whether or not that is to be believed.
    pub claims: Vec<(String, Value)>,
    /// All that is wrong with it; a client is told the first.
    pub faults: Vec<String>,
    /// What the server would say, if it is no good.
    pub refusal: Option<Code>,
    /// What it is not good for all the same, if it is good.
    pub but: Option<String>,
    /// What its claims grant, in patterns.
    pub claimed: Vec<(Verb, Vec<String>)>,
    /// What the rules for every good token grant, with its claims in their places.
    pub authenticated: Vec<(Verb, Vec<String>)>,
}

/// Why something is granted or not, as one clause.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// It is, by this.
    Granted(String),
    /// It is not.
    Refused(String),
}

/// Takes a token apart.
pub(crate) async fn explain(state: &State, token: &str) -> Explanation {
    let found = principal(state, token).await; // First: it fetches the keys that are needed.
    let but = found.as_ref().ok().and_then(|principal| principal.unaccountable()).map(creates_none);
    let refusal = found.err();
    let mut explanation = Explanation {
        algorithm: None,
        kid: None,
        key: Err("it is not looked for".into()),
        claims: Vec::new(),
        faults: Vec::new(),
        refusal: refusal.as_ref().map(|refusal| refusal.code),
        but,
        claimed: Vec::new(),
        authenticated: Vec::new(),
    };
    match Parts::of(token) {
        Ok(parts) => explanation.look(state, &parts),
        Err(fault) => explanation.faults.push(fault.to_string()),
    }
    if let Some(refusal) = refusal {
        explanation.keep_first(refusal);
    }
    explanation
}

impl Explanation {
    fn look(&mut self, state: &State, parts: &Parts<'_>) {
        self.algorithm = Some(parts.header.algorithm.as_str());
        self.kid.clone_from(&parts.header.kid);
        self.key = match state.signed_by(parts) {
            Ok(key) => Ok(key.kid.as_ref().map_or_else(
                || format!("a key of {} without a kid", key.algorithm),
                |kid| format!("the key '{}' of {}", kid.escape_debug(), key.algorithm),
            )),
            Err(fault) => {
                self.faults.push(fault.to_string());
                Err(fault.to_string())
            }
        };
        let claims = match Claims::decode(parts.claims) {
            Ok(claims) => claims,
            Err(fault) => return self.faults.push(fault.to_string()),
        };
        self.claims = claims.all().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        self.faults.extend(state.faults(&claims, now()).iter().map(Fault::to_string));
        match claims.leave() {
            Ok(leave) => self.claimed = listed(&leave),
            Err(fault) => self.faults.push(fault.to_string()),
        }
        self.authenticated = listed(&state.options.authenticated.filled(&claims));
    }

    fn keep_first(&mut self, refusal: Refusal) {
        if !self.faults.contains(&refusal.detail) {
            self.faults.insert(0, refusal.detail);
        }
    }
}

/// Whether whoever brings `token`, or nobody in particular, may: by rules and claims alone, the hook is not asked.
pub(crate) async fn judge(state: &State, token: Option<&str>, verb: Verb, path: &str) -> Judgement {
    let everybody =
        state.everybody.to(verb, path).map(|pattern| format!("the rule for everybody, {verb} = \"{pattern}\""));
    let principal = match token {
        Some(token) => match principal(state, token).await {
            Ok(principal) => Some(principal),
            Err(_) => {
                let why = "the token is no good";
                return Judgement::Refused(everybody.map_or(why.into(), |rule| {
                    format!("{why}; without one, or with this one in a cookie, it would be granted by {rule}")
                }));
            }
        },
        None => None,
    };
    if let Some(principal) = &principal
        && verb == Verb::Create
        && let Some(claim) = principal.unaccountable()
    {
        return Judgement::Refused(creates_none(claim));
    }
    if let Some(rule) = everybody {
        return Judgement::Granted(rule);
    }
    if let Some(principal) = principal {
        if let Some(pattern) = principal.authenticated.to(verb, path) {
            return Judgement::Granted(format!("the rule for every good token, {verb} = \"{pattern}\""));
        }
        if let Some(pattern) = principal.claimed.to(verb, path) {
            return Judgement::Granted(format!("the token's own claim, \"{verb}\": \"{pattern}\""));
        }
    }
    let why = format!("no pattern for {verb} matches it, of the rules or of the token's claim");
    Judgement::Refused(if state.hook.is_some() { format!("{why}; the hook would be asked") } else { why })
}

fn creates_none(claim: &str) -> String {
    format!("it creates no streams: it says {claim}, and has no 'sub' by which they could be counted")
}

fn listed(leave: &Leave) -> Vec<(Verb, Vec<String>)> {
    let of = |verb| leave.of(verb).iter().map(ToString::to_string).collect::<Vec<_>>();
    Verb::ALL.into_iter().map(|verb| (verb, of(verb))).filter(|(_, patterns)| !patterns.is_empty()).collect()
}
