//! A key that verifies tokens of one algorithm.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, crypto::verify};
use serde_json::Value;

use crate::{
    Algorithm,
    limits::{KEY_BYTES_MAX, KID_BYTES_MAX},
};

/// One key.
pub(crate) struct Key {
    pub(crate) algorithm: Algorithm,
    /// What tokens call it, if they may.
    pub(crate) kid: Option<String>,
    decoding: DecodingKey,
}

impl Key {
    /// Errors: what is wrong with the secret and how to get a good one.
    pub(crate) fn of_secret(algorithm: Algorithm, kid: Option<String>, secret: &[u8]) -> Result<Self, String> {
        if !algorithm.is_shared() {
            return Err(format!("{algorithm} has no secret; give its public key in PEM as 'key' or 'key-file'"));
        }
        let least = algorithm.secret_bytes_min();
        if secret.len() < least {
            return Err(format!(
                "the secret has {} bytes and {algorithm} needs {least} at least, else it can be guessed; make one with: fourfold token new-secret",
                secret.len()
            ));
        }
        if secret.len() > KEY_BYTES_MAX {
            return Err(format!("the secret has more than {KEY_BYTES_MAX} bytes"));
        }
        Ok(Self { algorithm, kid, decoding: DecodingKey::from_secret(secret) })
    }

    /// Errors: what is wrong with it.
    pub(crate) fn of_pem(algorithm: Algorithm, kid: Option<String>, pem: &str) -> Result<Self, String> {
        if pem.len() > KEY_BYTES_MAX {
            return Err(format!("the key has more than {KEY_BYTES_MAX} bytes"));
        }
        if pem.contains("PRIVATE KEY") {
            return Err("this is a private key, and a server that verifies needs only the public one: openssl pkey -in private.pem -pubout".into());
        }
        let bytes = pem.as_bytes();
        let decoding = match algorithm {
            Algorithm::Rs256 => DecodingKey::from_rsa_pem(bytes),
            Algorithm::Es256 => DecodingKey::from_ec_pem(bytes),
            Algorithm::EdDsa => DecodingKey::from_ed_pem(bytes),
            _ => return Err(format!("{algorithm} is by a secret; give it as 'secret' or 'secret-file'")),
        };
        let decoding = decoding.map_err(|_| {
            format!("this is no public key of {algorithm} in PEM, which begins with -----BEGIN PUBLIC KEY-----")
        })?;
        let public = decoding.try_get_as_bytes().map_err(|e| e.to_string())?;
        if !is_sound(algorithm, public) {
            return Err(format!("this key cannot verify {algorithm}{}", least(algorithm)));
        }
        Ok(Self { algorithm, kid, decoding })
    }

    /// A key of a set, if it verifies tokens by one of these algorithms. Shared secrets have no business in a set that is fetched.
    pub(crate) fn of_jwk(jwk: &Value, algorithms: &[Algorithm]) -> Option<Self> {
        let jwk = jwk.as_object()?;
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let (algorithm, public, decoding) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                let public = RsaPublicKeyComponents { n: &n, e: &e };
                let is_sound = RSA_MODULUS_BYTES.contains(&n.len())
                    && public.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok();
                (Algorithm::Rs256, None, is_sound.then(|| DecodingKey::from_rsa_raw_components(&n, &e))?)
            }
            ("EC", Some("P-256")) => {
                let point = [vec![4], bytes("x")?, bytes("y")?].concat();
                let decoding = DecodingKey::from_ec_der(&point);
                (Algorithm::Es256, Some(point), decoding)
            }
            ("OKP", Some("Ed25519")) => {
                let public = bytes("x")?;
                let decoding = DecodingKey::from_ed_der(&public);
                (Algorithm::EdDsa, Some(public), decoding)
            }
            _ => return None,
        };
        let named = jwk.get("alg").is_none_or(|alg| alg == algorithm.as_str());
        let usable = jwk.get("use").is_none_or(|purpose| purpose == "sig")
            && jwk
                .get("key_ops")
                .is_none_or(|all| all.as_array().is_some_and(|all| all.iter().any(|one| one == "verify")));
        if !named || !usable || !algorithms.contains(&algorithm) {
            return None;
        }
        if public.is_some_and(|public| !is_sound(algorithm, &public)) {
            return None;
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= KID_BYTES_MAX)?.to_owned()),
        };
        Some(Self { algorithm, kid, decoding })
    }

    /// Whether `signature`, in base64url, is this key's for `signed`.
    pub(crate) fn verifies(&self, signed: &str, signature: &str) -> bool {
        verify(signature, signed.as_bytes(), &self.decoding, self.algorithm.of_library()).unwrap_or(false)
    }
}

/// Whether the library will be able to use it: else every token would be refused, and nobody would know why.
fn is_sound(algorithm: Algorithm, public: &[u8]) -> bool {
    match algorithm {
        Algorithm::Rs256 => {
            public.len() >= *RSA_MODULUS_BYTES.start()
                && ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).is_ok()
        }
        Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public).is_ok(),
        Algorithm::EdDsa => ParsedPublicKey::new(&ED25519, public).is_ok(),
        _ => false,
    }
}

/// 2,048 to 8,192 bits: the library takes others, and then verifies nothing by them.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

fn least(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256 => ": RSA keys have from 2,048 to 8,192 bits",
        Algorithm::Es256 => ": its keys are on the curve P-256",
        _ => "",
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}
