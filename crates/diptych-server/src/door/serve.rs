//! The connections of a listener, from their acceptance to their orderly end.

use std::{
    convert::Infallible, fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response, header},
};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    pin,
    time::{interval, sleep, timeout},
};

#[cfg(feature = "log")]
use crate::door::tls::{TlsFiles, speaks_http2};
use crate::door::{
    connection::{CloseSignal, DrainedBody, TimedStream},
    limits::ServerLimits,
    metrics::Metrics,
    peers::{ConnectionPlace, PeerConnection, PeerConnections},
    stop::Stop,
};

/// Pause after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time between two upkeeps of the metrics.
const UPKEEP: Duration = Duration::from_secs(5);
/// Maximum bytes of the head of a request.
const HEAD_BYTES: usize = 32 << 10;
/// The begin of a connection with HTTP/2.
const HTTP2: &[u8; 3] = b"PRI";
/// Pause between two looks at the begin of a connection.
const PEEK_PAUSE: Duration = Duration::from_millis(5);
/// Time between two pings of a quiet connection with HTTP/2, and time for the answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Calls at one time on one connection with HTTP/2.
const CONNECTION_STREAMS: u32 = 1_024;
/// Bytes that a client may send before the server has read them: for one call, and for all of one
/// connection.
const WINDOW_BYTES: (u32, u32) = (1 << 20, 16 << 20);

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration is wrong.
    #[error("the configuration of the server is wrong: {problem}")]
    Declaration {
        /// The mistake, and how to fix it.
        problem: String,
    },
    /// Other machines reach the address, and no host is named.
    #[error(
        "other machines reach the server at {address}, and no host is named: name the hosts of the \
         server with `Server::host`, or bind to a loopback address such as 127.0.0.1"
    )]
    NotLoopback {
        /// The address of the listener.
        address: SocketAddr,
    },
    /// Other machines reach the address of a log, and something that protects it is missing.
    #[error(
        "other machines reach the log at {address}, and it has no {missing}: set that with {}, \
         bind to a loopback address such as 127.0.0.1, or call `LogServer::open_to_all` if it is \
         right that it has none", missing.setting()
    )]
    Unprotected {
        /// The address of the listener.
        address: SocketAddr,
        /// The protection that is missing.
        missing: MissingProtection,
    },
    /// The thread that reads changed files again cannot start.
    #[error("the thread that reads certificates and tokens again cannot start: {0}")]
    Thread(#[source] io::Error),
    /// Routes without a listener have no host, and none is named.
    #[error(
        "no host is named for the routes: name the hosts under which clients reach them with \
         `Server::host` (`localhost`, for example)"
    )]
    NoHost,
    /// The listener cannot be used.
    #[error("the listener cannot be used: {0}")]
    Listener(#[source] io::Error),
}

/// The protection that a log has not, although other machines reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingProtection {
    /// Others on the way can read and change everything.
    Encryption,
    /// Every caller may read and append.
    Tokens,
    /// Both.
    EncryptionAndTokens,
}

impl MissingProtection {
    fn setting(self) -> &'static str {
        match self {
            MissingProtection::Encryption => "`LogServer::tls`",
            MissingProtection::Tokens => "`LogServer::token_file`",
            MissingProtection::EncryptionAndTokens => {
                "`LogServer::tls` and `LogServer::token_file`"
            }
        }
    }
}

impl fmt::Display for MissingProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MissingProtection::Encryption => "encryption",
            MissingProtection::Tokens => "tokens",
            MissingProtection::EncryptionAndTokens => "encryption and no tokens",
        })
    }
}

/// The routes that a listener serves, and how.
pub(crate) struct ServedRoutes {
    pub(crate) router: Router,
    pub(crate) limits: ServerLimits,
    pub(crate) stop: Stop,
    pub(crate) metrics: Option<Metrics>,
    /// Whether a connection may begin with HTTP/2.
    pub(crate) has_http2: bool,
    /// `None` for connections without encryption.
    #[cfg(feature = "log")]
    pub(crate) tls: Option<Arc<TlsFiles>>,
}

/// Serves the router until `shutdown` is ready, then lets connections and commands end within
/// [`stop_time`](ServerLimits::stop_time).
pub(crate) async fn serve(
    served: ServedRoutes,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    let limits = served.limits;
    let (stop, metrics) = (served.stop.clone(), served.metrics.clone());
    let peers = PeerConnections::new(limits.peer_connections, limits.connections);
    let graceful = GracefulShutdown::new();
    let connections = Connections { served, peers, graceful };
    // A connection that was accepted and has no place yet.
    let mut waiting = None;
    let mut upkeep = interval(UPKEEP);
    pin!(shutdown);
    loop {
        tokio::select! {
            // A signal is listened to once its future is polled, so before any connection is taken.
            biased;
            () = &mut shutdown => break,
            _ = upkeep.tick() => metrics.iter().for_each(Metrics::upkeep),
            accepted = connections.accept(&listener, &mut waiting) => match accepted {
                Ok((stream, peer, own)) => connections.open(stream, peer, own),
                // The client closed the connection first, or the process has no free file
                // descriptor.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stop.begin();
    let end = async {
        connections.graceful.shutdown().await;
        stop.commands_ended().await;
    };
    if timeout(limits.stop_time, end).await.is_err() {
        tracing::warn!("some connections or commands did not end in time, and were abandoned");
    }
    #[cfg(feature = "log")]
    stop.close_fence().await;
}

struct Connections {
    served: ServedRoutes,
    peers: Arc<PeerConnections>,
    graceful: GracefulShutdown,
}

impl Connections {
    /// The next connection, once there is a place for it. Dropping the future loses nothing.
    async fn accept(
        &self,
        listener: &TcpListener,
        waiting: &mut Option<(TcpStream, SocketAddr)>,
    ) -> io::Result<(TcpStream, SocketAddr, PeerConnection)> {
        loop {
            let (stream, peer) = match waiting.take() {
                Some(accepted) => accepted,
                None => listener.accept().await?,
            };
            match self.peers.enter(peer) {
                ConnectionPlace::Connection(own) => return Ok((stream, peer, own)),
                ConnectionPlace::Refused => {
                    tracing::debug!(%peer, "the peer has as many connections as it may");
                }
                ConnectionPlace::NoPlace => {
                    *waiting = Some((stream, peer));
                    self.peers.freed().await;
                }
            }
        }
    }

    fn open(&self, stream: TcpStream, peer: SocketAddr, own: PeerConnection) {
        let own = Arc::new(own);
        let (place, sending) = (own.clone(), own.clone());
        // Answers are small, and clients wait for them.
        let _ = stream.set_nodelay(true);
        let close = CloseSignal::default();
        let service = TowerToHyperService::new(self.served.router.clone());
        let ServerLimits { body_time, discarded_bytes, head_time, write_time, .. } =
            self.served.limits;
        let signal = close.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(signal.clone());
            // A client that waits for `100 Continue` sends no body if it gets another answer.
            let is_held = request.headers().contains_key(header::EXPECT);
            let bytes = if is_held { 0 } else { discarded_bytes };
            let in_progress = place.request();
            let drained = in_progress.clone();
            let body = |body| Body::new(DrainedBody::new(body, bytes, body_time, drained));
            let answer = Service::call(&service, request.map(body));
            async move {
                // The request ends when its answer is sent, which drops the body.
                answer.await.map(|response| {
                    response.map(|body| {
                        Body::new(body.map_frame(move |frame| {
                            let _ = &in_progress;
                            frame
                        }))
                    })
                })
            }
        });
        let (has_http2, watcher) = (self.served.has_http2, self.graceful.watcher());
        #[cfg(feature = "log")]
        let (tls, stop) = (self.served.tls.clone(), self.served.stop.clone());
        tokio::spawn(async move {
            let connection = async {
                #[cfg(feature = "log")]
                if let Some(tls) = tls {
                    let stream = TimedStream::new(stream, write_time, sending);
                    let stream = tokio::select! {
                        accepted = tls.accept(stream, head_time) => accepted?,
                        // A server that stops waits for no handshake.
                        () = stop.begun() => return Ok(()),
                    };
                    let is_http2 = has_http2 && speaks_http2(&stream);
                    return converse(stream, is_http2, service, watcher, head_time).await;
                }
                let is_http2 = has_http2 && begins_with_http2(&stream, head_time).await?;
                let stream = TimedStream::new(stream, write_time, sending);
                converse(stream, is_http2, service, watcher, head_time).await
            };
            tokio::select! {
                // A request that has just come is read before the place is given up.
                biased;
                // Clients disconnect, or send something other than HTTP. This program is not at
                // fault.
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, %peer, "a connection ended early");
                },
                () = own.is_displaced() => {
                    tracing::debug!(%peer, "a connection without a request was displaced");
                }
                () = close.closed() => {
                    tracing::debug!(%peer, "a connection with an unread answer was closed");
                }
            }
        });
    }
}

/// Serves the requests of one connection until it ends.
async fn converse<I, S>(
    stream: I,
    is_http2: bool,
    service: S,
    watcher: Watcher,
    head_time: Duration,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let stream = TokioIo::new(stream);
    match is_http2 {
        true => watcher.watch(http2().serve_connection(stream, service)).await,
        false => {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(head_time);
            http.max_buf_size(HEAD_BYTES);
            watcher.watch(http.serve_connection(stream, service)).await
        }
    }
    .map_err(io::Error::other)
}

/// Connections with HTTP/2, which also notices peers that are gone.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .max_header_list_size(HEAD_BYTES as u32)
        .max_concurrent_streams(CONNECTION_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES.0)
        .initial_connection_window_size(WINDOW_BYTES.1);
    http
}

/// Whether the first bytes of a connection are those of HTTP/2. No method of HTTP/1 begins so.
async fn begins_with_http2(stream: &TcpStream, head_time: Duration) -> io::Result<bool> {
    let begins = async {
        let mut first = [0; HTTP2.len()];
        loop {
            let read = stream.peek(&mut first).await?;
            let (seen, begin) = (first.get(..read), HTTP2.get(..read));
            if read == 0 || seen != begin {
                return Ok(false);
            }
            if read == HTTP2.len() {
                return Ok(true);
            }
            // A peek returns the same bytes at once until there are more.
            sleep(PEEK_PAUSE).await;
        }
    };
    timeout(head_time, begins).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
