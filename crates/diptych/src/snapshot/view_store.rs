//! Snapshots of one view, of several ages. The view starts from the newest. The older ones are for
//! questions about the past, and for a start when the newest is damaged.
//!
//! The name of a snapshot contains its view, a hash of the code and of the log that it was made
//! from, and its position. So snapshots of other code or another log are found without reading
//! them.

use std::{any::type_name, collections::BTreeSet, sync::Arc, time::Duration};

use diptych_store::{EventChecksum, Position, Timestamp};
use parking_lot::Mutex;

use super::{SavedState, SnapshotPolicy, SnapshotProblem, Snapshots, of_a_lost_history};
use crate::{
    fold::{Fold, kept_name},
    follow::{SkippedEvent, decode_skipped, encode_skipped},
    lineage::Lineage,
    panics::caught,
    wait::at_most,
};

/// The longest wait for one event of the log. An app that is being stopped may have to wait this
/// long.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// The snapshots of one view.
pub(crate) struct ViewSnapshotStore<F> {
    policy: Arc<SnapshotPolicy<F>>,
    keep: usize,
    place: Arc<dyn Snapshots>,
    lineage: Arc<Lineage>,
    declared: String,
    /// The prefix of the names of all snapshots of this view, whatever code made them.
    view: String,
    /// The next part of a name: equal for all snapshots that this code made of this log.
    code: String,
    /// Names of snapshots that are damaged or were forgotten. They are removed, and never loaded.
    useless: Mutex<BTreeSet<String>>,
}

/// The stored snapshots of this view.
#[derive(Default)]
struct FoundSnapshots {
    /// Made by this code of this log, the oldest first.
    own: Vec<(Position, String)>,
    /// Made by other code, or of another log.
    foreign: Vec<String>,
}

impl<F: Fold> ViewSnapshotStore<F> {
    /// The snapshots of a view whose events are selected and read as `declared`: at most `keep`.
    pub(crate) fn new(
        policy: Arc<SnapshotPolicy<F>>,
        keep: usize,
        place: Arc<dyn Snapshots>,
        lineage: Arc<Lineage>,
        declared: String,
    ) -> ViewSnapshotStore<F> {
        let log = lineage.log();
        let hex = |bytes: &[u8], digits| -> String {
            blake3::hash(bytes).to_hex().chars().take(digits).collect()
        };
        let view = format!("view-{}-", hex(kept_name::<F>().as_bytes(), 32));
        let code = format!("{}-", hex(&policy.head(log, "", &declared), 16));
        let useless = Mutex::default();
        ViewSnapshotStore { policy, keep, place, lineage, declared, view, code, useless }
    }

    /// A snapshot is due after this many events since the last.
    pub(crate) fn every_events(&self) -> u64 {
        self.policy.every_events
    }

    /// Saves this state, which is complete up to `position` and was folded from payloads of
    /// `payload_bytes` bytes, and removes superfluous snapshots. Waits for the store, on the
    /// calling thread.
    ///
    /// # Errors
    /// The reason why it was not saved. If another snapshot cannot be removed, that is only a
    /// warning.
    pub(crate) fn save(
        &self,
        state: &F,
        position: Position,
        payload_bytes: u64,
    ) -> Result<(), String> {
        let name = self.name(position);
        // Only rules ask for the time of the newest event.
        let newest = Timestamp::NEVER;
        let kept = SavedState { fold: state, position, newest, payload_bytes };
        let unsealed = self.policy.write(self.lineage.log(), &name, &self.declared, kept)?;
        let checksum = self.checksum(position)?.ok_or("the log has no event at its position")?;
        let bytes = unsealed.seal(checksum);
        match caught(|| self.place.save(&name, &bytes)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(panic) => return Err(panic),
        }
        drop(bytes);
        self.useless.lock().remove(&name);
        if let Err(reason) = self.remove_the_rest(position) {
            let view = type_name::<F>();
            tracing::warn!(view, reason, "snapshots that are not needed cannot be removed");
        }
        Ok(())
    }

    /// The newest usable snapshot at or below `upto`, in a log that ends at `head`. Snapshots that
    /// turn out to be useless are removed. Waits for the store, on the calling thread.
    pub(crate) fn newest(&self, upto: Position, head: Position) -> Option<SavedState<F>> {
        let view = type_name::<F>();
        let FoundSnapshots { own, foreign } = match self.find() {
            Ok(found) => found,
            Err(reason) => {
                tracing::warn!(view, reason, "snapshots cannot be listed: replaying");
                return None;
            }
        };
        let head = self.end_of_log(head, own.last().map(|(position, _)| *position))?;
        for (position, name) in own.into_iter().rev() {
            if position > upto && position <= head {
                continue;
            }
            let loaded = self.load(&name, position, head).map(|(kept, checksum)| {
                (kept, self.checksum(position).map(|found| found == Some(checksum)))
            });
            let unused = match loaded {
                Ok((kept, Ok(true))) => return Some(kept),
                Ok((_, Ok(false))) => SnapshotProblem::Useless(of_a_lost_history(position)),
                Ok((_, Err(reason))) => {
                    tracing::warn!(view, reason, "snapshots cannot be compared with the log");
                    return None;
                }
                Err(unused) => unused,
            };
            let reason = match unused {
                SnapshotProblem::Unread(reason) => reason,
                // Its name says that this code made it, so a foreign content makes it useless.
                SnapshotProblem::Useless(reason) | SnapshotProblem::Foreign(reason) => {
                    self.useless.lock().insert(name);
                    reason
                }
            };
            let position = position.get();
            tracing::warn!(view, position, reason, "a snapshot is of no use: trying an older one");
            if let Err(reason) = self.remove(std::iter::empty()) {
                tracing::warn!(view, reason, "snapshots of no use cannot be removed");
            }
        }
        if !foreign.is_empty() {
            let snapshots = foreign.len();
            tracing::warn!(
                view,
                snapshots,
                "snapshots were made by other code, or of another log: replaying"
            );
        }
        None
    }

    /// The end of the log, for a caller that knows it up to `head`. Another process may have made a
    /// snapshot above that; it is not useless then. `None` if the store does not answer.
    fn end_of_log(&self, head: Position, newest: Option<Position>) -> Option<Position> {
        if newest.is_none_or(|newest| newest <= head) || !self.lineage.store().has_other_writers() {
            return Some(head);
        }
        let view = type_name::<F>();
        match at_most(STORE_PATIENCE, self.lineage.store().known_head()) {
            Some(Ok(fresh)) => Some(fresh.max(head)),
            Some(Err(error)) => {
                tracing::warn!(view, %error, "snapshots cannot be compared with the log");
                None
            }
            None => {
                let waited = STORE_PATIENCE;
                tracing::warn!(view, ?waited, "the log does not tell its end: replaying");
                None
            }
        }
    }

    /// The events that the view leaves out for good. They are kept apart from the snapshots,
    /// because they outlive a rebuild and other code.
    ///
    /// # Errors
    /// The reason why they cannot be read.
    pub(crate) fn skipped(&self) -> Result<Vec<SkippedEvent>, String> {
        let bytes = caught(|| self.place.load(&self.skips_name()))?;
        match bytes.map_err(|error| error.to_string())? {
            Some(bytes) => decode_skipped(&self.lineage.log().to_string(), &bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Keeps these events as those that the view leaves out for good.
    ///
    /// # Errors
    /// The reason why they cannot be written.
    pub(crate) fn save_skipped(&self, skipped: &[SkippedEvent]) -> Result<(), String> {
        let bytes = encode_skipped(&self.lineage.log().to_string(), skipped)?;
        let saved = caught(|| self.place.save(&self.skips_name(), &bytes))?;
        saved.map_err(|error| error.to_string())
    }

    fn skips_name(&self) -> String {
        format!("skips-{}", self.view.trim_end_matches('-'))
    }

    /// The positions of the snapshots that this code made of this log, the oldest first.
    #[cfg(test)]
    pub(crate) fn positions(&self) -> Result<Vec<Position>, String> {
        Ok(self.find()?.own.into_iter().map(|(position, _)| position).collect())
    }

    fn name(&self, position: Position) -> String {
        // All positions have 20 digits, so that names sort by position.
        format!("{}{}{:020}", self.view, self.code, position.get())
    }

    fn find(&self) -> Result<FoundSnapshots, String> {
        let names = match caught(|| self.place.names(&self.view)) {
            Ok(Ok(names)) => names,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(panic) => return Err(panic),
        };
        let mut found = FoundSnapshots::default();
        for name in names {
            let Some((code, position)) = self.split(&name) else { continue };
            match code == self.code {
                true if !self.useless.lock().contains(&name) => found.own.push((position, name)),
                true => {}
                false => found.foreign.push(name),
            }
        }
        // An implementation of `Snapshots` may list names in a wrong order.
        found.own.sort_unstable();
        Ok(found)
    }

    /// The code and the position in a name, if it is one of this view.
    fn split<'a>(&self, name: &'a str) -> Option<(&'a str, Position)> {
        let rest = name.strip_prefix(&self.view)?;
        let (code, position) = rest.split_at_checked(self.code.len())?;
        let is_number = position.len() == 20 && position.bytes().all(|byte| byte.is_ascii_digit());
        let position = Position::new(position.parse().ok().filter(|_| is_number)?);
        code.ends_with('-').then_some((code, position))
    }

    /// The checksum of the event that the log has at this position, or `None` above its head.
    fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, String> {
        match at_most(STORE_PATIENCE, self.lineage.checksum(position)) {
            Some(checksum) => checksum.map_err(|error| error.to_string()),
            None => Err(format!("the log did not answer within {STORE_PATIENCE:?}")),
        }
    }

    fn load(
        &self,
        name: &str,
        position: Position,
        head: Position,
    ) -> Result<(SavedState<F>, EventChecksum), SnapshotProblem> {
        if position > head {
            let reason = format!("it is of position {position}, and the log ends at {head}");
            return Err(SnapshotProblem::Useless(reason));
        }
        let bytes = match caught(|| self.place.load(name)) {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(SnapshotProblem::Unread("it is gone".to_owned())),
            Ok(Err(error)) => return Err(SnapshotProblem::Unread(error.to_string())),
            Err(panic) => return Err(SnapshotProblem::Unread(panic)),
        };
        let read = self.policy.read(self.lineage.log(), name, &self.declared, &bytes, head);
        let (kept, checksum) = read?;
        if kept.position != position {
            return Err(SnapshotProblem::Useless(format!("it is of position {}", kept.position)));
        }
        Ok((kept, checksum))
    }

    fn remove_the_rest(&self, saved: Position) -> Result<(), String> {
        let FoundSnapshots { own, foreign } = self.find()?;
        let positions = own.into_iter().map(|(position, _)| position).collect();
        let unit = self.policy.every_events;
        let many = superfluous(positions, saved, self.keep, unit);
        self.remove(foreign.into_iter().chain(many.into_iter().map(|at| self.name(at))))
    }

    /// Removes all snapshots, because none is of use any more.
    ///
    /// # Errors
    /// The reason why some still exist. They are not loaded as long as this store lives.
    pub(crate) fn forget(&self) -> Result<(), String> {
        let FoundSnapshots { own, foreign } = self.find()?;
        self.useless.lock().extend(own.into_iter().map(|(_, name)| name));
        self.remove(foreign.into_iter())
    }

    /// Removes the snapshots of these names, and the useless ones.
    fn remove(&self, names: impl Iterator<Item = String>) -> Result<(), String> {
        let useless = self.useless.lock().clone();
        let mut failed = Ok(());
        for name in names.chain(useless) {
            match caught(|| self.place.remove(&name)) {
                Ok(Ok(())) => _ = self.useless.lock().remove(&name),
                Ok(Err(error)) => failed = Err(error.to_string()),
                Err(panic) => failed = Err(panic),
            }
        }
        failed
    }
}

/// Selects the positions to remove, given all positions in ascending order. A position goes if it
/// leaves the smallest gap, in proportion to how far back it is. So the distances from the newest
/// about double from one to the next, or grow faster if `keep` is small for the log.
///
/// The start of the log counts as a snapshot that always exists. The snapshot at `saved` stays. The
/// newest, which another process may have saved, stays too if `keep` is at least 2.
fn superfluous(
    mut kept: Vec<Position>,
    saved: Position,
    keep: usize,
    unit_events: u64,
) -> Vec<Position> {
    let mut removed = Vec::new();
    let newest = kept.last().copied().unwrap_or(saved);
    // Positions that are closer together than the unit count as about equal.
    let weight =
        |of: Position| (newest.get().saturating_sub(of.get()) as f64) + (unit_events.max(1) as f64);
    while kept.len() > keep.max(1) {
        let older = std::iter::once(&Position::START).chain(&kept);
        let newer = kept.iter().skip(1).chain(std::iter::once(&newest));
        let gaps = kept.iter().zip(older.zip(newer)).enumerate();
        let may_go = gaps.filter(|(_, (at, _))| **at != saved && (**at != newest || keep < 2));
        let gap = |(older, newer): (&Position, &Position)| weight(*older) / weight(*newer);
        let smallest =
            may_go.min_by(|(_, (_, one)), (_, (_, other))| gap(*one).total_cmp(&gap(*other)));
        let Some((at, _)) = smallest else { break };
        removed.push(kept.remove(at));
    }
    removed
}

#[cfg(test)]
mod tests;
