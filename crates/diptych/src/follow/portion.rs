//! The part of a slice that a view or a projection applies: all of it, or all but the events of
//! poisoned keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use diptych_store::Position;

use super::{
    FollowerStop, Slice,
    poison::{EventMark, PoisonedGroup, Quarantine},
};

/// Events that could not be applied, with the reasons.
pub(crate) type FailedEvents = BTreeMap<Position, String>;

/// A slice without the events that are left out, and the quarantine after it.
pub(crate) struct Portion<E> {
    pub(crate) slice: Slice<E>,
    pub(crate) left_out: Arc<BTreeSet<Position>>,
    pub(crate) quarantine: Arc<Quarantine>,
}

/// How a slice is divided.
pub(crate) struct Division<'a> {
    /// The key of the tag that names the keys.
    pub(crate) key: Option<&'a str>,
    /// Maximum number of poisoned keys.
    pub(crate) most: usize,
    /// Events that could not be applied.
    pub(crate) failed: &'a FailedEvents,
    /// The keys that are released now: only their held events are applied.
    pub(crate) released: Option<&'a PoisonedGroup>,
}

impl<E> Portion<E> {
    /// # Errors
    /// [`FollowerStop`] before the first event that cannot be left out.
    pub(crate) fn of(
        slice: Slice<E>,
        before: &Arc<Quarantine>,
        division: &Division<'_>,
    ) -> Result<Portion<E>, FollowerStop> {
        let Division { key, most, failed, released } = *division;
        let is_whole = before.is_empty() && released.is_none() && !slice.has_failures();
        match failed.range(..=slice.upto).next() {
            Some((&at, reason)) if key.is_none() => {
                return Err(FollowerStop { at, reason: reason.clone() });
            }
            None if is_whole => {
                let quarantine = before.clone();
                return Ok(Portion { slice, left_out: Arc::default(), quarantine });
            }
            _ => {}
        }
        let (mut quarantine, mut left_out) = ((**before).clone(), BTreeSet::new());
        for (position, tags, unread) in slice.marks() {
            let failure = unread.or_else(|| failed.get(&position).cloned());
            let mark = EventMark { position, tags, failure };
            let is_applied_already = released.is_some_and(|group| !group.holds(&mark));
            if is_applied_already || quarantine.leaves_out(&mark, key, most)? {
                left_out.insert(position);
            }
        }
        let (left_out, quarantine) = (Arc::new(left_out), Arc::new(quarantine));
        Ok(Portion { slice, left_out, quarantine })
    }
}
