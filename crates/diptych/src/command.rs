//! The left panel: commands, the rules that decide on them, and their execution.

mod accepted;
mod cache;
mod catch_up;
pub(crate) mod context;
pub(crate) mod decide;
pub(crate) mod error;
mod execute;
mod expectation;
pub(crate) mod folds;
mod gates;
mod lane;
mod lane_order;
mod metrics;
mod note;
mod options;
pub(crate) mod ordinals;
pub(crate) mod panel;
mod retries;
pub(crate) mod state;

use std::error::Error;

pub use cache::CacheStats;
pub use context::DecisionContext;
use diptych_store::{Filter, Timestamp};
pub use error::{CommandError, CommandPanic, Conflict, ExecuteError, KeyReused, OutcomeUnknown};
pub use execute::{Execute, Pending};
pub use folds::Folds;
pub use lane::Lane;
pub use lane_order::LaneOptions;
pub use options::ExecuteOptions;
pub use ordinals::{Ordinal, OrdinalError};
pub use panel::CommandStats;
pub use retries::Retries;

use crate::event::Event;

/// A request to change something, and the rule that decides on it.
///
/// `decide` is pure and synchronous: it knows only the given state, the command itself, and the
/// [context](DecisionContext) of the decision, which has the time. It answers with events, with
/// none if there is nothing to do, or with a typed rejection. It cannot answer with data: a query
/// does that.
///
/// ```
/// use diptych::{Command, DecisionContext, Event, Filter, Fold, Recorded, Tag};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event("seat-taken")]
/// struct Taken {
///     #[tag]
///     seat: String,
///     by: String,
/// }
///
/// #[derive(Default)]
/// struct Seat {
///     taken: bool,
/// }
///
/// impl Fold for Seat {
///     type Event = Taken;
///
///     fn apply(&mut self, _: &Recorded<Taken>) {
///         self.taken = true;
///     }
/// }
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the seat is taken")]
/// struct AlreadyTaken;
///
/// struct Take {
///     seat: String,
///     by: String,
/// }
///
/// impl Command for Take {
///     type State = Seat;
///     type Event = Taken;
///     type Rejection = AlreadyTaken;
///
///     fn boundary(&self) -> Filter {
///         Filter::tag(Tag::new("seat", &self.seat))
///     }
///
///     fn decide(&self, seat: &Seat, _: &DecisionContext) -> Result<Vec<Taken>, AlreadyTaken> {
///         if seat.taken {
///             return Err(AlreadyTaken);
///         }
///         Ok(vec![Taken { seat: self.seat.clone(), by: self.by.clone() }])
///     }
/// }
/// ```
///
/// So a rule that shows data instead of deciding does not compile:
///
/// ```compile_fail,E0053
/// # use diptych::{Command, DecisionContext, Filter, Fold, Recorded};
/// # #[derive(diptych::Event, serde::Serialize, serde::Deserialize)]
/// # #[event("seat-taken")]
/// # struct Taken {}
/// # #[derive(Default)]
/// # struct Seat { taken: bool }
/// # impl Fold for Seat {
/// #     type Event = Taken;
/// #     fn apply(&mut self, _: &Recorded<Taken>) {}
/// # }
/// struct IsTaken;
///
/// impl Command for IsTaken {
///     type State = Seat;
///     type Event = Taken;
///     type Rejection = std::convert::Infallible;
///
///     fn boundary(&self) -> Filter {
///         Filter::everything()
///     }
///
///     fn decide(&self, seat: &Seat, _: &DecisionContext) -> bool {
///         seat.taken
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command",
    label = "only a command can be executed",
    note = "implement `diptych::Command`; a question to a view is a `diptych::Query`"
)]
pub trait Command: Send + Sync + 'static {
    /// The state that the rule decides over: a fold, a tuple of folds, or `()`.
    type State: Folds;
    /// The events that the rule can decide on.
    type Event: Event;
    /// The reasons for which the rule rejects the command.
    type Rejection: Error + Send + Sync + 'static;

    /// The events that the rule depends on, for each fold: one tag is a classic aggregate, several
    /// are a dynamic consistency boundary. The app narrows each filter to the event types of its
    /// fold.
    fn boundary(&self) -> <Self::State as Folds>::Boundary;

    /// The rule. Its context tells the [time](DecisionContext::now), and what the sender gave
    /// beside the command.
    ///
    /// # Errors
    /// The rejection.
    fn decide(
        &self,
        state: <Self::State as Folds>::Ref<'_>,
        context: &DecisionContext<'_>,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Checks that the command makes sense by itself: shape, ranges, lengths. A check that depends
    /// on state is a rule and belongs in [`decide`](Command::decide).
    ///
    /// # Errors
    /// [`Invalid`] with the fault.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// When the facts occurred, for a command that knows it. For example, a landing is reported
    /// after it happened. [`Execute::occurred_at`] overrides it.
    fn occurred_at(&self) -> Option<Timestamp> {
        None
    }

    /// The filter of the events that conflict with the decision, if it is narrower than the
    /// boundary.
    ///
    /// A deposit reads the account to know that it is open. Another deposit meanwhile does no harm,
    /// but a closing does. With `None` every event in the boundary is a conflict.
    fn conflicts_with(&self) -> Option<Filter> {
        None
    }
}

/// A command that makes no sense, whatever happened before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field, as a caller knows it.
    pub field: String,
    /// The fault, and how to correct it.
    pub problem: String,
}

impl Invalid {
    /// The fault `problem` of this field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Invalid {
        Invalid { field: field.into(), problem: problem.into() }
    }
}
