//! Pages of a feed that a server offers.

use std::{fmt, sync::Arc, time::Duration};

use diptych_store::{Position, Unavailable};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
};

use crate::{
    client::{
        AskTask, ConnectError, RemoteOptions, StoreThread,
        address::FeedAddress,
        checks,
        connection::{Connections, raises_doubt},
        link::{self, MESSAGE_BYTES},
        tls,
    },
    wire::{
        self,
        messages::{
            FeedPageReply, FeedPageRequest, failure, feed_page_request::After,
            feeds_client::FeedsClient, invalid,
        },
    },
};

/// A page that was asked for ahead is of no use after this time: the log can have been restored.
const AHEAD_KEPT: Duration = Duration::from_secs(5);

/// Why a server gives no page of a feed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedCallError {
    /// The position lies above the end of the log.
    #[error("position {after} is above the end of the log, which is {head}")]
    AboveHead {
        /// The position.
        after: Position,
        /// The end of the log.
        head: Position,
    },
    /// The server refuses this reader.
    #[error("{reason}")]
    Refused {
        /// The reason.
        reason: String,
    },
    /// The server does not answer, or says what cannot be. A later call may succeed.
    #[error("{reason}")]
    Unreachable {
        /// The reason.
        reason: String,
    },
}

/// A client for the pages of one feed.
///
/// It has a thread of its own, so its futures can be polled anywhere. A lost connection is made
/// again by the next call. While its caller works on a page that is not the last one, the client
/// already asks for the page after it.
pub struct FeedClient {
    name: String,
    feed: String,
    connections: Arc<Connections>,
    token: Option<MetadataValue<Ascii>>,
    answer_time: Duration,
    ahead: Mutex<Option<PageAhead>>,
    thread: StoreThread,
}

/// A page that is on its way before the caller asks for it.
struct PageAhead {
    after: Option<After>,
    limit: u32,
    asked: Instant,
    answer: AskTask<Result<FeedPageReply, FeedCallError>>,
}

impl FeedClient {
    /// A client for the feed at an address such as `diptych://localhost:4500/feeds/orders`, or
    /// encrypted with `diptychs://` or `https://`. The first call connects.
    ///
    /// # Errors
    /// [`ConnectError`] if the address has another form, or the options cannot be used.
    pub fn new(address: &str, options: RemoteOptions) -> Result<FeedClient, ConnectError> {
        let FeedAddress { endpoint, feed } = FeedAddress::parse(address)?;
        let options = options.within_bounds();
        let unusable = |cause: Unavailable| {
            let cause = cause.into();
            ConnectError::Server { address: address.to_owned(), cause }
        };
        let name = format!("{}/feeds/{feed}", endpoint.url);
        let endpoint = link::endpoint(&endpoint, &options).map_err(unusable)?;
        let token = link::bearer(&options).map_err(unusable)?;
        let thread = StoreThread::start().map_err(ConnectError::Thread)?;
        // The tasks of the connection run on that thread.
        let connections = thread.within(|| Connections::new(endpoint));
        let connections = Arc::new(connections.ok_or_else(|| unusable(Unavailable::Closed))?);
        let (answer_time, ahead) = (options.answer_time, Mutex::default());
        Ok(FeedClient { name, feed, connections, token, answer_time, ahead, thread })
    }

    /// The address of the feed with a scheme of HTTP. It has no token.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for a page. The name of the feed is set here. The call ends
    /// [`answer_time`](RemoteOptions::answer_time) after the wait of the question.
    ///
    /// # Errors
    /// [`FeedCallError`] if there is none.
    pub async fn page(
        &self,
        mut question: FeedPageRequest,
    ) -> Result<FeedPageReply, FeedCallError> {
        question.feed.clone_from(&self.feed);
        let reply = match self.ahead_of(&question).await? {
            Some(reply) => reply,
            None => self.begin(question.clone())?.await.unwrap_or_else(|_| Err(closed()))?,
        };
        if !reply.events.is_empty() && reply.upto < reply.head {
            let after = Some(After::Position(reply.upto));
            let (limit, asked) = (question.limit, Instant::now());
            let answer = self.begin(FeedPageRequest { after, wait_ms: 0, ..question })?;
            *self.ahead.lock() = Some(PageAhead { after, limit, asked, answer });
        }
        Ok(reply)
    }

    /// The page for this question that is on its way already, if it has events.
    async fn ahead_of(
        &self,
        question: &FeedPageRequest,
    ) -> Result<Option<FeedPageReply>, FeedCallError> {
        let is_wanted = |ahead: &mut PageAhead| {
            (ahead.after, ahead.limit) == (question.after, question.limit)
                && ahead.asked.elapsed() < AHEAD_KEPT
        };
        let Some(PageAhead { asked, answer, .. }) = self.ahead.lock().take_if(is_wanted) else {
            return Ok(None);
        };
        match answer.await.unwrap_or_else(|_| Err(closed())) {
            Ok(reply) => Ok(Some(reply).filter(|reply| !reply.events.is_empty())),
            // The caller has waited long enough.
            Err(error) if asked.elapsed() >= self.answer_time => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Sends the question from the thread of the client.
    fn begin(
        &self,
        question: FeedPageRequest,
    ) -> Result<AskTask<Result<FeedPageReply, FeedCallError>>, FeedCallError> {
        let longest = Duration::from_millis(question.wait_ms).saturating_add(self.answer_time);
        let (connections, token) = (self.connections.clone(), self.token.clone());
        let call = async move {
            let answer = timeout(longest, ask(&connections, token, &question)).await;
            match answer {
                Ok(Ok(reply)) => checked(reply),
                Ok(Err(status)) => Err(answered(status)),
                Err(_) => Err(unreachable(format!("no answer within {} ms", longest.as_millis()))),
            }
        };
        self.thread.begin(call).ok_or_else(closed)
    }
}

/// Asks until there is an answer that no other connection changes. An error that another connection
/// confirms has its first words: later ones can say less, as those about a token that was revoked.
async fn ask(
    connections: &Connections,
    token: Option<MetadataValue<Ascii>>,
    question: &FeedPageRequest,
) -> Result<FeedPageReply, Status> {
    let mut doubted: Option<Status> = None;
    loop {
        let mut request = Request::new(question.clone());
        if let Some(token) = &token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        let (channel, connection) = connections.current();
        let mut client = FeedsClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        match client.page(request).await {
            Ok(reply) => return Ok(reply.into_inner()),
            // An error of the log has details.
            Err(status)
                if status.details().is_empty()
                    && raises_doubt(&status)
                    && connections.doubt(connection) =>
            {
                doubted.get_or_insert(status);
            }
            Err(status) => {
                let first = doubted.filter(|first| first.code() == status.code());
                return Err(first.unwrap_or(status));
            }
        }
    }
}

impl fmt::Debug for FeedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FeedClient").field(&self.name).finish()
    }
}

fn closed() -> FeedCallError {
    unreachable("the connection is closed".to_owned())
}

fn unreachable(reason: String) -> FeedCallError {
    FeedCallError::Unreachable { reason }
}

/// The reply, if its positions can be those of a log.
fn checked(reply: FeedPageReply) -> Result<FeedPageReply, FeedCallError> {
    for position in [reply.head, reply.upto] {
        checks::head(position).map_err(|checks::Contradiction(statement)| {
            unreachable(format!("it says that {statement}, which cannot be"))
        })?;
    }
    match reply.upto <= reply.head {
        true => Ok(reply),
        false => Err(unreachable(format!(
            "its page goes up to {}, and its log ends at {}: compare the versions",
            reply.upto, reply.head
        ))),
    }
}

/// The error in the answer of a server, or of the connection to it.
fn answered(status: Status) -> FeedCallError {
    if let Some(reason) = tls::distrust(&status) {
        return unreachable(reason);
    }
    let failure = match wire::from_status(status) {
        Ok(failure) => failure,
        Err(status) => return of_status(&status),
    };
    if let Some(failure::Kind::Invalid(invalid)) = failure.kind
        && let Some(invalid::Kind::AboveHead(above)) = invalid.kind
        && above.position > above.head
    {
        let (after, head) = (Position::new(above.position), Position::new(above.head));
        return FeedCallError::AboveHead { after, head };
    }
    unreachable("it answered with an error of another call: compare the versions".to_owned())
}

fn of_status(status: &Status) -> FeedCallError {
    // A connection that ends by an error of HTTP/2 has codes that a server also gives.
    let is_of_transport = std::error::Error::source(status).is_some();
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied if !is_of_transport => {
            FeedCallError::Refused { reason: link::described(status) }
        }
        Code::NotFound if !is_of_transport => unreachable(message),
        Code::Unimplemented if !is_of_transport => {
            unreachable(format!("it offers no feeds on this port ({message})"))
        }
        _ => unreachable(match message.as_str() {
            "" => format!("the connection failed ({})", status.code()),
            _ => message,
        }),
    }
}
