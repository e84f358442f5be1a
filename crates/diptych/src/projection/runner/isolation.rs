//! Poison by key: an event that a projection refuses holds back its own keys, and the others go on.

use std::collections::{BTreeMap, BTreeSet};

use diptych_store::{Position, Tag, Timestamp};

use super::Runner;
use crate::{
    event::Recorded,
    follow::{
        EventMark, Failures, FollowerStop, Halt, PoisonedGroup, PoisonedKey, Quarantine, SkipNote,
        SkippedEvent, Slice, decode_skipped, encode_skipped,
    },
    projection::{PoisonRecord, PoisonRow, Target, TargetError},
};

/// Maximum number of poisoned keys. Beyond it the projection stops.
const MOST_KEYS: usize = 100;

/// The poisoned keys of a projection that names a key.
pub(super) struct Isolation {
    key: Option<String>,
    quarantine: Quarantine,
}

/// Events that the projection refused, with the reasons.
type RefusedEvents = BTreeMap<Position, String>;

/// A slice without the events that are left out, and the poisoned keys after it.
struct Remainder {
    left_out: BTreeSet<Position>,
    quarantine: Quarantine,
}

impl Isolation {
    pub(super) fn by(key: Option<String>) -> Isolation {
        Isolation { key, quarantine: Quarantine::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.key.is_some()
    }

    pub(super) fn failures(&self) -> Failures {
        match self.is_on() {
            true => Failures::Contain,
            false => Failures::End,
        }
    }

    pub(super) fn group(&self, key: &Tag) -> Option<PoisonedGroup> {
        self.quarantine.group(key)
    }

    /// Decides which events of a slice are left out. If keys are released, only their held events
    /// are not.
    fn divide<E>(
        &self,
        slice: &Slice<E>,
        before: &Quarantine,
        refused: &RefusedEvents,
        released: Option<&PoisonedGroup>,
    ) -> Result<Remainder, FollowerStop> {
        let (mut quarantine, mut left_out) = (before.clone(), BTreeSet::new());
        for (position, tags, unread) in slice.marks() {
            let failure = unread.or_else(|| refused.get(&position).cloned());
            let mark = EventMark { position, tags, failure };
            let is_applied_already = released.is_some_and(|group| !group.holds(&mark));
            let key = self.key.as_deref();
            if is_applied_already || quarantine.leaves_out(&mark, key, MOST_KEYS)? {
                left_out.insert(position);
            }
        }
        Ok(Remainder { left_out, quarantine })
    }
}

/// The events of a slice that are not left out, in runs.
fn runs<'a, E>(slice: &'a Slice<E>, left_out: &BTreeSet<Position>) -> Vec<&'a [Recorded<E>]> {
    let runs = slice.events().split(|event| left_out.contains(&event.position));
    runs.filter(|run| !run.is_empty()).collect()
}

impl<T: Target> Runner<T> {
    /// Reads the poisoned keys that are stored beside the checkpoint.
    pub(super) fn find_poison(&mut self) -> Result<(), Halt> {
        if !self.isolation.is_on() {
            return Ok(());
        }
        let record = match self.target.poison() {
            Ok(record) => record,
            Err(cause) => return self.failed(cause),
        };
        let at = self.position.plus(1);
        let quarantine = self.quarantine_of(record);
        let quarantine = quarantine.map_err(|reason| Halt::At(FollowerStop { at, reason }))?;
        self.keep_poison(quarantine);
        Ok(())
    }

    fn keep_poison(&mut self, quarantine: Quarantine) {
        self.progress.show_quarantine(&quarantine);
        self.isolation.quarantine = quarantine;
    }

    /// After a reset no key is poisoned. Events that a person skipped stay skipped.
    pub(super) fn forget_poison(&mut self) -> Result<(), String> {
        let skipped = self.isolation.quarantine.skipped().to_vec();
        self.keep_poison(Quarantine::with_skipped(skipped));
        Ok(())
    }

    fn quarantine_of(&self, record: PoisonRecord) -> Result<Quarantine, String> {
        let log = self.lineage.log().to_string();
        let skipped = match record.skipped.is_empty() {
            true => Vec::new(),
            false => decode_skipped(&log, &record.skipped).unwrap_or_else(|reason| {
                let projection = self.target.name();
                tracing::warn!(projection, reason, "the skipped events are not used");
                Vec::new()
            }),
        };
        let keys = record.keys.into_iter().map(|row| {
            let PoisonRow { key, at, failed, reason, held } = row;
            let key = Tag::parse(&key)
                .map_err(|error| format!("the poisoned key {key:?} cannot be read: {error}"))?;
            Ok(PoisonedKey { key, at, failed, reason, held })
        });
        Ok(Quarantine::of(keys.collect::<Result<_, String>>()?, skipped))
    }

    fn record_of(&self, quarantine: &Quarantine) -> Result<PoisonRecord, String> {
        let keys = quarantine.poisoned().into_iter().map(|poisoned| {
            let PoisonedKey { key, at, failed, reason, held } = poisoned;
            PoisonRow { key: key.as_str().to_owned(), at, failed, reason, held }
        });
        let skipped = match quarantine.skipped() {
            [] => Vec::new(),
            skipped => encode_skipped(&self.lineage.log().to_string(), skipped)?,
        };
        Ok(PoisonRecord { keys: keys.collect(), skipped })
    }

    /// Applies a slice without the events of poisoned keys.
    pub(super) fn take_isolated(&mut self, mut slice: Slice<T::Event>) -> Result<(), Halt> {
        let (mut refused, mut stop) = (RefusedEvents::new(), None);
        // The target applies everything or nothing, so a refused event costs a round.
        while slice.upto > self.position {
            let before = &self.isolation.quarantine;
            let Remainder { left_out, quarantine } =
                match self.isolation.divide(&slice, before, &refused, None) {
                    Ok(remainder) => remainder,
                    Err(stopped) => {
                        slice = slice.before(stopped.at);
                        stop = Some(stopped);
                        continue;
                    }
                };
            let to = self.checkpoint_after(&slice)?;
            let record = self.record_of(&quarantine).map_err(|reason| Halt::Later { reason })?;
            let runs = runs(&slice, &left_out);
            let events = runs.iter().map(|run| run.len()).sum();
            match self.target.apply_isolated(&runs, self.stored, to, &record) {
                Ok(()) => {
                    self.keep_poison(quarantine);
                    self.is_at(Some(to), events);
                    break;
                }
                Err(TargetError::Event { position, reason, .. })
                    if !refused.contains_key(&position) =>
                {
                    refused.insert(position, reason);
                }
                Err(TargetError::OneByOne) => {
                    // The worker passes the rest again.
                    (slice, stop) = (slice.first(), None);
                }
                Err(cause) => return self.failed(cause),
            }
        }
        stop.map_or(Ok(()), |stopped| Err(Halt::At(stopped)))
    }

    /// Applies the held events of a poisoned key in one step, except those that fail again.
    pub(super) fn release_key(
        &mut self,
        key: &Tag,
        held: &[Slice<T::Event>],
        skip: Option<SkipNote>,
    ) -> Result<(), String> {
        let before = &self.isolation.quarantine;
        let (Some(group), Some(poisoned)) = (before.group(key), before.key(key)) else {
            return Err(format!("{key} is not poisoned"));
        };
        let mut base = before.without(&group);
        if let Some(note) = skip {
            let (position, reason) = (group.failed, poisoned.reason.clone());
            let at = Timestamp::now();
            base.skip(SkippedEvent { position, key: key.clone(), reason, at, note });
        }
        let stored = self.stored.ok_or("the database has no checkpoint: resume the projection")?;
        let mut refused = RefusedEvents::new();
        let quarantine = loop {
            let (mut quarantine, mut applied) = (base.clone(), Vec::new());
            for slice in held {
                let divided = self.isolation.divide(slice, &quarantine, &refused, Some(&group));
                let remainder = divided.map_err(|stopped| stopped.to_string())?;
                applied.extend(runs(slice, &remainder.left_out));
                quarantine = remainder.quarantine;
            }
            let record = self.record_of(&quarantine)?;
            match self.target.apply_isolated(&applied, Some(stored), stored, &record) {
                Ok(()) => break quarantine,
                Err(TargetError::Event { position, reason, .. })
                    if !refused.contains_key(&position) =>
                {
                    refused.insert(position, reason);
                }
                Err(TargetError::OneByOne) => {
                    return Err("the tables have checks that run only at a commit, so several \
                                held events cannot be applied together: rebuild the projection"
                        .to_owned());
                }
                Err(cause) => return Err(cause.to_string()),
            }
        };
        let still = quarantine.key(key).map(|poisoned| poisoned.reason.clone());
        self.keep_poison(quarantine);
        match still {
            None => Ok(()),
            Some(reason) => Err(format!("{key} is still poisoned: {reason}")),
        }
    }
}
