//! What is wrong with a token, and what is said about it. Nothing here repeats a word of the token.

use std::fmt;

use fourfold_protocol::{Code, Refusal};

use crate::limits::TOKEN_BYTES_MAX;

/// Why a token is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not look like one; the clause says how.
    Form(&'static str),
    /// It has more than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// It asks for something that must be understood and is not.
    Critical,
    /// Its algorithm is none of the configured keys'.
    Algorithm,
    /// No key is called as it says.
    UnknownKey,
    /// No key that it could be signed by has signed it.
    Signature,
    /// This claim; the clause goes on after its name.
    Claim(&'static str, String),
    /// It is for somebody else.
    Audience,
    /// It is from somebody else.
    Issuer,
    /// It never expires.
    NoExpiry,
    /// It is not good before a moment that is so many seconds ahead.
    Early(u64),
    /// It is not good any more since so many seconds.
    Expired(u64),
    /// No tokens are taken.
    NotTaken,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(why) => write!(f, "this is not a token that was signed: {why}"),
            Self::TooLong => write!(f, "the token has more than {TOKEN_BYTES_MAX} bytes"),
            Self::Critical => f.write_str("the token's header has 'crit', which no extension here answers to"),
            Self::Algorithm => f.write_str("the token's 'alg' is not that of any configured key"),
            Self::UnknownKey => f.write_str("no configured key has the token's 'kid'"),
            Self::Signature => f.write_str("the token's signature is not that of a configured key"),
            Self::Claim(name, why) => write!(f, "the token's '{name}' {why}"),
            Self::Audience => f.write_str("the token's 'aud' does not name this server's audience"),
            Self::Issuer => f.write_str("the token's 'iss' is not the configured issuer"),
            Self::NoExpiry => f.write_str("the token has no 'exp': tokens here expire"),
            Self::Early(seconds) => write!(f, "the token is not good yet, but in {seconds} s: its 'nbf' lies ahead"),
            Self::Expired(seconds) => write!(f, "the token expired {seconds} s ago: come back with a new one"),
            Self::NotTaken => f.write_str("this server takes no tokens: come without one"),
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let code = if matches!(fault, Fault::Expired(_)) { Code::ExpiredToken } else { Code::InvalidToken };
        Self::new(code, fault.to_string()).with("wwwAuthenticate", "Bearer realm=\"fourfold\", error=\"invalid_token\"")
    }
}
