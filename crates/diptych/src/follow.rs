//! Following the log: what views and projections have in common.
//!
//! Each follower has a thread of its own, so a slow one holds back nobody. It pulls pages of
//! events from the feed (`feed`), which reads and decodes once for all that are at the same
//! place. Where it is, and why it does not go on, is in its [`Progress`].

mod control;
mod feed;
mod page;
mod progress;
mod worker;

pub use control::ControlError;
pub(crate) use control::{Control, Request};
pub(crate) use feed::Feed;
pub(crate) use page::Slice;
pub use progress::{FollowState, Lag, Stopped};
pub(crate) use progress::{Halted, Progress};
pub(crate) use worker::{Follower, Halt, spawn};
