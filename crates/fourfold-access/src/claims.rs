//! What a token says, read once its signature is known to be good.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{
    Verb,
    fault::Fault,
    limits::{CLAIMS_DEPTH_MAX, CLAIMS_MAX, TOKEN_PATTERNS_MAX},
    rules::{Leave, Rule},
};

/// The claims of a token, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claims(BTreeMap<String, Value>);

impl Claims {
    /// Reads the middle part of a token.
    pub(crate) fn decode(part: &str) -> Result<Self, Fault> {
        let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Form("its claims are not base64url"))?;
        Self::parse(&json)
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Fault> {
        // Before they are parsed: what nests a thousand deep should not be walked at all.
        if depth(json) > CLAIMS_DEPTH_MAX {
            return Err(Fault::Form("its claims nest too deep"));
        }
        serde_json::from_slice(json)
            .map_err(|_| Fault::Form("its claims are not a JSON object, have one twice, or are too many"))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// What stands for the claim in a rule: strings and whole numbers do.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
            _ => None,
        }
    }

    /// A moment in seconds since 1970; fractions are cut off.
    pub(crate) fn moment(&self, name: &'static str) -> Result<Option<u64>, Fault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.as_u64().or_else(|| {
            let seconds = value.as_f64().filter(|seconds| (0.0..=MOMENT_MAX as f64).contains(seconds))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Both are looked at above.
            Some(seconds as u64)
        });
        match seconds {
            Some(seconds) if seconds <= MOMENT_MAX => Ok(Some(seconds)),
            _ => Err(Fault::Claim(name, "is not a time in seconds since 1970".into())),
        }
    }

    /// A string.
    pub(crate) fn string(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Fault::Claim(name, "is not a string".into())),
        }
    }

    /// A whole number.
    pub(crate) fn count(&self, name: &'static str) -> Result<Option<u64>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| Fault::Claim(name, "is not a whole number".into())),
        }
    }

    /// Whether `aud` names one of these.
    pub(crate) fn is_for(&self, audiences: &[String]) -> bool {
        let named = |value: &Value| value.as_str().is_some_and(|name| audiences.iter().any(|ours| ours == name));
        match self.get("aud") {
            Some(Value::Array(names)) => names.iter().any(named),
            Some(name) => named(name),
            None => false,
        }
    }

    /// What the claims named after the verbs grant.
    pub(crate) fn leave(&self) -> Result<Leave, Fault> {
        let mut leave = Leave::default();
        let mut count = 0;
        for verb in Verb::ALL {
            let patterns = match self.get(verb.as_str()) {
                None => continue,
                Some(one @ Value::String(_)) => std::slice::from_ref(one),
                Some(Value::Array(patterns)) => patterns.as_slice(),
                Some(_) => return Err(Fault::Claim(verb.as_str(), "is not an array of patterns".into())),
            };
            count += patterns.len();
            if count > TOKEN_PATTERNS_MAX {
                return Err(Fault::Claim(
                    verb.as_str(),
                    format!("is one pattern too many: at most {TOKEN_PATTERNS_MAX}"),
                ));
            }
            for pattern in patterns {
                let text = pattern
                    .as_str()
                    .ok_or_else(|| Fault::Claim(verb.as_str(), "has a pattern that is not a string".into()))?;
                let rule = Rule::parse(text).map_err(|_| {
                    Fault::Claim(
                        verb.as_str(),
                        "has a pattern that is none: write names, '*' for a segment, '**' for any".into(),
                    )
                })?;
                if let Some(pattern) = rule.filled(self) {
                    leave.add(verb, pattern);
                }
            }
        }
        Ok(leave)
    }
}

/// How deep brackets nest, strings left out; of what is no JSON, anything.
pub(crate) fn depth(json: &[u8]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' => now = now.saturating_sub(1),
            b'"' => loop {
                match bytes.next() {
                    Some(b'\\') => drop(bytes.next()),
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    most
}

/// The end of the year 9999: so that sums with it cannot overflow.
const MOMENT_MAX: u64 = 253_402_300_799;

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Claims, M::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    // Two readers could take different ones of two.
                    if claims.len() >= CLAIMS_MAX || claims.insert(name, value).is_some() {
                        return Err(M::Error::custom("one too many"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        from.deserialize_map(Each)
    }
}
