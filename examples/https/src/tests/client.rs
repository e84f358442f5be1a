//! A client that speaks TLS, and HTTP/2 or HTTP/1.1 as a test wants.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Bytes,
    http::{Request, Response, StatusCode, Uri, header},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use super::LONG;

/// A self-signed certificate, which clients of a test trust.
pub(crate) struct Certificate(CertifiedKey<KeyPair>);

impl Certificate {
    pub(crate) fn new(host: &str) -> Certificate {
        Certificate(generate_simple_self_signed([host.to_owned()]).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.cert.der().clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.0.signing_key.serialize_der()).unwrap()
    }

    /// A connection after its handshake, in which the client offers one protocol.
    pub(crate) async fn handshake(
        &self,
        address: SocketAddr,
        protocol: &str,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let host = "localhost".try_into().unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(host, stream);
        timeout(LONG, connected).await.expect("the handshake takes too long").unwrap()
    }
}

/// A request that is put together.
#[derive(Clone)]
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    host: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Ask {
    pub(crate) fn new(method: &'static str, path: &str) -> Ask {
        let (path, host) = (path.to_owned(), "localhost".to_owned());
        Ask { method, path, host, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn host(self, host: &str) -> Ask {
        Ask { host: host.to_owned(), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Ask {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(self, body: impl Into<String>) -> Ask {
        Ask { body: body.into(), ..self }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let body = Full::new(Bytes::from(self.body.clone()));
        let mut request = Request::builder().method(self.method);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(body).unwrap()
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection.
pub(crate) struct Client {
    sender: Sender,
    /// The protocol that the server chose.
    pub(crate) negotiated: String,
}

impl Client {
    pub(crate) async fn connect(
        address: SocketAddr,
        certificate: &Certificate,
        protocol: &str,
    ) -> Client {
        let stream = certificate.handshake(address, protocol).await;
        let negotiated = stream.get_ref().1.alpn_protocol().expect("no protocol was chosen");
        let negotiated = String::from_utf8(negotiated.to_vec()).unwrap();
        let stream = TokioIo::new(stream);
        let sender = match negotiated.as_str() {
            "h2" => {
                let opened = http2::handshake(TokioExecutor::new(), stream).await;
                let (sender, connection) = opened.unwrap();
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
            _ => {
                let (sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
        };
        Client { sender, negotiated }
    }

    /// Another client on this connection, which only HTTP/2 has.
    pub(crate) fn beside(&self) -> Option<Client> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                let (sender, negotiated) = (Sender::Http2(sender.clone()), self.negotiated.clone());
                Some(Client { sender, negotiated })
            }
        }
    }

    pub(crate) async fn send(&mut self, ask: &Ask) -> Response<Incoming> {
        let mut request = ask.request();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert(header::HOST, ask.host.parse().unwrap());
                *request.uri_mut() = ask.path.parse().unwrap();
                timeout(LONG, sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                // The host becomes `:authority`, and no header.
                let uri = Uri::builder().scheme("https").authority(ask.host.as_str());
                *request.uri_mut() = uri.path_and_query(ask.path.as_str()).build().unwrap();
                timeout(LONG, sender.send_request(request)).await
            }
        };
        response.expect("no answer").unwrap()
    }

    pub(crate) async fn json(&mut self, ask: &Ask) -> (StatusCode, Value) {
        let response = self.send(ask).await;
        let status = response.status();
        let body = timeout(LONG, response.into_body().collect()).await.expect("no body");
        (status, serde_json::from_slice(&body.unwrap().to_bytes()).unwrap())
    }
}

/// The answers of a live query.
pub(crate) struct LiveAnswers {
    body: Incoming,
    text: String,
}

impl LiveAnswers {
    pub(crate) fn of(response: Response<Incoming>) -> LiveAnswers {
        assert_eq!(response.status(), StatusCode::OK);
        LiveAnswers { body: response.into_body(), text: String::new() }
    }

    /// The next answer.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let block = self.text.split_once("\n\n");
            let Some((block, rest)) =
                block.map(|(block, rest)| (block.to_owned(), rest.to_owned()))
            else {
                assert!(self.more().await, "the stream ended");
                continue;
            };
            self.text = rest;
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                let data: Value = serde_json::from_str(data).unwrap();
                return data["answer"].clone();
            }
        }
    }

    /// Waits until the server ends the stream.
    pub(crate) async fn ends(&mut self) {
        while self.more().await {}
    }

    async fn more(&mut self) -> bool {
        let frame = timeout(LONG, self.body.frame()).await.expect("the stream is silent");
        let Some(frame) = frame else { return false };
        if let Ok(data) = frame.unwrap().into_data() {
            self.text += str::from_utf8(&data).unwrap();
        }
        true
    }
}
