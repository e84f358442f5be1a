//! The right panel: queries, which are answered from a view, as fresh as the caller asks.

mod ask;
mod candidate;
mod digest;
mod error;
mod options;
mod panel;
mod watch;

pub(crate) use ask::answer;
pub use ask::{Answer, Ask, Cost};
pub use candidate::Candidate;
pub use digest::ViewDigest;
use diptych_store::Filter;
pub use error::{QueryError, QueryPanic};
pub use options::AskOptions;
pub(crate) use panel::RightPanel;
pub use watch::Watch;

use crate::view::View;

/// A question to one view.
///
/// `answer` is pure: it knows only the view and the query itself. Its type prevents it from
/// changing anything. It should be a look-up or a short walk. A long computation is better done
/// when events arrive: see [`derived`](crate::derived).
///
/// ```
/// use std::collections::BTreeMap;
///
/// use diptych::{App, Event, Fold, Memory, Query, Recorded};
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
/// #[derive(Clone, Default)]
/// struct Seats(BTreeMap<String, String>);
///
/// impl Fold for Seats {
///     type Event = Taken;
///
///     fn apply(&mut self, taken: &Recorded<Taken>) {
///         self.0.insert(taken.seat.clone(), taken.by.clone());
///     }
/// }
///
/// struct WhoSitsAt(&'static str);
///
/// impl Query for WhoSitsAt {
///     type View = Seats;
///     type Answer = Option<String>;
///
///     fn answer(&self, seats: &Seats) -> Option<String> {
///         seats.0.get(self.0).cloned()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = App::over(Memory::new()).view::<Seats>().start().await?;
/// let nobody = app.query(WhoSitsAt("4A")).await?;
/// assert_eq!(nobody.value, None);
/// # Ok(()) }
/// ```
///
/// So a question that changes something does not compile:
///
/// ```compile_fail,E0053
/// # use diptych::{Fold, Query, Recorded};
/// # #[derive(diptych::Event, serde::Serialize, serde::Deserialize)]
/// # #[event("seat-taken")]
/// # struct Taken {}
/// # #[derive(Clone, Default)]
/// # struct Seats(u32);
/// # impl Fold for Seats {
/// #     type Event = Taken;
/// #     fn apply(&mut self, _: &Recorded<Taken>) {}
/// # }
/// struct TakeOne;
///
/// impl Query for TakeOne {
///     type View = Seats;
///     type Answer = u32;
///
///     fn answer(&self, seats: &mut Seats) -> u32 {
///         seats.0 += 1;
///         seats.0
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a query",
    label = "only a query can be asked",
    note = "implement `diptych::Query`; a request to change something is a `diptych::Command`"
)]
pub trait Query: Send + Sync + 'static {
    /// The view that the query asks.
    type View: View;
    /// The type of the answer.
    type Answer: Send;

    /// The answer.
    fn answer(&self, view: &Self::View) -> Self::Answer;

    /// The events that the answer depends on; a view folded from these alone must give the same
    /// answer. The app narrows it to the event types of the view. By default the answer depends on
    /// every event of the view.
    ///
    /// With a scope, explaining an answer and asking about the past read only these events, however
    /// large the view is. [`App::check_scope`](crate::App::check_scope) tells whether the scope is
    /// wide enough for the events in the log.
    fn scope(&self) -> Filter {
        Filter::everything()
    }
}
