//! Encryption: certificates that clients trust, those that they do not, and new ones.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::Request;
use diptych::store::{Append, EventStore};
use diptych_remote::{RemoteOptions, RemoteStore};
use diptych_server::{LogServer, ServerLimits, TlsError};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::door_server::{DoorServer, ask_over, in_time, raw_event};

/// An authority, and the certificate files of a server.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub(crate) fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("authority.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }

    /// An authority with a certificate for `localhost`.
    pub(crate) fn with_localhost() -> Authority {
        let authority = Authority::named("Authority of a test");
        authority.issue("localhost", |_| {});
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a new certificate into the files, in two steps.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("certificate.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    pub(crate) fn configure(&self, log: LogServer) -> LogServer {
        log.tls(self.path("certificate.pem"), self.path("key.pem")).unwrap()
    }

    pub(crate) fn options(&self) -> RemoteOptions {
        let mut options = RemoteOptions::default();
        options.authorities = Some(self.path("authority.pem"));
        options
    }

    /// A connection after its handshake, in which the client offers this protocol.
    async fn handshake(&self, server: &DoorServer, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        in_time(connector.connect(name, stream)).await.unwrap()
    }

    /// The certificate that a new connection gets.
    async fn shown(&self, server: &DoorServer) -> CertificateDer<'static> {
        let stream = self.handshake(server, "http/1.1").await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

fn address(server: &DoorServer, scheme: &str) -> String {
    format!("{scheme}://localhost:{}/log", server.address.port())
}

async fn connect(server: &DoorServer, options: RemoteOptions) -> Result<RemoteStore, String> {
    let address = address(server, "diptychs");
    let connected = in_time(RemoteStore::connect(&address, options)).await;
    connected.map_err(|error| error.to_string())
}

async fn append(store: &RemoteStore) -> Result<(), String> {
    let accepted = store.append(Append::event(raw_event("paid", "1"))).await;
    let accepted = accepted.map_err(|error| error.to_string())?;
    accepted.synced().await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_store_and_a_person_reach_an_encrypted_log_on_one_port() {
    let authority = Authority::with_localhost();
    let server = DoorServer::start(|log| authority.configure(log)).await;
    for scheme in ["diptychs", "https"] {
        let address = address(&server, scheme);
        let store = in_time(RemoteStore::connect(&address, authority.options())).await.unwrap();
        in_time(append(&store)).await.unwrap();
    }
    let stream = TokioIo::new(authority.handshake(&server, "http/1.1").await);
    let request = Request::get("/v1/logs/log").body(String::new()).unwrap();
    assert_eq!(ask_over(stream, request).await.ok()["head"], 2);
    server.stop().await;
}

#[tokio::test]
async fn a_client_says_whether_name_date_or_issuer_is_wrong() {
    let authority = Authority::with_localhost();
    let server = DoorServer::start(|log| authority.configure(log)).await;
    let refused = async |options| connect(&server, options).await.map(drop).unwrap_err();
    for name in ["Authority of a test", "Another authority"] {
        let error = refused(Authority::named(name).options()).await;
        assert!(error.contains("issuer of its certificate is not trusted"), "{error}");
    }
    // The system's authorities do not know this one either, or there are none.
    let error = refused(RemoteOptions::default()).await;
    assert!(error.contains("not trusted") || error.contains("encryption"), "{error}");
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change, &str); 3] = [
        ("log.example.org", |_| {}, "is for another name"),
        ("localhost", |params| params.not_after = date_time_ymd(2020, 1, 1), "has expired"),
        ("localhost", |params| params.not_before = date_time_ymd(3000, 1, 1), "not valid yet"),
    ];
    for (name, change, reason) in cases {
        authority.issue(name, change);
        let server = DoorServer::start(|log| authority.configure(log)).await;
        let error = connect(&server, authority.options()).await.map(drop).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_encrypts_says_that_the_server_does_not() {
    let authority = Authority::with_localhost();
    let server = DoorServer::start(|log| log).await;
    let error = connect(&server, authority.options()).await.map(drop).unwrap_err();
    assert!(error.contains("does not encrypt its connections"), "{error}");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_an_error() {
    let authority = Authority::with_localhost();
    let server = DoorServer::start(|log| authority.configure(log)).await;
    let mut options = authority.options();
    for (name, reason) in [("missing.pem", "No such file"), ("key.pem", "none in PEM form")] {
        options.authorities = Some(authority.path(name));
        let error = connect(&server, options.clone()).await.map(drop).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn certificate_files_that_cannot_be_used_are_an_error() {
    let authority = Authority::with_localhost();
    let store = || diptych::store::Store::new(diptych::store::Memory::new());
    let (certificate, key) = (authority.path("certificate.pem"), authority.path("key.pem"));
    let error = LogServer::new(store()).tls(&key, &key).err().unwrap();
    assert!(matches!(error, TlsError::Certificates { .. }), "{error}");
    let error = LogServer::new(store()).tls(&certificate, &certificate).err().unwrap();
    assert!(matches!(error, TlsError::Key { .. }), "{error}");
    let other = Authority::with_localhost();
    let error = LogServer::new(store()).tls(&certificate, other.path("key.pem")).err().unwrap();
    assert!(matches!(error, TlsError::Unusable { .. }), "{error}");
}

/// Certificates are renewed while clients connect, append and ask. No request may fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_swapped_under_load_and_no_request_fails() {
    let authority = Arc::new(Authority::with_localhost());
    let server = Arc::new(DoorServer::start(|log| authority.configure(log)).await);
    let (is_over, appended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let lasting = connect(&server, authority.options()).await.unwrap();
    let mut load = Vec::new();
    for _ in 0..3 {
        let (server, authority) = (server.clone(), authority.clone());
        let (is_over, appended, lasting) = (is_over.clone(), appended.clone(), lasting.clone());
        load.push(tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let store = connect(&server, authority.options()).await?;
                append(&store).await?;
                append(&lasting).await?;
                appended.fetch_add(2, Ordering::SeqCst);
            }
            Ok::<_, String>(())
        }));
    }
    for _ in 0..3 {
        let (old, before) = (authority.shown(&server).await, appended.load(Ordering::SeqCst));
        authority.issue("localhost", |_| {});
        let swapped = async {
            while authority.shown(&server).await == old
                || appended.load(Ordering::SeqCst) < before + 6
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        in_time(swapped).await;
    }
    is_over.store(true, Ordering::SeqCst);
    for task in load {
        in_time(task).await.unwrap().unwrap();
    }
    let head = server.store.head().position().get();
    assert_eq!(head, appended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn new_certificate_files_that_cannot_be_used_change_nothing() {
    let authority = Authority::with_localhost();
    let server = DoorServer::start(|log| authority.configure(log)).await;
    let old = authority.shown(&server).await;
    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        std::fs::write(authority.path("certificate.pem"), broken).unwrap();
        // Long enough for the server to see it; too short on a slow machine proves less.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(authority.shown(&server).await, old);
    }
    authority.issue("localhost", |_| {});
    let swapped = async {
        while authority.shown(&server).await == old {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(swapped).await;
}

/// Reads until the server closes the connection.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn a_slow_handshake_ends_with_the_time_for_a_head() {
    let authority = Authority::with_localhost();
    let mut limits = ServerLimits::default();
    limits.head_time = Duration::from_millis(100);
    let server = DoorServer::start(|log| authority.configure(log).limits(limits)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0x16, 3, 1]).await.unwrap();
    assert!(closed(&mut stream).await.is_empty());
}

#[tokio::test]
async fn old_versions_of_tls_and_plain_requests_are_refused() {
    let authority = Authority::with_localhost();
    let server = DoorServer::start(|log| authority.configure(log)).await;
    // A greeting of TLS 1.1: version, 32 random bytes, no session, one cipher, no compression.
    let mut greeting = vec![3, 2];
    greeting.extend([7; 32]);
    greeting.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let length = u8::try_from(greeting.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(greeting);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let answer = closed(&mut stream).await;
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /v1/logs/log HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = closed(&mut stream).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    connect(&server, authority.options()).await.unwrap();
}
