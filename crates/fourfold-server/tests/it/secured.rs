//! Certificates, clients that speak TLS, and a way for those that do not.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
};

use fourfold_server::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
        crypto::aws_lc_rs::default_provider,
        pki_types::ServerName,
        version::{TLS12, TLS13},
    },
};

use crate::harness::PATIENCE;

/// Signs what all servers of these tests show.
fn authority() -> &'static CertifiedIssuer<'static, KeyPair> {
    static AUTHORITY: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
    })
}

/// A certificate for `localhost`, and its key, in files.
pub(crate) struct Certificate {
    _dir: TempDir,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let certificate = Self { _dir: dir, cert, key };
        certificate.renew();
        certificate
    }

    /// Another one in the same files. Returns it as it is on the wire.
    pub(crate) fn renew(&self) -> Vec<u8> {
        self.renew_until(4000)
    }

    /// The same, good until a year begins.
    pub(crate) fn renew_until(&self, year: i32) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".into(), "127.0.0.1".into()];
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, authority()).expect("signed");
        fs::write(&self.cert, certificate.pem()).expect("a file");
        fs::write(&self.key, key.serialize_pem()).expect("a file");
        certificate.der().to_vec()
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls::load(&self.cert, &self.key).expect("it is good")
    }
}

/// What a client goes by that trusts the authority of these tests.
pub(crate) fn trusting(protocols: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority().der().clone()).expect("it is an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("they go with the provider")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// A client that speaks TLS itself.
pub(crate) type Secured = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> Secured {
    let tcp = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
    over(tcp, config)
}

pub(crate) fn over(tcp: TcpStream, config: Arc<ClientConfig>) -> Secured {
    tcp.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    tcp.set_nodelay(true).expect("pieces go as they are");
    let mut stream = StreamOwned::new(ClientConnection::new(config, name()).expect("a name"), tcp);
    stream.conn.complete_io(&mut stream.sock).expect("they shake hands");
    stream
}

/// An address where a client that speaks no TLS reaches a server that speaks nothing else.
pub(crate) fn tunnel(server: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it listens");
    listener.set_nonblocking(true).expect("for tokio");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connector = TlsConnector::from(trusting(&["http/1.1"], &VERSIONS));
    thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (mut client, _) = listener.accept().await?;
                let connector = connector.clone();
                tokio::spawn(async move {
                    let tcp = tokio::net::TcpStream::connect(server).await?;
                    tcp.set_nodelay(true)?;
                    client.set_nodelay(true)?;
                    let mut secured = connector.connect(name(), tcp).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut secured).await?;
                    io::Result::Ok(())
                });
            }
            #[expect(unreachable_code, reason = "says what the block's errors are")]
            io::Result::Ok(())
        })
    });
    address
}
