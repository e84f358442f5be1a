//! A page of a feed, and the questions that a source answers.

use std::{future::Future, sync::Arc, time::Duration};

use diptych_store::{LogIdentity, Position, ReadError};

use super::cloud_event::{CloudEvent, EventPlace, MalformedEvent};
use crate::event::SchemaError;

/// The question for the next events of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedRead {
    /// Everything up to here is known.
    pub after: FeedCursor,
    /// Maximum number of events. A page ends with a whole position, so it can be longer by the
    /// events that one private event becomes.
    pub limit: usize,
    /// How long to wait for an event if there is none.
    pub wait: Duration,
}

/// A place in a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeedCursor {
    /// After every event of this position and before it.
    Position(Position),
    /// After this event.
    Event(EventPlace),
    /// At the end that the feed has now.
    End,
}

impl FeedRead {
    /// Default for the number of events of a page.
    pub const LIMIT: usize = 1_000;

    /// The events after this place, without a wait.
    pub fn after(after: FeedCursor) -> FeedRead {
        FeedRead { after, limit: FeedRead::LIMIT, wait: Duration::ZERO }
    }

    /// Sets the maximum number of events.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> FeedRead {
        self.limit = limit;
        self
    }

    /// Sets how long to wait for an event.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> FeedRead {
        self.wait = wait;
        self
    }
}

/// A part of a feed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeedPage {
    /// The log of the service, and its epoch.
    pub log: LogIdentity,
    /// The events in order.
    pub events: Vec<CloudEvent>,
    /// Everything up to here was considered. It is the place to go on after.
    pub upto: Position,
    /// The end of the log when the page was made.
    pub head: Position,
}

impl FeedPage {
    /// A page, as another program sent it.
    pub fn new(
        log: LogIdentity,
        events: Vec<CloudEvent>,
        upto: Position,
        head: Position,
    ) -> FeedPage {
        FeedPage { log, events, upto, head }
    }
}

/// Why a feed gives no page.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The position lies above the end of the log.
    #[error(
        "position {after} is above the end of the feed's log, which is {head}: the log was \
         restored, or this is another log; compare its identity"
    )]
    AboveHead {
        /// The position.
        after: Position,
        /// The end of the log.
        head: Position,
    },
    /// An event of the log cannot be read or published.
    #[error("the event at position {position} cannot be published: {reason}")]
    Event {
        /// Its position.
        position: Position,
        /// The reason.
        reason: String,
    },
    /// The log cannot be read.
    #[error("the log of the feed cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The feed and the log do not fit.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The source does not answer, or not as a feed. A later try may succeed.
    #[error("the source of the feed does not answer: {reason}")]
    Unreachable {
        /// The reason.
        reason: String,
    },
    /// The source refuses this reader, for example because its token was revoked. Tries fail until
    /// the source admits it again.
    #[error("the source of the feed refuses: {reason}")]
    Refused {
        /// The reason.
        reason: String,
    },
    /// An event does not have the form that it promises.
    #[error("the source of the feed sends malformed events: {0}")]
    Malformed(#[from] MalformedEvent),
}

/// The feed of another service, wherever it is.
///
/// A source is asked again and again, and keeps no state for its reader.
pub trait FeedSource: Send + Sync + 'static {
    /// The name of the service and its feed for messages, such as an address.
    fn name(&self) -> String;

    /// The next events. Waits for one, as long as the question says.
    fn read(&self, read: FeedRead) -> impl Future<Output = Result<FeedPage, FeedError>> + Send;
}

impl<S: FeedSource> FeedSource for Arc<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        (**self).read(read).await
    }
}
