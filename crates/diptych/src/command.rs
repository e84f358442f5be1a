//! The left panel: requests, the rules that answer them, and how they are carried out.

mod cache;
pub(crate) mod core;
pub(crate) mod decide;
pub(crate) mod error;
mod execute;
pub(crate) mod folds;
mod gates;
mod lane;
mod note;
mod retries;
mod unsynced;

use std::error::Error;

pub use cache::CacheFigures;
pub use core::Figures;
use diptych_store::{Filter, Position, Timestamp};
pub use error::{Conflict, ExecuteError, KeyReused, OutcomeUnknown, Panicked};
pub use execute::{Execute, Pending};
pub use folds::Folds;
pub use lane::{Lane, LaneOptions};
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

/// A boundary, or the scope of a query, that cannot match what it seems to ask for. A mistake of
/// the program: with it a rule would be off, or an answer wrong, and nobody would notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundaryError {
    /// A tag key that no event of the fold declares.
    #[error(
        "the filter asks for the tag key {key:?}, which no event in question of {events} \
         declares (known: {known:?}): correct it, or mark the field as a tag"
    )]
    UnknownTagKey {
        /// The key.
        key: String,
        /// The Rust type of the fold's events.
        events: &'static str,
        /// The keys that they declare.
        known: Vec<&'static str>,
    },
    /// An event type that the fold does not have.
    #[error(
        "the filter asks for the event type {event_type:?}, which {events} does not have \
         (known: {known:?})"
    )]
    UnknownType {
        /// The name of the event type.
        event_type: String,
        /// The Rust type of the fold's events.
        events: &'static str,
        /// The types that they have.
        known: Vec<&'static str>,
    },
    /// A revision was expected of a boundary that is not one stream.
    #[error(
        "a revision is that of one tag, and the boundary is not one tag: expect a position \
         with `unchanged_since` instead"
    )]
    NotOneStream,
    /// A position was expected of a boundary in which no event can ever be: that of a command
    /// without state, or a filter that matches nothing.
    #[error(
        "nothing can change since position {since}: the command depends on no events, because it \
         has no state or its boundary matches nothing; give it a state whose boundary has the \
         events in question, or send it without `unchanged_since`"
    )]
    NoBoundary {
        /// The position that was expected.
        since: Position,
    },
    /// Conflicts of a command that has no state which they could be about.
    #[error(
        "`conflicts_with` asks for {conflicts}, and the command has no state that this could be \
         about: give it one"
    )]
    NoState {
        /// What it asks for.
        conflicts: String,
    },
    /// A tag longer than any that an event can carry.
    #[error(
        "the filter has a tag of {bytes} bytes, and an event can carry at most {limit}: check \
         lengths before (a command, in `validate`)"
    )]
    TagTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
}
