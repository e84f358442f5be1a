//! The connections of a listener, from their acceptance to their orderly end.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    pin,
    time::{interval, sleep, timeout},
};

use crate::door::{
    connection::{DrainedBody, TimedStream},
    entrance::Door,
    limits::ServerLimits,
    metrics::Metrics,
    peers::{ConnectionPlace, PeerConnection, PeerConnections},
};

/// Pause after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time between two upkeeps of the metrics.
const UPKEEP: Duration = Duration::from_secs(5);
/// Maximum bytes of the head of a request.
const HEAD_BYTES: usize = 32 << 10;

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

/// Serves the router until `shutdown` is ready, then lets connections and commands end within
/// [`stop_time`](ServerLimits::stop_time).
pub(crate) async fn serve(
    router: Router,
    door: Arc<Door>,
    metrics: Option<Metrics>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    let limits = *door.limits();
    let peers = PeerConnections::new(limits.peer_connections, limits.connections);
    let connections = Connections { router, limits, peers, graceful: GracefulShutdown::new() };
    // A connection that was accepted and has no place yet.
    let mut waiting = None;
    let mut upkeep = interval(UPKEEP);
    pin!(shutdown);
    loop {
        tokio::select! {
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
    door.stop().begin();
    let end = async {
        connections.graceful.shutdown().await;
        door.stop().commands_ended().await;
    };
    if timeout(limits.stop_time, end).await.is_err() {
        tracing::warn!("some connections or commands did not end in time, and were abandoned");
    }
}

struct Connections {
    router: Router,
    limits: ServerLimits,
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
        let service = TowerToHyperService::new(self.router.clone());
        let ServerLimits { body_time, discarded_bytes, head_time, write_time, .. } = self.limits;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            // A client that waits for `100 Continue` sends no body if it gets another answer.
            let is_held = request.headers().contains_key(header::EXPECT);
            let bytes = if is_held { 0 } else { discarded_bytes };
            let in_progress = place.request();
            let drained = in_progress.clone();
            let body = |body| Body::new(DrainedBody::new(body, bytes, body_time, drained));
            let answer = hyper::service::Service::call(&service, request.map(body));
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
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(head_time);
        http.max_buf_size(HEAD_BYTES);
        let stream = TokioIo::new(TimedStream::new(stream, write_time, sending));
        let connection = http.serve_connection(stream, service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
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
            }
        });
    }
}
