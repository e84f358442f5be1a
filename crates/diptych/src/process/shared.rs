//! The parts that the tasks of a process share.

use std::{sync::Arc, time::Duration};

use diptych_store::{AppendError, Position, ReadError, Refusal, Store, Unavailable};

use super::{
    Process,
    command::CommandsByName,
    entry::Gateways,
    options::ProcessOptions,
    reader::ProcessReader,
    shard::ProcessShard,
    status::{ProcessStatus, StatusCell},
};
use crate::{command::context::RuleClock, event::SchemaError};

/// The parts of a shard of a process that its tasks share.
pub(super) struct ProcessShared<P: Process> {
    pub(super) reader: ProcessReader<P>,
    pub(super) shard: ProcessShard,
    pub(super) options: ProcessOptions,
    pub(super) clock: RuleClock,
    pub(super) commands: Arc<dyn CommandsByName>,
    pub(super) gateways: Gateways,
    pub(super) status: StatusCell,
    /// The position after which the process began.
    pub(super) begin: Position,
}

/// Why a task cannot go on where it is.
pub(super) enum Interruption {
    /// Another program reacts for this process.
    Overtaken,
    /// The store does not answer for now.
    Later(String),
    /// The program or the log has to be changed first.
    Stopped(String),
}

impl Interruption {
    /// An event of processes that cannot be read stops the process: without it, things could happen
    /// twice.
    pub(super) fn at<T>(
        position: Position,
        read: Result<T, SchemaError>,
    ) -> Result<T, Interruption> {
        read.map_err(|error| {
            Interruption::Stopped(format!(
                "the event at position {position} cannot be read, so a newer program wrote it, or \
                 it is forged: {error}"
            ))
        })
    }
}

impl From<ReadError> for Interruption {
    fn from(error: ReadError) -> Interruption {
        match error {
            ReadError::Unavailable(why) => why.into(),
            other => Interruption::Stopped(other.to_string()),
        }
    }
}

impl From<Unavailable> for Interruption {
    fn from(why: Unavailable) -> Interruption {
        match why {
            Unavailable::Closed | Unavailable::Failed { .. } | Unavailable::HistoryChanged(_) => {
                Interruption::Stopped(why.to_string())
            }
            other => Interruption::Later(other.to_string()),
        }
    }
}

impl From<SchemaError> for Interruption {
    fn from(error: SchemaError) -> Interruption {
        Interruption::Stopped(error.to_string())
    }
}

impl From<AppendError> for Interruption {
    fn from(error: AppendError) -> Interruption {
        match error {
            AppendError::Refused(Refusal::AlreadyTracked { .. } | Refusal::Conflict { .. }) => {
                Interruption::Overtaken
            }
            AppendError::Unavailable(why) => why.into(),
            // The place of the process tells later whether the commit is in the log.
            AppendError::OutcomeUnknown(error) => Interruption::Later(error.to_string()),
            other => Interruption::Stopped(other.to_string()),
        }
    }
}

/// The waits between tries.
pub(super) struct Waits {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Waits {
    pub(super) fn new(options: &ProcessOptions) -> Waits {
        let (first, longest) = (options.first_wait, options.longest_wait);
        Waits { next: first, first, longest }
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    pub(super) async fn wait(&mut self) {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        tokio::time::sleep(wait).await;
    }
}

/// A running process whose type is erased.
pub(super) trait AnyProcess: Send + Sync {
    fn name(&self) -> &'static str;
    fn process(&self) -> &Arc<str>;
    fn store(&self) -> &Store;
    fn status(&self) -> ProcessStatus;
}
