//! Keeps a target in step with the log. The runner stands between the thread that follows the log
//! and the database that holds the rows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diptych_store::{EventChecksum, Head, Position, ReadError, Tag, Unavailable};
use isolation::Isolation;

mod isolation;

use super::{
    Checkpoint, PoisonRecord, RunnerHandle, StoredVersion, Target, TargetError, VersionSlot, check,
    take,
};
use crate::{
    event::Recorded,
    follow::{
        Failures, Follower, FollowerStop, Halt, Pace, PoisonedGroup, Progress, SkipNote, Slice,
        VersionChange, VersionOutcome, VersionState, unless_ending,
    },
    lineage::Lineage,
    panics::caught,
};

/// After this number of positions without a matching event the checkpoint moves anyway, so that a
/// restart does not consider all of them again.
const UNSAVED: u64 = 16_384;

/// The time after which a served version looks at the versions beside it.
const UNSEEN: Duration = Duration::from_secs(1);

pub(crate) struct Runner<T> {
    target: Calm<T>,
    lineage: Arc<Lineage>,
    /// The stored checkpoint.
    stored: Option<Checkpoint>,
    /// The position up to which the rows are complete. Between the stored checkpoint and here no
    /// event matches.
    position: Position,
    /// The position of the served version, which a version beside it must not pass.
    limit: Option<Position>,
    /// When it last found that its own version is served.
    served_at: Option<Instant>,
    isolation: Isolation,
    progress: Arc<Progress>,
}

impl<T: Target> Runner<T> {
    pub(crate) fn new(target: T, lineage: Arc<Lineage>, progress: Arc<Progress>) -> Runner<T> {
        let (target, position) = (Calm(target), Position::START);
        let (stored, limit, served_at) = (None, None, None);
        let isolation = Isolation::by(target.isolates_by());
        Runner { target, lineage, stored, position, limit, served_at, isolation, progress }
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
        self.find_poison()?;
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

    /// Builds the checkpoint of the end of this slice.
    fn checkpoint_after(&self, slice: &Slice<T::Event>) -> Result<Checkpoint, Halt> {
        match slice.checksum() {
            Some(checksum) => {
                let (log, checksum) = (self.lineage.log(), Some(checksum));
                Ok(Checkpoint { log, position: slice.upto, checksum })
            }
            None => self.checkpoint_at(slice.upto),
        }
    }

    fn failed(&mut self, cause: TargetError) -> Result<(), Halt> {
        let reason = cause.to_string();
        match cause {
            TargetError::Moved { found } => self.goes_on(found),
            TargetError::Event { position, .. } => {
                Err(Halt::At(FollowerStop { at: position, reason }))
            }
            TargetError::Unavailable { .. } => Err(Halt::Later { reason }),
            TargetError::Broken { .. } | TargetError::Refused { .. } | TargetError::OneByOne => {
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

/// Versions side by side.
impl<T: Target> Runner<T> {
    /// Reads the versions that the place has, and shows them in the status.
    fn look(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        let versions = self.target.versions()?;
        // A single version is no news.
        let shown = if versions.len() > 1 { &versions[..] } else { &[] };
        self.progress.show_versions(shown.iter().map(StoredVersion::status).collect());
        Ok(versions)
    }

    /// Waits at the position of the served version, or takes its place.
    fn keep_beside(&mut self, own: u32) -> Result<Pace, TargetError> {
        if self.served_at.is_some_and(|at| at.elapsed() < UNSEEN) {
            return Ok(Pace::On);
        }
        // Each round but the last changes something in the place.
        loop {
            let versions = self.look()?;
            self.limit = None;
            let served = versions.iter().find(|it| it.slot == VersionSlot::Served);
            let Some(served) = served.filter(|served| served.row.version != own) else {
                self.served_at = Some(Instant::now());
                return Ok(Pace::On);
            };
            let log = self.lineage.log();
            if served.row.checkpoint.is_some_and(|checkpoint| checkpoint.log != log) {
                // There is no equal position in another history. It takes a command to switch.
                return Ok(Pace::On);
            }
            let limit = served.position();
            self.limit = Some(limit);
            let row = versions.iter().find(|it| it.row.version == own);
            let Some(row) = row.filter(|_| self.position >= limit) else {
                return Ok(Pace::On);
            };
            let is_equal = row.row.checkpoint == served.row.checkpoint;
            match self.due(served, row).filter(|_| is_equal) {
                Some(change) => {
                    self.target.change(change)?;
                }
                // No event between the two matches.
                None if self.position == limit && row.position() < limit => {
                    self.catch_up_with(limit)?;
                }
                None => {
                    return Ok(Pace::Hold {
                        reason: format!(
                            "version {own} waits at position {} beside version {}, which is \
                             served at position {limit}",
                            self.position, served.row.version
                        ),
                    });
                }
            }
        }
    }

    /// Moves the stored checkpoint to this position, up to which the rows are complete.
    fn catch_up_with(&mut self, position: Position) -> Result<(), TargetError> {
        let checksum = looked_up(&self.lineage, &self.progress, position);
        let checksum =
            checksum.map_err(|error| TargetError::unavailable("reading the log", error))?;
        let to = Checkpoint { log: self.lineage.log(), position, checksum };
        self.target.apply(&[], self.stored, to)?;
        self.stored = Some(to);
        Ok(())
    }

    /// The change that a version at the position of the served one makes by itself.
    fn due(&self, served: &StoredVersion, own: &StoredVersion) -> Option<VersionChange> {
        let switches = self.target.switches_itself() && own.row.version > served.row.version;
        match own.state {
            VersionState::Building | VersionState::Equal { .. } if switches => {
                Some(VersionChange::Forward { compares: true, needs_equal_position: true })
            }
            VersionState::Building => Some(VersionChange::Compare),
            _ => None,
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

    fn isolates_by(&self) -> Option<String> {
        self.0.isolates_by()
    }

    fn poison(&mut self) -> Result<PoisonRecord, TargetError> {
        self.call("poison", T::poison)
    }

    fn apply_isolated(
        &mut self,
        runs: &[&[Recorded<T::Event>]],
        from: Option<Checkpoint>,
        to: Checkpoint,
        poison: Option<&PoisonRecord>,
    ) -> Result<(), TargetError> {
        self.call("apply_isolated", |target| target.apply_isolated(runs, from, to, poison))
    }

    fn own_version(&self) -> Option<u32> {
        self.0.own_version()
    }

    fn switches_itself(&self) -> bool {
        self.0.switches_itself()
    }

    fn versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        self.call("versions", T::versions)
    }

    fn change(&mut self, change: VersionChange) -> Result<VersionOutcome, TargetError> {
        self.call("change", |target| target.change(change))
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

    fn failures(&self) -> Failures {
        self.isolation.failures()
    }

    fn poisoned_group(&self, key: &Tag) -> Option<PoisonedGroup> {
        self.isolation.group(key)
    }

    fn release(
        &mut self,
        key: &Tag,
        held: Vec<Slice<T::Event>>,
        skip: Option<SkipNote>,
    ) -> Result<(), String> {
        self.release_key(key, &held, skip)
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

    fn pace(&mut self) -> Result<Pace, Halt> {
        let Some(own) = self.target.own_version() else { return Ok(Pace::On) };
        match self.keep_beside(own) {
            Ok(pace) => Ok(pace),
            Err(cause) => self.failed(cause).map(|()| Pace::On),
        }
    }

    fn looks_after(&self) -> Option<Duration> {
        self.target.own_version().map(|_| UNSEEN)
    }

    fn change(&mut self, change: VersionChange) -> Result<VersionOutcome, String> {
        let outcome = self.target.change(change).map_err(|error| error.to_string())?;
        self.served_at = None;
        // If this fails, the next look shows the versions.
        let _ = self.look();
        Ok(outcome)
    }

    fn take(&mut self, slice: Slice<T::Event>) -> Result<(), Halt> {
        let slice = match self.limit {
            Some(limit) if slice.upto > limit => slice.before(limit.plus(1)),
            _ => slice,
        };
        if slice.upto <= self.position {
            return Ok(());
        }
        let is_empty = slice.events().is_empty() && !slice.has_failures();
        if self.isolation.is_on() && !is_empty {
            return self.take_isolated(slice);
        }
        if slice.events().is_empty() {
            self.position = slice.upto;
            self.progress.advance_to(slice.upto, 0);
            let stored = self.stored.map_or(0, |stored| stored.position.get());
            return match slice.upto.get() - stored > UNSAVED {
                true => self.store_position(),
                false => Ok(()),
            };
        }
        let to = self.checkpoint_after(&slice)?;
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
        self.forget_poison()
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
