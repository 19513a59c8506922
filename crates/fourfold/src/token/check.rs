//! Explains a token.

use std::io::{self, Read, Write};

use fourfold_access::{Access, Explanation, Judgement, Verb};
use serde_json::Value;

use super::{CheckArgs, TokenError, words};
use crate::config;

/// The longest token that is read from standard input, in bytes: more than a server takes.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Returns 0 if the server takes it, and grants what is asked about; else 1.
pub(super) async fn check(args: CheckArgs) -> Result<u8, TokenError> {
    let token = match args.token.as_str() {
        "-" => {
            let mut text = String::new();
            let why = io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
            why.map_err(|why| TokenError::Unread { what: "the token".into(), why })?;
            text
        }
        token => token.to_owned(),
    };
    let token = token.trim();
    let Some(options) = config::access(args.config.config.as_deref())? else {
        return Err(TokenError::Usage(
            "whose token is it? give --config FILE, with an [access] section that says which keys are good".into(),
        ));
    };
    let access = Access::start(options).await?;
    let explanation = access.explain(token).await.expect("these rules were just taken");
    let mut page = page(&explanation, words::now());
    let mut is_good = explanation.refusal.is_none();
    if let (Some(verb), Some(path)) = (args.verb, &args.path) {
        let (word, why) = match access.why(Some(token), verb, path).await {
            Judgement::Granted(why) => ("granted", why),
            Judgement::Refused(why) => ("refused", why),
        };
        is_good &= word == "granted";
        page += &format!("{word:<10}{verb} {}: {why}\n", shown(path));
    }
    io::stdout().write_all(page.as_bytes())?;
    Ok(u8::from(!is_good))
}

fn page(token: &Explanation, now: u64) -> String {
    let mut page = String::new();
    let mut line = |name: &str, text: String| page += &format!("{name:<10}{text}\n");
    if let Some(algorithm) = token.algorithm {
        let kid = token.kid.as_ref().map_or("without a kid".into(), |kid| format!("kid '{}'", shown(kid)));
        line("header", format!("{algorithm}, {kid}"));
        match &token.key {
            Ok(key) => line("signed by", key.clone()),
            Err(_) => line("signed by", "nobody who is known here: believe nothing below".into()),
        }
    }
    for (claim, name) in [("sub", "subject"), ("aud", "audience"), ("iss", "issuer")] {
        if let Some((_, value)) = token.claims.iter().find(|(of, _)| of == claim) {
            line(name, text(value));
        }
    }
    for (claim, name) in [("iat", "issued"), ("nbf", "good from"), ("exp", "expires")] {
        if let Some((_, value)) = token.claims.iter().find(|(of, _)| of == claim) {
            let whole = value.as_u64();
            line(name, whole.map_or_else(|| text(value), |at| words::moment(at, now)));
        }
    }
    for (verb, patterns) in &token.claimed {
        line(verb.as_str(), format!("{} (its claim)", patterns.join("  ")));
    }
    for (verb, patterns) in &token.authenticated {
        line(verb.as_str(), format!("{} (the rules for every good token)", patterns.join("  ")));
    }
    let rest: Vec<_> = token
        .claims
        .iter()
        .filter(|(name, _)| !KNOWN.contains(&name.as_str()) && name.parse::<Verb>().is_err())
        .map(|(name, value)| format!("{} = {}", shown(name), text(value)))
        .collect();
    if !rest.is_empty() {
        line("also says", rest.join(", "));
    }
    page.push('\n');
    let mut line = |name: &str, text: &str| page += &format!("{name:<10}{text}\n");
    match token.refusal {
        None => {
            line("good", "the server takes it");
            if let Some(but) = &token.but {
                line("but", but);
            }
        }
        Some(code) => {
            let mut name = "no good";
            for fault in &token.faults {
                line(name, fault);
                name = "";
            }
            line("", &format!("The server says {} {}.", code.status(), code.as_str()));
        }
    }
    page
}

const KNOWN: &[&str] = &["sub", "aud", "iss", "iat", "nbf", "exp"];

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

/// Without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_good_token_is_not_good_for_is_said() {
        let mut token = Explanation {
            algorithm: Some("HS256"),
            kid: None,
            key: Ok("a key".into()),
            claims: Vec::new(),
            faults: Vec::new(),
            refusal: None,
            but: None,
            claimed: Vec::new(),
            authenticated: Vec::new(),
        };
        assert!(page(&token, 0).ends_with("good      the server takes it\n"));
        token.but = Some("it creates no streams".into());
        assert!(page(&token, 0).ends_with("good      the server takes it\nbut       it creates no streams\n"));
    }
}
