//! A view from outside: where it is, how much it holds, and telling it what to do.

use std::{any::type_name, fmt, sync::Arc};

use diptych_store::{Head, Position, Timestamp};
use serde::Serialize;

use super::{View, copies::Live};
use crate::{
    digest::{DigestError, StateDigest, digest},
    fold::caught,
    follow::{Control, ControlError, FollowState, Lag, Request},
};

/// The app keeps no such view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app keeps no view {view}: add it with `AppBuilder::view` before the app is started")]
pub struct NoSuchView {
    /// The Rust type of the view.
    pub view: &'static str,
}

/// How a view is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewStatus {
    /// The Rust type of the view.
    pub view: &'static str,
    /// Everything up to here is in it.
    pub position: Position,
    /// What it is doing, and why it does not go on, if so.
    pub state: FollowState,
    /// Since when it has been in that state, by the clock of this machine.
    pub since: Timestamp,
    /// How far it is behind the log.
    pub lag: Lag,
    /// Events that it took in since the app was started.
    pub events: u64,
    /// What it takes in memory.
    pub memory: ViewMemory,
}

/// What a view takes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewMemory {
    /// Copies that there are: two, or one at first, and one more for each query that takes long.
    pub copies: usize,
    /// About how many bytes one of them has: its own size and what
    /// [`heap_bytes`](crate::Fold::heap_bytes) says, or else all payloads that went into it.
    pub copy_bytes: usize,
}

impl ViewMemory {
    /// About how many bytes all copies have.
    pub fn bytes(&self) -> usize {
        self.copies.saturating_mul(self.copy_bytes)
    }
}

/// What can be asked of a view without knowing its type.
pub(crate) trait Shown: Send + Sync {
    fn status(&self, head: Position) -> ViewStatus;
}

impl<V: View> Shown for Live<V> {
    fn status(&self, head: Position) -> ViewStatus {
        ViewStatus {
            view: type_name::<V>(),
            position: self.now().position(),
            state: self.progress.state(),
            since: self.progress.since(),
            lag: self.progress.lag(head),
            events: self.progress.events(),
            memory: self.memory(),
        }
    }
}

impl<V: View> Live<V> {
    fn memory(&self) -> ViewMemory {
        let now = self.now();
        let heap_bytes = match caught(|| now.state.heap_bytes()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if !std::mem::needs_drop::<V>() => 0,
            _ => usize::try_from(now.payload_bytes()).unwrap_or(usize::MAX),
        };
        let copy_bytes = heap_bytes.saturating_add(size_of::<V>());
        ViewMemory { copies: self.copies(), copy_bytes }
    }
}

/// A view of an app, to look after: see [`App::view`](crate::App::view).
pub struct ViewControl<V> {
    live: Arc<Live<V>>,
    control: Arc<Control>,
    head: Head,
}

impl<V: View> ViewControl<V> {
    pub(crate) fn new(live: Arc<Live<V>>, control: Arc<Control>, head: Head) -> ViewControl<V> {
        ViewControl { live, control, head }
    }

    /// How it is.
    pub fn status(&self) -> ViewStatus {
        self.live.status(self.head.position())
    }

    /// Everything up to here is in it.
    pub fn position(&self) -> Position {
        self.live.now().position()
    }

    /// The digest of the view as it is now, and up to where that is: equal views have equal
    /// digests, so "rebuilt equals live" is one comparison. It works as long as it takes to
    /// serialise the view, and folding goes on beside it with one copy more. In a task, call it
    /// through `spawn_blocking`, so that a large view does not hold up other tasks.
    ///
    /// # Errors
    /// [`DigestError`] if the view says that it cannot be serialised.
    pub fn digest(&self) -> Result<(Position, StateDigest), DigestError>
    where
        V: Serialize,
    {
        let now = self.live.held();
        // In this order: the position may grow beside it, with nothing for the view.
        let position = now.position();
        Ok((position, digest(&now.state)?))
    }

    /// Makes it wait: once this answers, nothing more is taken in. Queries are answered as before,
    /// and those that ask for more than there is wait.
    ///
    /// # Errors
    /// [`ControlError`] if it is stopped.
    pub async fn pause(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Pause).await
    }

    /// Takes in one event, if there is one for it, and says up to where it is then. It has to be
    /// paused.
    ///
    /// # Errors
    /// [`ControlError`] if it is not paused, or stopped.
    pub async fn step(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Step).await
    }

    /// Goes on by itself, after a pause, or after a failure whose cause was mended.
    ///
    /// # Errors
    /// [`ControlError`] if the log or the app has ended.
    pub async fn resume(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Resume).await
    }

    /// Folds the log again from its start, beside the view as it is, which answers until then, and
    /// takes in nothing more. Once the new one has come as far, it takes its place, and goes on. A
    /// view that was paused goes on, too. Its snapshots are thrown away. This answers when that has
    /// begun.
    ///
    /// # Errors
    /// [`ControlError`] if the app was stopped, or `Default` of the view panicked.
    pub async fn rebuild(&self) -> Result<(), ControlError> {
        self.control.ask(Request::Rebuild).await.map(drop)
    }

    /// Keeps the view as it is outside the log, so that it need not be folded from the start of
    /// the log when the app is started again.
    ///
    /// # Errors
    /// [`ControlError`] if no snapshots of the view were asked for, or it could not be written.
    pub async fn snapshot(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Save).await
    }
}

impl<V> fmt::Debug for ViewControl<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ViewControl").field(&type_name::<V>()).finish()
    }
}
