//! TLS of the client commands: whom they trust, and what is wrong, in words that say what to do.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fourfold_server::Certificate;
use fourfold_trust::Distrust;
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{
        CertificateDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
};

/// Why it is not known whom to trust.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The file is not there, may not be read, or is not PEM.
    #[error("--ca: {} cannot be read as PEM: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// It is PEM of something else, such as a key.
    #[error("--ca: {} holds no certificate: it has no BEGIN CERTIFICATE", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// Neither the system nor a file names anybody.
    #[error("{0}, or give the authority of the server with --ca")]
    Nobody(#[from] Distrust),
}

/// What a client goes by that trusts the system's authorities and those in the file.
///
/// A certificate in the file is trusted as it is, too, if the server shows that very one: certificates that were made to try TLS with are mostly their own
/// authorities, which is no authority over anything by the rules.
pub(crate) fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let given = match ca {
        Some(path) => read(path)?,
        None => Vec::new(),
    };
    let roots = fourfold_trust::authorities(&given)?;
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), fourfold_trust::provider());
    let usual = usual.build().expect("there are authorities, and no lists of revoked ones");
    let mut config = fourfold_trust::config(RootCertStore::empty());
    config.dangerous().set_certificate_verifier(Arc::new(Known { usual, given }));
    Ok(Arc::new(config))
}

/// For a client that is to speak no TLS: whoever comes is refused.
pub(crate) fn nobody() -> Arc<ClientConfig> {
    Arc::new(fourfold_trust::config(RootCertStore::empty()))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let given = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })?;
    if given.is_empty() { Err(TrustError::NoCertificate { path: path.to_owned() }) } else { Ok(given) }
}

/// The usual rules, but that a server's certificate which is its own authority is good if it was given.
#[derive(Debug)]
struct Known {
    usual: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if !judged.as_ref().is_err_and(is_an_authority) {
            return judged;
        }
        let refused = |why: CertificateError| Err(rustls::Error::InvalidCertificate(why));
        if !self.given.contains(end_entity) {
            return refused(CertificateError::UnknownIssuer);
        }
        // It was given, so all that is left to ask is whether it is for this server, and now.
        let Some(certificate) = Certificate::parse(end_entity) else { return judged };
        let at = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if at > certificate.ends_at {
            return refused(CertificateError::ExpiredContext { time: now, not_after: unix(certificate.ends_at) });
        }
        if at < certificate.begins_at {
            return refused(CertificateError::NotValidYetContext {
                time: now,
                not_before: unix(certificate.begins_at),
            });
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether what was refused is an authority that shows itself as a server. Only the words of the error tell.
fn is_an_authority(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string() == "CaUsedAsEndEntity",
        _ => false,
    }
}

fn unix(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// What is wrong with the TLS of `server`, a URL, if that is why there is an error and it will not pass.
pub(crate) fn explained(error: &(dyn Error + 'static), server: &str) -> Option<String> {
    use rustls::Error as Tls;
    Some(match cause(error)? {
        Tls::InvalidCertificate(why) => certificate(why, server),
        Tls::InvalidMessage(_) => format!("{server} does not speak TLS: write http:// in its URL"),
        Tls::PeerIncompatible(why) => format!("{server} speaks no TLS that this command does ({why:?})"),
        Tls::AlertReceived(
            alert @ (AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity),
        ) => format!("{server} speaks no TLS that this command does ({alert:?})"),
        Tls::AlertReceived(AlertDescription::UnrecognisedName) => {
            format!("{server} has no certificate for this name: write one in its URL that it has a certificate for")
        }
        Tls::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{server} wants a certificate of its clients, which this command does not have")
        }
        _ => return None,
    })
}

fn certificate(why: &CertificateError, server: &str) -> String {
    use CertificateError as Why;
    let day = |at: &UnixTime| time::OffsetDateTime::from(UNIX_EPOCH + Duration::from_secs(at.as_secs())).date();
    match why {
        // The latter: an authority of the same name is known, as when it was made anew.
        Why::UnknownIssuer | Why::BadSignature => format!(
            "the certificate of {server} is of an authority that is not known here: give it with --ca (a PEM file)"
        ),
        Why::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            format!(
                "the certificate of {server} is not for that name, but for {}: write one of these in the URL, or give the server another certificate",
                names.join(", ")
            )
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            format!("the certificate of {server} is not for that name: give the server one that is")
        }
        Why::ExpiredContext { not_after, .. } => format!(
            "the certificate of {server} has ended on {}: renew it there, then 'fourfold reload' (or this machine's clock is wrong)",
            day(not_after)
        ),
        Why::Expired => format!("the certificate of {server} has ended: renew it there, then 'fourfold reload'"),
        Why::NotValidYetContext { not_before, .. } => {
            format!("the certificate of {server} begins only on {}: is this machine's clock right?", day(not_before))
        }
        Why::Revoked => format!("the certificate of {server} was called back by its authority"),
        other => format!("the certificate of {server} cannot be trusted: {other}"),
    }
}

/// `DnsName("localhost")` as `localhost`.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

/// What rustls says, wherever it stands in the chain.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // Its `source` would be that of what it holds.
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inside {
        Some(inside) => cause(inside),
        None => cause(error.source()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_in_whatever_it_is_wrapped() {
        let error = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error()));
        let said = explained(&wrapped, "https://host").unwrap();
        assert!(said.contains("https://host") && said.contains("--ca"), "{said}");
        assert_eq!(explained(&io::Error::other("x"), "https://host"), None);
        assert_eq!(explained(&rustls::Error::DecryptError, "https://host"), None, "a cut may look so");
    }

    #[test]
    fn a_file_without_certificates_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        for (text, words) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n", "cannot be read as PEM")]
        {
            std::fs::write(&path, text).unwrap();
            let error = config(Some(&path)).unwrap_err().to_string();
            assert!(error.starts_with("--ca: ") && error.contains(words) && error.contains("x.pem"), "{error}");
        }
        assert!(matches!(config(Some(Path::new("/nowhere"))), Err(TrustError::Unreadable { .. })));
    }
}
