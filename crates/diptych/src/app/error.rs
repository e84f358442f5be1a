//! Errors of starting and stopping an app.

use std::sync::Arc;

use diptych_store::{ReadError, Unavailable};

use crate::{
    catalogue::CatalogueError,
    collaboration::CollaborationError,
    event::{MissingTag, OutdatedEvent, RetagFailure, SchemaError},
    follow::FollowState,
    plans::{FollowerPlans, StartFailure},
    process::ProcessStartError,
};

/// Checks that the followers of an app do not contradict each other.
pub(super) fn check_followers(plans: &FollowerPlans) -> Result<(), StartError> {
    if let Some(view) = plans.view_twice() {
        return Err(StartError::ViewTwice { view });
    }
    if let Some((candidate, view)) = plans.candidate_alone() {
        return Err(StartError::CandidateAlone { candidate, view });
    }
    match plans.projection_twice() {
        Some(name) => Err(StartError::ProjectionTwice { name }),
        None => Ok(()),
    }
}

/// Why an app could not be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Declarations that contradict each other.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Declarations of the [catalogue](crate::catalogue) contradict each other, or have a bad name.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Snapshots were requested, but have no place.
    #[error("snapshots were requested, but have no place: name one with `snapshots_in`")]
    NoSnapshotPlace,
    /// The place for snapshots beside the log cannot be used.
    #[error("the place for snapshots cannot be used: {0}; fix it, or start without snapshots")]
    SnapshotPlace(#[source] Arc<std::io::Error>),
    /// A view was named twice.
    #[error("the view {view} was added twice: add it once")]
    ViewTwice {
        /// The Rust type of the view.
        view: &'static str,
    },
    /// A candidate has no view to replace.
    #[error(
        "{candidate} is a candidate for the place of the view {view}, which the app does not keep, \
         or which has another candidate: add the view once, and one candidate"
    )]
    CandidateAlone {
        /// The Rust type of the candidate.
        candidate: &'static str,
        /// The Rust type of the view.
        view: &'static str,
    },
    /// Two types would use each other's snapshots.
    #[error(
        "snapshots were requested for two types with the name {name}, which would use each \
         other's: give one of the types another name with `Fold::NAME`"
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
        "the app requires its views, and {view} did not reach the end of the log: {state}; \
         correct its fold, add an upcaster, or start without `require_views`"
    )]
    RequiredView {
        /// The Rust type of the view.
        view: String,
        /// Why the view stopped.
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
    MissingTag(MissingTag),
    /// The program is older than the log: its version of an event lacks a tag that older events
    /// got by [retagging](crate::App::retag).
    #[error(transparent)]
    Outdated(OutdatedEvent),
    /// The log could not be read for the checks of a start.
    #[error("the log cannot be checked against the events of the app: {0}")]
    Unreadable(#[source] ReadError),
    /// A [process](crate::process) does not fit the log.
    #[error(transparent)]
    Process(#[from] ProcessStartError),
    /// A feed or an intake of a [collaboration](crate::collaboration) does not fit the log.
    #[error(transparent)]
    Collaboration(#[from] CollaborationError),
    /// The system refuses a thread that a view or a projection needs.
    #[error(
        "a view or projection got no thread: {0}; raise the limit of threads, or have fewer of them"
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
    /// Commands did not end in time. Everything accepted is durable, and the app is stopped.
    #[error(
        "the app stopped, but {commands} commands did not end: a future that is neither polled nor \
         dropped never ends; drop it, or poll it"
    )]
    StillRunning {
        /// The number of these commands.
        commands: usize,
    },
}

impl From<RetagFailure> for StartError {
    fn from(failure: RetagFailure) -> StartError {
        match failure {
            RetagFailure::Read(error) => StartError::Unreadable(error),
            RetagFailure::Schema(error) => StartError::Schema(error),
        }
    }
}

impl From<StartFailure> for StartError {
    fn from(failure: StartFailure) -> StartError {
        match failure {
            StartFailure::Schema(error) => StartError::Schema(error),
            StartFailure::Thread(error) => StartError::Thread(Arc::new(error)),
        }
    }
}

/// Maximum number of type names in a message.
const NAMED_TYPES: usize = 16;

/// A message that lists the unknown types and says how to fix them.
pub(super) fn unknown(types: &[String]) -> String {
    let named = types.iter().take(NAMED_TYPES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match types.len().saturating_sub(NAMED_TYPES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the log has events that no known event type and no upcaster takes: {named}{more}; if a \
         type was renamed or split, add its upcaster; if commands alone use it, declare it with \
         `events`; if it is another program's, name it with `foreign_types`"
    )
}
