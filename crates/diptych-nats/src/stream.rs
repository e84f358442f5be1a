//! The stream of a feed in JetStream.

use async_nats::{
    Client,
    error::Error,
    jetstream::{
        self, Context, ErrorCode,
        context::{CreateStreamErrorKind, GetStreamErrorKind},
        stream::{Config, LastRawMessageErrorKind, RetentionPolicy, State, Stream},
    },
};
use diptych::Position;

use crate::message::StreamEvent;

/// Why a stream cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// NATS does not answer, or not now. A later try may succeed.
    #[error("the stream {stream} of NATS does not answer: {reason}")]
    Unreachable {
        /// The stream.
        stream: String,
        /// The reason.
        reason: String,
    },
    /// The stream cannot hold a feed.
    #[error("the stream {stream} of NATS cannot hold a feed: {reason}")]
    Unusable {
        /// The stream.
        stream: String,
        /// The reason, and what to do.
        reason: String,
    },
}

/// A stream that holds a feed.
#[derive(Clone, Debug)]
pub(crate) struct FeedStream {
    context: Context,
    name: String,
}

impl FeedStream {
    pub(crate) fn new(client: Client, name: &str) -> FeedStream {
        FeedStream { context: jetstream::new(client), name: name.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn unreachable(&self, reason: impl ToString) -> StreamError {
        StreamError::Unreachable { stream: self.name.clone(), reason: reason.to_string() }
    }

    pub(crate) fn unusable(&self, reason: impl Into<String>) -> StreamError {
        StreamError::Unusable { stream: self.name.clone(), reason: reason.into() }
    }

    /// Creates the stream if it does not exist. A stream that exists keeps its settings, if they
    /// can hold a feed.
    pub(crate) async fn create(&self, settings: Config) -> Result<(), StreamError> {
        let wanted = Config {
            name: self.name.clone(),
            subjects: vec![format!("{}.>", self.name)],
            allow_direct: true,
            ..settings
        };
        let stream = match self.context.get_stream(&self.name).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    self.context.create_stream(wanted.clone()).await.map_err(|error| match error
                        .kind()
                    {
                        CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => {
                            self.unreachable(error)
                        }
                        // For example, files of a stream of this name are still being removed.
                        CreateStreamErrorKind::JetStream(cause) if cause.code() >= 500 => {
                            self.unreachable(error)
                        }
                        _ => self.unusable(format!("it cannot be created: {error}")),
                    })?
                }
                GetStreamErrorKind::InvalidStreamName | GetStreamErrorKind::EmptyName => {
                    return Err(self.unusable(
                        "NATS does not allow its name: use letters, digits, dashes and underlines",
                    ));
                }
                _ => return Err(self.unreachable(error)),
            },
        };
        let found = &stream.cached_info().config;
        if found.subjects != wanted.subjects {
            let subjects = found.subjects.join(", ");
            return Err(self.unusable(format!(
                "its subjects are {subjects}, and it needs {} alone: a feed has a stream of its \
                 own",
                wanted.subjects.join(", ")
            )));
        }
        if found.retention != RetentionPolicy::Limits || found.max_messages_per_subject > 0 {
            return Err(self.unusable(
                "it removes messages from its middle: set its retention to limits, and no maximum \
                 of messages for a subject",
            ));
        }
        Ok(())
    }

    async fn stream(&self) -> Result<Stream, StreamError> {
        self.context.get_stream(&self.name).await.map_err(|error| self.unreachable(error))
    }

    /// The bounds of the stream as they are now.
    pub(crate) async fn state(&self) -> Result<(Stream, State), StreamError> {
        let stream = self.stream().await?;
        let state = stream.cached_info().state.clone();
        Ok((stream, state))
    }

    /// The first message with this number or a higher one.
    pub(crate) async fn at_or_after(
        &self,
        stream: &Stream,
        sequence: u64,
    ) -> Result<Option<StreamEvent>, StreamError> {
        let next = stream.raw_message_builder().sequence(sequence).next_by_subject(">");
        let message = match next.send().await {
            Ok(message) => message,
            Err(error) => return self.none_or_unreachable(&error),
        };
        let event = StreamEvent::read(&message.payload, Some(&message.headers), message.sequence);
        event.map(Some).map_err(|reason| self.unusable(reason))
    }

    fn none_or_unreachable<T>(
        &self,
        error: &Error<LastRawMessageErrorKind>,
    ) -> Result<Option<T>, StreamError> {
        match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(self.unreachable(error)),
        }
    }

    /// The number of the first message after a position of the feed. Messages are in the order of
    /// positions, so a search by halves finds it.
    pub(crate) async fn first_after(
        &self,
        stream: &Stream,
        state: &State,
        after: Position,
    ) -> Result<u64, StreamError> {
        let (mut low, mut high) = (state.first_sequence.max(1), state.last_sequence + 1);
        if state.messages == 0 {
            return Ok(high);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at_or_after(stream, middle).await? {
                Some(found) if found.place.position <= after => low = found.sequence + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}
