//! Connections: taken as they come, within limits, and ended in order.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    pin,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{interval, sleep, timeout},
};

use crate::{
    Server, ServerLimits,
    door::connection::{Received, Taken},
    panels::site::{Site, router},
};

/// How long to wait before the next try, where the system has no connection to give.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// How often figures are tidied.
const UPKEEP: Duration = Duration::from_secs(5);
/// Bytes of one request's head that are looked at.
const HEAD_BYTES: usize = 32 << 10;

/// Why a server did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// What was declared contradicts itself.
    #[error("the server cannot be declared so: {problem}")]
    Declaration {
        /// What, and what would do.
        problem: String,
    },
    /// Others than this machine would reach it, and nobody said that they may.
    #[error(
        "the server would be reached from other machines at {address}, and no host was named: \
         name those under which it may be asked with `Server::host`, or bind to a loopback \
         address such as 127.0.0.1"
    )]
    NotLoopback {
        /// Where it is bound to.
        address: SocketAddr,
    },
    /// The listener is of no use.
    #[error("the listener cannot be used: {0}")]
    Listener(#[source] io::Error),
}

impl Server {
    /// Serves until `shutdown` is ready. Then no more connections are taken, live streams end,
    /// and what was begun is answered, within [`stop_time`](ServerLimits::stop_time). Commands
    /// whose clients went away are waited for, too. The app goes on: whoever has it stops it.
    ///
    /// # Errors
    /// [`ServeError`] if it cannot be begun.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        if let Some(problem) = self.mistakes.first() {
            return Err(ServeError::Declaration { problem: problem.clone() });
        }
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        if address.ip().is_loopback() {
            self.hosts.add_loopback();
        } else if self.hosts.is_empty() {
            return Err(ServeError::NotLoopback { address });
        }
        let (stop, stopping) = watch::channel(false);
        let limits = self.limits;
        let site = Arc::new(Site::new(self, stopping));
        let doors =
            Doors { router: router(site.clone()), limits, graceful: GracefulShutdown::new() };
        pin!(shutdown);
        let connections = Arc::new(Semaphore::new(limits.connections));
        let mut upkeep = interval(UPKEEP);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = upkeep.tick() => site.metrics.iter().for_each(crate::Metrics::upkeep),
                taken = take(&listener, &connections) => match taken {
                    Ok((stream, peer, permit)) => doors.open(stream, peer, permit),
                    // One that went away before it was taken, or too many open files.
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be taken");
                        sleep(EXHAUSTED).await;
                    }
                },
            }
        }
        drop(listener);
        // There is always somebody who listens: the site.
        let _ = stop.send(true);
        let end = async {
            doors.graceful.shutdown().await;
            site.begun.ended().await;
        };
        if timeout(limits.stop_time, end).await.is_err() {
            tracing::warn!("some connections or commands did not end in time, and were left");
        }
        Ok(())
    }
}

async fn take(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // It is never closed.
    let permit = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

struct Doors {
    router: Router,
    limits: ServerLimits,
    graceful: GracefulShutdown,
}

impl Doors {
    fn open(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        // Answers are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(self.router.clone());
        let ServerLimits { body_time, discarded_bytes, head_time, write_time, .. } = self.limits;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            // Who waits to be told to send the body is told by the answer not to.
            let is_held = request.headers().contains_key(header::EXPECT);
            let bytes = if is_held { 0 } else { discarded_bytes };
            let received = |body| Body::new(Received::new(body, bytes, body_time));
            hyper::service::Service::call(&service, request.map(received))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(head_time);
        http.max_buf_size(HEAD_BYTES);
        let stream = TokioIo::new(Taken::new(stream, write_time));
        let connection = http.serve_connection(stream, service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            // A client that breaks off, or sends no HTTP, is nobody's mistake here.
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
            drop(permit);
        });
    }
}
