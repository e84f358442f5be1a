//! The left panel: requests, the rules that answer them, and how they are carried out.

mod cache;
mod catch_up;
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
pub(crate) mod panel;
mod retries;
pub(crate) mod state;
mod unsynced;

use std::error::Error;

pub use cache::CacheFigures;
use diptych_store::{Filter, Timestamp};
pub use error::{CommandError, Conflict, ExecuteError, KeyReused, OutcomeUnknown, Panicked};
pub use execute::{Execute, Pending};
pub use folds::Folds;
pub use lane::Lane;
pub use lane_order::LaneOptions;
pub use panel::Figures;
pub use retries::Retries;

use crate::event::Event;

/// A request to change something, and the rule that decides on it.
///
/// `decide` is pure and synchronous: the state it is given and the command itself are all it
/// knows. It answers with events, with none if there is nothing to do, or with a typed rejection.
/// It cannot answer with anything else: to see something, ask a query.
///
/// ```
/// use diptych::{Command, Event, Filter, Fold, Recorded, Tag};
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
///     fn decide(&self, seat: &Seat) -> Result<Vec<Taken>, AlreadyTaken> {
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
/// # use diptych::{Command, Filter, Fold, Recorded};
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
///     fn decide(&self, seat: &Seat) -> bool {
///         seat.taken
///     }
/// }
/// ```
pub trait Command: Send + Sync + 'static {
    /// What the rule needs to know: a fold, a tuple of folds, or `()`.
    type State: Folds;
    /// What can come of it.
    type Event: Event;
    /// Why the rule can say no.
    type Rejection: Error + Send + Sync + 'static;

    /// What the rule depends on, for each fold: one tag is a classic aggregate, several are a
    /// dynamic consistency boundary. It is narrowed to the fold's types.
    fn boundary(&self) -> <Self::State as Folds>::Boundary;

    /// The rule.
    ///
    /// # Errors
    /// The rejection, if it says no.
    fn decide(
        &self,
        state: <Self::State as Folds>::Ref<'_>,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Whether the command makes sense by itself: shape, ranges, lengths. What depends on the
    /// state of anything is a rule and belongs in [`decide`](Command::decide).
    ///
    /// # Errors
    /// [`Invalid`] with what is wrong.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// When it was so, for a command that knows: a landing is told later than it was. What is said
    /// with [`Execute::occurred_at`] goes before it.
    fn occurred_at(&self) -> Option<Timestamp> {
        None
    }

    /// What must not have come since the state was read, if that is less than the boundary.
    ///
    /// A deposit reads the account to know that it is open; another deposit meanwhile does no
    /// harm, but a closing does. Without an answer anything in the boundary is a conflict.
    fn conflicts_with(&self) -> Option<Filter> {
        None
    }
}

/// A command that makes no sense, whatever happened before: ask differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Which field, as a caller knows it.
    pub field: String,
    /// What is wrong with it, and what would do.
    pub problem: String,
}

impl Invalid {
    /// This problem with this field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Invalid {
        Invalid { field: field.into(), problem: problem.into() }
    }
}
