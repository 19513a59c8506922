//! Whom clients trust over TLS: what the system trusts, and authorities that are given beside it.
//!
//! Webhooks, upstreams, backends that are asked about access, and the command all go by this, so that there is one crypto provider and one
//! set of words for those whom nobody has told whom to trust. It neither resolves nor connects: whoever connects has rules of their own for that.

use std::sync::Arc;

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{CertificateDer, ServerName},
    },
};

/// Why TLS cannot be spoken as a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Nobody is trusted, so that every certificate would be refused.
    #[error("the system trusts nobody: install its certificates (ca-certificates), or set SSL_CERT_FILE")]
    Nobody,
    /// No certificate is for such a host.
    #[error("'{0}' is neither a host's name nor an address")]
    Name(String),
}

/// The authorities of the system and these. Reads the system's, which takes milliseconds: keep what comes of it.
///
/// Errors: [`Distrust::Nobody`].
pub fn authorities(also: &[CertificateDer<'static>]) -> Result<RootCertStore, Distrust> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a certificate of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certs);
    roots.add_parsable_certificates(also.iter().cloned());
    if roots.is_empty() { Err(Distrust::Nobody) } else { Ok(roots) }
}

/// Connects to those who show a certificate of one of these authorities.
#[must_use]
pub fn trusting(roots: RootCertStore) -> TlsConnector {
    TlsConnector::from(Arc::new(config(roots)))
}

/// The same for whoever makes the connections otherwise. Without any authority every certificate is refused.
#[must_use]
pub fn config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The one and only.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// For whom the certificate has to be: a host as it stands in a URL, of IPv6 in its brackets.
///
/// Errors: [`Distrust::Name`].
pub fn name(host: &str) -> Result<ServerName<'static>, Distrust> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| Distrust::Name(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    #[test]
    fn a_given_authority_is_trusted_beside_those_of_the_system() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let without = authorities(&[]).map_or(0, |roots| roots.len());
        assert_eq!(authorities(&[authority.der().clone()]).unwrap().len(), without + 1);
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        assert_eq!(name("example.org"), Ok(ServerName::try_from("example.org").unwrap()));
        assert_eq!(name("127.0.0.1"), Ok(ServerName::try_from("127.0.0.1").unwrap()));
        assert_eq!(name("[::1]"), Ok(ServerName::try_from("::1").unwrap()));
        for none in ["", "[]", "a b", "[::1"] {
            assert_eq!(name(none), Err(Distrust::Name(none.to_owned())));
        }
    }
}
