//! Encryption by certificate files, which are read again when they change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::door::{
    files::{self, FileStamps},
    stop::Stop,
};

/// The names of the protocols in the handshake. The server prefers the first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// Certificate files that a server cannot use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file with the certificates cannot be read.
    #[error("the certificates in {path:?} cannot be read: {reason}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The reason, and how to fix it.
        reason: String,
    },
    /// The file with the key cannot be read.
    #[error("the private key in {path:?} cannot be read: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// The reason, and how to fix it.
        reason: String,
    },
    /// Certificates and key do not go together, or have an unknown form.
    #[error("the certificates in {path:?} cannot be used with the key: {reason}")]
    Unusable {
        /// The file with the certificates.
        path: PathBuf,
        /// The reason of the library for encryption.
        #[source]
        reason: rustls::Error,
    },
}

/// The certificate of a server and its key. New connections use the newest pair that could be read.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    certificates: PathBuf,
    key: PathBuf,
    /// The state of the files before they were read first.
    seen: FileStamps,
    config: ArcSwap<ServerConfig>,
}

impl TlsFiles {
    pub(crate) fn load(certificates: PathBuf, key: PathBuf) -> Result<TlsFiles, TlsError> {
        let seen = FileStamps::of(&[&certificates, &key]);
        let config = ArcSwap::new(config(&certificates, &key)?);
        Ok(TlsFiles { certificates, key, seen, config })
    }

    /// Reads the files again after each change.
    pub(crate) fn watch(self: &Arc<Self>, stop: Stop) -> io::Result<()> {
        let files = Arc::downgrade(self);
        let paths = vec![self.certificates.clone(), self.key.clone()];
        files::watch(paths, self.seen.clone(), stop, move || match files.upgrade() {
            Some(files) => {
                files.reload();
                true
            }
            None => false,
        })
    }

    fn reload(&self) {
        match config(&self.certificates, &self.key) {
            Ok(config) => {
                self.config.store(config);
                tracing::info!(path = ?self.certificates, "the new certificate is in use");
            }
            // The two files are often written one after the other.
            Err(error) => tracing::warn!(
                %error,
                "the certificate files changed, and cannot be used: the old ones stay in use"
            ),
        }
    }

    /// The handshake of a new connection, which has to end in this time.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        handshake_time: Duration,
    ) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let accepted = timeout(handshake_time, acceptor.accept(stream)).await;
        accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Whether client and server agreed on HTTP/2.
pub(crate) fn speaks_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

fn config(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let path = || certificates.to_owned();
    let unreadable = |error| TlsError::Certificates { path: path(), reason: reason(error) };
    let chain = CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect);
    let chain: Vec<CertificateDer<'static>> = chain.map_err(unreadable)?;
    if chain.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| TlsError::Key { path: key.to_owned(), reason: reason(error) })?;
    let unusable = |reason| TlsError::Unusable { path: path(), reason };
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().map_err(unusable)?;
    let config = config.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(unusable)?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn reason(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "the file has none in PEM form".to_owned(),
        other => format!("{other}: the file has to be in PEM form"),
    }
}
