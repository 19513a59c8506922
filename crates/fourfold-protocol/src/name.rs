//! Stream names: the path behind `/v1/stream/`, decoded and checked once, at the edge.

use std::{fmt, sync::Arc};

use crate::refusal::{Code, Refusal};

/// The longest name. Names are keys in the engine and stand in every log line about the stream.
pub const NAME_BYTES_MAX: usize = 1024;

/// The first segment that belongs to the protocol's own control interfaces. Spec: "Reserved Subscription APIs".
pub const RESERVED_SEGMENT: &str = "__ds";

/// What the names of calls' streams begin with. They are written by the server alone.
pub const CALLS: &str = "calls/";

/// The name of a stream: segments joined by `/`, decoded, cheap to clone.
///
/// Holds no empty segment, no `.` or `..`, no control character, no backslash, and is at most [`NAME_BYTES_MAX`] long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Reads the percent-encoded path behind `/v1/stream/`.
    ///
    /// Errors: [`Code::InvalidName`] saying what is wrong with it, [`Code::ReservedName`] below `__ds`.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        let invalid = |why: &str| Refusal::new(Code::InvalidName, format!("the stream name {why}"));
        let mut name = Vec::with_capacity(path.len());
        let mut bytes = path.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                name.push(byte);
                continue;
            }
            let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
            let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                return Err(invalid("has a '%' that is not followed by two hex digits"));
            };
            match u8::try_from(high * 16 + low).expect("two hex digits fit in a byte") {
                b'/' | b'\\' => return Err(invalid("has an encoded slash, which proxies read in different ways")),
                decoded => name.push(decoded),
            }
        }
        let name = String::from_utf8(name).map_err(|_| invalid("is not UTF-8"))?;
        Self::new(&name)
    }

    /// Checks a name that is decoded already. Errors as [`parse`](Self::parse).
    pub fn new(name: &str) -> Result<Self, Refusal> {
        let name = Self::internal(name)?;
        if name.is_reserved() {
            return Err(Refusal::new(
                Code::ReservedName,
                "paths below '__ds' are reserved for the protocol's control interfaces",
            ));
        }
        Ok(name)
    }

    /// As [`new`](Self::new), but for the server's own use: takes also a name below `__ds`. Never for a name from outside.
    pub fn internal(name: &str) -> Result<Self, Refusal> {
        let invalid = |why: &str| Refusal::new(Code::InvalidName, format!("the stream name {why}"));
        if name.len() > NAME_BYTES_MAX {
            return Err(invalid("is longer than 1024 bytes"));
        }
        if name.chars().any(|c| c.is_control() || c == '\\') {
            return Err(invalid("has a control character or a backslash"));
        }
        for segment in name.split('/') {
            match segment {
                "" => return Err(invalid("has an empty segment")),
                "." | ".." => return Err(invalid("has a segment that is '.' or '..'")),
                _ => {}
            }
        }
        Ok(Self(name.into()))
    }

    /// Whether it is one of the server's own streams, which clients neither see nor name.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.split('/').next() == Some(RESERVED_SEGMENT)
    }

    /// Whether it lies below `calls/`, where only calls write.
    #[must_use]
    pub fn is_call(&self) -> bool {
        self.0.starts_with(CALLS)
    }

    /// The decoded name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as it stands in a URL path.
    #[must_use]
    pub fn encoded(&self) -> String {
        use fmt::Write;
        let mut path = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                    path.push(char::from(byte))
                }
                _ => write!(path, "%{byte:02X}").expect("writing to a String does not fail"),
            }
        }
        path
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(path: &str) -> Code {
        StreamName::parse(path).expect_err(path).code
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for path in [
            "", "/", "a//b", "a/", "/a", ".", "a/../b", "%2e%2e/b", "a%2Fb", "a%5cb", "a%00", "a%0d%0a", "a%7f", "%zz",
            "%2", "%ff",
        ] {
            assert_eq!(code(path), Code::InvalidName, "{path}");
        }
        assert_eq!(code("__ds/subscriptions/x"), Code::ReservedName);
        assert_eq!(code("%5f_ds"), Code::ReservedName);
        assert_eq!(code(&"a".repeat(NAME_BYTES_MAX + 1)), Code::InvalidName);
        assert!(StreamName::parse("a/__ds").is_ok());
    }

    #[test]
    fn a_call_is_told_however_its_name_is_encoded() {
        assert!(StreamName::parse("%63alls/x").unwrap().is_call());
        for other in ["calls", "callsx/y", "a/calls/x", "Calls/x"] {
            assert!(!StreamName::parse(other).unwrap().is_call(), "{other}");
        }
    }

    #[test]
    fn only_the_server_itself_names_what_is_reserved() {
        assert!(StreamName::internal("__ds/keys").unwrap().is_reserved());
        assert!(!StreamName::internal("__dsx/keys").unwrap().is_reserved());
        assert_eq!(StreamName::internal("__ds//keys").unwrap_err().code, Code::InvalidName);
    }

    proptest! {
        #[test]
        fn an_accepted_name_survives_the_url(name in "[^/\\\\\\p{Cc}]{1,20}(/[^/\\\\\\p{Cc}]{1,20}){0,3}") {
            if let Ok(name) = StreamName::new(&name) {
                prop_assert_eq!(StreamName::parse(&name.encoded()).unwrap(), name);
            }
        }
    }
}
