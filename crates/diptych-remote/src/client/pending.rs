//! Appends on their way.

use bytes::Bytes;
use diptych_store::{
    AcceptedCommit, Append, AppendError, FilterItem, LogIdentity, Position, SyncError, Tracking,
    encoding,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{client::link::History, wire::messages::Call};

/// An order of a handle to the session.
pub(crate) enum SessionOrder {
    /// Append this commit.
    Append(Box<AppendJob>),
    /// Wait until every accepted commit is synced.
    Close(oneshot::Sender<Result<(), SyncError>>),
}

/// An append, until its outcome is known.
pub(crate) struct AppendJob {
    pub(crate) call: Call,
    pub(crate) trace: CommitTrace,
    /// The history that the caller knew. Its conditions mean nothing in another.
    pub(crate) history: LogIdentity,
    /// When the caller stops waiting for an answer.
    pub(crate) deadline: Instant,
    /// Empty once the commit is accepted.
    reply: Option<oneshot::Sender<Result<AcceptedCommit, AppendError>>>,
    /// Given back when the outcome is known.
    _place: OwnedSemaphorePermit,
}

/// How a commit can be found again in the log.
pub(crate) struct CommitTrace {
    /// The head when the append was asked for. The commit cannot be at or below it.
    pub(crate) after: Position,
    pub(crate) key: Option<diptych_store::Key>,
    pub(crate) tracking: Option<Tracking>,
    /// Number of events.
    pub(crate) events: u64,
    /// The encoding of the first event.
    pub(crate) first: Option<Bytes>,
    /// Whether the first event has an id, so that no other event is equal.
    pub(crate) has_id: bool,
}

impl CommitTrace {
    /// Whether the log tells what became of the commit, also if its place is not known.
    pub(crate) fn can_be_found(&self) -> bool {
        self.key.is_some() || self.has_id
    }

    /// Type and first tag of the first event. They are worked out when they are needed, because few
    /// commits are ever looked for.
    pub(crate) fn item(&self) -> Option<FilterItem> {
        let event = encoding::decode(self.first.as_ref()?).ok()?;
        let item = FilterItem::everything().or_type(event.event_type);
        // The bytes decide. One tag narrows the search within the limits of any store.
        Some(event.tags.into_iter().take(1).fold(item, FilterItem::and_tag))
    }
}

impl AppendJob {
    pub(crate) fn new(
        append: Append,
        call: Call,
        history: &History,
        deadline: Instant,
        reply: oneshot::Sender<Result<AcceptedCommit, AppendError>>,
        place: OwnedSemaphorePermit,
    ) -> AppendJob {
        let encoded = call.encoded.as_ref();
        let size = encoded.and_then(|encoded| encoded.sizes.first()).map(|&size| size as usize);
        let bytes = size.and_then(|size| {
            let bytes = &encoded?.bytes;
            (size <= bytes.len()).then(|| bytes.slice(..size))
        });
        let first = append.events.first();
        let has_id = first.and_then(|event| event.id).is_some_and(|id: Uuid| !id.is_nil());
        let trace = CommitTrace {
            after: history.head().position(),
            events: append.events.len() as u64,
            first: bytes,
            has_id,
            key: append.key,
            tracking: append.tracking,
        };
        let history = history.identity;
        AppendJob { call, trace, history, deadline, reply: Some(reply), _place: place }
    }

    /// Answers the caller. A later answer has no effect.
    pub(crate) fn answer(&mut self, answer: Result<AcceptedCommit, AppendError>) {
        if let Some(due) = self.due(answer) {
            due.send();
        }
    }

    /// The answer to the caller, for one who sends it later. A later answer has no effect.
    pub(crate) fn due(&mut self, answer: Result<AcceptedCommit, AppendError>) -> Option<DueAnswer> {
        let reply = self.reply.take()?;
        Some(DueAnswer { reply, answer })
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.reply.is_none()
    }
}

/// An answer that is to be sent.
pub(crate) struct DueAnswer {
    reply: oneshot::Sender<Result<AcceptedCommit, AppendError>>,
    answer: Result<AcceptedCommit, AppendError>,
}

impl DueAnswer {
    pub(crate) fn send(self) {
        // A caller that went away asks for nothing.
        let _ = self.reply.send(self.answer);
    }
}
