//! How a call has ended, for people and for scripts. Protocol page: "Calls", "Ending".

use std::fmt::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::retry::{tell, tell_plainly};

/// The last lines of a program's standard error that are told.
const STDERR_LINES_MAX: usize = 10;

/// The ending, as far as this command tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Ending {
    outcome: String,
    code: Option<String>,
    error: Option<String>,
    status: Option<u16>,
    exit_code: Option<i32>,
    signal: Option<String>,
    duration_ms: Option<u64>,
    bytes: Option<u64>,
    records: Option<u64>,
    stderr: Option<String>,
    /// To the letter.
    #[serde(skip)]
    json: String,
}

impl Ending {
    pub(super) fn read(told: Option<Box<RawValue>>) -> Self {
        let json = told.map_or_else(|| "null".to_owned(), |told| told.get().to_owned());
        // What cannot be read is an end of which nothing is known.
        let ending: Option<Self> = serde_json::from_str(&json).unwrap_or_default();
        Self { json, ..ending.unwrap_or_default() }
    }

    /// The exit status: 0 finished, 1 failed or timed out, 3 cancelled, 4 interrupted.
    pub(super) fn status(&self) -> u8 {
        match self.outcome.as_str() {
            "finished" => 0,
            "cancelled" => 3,
            "interrupted" => 4,
            _ => 1,
        }
    }

    /// Says it on standard error: in one line, and the last lines of the program's standard error behind it; or as JSON.
    pub(super) fn tell(&self, as_json: bool) {
        if as_json {
            return tell_plainly(&self.json);
        }
        tell(&self.line());
        let stderr = self.stderr.as_deref().unwrap_or_default().trim_end();
        let lines: Vec<&str> = stderr.lines().collect();
        for line in &lines[lines.len().saturating_sub(STDERR_LINES_MAX)..] {
            tell_plainly(&format!("  | {}", harmless(line)));
        }
    }

    fn line(&self) -> String {
        let mut line = match self.outcome.as_str() {
            "" => "the call has ended, and how is not known".to_owned(),
            outcome => harmless(outcome),
        };
        if let Some(ms) = self.duration_ms {
            let _ = write!(line, " after {}.{:03} s", ms / 1_000, ms % 1_000);
        }
        if let (Some(records), Some(bytes)) = (self.records, self.bytes) {
            let records_word = if records == 1 { "record" } else { "records" };
            let _ = write!(line, ": {records} {records_word} out of {bytes} bytes");
        }
        let facts = [
            self.code.as_deref().map(harmless),
            self.error.as_deref().map(harmless),
            self.status.map(|status| format!("status {status}")),
            self.exit_code.map(|code| format!("exit code {code}")),
            self.signal.as_deref().map(|signal| format!("signal {}", harmless(signal))),
        ];
        for fact in facts.into_iter().flatten() {
            let _ = write!(line, "; {fact}");
        }
        line
    }
}

/// Nothing that a terminal would obey.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(json: &str) -> Ending {
        Ending::read(Some(RawValue::from_string(json.to_owned()).unwrap()))
    }

    #[test]
    fn an_ending_is_one_line_and_an_exit_status() {
        let finished = ending(r#"{"outcome":"finished","exitCode":0,"durationMs":1250,"bytes":12,"records":1}"#);
        assert_eq!(finished.line(), "finished after 1.250 s: 1 record out of 12 bytes; exit code 0");
        assert_eq!(finished.status(), 0);
        let failed = ending(r#"{"outcome":"failed","code":"exit-status","error":"it exited\u001b[2J\n","exitCode":3}"#);
        assert_eq!(failed.line(), "failed; exit-status; it exited\u{fffd}[2J\u{fffd}; exit code 3");
        for (outcome, status) in [("failed", 1), ("timed-out", 1), ("cancelled", 3), ("interrupted", 4), ("new", 1)] {
            assert_eq!(ending(&format!(r#"{{"outcome":"{outcome}"}}"#)).status(), status, "{outcome}");
        }
        assert_eq!((Ending::read(None).status(), ending("[]").status()), (1, 1));
    }
}
