//! A poster whose owner has a certificate of a private authority.

use std::{net::SocketAddr, sync::Arc};

use diptych::{Memory, Store, poster::Poster};
use diptych_server::{Owner, OwnerError, Server};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    door_server::in_time,
    encryption::Authority,
    poster_process::catalogue,
    posters::{Site, owning_app},
};

/// Encrypts connections to the server at this address, as a proxy in front of it does.
async fn encrypted(to: SocketAddr, authority: &Authority) -> String {
    let certificates = CertificateDer::pem_file_iter(authority.path("certificate.pem")).unwrap();
    let certificates = certificates.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(authority.path("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut plain).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_trusts_the_authority_that_it_is_given_and_no_other() {
    let store = Store::new(Memory::new());
    let app = owning_app(store.clone()).await;
    let owner = Site::start(Server::new(app.clone())).await;
    let authority = Authority::with_localhost();
    let address = encrypted(owner.address, &authority).await;
    let poster = Poster::over_store(store).catalogue(catalogue()).open();
    let poster = in_time(poster).await.unwrap();
    let site = async |authority: &Authority| {
        let owner = Owner::at_with(&address, authority.path("authority.pem")).unwrap();
        let owner = owner.send_time(std::time::Duration::from_secs(5));
        Site::start(Server::poster(poster.clone()).owner(owner)).await
    };
    let trusting = site(&authority).await;
    assert_eq!(in_time(trusting.write("trusted")).await.ok()["events"], 1);
    // An authority of the same name, with another key.
    let other = site(&Authority::with_localhost()).await;
    in_time(other.write("lost")).await.problem(503, "unavailable");
    assert_eq!(app.head().get(), 1);
}

#[test]
fn a_file_without_certificates_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, empty) = (dir.path().join("missing.pem"), dir.path().join("empty.pem"));
    std::fs::write(&empty, "no certificate").unwrap();
    for file in [missing, empty] {
        let error = Owner::at_with("https://localhost:1", &file).unwrap_err();
        assert!(matches!(error, OwnerError::AuthorityFile { .. }), "{error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
