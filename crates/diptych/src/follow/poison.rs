//! Keys of a view or a projection whose events are held back, because one of them cannot be
//! applied.
//!
//! A view with a [`KEY`](crate::Fold::KEY) leaves out the events of a poisoned key, and goes on
//! with the others. An event of several keys joins them: if one of them is poisoned, the event
//! cannot be applied, so the other keys lack it and are poisoned with the first.

use std::collections::{BTreeMap, BTreeSet};

use diptych_store::{FilterItem, Position, Tag, Timestamp};
use serde::{Deserialize, Serialize};

use super::FollowerStop;

/// A key of a view whose events are held back since one of them cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoisonedKey {
    /// The tag that names the key.
    pub key: Tag,
    /// The first event of the key that is not applied.
    pub at: Position,
    /// The event that failed. It differs from `at` if the key was poisoned by an event that it
    /// shares with another poisoned key.
    pub failed: Position,
    /// The failure.
    pub reason: String,
    /// Number of events of the key that are held back, the first one included.
    pub held: u64,
}

/// An event that a view leaves out for good, because a person decided that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedEvent {
    /// Where the event is.
    pub position: Position,
    /// A key of the event.
    pub key: Tag,
    /// The failure for which it was skipped.
    pub reason: String,
    /// When it was skipped.
    pub at: Timestamp,
    /// The person who skipped it, and the reason.
    pub note: SkipNote,
}

/// The person who skips an event, and the reason: see
/// [`skip_event`](crate::follow::FollowerControl::skip_event).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipNote {
    /// The person or program that decided it.
    pub who: String,
    /// The reason.
    pub why: String,
}

/// The poisoned keys of a view and its skipped events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quarantine {
    keys: BTreeMap<String, PoisonedKey>,
    skipped: Vec<SkippedEvent>,
}

/// A stored event as the quarantine sees it.
pub(crate) struct EventMark {
    pub(crate) position: Position,
    pub(crate) tags: Vec<Tag>,
    /// Why it cannot be applied, if that is known.
    pub(crate) failure: Option<String>,
}

/// The keys that one failure poisoned. They are released together.
pub(crate) struct PoisonedGroup {
    pub(crate) failed: Position,
    /// The first event that is held back.
    pub(crate) first: Position,
    keys: BTreeMap<String, PoisonedKey>,
}

impl PoisonedGroup {
    pub(crate) fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.keys.values().map(|poisoned| &poisoned.key)
    }

    /// Whether this event was held back.
    pub(crate) fn holds(&self, mark: &EventMark) -> bool {
        let key = |tag: &Tag| self.keys.get(tag.as_str());
        mark.tags.iter().filter_map(key).any(|poisoned| poisoned.at <= mark.position)
    }
}

impl Quarantine {
    pub(crate) fn with_skipped(skipped: Vec<SkippedEvent>) -> Quarantine {
        Quarantine { keys: BTreeMap::new(), skipped }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.skipped.is_empty()
    }

    /// A quarantine as it was stored.
    pub(crate) fn of(poisoned: Vec<PoisonedKey>, skipped: Vec<SkippedEvent>) -> Quarantine {
        let keys = poisoned.into_iter().map(|it| (it.key.as_str().to_owned(), it));
        Quarantine { keys: keys.collect(), skipped }
    }

    /// Whether a key is poisoned.
    pub(crate) fn is_poisoned(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Number of poisoned keys.
    pub(crate) fn poisoned_keys(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn poisoned(&self) -> Vec<PoisonedKey> {
        self.keys.values().cloned().collect()
    }

    pub(crate) fn skipped(&self) -> &[SkippedEvent] {
        &self.skipped
    }

    pub(crate) fn key(&self, key: &Tag) -> Option<&PoisonedKey> {
        self.keys.get(key.as_str())
    }

    /// The first poisoned key among those that the items of a scope name, if each item names one.
    /// Without that, an answer depends on all keys, and the result is `None`.
    pub(crate) fn within(&self, scope: &[FilterItem], name: &str) -> Option<Option<&PoisonedKey>> {
        let keyed = |tag: &&Tag| tag.key() == name;
        if scope.is_empty() || scope.iter().any(|item| !item.tags.iter().any(|tag| keyed(&tag))) {
            return None;
        }
        let mut named = scope.iter().flat_map(|item| item.tags.iter().filter(keyed));
        Some(named.find_map(|tag| self.key(tag)))
    }

    /// All keys that were poisoned by the failure that poisoned this one.
    pub(crate) fn group(&self, key: &Tag) -> Option<PoisonedGroup> {
        let failed = self.key(key)?.failed;
        let keys = self.keys.iter().filter(|(_, other)| other.failed == failed);
        let keys: BTreeMap<_, _> =
            keys.map(|(key, poisoned)| (key.clone(), poisoned.clone())).collect();
        let first = keys.values().map(|poisoned| poisoned.at).min()?;
        Some(PoisonedGroup { failed, first, keys })
    }

    /// The quarantine without the keys of this group.
    pub(crate) fn without(&self, group: &PoisonedGroup) -> Quarantine {
        let mut rest = self.clone();
        rest.keys.retain(|key, _| !group.keys.contains_key(key));
        rest
    }

    pub(crate) fn skip(&mut self, skipped: SkippedEvent) {
        self.skipped.push(skipped);
    }

    /// Decides about the next event of the log. Returns whether the event is left out.
    ///
    /// # Errors
    /// [`FollowerStop`] if it cannot be applied and has no key, or if more keys than `most` would
    /// be poisoned.
    pub(crate) fn leaves_out(
        &mut self,
        mark: &EventMark,
        name: Option<&str>,
        most: usize,
    ) -> Result<bool, FollowerStop> {
        let position = mark.position;
        if self.skipped.iter().any(|skipped| skipped.position == position) {
            return Ok(true);
        }
        let keys: Vec<_> = mark.tags.iter().filter(|tag| Some(tag.key()) == name).collect();
        let held: BTreeSet<_> =
            keys.iter().filter_map(|tag| self.key(tag)).map(|held| held.failed).collect();
        let (failed, reason) = match (held.first(), &mark.failure) {
            (None, None) => return Ok(false),
            (None, Some(reason)) => (position, reason.clone()),
            (Some(&failed), _) => {
                (failed, format!("the event at position {position} has another poisoned key"))
            }
        };
        if keys.is_empty() {
            return Err(FollowerStop { at: position, reason });
        }
        // Keys with a common event are released together.
        for other in self.keys.values_mut().filter(|other| held.contains(&other.failed)) {
            other.failed = failed;
        }
        for tag in keys {
            let new = || PoisonedKey {
                key: tag.clone(),
                at: position,
                failed,
                reason: reason.clone(),
                held: 0,
            };
            self.keys.entry(tag.as_str().to_owned()).or_insert_with(new).held += 1;
        }
        match self.keys.len() > most {
            true => Err(FollowerStop {
                at: position,
                reason: format!(
                    "{reason}; and as many keys are poisoned as may be: {most} \
                     (`ViewOptions::poisoned_keys` of a view)"
                ),
            }),
            false => Ok(true),
        }
    }
}

/// Skipped events as they are kept outside the log.
#[derive(Serialize, Deserialize)]
struct StoredSkip {
    position: u64,
    key: String,
    reason: String,
    at_micros: i64,
    note: SkipNote,
}

/// The skipped events of one history of a log.
#[derive(Serialize, Deserialize)]
struct StoredSkips {
    log: String,
    skipped: Vec<StoredSkip>,
}

/// These skipped events as bytes. `log` names the history of the log.
pub(crate) fn encode_skipped(log: &str, skipped: &[SkippedEvent]) -> Result<Vec<u8>, String> {
    let stored = skipped.iter().map(|skipped| StoredSkip {
        position: skipped.position.get(),
        key: skipped.key.as_str().to_owned(),
        reason: skipped.reason.clone(),
        at_micros: skipped.at.as_micros(),
        note: skipped.note.clone(),
    });
    let stored = StoredSkips { log: log.to_owned(), skipped: stored.collect() };
    serde_json::to_vec(&stored).map_err(|error| error.to_string())
}

/// The skipped events in these bytes; none if they are of another history.
pub(crate) fn decode_skipped(log: &str, bytes: &[u8]) -> Result<Vec<SkippedEvent>, String> {
    let stored: StoredSkips = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.log != log {
        return Err("they are of another log, or of another history of the log".to_owned());
    }
    let read = stored.skipped.into_iter().map(|stored| {
        Ok(SkippedEvent {
            position: Position::new(stored.position),
            key: Tag::parse(&stored.key).map_err(|error| error.to_string())?,
            reason: stored.reason,
            at: Timestamp::from_micros(stored.at_micros),
            note: stored.note,
        })
    });
    read.collect()
}
