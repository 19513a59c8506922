//! The handshake: the accept key, and which offer of compression is taken.
//!
//! Compression never keeps a context, in either direction: then frames can be shared between connections, and a
//! connection needs neither 310 KB to deflate nor 50 KB to inflate. RFC 7692 lets a server ask that of every client.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

/// The only version of the protocol there is, for `Sec-WebSocket-Version`.
pub const VERSION: &str = "13";

/// Spec: RFC 6455 "Server-Side Requirements", "Sending the Server's Opening Handshake".
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; `None` if the key is not 16 bytes in base64.
#[must_use]
pub fn accept_key(key: &str) -> Option<String> {
    let nonce = STANDARD.decode(key).ok()?;
    if nonce.len() != 16 {
        return None;
    }
    let mut sha1 = sha1_smol::Sha1::from(key);
    sha1.update(ACCEPT_GUID.as_bytes());
    Some(STANDARD.encode(sha1.digest().bytes()))
}

/// What was agreed on about permessage-deflate. Its `Display` is the value of `Sec-WebSocket-Extensions` to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    server_max_window_bits: Option<u8>,
}

impl Agreed {
    /// Whether a message of so many bytes may be sent compressed: deflate refers back no further than its beginning,
    /// so whatever fits into the reader's window may be compressed with any window, and so once for all readers.
    #[must_use]
    pub fn allows(self, message_bytes: usize) -> bool {
        self.server_max_window_bits.is_none_or(|bits| message_bytes <= 1 << bits)
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate; server_no_context_takeover; client_no_context_takeover")?;
        match self.server_max_window_bits {
            Some(bits) => write!(f, "; server_max_window_bits={bits}"),
            None => Ok(()),
        }
    }
}

/// Takes the first acceptable offer of permessage-deflate from the values of all `Sec-WebSocket-Extensions` headers.
///
/// An offer with anything unknown, malformed or said twice is declined, as is every other extension; the next may do.
/// Spec: RFC 7692 "Extension Negotiation".
pub fn negotiate<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Agreed> {
    headers.into_iter().flat_map(|header| Split { rest: Some(header), at: b',' }).find_map(accept)
}

fn accept(offer: &str) -> Option<Agreed> {
    let mut parts = Split { rest: Some(offer), at: b';' };
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let (mut agreed, mut said) = (Agreed { server_max_window_bits: None }, [false; 4]);
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
            None => (part, None),
        };
        // Both sides do without context, asked or not; and a client's window never needs to be smaller for us.
        let index = match (name.to_ascii_lowercase().as_str(), value) {
            ("server_no_context_takeover", None) => 0,
            ("client_no_context_takeover", None) => 1,
            ("client_max_window_bits", None) => 2,
            ("client_max_window_bits", Some(value)) => window_bits(value).map(|_| 2)?,
            ("server_max_window_bits", Some(value)) => {
                agreed.server_max_window_bits = Some(window_bits(value)?);
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut said[index], true) {
            return None;
        }
    }
    Some(agreed)
}

fn window_bits(value: &str) -> Option<u8> {
    let bits: u8 = value.parse().ok().filter(|bits| (8..=15).contains(bits))?;
    (bits.to_string() == value).then_some(bits) // no sign, no leading zero
}

/// The value, out of its quotes if it has any. What is between them must be a token too, so an escape is malformed.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// Trimmed parts between separators that do not stand in quotes.
struct Split<'a> {
    rest: Option<&'a str>,
    at: u8,
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let (mut in_quotes, mut escaped) = (false, false);
        let end = rest.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_quotes => escaped = true,
                b'"' => in_quotes = !in_quotes,
                _ => return byte == self.at && !in_quotes,
            }
            false
        });
        self.rest = end.map(|end| &rest[end + 1..]);
        Some(rest[..end.unwrap_or(rest.len())].trim_matches([' ', '\t']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answer(offers: &str) -> Option<String> {
        negotiate([offers]).map(|agreed| agreed.to_string())
    }

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn a_key_is_16_bytes_of_base64() {
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZSEh",
            "not base64 at all!!!!!==",
        ] {
            assert_eq!(accept_key(key), None, "{key}");
        }
    }

    #[test]
    fn no_context_is_ever_taken_over() {
        for offer in [
            "permessage-deflate",
            "Permessage-Deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=10;client_no_context_takeover",
            "permessage-deflate ; server_no_context_takeover\t; client_max_window_bits = \"9\"",
        ] {
            assert_eq!(answer(offer).as_deref(), Some(BOTH), "{offer}");
        }
    }

    #[test]
    fn a_smaller_window_of_the_reader_is_kept_to() {
        let agreed = negotiate(["permessage-deflate; server_max_window_bits=\"9\""]).expect("the offer is fine");
        assert_eq!(agreed.to_string(), format!("{BOTH}; server_max_window_bits=9"));
        assert!(agreed.allows(512) && !agreed.allows(513));
        assert!(negotiate([BOTH]).expect("the offer is fine").allows(usize::MAX));
    }

    #[test]
    fn an_offer_that_is_not_understood_is_declined() {
        for parameter in [
            "",
            "x",
            "x=1",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=",
            "client_max_window_bits=",
            "client_max_window_bits=\"9",
            "client_max_window_bits=0",
            "server_no_context_takeover=1",
            "client_no_context_takeover=",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=9",
        ] {
            assert_eq!(answer(&format!("permessage-deflate; {parameter}")), None, "{parameter}");
        }
        assert_eq!(answer(""), None);
        assert_eq!(answer("x-webkit-deflate-frame, permessage-bzip2"), None);
    }

    #[test]
    fn the_first_offer_that_will_do_is_taken() {
        let next = "permessage-deflate; server_max_window_bits=10";
        for before in
            ["permessage-deflate; x", "other; a=\"b, permessage-deflate\"", "permessage-deflate; x=\"\\\",\"", ","]
        {
            assert_eq!(
                answer(&format!("{before}, {next}, permessage-deflate")),
                Some(format!("{BOTH}; server_max_window_bits=10")),
                "{before}"
            );
        }
        assert_eq!(negotiate(["other", "permessage-deflate"]).map(|agreed| agreed.to_string()).as_deref(), Some(BOTH));
    }
}
