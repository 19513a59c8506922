//! Tokens for development and for tests: what an issuer would do.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, crypto};
use serde_json::{Map, Value, json};

use crate::{Algorithm, Secret};

/// What signs.
pub struct Signer {
    algorithm: Algorithm,
    kid: Option<String>,
    encoding: EncodingKey,
}

/// Why nothing can be signed: one clause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsigned(String);

impl Signer {
    /// Signs by a secret.
    ///
    /// Errors: the algorithm is not by a secret.
    pub fn of_secret(algorithm: Algorithm, kid: Option<String>, secret: &Secret) -> Result<Self, Unsigned> {
        if !algorithm.is_shared() {
            return Err(Unsigned(format!("{algorithm} is signed by a private key")));
        }
        Ok(Self { algorithm, kid, encoding: EncodingKey::from_secret(&secret.0) })
    }

    /// Signs by a private key in PEM: PKCS#8, or PKCS#1 for RSA.
    ///
    /// Errors: it is not one of this algorithm.
    pub fn of_pem(algorithm: Algorithm, kid: Option<String>, pem: &str) -> Result<Self, Unsigned> {
        let encoding = match algorithm {
            Algorithm::Rs256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => return Err(Unsigned(format!("{algorithm} is signed by a secret"))),
        };
        let encoding = encoding.map_err(|_| {
            Unsigned(format!("this is no private key of {algorithm}; its PEM begins with -----BEGIN PRIVATE KEY-----"))
        })?;
        Ok(Self { algorithm, kid, encoding })
    }

    /// A token with these claims, as they are.
    ///
    /// Errors: the key does not sign.
    pub fn sign(&self, claims: &Map<String, Value>) -> Result<String, Unsigned> {
        let mut header = json!({ "alg": self.algorithm.as_str(), "typ": "JWT" });
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.sign_parts(&header.to_string(), &Value::Object(claims.clone()).to_string())
    }

    /// A token of any header and any claims: for tests of what must not be taken.
    ///
    /// Errors: the key does not sign.
    pub fn sign_parts(&self, header: &str, claims: &str) -> Result<String, Unsigned> {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = crypto::sign(signed.as_bytes(), &self.encoding, self.algorithm.of_library())
            .map_err(|_| Unsigned(format!("this key does not sign {}", self.algorithm)))?;
        Ok(format!("{signed}.{signature}"))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}
