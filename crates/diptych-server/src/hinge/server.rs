//! The server of a log: its configuration, and the two ways to run it.

use std::{fmt, future::Future, net::SocketAddr, path::Path, sync::Arc};

use axum::{Router, middleware::from_fn_with_state};
use diptych::{collaboration::FeedHandle, store::Store};
use diptych_remote::wire::messages::{
    feeds_server::FeedsServer as GrpcFeeds, log_server::LogServer as GrpcLog,
};
use tokio::net::TcpListener;
use tonic_health::pb::health_server::HealthServer;

use crate::{
    door::{
        access::Hosts,
        entrance::Door,
        limits::ServerLimits,
        metrics::Metrics,
        serve::{MissingProtection, ServeError, ServedRoutes, serve},
        stop::{Stop, StopHandle},
        tls::{TlsError, TlsFiles},
    },
    hinge::{
        admission::TokenSources,
        append_bytes::AppendBytes,
        append_times::AppendTimes,
        calls::{self, CallEntrance, FEEDS_SERVICE, HEALTH_SERVICE, SERVICE},
        feeds::FeedService,
        health::HealthService,
        http::{self, HttpLog, RequestForms},
        service::LogService,
        token_file::TokenFileError,
        tokens::TokenScope,
    },
};

/// The largest message that a server takes: a commit of the largest size, with its conditions.
const MESSAGE_BYTES: usize = 64 << 20;
/// The largest question for a page of a feed.
const QUESTION_BYTES: usize = 64 << 10;
/// The name of the log in its address, if the server is not told another one.
const LOG_NAME: &str = "log";

/// A server that offers the log of a store to other processes.
///
/// Clients are `diptych_remote::RemoteStore` and, with the definition of the protocol, gRPC clients
/// in any language. The same port has the log as JSON over HTTP, for people with curl and for
/// browsers. It also has the health service of gRPC, `grpc.health.v1`. The server works on any
/// store, and every client sees what the store's own handles see.
///
/// ```no_run
/// use diptych::{LogOptions, log::Log, store::Store};
/// use diptych_server::LogServer;
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let log = Log::open("data", LogOptions::default())?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:4500").await?;
/// # let shutdown = async {};
/// LogServer::new(Store::new(log.clone())).serve(listener, shutdown).await?;
/// log.close()?;
/// # Ok(()) }
/// ```
///
/// Other machines reach a server only with encryption and tokens, unless it is told that this is
/// right:
///
/// ```no_run
/// # use diptych_server::LogServer;
/// # async fn serve(log: LogServer) -> Result<(), Box<dyn std::error::Error>> {
/// # let shutdown = async {};
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:4500").await?;
/// log.tls("certificate.pem", "key.pem")?
///     .token_file("tokens.toml")?
///     .host("log.example.org")
///     .serve(listener, shutdown)
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "a server does nothing before it serves"]
pub struct LogServer {
    store: Store,
    feeds: Vec<FeedHandle>,
    name: String,
    limits: ServerLimits,
    hosts: Hosts,
    tokens: TokenSources,
    tls: Option<TlsFiles>,
    metrics: Option<Metrics>,
    receives_copy: bool,
    is_open: bool,
}

impl LogServer {
    /// A server of the log of this store.
    pub fn new(store: Store) -> LogServer {
        LogServer {
            store,
            feeds: Vec::new(),
            name: LOG_NAME.to_owned(),
            limits: ServerLimits::of_log(),
            hosts: Hosts::default(),
            tokens: TokenSources::default(),
            tls: None,
            metrics: None,
            receives_copy: false,
            is_open: false,
        }
    }

    /// Sets the name of the log in its address: `orders` for `diptych://host:port/orders`. It is
    /// `log` by default.
    pub fn name(mut self, name: impl Into<String>) -> LogServer {
        self.name = name.into();
        self
    }

    /// Offers this feed beside the log, for `diptych::remote::RemoteFeed` and other clients of
    /// gRPC. It takes the place of an earlier one with its name.
    ///
    /// A token for feeds, [`TokenScope::Feeds`] or [`TokenScope::Feed`], reads nothing of the log.
    /// A program that offers its feeds only gives such tokens only:
    ///
    /// ```no_run
    /// use diptych::App;
    /// use diptych_server::{LogServer, TokenScope};
    ///
    /// # async fn serve(app: App, shutdown: impl Future<Output = ()>)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// # let token = "";
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:4500").await?;
    /// LogServer::new(app.store().clone())
    ///     .feeds(app.feeds())
    ///     .token(token, [TokenScope::Feed("orders".to_owned())])
    ///     .serve(listener, shutdown)
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn feed(mut self, feed: FeedHandle) -> LogServer {
        self.feeds.retain(|earlier| earlier.name() != feed.name());
        self.feeds.push(feed);
        self
    }

    /// Offers these feeds, such as all those of an app: see [`feed`](LogServer::feed).
    pub fn feeds(self, feeds: &[FeedHandle]) -> LogServer {
        feeds.iter().cloned().fold(self, LogServer::feed)
    }

    /// Sets the limits. They are [`ServerLimits::of_log`] by default. `requests` and `answer_time`
    /// hold for calls with one answer, `streams` and `stream_time` for streams. A read is a stream
    /// once it has taken `answer_time`. `body_bytes` holds for JSON. The limits of commands and
    /// queries have no effect.
    pub fn limits(mut self, limits: ServerLimits) -> LogServer {
        self.limits = limits;
        self
    }

    /// Adds a host name, without a port, under which clients reach the log over HTTP/1.1. On a
    /// loopback address the names of this machine are known. gRPC needs no names.
    pub fn host(mut self, name: &str) -> LogServer {
        self.hosts.add_host(name);
        self
    }

    /// Lets pages of this site, such as `https://orders.example.org`, use the log over HTTP.
    pub fn origin(mut self, origin: &str) -> LogServer {
        self.hosts.add_origin(origin);
        self
    }

    /// Sets the metrics that `/metrics` shows.
    pub fn metrics(mut self, metrics: Metrics) -> LogServer {
        self.metrics = Some(metrics);
        self
    }

    /// Adds a token with these scopes. With one token or more, every call needs one. The text
    /// should be random and long; [`TokenFile::issue`](crate::TokenFile::issue) makes such a one.
    pub fn token(mut self, token: &str, scopes: impl IntoIterator<Item = TokenScope>) -> LogServer {
        self.tokens.add(token, scopes);
        self
    }

    /// Takes the tokens of this [file](crate::TokenFile), and reads it again when it changes. A
    /// token that is no longer there ends its streams within a second. With a file, every call
    /// needs a token, also if the file has none.
    ///
    /// # Errors
    /// [`TokenFileError`] if the file cannot be used. Later such changes of it are logged, and the
    /// old tokens stay valid.
    pub fn token_file(mut self, path: impl AsRef<Path>) -> Result<LogServer, TokenFileError> {
        self.tokens.file(path.as_ref().to_owned())?;
        Ok(self)
    }

    /// Encrypts connections with the certificates in this file (the server's own first) and the key
    /// in this file, both in PEM form. The files are read again when they change, and new
    /// connections use the new certificate.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used. Later such changes of them are logged, and the old
    /// certificate stays in use.
    pub fn tls(
        mut self,
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<LogServer, TlsError> {
        let (certificates, key) = (certificates.as_ref().to_owned(), key.as_ref().to_owned());
        self.tls = Some(TlsFiles::load(certificates, key)?);
        Ok(self)
    }

    /// Lets `diptych copy` write to this log, whose store has [`TimeSource::Caller`]: the server
    /// takes appends that bring their times, and refuses all others with words that say so. Serve
    /// the log without it once the copy is complete.
    ///
    /// Where tokens are in use, such an append needs a token with [`TokenScope::Append`] and
    /// [`TokenScope::Admin`]. A server with tokens that receives no copy takes no times at all.
    ///
    /// ```no_run
    /// use diptych::{
    ///     LogOptions,
    ///     log::Log,
    ///     store::{Store, TimeSource},
    /// };
    /// use diptych_server::LogServer;
    ///
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// # let shutdown = async {};
    /// let options = LogOptions { time: TimeSource::Caller, ..LogOptions::default() };
    /// let log = Log::open("copy", options)?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:4500").await?;
    /// LogServer::new(Store::new(log.clone())).receive_copy().serve(listener, shutdown).await?;
    /// log.close()?;
    /// # Ok(()) }
    /// ```
    ///
    /// [`TimeSource::Caller`]: diptych::store::TimeSource::Caller
    pub fn receive_copy(mut self) -> LogServer {
        self.receives_copy = true;
        self
    }

    /// Serves other machines also without encryption, and without tokens: each of them can then
    /// read and append everything. Use it only in a network where that is right, or behind a proxy
    /// that protects the log. Encryption and tokens that are set stay in use.
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
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        self.check_protection(address)?;
        match address.ip() {
            ip if ip.is_loopback() => self.hosts.add_loopback(),
            ip if !ip.is_unspecified() => self.hosts.add_host(&ip.to_string()),
            _ => {}
        }
        let (limits, metrics) = (self.limits, self.metrics.clone());
        let tls = self.tls.take().map(Arc::new);
        let (router, stop) = self.routes()?;
        if let Some(tls) = &tls {
            tls.watch(stop.clone()).map_err(ServeError::Thread)?;
        }
        let served = ServedRoutes { router, limits, stop, metrics, has_http2: true, tls };
        serve(served, listener, shutdown).await;
        Ok(())
    }

    /// Refuses to serve other machines without protection.
    fn check_protection(&self, address: SocketAddr) -> Result<(), ServeError> {
        if address.ip().is_loopback() || self.is_open {
            return Ok(());
        }
        let missing = match (self.tls.is_none(), self.tokens.is_empty()) {
            (true, true) => MissingProtection::EncryptionAndTokens,
            (true, false) => MissingProtection::Encryption,
            (false, true) => MissingProtection::Tokens,
            (false, false) => return Ok(()),
        };
        Err(ServeError::Unprotected { address, missing })
    }

    /// The routes as a [`Router`] for another program, which runs its own server with HTTP/2 and
    /// encryption: [`tls`](LogServer::tls) has no effect. The limits of connections are that
    /// server's own, too. The [`StopHandle`] has to be stopped when the graceful shutdown of that
    /// server begins.
    ///
    /// # Errors
    /// [`ServeError`] if the token file cannot be watched.
    pub fn into_router(self) -> Result<(Router, StopHandle), ServeError> {
        let stop_time = self.limits.stop_time;
        let (router, stop) = self.routes()?;
        Ok((router, StopHandle::new(stop, stop_time)))
    }

    fn routes(self) -> Result<(Router, Stop), ServeError> {
        let LogServer { store, feeds, name, limits, hosts, tokens, metrics, receives_copy, .. } =
            self;
        let door = Arc::new(Door::new(hosts, None, limits, metrics.is_some()));
        let stop = door.stop().clone();
        let gate = tokens.into_gate(stop.clone()).map_err(ServeError::Thread)?;
        let bytes = AppendBytes::new(limits.append_bytes);
        let times = AppendTimes::of(receives_copy, gate.asks_for_tokens());
        let service = LogService::new(store.clone(), name.clone(), bytes, times, stop.clone());
        let grpc = GrpcLog::new(service)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let feeds = FeedService::new(feeds, door.clone(), gate.clone());
        let feeds = GrpcFeeds::new(feeds)
            .max_decoding_message_size(QUESTION_BYTES)
            .max_encoding_message_size(usize::MAX);
        let entrance = Arc::new(CallEntrance { door: door.clone(), gate: gate.clone(), times });
        let health = HealthServer::new(HealthService::new(store.clone(), stop.clone()));
        let calls = Router::new()
            .route_service(&format!("/{SERVICE}/{{*call}}"), grpc)
            .route_service(&format!("/{FEEDS_SERVICE}/{{*call}}"), feeds)
            .route_service(&format!("/{HEALTH_SERVICE}/{{*call}}"), health)
            .layer(from_fn_with_state(entrance, calls::enter));
        let http = HttpLog { store, name, door, gate, times, metrics, forms: RequestForms::new() };
        Ok((calls.merge(http::routes(http)), stop))
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
