//! Rules: for each verb the patterns of the paths that it may be done to, and claims of a token in their place.
//!
//! `users/{sub}/**` is a rule: `{sub}` stands for what the token's claim `sub` says, to the letter, as one segment or a part of one. A value that could mean
//! more than itself makes the rule match nothing.

use fourfold_protocol::Pattern;

use crate::{Verb, claims::Claims, limits::RULES_MAX};

/// Patterns by verb, with places for claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules([Vec<Rule>; Verb::ALL.len()]);

/// Patterns by verb, as they hold for one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leave([Vec<Pattern>; Verb::ALL.len()]);

/// A pattern with places for claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Claim(String),
}

impl Rules {
    /// Grants `verb` for what `pattern` matches.
    ///
    /// Errors: what is wrong with the pattern, as a whole clause.
    pub fn allow(&mut self, verb: Verb, pattern: &str) -> Result<(), String> {
        if self.count() >= RULES_MAX {
            return Err(format!("there are more than {RULES_MAX} patterns"));
        }
        self.0[verb as usize].push(Rule::parse(pattern)?);
        Ok(())
    }

    /// Whether nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The first of the claims that a rule has a place for.
    pub(crate) fn claim(&self) -> Option<&str> {
        self.0.iter().flatten().flat_map(|rule| &rule.pieces).find_map(|piece| match piece {
            Piece::Claim(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// As they hold for a token with these claims.
    pub(crate) fn filled(&self, claims: &Claims) -> Leave {
        Leave(std::array::from_fn(|verb| self.0[verb].iter().filter_map(|rule| rule.filled(claims)).collect()))
    }

    fn count(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

impl Leave {
    /// The pattern that grants it, if one does.
    pub(crate) fn to(&self, verb: Verb, path: &str) -> Option<&Pattern> {
        self.0[verb as usize].iter().find(|pattern| pattern.matches(path))
    }

    /// Every pattern of a verb.
    pub(crate) fn of(&self, verb: Verb) -> &[Pattern] {
        &self.0[verb as usize]
    }

    pub(crate) fn add(&mut self, verb: Verb, pattern: Pattern) {
        self.0[verb as usize].push(pattern);
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        self.0.iter().flatten().map(|pattern| pattern.as_str().len() + size_of::<Pattern>()).sum()
    }
}

impl Rule {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let Some((claim, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}')) else {
                return Err(format!("the pattern '{}' has a brace without its other one", text.escape_debug()));
            };
            let is_name = |c: char| !c.is_control() && !"/{}*\\".contains(c);
            if claim.is_empty() || !claim.chars().all(is_name) {
                return Err(format!("the pattern '{}' has braces without a claim's name", text.escape_debug()));
            }
            pieces.extend([Piece::Text(before.to_owned()), Piece::Claim(claim.to_owned())]);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let rule = Self { pieces };
        // With any plain letter in each place it is a pattern, or it never will be.
        rule.with(|_| Some("x".into())).map_or(Ok(()), |sample| {
            Pattern::parse(&sample).map(drop).map_err(|bad| format!("{bad}: '{}'", text.escape_debug()))
        })?;
        Ok(rule)
    }

    /// The pattern that it is for a token with these claims; `None` if it matches nothing.
    pub(crate) fn filled(&self, claims: &Claims) -> Option<Pattern> {
        let text = self.with(|name| claims.text(name).filter(|value| is_literal(value)))?;
        Pattern::parse(&text).ok()
    }

    fn with(&self, mut value: impl FnMut(&str) -> Option<String>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Claim(name) => text.push_str(&value(name)?),
            }
        }
        Some(text)
    }
}

/// Whether a claim's value stands for itself in a pattern, as a segment or a part of one.
fn is_literal(value: &str) -> bool {
    !matches!(value, "" | "." | "..") && !value.chars().any(|c| matches!(c, '/' | '*' | '\\') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        Claims::parse(json.as_bytes()).unwrap()
    }

    fn filled(rule: &str, json: &str) -> Option<String> {
        Rule::parse(rule).unwrap().filled(&claims(json)).map(|pattern| pattern.as_str().to_owned())
    }

    #[test]
    fn a_claim_stands_for_itself() {
        for (rule, json, pattern) in [
            ("users/{sub}/**", r#"{"sub":"ann"}"#, "users/ann/**"),
            ("{tenant}/{sub}-*", r#"{"sub":"ann","tenant":42}"#, "42/ann-*"),
            ("u/{sub}", r#"{"sub":"{tenant}","tenant":"x"}"#, "u/{tenant}"),
            ("u/{https://a.example}", "{}", ""),
            ("u/{sub}", r#"{"sub":"é 世"}"#, "u/é 世"),
        ] {
            if pattern.is_empty() {
                assert!(Rule::parse(rule).is_err(), "a name with a slash");
            } else {
                assert_eq!(filled(rule, json).as_deref(), Some(pattern), "{rule} {json}");
            }
        }
    }

    #[test]
    fn a_claim_that_could_mean_more_than_itself_matches_nothing() {
        for value in [
            r#""*""#,
            r#""a*b""#,
            r#""**""#,
            r#""a/b""#,
            r#""""#,
            r#"".""#,
            r#""..""#,
            r#""a\n""#,
            r#""a\u0000""#,
            r#""a\\b""#,
            "null",
            "true",
            "1.5",
            r#"["a"]"#,
            r#"{"a":"b"}"#,
        ] {
            assert_eq!(filled("users/{sub}/**", &format!(r#"{{"sub":{value}}}"#)), None, "{value}");
        }
        assert_eq!(filled("users/{sub}/**", "{}"), None, "no such claim");
        assert_eq!(filled("{a}{b}/x", r#"{"a":".","b":"."}"#), None, "two that are one together");
        assert_eq!(filled("{a}{b}/x", r#"{"a":"_","b":"_ds"}"#), None, "nor the reserved segment");
        let long = "a".repeat(1_024);
        assert_eq!(filled("users/{sub}", &format!(r#"{{"sub":"{long}"}}"#)), None, "longer than a name");
    }

    #[test]
    fn a_rule_that_cannot_be_a_pattern_is_told() {
        for bad in
            ["", "a//b", "{", "}", "a{sub", "a}b{", "{}", "{a/b}", "{a{b}}", "a**", "../{sub}", "{*}", "**/**/**"]
        {
            assert!(Rule::parse(bad).is_err(), "{bad}");
        }
    }
}
