//! Services that collaborate by events: each announces its changes, and each keeps its own copy of
//! what it needs from others.
//!
//! A service publishes a [`Feed`]: public events, which are made from its private ones by one
//! declared translation. Another service takes them in by an [`Intake`], which makes events of its
//! own from them. So neither knows the private events of the other, and neither asks the other for
//! anything while it works:
//!
//! ```text
//! private events -> Feed -> public events -> Intake -> private events of the other service
//! ```
//!
//! - *Publishing* reads the log. Nothing is written twice, and nothing is lost between two writes.
//! - *Taking in* is exactly once: the events and the place in the feed are in one commit. The order
//!   of a source is kept, an event that is missing is noticed, and one that was sent twice does no
//!   harm.
//! - *The copy is in the own log.* A service answers, and rebuilds everything, while the others are
//!   away.
//! - *A source with another history* stops the intake, with words about what to compare. That is a
//!   source that was restored from a backup, or another log behind the same address.
//! - *An event that cannot be taken in* is parked, and the later events of its subject wait behind
//!   it. Other subjects go on.
//! - *A loop of services* is cut: an event carries the number of feeds through which its cause
//!   came.
//!
//! An event of another service is a fact. Nobody can decline it, so an intake has no rules.
//! Rules belong to the commands that a [process](crate::process) sends as a reaction.

mod cloud_event;
mod feed;
mod intake;
mod interruption;
mod keeper;
mod metrics;
mod operations;
mod origin;
mod page;
mod page_check;
mod parked;
mod plan;
mod public_event;
#[cfg(feature = "remote")]
mod remote;
mod runner;
mod services;
mod shared;
mod status;
mod stored;
mod translator;

pub use cloud_event::{CloudEvent, EventPlace, FeedName, MalformedEvent};
#[cfg(feature = "derive")]
pub use diptych_macros::PublicEvent;
pub use feed::{Feed, FeedHandle, FeedStatus};
pub use intake::{ForeignEvent, Intake, IntakeOptions, IntakeStart};
pub use operations::{IntakeOperationError, IntakeOperations, KnownIntake};
pub use origin::FeedOrigin;
pub(crate) use origin::{keeps_parked, parked_in};
pub use page::{FeedCursor, FeedError, FeedPage, FeedRead, FeedSource};
pub use parked::{IntakeAnswer, IntakeAnswerError, ParkedForeignEvent};
pub use plan::CollaborationError;
pub(crate) use plan::{CollaborationParts, CollaborationPlans};
pub use public_event::PublicEvent;
#[cfg(feature = "remote")]
pub use remote::RemoteFeed;
pub(crate) use services::Collaboration;
pub use services::IntakeControl;
pub use status::{IntakeState, IntakeStatus};
