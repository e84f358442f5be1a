//! Keeps a target in step with the log. The runner stands between the thread that follows the log
//! and the database that holds the rows.

use std::sync::Arc;

use diptych_store::{EventChecksum, Head, Position, ReadError, Unavailable};

use super::{Checkpoint, RunnerHandle, Target, TargetError, check, take};
use crate::{
    event::Recorded,
    follow::{Follower, FollowerStop, Halt, Progress, Slice, unless_ending},
    lineage::Lineage,
    panics::caught,
};

/// After this number of positions without a matching event the checkpoint moves anyway, so that a
/// restart does not consider all of them again.
const UNSAVED: u64 = 16_384;

pub(crate) struct Runner<T> {
    target: Calm<T>,
    lineage: Arc<Lineage>,
    /// The stored checkpoint.
    stored: Option<Checkpoint>,
    /// The position up to which the rows are complete. Between the stored checkpoint and here no
    /// event matches.
    position: Position,
    progress: Arc<Progress>,
}

impl<T: Target> Runner<T> {
    pub(crate) fn new(target: T, lineage: Arc<Lineage>, progress: Arc<Progress>) -> Runner<T> {
        let (target, position) = (Calm(target), Position::START);
        Runner { target, lineage, stored: None, position, progress }
    }

    /// Notes that the rows are now at this checkpoint.
    fn is_at(&mut self, stored: Option<Checkpoint>, events: usize) {
        self.stored = stored;
        self.position = stored.map_or(Position::START, |stored| stored.position);
        self.progress.advance_to(self.position, events);
    }

    /// Continues from a checkpoint found in the database, if the log still has the event that it
    /// names.
    fn goes_on(&mut self, found: Option<Checkpoint>) -> Result<(), Halt> {
        let event = match found {
            Some(found) => self.looked_up(found.position)?,
            None => None,
        };
        if let Err(error) = check(found, self.lineage.log(), self.lineage.head(), event) {
            let (at, reason) = (self.position.plus(1), error.to_string());
            return Err(Halt::At(FollowerStop { at, reason }));
        }
        self.is_at(found, 0);
        match found {
            Some(Checkpoint { checksum: None, position, .. }) => {
                tracing::warn!(
                    projection = self.target.name(),
                    position = position.get(),
                    "an older program stored the checkpoint, which does not name its event: it \
                     is taken to be of this log"
                );
                self.store_position()
            }
            _ => Ok(()),
        }
    }

    /// The checksum of the event that the log has at this position, if it has one.
    fn looked_up(&self, position: Position) -> Result<Option<EventChecksum>, Halt> {
        looked_up(&self.lineage, &self.progress, position).map_err(|error| {
            let reason = error.to_string();
            match error {
                ReadError::Unavailable(_) => Halt::Later { reason },
                _ => Halt::At(FollowerStop { at: self.position.plus(1), reason }),
            }
        })
    }

    /// Builds the checkpoint of this position.
    fn checkpoint_at(&self, position: Position) -> Result<Checkpoint, Halt> {
        let checksum = self.looked_up(position)?;
        Ok(Checkpoint { log: self.lineage.log(), position, checksum })
    }

    fn failed(&mut self, cause: TargetError) -> Result<(), Halt> {
        let reason = cause.to_string();
        match cause {
            TargetError::Moved { found } => self.goes_on(found),
            TargetError::Event { position, .. } => {
                Err(Halt::At(FollowerStop { at: position, reason }))
            }
            TargetError::Unavailable { .. } => Err(Halt::Later { reason }),
            TargetError::Broken { .. } | TargetError::OneByOne => {
                Err(Halt::At(FollowerStop { at: self.position.plus(1), reason }))
            }
        }
    }

    /// Moves the stored checkpoint to the position up to which the rows are complete.
    fn store_position(&mut self) -> Result<(), Halt> {
        let to = self.checkpoint_at(self.position)?;
        match self.target.apply(&[], self.stored, to) {
            Ok(()) => {
                self.stored = Some(to);
                Ok(())
            }
            Err(cause) => self.failed(cause),
        }
    }
}

/// The checksum of the event at this position of the log, or `None` above the head. Waits for the
/// store, unless the follower has to end.
fn looked_up(
    lineage: &Lineage,
    progress: &Progress,
    position: Position,
) -> Result<Option<EventChecksum>, ReadError> {
    let checksum = unless_ending(progress, lineage.checksum(position));
    checksum.unwrap_or(Err(ReadError::Unavailable(Unavailable::Closed)))
}

/// A target whose panics are errors, so that the projection can be fixed and resumed.
struct Calm<T>(T);

impl<T: Target> Calm<T> {
    fn call<A>(
        &mut self,
        what: &str,
        call: impl FnOnce(&mut T) -> Result<A, TargetError>,
    ) -> Result<A, TargetError> {
        let outcome = caught(|| call(&mut self.0));
        outcome.unwrap_or_else(|panic| {
            let reason = format!("`{what}` of the projection is broken, {panic}");
            Err(TargetError::Broken { reason, source: None })
        })
    }
}

impl<T: Target> Target for Calm<T> {
    type Event = T::Event;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        self.call("checkpoint", T::checkpoint)
    }

    fn apply(
        &mut self,
        events: &[Recorded<T::Event>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        self.call("apply", |target| target.apply(events, from, to))
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        self.call("reset", T::reset)
    }

    fn run_by(&mut self, handle: RunnerHandle) {
        self.0.run_by(handle);
    }

    fn confirm(&mut self, stored: Option<Checkpoint>) -> Result<(), TargetError> {
        self.call("confirm", |target| target.confirm(stored))
    }
}

impl<T: Target> Follower for Runner<T> {
    type Event = T::Event;

    const IS_OUTSIDE: bool = true;

    fn run_by(&mut self, handle: RunnerHandle) {
        self.target.run_by(handle);
    }

    fn confirm(&mut self) -> Result<(), Halt> {
        match self.target.confirm(self.stored) {
            Ok(()) => Ok(()),
            Err(cause) => self.failed(cause),
        }
    }

    fn open(&mut self, _: &Head) -> Result<(), Halt> {
        match self.target.checkpoint() {
            Ok(found) => self.goes_on(found),
            Err(cause) => self.failed(cause),
        }
    }

    fn position(&self) -> Position {
        self.position
    }

    fn take(&mut self, slice: Slice<T::Event>) -> Result<(), Halt> {
        if slice.events().is_empty() {
            self.position = slice.upto;
            self.progress.advance_to(slice.upto, 0);
            let stored = self.stored.map_or(0, |stored| stored.position.get());
            return match slice.upto.get() - stored > UNSAVED {
                true => self.store_position(),
                false => Ok(()),
            };
        }
        let to = match slice.checksum() {
            Some(checksum) => {
                let (log, checksum) = (self.lineage.log(), Some(checksum));
                Checkpoint { log, position: slice.upto, checksum }
            }
            None => self.checkpoint_at(slice.upto)?,
        };
        let Runner { target, lineage, progress, .. } = self;
        let checksum = |position| match looked_up(lineage, progress, position) {
            Ok(Some(checksum)) => Ok(checksum),
            Ok(None) => Err(TargetError::Unavailable {
                reason: format!("the log has no event at position {position}"),
                source: None,
            }),
            Err(error) => Err(TargetError::unavailable("reading the log", error)),
        };
        match take(target, slice.events(), self.stored, to, checksum) {
            Ok(stored) => {
                self.is_at(Some(stored), slice.events().len());
                Ok(())
            }
            Err(stopped) => {
                if stopped.reached != self.stored {
                    let reached = stopped.reached.map(|reached| reached.position);
                    let reached = reached.unwrap_or(self.position);
                    let events = slice.events().partition_point(|event| event.position <= reached);
                    self.is_at(stopped.reached, events);
                }
                self.failed(stopped.cause)
            }
        }
    }

    fn restart(&mut self) -> Result<(), String> {
        self.target.reset().map_err(|error| error.to_string())?;
        self.is_at(None, 0);
        Ok(())
    }

    fn save(&mut self) -> Result<(), String> {
        match self.store_position() {
            Ok(()) => Ok(()),
            Err(Halt::At(stopped)) => Err(stopped.to_string()),
            Err(Halt::Later { reason }) => Err(reason),
        }
    }

    fn close(&mut self) {
        let stored = self.stored.map_or(Position::START, |stored| stored.position);
        if stored < self.position
            && let Err(reason) = self.save()
        {
            // Nothing is lost: the next start considers these positions again.
            tracing::debug!(projection = self.target.name(), reason, "the checkpoint stays behind");
        }
    }
}
