//! Certificates: loaded from PEM files, and loaded anew while the server runs.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, ProducesTickets},
};

use crate::certificate::Certificate;

/// The protocols that are spoken on TLS, the one we prefer first.
pub(crate) const ALPN: [&[u8]; 2] = [H2, b"http/1.1"];
pub(crate) const H2: &[u8] = b"h2";

/// What the server shows to its clients: a certificate with its chain, and the key to it.
///
/// A handle: clones are one and the same.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    /// Kept over a reload, so that clients who were here come back without a full handshake.
    tickets: Arc<dyn ProducesTickets>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    cert: PathBuf,
    key: PathBuf,
    config: Arc<ServerConfig>,
    certificate: Option<Certificate>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, may not be read, or is not PEM.
    #[error("{} cannot be read as PEM", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file is PEM, but of something else.
    #[error("{} holds no certificate: it has no BEGIN CERTIFICATE", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// The file is PEM, but of something else, or the key has a passphrase.
    #[error("{} holds no private key that can be used: it is PKCS#8, PKCS#1 or SEC1 without a passphrase", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// Both files are fine, but of two different certificates.
    #[error("the key in {} is not the one of the first certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Of a kind that is not understood.
    #[error("the certificate in {} or the key in {} is of a kind that cannot be used", cert.display(), key.display())]
    Unfit {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl Tls {
    /// The certificate with its chain, and its key, each from a PEM file. Reads them at once.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let tickets = aws_lc_rs::Ticketer::new().map_err(|source| TlsError::Unfit {
            cert: cert.to_owned(),
            key: key.to_owned(),
            source,
        })?;
        let loaded = Mutex::new(Loaded::read(cert, key, &tickets)?);
        Ok(Self(Arc::new(Shared { tickets, loaded })))
    }

    /// Reads the files again. Whoever connects from now on gets what they hold; connections go on with what they have.
    ///
    /// Errors: what was in force stays so.
    pub fn reload(&self) -> Result<(), TlsError> {
        let (cert, key) = {
            let loaded = self.loaded();
            (loaded.cert.clone(), loaded.key.clone())
        };
        self.reload_from(&cert, &key)
    }

    /// The same, if the files are others now.
    pub fn reload_from(&self, cert: &Path, key: &Path) -> Result<(), TlsError> {
        let loaded = Loaded::read(cert, key, &self.0.tickets)?;
        *self.loaded() = loaded;
        Ok(())
    }

    /// What the certificate in force says of itself; `None` if that is not understood, though clients may.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        self.loaded().certificate.clone()
    }

    /// What a handshake goes by.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded().config)
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.0.loaded.lock().expect("nobody panics while it holds the certificate")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = self.loaded();
        f.debug_struct("Tls").field("cert", &loaded.cert).field("key", &loaded.key).finish()
    }
}

impl Loaded {
    fn read(cert: &Path, key: &Path, tickets: &Arc<dyn ProducesTickets>) -> Result<Self, TlsError> {
        let chain = chain(cert)?;
        let certificate = chain.first().and_then(Certificate::parse);
        let config = config(chain, cert, key, tickets)?;
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), config, certificate })
    }
}

/// The server's own comes first; there is one at least.
fn chain(cert: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Unreadable { path: cert.to_owned(), source })?;
    if chain.is_empty() { Err(TlsError::NoCertificate { path: cert.to_owned() }) } else { Ok(chain) }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    cert: &Path,
    key: &Path,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let unfit = |source| TlsError::Unfit { cert: cert.to_owned(), key: key.to_owned(), source };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::NoKey { path: key.to_owned() },
        source => TlsError::Unreadable { path: key.to_owned(), source },
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions() // 1.2 and 1.3
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() },
            source => unfit(source),
        })?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    // What a client needs to come back cheaply is in its ticket, and costs the server nothing until then.
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0; // A request in it could be sent again by others.
    Ok(Arc::new(config))
}
