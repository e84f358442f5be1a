//! Errors of starting and stopping an app.

use std::sync::Arc;

use diptych_store::{ReadError, Unavailable};

use super::settings::unknown;
use crate::{
    event::{SchemaError, Untagged},
    follow::FollowState,
    view::panel::Unstarted,
};

/// Why an app could not be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Declarations that contradict each other.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Snapshots were asked for and have no place.
    #[error("snapshots were asked for and have no place: name one with `snapshots_in`")]
    NoSnapshotPlace,
    /// The place for snapshots beside the log cannot be used.
    #[error("the place for snapshots cannot be used: {0}; mend it, or start without snapshots")]
    SnapshotPlace(#[source] Arc<std::io::Error>),
    /// A view was named twice.
    #[error("the view {view} was added twice: add it once")]
    ViewTwice {
        /// The Rust type of the view.
        view: &'static str,
    },
    /// Snapshots were requested for a type that is no view of the app.
    #[error("snapshots were asked for of {view}, which is no view of the app: add it with `view`")]
    SnapshotsWithoutView {
        /// The Rust type.
        view: &'static str,
    },
    /// Two types would use each other's snapshots.
    #[error(
        "snapshots were asked for of two types that have one name, {name}, and would use each \
         other's: give one of them another with `Fold::NAME`"
    )]
    SnapshotsAlike {
        /// The name of both.
        name: &'static str,
    },
    /// Two projections have one name.
    #[error("two projections have the name {name:?}: give each its own")]
    ProjectionTwice {
        /// The name.
        name: String,
    },
    /// A view that the app [requires](crate::AppBuilder::require_views) stopped before the end of
    /// the log.
    #[error(
        "the app requires its views, and {view} did not come as far as the log: {state}; correct \
         its fold, add an upcaster, or start without `require_views`"
    )]
    RequiredView {
        /// The Rust type of the view.
        view: &'static str,
        /// Why it does not go on.
        state: FollowState,
    },
    /// The log has events that the app does not know, and the app is
    /// [strict](crate::AppBuilder::strict).
    #[error("{}", unknown(types))]
    UnknownTypes {
        /// Their types.
        types: Vec<String>,
    },
    /// A stored event lacks a tag that its type has today, so a rule over that tag would not see
    /// the event.
    #[error("{0}")]
    Untagged(Untagged),
    /// The log could not be read for the checks of a start.
    #[error("the log cannot be checked against the events of the app: {0}")]
    Unreadable(#[source] ReadError),
    /// The system gives no thread to fold on.
    #[error(
        "a view has no thread to fold on: {0}; raise the limit of threads, or have fewer views"
    )]
    Thread(#[source] Arc<std::io::Error>),
}

/// Why an app did not stop cleanly. Acknowledged commits are durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// An accepted commit could not be synced. Its caller got an unknown outcome.
    #[error("the app stopped, but not everything accepted is durable: {0}")]
    NotSynced(#[source] Unavailable),
}

impl From<Unstarted> for StartError {
    fn from(unstarted: Unstarted) -> StartError {
        match unstarted {
            Unstarted::Schema(error) => StartError::Schema(error),
            Unstarted::Thread(error) => StartError::Thread(Arc::new(error)),
        }
    }
}
