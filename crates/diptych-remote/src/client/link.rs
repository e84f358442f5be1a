//! The connection to a server, and the history of its log as this handle has seen it.

use std::{
    error::Error,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diptych_store::{
    CommitNumber, Head, HeadPublisher, HistoryChanged, Limits, LogIdentity, Pause, Position,
    ReadError, Unavailable,
};
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    client::{
        RemoteOptions,
        address::{EndpointAddress, ServerAddress},
        checks::{self, Contradiction},
        connection::{ConnectionId, Connections, raises_doubt},
        tls,
    },
    wire::{
        self, HISTORY_HEADER, LOG_HEADER,
        messages::{DescribeRequest, Description, Failure, failure, log_client::LogClient},
    },
};

/// The generated client, which adds the headers of this connection.
pub(crate) type LogCaller = LogClient<InterceptedService<Channel, Headers>>;

/// The headers of each call.
#[derive(Clone)]
pub(crate) struct Headers {
    token: Option<MetadataValue<Ascii>>,
    log: MetadataValue<Ascii>,
    history: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(LOG_HEADER, self.log.clone());
        if let Some(token) = &self.token {
            metadata.insert("authorization", token.clone());
        }
        if let Some(history) = &self.history {
            metadata.insert(HISTORY_HEADER, history.clone());
        }
        Ok(request)
    }
}

/// The largest message that a client takes. A batch of a server with the default limits has 8 MiB.
pub(crate) const MESSAGE_BYTES: usize = 256 << 20;
/// The first and the longest pause before a call is sent again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How much a server may send before this side has read it, for each stream and in total. Some
/// messages of a read that goes ahead fit in.
const WINDOW_BYTES: (u32, u32) = (4 << 20, 64 << 20);

/// The connection, shared by the handles and the tasks.
pub(crate) struct Link {
    /// The address of the server, for errors.
    server: String,
    connections: Connections,
    token: Option<MetadataValue<Ascii>>,
    log: MetadataValue<Ascii>,
    options: RemoteOptions,
    limits: Limits,
    history: RwLock<History>,
    /// Why no further calls are made.
    closed: Mutex<Option<Unavailable>>,
    is_closed: AtomicBool,
}

/// A history of the log, with its head as this handle has seen it.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) identity: LogIdentity,
    publisher: Arc<HeadPublisher>,
}

impl History {
    /// Publishes events up to this position. One that no log can have shows nothing.
    pub(crate) fn advance(&self, head: Position) {
        if checks::head(head.get()).is_ok() {
            self.publisher.publish(head, CommitNumber(0));
        }
    }

    pub(crate) fn head(&self) -> Head {
        self.publisher.head()
    }
}

impl Link {
    /// Connects and asks which log it is.
    pub(crate) async fn connect(
        address: ServerAddress,
        options: RemoteOptions,
    ) -> Result<Arc<Link>, ReadError> {
        let server = |what: &str| Unavailable::Server { what: what.into() };
        let endpoint = endpoint(&address.endpoint, &options)?;
        let token = bearer(&options)?;
        let log = address.log.parse();
        let log = log.map_err(|_| server("the name of the log is no text of a header"))?;
        let mut link = Link {
            server: address.endpoint.url,
            connections: Connections::new(endpoint),
            token,
            log,
            options,
            limits: Limits::default(),
            history: RwLock::new(History {
                identity: LogIdentity::random(),
                publisher: Arc::new(HeadPublisher::new(Position::START)),
            }),
            closed: Mutex::new(None),
            is_closed: AtomicBool::new(false),
        };
        let described = link.ask_as(None, |mut log: LogCaller| async move {
            log.describe(DescribeRequest::default()).await.map(tonic::Response::into_inner)
        });
        let Description { identity, limits, head, .. } = described.await?;
        let unusable = || server("it did not describe its log: compare the versions");
        let identity = identity.and_then(|identity| wire::identity_of(identity).ok());
        let head = checks::head(head).map_err(|error| link.contradiction(&error))?;
        let publisher = Arc::new(HeadPublisher::new(head));
        link.history = RwLock::new(History { identity: identity.ok_or_else(unusable)?, publisher });
        link.limits = wire::limits_of(&limits.ok_or_else(unusable)?);
        Ok(Arc::new(link))
    }

    pub(crate) fn identity(&self) -> LogIdentity {
        self.history.read().identity
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn options(&self) -> &RemoteOptions {
        &self.options
    }

    pub(crate) fn head(&self) -> Head {
        self.history.read().head()
    }

    /// The history that the log has now. A call keeps it until its reply, because the position of a
    /// reply means nothing in another history.
    pub(crate) fn history(&self) -> History {
        self.history.read().clone()
    }

    /// The error of a server that says what cannot be true.
    pub(crate) fn contradiction(&self, contradiction: &Contradiction) -> Unavailable {
        let Contradiction(statement) = contradiction;
        let what = format!(
            "the server at {} says that {statement}, which cannot be: compare the versions of both \
             programs, and verify the log of the server",
            self.server
        );
        Unavailable::Server { what: what.into() }
    }

    /// Whether the log takes commits now.
    pub(crate) fn paused(&self, why: Option<Unavailable>) {
        let publisher = self.history.read().publisher.clone();
        match why {
            Some(why) => publisher.pause(Pause::Accepting(why)),
            None if publisher.head().paused().is_some() => publisher.resume(),
            None => {}
        }
    }

    /// Takes the history that the server has now. If it is another one, the old head ends.
    pub(crate) fn found(&self, is: LogIdentity, head: Position) {
        if checks::head(head.get()).is_err() {
            return;
        }
        let history = self.history();
        if is == history.identity {
            return history.advance(head);
        }
        let old = {
            let mut history = self.history.write();
            if history.identity == is {
                return;
            }
            let publisher = Arc::new(HeadPublisher::new(head));
            std::mem::replace(&mut *history, History { identity: is, publisher })
        };
        let changed = HistoryChanged { was: old.identity, is };
        old.publisher.end(Unavailable::HistoryChanged(changed));
    }

    /// Refuses further calls. Returns whether this is the first reason.
    pub(crate) fn close(&self, why: Unavailable) -> bool {
        self.closed.lock().get_or_insert(why);
        !self.is_closed.swap(true, Ordering::SeqCst)
    }

    /// Why no further calls are made, or `None` if they are.
    pub(crate) fn closed(&self) -> Option<Unavailable> {
        match self.is_closed.load(Ordering::SeqCst) {
            true => self.closed.lock().clone(),
            false => None,
        }
    }

    /// Why the store ended by itself.
    pub(crate) fn failed(&self) -> Option<Unavailable> {
        self.closed().filter(|why| !matches!(why, Unavailable::Closed))
    }

    /// Ends the head for all readers.
    pub(crate) fn end(&self, why: Unavailable) {
        self.history.read().publisher.end(why);
    }

    /// Refuses further calls, and ends the head: commits that this process has seen were lost.
    pub(crate) fn fail(&self, why: Unavailable) {
        if self.close(why.clone()) {
            self.end(why);
        }
    }

    /// A client for one call to the log with this history, or with any.
    pub(crate) fn caller_as(&self, history: Option<LogIdentity>) -> (LogCaller, CallOrigin) {
        let (channel, connection) = self.connections.current();
        let origin = CallOrigin { history, connection };
        let history = history.and_then(|history| wire::history_header(history).parse().ok());
        let headers = Headers { token: self.token.clone(), log: self.log.clone(), history };
        let caller = LogClient::with_interceptor(channel, headers)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        (caller, origin)
    }

    /// Asks until there is an answer, or the time is over.
    pub(crate) async fn ask<T, F, Fut>(&self, ask: F) -> Result<T, ReadError>
    where
        F: Fn(LogCaller) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.ask_as(Some(self.identity()), ask).await
    }

    pub(crate) async fn ask_as<T, F, Fut>(
        &self,
        history: Option<LogIdentity>,
        ask: F,
    ) -> Result<T, ReadError>
    where
        F: Fn(LogCaller) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + self.options.answer_time;
        let mut pause = Pauses::new();
        loop {
            let (caller, origin) = self.caller_as(history);
            let status = match timeout_at(deadline, ask(caller)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => return Err(no_answer(self.options.answer_time).into()),
            };
            match self.why(status, origin) {
                Trouble::Final(error) => return Err(error),
                Trouble::Connection(status) if Instant::now() + pause.next() >= deadline => {
                    return Err(Unavailable::Backend(Arc::new(status)).into());
                }
                Trouble::Connection(_) => pause.wait().await,
            }
        }
    }

    /// Tells a lost or doubted connection from an answer of the server to a call of this origin.
    pub(crate) fn why(&self, status: Status, origin: CallOrigin) -> Trouble {
        if let Some(what) = tls::distrust(&status) {
            return Trouble::Final(Unavailable::Server { what: what.into() }.into());
        }
        let status = match wire::from_status(status) {
            Ok(failure) => return self.answered(failure, origin),
            Err(status) => status,
        };
        if raises_doubt(&status) && self.connections.doubt(origin.connection) {
            return Trouble::Connection(status);
        }
        if wire::is_unknown_failure(&status) {
            let what = format!(
                "it answered with a failure that this program does not know; compare the versions \
                 ({})",
                status.message()
            );
            return Trouble::Final(Unavailable::Server { what: what.into() }.into());
        }
        // A connection that ends by an error of HTTP/2 has codes that a server also gives.
        let is_of_transport = status.source().is_some();
        match status.code() {
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::NotFound
            | Code::Unimplemented
            | Code::InvalidArgument
            | Code::OutOfRange
            | Code::ResourceExhausted
                if !is_of_transport =>
            {
                Trouble::Final(Unavailable::Server { what: described(&status).into() }.into())
            }
            // The transport gives the other codes, a server that starts or stops, and a peer that
            // got a damaged message.
            _ => Trouble::Connection(status),
        }
    }

    fn answered(&self, failure: Failure, origin: CallOrigin) -> Trouble {
        // A server that stops closes its log, and another one opens it again.
        if let Some(failure::Kind::Unavailable(unavailable)) = &failure.kind
            && unavailable.closed
        {
            return Trouble::Connection(Status::unavailable("the server closed its log"));
        }
        let head = Position::new(failure.head);
        // The watch may have found another history since the call was made.
        let was = origin.history.unwrap_or_else(|| self.identity());
        match wire::as_read_error(failure, was) {
            // The name of the history was damaged on its way.
            Ok(ReadError::Unavailable(Unavailable::HistoryChanged(changed)))
                if changed.is == was =>
            {
                self.connections.doubt(origin.connection);
                Trouble::Connection(Status::data_loss("a request was changed on its way"))
            }
            Ok(ReadError::Unavailable(Unavailable::HistoryChanged(changed))) => {
                self.found(changed.is, head);
                Trouble::Final(Unavailable::HistoryChanged(changed).into())
            }
            Ok(error) => {
                let history = self.history();
                if history.identity == was {
                    history.advance(head);
                }
                Trouble::Final(error)
            }
            Err(error) => {
                Trouble::Final(Unavailable::Server { what: error.to_string().into() }.into())
            }
        }
    }
}

/// The server of this address as its connections know it.
pub(crate) fn endpoint(
    address: &EndpointAddress,
    options: &RemoteOptions,
) -> Result<Endpoint, Unavailable> {
    let endpoint = Endpoint::from_shared(address.url.clone())
        .map_err(|_| Unavailable::Server { what: "its address is no address of HTTP".into() })?
        .connect_timeout(options.connect_time)
        .tcp_nodelay(true)
        // Together they notice a connection that swallows everything within two heartbeats.
        .http2_keep_alive_interval(options.heartbeat)
        .keep_alive_timeout(options.heartbeat / 2)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES.0)
        .initial_connection_window_size(WINDOW_BYTES.1);
    match address.is_encrypted {
        true => tls::encrypted(endpoint, options),
        false => Ok(endpoint),
    }
}

/// The token of the options as a header.
pub(crate) fn bearer(options: &RemoteOptions) -> Result<Option<MetadataValue<Ascii>>, Unavailable> {
    let token = options.token.as_ref().map(|token| format!("Bearer {token}").parse());
    let mut token: Option<MetadataValue<Ascii>> = token
        .transpose()
        .map_err(|_| Unavailable::Server { what: "the token is no text of a header".into() })?;
    if let Some(token) = &mut token {
        token.set_sensitive(true);
    }
    Ok(token)
}

/// How a call was made.
#[derive(Clone, Copy)]
pub(crate) struct CallOrigin {
    /// The history that it named.
    history: Option<LogIdentity>,
    connection: ConnectionId,
}

/// Why a call has no answer that can be used.
pub(crate) enum Trouble {
    /// The connection was lost, or the server is away.
    Connection(Status),
    /// The server answered with this error.
    Final(ReadError),
}

pub(crate) fn described(status: &Status) -> String {
    let what = match status.code() {
        Code::Unauthenticated => "it does not know the token; give one that it has issued",
        Code::PermissionDenied => "the token does not allow this",
        Code::Unimplemented => "it does not know this call; compare the versions",
        Code::NotFound => "it has no log of this name",
        Code::OutOfRange => "it sends a larger message than this program takes",
        _ => "it answered with an error",
    };
    format!("{what} ({})", status.message())
}

fn no_answer(after: Duration) -> Unavailable {
    let message = format!("no answer within {} ms", after.as_millis());
    Unavailable::Backend(Arc::new(Status::deadline_exceeded(message)))
}

/// Pauses that grow, so that a server that comes back is not overrun.
pub(crate) struct Pauses {
    next: Duration,
}

impl Pauses {
    pub(crate) fn new() -> Pauses {
        Pauses { next: PAUSES.0 }
    }

    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    pub(crate) async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(PAUSES.1);
    }
}
