//! Questions about the past: the events up to a point are folded anew, on a few threads of the app.
//!
//! Everything here reads the log itself. The view in memory is used only where it gives an equal
//! answer.

mod as_of;
mod difference;
mod explain;
mod history;
mod job;
mod point;
mod refold;
mod replay;
mod scope;

pub use as_of::Past;
pub use difference::Difference;
pub(crate) use difference::diff;
pub use explain::{Explain, Explanation};
pub use history::History;
pub(crate) use point::position_before;
pub use point::{Point, ResolvedPoint};
pub(crate) use scope::check_scope;
pub use scope::{NarrowScope, ScopeError};
