//! The processes that a log knows, and the start of one among them.

use std::sync::Arc;

use diptych_store::{
    Append, AppendCondition, AppendError, Filter, Position, Read, ReadError, Refusal, Store,
    Tracking,
};

use super::{
    options::ProcessStart,
    stored::{RENAMED, Rename, STARTED, StartRecord, about_process, decode, reacted_source},
};
use crate::event::{MissingTag, RetagFailure, SchemaError};

/// Why a process cannot be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessStartError {
    /// A name is not one.
    #[error(
        "{name:?} is no name for a process: use at most {} small letters, digits and dashes",
        MOST_NAME_BYTES
    )]
    Name {
        /// The name.
        name: &'static str,
    },
    /// Two processes have one name.
    #[error("there are two processes {name:?}: rename one")]
    Twice {
        /// The name of both.
        name: &'static str,
    },
    /// The log knows a process that looks like this one under another name. Under the new name it
    /// would have its effects again.
    #[error(
        "the log does not know the process {name:?}, and knows {other:?} with the same events and \
         the same tag, which this app does not run; if it was renamed, add \
         `.renamed_from({other:?})` to its `ProcessOptions`; if it is another one, keep \
         {other:?} in the app, or say `retired_process({other:?})`"
    )]
    LooksRenamed {
        /// The name in the program.
        name: &'static str,
        /// The name in the log.
        other: String,
    },
    /// The events of the process have no tag of this key.
    #[error("no event of the process {name:?} has a tag {tag:?}: its instances are found by it")]
    NoTag {
        /// The name of the process.
        name: &'static str,
        /// The key of the tag.
        tag: &'static str,
    },
    /// The process begins after a position that the log does not have.
    #[error("the process {name:?} cannot begin after position {after}: the log ends at {head}")]
    AboveHead {
        /// The name of the process.
        name: &'static str,
        /// The position.
        after: Position,
        /// The end of the log.
        head: Position,
    },
    /// The log has another number of shards of the process.
    #[error(
        "the process {name:?} has {shards} shards in this log, and the program says {given}: the \
         first start fixed the number, because each shard has its own place in the log; set \
         `shards` to {shards} in its `ProcessOptions`"
    )]
    Shards {
        /// The name of the process.
        name: &'static str,
        /// The number in the log.
        shards: u32,
        /// The number in the program.
        given: u32,
    },
    /// The number of shards is not possible.
    #[error("the process {name:?} cannot have {given} shards: 1 to {MOST_SHARDS} are possible")]
    ShardCount {
        /// The name of the process.
        name: &'static str,
        /// The number in the program.
        given: u32,
    },
    /// The program is to run a shard that the process does not have.
    #[error(
        "the process {name:?} has no shard {shard}: it has {shards}, counted from 0; see \
         `only_shards` in its `ProcessOptions`"
    )]
    NoShard {
        /// The name of the process.
        name: &'static str,
        /// The number in the program.
        shard: u32,
        /// The number of its shards.
        shards: u32,
    },
    /// Older events lack the tag of the instances.
    #[error("{0}")]
    MissingTag(MissingTag),
    /// Events of processes in the log cannot be read.
    #[error(transparent)]
    Schema(SchemaError),
    /// The log cannot be read.
    #[error("the processes of the log cannot be read: {0}")]
    Read(#[source] ReadError),
    /// The start of a process cannot be stored.
    #[error("the start of the process {name:?} cannot be stored: {cause}")]
    Append {
        /// The name of the process.
        name: &'static str,
        /// The error of the store.
        #[source]
        cause: Arc<AppendError>,
    },
    /// A process needs a tokio runtime with its clock enabled.
    #[error("a process needs a tokio runtime: start the app on one")]
    NoRuntime,
}

impl From<SchemaError> for ProcessStartError {
    fn from(error: SchemaError) -> ProcessStartError {
        ProcessStartError::Schema(error)
    }
}

impl From<ReadError> for ProcessStartError {
    fn from(error: ReadError) -> ProcessStartError {
        ProcessStartError::Read(error)
    }
}

impl From<RetagFailure> for ProcessStartError {
    fn from(failure: RetagFailure) -> ProcessStartError {
        match failure {
            RetagFailure::Read(error) => error.into(),
            RetagFailure::Schema(SchemaError::MissingTag(missing)) => {
                ProcessStartError::MissingTag(missing)
            }
            RetagFailure::Schema(error) => error.into(),
        }
    }
}

/// Maximum length of the name of a process. It is part of tags, keys and tracking sources.
const MOST_NAME_BYTES: usize = 100;
/// Maximum number of shards of a process. Each has two tracking sources in the log.
const MOST_SHARDS: u32 = 256;

/// The declaration of a process, as the log compares it.
pub(super) struct ProcessDeclaration<'a> {
    pub(super) name: &'static str,
    pub(super) tag: &'static str,
    pub(super) types: Vec<String>,
    pub(super) start: ProcessStart,
    pub(super) shards: u32,
    pub(super) renamed_from: Option<&'a str>,
}

/// A process that the log knows.
pub(super) struct LogProcess {
    pub(super) record: StartRecord,
    /// Its newest name.
    pub(super) name: String,
}

/// The processes that a log knows, up to a position.
pub(super) struct Registry {
    processes: Vec<LogProcess>,
    upto: Position,
}

/// # Errors
/// [`ProcessStartError::Name`] if the log cannot hold it.
pub(super) fn check_name(name: &'static str) -> Result<(), ProcessStartError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !name.is_empty() && name.len() <= MOST_NAME_BYTES && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(ProcessStartError::Name { name }),
    }
}

impl Registry {
    /// # Errors
    /// [`ProcessStartError`] if the log cannot be read.
    pub(super) async fn read(store: &Store) -> Result<Registry, ProcessStartError> {
        let head = store.fresh_head().await?;
        let (filter, mut after) = (Filter::types([STARTED, RENAMED]), Position::START);
        let mut processes: Vec<LogProcess> = Vec::new();
        while after < head {
            let batch = store.read(&filter, Read::after(after).upto(head)).await?;
            for event in batch.iter() {
                if event.event_type() == STARTED {
                    let record: StartRecord = decode(&event)?;
                    let name = record.process.to_string();
                    processes.push(LogProcess { record, name });
                    continue;
                }
                let Rename { process, name } = decode(&event)?;
                let of = processes.iter_mut().find(|known| known.record.process == process);
                if let Some(known) = of {
                    known.name = name;
                }
            }
            after = batch.upto();
        }
        Ok(Registry { processes, upto: head })
    }

    fn named(&self, name: &str) -> Option<&LogProcess> {
        self.processes.iter().find(|known| known.name == name)
    }
}

/// The process as the log knows it. A new one is added to the log, and the name of a renamed one.
/// `run` are the names of all processes of the app, and of those that it has retired.
///
/// # Errors
/// [`ProcessStartError`] if it looks like a renamed process, or the log cannot be used.
pub(super) async fn enrolled(
    store: &Store,
    declared: &ProcessDeclaration<'_>,
    run: &[String],
) -> Result<StartRecord, ProcessStartError> {
    let ProcessDeclaration { name, tag, types, start, shards, renamed_from } = declared;
    if !(1..=MOST_SHARDS).contains(shards) {
        return Err(ProcessStartError::ShardCount { name, given: *shards });
    }
    let checked = |record: StartRecord| match record.shards == *shards {
        true => Ok(record),
        false => Err(ProcessStartError::Shards { name, shards: record.shards, given: *shards }),
    };
    loop {
        let registry = Registry::read(store).await?;
        if let Some(known) = registry.named(name) {
            return checked(known.record.clone());
        }
        let former = renamed_from.and_then(|former| registry.named(former));
        let (event, tracking, record) = match former {
            Some(former) => {
                let record = checked(former.record.clone())?;
                let rename = Rename { process: record.process.clone(), name: (*name).to_owned() };
                let event = about_process(RENAMED, &record.process, &rename)?;
                (event, None, record)
            }
            None => {
                let looks = |known: &&LogProcess| {
                    let StartRecord { tag: known_tag, types: known_types, .. } = &known.record;
                    known_tag == tag && known_types == types && !run.contains(&known.name)
                };
                if let Some(known) = registry.processes.iter().find(looks) {
                    let other = known.name.clone();
                    return Err(ProcessStartError::LooksRenamed { name, other });
                }
                let head = registry.upto;
                let after = match start {
                    ProcessStart::Beginning => Position::START,
                    ProcessStart::Now => head,
                    ProcessStart::After(after) => *after,
                };
                if after > head {
                    return Err(ProcessStartError::AboveHead { name, after, head });
                }
                let process: Arc<str> = first_name(&registry, name).into();
                let (tag, types) = ((*tag).to_owned(), types.clone());
                let record = StartRecord { process, after, shards: *shards, tag, types };
                let event = about_process(STARTED, &record.process, &record)?;
                let source = reacted_source(&record.process, 0);
                (event, Some(Tracking::new(source, after)), record)
            }
        };
        let fail_if = Filter::types([STARTED, RENAMED]);
        let condition = AppendCondition { fail_if, after: registry.upto };
        let mut append = Append::event(event).condition(condition);
        append.tracking = tracking;
        let accepted = match store.append(append).await {
            Ok(accepted) => accepted.synced().await.map_err(AppendError::from),
            // Another program added a process meanwhile.
            Err(AppendError::Refused(Refusal::Conflict { .. })) => continue,
            Err(cause) => Err(cause),
        };
        let failed = |cause| ProcessStartError::Append { name, cause: Arc::new(cause) };
        return accepted.map(|_| record).map_err(failed);
    }
}

/// The name under which the log knows a new process for ever: its name, or with a number behind it
/// if a renamed process had that name first.
fn first_name(registry: &Registry, name: &str) -> String {
    let is_taken =
        |name: &str| registry.processes.iter().any(|known| &*known.record.process == name);
    let mut first = name.to_owned();
    let mut number = 2_u32;
    while is_taken(&first) {
        first = format!("{name}.{number}");
        number += 1;
    }
    first
}
