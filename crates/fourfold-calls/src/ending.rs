//! How a call ended, as it is told to everybody: a small JSON object, kept with the end of the stream.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use serde::Serialize;

use crate::limits::ENDING_BYTES_MAX;

/// The five ways in which a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The target answered well, and all of its answer is in the stream.
    Finished,
    /// The target did something wrong.
    Failed,
    /// It took too long.
    TimedOut,
    /// Somebody asked for the end, or nobody watched.
    Cancelled,
    /// The server stopped or was killed.
    Interrupted,
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] =
        [Self::Finished, Self::Failed, Self::TimedOut, Self::Cancelled, Self::Interrupted];

    /// As it stands in an ending.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// The one of an ending as it is kept.
    pub(crate) fn of(ending: &str) -> Option<Self> {
        let ending = serde_json::from_str::<serde_json::Value>(ending).ok()?;
        let told = ending.get("outcome")?.as_str()?;
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == told)
    }
}

/// The ending.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    /// What an upstream answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<&'static str>,
    /// These three are not known of a call that was found open after a kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<u64>,
    /// What came from the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// What went into the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stderr: Option<String>,
}

impl Ending {
    pub(crate) fn new(outcome: Outcome, code: Option<&'static str>) -> Self {
        Self {
            outcome,
            status: None,
            headers: BTreeMap::new(),
            exit_code: None,
            signal: None,
            duration_ms: None,
            bytes: None,
            records: None,
            code,
            error: None,
            stderr: None,
        }
    }

    /// Of a call that was found open when the server started.
    pub(crate) fn killed() -> Self {
        let error = Some("the server was killed while the call ran".to_owned());
        Self { error, ..Self::new(Outcome::Interrupted, Some("killed")) }
    }

    /// Of a call whose own code failed.
    pub(crate) fn panicked() -> Self {
        let error = Some("the server failed while the call ran".to_owned());
        Self { error, ..Self::new(Outcome::Failed, Some("internal")) }
    }

    /// The JSON: one line of ASCII, so that it is a header's value as it is, and at most [`ENDING_BYTES_MAX`] long. What is too long loses the
    /// beginning of its standard error, then its headers, then its error.
    pub(crate) fn text(mut self) -> Arc<str> {
        loop {
            let text = ascii(&serde_json::to_string(&self).expect("an ending can be written to memory"));
            let Some(over) = text.len().checked_sub(ENDING_BYTES_MAX + 1) else { return text.into() };
            if let Some(stderr) = &self.stderr {
                // A byte of it takes at least one here, so that this ends; an escaped one takes up to six.
                let cut = (over / 6).max(64).min(stderr.len());
                let at = (cut..=stderr.len()).find(|at| stderr.is_char_boundary(*at)).unwrap_or(stderr.len());
                self.stderr = Some(stderr[at..].to_owned()).filter(|rest| !rest.is_empty());
            } else if !self.headers.is_empty() {
                self.headers.clear();
            } else {
                self.error = None;
            }
        }
    }
}

/// The same JSON without a character beyond ASCII.
fn ascii(json: &str) -> String {
    if json.bytes().all(|b| b < 0x7f) {
        return json.to_owned();
    }
    let mut text = String::with_capacity(json.len() * 2);
    for character in json.chars() {
        if character.is_ascii() && character != '\x7f' {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(text, "\\u{unit:04x}").expect("writing to a String does not fail");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_is_known_is_told() {
        let ending = Ending { status: Some(200), duration_ms: Some(7), ..Ending::new(Outcome::Finished, None) };
        let told: Value = serde_json::from_str(&ending.text()).unwrap();
        assert_eq!(told, json!({ "outcome": "finished", "status": 200, "durationMs": 7 }));
        let told: Value = serde_json::from_str(&Ending::killed().text()).unwrap();
        assert_eq!((&told["outcome"], &told["code"]), (&json!("interrupted"), &json!("killed")));
        for (n, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!((serde_json::to_value(outcome).unwrap(), outcome as usize), (json!(outcome.as_str()), n));
            assert_eq!(Outcome::of(&Ending::new(outcome, None).text()), Some(outcome));
        }
    }

    #[test]
    fn it_fits_into_a_header_whatever_a_program_printed() {
        for noise in ["\0", "ü", "🦀", "\r\n", "\"", "\x7f", "x"] {
            let stderr = Some(noise.repeat(4096 / noise.len()) + "last words");
            let text = Ending { stderr, ..Ending::new(Outcome::Failed, Some("exit-status")) }.text();
            assert!(text.len() <= ENDING_BYTES_MAX, "{}", text.len());
            assert!(text.bytes().all(|b| (b' '..0x7f).contains(&b)), "{text}");
            let told: Value = serde_json::from_str(&text).unwrap();
            let kept = told["stderr"].as_str().unwrap();
            assert!(kept.ends_with("last words") && kept.contains(noise), "{kept}");
        }
    }
}
