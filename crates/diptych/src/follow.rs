//! Following the log: what views and projections have in common.
//!
//! Each follower has a thread of its own, so a slow one holds back nobody. It pulls pages of
//! events from the feed (`feed`), which reads and decodes once for all that are at the same
//! place. Where it is, and why it does not go on, is in its [`Progress`].

mod control;
mod feed;
mod page;
mod progress;
mod pulse;
mod worker;

use std::time::Duration;

pub(crate) use control::{Control, Request};
pub use control::{ControlError, RunnerHandle};
pub(crate) use feed::Feed;
#[cfg(feature = "testing")]
pub(crate) use feed::PAGE_EVENTS;
#[cfg(feature = "testing")]
pub(crate) use page::Page;
pub(crate) use page::Slice;
pub use progress::{FollowState, Lag, Standstill, Stopped};
pub(crate) use progress::{Halted, Progress};
pub(crate) use pulse::Pulse;
use tokio::runtime::Handle;
pub use worker::Refresh;
pub(crate) use worker::{Follower, Halt, at_most, spawn, unless, unless_ending};

/// What comes within this time. Without a runtime that has a clock it is waited for.
pub(crate) async fn within<T>(longest: Duration, what: impl Future<Output = T>) -> Option<T> {
    match Handle::try_current() {
        Ok(_) => tokio::time::timeout(longest, what).await.ok(),
        Err(_) => Some(what.await),
    }
}
