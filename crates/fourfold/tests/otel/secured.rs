//! A collector that speaks TLS.

use std::{fs, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer};

use crate::{
    collector::Collector,
    server::{Begun, Server},
    spans::Trace,
};

/// Its certificate is for this address, by an authority whose own certificate is returned.
fn collector() -> (Collector, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name").signed_by(&key, &authority);
    let chain = vec![certificate.expect("signed").der().clone()];
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a certificate");
    (Collector::start_secure(config), authority.pem())
}

#[test]
fn traces_go_over_tls_if_the_collectors_certificate_is_good_and_else_nowhere() {
    let (collector, authority) = collector();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trusted = dir.path().join("authority.pem");
    fs::write(&trusted, authority).expect("it is written");
    let begun = Begun::sampled(1);

    let server = Server::start(&collector.url(), &[], &[]);
    assert!(server.append(&begun.header()).starts_with("HTTP/1.1 204"));
    let log = server.end().stderr;
    assert!(log.contains("the collector has not taken the traces: TLS cannot be spoken"), "{log}");
    assert!(collector.exports().is_empty());

    let trusting = [("SSL_CERT_FILE", trusted.to_str().expect("UTF-8"))];
    let server = Server::start(&collector.url(), &trusting, &[]);
    assert!(server.append(&begun.header()).starts_with("HTTP/1.1 204"));
    server.end();
    Trace::of(&collector.spans(), &begun.trace);
}
