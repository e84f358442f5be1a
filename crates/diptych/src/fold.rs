//! State made by applying events one after another. Commands decide over it, and queries are
//! answered from it.

mod occurrence;

use std::any::type_name;

use diptych_store::{Position, Timestamp};

pub use occurrence::{Correction, OccurrenceFold, OccurrenceOrder};

use crate::event::{Event, Recorded, SchemaError};

/// State made by applying events one after another.
///
/// A fold is pure: equal events give an equal state, at any time and on any machine. Time,
/// randomness and answers of other systems arrive in events. A fold starts from `Default`.
///
/// ```
/// use diptych::{Event, Fold, Recorded};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event("money-deposited")]
/// struct Deposited {
///     #[tag]
///     account: String,
///     amount: u64,
/// }
///
/// #[derive(Default)]
/// struct Balance(u64);
///
/// impl Fold for Balance {
///     type Event = Deposited;
///
///     fn apply(&mut self, event: &Recorded<Deposited>) {
///         self.0 += event.amount;
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a fold",
    label = "a view and the state of a command are folds",
    note = "implement `diptych::Fold`: the events that it applies, and how"
)]
pub trait Fold: Default + Send + Sync + 'static {
    /// The events that it applies. Their types narrow every filter that the fold is used with.
    type Event: Event;

    /// Raise it when `apply`, the state or the result of an upcaster changes its meaning. Added
    /// upcasters and new versions of events are detected without it.
    ///
    /// Only the code that made a snapshot uses it. Without a version, that is the same executable.
    /// With a version, snapshots are used across builds, and you are responsible for raising it.
    /// `testing::Given::check_digest` (feature `testing`) detects when it has to be raised. Added,
    /// removed or renamed fields of the state are detected when a snapshot is read, and cause a
    /// replay.
    const VERSION: Option<u32> = None;

    /// The name under which its snapshots are kept, instead of the path of the Rust type. Set one
    /// if two types have one path: two versions of a crate in one program, or types in blocks of
    /// one function. With a name, the snapshots are still found after the type was moved or
    /// renamed.
    const NAME: Option<&'static str> = None;

    /// For a fold that puts its events in order of when they occurred by itself: makes it the fold
    /// of only those that occurred before an instant. [`OccurrenceOrder`] has it.
    ///
    /// With it, a question about what
    /// [occurred before](crate::query::Ask::occurred_before) an instant applies all known events
    /// in order of the log, and then calls this. So a correction that was reported later counts.
    /// Without it, the question leaves out events by the time that is stored with them, and sorts
    /// the others by that time. A fold that contains an `OccurrenceOrder` passes the instant on to
    /// [`retain_before`](OccurrenceOrder::retain_before).
    const RETAIN_BEFORE: Option<fn(&mut Self, Timestamp)> = None;

    /// The key of the tag that names the keys of a view, such as `"account"`. An event that cannot
    /// be read or applied then poisons only its own keys: the view keeps their rows as they were
    /// before the event, holds back their later events, and goes on with all other events. An
    /// event without such a tag stops the view. Without a key, each failure stops the view.
    ///
    /// The promise is that the rows of one key depend on the events of this key alone: held events
    /// are applied after later events of other keys. A key has no effect on the state of a
    /// command.
    const KEY: Option<&'static str> = None;

    /// Applies one event.
    fn apply(&mut self, event: &Recorded<Self::Event>);

    /// Estimate of the bytes that the state holds beyond its own size, for budgets and statistics.
    ///
    /// The default estimate is 0 for a type that owns nothing (it needs no drop), and the bytes of
    /// the applied payloads for any other type. This is too high for a state that only counts.
    fn heap_bytes(&self) -> Option<usize> {
        None
    }
}

/// The name under which snapshots of this fold are kept.
pub(crate) fn kept_name<F: Fold>() -> &'static str {
    F::NAME.unwrap_or_else(type_name::<F>)
}

/// A fold could not apply an event. Its state is not used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fold} cannot apply the event at position {position}: {cause}")]
pub struct FoldError {
    /// The Rust type of the fold.
    pub fold: &'static str,
    /// Where the event is.
    pub position: Position,
    /// The failure.
    #[source]
    pub cause: FoldFailure,
}

/// Why a fold could not apply an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldFailure {
    /// The event could not be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// `apply` panicked.
    #[error("it panicked: {0}; correct `apply`, the events are unchanged")]
    Panicked(String),
}
