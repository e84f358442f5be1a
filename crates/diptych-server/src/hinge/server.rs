//! The server of a log: its configuration, and the two ways to run it.

use std::{fmt, future::Future};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Version, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use diptych::store::Store;
use diptych_remote::wire::messages::log_server::LogServer as GrpcLog;
use tokio::net::TcpListener;

use crate::{
    door::{
        limits::ServerLimits,
        serve::{ServeError, ServedRoutes, serve},
        stop::{Stop, StopHandle},
    },
    hinge::service::LogService,
};

/// The largest message that a server takes: a commit of the largest size, with its conditions.
const MESSAGE_BYTES: usize = 64 << 20;
/// The name of the log in its address, if the server is not told another one.
const LOG_NAME: &str = "log";

/// A server that offers the log of a store to other processes.
///
/// Clients are `diptych_remote::RemoteStore` and, with the definition of the protocol, gRPC clients
/// in any language. The server works on any store, and every client sees what the store's own
/// handles see.
///
/// ```no_run
/// use diptych::{log::Log, store::Store};
/// use diptych_server::LogServer;
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let log = Log::open("data")?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:4500").await?;
/// # let shutdown = async {};
/// LogServer::new(Store::new(log.clone())).serve(listener, shutdown).await?;
/// log.close()?;
/// # Ok(()) }
/// ```
#[must_use = "a server does nothing before it serves"]
pub struct LogServer {
    store: Store,
    name: String,
    limits: ServerLimits,
    is_open: bool,
}

impl LogServer {
    /// A server of the log of this store.
    pub fn new(store: Store) -> LogServer {
        let limits = ServerLimits::default();
        LogServer { store, name: LOG_NAME.to_owned(), limits, is_open: false }
    }

    /// Sets the name of the log in its address: `orders` for `diptych://host:port/orders`. It is
    /// `log` by default.
    pub fn name(mut self, name: impl Into<String>) -> LogServer {
        self.name = name.into();
        self
    }

    /// Sets the limits. Those of commands and queries have no effect here.
    pub fn limits(mut self, limits: ServerLimits) -> LogServer {
        self.limits = limits;
        self
    }

    /// Serves other machines without encryption and without asking who they are. Each of them can
    /// then read and append everything. Use it only in a network where that is right.
    pub fn open_to_all(mut self) -> LogServer {
        self.is_open = true;
        self
    }

    /// Serves until `shutdown` is ready. Then the server accepts no more connections and calls,
    /// ends the streams, and waits for the appends that it has read, within
    /// [`stop_time`](ServerLimits::stop_time). The store stays open: its owner closes it.
    ///
    /// # Errors
    /// [`ServeError`] if the server cannot start.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        if !address.ip().is_loopback() && !self.is_open {
            return Err(ServeError::Unprotected { address });
        }
        let stop = Stop::default();
        let limits = self.limits;
        let router = self.routes(stop.clone());
        let served = ServedRoutes { router, limits, stop, metrics: None, has_http2: true };
        serve(served, listener, shutdown).await;
        Ok(())
    }

    /// The routes as a [`Router`] for another program, which runs its own server with HTTP/2. The
    /// [`StopHandle`] has to be stopped when the graceful shutdown of that server begins.
    pub fn into_router(self) -> (Router, StopHandle) {
        let stop = Stop::default();
        let handle = StopHandle::new(stop.clone(), self.limits.stop_time);
        (self.routes(stop), handle)
    }

    fn routes(self, stop: Stop) -> Router {
        let service = LogService::new(self.store, self.name, stop);
        let grpc = GrpcLog::new(service)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        Router::new().route_service("/diptych.v1.Log/{*call}", grpc).layer(from_fn(only_grpc))
    }
}

/// Refuses everything but gRPC. A page in a browser can send HTTP/1.1 and plain bodies to any
/// address of its machine, but no gRPC.
async fn only_grpc(request: Request, next: Next) -> Response {
    let content = request.headers().get(header::CONTENT_TYPE);
    let is_grpc =
        content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"));
    match is_grpc && request.version() == Version::HTTP_2 {
        true => next.run(request).await,
        false => {
            let problem = "the log speaks gRPC: connect with HTTP/2 and application/grpc\n";
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, problem).into_response()
        }
    }
}

impl fmt::Debug for LogServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogServer")
            .field("store", &self.store)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
