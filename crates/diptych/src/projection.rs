//! Rows outside the log that are kept in step with it: what every backend of projections shares,
//! whatever database it writes to.
//!
//! The one rule is that rows and checkpoint change together. Whoever finds a checkpoint knows that
//! the rows are what a fold of the log up to there gives, and nothing else.

pub(crate) mod control;
mod runner;

use std::{error::Error, iter::successors, sync::Arc};

pub use control::{NoSuchProjection, ProjectionControl, ProjectionStatus};

pub use crate::follow::RunnerHandle;

use diptych_store::{EventChecksum, LogIdentity, Position};

use crate::{Event, Recorded, fold};

/// Where a projection stands: of which log, and of which history of it, and up to where it was
/// taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log that the rows are of.
    pub log: LogIdentity,
    /// Everything up to here was taken in.
    pub position: Position,
    /// That of the event at the position, so that the rows are not taken for those of another
    /// history. None in what an older program stored.
    pub checksum: Option<EventChecksum>,
}

/// A place outside the log that is kept in step with it. Backends implement it.
///
/// Everything here blocks, and is called on a thread on which it may.
pub trait Target: Send + 'static {
    /// What it takes in.
    type Event: Event;

    /// The name of the projection, unique in its app and in its database.
    fn name(&self) -> &str;

    /// The checkpoint as it is stored now; none if nothing was taken in. What is missing of the
    /// place is created.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`].
    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError>;

    /// Takes in these events and moves the checkpoint from `from` to `to`, all or nothing.
    ///
    /// They are all that there are between the two, in the order of the log; several at one
    /// position are what an upcaster made of one. Without events only the checkpoint moves.
    ///
    /// # Errors
    /// [`TargetError`]; nothing was changed. [`TargetError::Moved`] if the stored checkpoint is
    /// not exactly `from`.
    fn apply(
        &mut self,
        events: &[Recorded<Self::Event>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError>;

    /// Removes all rows and the checkpoint, all or nothing, so that it begins anew.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`]; nothing was changed.
    fn reset(&mut self) -> Result<(), TargetError>;

    /// The runner that calls it from now on. A target that waits for locks keeps the handle, so
    /// that a pause or the end of the app need not wait for the lock.
    fn run_by(&mut self, _handle: RunnerHandle) {}

    /// Looks whether the place is still the one that was written to, and the stored checkpoint
    /// still this one. Callers who wait for rows are answered after that.
    ///
    /// # Errors
    /// [`TargetError::Moved`] if the stored checkpoint is another one, and what
    /// [`checkpoint`](Target::checkpoint) answers.
    fn confirm(&mut self, stored: Option<Checkpoint>) -> Result<(), TargetError> {
        match self.checkpoint()? {
            found if found == stored => Ok(()),
            found => Err(TargetError::Moved { found }),
        }
    }
}

/// Why a target did not do something. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Somebody else moved the checkpoint: another runner of the same projection, or a reset.
    #[error(
        "somebody else moved the checkpoint, it is now {}; go on from there, or let only one \
         run it", place(.found)
    )]
    Moved {
        /// What is stored now.
        found: Option<Checkpoint>,
    },
    /// The projection itself refused an event, or panicked over it.
    #[error(
        "the event at position {position} was refused: {reason}; correct the projection, then \
         let it go on (or reset it, if its rows are wrong already)"
    )]
    Event {
        /// Where the event is.
        position: Position,
        /// What the projection said.
        reason: String,
        /// The error of the projection; none if it panicked.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// Several events cannot be taken in together, because the place checks something only at a
    /// commit, and whether it holds must not depend on where a batch ends.
    #[error("the events of a batch have to be taken in one position at a time")]
    OneByOne,
    /// The place cannot be used for now: it is locked, or the disk is full.
    #[error("{reason}; it can be tried again")]
    Unavailable {
        /// What is in the way.
        reason: String,
        /// What the database said.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// The place cannot be used until someone mends it.
    #[error("{reason}")]
    Broken {
        /// What is wrong, and what to do.
        reason: String,
        /// What the database said.
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

    /// It cannot be done for now: `what`, and why.
    pub fn unavailable(what: &str, error: impl Into<Box<dyn Error + Send + Sync>>) -> TargetError {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let reason = format!("{what}: {}", told(&*error));
        TargetError::Unavailable { reason, source: Some(error.into()) }
    }

    /// It cannot be done until somebody mends it: `what`, and why.
    pub fn broken(what: &str, error: impl Into<Box<dyn Error + Send + Sync>>) -> TargetError {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let reason = format!("{what}: {}", told(&*error));
        TargetError::Broken { reason, source: Some(error.into()) }
    }
}

/// Runs code that a projection brought along; an error if it panicked, with what it said. For
/// authors of targets.
///
/// # Errors
/// What it said, as text.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    fold::caught(run)
}

/// An error and what it says it was caused by, where it does not repeat that itself.
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

/// The rows are of another log than this one. Nothing is skipped and nothing is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplacedError {
    /// They are of another log.
    #[error(
        "the rows are of log {}, and this is log {}: give the database that belongs to this \
         log, or reset the projection", .stored.log.id, .log.id
    )]
    OtherLog {
        /// What the rows are of.
        stored: Checkpoint,
        /// The log that there is.
        log: LogIdentity,
    },
    /// They are of this log before a backup of it was restored, or before it lost commits.
    #[error(
        "the rows are of epoch {} of this log, and it is in epoch {} now: it was restored or \
         lost commits, and the rows may have events that it has not; reset the projection, or \
         restore the database to the same point and epoch", .stored.log.epoch, .log.epoch
    )]
    OtherEpoch {
        /// What the rows are of.
        stored: Checkpoint,
        /// The log that there is.
        log: LogIdentity,
    },
    /// They have more than the log has, which its epoch does not explain.
    #[error(
        "the rows are of position {}, and the log ends at {head}: an older copy of its files was \
         put in place; put the newer one back, or reset the projection", .stored.position
    )]
    AboveHead {
        /// What the rows are of.
        stored: Checkpoint,
        /// The last position of the log.
        head: Position,
    },
    /// At their position the log has another event than the one that is in them.
    #[error(
        "the rows are of position {} of a history that the log has no more, there is another \
         event now: an older copy of its files was put in place and went on; put the newer one \
         back, or reset the projection", .stored.position
    )]
    OtherHistory {
        /// What the rows are of.
        stored: Checkpoint,
    },
}

/// After which position a projection with this checkpoint goes on in this log.
///
/// `head` must have been read after the checkpoint was: else a checkpoint that another runner
/// moved in between looks as if it were above it. `event` is the
/// [checksum](diptych_store::Store::checksum) of the event that this log has at the position of
/// the checkpoint; none if it has no such position.
///
/// # Errors
/// [`ReplacedError`] if its rows are not of this log.
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

/// How far a projection came with a batch that it could not take in whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("projection {projection}: {cause}")]
pub struct Stopped {
    /// The name of the projection.
    pub projection: String,
    /// The checkpoint up to which it came: everything there was taken in.
    pub reached: Option<Checkpoint>,
    /// What it could not get past.
    #[source]
    pub cause: TargetError,
}

/// Takes in a batch: at once, or event by event, if the projection refuses an event of it (then up
/// to that one), or if the target [asks for that](TargetError::OneByOne).
///
/// `events`, `from` and `to` are as in [`Target::apply`]. `checksum` is asked for that of the event
/// at a position, where the checkpoint is to stay before an event that is refused. The answer is
/// the checkpoint that is stored now.
///
/// # Errors
/// [`Stopped`]. What came before the event that was refused is taken in, each event in a step of
/// its own, and the checkpoint is just before it.
pub fn take<T: Target>(
    target: &mut T,
    events: &[Recorded<T::Event>],
    from: Option<Checkpoint>,
    to: Checkpoint,
    mut checksum: impl FnMut(Position) -> Result<EventChecksum, TargetError>,
) -> Result<Checkpoint, Stopped> {
    let Err(cause) = target.apply(events, from, to) else {
        return Ok(to);
    };
    let divides = matches!(cause, TargetError::Event { .. } | TargetError::OneByOne);
    // What an upcaster made of one event is at one position, and no checkpoint is within it.
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
        // Nothing of the batch is up to here, so it is taken in.
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
) -> Result<Checkpoint, Stopped> {
    match target.apply(events, from, to) {
        Ok(()) => Ok(to),
        Err(cause) => Err(stopped(target, from, cause)),
    }
}

fn stopped<T: Target>(target: &T, reached: Option<Checkpoint>, cause: TargetError) -> Stopped {
    Stopped { projection: target.name().to_owned(), reached, cause }
}
