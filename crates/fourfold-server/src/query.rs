//! The query of a request: known parameters, each at most once, decoded and checked.

use std::time::Duration;

use fourfold_protocol::{Code, Refusal, Start};

use crate::{
    limits::{ANSWER_RECORDS_MAX, HEARTBEAT_SECONDS_MAX, LINGER_MAX, LONG_POLL_WAIT_MAX},
    transports::heartbeat::Heartbeat,
};

/// The raw parameters that mean something here, percent-decoded. Others are ignored, as the protocol asks.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) offset: Option<String>,
    live: Option<String>,
    limit: Option<String>,
    timeout: Option<String>,
    linger: Option<String>,
    heartbeat: Option<String>,
    records: Option<String>,
    cursor: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) after: Option<String>,
}

/// `live=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    Sse,
    LongPoll,
}

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for pair in text.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let field = match name {
                "offset" => &mut query.offset,
                "live" => &mut query.live,
                "limit" => &mut query.limit,
                "timeout" => &mut query.timeout,
                "linger" => &mut query.linger,
                "heartbeat" => &mut query.heartbeat,
                "records" => &mut query.records,
                "cursor" => &mut query.cursor,
                "prefix" => &mut query.prefix,
                "after" => &mut query.after,
                _ => continue,
            };
            let value = decode(value).ok_or_else(|| {
                Refusal::new(Code::InvalidQuery, format!("the value of '{name}' is not percent-encoded UTF-8"))
            })?;
            if field.replace(value).is_some() {
                let code = if name == "offset" { Code::InvalidOffset } else { Code::InvalidQuery };
                return Err(Refusal::new(code, format!("'{name}' is given twice: give it once")));
            }
        }
        Ok(query)
    }

    /// Where to read from, if it was said.
    pub(crate) fn start(&self) -> Result<Option<Start>, Refusal> {
        let Some(token) = &self.offset else { return Ok(None) };
        Start::parse(token).map(Some).ok_or_else(|| {
            let detail = "the offset is not one that this server hands out: use a Stream-Next-Offset, '-1' or 'now'";
            Refusal::new(Code::InvalidOffset, detail)
        })
    }

    pub(crate) fn live(&self) -> Result<Option<Live>, Refusal> {
        match self.live.as_deref() {
            None => Ok(None),
            Some("sse") => Ok(Some(Live::Sse)),
            Some("long-poll") => Ok(Some(Live::LongPoll)),
            Some(_) => Err(Refusal::new(Code::InvalidQuery, "'live' is 'sse' or 'long-poll'")),
        }
    }

    /// At most so many records; `None` if it was not said.
    pub(crate) fn limit(&self, max: usize) -> Result<Option<usize>, Refusal> {
        let Some(text) = &self.limit else { return Ok(None) };
        match decimal(text).and_then(|n| usize::try_from(n).ok()) {
            Some(limit @ 1..) => Ok(Some(limit.min(max))),
            _ => Err(Refusal::new(Code::InvalidQuery, format!("'limit' is a number from 1 to {max}"))),
        }
    }

    pub(crate) fn records(&self) -> Result<Option<usize>, Refusal> {
        self.limit(ANSWER_RECORDS_MAX)
    }

    pub(crate) fn timeout(&self) -> Result<Option<Duration>, Refusal> {
        let Some(text) = &self.timeout else { return Ok(None) };
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match text.parse::<f64>() {
            Ok(seconds) if plain => {
                Ok(Some(Duration::try_from_secs_f64(seconds).map_or(LONG_POLL_WAIT_MAX, |t| t.min(LONG_POLL_WAIT_MAX))))
            }
            _ => Err(Refusal::new(Code::InvalidQuery, "'timeout' is a number of seconds, such as 20 or 0.5")),
        }
    }

    pub(crate) fn linger(&self) -> Result<Duration, Refusal> {
        let Some(text) = &self.linger else { return Ok(Duration::ZERO) };
        let millis =
            decimal(text).ok_or_else(|| Refusal::new(Code::InvalidQuery, "'linger' is a number of milliseconds"))?;
        Ok(Duration::from_millis(millis).min(LINGER_MAX))
    }

    pub(crate) fn heartbeat(&self) -> Result<Option<Heartbeat>, Refusal> {
        let Some(text) = &self.heartbeat else { return Ok(None) };
        match decimal(text).and_then(Heartbeat::of_seconds) {
            Some(heartbeat) => Ok(Some(heartbeat)),
            None => {
                let detail = format!("'heartbeat' is a number of seconds from 1 to {HEARTBEAT_SECONDS_MAX}");
                Err(Refusal::new(Code::InvalidQuery, detail))
            }
        }
    }

    /// Not with `records=none`.
    pub(crate) fn wants_records(&self) -> Result<bool, Refusal> {
        match self.records.as_deref() {
            None => Ok(true),
            Some("none") => Ok(false),
            Some(_) => Err(Refusal::new(Code::InvalidQuery, "'records' is 'none', or is left out")),
        }
    }

    /// The `streamCursor` that the client echoes; one that is not ours is as good as none.
    pub(crate) fn cursor(&self) -> Option<u64> {
        self.cursor.as_deref().and_then(decimal)
    }
}

/// A plain decimal: digits only; what does not fit is the greatest number.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

pub(crate) fn decode(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).expect("two hex digits fit in a byte")
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
        result.unwrap_err().code
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        assert_eq!(code(Query::parse(Some("offset=-1&offset=-1"))), Code::InvalidOffset);
        assert_eq!(code(Query::parse(Some("live=sse&x=1&live=sse"))), Code::InvalidQuery);
        assert!(Query::parse(Some("x=1&x=2")).is_ok());
    }

    #[test]
    fn values_are_checked_and_bounded() {
        let query = |text| Query::parse(Some(text)).unwrap();
        assert_eq!(query("timeout=0.5").timeout().unwrap(), Some(Duration::from_millis(500)));
        assert_eq!(query("timeout=99999999999999999999999").timeout().unwrap(), Some(LONG_POLL_WAIT_MAX));
        assert_eq!(query("linger=99999999999999999999999").linger().unwrap(), LINGER_MAX);
        assert_eq!(query("limit=99999").records().unwrap(), Some(ANSWER_RECORDS_MAX));
        for bad in ["limit=0", "limit=", "limit=-1", "limit=x"] {
            assert_eq!(code(query(bad).records()), Code::InvalidQuery, "{bad}");
        }
        for (text, seconds) in [("heartbeat=1", 1), ("heartbeat=60", 60), ("heartbeat=61", 60), ("heartbeat=256", 60)] {
            assert_eq!(query(text).heartbeat().unwrap().unwrap().every(), Duration::from_secs(seconds), "{text}");
        }
        for bad in ["heartbeat=", "heartbeat=0", "heartbeat=0.5", "heartbeat=-1", "heartbeat=x"] {
            assert_eq!(code(query(bad).heartbeat()), Code::InvalidQuery, "{bad}");
        }
        for bad in ["timeout=", "timeout=inf", "timeout=1e9", "timeout=-1", "timeout=."] {
            assert_eq!(code(query(bad).timeout()), Code::InvalidQuery, "{bad}");
        }
        assert_eq!(code(query("offset=").start()), Code::InvalidOffset);
        assert_eq!(code(query("live=websocket").live()), Code::InvalidQuery);
        assert_eq!(code(Query::parse(Some("offset=%f"))), Code::InvalidQuery);
        assert_eq!(query("offset=%6eow").start().unwrap(), Some(Start::Now));
    }
}
