//! A stream as the source of an intake.

use std::{fmt, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        consumer::{AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy, pull::Config},
        stream::State,
    },
};
use diptych::{
    Position,
    collaboration::{FeedCursor, FeedError, FeedPage, FeedRead, FeedSource},
};
use futures_util::StreamExt;
use parking_lot::Mutex;

use crate::{
    mark::SeenMark,
    message::StreamEvent,
    stream::{FeedStream, StreamError},
};

/// A bridge that wrote nothing for this time has ended, or cannot reach the feed. A bridge that
/// works writes at least once in each of its waits.
const BRIDGE_SILENCE: Duration = Duration::from_secs(180);
/// How long the rest of a position is waited for.
const REST_OF_POSITION: Duration = Duration::from_secs(2);
/// Maximum number of bytes of an answer. It holds several of the longest events.
const PAGE_BYTES: usize = 32 << 20;
/// NATS forgets a reader after this time without a question.
const READER_KEPT: Duration = Duration::from_secs(120);

/// The feed of another service, read from a stream that a [`NatsBridge`](crate::NatsBridge) fills.
pub struct NatsFeed {
    stream: FeedStream,
    /// The reader of the last page, which spares the next one the search for its place.
    reader: Mutex<Option<StreamReader>>,
    mark: Mutex<Option<SeenMark>>,
    bridge_silence: Duration,
}

/// A consumer of JetStream, and the place that it has reached.
struct StreamReader {
    consumer: PullConsumer,
    after: Position,
    /// The number of the last message before that place.
    sequence: u64,
}

impl NatsFeed {
    /// The feed in the stream of this name.
    pub fn new(client: Client, stream: &str) -> NatsFeed {
        let (stream, bridge_silence) = (FeedStream::new(client, stream), BRIDGE_SILENCE);
        NatsFeed { stream, reader: Mutex::new(None), mark: Mutex::new(None), bridge_silence }
    }

    /// Sets how long a bridge may write nothing before the feed counts as unreachable. It has to be
    /// longer than the [wait](crate::BridgeOptions::wait) of the bridge. The default is 3 minutes.
    #[must_use]
    pub fn bridge_silence(mut self, silence: Duration) -> NatsFeed {
        self.bridge_silence = silence;
        self
    }

    /// The mark of the bridge.
    async fn mark(&self) -> Result<SeenMark, FeedError> {
        let before = self.mark.lock().clone();
        let seen = SeenMark::after(before, &self.stream).await?;
        *self.mark.lock() = Some(seen.clone());
        Ok(seen)
    }

    /// The reader for the events after this position.
    async fn reader(&self, after: Position) -> Result<StreamReader, FeedError> {
        let kept = self.reader.lock().take();
        if let Some(kept) = kept.filter(|kept| kept.after == after) {
            return Ok(kept);
        }
        let (stream, state) = self.stream.state().await?;
        self.check_end(&state, after).await?;
        let first = self.stream.first_after(&stream, &state, after).await?;
        let next = self.stream.at_or_after(&stream, first).await?;
        match next.filter(|next| next.place.position > after) {
            Some(next) => self.check_start(&next, after)?,
            None => self.check_rest(&state, after).await?,
        }
        let settings = Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first.max(1) },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: READER_KEPT,
            ..Config::default()
        };
        let consumer = stream.create_consumer(settings).await;
        let consumer = consumer.map_err(|error| self.stream.unreachable(error))?;
        Ok(StreamReader { consumer, after, sequence: first - 1 })
    }

    /// Checks that the stream has everything up to this position.
    async fn check_end(&self, state: &State, after: Position) -> Result<(), FeedError> {
        let mark = self.mark().await?.mark;
        let is_whole = state.last_sequence >= mark.sequence;
        if after == Position::START || (is_whole && after <= mark.position) {
            return Ok(());
        }
        let end = self.end().await?;
        if after <= end {
            return Ok(());
        }
        let reason = format!(
            "it ends at position {end}, and {after} was taken in before: its bridge is behind, or \
             NATS lost messages that the bridge will store again"
        );
        Err(self.stream.unreachable(reason).into())
    }

    /// The position of the last event in the stream.
    async fn end(&self) -> Result<Position, FeedError> {
        let (stream, state) = self.stream.state().await?;
        let last = match state.messages {
            0 => None,
            _ => self.stream.at_or_after(&stream, state.last_sequence).await?,
        };
        Ok(last.map_or(Position::START, |last| last.place.position))
    }

    /// Checks that no event before this one was removed that the reader lacks.
    fn check_start(&self, next: &StreamEvent, after: Position) -> Result<(), FeedError> {
        let previous = next.event.previous_position()?;
        if next.place.part == 0 && previous <= after {
            return Ok(());
        }
        Err(self.removed(&format!("begins with {}", next.event.id), after))
    }

    /// Checks that the stream never had an event after this position, as it has none.
    async fn check_rest(&self, state: &State, after: Position) -> Result<(), FeedError> {
        let mark = self.mark().await?.mark;
        if mark.sequence > state.last_sequence || mark.stored <= after {
            return Ok(());
        }
        Err(self.removed(&format!("had events up to position {}", mark.stored), after))
    }

    fn removed(&self, bounds: &str, after: Position) -> FeedError {
        let name = self.stream.name();
        let reason = format!(
            "the stream {name} of NATS {bounds}, and events after position {after} were removed: \
             take them in from the service that publishes them"
        );
        FeedError::Refused { reason }
    }

    /// The next messages of a reader: as many as there are, or the first one within the wait.
    async fn messages(
        &self,
        reader: &StreamReader,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<StreamEvent>, FeedError> {
        let mut events = self.fetch(reader, limit, None).await?;
        if events.is_empty() && !wait.is_zero() {
            events = self.fetch(reader, 1, Some(wait)).await?;
            if !events.is_empty() && limit > 1 {
                events.extend(self.fetch(reader, limit - 1, None).await?);
            }
        }
        // A page has whole positions.
        while events.last().is_some_and(|last| !last.ends_position) {
            let rest = self.fetch(reader, 1, Some(REST_OF_POSITION)).await?;
            if rest.is_empty() {
                break;
            }
            events.extend(rest);
        }
        Ok(events)
    }

    /// Asks for messages. With a wait, NATS keeps the question until there is one.
    async fn fetch(
        &self,
        reader: &StreamReader,
        limit: usize,
        wait: Option<Duration>,
    ) -> Result<Vec<StreamEvent>, FeedError> {
        let asked = match wait {
            None => {
                let fetch = reader.consumer.fetch().max_bytes(PAGE_BYTES);
                fetch.max_messages(limit).messages().await
            }
            Some(wait) => {
                let batch = reader.consumer.batch().max_bytes(PAGE_BYTES);
                batch.max_messages(limit).expires(wait).messages().await
            }
        };
        let mut messages = asked.map_err(|error| self.stream.unreachable(error))?;
        let mut events = Vec::new();
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| self.stream.unreachable(error))?;
            let info = message.info().map_err(|error| self.stream.unreachable(error))?;
            let sequence = info.stream_sequence;
            let event = StreamEvent::read(&message.payload, message.headers.as_ref(), sequence);
            events.push(event.map_err(|reason| self.stream.unusable(reason))?);
        }
        Ok(events)
    }

    /// Everything after this position, as a page.
    async fn page(
        &self,
        after: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        let mut reader = self.reader(after).await?;
        let mut events = self.messages(&reader, limit, wait).await?;
        let read = events.len();
        // A bridge that ended between two events of a position stores the others later.
        let whole = events.iter().rposition(|event| event.ends_position).map_or(0, |last| last + 1);
        events.truncate(whole);
        // The events of another log are left to the next page, which belongs to that log.
        let own = events.first().map(|first| first.source.clone());
        let other = events.iter().position(|event| Some(&event.source) != own.as_ref());
        events.truncate(other.unwrap_or(events.len()));
        let own = own.map(|source| source.log);
        let seen = self.mark().await?;
        let mark = seen.mark;
        let is_all = events.len() == read;
        if let Some(last) = events.last() {
            reader.sequence = last.sequence;
        } else if seen.silence() > self.bridge_silence {
            let silence = self.bridge_silence;
            let reason = format!("its bridge wrote nothing for {silence:?}: is it running?");
            return Err(self.stream.unreachable(reason).into());
        }
        let log = own.unwrap_or(mark.log);
        let mut upto = events.last().map_or(after, |last| last.place.position.max(after));
        if is_all && log == mark.log && mark.sequence <= reader.sequence {
            upto = upto.max(mark.position);
        }
        let head = if log == mark.log { upto.max(mark.head) } else { upto };
        // If the stream should have more, the next page looks for its place again.
        if is_all && (upto > after || mark.sequence <= reader.sequence) {
            reader.after = upto;
            *self.reader.lock() = Some(reader);
        }
        let events = events.into_iter().map(|event| event.event).collect();
        Ok(FeedPage::new(log, events, upto, head))
    }
}

impl FeedSource for NatsFeed {
    fn name(&self) -> String {
        format!("the stream {} of NATS", self.stream.name())
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        let FeedRead { after, limit, wait, .. } = read;
        let limit = limit.max(1);
        match after {
            FeedCursor::Position(after) => self.page(after, limit, wait).await,
            FeedCursor::End => {
                // The stream may be behind the log, whose events up to here are not news.
                let (end, mark) = (self.end().await?, self.mark().await?.mark);
                let head = end.max(mark.head);
                Ok(FeedPage::new(mark.log, Vec::new(), head, head))
            }
            FeedCursor::Event(place) => {
                let mut page = self.page(place.position.before(), limit, wait).await?;
                page.events.retain(|event| event.place().is_ok_and(|at| at > place));
                Ok(page)
            }
        }
    }
}

impl fmt::Debug for NatsFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsFeed").field("stream", &self.stream.name()).finish_non_exhaustive()
    }
}

impl From<StreamError> for FeedError {
    fn from(error: StreamError) -> FeedError {
        FeedError::Unreachable { reason: error.to_string() }
    }
}
