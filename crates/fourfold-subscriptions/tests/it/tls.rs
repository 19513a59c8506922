//! Webhooks over TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer},
};

use crate::ground::{Ground, Receiver, run, serve, until};

/// A webhook on `localhost` with a certificate of an authority, and that authority.
async fn receiver() -> (Receiver, Vec<u8>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/hook?x=1", listener.local_addr().unwrap().port());
    let (sender, calls) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                if let Ok(socket) = acceptor.accept(socket).await {
                    serve(socket, sender).await;
                }
            });
        }
    });
    (Receiver::with(url, calls), authority.der().to_vec())
}

#[test]
fn a_webhook_over_tls_is_delivered_to_if_its_certificate_is_good() {
    run(async {
        let (mut receiver, authority) = receiver().await;
        let ground = Ground::trusting(authority).await;
        ground.hook("s", &receiver.url, 30_000).await;
        ground.create("events/a").await;
        let tail = ground.append("events/a").await;
        receiver.call().await.answer(200, r#"{"done":true}"#);
        until(async || ground.acked("s", "events/a").await == tail).await;
    });
}

#[test]
fn a_webhook_with_a_certificate_of_nobody_is_told_nothing() {
    run(async {
        let (mut receiver, _) = receiver().await;
        let ground = Ground::memory().await;
        ground.hook("s", &receiver.url, 30_000).await;
        ground.create("events/a").await;
        ground.append("events/a").await;
        until(async || ground.get("s").await["status"] == "failed").await;
        assert!(receiver.is_idle());
    });
}
