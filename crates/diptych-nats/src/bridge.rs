//! The bridge from a feed to a stream.

use std::{fmt, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        context::{PublishErrorKind, traits::Publisher},
        stream::Config,
    },
};
use diptych::{
    Position,
    collaboration::{EventPlace, FeedCursor, FeedError, FeedPage, FeedRead, FeedSource},
    store::LogIdentity,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    mark::{self, BridgeMark, MarkBucket},
    message::{LastMessage, message, message_id},
    retry::Waits,
    stream::{FeedStream, StreamError},
};

/// How a bridge works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BridgeOptions {
    /// Maximum number of events of a page, all of which are on their way to NATS at once.
    pub page: usize,
    /// How long a page waits for an event.
    pub wait: Duration,
    /// How long the answer of the feed may take beside that wait.
    pub answer_within: Duration,
    /// The settings with which the stream is created. Its name and its subjects are set by the
    /// bridge. By default the stream keeps all messages in files.
    pub stream: Config,
    /// The position after which a stream without messages begins. The default is the beginning of
    /// the feed, and a stream that lost its messages is refused.
    pub after: Option<Position>,
}

impl Default for BridgeOptions {
    fn default() -> BridgeOptions {
        BridgeOptions {
            page: 256,
            wait: Duration::from_secs(30),
            answer_within: Duration::from_secs(60),
            stream: Config::default(),
            after: None,
        }
    }
}

/// The state of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeState {
    /// The bridge has not found its place in the stream yet.
    Starting,
    /// There are events that the stream lacks.
    CatchingUp,
    /// The stream had every event of the last page.
    Live,
    /// The bridge tries again later.
    Stalled {
        /// The reason.
        reason: String,
    },
}

/// How far a bridge is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeReport {
    /// The state.
    pub state: BridgeState,
    /// The stream has every event up to here.
    pub position: Position,
    /// The end of the service's log, as far as the bridge knows.
    pub head: Position,
    /// The number of messages that this bridge stored.
    pub stored: u64,
}

/// The status of a running bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BridgeStatus(watch::Receiver<BridgeReport>);

impl BridgeStatus {
    /// How far the bridge is.
    pub fn report(&self) -> BridgeReport {
        self.0.borrow().clone()
    }

    /// Waits until the report meets a condition. Returns `None` if the bridge ends before that.
    pub async fn until(
        &mut self,
        condition: impl FnMut(&BridgeReport) -> bool,
    ) -> Option<BridgeReport> {
        self.0.wait_for(condition).await.ok().map(|report| report.clone())
    }
}

/// Why a bridge ended. A new start fails in the same way, until the reason is gone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The stream cannot be used.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The feed cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The feed belongs to another log or another history than the messages of the stream.
    #[error(
        "the stream {stream} has events of the log {before}, and the feed is one of {now}: the log \
         was restored, or this is another log; compare what readers of the stream took in, then \
         begin a new stream"
    )]
    OtherHistory {
        /// The stream.
        stream: String,
        /// The log of the last message.
        before: LogIdentity,
        /// The log of the feed.
        now: LogIdentity,
    },
    /// The stream had messages, and has none.
    #[error(
        "the stream {stream} lost all of its {lost} messages, so the place of the bridge is \
         unknown: name the position after which it begins with `BridgeOptions::after`"
    )]
    PlaceLost {
        /// The stream.
        stream: String,
        /// How many messages it had.
        lost: u64,
    },
    /// NATS refuses an event for ever.
    #[error("the event {id} cannot be stored in the stream {stream}: {reason}")]
    Event {
        /// The stream.
        stream: String,
        /// The id of the event.
        id: String,
        /// The reason, and what to do.
        reason: String,
    },
}

/// Copies a feed into a stream of JetStream, each event once and in order.
///
/// The bridge goes on after the last message of the stream, so it needs no memory of its own, and
/// can be killed at any time. If two bridges run, one of them stores each message.
pub struct NatsBridge<S> {
    source: S,
    stream: FeedStream,
    options: BridgeOptions,
    marks: MarkBucket,
    report: watch::Sender<BridgeReport>,
}

/// The place in the stream after which the bridge goes on.
#[derive(Clone)]
struct StreamEnd {
    /// The last message.
    last: LastMessage,
    /// Where the feed goes on.
    cursor: FeedCursor,
    /// The log of the last message.
    log: Option<LogIdentity>,
    /// When the mark for the readers was written, and whether it is behind.
    marked: Option<(Instant, bool)>,
}

/// Why a page did not reach the stream.
enum Interruption {
    Later(String),
    Ended(BridgeError),
}

impl<S: FeedSource> NatsBridge<S> {
    /// A bridge from this feed to a stream of this name. It creates the stream if there is none.
    ///
    /// # Errors
    /// [`StreamError`] if NATS does not answer, or a stream of this name cannot hold a feed.
    pub async fn open(
        client: Client,
        stream: &str,
        source: S,
        options: BridgeOptions,
    ) -> Result<NatsBridge<S>, StreamError> {
        let stream = FeedStream::new(client, stream);
        stream.create(options.stream.clone()).await?;
        let marks = MarkBucket::create(&stream, &options.stream).await?;
        let (position, head, stored) = (Position::START, Position::START, 0);
        let report = BridgeReport { state: BridgeState::Starting, position, head, stored };
        Ok(NatsBridge { source, stream, options, marks, report: watch::Sender::new(report) })
    }

    /// Its status, which stays valid while it runs.
    pub fn status(&self) -> BridgeStatus {
        BridgeStatus(self.report.subscribe())
    }

    /// Copies events until it is dropped, or cannot go on. While the feed or NATS is away, it tries
    /// again.
    pub async fn run(self) -> BridgeError {
        let (mut waits, mut end) = (Waits::new(), None);
        loop {
            let reason = match self.step(end.take()).await {
                Ok(reached) => {
                    (end, waits) = (Some(reached), Waits::new());
                    continue;
                }
                Err(Interruption::Ended(error)) => return error,
                Err(Interruption::Later(reason)) => reason,
            };
            let wait = waits.next();
            tracing::warn!(stream = self.stream.name(), reason, ?wait, "a bridge to NATS waits");
            self.report.send_modify(|report| report.state = BridgeState::Stalled { reason });
            // The stream tells later what of the last page it has.
            tokio::time::sleep(wait).await;
        }
    }

    /// Copies a page. Returns the end of the stream after it.
    async fn step(&self, known: Option<StreamEnd>) -> Result<StreamEnd, Interruption> {
        // The first page does not wait, so that the status tells soon how far the bridge is.
        let (end, wait) = match known {
            // The mark comes soon after the last of several events.
            Some(end @ StreamEnd { marked: Some((_, true)), .. }) => (end, mark::SHORTEST),
            Some(end) => (end, self.options.wait),
            None => (self.end().await?, Duration::ZERO),
        };
        let page = match self.read(end.cursor, wait).await {
            // A log that was restored can end before the place of the bridge.
            Err(Interruption::Ended(error @ BridgeError::Feed(FeedError::AboveHead { .. }))) => {
                let page = self.read(FeedCursor::End, Duration::ZERO).await?;
                self.check_log(&end, &page).await?;
                return Err(Interruption::Ended(error));
            }
            read => read?,
        };
        self.check_log(&end, &page).await?;
        let (upto, head) = (page.upto, page.head);
        let (stored, log) = (page.events.len() as u64, page.log);
        let last = self.store(page, end.last).await?;
        self.report.send_modify(|report| {
            report.stored += stored;
            (report.position, report.head) = (upto, head);
            report.state = match upto < head {
                true => BridgeState::CatchingUp,
                false => BridgeState::Live,
            };
        });
        let mark = BridgeMark { log, position: upto, sequence: last.sequence, head };
        let marked = self.mark(mark, end.marked, stored == 0).await?;
        let log = end.log.or((stored > 0).then_some(log));
        Ok(StreamEnd { last, cursor: FeedCursor::Position(upto), log, marked })
    }

    async fn read(&self, after: FeedCursor, wait: Duration) -> Result<FeedPage, Interruption> {
        let read = FeedRead::after(after).limit(self.options.page).wait(wait);
        let longest = wait + self.options.answer_within;
        match timeout(longest, self.source.read(read)).await {
            Ok(page) => Ok(page?),
            Err(_) => {
                let name = self.source.name();
                Err(Interruption::Later(format!("no answer of {name} within {longest:?}")))
            }
        }
    }

    /// Checks that the feed has the history of the stream. If it has another one, the mark tells
    /// the readers.
    async fn check_log(&self, end: &StreamEnd, page: &FeedPage) -> Result<(), Interruption> {
        let Some(before) = end.log.filter(|log| *log != page.log) else { return Ok(()) };
        let (now, head) = (page.log, page.head);
        let mark = BridgeMark { log: now, position: Position::START, sequence: 0, head };
        self.marks.write(&self.stream, mark).await?;
        let stream = self.stream.name().to_owned();
        Err(Interruption::Ended(BridgeError::OtherHistory { stream, before, now }))
    }

    /// Writes the mark, at most once a second. Returns when, and whether it is behind.
    async fn mark(
        &self,
        mark: BridgeMark,
        before: Option<(Instant, bool)>,
        is_idle: bool,
    ) -> Result<Option<(Instant, bool)>, Interruption> {
        match before {
            Some((at, _)) if !is_idle && at.elapsed() < mark::SHORTEST => Ok(Some((at, true))),
            _ => {
                self.marks.write(&self.stream, mark).await?;
                Ok(Some((Instant::now(), false)))
            }
        }
    }

    /// The end of the stream as it is now.
    async fn end(&self) -> Result<StreamEnd, Interruption> {
        let (stream, state) = self.stream.state().await?;
        let sequence = state.last_sequence;
        let last = match state.messages {
            0 => None,
            _ => self.stream.at_or_after(&stream, sequence).await?,
        };
        let Some(last) = last else {
            let after = self.options.after.or((sequence == 0).then_some(Position::START));
            let after = after.ok_or_else(|| {
                let stream = self.stream.name().to_owned();
                Interruption::Ended(BridgeError::PlaceLost { stream, lost: sequence })
            })?;
            let (last, cursor) = (LastMessage { sequence, id: None }, FeedCursor::Position(after));
            return Ok(StreamEnd { last, cursor, log: None, marked: None });
        };
        let EventPlace { position, .. } = last.place;
        // A bridge can end between two events of one position.
        let cursor = match last.ends_position {
            true => FeedCursor::Position(position),
            false => FeedCursor::Event(last.place),
        };
        let (sequence, id) = (last.sequence, Some(message_id(&last.event)));
        let log = Some(last.source.log);
        Ok(StreamEnd { last: LastMessage { sequence, id }, cursor, log, marked: None })
    }

    /// Stores the events of a page, all at once, each on condition that it follows the one before
    /// it. Returns the last message.
    async fn store(&self, page: FeedPage, after: LastMessage) -> Result<LastMessage, Interruption> {
        let (first, mut last) = (after.sequence + 1, after);
        let mut acknowledgements = Vec::with_capacity(page.events.len());
        let mut events = page.events.into_iter().peekable();
        while let Some(event) = events.next() {
            let next = events.peek();
            let ends_position = next.is_none_or(|next| next.sequence != event.sequence);
            let (subject, message) = message(self.stream.name(), &event, ends_position, &last)
                .map_err(|error| self.refused(&event.id, error.to_string()))?;
            let context = self.stream.context();
            let sent = context.publish_message(message.outbound_message(subject)).await;
            let acknowledgement = sent.map_err(|error| self.failed(&event.id, &error))?;
            last = LastMessage { sequence: last.sequence + 1, id: Some(message_id(&event)) };
            acknowledgements.push((event.id, acknowledgement));
        }
        for (number, (id, acknowledgement)) in (first..).zip(acknowledgements) {
            let stored = acknowledgement.await.map_err(|error| self.failed(&id, &error))?;
            if stored.sequence != number {
                let at = stored.sequence;
                let reason = format!("another bridge stored the event {id} as message {at}");
                return Err(Interruption::Later(reason));
            }
        }
        Ok(last)
    }

    fn refused(&self, id: &str, reason: String) -> Interruption {
        let (stream, id) = (self.stream.name().to_owned(), id.to_owned());
        Interruption::Ended(BridgeError::Event { stream, id, reason })
    }

    fn failed(
        &self,
        id: &str,
        error: &async_nats::jetstream::context::PublishError,
    ) -> Interruption {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                let reason = "it is longer than NATS allows: raise `max_payload` of the server";
                self.refused(id, reason.to_owned())
            }
            PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
                let name = self.stream.name();
                Interruption::Later(format!("another program stores messages in {name}"))
            }
            _ => Interruption::Later(self.stream.unreachable(error).to_string()),
        }
    }
}

impl<S> fmt::Debug for NatsBridge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBridge").field("stream", &self.stream.name()).finish_non_exhaustive()
    }
}

impl From<StreamError> for Interruption {
    fn from(error: StreamError) -> Interruption {
        match error {
            StreamError::Unreachable { .. } => Interruption::Later(error.to_string()),
            StreamError::Unusable { .. } => Interruption::Ended(error.into()),
        }
    }
}

impl From<FeedError> for Interruption {
    fn from(error: FeedError) -> Interruption {
        match error {
            FeedError::AboveHead { .. } | FeedError::Schema(_) => Interruption::Ended(error.into()),
            other => Interruption::Later(other.to_string()),
        }
    }
}
