//! The right panel: folds that are kept up to date in memory, so that queries are answered from
//! them.

pub(crate) mod copies;
pub(crate) mod keeps;
mod report;
mod views;

pub(crate) use views::Views;

use crate::fold::Fold;

/// A fold that is kept up to date in memory and asked by queries: any fold that can be cloned.
///
/// It is kept twice. What came is folded into the copy that nobody sees, that one is shown, and
/// then the other is brought up to date; so queries never wait for folding, and never see half of
/// a commit. It is cloned when it is started, when a query is still at work with the copy that
/// is to be brought up to date, and after a failure.
///
/// The two copies must not share anything that `apply` changes, as with an `Arc<Mutex<_>>` in it.
pub trait View: Fold + Clone {}

impl<V: Fold + Clone> View for V {}

/// How a view is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewOptions {
    /// How many copies there are at most, at least 2. The third and further ones are for queries
    /// that take long: folding goes on beside them. With as many copies as this in use, folding
    /// waits for a query to end.
    ///
    /// A snapshot that is being written has a copy for that time, as a long query does.
    pub copies: usize,
}

impl Default for ViewOptions {
    fn default() -> ViewOptions {
        ViewOptions { copies: 4 }
    }
}

/// The app keeps no such view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app keeps no view {view}: add it with `AppBuilder::view` before the app is started")]
pub struct NoSuchView {
    /// The Rust type of the view.
    pub view: &'static str,
}
