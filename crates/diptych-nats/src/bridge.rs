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
    collaboration::{EventPlace, FeedCursor, FeedError, FeedName, FeedPage, FeedRead, FeedSource},
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
    /// The position after which a stream without messages begins, if no mark of a bridge knows it.
    /// The default is the beginning of the feed, and a stream that lost its messages is refused.
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
    /// The stream holds another feed of the same log.
    #[error(
        "the stream {stream} holds the feed {before}, and this is the feed {now}: a feed has a \
         stream of its own"
    )]
    OtherFeed {
        /// The stream.
        stream: String,
        /// The feed of the last message.
        before: String,
        /// The feed of the bridge.
        now: String,
    },
    /// The stream had messages, and has none, and the mark does not tell which ones.
    #[error(
        "the stream {stream} lost all of its {lost} messages, and its mark does not fit, so the \
         place of the bridge is unknown: name the position after which it begins with \
         `BridgeOptions::after`"
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
    /// The number of the last message, or that of the last one that the stream had.
    sequence: u64,
    /// The position after which the feed goes on.
    after: Position,
    /// The last event in the stream, if others of its position are missing.
    partial: Option<EventPlace>,
    /// The position of the last event that was stored.
    stored: Position,
    /// The log that the stream follows.
    log: Option<LogIdentity>,
    /// The feed of the last message.
    feed: Option<FeedName>,
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
        let mut page = match self.read(FeedCursor::Position(end.after), wait).await {
            // A log that was restored can end before the place of the bridge.
            Err(Interruption::Ended(error @ BridgeError::Feed(FeedError::AboveHead { .. }))) => {
                let page = self.read(FeedCursor::End, Duration::ZERO).await?;
                self.check_log(&end, &page).await?;
                return Err(Interruption::Ended(error));
            }
            read => read?,
        };
        self.check_log(&end, &page).await?;
        page = page.checked(end.after)?;
        let feed = self.checked_feed(&end, &page)?;
        let place = page.events.last().map(|last| last.place()).transpose();
        let place = place.map_err(FeedError::from)?;
        if let Some(partial) = end.partial {
            page.events.retain(|event| event.place().is_ok_and(|place| place > partial));
        }
        let (log, upto, head) = (page.log, page.upto, page.head);
        let is_idle = page.events.is_empty();
        if is_idle {
            self.check_end(end.sequence).await?;
        }
        let (sequence, stored) = self.store(page, end.sequence).await?;
        self.report.send_modify(|report| {
            report.stored += stored;
            (report.position, report.head) = (upto, head);
            report.state = match upto < head {
                true => BridgeState::CatchingUp,
                false => BridgeState::Live,
            };
        });
        let last = place.map_or(end.stored, |place| place.position);
        let mark = BridgeMark { log, position: upto, stored: last, sequence, head };
        let marked = self.mark(mark, end.marked, is_idle).await?;
        let (after, partial, log) = (upto, None, Some(log));
        Ok(StreamEnd { sequence, after, partial, stored: last, log, feed, marked })
    }

    /// Checks that nothing else changed the stream while the feed had no events.
    async fn check_end(&self, sequence: u64) -> Result<(), Interruption> {
        let (_, state) = self.stream.state().await?;
        if state.last_sequence == sequence {
            return Ok(());
        }
        let (name, now) = (self.stream.name(), state.last_sequence);
        Err(Interruption::Later(format!(
            "the stream {name} ended with message {sequence}, and ends with {now}: another program \
             changes it"
        )))
    }

    /// The feed of the events in a page, which is the one of the stream.
    fn checked_feed(
        &self,
        end: &StreamEnd,
        page: &FeedPage,
    ) -> Result<Option<FeedName>, Interruption> {
        let mut known = end.feed.clone();
        for event in &page.events {
            let now = FeedName::parse(&event.source).filter(|now| now.log == page.log);
            let Some(now) = now else {
                let (id, source) = (&event.id, &event.source);
                let log = page.log;
                let reason =
                    format!("its event {id} has the source {source}, and its log is {log}");
                return Err(FeedError::Unreachable { reason }.into());
            };
            if let Some(before) = known.filter(|before| *before != now) {
                let (stream, before) = (self.stream.name().to_owned(), before.feed);
                let error = BridgeError::OtherFeed { stream, before, now: now.feed };
                return Err(Interruption::Ended(error));
            }
            known = Some(now);
        }
        Ok(known)
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

    /// Checks that the feed has the history of the stream. If the log was restored, the mark tells
    /// the readers. A bridge of another log has no business with them.
    async fn check_log(&self, end: &StreamEnd, page: &FeedPage) -> Result<(), Interruption> {
        let Some(before) = end.log.filter(|log| *log != page.log) else { return Ok(()) };
        let (now, head) = (page.log, page.head);
        if now.id == before.id {
            let (position, stored, sequence) = (Position::START, Position::START, 0);
            let mark = BridgeMark { log: now, position, stored, sequence, head };
            self.marks.write(&self.stream, mark).await?;
        }
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
        let Some(last) = last else { return self.empty_end(sequence).await };
        let EventPlace { position, .. } = last.place;
        // A bridge can end between two events of one position.
        let (after, partial) = match last.ends_position {
            true => (position, None),
            false => (position.before(), Some(last.place)),
        };
        Ok(StreamEnd {
            sequence: last.sequence,
            after,
            partial,
            stored: position,
            log: Some(last.source.log),
            feed: Some(last.source),
            marked: None,
        })
    }

    /// The end of a stream without messages, whose last one had this number.
    async fn empty_end(&self, sequence: u64) -> Result<StreamEnd, Interruption> {
        let end = |after, stored, log| {
            let (partial, feed, marked) = (None, None, None);
            Ok(StreamEnd { sequence, after, partial, stored, log, feed, marked })
        };
        if sequence == 0 {
            // A new stream: a mark is one of a stream that is gone.
            self.marks.delete(&self.stream).await?;
        } else if let Some((mark, _)) = self.marks.read(&self.stream).await?
            && mark.sequence == sequence
        {
            return end(mark.position, mark.stored, Some(mark.log));
        }
        let after = self.options.after.or((sequence == 0).then_some(Position::START));
        let after = after.ok_or_else(|| {
            let stream = self.stream.name().to_owned();
            Interruption::Ended(BridgeError::PlaceLost { stream, lost: sequence })
        })?;
        end(after, after, None)
    }

    /// Stores the events of a page, all at once, each on condition that it follows the one before
    /// it. Returns the number of the last message, and how many are new.
    async fn store(&self, page: FeedPage, after: u64) -> Result<(u64, u64), Interruption> {
        // A server that was started again may not know the id of its last message. The number alone
        // guards the first message.
        let (first, mut last) = (after + 1, LastMessage { sequence: after, id: None });
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
        let mut new = 0;
        for (number, (id, acknowledgement)) in (first..).zip(acknowledgements) {
            let stored = acknowledgement.await.map_err(|error| self.failed(&id, &error))?;
            if stored.sequence != number {
                let at = stored.sequence;
                let reason = format!("another bridge stored the event {id} as message {at}");
                return Err(Interruption::Later(reason));
            }
            new += u64::from(!stored.duplicate);
        }
        Ok((last.sequence, new))
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
