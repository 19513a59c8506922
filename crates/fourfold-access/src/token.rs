//! A token taken apart: all that is read of one before its signature is known to be good.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Algorithm,
    claims::depth,
    fault::Fault,
    limits::{CLAIMS_DEPTH_MAX, KID_BYTES_MAX, TOKEN_BYTES_MAX},
};

/// The three parts of a token.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) header: Header,
    /// What the signature is of.
    pub(crate) signed: &'a str,
    /// The claims, encoded.
    pub(crate) claims: &'a str,
    /// Encoded.
    pub(crate) signature: &'a str,
}

/// What a token says about its signature. Keys in it (`jwk`, `x5c`) and places where keys are (`jku`, `x5u`) are not looked at: whoever forges a token
/// writes them, too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    alg: String,
    kid: Option<String>,
    #[serde(borrow)]
    crit: Option<&'a RawValue>,
    #[serde(borrow)]
    b64: Option<&'a RawValue>,
}

impl<'a> Parts<'a> {
    /// Takes it apart. Errors: it does not look like a token that could be good here.
    pub(crate) fn of(token: &'a str) -> Result<Self, Fault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let three = Fault::Form("it is not three parts with dots between");
        let (signed, signature) = token.rsplit_once('.').ok_or(three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(three.clone())?;
        if claims.contains('.') {
            return Err(three);
        }
        if header.is_empty() || claims.is_empty() || signature.is_empty() {
            return Err(Fault::Form("a part of it is empty"));
        }
        Ok(Self { header: Header::decode(header)?, signed, claims, signature })
    }
}

impl Header {
    fn decode(part: &str) -> Result<Self, Fault> {
        let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Form("its header is not base64url"))?;
        if depth(&json) > CLAIMS_DEPTH_MAX {
            return Err(Fault::Form("its header nests too deep"));
        }
        let no_object = Fault::Form("its header is not a JSON object with 'alg'");
        // serde would take an array for the members in their order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(no_object);
        }
        // What stands twice is refused by the parser.
        let typed: Typed<'_> = serde_json::from_slice(&json).map_err(|_| no_object)?;
        if typed.crit.is_some() || typed.b64.is_some() {
            return Err(Fault::Critical);
        }
        if typed.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(Fault::UnknownKey);
        }
        let algorithm = typed.alg.parse().map_err(|_| Fault::Algorithm)?;
        Ok(Self { algorithm, kid: typed.kid })
    }
}
