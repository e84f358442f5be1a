//! Where a process begins, and its bounds.

use std::time::Duration;

use diptych_store::Position;

/// Where a process begins when the log does not know it yet. There is no default, because a
/// process has effects: from the beginning it also reacts to old events.
///
/// A process that the log knows goes on where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStart {
    /// With the first event of the log.
    Beginning,
    /// With the first event after the end that the log has at the first start.
    Now,
    /// With the first event after this position.
    After(Position),
}

/// The bounds of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessOptions {
    /// The former name of the process in the log. The first start under the new name notes the
    /// change in the log, and the process goes on where it stood.
    pub renamed_from: Option<String>,
    /// The number of shards over which the instances are spread by a hash of their tag. Shards
    /// react and fire timers independently, each with its own place in the log, so they use
    /// several processors or programs. Each reads all triggers. The first start fixes the number:
    /// another one is refused later.
    pub shards: u32,
    /// The shards that this program runs, or `None` for all. Each shard should be run by at least
    /// one program.
    pub only_shards: Option<Vec<u32>>,
    /// Maximum number of reactions in one commit. A larger number costs fewer commits, and a
    /// smaller one lets the first of them be durable sooner.
    pub reactions_per_commit: usize,
    /// After this number of positions without a reaction the place of the process is stored alone.
    /// It bounds the work that is done again after a restart.
    pub positions_without_commit: u64,
    /// Number of instances whose state is kept in memory. The state of others is folded from the
    /// log when they are triggered.
    pub instances_in_memory: usize,
    /// Number of commands that are carried out at once.
    pub commands_at_once: usize,
    /// Number of reactions whose commands may wait for their turn. Beyond it, no further reaction
    /// is read from the log.
    pub waiting_reactions: usize,
    /// Number of further reactions that are read while calls wait for another try, or for the
    /// outcome of an earlier one. So a gateway that is away does not hold other instances.
    pub resting_reactions: usize,
    /// After this number of carried out reactions, the place up to which everything is carried
    /// out is stored. It bounds the look-ups after a restart.
    pub reactions_without_mark: u64,
    /// The longest sleep before the clock is read again for due timers. It bounds how late a timer
    /// fires after the clock was set forward.
    pub timer_check: Duration,
    /// After this number of events that set, cancel or fire timers, the pending timers are noted in
    /// the log. It bounds the events that a start reads for its timers.
    pub timer_events_without_note: u64,
    /// The number of reactions that may cause each other, from process to command to event to
    /// process. Beyond it the chain is taken for a loop and cut: the instance is parked.
    pub reactions_in_a_row: u32,
    /// The first wait before a failed step is tried again. It doubles with each try.
    pub first_wait: Duration,
    /// The longest wait before a failed step is tried again.
    pub longest_wait: Duration,
}

impl Default for ProcessOptions {
    fn default() -> ProcessOptions {
        ProcessOptions {
            renamed_from: None,
            shards: 1,
            only_shards: None,
            reactions_per_commit: 64,
            positions_without_commit: 10_000,
            instances_in_memory: 10_000,
            commands_at_once: 64,
            waiting_reactions: 1_024,
            resting_reactions: 16_384,
            reactions_without_mark: 1_024,
            timer_check: Duration::from_millis(500),
            timer_events_without_note: 32_768,
            reactions_in_a_row: 100,
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_secs(5),
        }
    }
}

impl ProcessOptions {
    /// Goes on with the process that had this name until now.
    #[must_use]
    pub fn renamed_from(mut self, name: impl Into<String>) -> ProcessOptions {
        self.renamed_from = Some(name.into());
        self
    }
}
