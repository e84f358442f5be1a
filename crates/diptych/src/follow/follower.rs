//! A consumer of the log, as its thread sees it.

use std::time::Duration;

use diptych_store::{Head, Position, Tag};

use super::{
    FollowerStop, Slice,
    control::RunnerHandle,
    page::Failures,
    poison::{PoisonedGroup, SkipNote},
    versions::{Pace, VersionChange, VersionOutcome},
};
use crate::event::Event;

/// A consumer of the events of one type. It publishes its position in its
/// [`Progress`](super::Progress).
pub(crate) trait Follower: Send + 'static {
    type Event: Event;

    /// How its slices treat unreadable events.
    fn failures(&self) -> Failures {
        Failures::End
    }

    /// Whether it keeps state outside the log that other programs can change, so that a caller's
    /// wait ends with a [confirmation](Follower::confirm).
    const IS_OUTSIDE: bool = false;

    /// Passes the handle of the runner, before any other call.
    fn run_by(&mut self, _: RunnerHandle) {}

    /// Finds its position. Called again after a failure.
    fn open(&mut self, head: &Head) -> Result<(), Halt>;

    /// The position up to which all events are applied.
    fn position(&self) -> Position;

    /// Whether it may read on. A version beside the served one must not pass that one.
    fn pace(&mut self) -> Result<Pace, Halt> {
        Ok(Pace::On)
    }

    /// The time after which it is asked for its pace, although no event came.
    fn looks_after(&self) -> Option<Duration> {
        None
    }

    /// Compares, switches or drops versions.
    fn change(&mut self, _: VersionChange) -> Result<VersionOutcome, String> {
        Err("it has one version: nothing is built beside it".to_owned())
    }

    /// Applies the next events. An unreadable event after the slice is the worker's concern.
    fn take(&mut self, slice: Slice<Self::Event>) -> Result<(), Halt>;

    /// Checks that its state outside the log is unchanged. If other programs changed it, the
    /// follower continues from the state that it finds.
    fn confirm(&mut self) -> Result<(), Halt> {
        Ok(())
    }

    /// Starts over from the start of the log.
    fn restart(&mut self) -> Result<(), String>;

    /// The keys that are poisoned together with this one.
    fn poisoned_group(&self, _: &Tag) -> Option<PoisonedGroup> {
        None
    }

    /// Applies the held events of a poisoned key, without the event that failed if it is
    /// to be skipped.
    fn release(
        &mut self,
        key: &Tag,
        _: Vec<Slice<Self::Event>>,
        _: Option<SkipNote>,
    ) -> Result<(), String> {
        Err(format!("{key} is not poisoned"))
    }

    /// Stores its state outside the log.
    fn save(&mut self) -> Result<(), String>;

    /// Called when it does not read on for now: it is paused, it stopped, or it waits for a retry.
    /// It gives up what it holds of other followers.
    fn rests(&mut self) {}

    /// Called once, when the worker ends.
    fn close(&mut self) {}
}

/// When a projection applies new events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refresh {
    /// At once.
    #[default]
    Live,
    /// This duration after it was last at the end of the log.
    Every(Duration),
    /// When it is [told to](super::FollowerControl::refresh), and when it is
    /// started.
    OnDemand,
}

/// Why a follower did not apply a whole slice.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It cannot apply an event. All events before it are applied.
    At(FollowerStop),
    /// It cannot apply events for now, and is called again.
    Later { reason: String },
}
