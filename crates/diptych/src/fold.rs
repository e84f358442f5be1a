//! State made by applying events one after another: what a command decides over, and what a
//! query is answered from.

use std::{
    any::{Any, type_name},
    panic::{AssertUnwindSafe, catch_unwind},
};

use diptych_store::Position;

use crate::{Event, Recorded, SchemaError};

/// State made by applying events one after another.
///
/// A fold is pure: the same events give the same state, whenever and wherever. Time, randomness
/// and what other systems said arrive in events. It starts from `Default`.
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
pub trait Fold: Default + Send + Sync + 'static {
    /// What it is made from: its types narrow every filter that the fold is used with.
    type Event: Event;

    /// Raise it when `apply`, the state or what an upcaster makes changes its meaning. That there
    /// is another upcaster, or another version of an event, is noticed.
    ///
    /// A state that was kept outside the log is used again only by what made it. Without a
    /// version that is the very same executable. A fold that gives one takes the responsibility,
    /// and its snapshots are used across builds. `testing::Given::check_digest` (feature
    /// `testing`) notices when it has to be raised. Fields of the state that were added, removed or
    /// renamed are noticed when a snapshot is read, and mean a replay.
    const VERSION: Option<u32> = None;

    /// The name that snapshots of it are kept under, in place of the path of the Rust type. Give
    /// one where two types have one path: two versions of a crate in one program, or types in
    /// blocks of one function. With a name the type can also be moved or renamed, and its snapshots
    /// are found.
    const NAME: Option<&'static str> = None;

    /// Takes in one event.
    fn apply(&mut self, event: &Recorded<Self::Event>);

    /// About how many bytes the state holds beyond its own size, for budgets and figures.
    ///
    /// Without an answer a state that owns nothing counts nothing, and any other as many bytes
    /// as the payloads that went into it: too much for a state that only counts.
    fn heap_bytes(&self) -> Option<usize> {
        None
    }
}

/// The name that snapshots of this fold are kept under.
pub(crate) fn kept_name<F: Fold>() -> &'static str {
    F::NAME.unwrap_or_else(type_name::<F>)
}

/// A fold could not take in an event. What it had so far is not used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fold} cannot take in the event at position {position}: {cause}")]
pub struct FoldError {
    /// The Rust type of the fold.
    pub fold: &'static str,
    /// Where the event is.
    pub position: Position,
    /// What went wrong.
    #[source]
    pub cause: FoldFailure,
}

/// Why a fold could not take in an event.
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

/// Runs something that a program brought along, and says so if it panicked.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let outcome = catch_unwind(AssertUnwindSafe(run));
    outcome.map_err(|panic| format!("it panicked: {}", panic_text(&*panic)))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no message)").to_owned()
}
