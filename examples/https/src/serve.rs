//! A server with TLS for any router: HTTP/2 for clients that choose it in the handshake, and
//! HTTP/1.1 for others. The limits of connections stand here, because routes do not see
//! connections.

use std::{error::Error, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, http::Request};
use diptych_server::StopHandle;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    pin,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use tower::ServiceExt;

/// The name of HTTP/2 in the handshake.
const HTTP_2: &[u8] = b"h2";
/// Pause after the system could not accept a connection: it may have no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The limits of connections. The limits of requests are those of the routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Connections open at one time. Further connections wait until another one closes.
    pub(crate) connections: usize,
    /// Requests of one connection answered at one time, with HTTP/2.
    pub(crate) streams: u32,
    /// Time for the handshake of TLS.
    pub(crate) handshake_time: Duration,
    /// Time for the head of a request to arrive. A connection without a request is closed after it.
    /// With HTTP/2, a client that does not answer to a ping for this time is gone.
    pub(crate) head_time: Duration,
    /// Maximum bytes of the head of a request.
    pub(crate) head_bytes: u32,
    /// Time for connections to end when the server stops.
    pub(crate) stop_time: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            connections: 1_024,
            streams: 100,
            handshake_time: Duration::from_secs(10),
            head_time: Duration::from_secs(15),
            head_bytes: 32 << 10,
            stop_time: Duration::from_secs(10),
        }
    }
}

/// The acceptor for a certificate chain and its key. It offers HTTP/2 and HTTP/1.1.
pub(crate) fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = config.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Routes behind TLS.
#[derive(Clone)]
pub(crate) struct HttpsServer {
    pub(crate) tls: TlsAcceptor,
    pub(crate) routes: Router,
    pub(crate) handle: StopHandle,
    pub(crate) limits: ConnectionLimits,
}

impl HttpsServer {
    /// Serves until `shutdown` is ready. Then it accepts no more connections, ends live streams,
    /// and waits for the requests and commands that have started.
    pub(crate) async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let graceful = GracefulShutdown::new();
        pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let Ok((stream, peer, place)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (server, watcher) = (self.clone(), graceful.watcher());
            tokio::spawn(async move {
                // A handshake is slow or fails, or the client goes away: no fault of this program.
                drop(server.connection(stream, peer, watcher).await);
                drop(place);
            });
        }
        drop(listener);
        self.handle.stop();
        drop(timeout(self.limits.stop_time, graceful.shutdown()).await);
        self.handle.commands_ended().await;
    }

    async fn connection(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let HttpsServer { tls, routes, limits, .. } = self;
        // Answers are small, and clients wait for them.
        stream.set_nodelay(true)?;
        let stream = timeout(limits.handshake_time, tls.accept(stream)).await??;
        let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        let arrived = Arc::new(Notify::new());
        let arrival = arrived.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            arrival.notify_one();
            request.extensions_mut().insert(ConnectInfo(peer));
            routes.clone().oneshot(request)
        });
        let http = http(is_http_2, &limits);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = watcher.watch(connection.into_owned());
        pin!(connection);
        // Without this, a client that speaks HTTP/2 and sends nothing would keep its place.
        tokio::select! {
            ended = &mut connection => return ended,
            () = arrived.notified() => {}
            () = sleep(limits.head_time) => {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
        connection.await
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// The protocol that the client chose in the handshake, with its limits.
fn http(is_http_2: bool, limits: &ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let http = auto::Builder::new(TokioExecutor::new());
    let mut http = if is_http_2 { http.http2_only() } else { http.http1_only() };
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes)
        .keep_alive_interval(limits.head_time)
        .keep_alive_timeout(limits.head_time);
    http
}
