//! Rows outside the log that are kept in step with it. Every backend of projections shares this
//! module, whatever database it writes to.
//!
//! The one rule is that rows and checkpoint change together. So the rows beside a checkpoint are
//! exactly the result of folding the log up to it.

mod database;
mod reader;
mod rules;
pub(crate) mod runner;
mod slots;
mod target;
mod versions;

use std::{error::Error, iter::successors, sync::Arc};

pub use database::{
    CheckedSchema, Database, DatabaseTransaction, DatabaseWork, Grouping, SchemaObject,
};
pub use reader::EventReader;
pub use slots::{
    PoisonRecord, PoisonRow, ReaderName, SampleAnswer, StoredCheckpoint, StoredVersion, VersionSlot,
};

pub use crate::follow::{RunnerHandle, SwitchPolicy, VersionChange, VersionOutcome, VersionState};

use diptych_store::{EventChecksum, LogIdentity, Position};

use crate::{
    event::{Event, Recorded},
    panics,
};

/// The place that a projection has reached: the log, its history, and the position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log that the rows were made from.
    pub log: LogIdentity,
    /// All events up to here were applied.
    pub position: Position,
    /// Checksum of the event at the position. It distinguishes the rows from those of another
    /// history. `None` in a checkpoint that an older program stored.
    pub checksum: Option<EventChecksum>,
}

/// A place outside the log that is kept in step with it. Backends implement it.
///
/// All methods may block: they are called on a thread where blocking is allowed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the target of a projection",
    label = "rows cannot be written to it",
    note = "`diptych-sqlite` has a target; for another database implement \
            `diptych::projection::Database`"
)]
pub trait Target: Send + 'static {
    /// The events that it applies.
    type Event: Event;

    /// The name of the projection, unique in its app and in its database.
    fn name(&self) -> &str;

    /// Reads the stored checkpoint; `None` if no event was applied yet. Creates missing parts of
    /// the place, such as tables.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`].
    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError>;

    /// Applies these events and moves the checkpoint from `from` to `to`, all or nothing.
    ///
    /// `events` holds every event between the two checkpoints, in log order. Several events at one
    /// position come from one stored event that an upcaster split. Without events only the
    /// checkpoint moves.
    ///
    /// # Errors
    /// [`TargetError`], and nothing was changed. [`TargetError::Moved`] if the stored checkpoint is
    /// not exactly `from`.
    fn apply(
        &mut self,
        events: &[Recorded<Self::Event>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError>;

    /// Removes all rows and the checkpoint, all or nothing, so that the projection starts over.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`]; nothing was changed.
    fn reset(&mut self) -> Result<(), TargetError>;

    /// Passes a handle of the runner that calls this target from now on. A target that waits for
    /// locks keeps the handle, so that a pause or the end of the app need not wait for the lock.
    fn run_by(&mut self, _handle: RunnerHandle) {}

    /// The key of the tag whose values the rows belong to. If it is named, an event that cannot be
    /// applied poisons its own keys: their later events are held back, and others go on.
    fn isolates_by(&self) -> Option<String> {
        None
    }

    /// The poisoned keys as they are stored beside the checkpoint.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`].
    fn poison(&mut self) -> Result<PoisonRecord, TargetError> {
        Ok(PoisonRecord::default())
    }

    /// As [`apply`](Target::apply), with the events in several runs, because those between them are
    /// held back, and with the poisoned keys that are stored in the same step, if they changed.
    /// `from` and `to` are equal if held events are applied later.
    ///
    /// # Errors
    /// As [`apply`](Target::apply).
    fn apply_isolated(
        &mut self,
        _runs: &[&[Recorded<Self::Event>]],
        _from: Option<Checkpoint>,
        _to: Checkpoint,
        _poison: Option<&PoisonRecord>,
    ) -> Result<(), TargetError> {
        let reason = "the target names a key, and does not isolate by it".to_owned();
        Err(TargetError::Broken { reason, source: None })
    }

    /// The version of the projection in this program, if it is built beside the served one.
    fn own_version(&self) -> Option<u32> {
        None
    }

    /// Whether its version takes the place of the served one by itself.
    fn switches_itself(&self) -> bool {
        false
    }

    /// The versions that the place has, the served one first; none if it has no versions side by
    /// side.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`].
    fn versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        Ok(Vec::new())
    }

    /// Compares, switches or drops versions, all or nothing.
    ///
    /// # Errors
    /// [`TargetError::Refused`] if that cannot be done; other errors of the place.
    fn change(&mut self, change: VersionChange) -> Result<VersionOutcome, TargetError> {
        let reason = format!("the projection has one version: {change:?} is not possible");
        Err(TargetError::Refused { reason })
    }

    /// Confirms that the place to which the rows were written is still there, and still stores this
    /// checkpoint. Callers who wait for rows get their answer after this check.
    ///
    /// # Errors
    /// [`TargetError::Moved`] if another checkpoint is stored, and the errors of
    /// [`checkpoint`](Target::checkpoint).
    fn confirm(&mut self, stored: Option<Checkpoint>) -> Result<(), TargetError> {
        match self.checkpoint()? {
            found if found == stored => Ok(()),
            found => Err(TargetError::Moved { found }),
        }
    }
}

/// Why a target refused or failed. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Another runner of the same projection, or a reset, moved the checkpoint.
    #[error(
        "another runner moved the checkpoint, it is now {}; continue from there, or let only one \
         program run the projection", place(.found)
    )]
    Moved {
        /// The checkpoint that is stored now.
        found: Option<Checkpoint>,
    },
    /// The projection itself refused an event, or panicked over it.
    #[error(
        "the event at position {position} was refused: {reason}; correct the projection, then \
         resume it (or rebuild it, if its rows are wrong already)"
    )]
    Event {
        /// Where the event is.
        position: Position,
        /// The message of the projection.
        reason: String,
        /// The error of the projection; none if it panicked.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// Several events cannot be applied together, because the place has checks that run only at a
    /// commit. The result of such a check must not depend on where a batch ends.
    #[error("the events of a batch have to be applied one position at a time")]
    OneByOne,
    /// The place cannot be used for now: it is locked, or the disk is full.
    #[error("{reason}; it can be tried again")]
    Unavailable {
        /// The obstacle.
        reason: String,
        /// The error of the database.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// A command about versions cannot be carried out.
    #[error("{reason}")]
    Refused {
        /// The reason.
        reason: String,
    },
    /// The place cannot be used until it is fixed.
    #[error("{reason}")]
    Broken {
        /// The fault, and how to fix it.
        reason: String,
        /// The error of the database.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
}

/// For authors of targets.
impl TargetError {
    /// The projection refused the event at this position.
    pub fn event(
        position: Position,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> TargetError {
        let error: Box<dyn Error + Send + Sync> = error.into();
        TargetError::Event { position, reason: told(&*error), source: Some(error.into()) }
    }

    /// The operation `what` cannot be done for now, because of `error`.
    pub fn unavailable(what: &str, error: impl Into<Box<dyn Error + Send + Sync>>) -> TargetError {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let reason = format!("{what}: {}", told(&*error));
        TargetError::Unavailable { reason, source: Some(error.into()) }
    }

    /// The operation `what` fails until the cause, `error`, is fixed.
    pub fn broken(what: &str, error: impl Into<Box<dyn Error + Send + Sync>>) -> TargetError {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let reason = format!("{what}: {}", told(&*error));
        TargetError::Broken { reason, source: Some(error.into()) }
    }
}

/// Runs code of a projection and turns a panic into an error. For authors of targets.
///
/// # Errors
/// The message of the panic.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    panics::caught(run)
}

/// The text of an error and of its causes, without causes that the text already contains.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    for cause in successors(error.source(), |&cause| cause.source()) {
        let cause = cause.to_string();
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

fn place(found: &Option<Checkpoint>) -> String {
    found.map_or("not there".to_owned(), |found| {
        format!("position {} of log {}", found.position, found.log)
    })
}

/// The rows do not belong to the log as it is now. The projection stops: it skips nothing, and
/// guesses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplacedError {
    /// The rows belong to another log.
    #[error(
        "the rows are of log {}, and this is log {}: use the database that belongs to this \
         log, or rebuild the projection", .stored.log.id, .log.id
    )]
    OtherLog {
        /// The checkpoint of the rows.
        stored: Checkpoint,
        /// The log that is open now.
        log: LogIdentity,
    },
    /// The rows were made before a backup of this log was restored, or before it lost commits.
    #[error(
        "the rows are of epoch {} of this log, and it is in epoch {} now: it was restored or \
         lost commits, and the rows may have events that it lacks; rebuild the projection, or \
         restore the database to the same point and epoch", .stored.log.epoch, .log.epoch
    )]
    OtherEpoch {
        /// The checkpoint of the rows.
        stored: Checkpoint,
        /// The log that is open now.
        log: LogIdentity,
    },
    /// The rows are ahead of the log, and its epoch does not explain why.
    #[error(
        "the rows are of position {}, and the log ends at {head}: an older copy of its files was \
         put in place; put the newer one back, or rebuild the projection", .stored.position
    )]
    AboveHead {
        /// The checkpoint of the rows.
        stored: Checkpoint,
        /// The last position of the log.
        head: Position,
    },
    /// At the position of the rows the log now has another event.
    #[error(
        "the rows are of position {} of a history that the log no longer has, another event is \
         there now: an older copy of its files was put in place and grew; put the newer one \
         back, or rebuild the projection", .stored.position
    )]
    OtherHistory {
        /// The checkpoint of the rows.
        stored: Checkpoint,
    },
}

/// The position after which a projection with this checkpoint continues in this log.
///
/// Read `head` after the checkpoint. Otherwise a checkpoint that another runner moved in between
/// can seem to be above the head. `event` is the [checksum](diptych_store::Store::checksum) of the
/// event that this log has at the position of the checkpoint, or `None` if the log has no such
/// position.
///
/// # Errors
/// [`ReplacedError`] if the rows do not belong to this log.
pub fn check(
    found: Option<Checkpoint>,
    log: LogIdentity,
    head: Position,
    event: Option<EventChecksum>,
) -> Result<Position, ReplacedError> {
    let Some(stored) = found else {
        return Ok(Position::START);
    };
    if stored.log.id != log.id {
        return Err(ReplacedError::OtherLog { stored, log });
    }
    if stored.log.epoch != log.epoch {
        return Err(ReplacedError::OtherEpoch { stored, log });
    }
    if stored.position > head {
        return Err(ReplacedError::AboveHead { stored, head });
    }
    if stored.checksum.is_some() && stored.checksum != event {
        return Err(ReplacedError::OtherHistory { stored });
    }
    Ok(stored.position)
}

/// The app runs no such projection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the app runs no projection {name:?}: add it with `AppBuilder::projection` before the app is \
     started"
)]
pub struct NoSuchProjection {
    /// The name that was asked for.
    pub name: String,
}

/// How far a projection came with a batch that it could not apply completely.
#[derive(Clone, Debug, thiserror::Error)]
#[error("projection {projection}: {cause}")]
pub struct BatchError {
    /// The name of the projection.
    pub projection: Box<str>,
    /// The checkpoint that it reached: all events up to there were applied.
    pub reached: Option<Checkpoint>,
    /// The error that stopped it.
    #[source]
    pub cause: TargetError,
}

/// Applies a batch in one step. If the projection refuses an event, or the target [asks for single
/// steps](TargetError::OneByOne), applies the events position by position instead, up to the
/// refused one.
///
/// `events`, `from` and `to` are as in [`Target::apply`]. `checksum` returns the checksum of the
/// event at a position; it is called for each checkpoint within the batch. Returns the checkpoint
/// that is stored now.
///
/// # Errors
/// [`BatchError`]. If an event was refused, the events before it are applied, and the checkpoint is
/// just before the refused event.
pub fn take<T: Target>(
    target: &mut T,
    events: &[Recorded<T::Event>],
    from: Option<Checkpoint>,
    to: Checkpoint,
    mut checksum: impl FnMut(Position) -> Result<EventChecksum, TargetError>,
) -> Result<Checkpoint, BatchError> {
    let Err(cause) = target.apply(events, from, to) else {
        return Ok(to);
    };
    let divides = matches!(cause, TargetError::Event { .. } | TargetError::OneByOne);
    // Events that an upcaster made from one stored event share a position, and no checkpoint falls
    // between them.
    let mut steps = events.chunk_by(|one, next| one.position == next.position).peekable();
    let Some(first) = steps.peek().and_then(|step| step.first()).filter(|_| divides) else {
        return Err(stopped(target, from, cause));
    };
    let mut before = |target: &T, event: &Recorded<T::Event>, reached| {
        let position = event.position.before();
        match checksum(position) {
            Ok(checksum) => Ok(Checkpoint { position, checksum: Some(checksum), ..to }),
            Err(cause) => Err(stopped(target, reached, cause)),
        }
    };
    let mut reached = from;
    if first.position.before() > from.map_or(Position::START, |from| from.position) {
        // The batch has no events up to here, so only the checkpoint moves.
        let upto = before(target, first, reached)?;
        reached = Some(step(target, &[], reached, upto)?);
    }
    while let Some(events) = steps.next() {
        let upto = match steps.peek().and_then(|step| step.first()) {
            Some(next) => before(target, next, reached)?,
            None => to,
        };
        reached = Some(step(target, events, reached, upto)?);
    }
    Ok(to)
}

fn step<T: Target>(
    target: &mut T,
    events: &[Recorded<T::Event>],
    from: Option<Checkpoint>,
    to: Checkpoint,
) -> Result<Checkpoint, BatchError> {
    match target.apply(events, from, to) {
        Ok(()) => Ok(to),
        Err(cause) => Err(stopped(target, from, cause)),
    }
}

fn stopped<T: Target>(target: &T, reached: Option<Checkpoint>, cause: TargetError) -> BatchError {
    BatchError { projection: target.name().into(), reached, cause }
}
