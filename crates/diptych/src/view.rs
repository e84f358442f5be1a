//! Views: folds that are kept up to date in memory, and answer queries.

pub(crate) mod candidate;
pub(crate) mod left_right;
mod report;
pub(crate) mod shown;
pub(crate) mod snapshots;
mod version;
mod views;

pub(crate) use version::Version;
pub(crate) use views::Views;

use crate::fold::Fold;

/// A fold that is kept up to date in memory and answers queries: any fold that can be cloned.
///
/// The app keeps two copies of a view. It folds new events into the hidden copy, shows that copy to
/// queries, and then folds the same events into the other one. So queries never wait for folding,
/// and never see half of a commit. The view is cloned when it is started, when a query still uses
/// the copy that has to be brought up to date, and after a failure.
///
/// The copies must not share state that `apply` changes, such as an `Arc<Mutex<_>>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a view",
    label = "a view is a fold that can be cloned",
    note = "derive `Clone` and `Default`, and implement `diptych::Fold`"
)]
pub trait View: Fold + Clone {}

impl<V: Fold + Clone> View for V {}

/// Options of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewOptions {
    /// Maximum number of copies, at least 2. The third and further copies let folding continue
    /// while long queries run. When all copies are in use, folding waits for a query to end.
    ///
    /// A snapshot that is being written holds a copy, too.
    pub copies: usize,
    /// Maximum number of [poisoned keys](crate::Fold::KEY). Beyond it the view stops.
    pub poisoned_keys: usize,
}

impl Default for ViewOptions {
    fn default() -> ViewOptions {
        ViewOptions { copies: 4, poisoned_keys: 100 }
    }
}

/// The app keeps no such view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app keeps no view {view}: add it with `AppBuilder::view` before the app is started")]
pub struct NoSuchView {
    /// The Rust type of the view.
    pub view: &'static str,
}
