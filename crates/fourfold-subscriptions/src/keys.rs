//! The server's keys: one signs webhooks, one seals tokens. Both outlive a restart, so that what was sent before it stays valid.
//!
//! Spec: "Webhook Signing Key Discovery", "Callback Token Security", "Webhook Signature Security".

use aws_lc_rs::{
    digest, hmac,
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fourfold_protocol::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Both keys, ready for use.
pub(crate) struct Keys {
    signing: Ed25519KeyPair,
    kid: String,
    sealing: hmac::Key,
}

/// Both keys as they are kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    /// PKCS #8, base64url.
    ed25519: String,
    /// 32 bytes, base64url.
    hmac: String,
}

/// What a token says: who may do what, until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// The subscription.
    pub(crate) sub: String,
    /// Which life of its id.
    pub(crate) life: String,
    /// The generation.
    #[serde(rename = "gen")]
    pub(crate) generation: u64,
    /// In seconds since the Unix epoch.
    pub(crate) exp: u64,
}

/// The random source of the system failed, or a kept key is damaged.
#[derive(Debug, thiserror::Error)]
#[error("the keys of subscriptions are damaged, or the system gives no random bytes")]
pub(crate) struct Unusable;

impl Kept {
    pub(crate) fn fresh() -> Result<Self, Unusable> {
        let random = SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| Unusable)?;
        let mut hmac = [0; 32];
        random.fill(&mut hmac).map_err(|_| Unusable)?;
        Ok(Self { ed25519: BASE64.encode(pkcs8.as_ref()), hmac: BASE64.encode(hmac) })
    }
}

impl Keys {
    pub(crate) fn from(kept: &Kept) -> Result<Self, Unusable> {
        let pkcs8 = BASE64.decode(&kept.ed25519).map_err(|_| Unusable)?;
        let signing = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| Unusable)?;
        let secret = BASE64.decode(&kept.hmac).map_err(|_| Unusable)?;
        // The members of a thumbprint in the order of RFC 7638.
        let x = BASE64.encode(signing.public_key().as_ref());
        let thumbprint = sha256(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes());
        Ok(Self { kid: format!("ds_{thumbprint}"), signing, sealing: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, for whoever is delivered to.
    pub(crate) fn jwks(&self) -> Value {
        let x = BASE64.encode(self.signing.public_key().as_ref());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "use": "sig", "alg": "EdDSA", "x": x }] })
    }

    /// The value of `Webhook-Signature` for a body sent at this time.
    pub(crate) fn sign(&self, seconds: u64, body: &[u8]) -> String {
        let signed = [format!("{seconds}.").as_bytes(), body].concat();
        let signature = BASE64.encode(self.signing.sign(&signed).as_ref());
        format!("t={seconds},kid={},ed25519={signature}", self.kid)
    }

    /// A token that says so.
    pub(crate) fn seal(&self, grant: &Grant) -> String {
        let said = BASE64.encode(serde_json::to_vec(grant).expect("a grant can be written to memory"));
        let seal = BASE64.encode(hmac::sign(&self.sealing, said.as_bytes()).as_ref());
        format!("{said}.{seal}")
    }

    /// What a token of this subscription says. Errors: [`Code::InvalidToken`].
    pub(crate) fn unseal(&self, token: Option<&str>, sub: &str, now_seconds: u64) -> Result<Grant, Refusal> {
        let invalid = |why: &str| Refusal::new(Code::InvalidToken, why).with("wwwAuthenticate", "Bearer");
        let token = token.ok_or_else(|| invalid("send the wake's token as 'Authorization: Bearer …'"))?;
        let grant = token.split_once('.').and_then(|(said, seal)| {
            hmac::verify(&self.sealing, said.as_bytes(), &BASE64.decode(seal).ok()?).ok()?;
            serde_json::from_slice::<Grant>(&BASE64.decode(said).ok()?).ok()
        });
        let grant = grant.ok_or_else(|| invalid("the token is not one of this server"))?;
        if grant.sub != sub {
            return Err(invalid("the token is for another subscription"));
        }
        if grant.exp <= now_seconds {
            return Err(invalid("the token has expired"));
        }
        Ok(grant)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("kid", &self.kid).finish_non_exhaustive()
    }
}

pub(crate) fn sha256(data: &[u8]) -> String {
    BASE64.encode(digest::digest(&digest::SHA256, data).as_ref())
}

/// A name that nobody can guess and that is used once.
pub(crate) fn nonce() -> Result<String, Unusable> {
    let mut bytes = [0; 12];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Unusable)?;
    Ok(BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn a_signature_is_verified_with_what_is_published() {
        let kept = Kept::fresh().unwrap();
        let keys = Keys::from(&kept).unwrap();
        let header = keys.sign(1_700_000_000, b"{\"a\":1}");
        let mut parts = header.split(',').map(|part| part.split_once('=').unwrap());
        assert_eq!(parts.next(), Some(("t", "1700000000")));
        let (_, kid) = parts.next().unwrap();
        let (name, signature) = parts.next().unwrap();
        assert_eq!((name, parts.next()), ("ed25519", None));
        let jwks = keys.jwks();
        let key = &jwks["keys"][0];
        assert_eq!((key["kid"].as_str(), key["alg"].as_str()), (Some(kid), Some("EdDSA")));
        let public = UnparsedPublicKey::new(&ED25519, BASE64.decode(key["x"].as_str().unwrap()).unwrap());
        let signature = BASE64.decode(signature).unwrap();
        public.verify(b"1700000000.{\"a\":1}", &signature).unwrap();
        assert!(public.verify(b"1700000001.{\"a\":1}", &signature).is_err());
        assert_eq!(Keys::from(&kept).unwrap().kid(), kid, "the id of a key outlives a restart");
        assert!(!jwks.to_string().contains(&kept.ed25519));
    }

    #[test]
    fn a_token_opens_only_what_it_says() {
        let keys = Keys::from(&Kept::fresh().unwrap()).unwrap();
        let grant = Grant { sub: "a".into(), life: "l".into(), generation: 7, exp: 100 };
        let token = keys.seal(&grant);
        assert_eq!(keys.unseal(Some(&token), "a", 99).unwrap(), grant);
        let forged = Keys::from(&Kept::fresh().unwrap()).unwrap().seal(&grant);
        for (token, sub, now) in [
            (None, "a", 0),
            (Some(token.as_str()), "b", 99),
            (Some(&token), "a", 100),
            (Some(&forged), "a", 0),
            (Some(&token[1..]), "a", 0),
            (Some("nonsense"), "a", 0),
        ] {
            assert_eq!(keys.unseal(token, sub, now).unwrap_err().code, Code::InvalidToken);
        }
    }
}
