//! Following the log: the common part of views and projections.
//!
//! Each follower has a thread of its own, so a slow one does not delay the others. It pulls pages
//! of events from the feed (`feed`), which reads and decodes once for all followers at one place.
//! Its position and its state are in its `Progress`.

mod control;
mod error;
mod feed;
mod follower;
mod follower_control;
mod followers;
mod metrics;
mod page;
mod poison;
mod portion;
mod progress;
mod pulse;
mod state;
mod status;
mod versions;
mod worker;

pub use control::{ControlError, RunnerHandle};
pub use error::{NotYet, WaitError};
pub(crate) use feed::FollowerFeed;
#[cfg(feature = "testing")]
pub(crate) use feed::PAGE_EVENTS;
pub use follower::Refresh;
pub(crate) use follower::{Follower, Halt};
pub use follower_control::FollowerControl;
pub(crate) use followers::Followers;
#[cfg(feature = "testing")]
pub(crate) use page::Page;
pub(crate) use page::{Failures, Slice};
pub(crate) use poison::{PoisonedGroup, Quarantine, decode_skipped, encode_skipped};
pub use poison::{PoisonedKey, SkipNote, SkippedEvent};
pub(crate) use portion::{Division, FailedEvents, Portion};
pub(crate) use progress::{HaltCause, Progress, unless_ending};
pub use state::{FollowState, FollowerStop, Lag, Standstill};
pub(crate) use status::StateReport;
pub use status::{FollowerKind, FollowerMemory, FollowerStatus};
pub(crate) use versions::Pace;
pub use versions::{
    Switch, SwitchPolicy, VersionChange, VersionOutcome, VersionState, VersionStatus,
};
pub(crate) use worker::spawn;
