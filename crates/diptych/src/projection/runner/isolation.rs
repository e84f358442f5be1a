//! Poison by key: an event that a projection refuses holds back its own keys, and the others go on.

use std::{collections::BTreeSet, sync::Arc};

use diptych_store::{Position, Tag, Timestamp};

use super::Runner;
use crate::{
    event::Recorded,
    follow::{
        Division, FailedEvents, Failures, FollowerStop, Halt, PoisonedGroup, PoisonedKey, Portion,
        Quarantine, SkipNote, SkippedEvent, Slice, decode_skipped, encode_skipped,
    },
    projection::{PoisonRecord, PoisonRow, Target, TargetError},
};

/// Maximum number of poisoned keys. Beyond it the projection stops.
const MOST_KEYS: usize = 100;

/// The poisoned keys of a projection that names a key.
pub(super) struct Isolation {
    key: Option<String>,
    /// As it is stored.
    quarantine: Arc<Quarantine>,
}

impl Isolation {
    pub(super) fn by(key: Option<String>) -> Isolation {
        Isolation { key, quarantine: Arc::default() }
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

    fn division<'a>(
        &'a self,
        failed: &'a FailedEvents,
        released: Option<&'a PoisonedGroup>,
    ) -> Division<'a> {
        Division { key: self.key.as_deref(), most: MOST_KEYS, failed, released }
    }
}

/// The events of a slice that are not left out, in runs.
fn runs<'a, E>(slice: &'a Slice<E>, left_out: &BTreeSet<Position>) -> Vec<&'a [Recorded<E>]> {
    if left_out.is_empty() && !slice.events().is_empty() {
        return vec![slice.events()];
    }
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
        self.keep_poison(Arc::new(quarantine));
        Ok(())
    }

    fn keep_poison(&mut self, quarantine: Arc<Quarantine>) {
        self.progress.show_quarantine(&quarantine);
        self.isolation.quarantine = quarantine;
    }

    /// After a reset no key is poisoned. Events that a person skipped stay skipped.
    pub(super) fn forget_poison(&mut self) -> Result<(), String> {
        let skipped = self.isolation.quarantine.skipped().to_vec();
        self.keep_poison(Arc::new(Quarantine::with_skipped(skipped)));
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

    /// The quarantine as it is stored, if it is another one than before.
    fn changed(&self, quarantine: &Quarantine) -> Result<Option<PoisonRecord>, Halt> {
        if *quarantine == *self.isolation.quarantine {
            return Ok(None);
        }
        let record = self.record_of(quarantine).map_err(|reason| Halt::Later { reason })?;
        Ok(Some(record))
    }

    /// Applies a slice without the events of poisoned keys.
    pub(super) fn take_isolated(&mut self, mut slice: Slice<T::Event>) -> Result<(), Halt> {
        let (mut failed, mut stop, mut is_one_by_one) = (FailedEvents::new(), None, false);
        // The target applies everything or nothing, so a refused event costs a round.
        while slice.upto > self.position {
            let next = if is_one_by_one { slice.clone().first() } else { slice.clone() };
            let division = self.isolation.division(&failed, None);
            let portion = match Portion::of(next, &self.isolation.quarantine, &division) {
                Ok(portion) => portion,
                Err(stopped) => {
                    slice = slice.before(stopped.at);
                    stop = Some(stopped);
                    continue;
                }
            };
            let Portion { slice: next, left_out, quarantine } = portion;
            let (to, record) = (self.checkpoint_after(&next)?, self.changed(&quarantine)?);
            let runs = runs(&next, &left_out);
            let events = runs.iter().map(|run| run.len()).sum();
            match self.target.apply_isolated(&runs, self.stored, to, record.as_ref()) {
                Ok(()) => {
                    if record.is_some() {
                        self.keep_poison(quarantine);
                    }
                    self.is_at(Some(to), events);
                    slice = slice.above(next.upto);
                }
                Err(TargetError::Event { position, reason, .. })
                    if !failed.contains_key(&position) =>
                {
                    failed.insert(position, reason);
                }
                Err(TargetError::OneByOne) if !is_one_by_one => is_one_by_one = true,
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
        let mut failed = FailedEvents::new();
        let base = Arc::new(base);
        let quarantine = loop {
            let (mut quarantine, mut applied) = (base.clone(), Vec::new());
            for slice in held {
                let division = self.isolation.division(&failed, Some(&group));
                let portion = Portion::of(slice.clone(), &quarantine, &division);
                let portion = portion.map_err(|stopped| stopped.to_string())?;
                applied.extend(runs(slice, &portion.left_out));
                quarantine = portion.quarantine;
            }
            let record = self.record_of(&quarantine)?;
            match self.target.apply_isolated(&applied, Some(stored), stored, Some(&record)) {
                Ok(()) => break quarantine,
                Err(TargetError::Event { position, reason, .. })
                    if !failed.contains_key(&position) =>
                {
                    failed.insert(position, reason);
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
