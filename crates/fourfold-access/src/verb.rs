//! What can be asked for.

use std::{fmt, str::FromStr};

/// What a request wants to do with what its path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read a stream by any transport, or its metadata.
    Read,
    /// Append to a stream, or close it.
    Append,
    /// Create a stream.
    Create,
    /// Delete a stream, or cancel a call.
    Delete,
    /// See a stream or a call in a listing.
    List,
    /// Begin the call of this name.
    Call,
    /// Have a worker woken: the control interfaces below `__ds`.
    Control,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Append, Self::Create, Self::Delete, Self::List, Self::Call, Self::Control];

    /// As claims, rules and the hook call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Call => "call",
            Self::Control => "control",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of read, append, create, delete, list, call, control")]
pub struct UnknownVerb;

impl FromStr for Verb {
    type Err = UnknownVerb;

    fn from_str(text: &str) -> Result<Self, UnknownVerb> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text).ok_or(UnknownVerb)
    }
}
