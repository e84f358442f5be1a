//! The context of a reaction.

use diptych_store::Timestamp;

/// The facts beside state and trigger that a reaction may use.
#[derive(Debug)]
pub struct ReactionContext<'a> {
    now: Timestamp,
    phase: Phase,
    instance: &'a str,
}

/// Whether a process catches up with older events or follows new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The trigger was in the log before the process was live.
    CatchingUp {
        /// The number of positions from the trigger to the end of the log.
        behind: u64,
    },
    /// The process follows new events.
    Live,
}

impl<'a> ReactionContext<'a> {
    pub(crate) fn new(now: Timestamp, phase: Phase, instance: &'a str) -> ReactionContext<'a> {
        ReactionContext { now, phase, instance }
    }

    /// The time of the reaction, by the [clock](crate::AppBuilder::clock) of the app. Due times of
    /// timers are counted from it, or from a time in the trigger.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether the process catches up or is live. A process that must not act late decides by it.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The value of the tag that names the instance.
    pub fn instance(&self) -> &str {
        self.instance
    }
}
