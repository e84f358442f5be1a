//! Snapshots of one view, of several ages: the newest to start from, and older ones for when that
//! is damaged, or when the past is asked for.
//!
//! A name says of which view a snapshot is, which code made it of which log, and its position.
//! So what is of no use is found without reading it.

use std::{any::type_name, collections::BTreeSet, sync::Arc, time::Duration};

use diptych_store::{EventChecksum, Position};
use parking_lot::Mutex;

use super::{Keeping, Kept, Snapshots, Unused, of_a_lost_history};
use crate::{
    fold::{Fold, kept_name},
    lineage::Lineage,
    panics::caught,
    wait::at_most,
};

/// How long a look at one event of the log may take: an app that is stopped waits for it.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// The snapshots of one view.
pub(crate) struct Ages<F> {
    keeping: Arc<Keeping<F>>,
    keep: usize,
    place: Arc<dyn Snapshots>,
    lineage: Arc<Lineage>,
    declared: String,
    /// What names of this view begin with, whoever made them.
    view: String,
    /// What follows: alike for what this code made of this log.
    code: String,
    /// Names of those that turned out to be damaged. They are removed, and are no age.
    useless: Mutex<BTreeSet<String>>,
}

/// What the place has of this view.
#[derive(Default)]
struct Found {
    /// By this code and of this log; the oldest first.
    own: Vec<(Position, String)>,
    /// By other code, or of another log.
    foreign: Vec<String>,
}

impl<F: Fold> Ages<F> {
    /// Those of a view whose events are selected and read as `declared`: at most `keep`.
    pub(crate) fn new(
        keeping: Arc<Keeping<F>>,
        keep: usize,
        place: Arc<dyn Snapshots>,
        lineage: Arc<Lineage>,
        declared: String,
    ) -> Ages<F> {
        let log = lineage.log();
        let hex = |bytes: &[u8], digits| -> String {
            blake3::hash(bytes).to_hex().chars().take(digits).collect()
        };
        let view = format!("view-{}-", hex(kept_name::<F>().as_bytes(), 32));
        let code = format!("{}-", hex(&keeping.head(log, "", &declared), 16));
        let useless = Mutex::default();
        Ages { keeping, keep, place, lineage, declared, view, code, useless }
    }

    /// A snapshot is due after this many events since the last.
    pub(crate) fn every_events(&self) -> u64 {
        self.keeping.every_events
    }

    /// Keeps this state, which is complete up to `position` and was made of payloads of so many
    /// bytes, and removes what is too many. Waits for the store, on the calling thread.
    ///
    /// # Errors
    /// Why it is not kept. That something could not be removed is a warning.
    pub(crate) fn save(
        &self,
        state: &F,
        position: Position,
        payload_bytes: u64,
    ) -> Result<(), String> {
        let name = self.name(position);
        let kept = Kept { fold: state, position, payload_bytes };
        let unsealed = self.keeping.write(self.lineage.log(), &name, &self.declared, kept)?;
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

    /// The newest one at or below `upto` that is of use, in a log that ends at `head`. Those that
    /// turn out to be of no use are removed. Waits for the store, on the calling thread.
    pub(crate) fn newest(&self, upto: Position, head: Position) -> Option<Kept<F>> {
        let view = type_name::<F>();
        let Found { own, foreign } = match self.find() {
            Ok(found) => found,
            Err(reason) => {
                tracing::warn!(view, reason, "snapshots cannot be listed: replaying");
                return None;
            }
        };
        for (position, name) in own.into_iter().rev() {
            if position > upto && position <= head {
                continue;
            }
            let loaded = self.load(&name, position, head).map(|(kept, checksum)| {
                (kept, self.checksum(position).map(|found| found == Some(checksum)))
            });
            let unused = match loaded {
                Ok((kept, Ok(true))) => return Some(kept),
                Ok((_, Ok(false))) => Unused::Useless(of_a_lost_history(position)),
                Ok((_, Err(reason))) => {
                    tracing::warn!(view, reason, "snapshots cannot be compared with the log");
                    return None;
                }
                Err(unused) => unused,
            };
            let reason = match unused {
                Unused::Unread(reason) => reason,
                // Its name says that it is of this code.
                Unused::Useless(reason) | Unused::Foreign(reason) => {
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

    /// The positions of what is kept by this code of this log, the oldest first.
    #[cfg(test)]
    pub(crate) fn positions(&self) -> Result<Vec<Position>, String> {
        Ok(self.find()?.own.into_iter().map(|(position, _)| position).collect())
    }

    fn name(&self, position: Position) -> String {
        // With as many digits as any has, names are in the order of positions.
        format!("{}{}{:020}", self.view, self.code, position.get())
    }

    fn find(&self) -> Result<Found, String> {
        let names = match caught(|| self.place.names(&self.view)) {
            Ok(Ok(names)) => names,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(panic) => return Err(panic),
        };
        let mut found = Found::default();
        for name in names {
            let Some((code, position)) = self.split(&name) else { continue };
            match code == self.code {
                true if !self.useless.lock().contains(&name) => found.own.push((position, name)),
                true => {}
                false => found.foreign.push(name),
            }
        }
        // A place of somebody else may have an order of its own.
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

    /// The checksum of the event that the log has at this position; nothing above its head.
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
    ) -> Result<(Kept<F>, EventChecksum), Unused> {
        if position > head {
            let reason = format!("it is of position {position}, and the log ends at {head}");
            return Err(Unused::Useless(reason));
        }
        let bytes = match caught(|| self.place.load(name)) {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(Unused::Unread("it is gone".to_owned())),
            Ok(Err(error)) => return Err(Unused::Unread(error.to_string())),
            Err(panic) => return Err(Unused::Unread(panic)),
        };
        let read = self.keeping.read(self.lineage.log(), name, &self.declared, &bytes, head);
        let (kept, checksum) = read?;
        if kept.position != position {
            return Err(Unused::Useless(format!("it is of position {}", kept.position)));
        }
        Ok((kept, checksum))
    }

    fn remove_the_rest(&self, saved: Position) -> Result<(), String> {
        let Found { own, foreign } = self.find()?;
        let positions = own.into_iter().map(|(position, _)| position).collect();
        let unit = self.keeping.every_events;
        let many = superfluous(positions, saved, self.keep, unit);
        self.remove(foreign.into_iter().chain(many.into_iter().map(|at| self.name(at))))
    }

    /// None of them is of use any more.
    ///
    /// # Errors
    /// Why some are still there. They are not used, as long as this lives.
    pub(crate) fn forget(&self) -> Result<(), String> {
        let Found { own, foreign } = self.find()?;
        self.useless.lock().extend(own.into_iter().map(|(_, name)| name));
        self.remove(foreign.into_iter())
    }

    /// Removes these, and what is of no use.
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

/// Which of these positions, in ascending order, are not kept: those that leave the smallest gaps
/// for how far back they are. So distances from the newest about double from one to the next, or
/// grow faster where `keep` is small for the log.
///
/// The start of the log counts as one that is always there. What was just saved stays, and so
/// does the newest, which may be the work of another process.
fn superfluous(
    mut kept: Vec<Position>,
    saved: Position,
    keep: usize,
    unit_events: u64,
) -> Vec<Position> {
    let mut removed = Vec::new();
    let newest = kept.last().copied().unwrap_or(saved);
    // Closer together than the unit is about the same.
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
