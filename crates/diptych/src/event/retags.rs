//! Tags that older events got later, by retagging.
//!
//! Retagging is events of the log itself, so it holds on every store, in backups and in copies.
//! There are three reserved types:
//!
//! - `diptych:retagged`: the positions of older events that have a tag today. It is found by a
//!   reserved tag with a digest of the new tag. It must not carry the new tag itself: a revision
//!   counts the events with a tag. The digest keeps it short, whatever the limit of the store. A
//!   mark is only a hint: if the tag is spelt in another way later, the log keeps the marks of both
//!   spellings. So every reader compares the mark with the event as it is read today.
//! - `diptych:retag-fenced`: from here on, a program whose version of an event lacks the tag key
//!   must not write that event.
//! - `diptych:retag-completed`: every event up to a position has its tag.
//!
//! The fence comes before the completion, in place of a completion on the condition that no event
//! came meanwhile. Such a condition is violated by every program that writes these events, and a
//! busy log would never complete. After the fence no untagged event can come. So the retagging
//! reads on to the end of the log once more, and completes without a race.
//!
//! Each append of a command has a condition on the fence and the completion, after the position up
//! to which the app knows them. That position moves with each accepted commit of the app, so a
//! store has only the newest few commits to compare.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use diptych_store::{
    Digest, EventRef, Filter, FilterItem, Position, RawEvent, Read, ReadError, Store, Tag,
};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Codec, EncodedEvent, EventType, Json, SchemaError};

const RETAGGED: &str = "diptych:retagged";
const FENCED: &str = "diptych:retag-fenced";
const COMPLETED: &str = "diptych:retag-completed";
/// The key of all reserved tags.
pub(super) const OWN_TAG_KEY: &str = "diptych";
/// Maximum number of tags whose marks are looked up at once.
const TAGS_AT_ONCE: usize = 64;

/// The log has marks for a tag key, and an event that a program writes has no such tag: rules over
/// the tag would not see the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "older events got the tag {key} of {today} by retagging, and this program writes {event_type} \
     version {version} without it, so rules over the tag would not see the event: deploy the \
     release whose {event_type} has the tag; if no rule needs it any more, say so with \
     `accept_untagged({event_type:?}, {key:?})`"
)]
#[non_exhaustive]
pub struct OutdatedEvent {
    /// The name of the event type.
    pub event_type: String,
    /// The schema version that the program writes.
    pub version: u32,
    /// The key of the tag that it lacks.
    pub key: String,
    /// The name that the type has in the program that retagged.
    pub today: String,
}

/// The positions of older events that have this tag today.
#[derive(Serialize, Deserialize)]
struct RetagMark {
    /// The name that their type has today.
    #[serde(rename = "type")]
    event_type: String,
    tag: String,
    /// In order.
    positions: Vec<u64>,
}

/// Programs that write these events without the tag have to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fence {
    /// The name that the type has today.
    #[serde(rename = "type")]
    event_type: String,
    key: String,
    sources: Vec<SourceType>,
}

/// A name in the log whose events are, or can become, events of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceType {
    pub(crate) name: String,
    /// Only versions below this one. Without it, all versions.
    pub(crate) below: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Completion {
    /// The name that the type has today.
    #[serde(rename = "type")]
    event_type: String,
    key: String,
    /// Every event up to here has its tag.
    upto: u64,
}

/// Why the marks of a log cannot be used.
#[derive(Debug)]
pub(crate) enum RetagFailure {
    Read(ReadError),
    Schema(SchemaError),
}

impl From<ReadError> for RetagFailure {
    fn from(error: ReadError) -> RetagFailure {
        RetagFailure::Read(error)
    }
}

impl From<SchemaError> for RetagFailure {
    fn from(error: SchemaError) -> RetagFailure {
        RetagFailure::Schema(error)
    }
}

/// The event that points at older events of a type which have this tag today.
pub(crate) fn retagged(event_type: &str, tag: &Tag, positions: Vec<u64>) -> RetagEvent {
    let payload =
        RetagMark { event_type: event_type.to_owned(), tag: tag.as_str().to_owned(), positions };
    let event = encode(RETAGGED, &payload)?;
    Ok(event.tag(tag_mark(tag)).tag(key_mark(event_type, tag.key())))
}

/// The event after which programs without the tag must not write the events.
pub(crate) fn fenced(event_type: &str, key: &str, sources: &[SourceType]) -> RetagEvent {
    let (event_type, key) = (event_type.to_owned(), key.to_owned());
    encode(FENCED, &Fence { event_type, key, sources: sources.to_vec() })
}

/// The event which tells that every event of the type up to here has its tag.
pub(crate) fn completed(event_type: &str, key: &str, upto: Position) -> RetagEvent {
    let (event_type, key) = (event_type.to_owned(), key.to_owned());
    encode(COMPLETED, &Completion { event_type, key, upto: upto.get() })
}

/// A reserved event to append.
pub(crate) type RetagEvent = Result<RawEvent, SchemaError>;

fn encode(name: &'static str, payload: &impl Serialize) -> RetagEvent {
    Ok(RawEvent::new(name, Json::encode(payload)?))
}

fn decode<T: DeserializeOwned>(event: &EventRef<'_>) -> Result<T, SchemaError> {
    let (event_type, version) = (event.event_type(), event.version());
    let encoded = EncodedEvent { event_type, version, payload: event.payload() };
    match version {
        1 => encoded.read::<Json, T>(),
        _ => Err(SchemaError::UnknownVersion {
            event_type: event_type.to_owned(),
            version,
            current: 1,
        }),
    }
}

/// The reserved tag of all marks for this tag.
fn tag_mark(tag: &Tag) -> Tag {
    Tag::new(OWN_TAG_KEY, format_args!("retagged:{}", Digest::of(tag.as_str().as_bytes())))
}

/// The reserved tag of all marks for this type and key.
fn key_mark(event_type: &str, key: &str) -> Tag {
    let both = format!("{key}:{event_type}");
    Tag::new(OWN_TAG_KEY, format_args!("retag:{}", Digest::of(both.as_bytes())))
}

/// All marks for this type and key.
pub(crate) fn marks_of(event_type: &str, key: &str) -> Filter {
    let item = FilterItem::everything().or_type(RETAGGED).and_tag(key_mark(event_type, key));
    item.into()
}

/// The fences and completions of a log, up to a position.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetaggedKeys {
    /// Number of completions. States that were folded with another number are not continued.
    pub(crate) generation: u64,
    /// The last fence or completion in here.
    last: Position,
    fences: Vec<Fence>,
    completed: Vec<CompletedKey>,
    /// Whether all keys count as completed, as in a test of a rule.
    all: bool,
}

#[derive(Clone, Debug)]
struct CompletedKey {
    event_type: String,
    key: String,
    /// How often it was completed.
    rounds: u32,
    /// Where the last completion is.
    at: Position,
}

impl RetaggedKeys {
    /// All keys of all types.
    #[cfg(feature = "testing")]
    pub(crate) fn all() -> RetaggedKeys {
        RetaggedKeys { all: true, ..RetaggedKeys::default() }
    }

    fn of(&self, event_type: &str, key: &str) -> Option<&CompletedKey> {
        self.completed.iter().find(|one| one.event_type == event_type && one.key == key)
    }

    /// Whether older events of this type have their tags of this key.
    pub(crate) fn has(&self, event_type: &str, key: &str) -> bool {
        self.all || self.of(event_type, key).is_some()
    }

    /// Whether events of this type were retagged with this key more than once. Then marks of an
    /// earlier run can be of a tag that the event does not have any more.
    pub(crate) fn is_repeated(&self, event_type: &str, key: &str) -> bool {
        self.of(event_type, key).is_some_and(|one| one.rounds > 1)
    }

    /// Whether any type was retagged with this key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.completed.iter().any(|one| one.key == key)
    }

    /// Whether this fence is in the log already.
    pub(crate) fn is_fenced(&self, event_type: &str, key: &str, sources: &[SourceType]) -> bool {
        let is_like = |fence: &Fence| fence.event_type == event_type && fence.key == key;
        self.fences.iter().any(|fence| is_like(fence) && fence.sources == sources)
    }

    /// The tags of this boundary item that older events of these types may have only by marks.
    pub(super) fn tags_of(&self, item: &FilterItem, types: &[EventType]) -> Vec<Tag> {
        let asked = |known: &&EventType| {
            item.types.is_empty() || item.types.iter().any(|name| name == known.name)
        };
        let is_retagged =
            |tag: &&Tag| types.iter().filter(asked).any(|known| self.has(known.name, tag.key()));
        item.tags.iter().filter(is_retagged).cloned().collect()
    }

    /// The position of the newest completion that this boundary depends on.
    pub(super) fn newest(&self, boundary: &Filter, types: &[EventType]) -> Option<Position> {
        let concerned = self.completed.iter().filter(|one| {
            let has_type = types.iter().any(|known| known.name == one.event_type);
            let asks = |item: &FilterItem| {
                let types = &item.types;
                (types.is_empty() || types.iter().any(|name| *name == one.event_type))
                    && item.tags.iter().any(|tag| tag.key() == one.key)
            };
            has_type && boundary.items().iter().any(asks)
        });
        let newest = concerned.map(|one| one.at).max();
        newest.or_else(|| self.all.then_some(Position::START))
    }

    /// The completions that a boundary over these tag keys depends on, as text. A state made under
    /// other completions must not be continued.
    pub(crate) fn declared(&self, boundary: &Filter, types: &[EventType]) -> String {
        let mut lines = BTreeSet::new();
        for item in boundary.items() {
            for tag in &item.tags {
                let known = types.iter().filter_map(|known| self.of(known.name, tag.key()));
                lines.extend(known.map(|one| {
                    format!("retagged {:?} {:?} {}\n", one.event_type, one.key, one.rounds)
                }));
            }
        }
        lines.into_iter().collect()
    }

    /// The first fence that an event of this type would break, except for keys that it may lack.
    pub(crate) fn outdated(
        &self,
        known: &EventType,
        may_lack: impl Fn(&str) -> bool,
    ) -> Option<OutdatedEvent> {
        let broken = self.fences.iter().find(|fence| {
            let is_source = |source: &SourceType| {
                source.name == known.name && source.below.is_none_or(|below| known.version < below)
            };
            let lacks = !known.tags.contains(&&*fence.key) && !may_lack(&fence.key);
            lacks && fence.sources.iter().any(is_source)
        })?;
        Some(OutdatedEvent {
            event_type: known.name.to_owned(),
            version: known.version,
            key: broken.key.clone(),
            today: broken.event_type.clone(),
        })
    }

    fn add(&mut self, at: Position, event: LedgerEvent) {
        self.last = at;
        match event {
            LedgerEvent::Fence(fence) => self.fences.push(fence),
            LedgerEvent::Completion(Completion { event_type, key, .. }) => {
                self.generation += 1;
                let is_like =
                    |one: &&mut CompletedKey| one.event_type == event_type && one.key == key;
                match self.completed.iter_mut().find(is_like) {
                    Some(one) => {
                        one.rounds += 1;
                        one.at = at;
                    }
                    None => self.completed.push(CompletedKey { event_type, key, rounds: 1, at }),
                }
            }
        }
    }
}

enum LedgerEvent {
    Fence(Fence),
    Completion(Completion),
}

/// The fences and completions that the app knows, and the position up to which it knows them.
pub(crate) struct RetagLedger {
    keys: RwLock<Arc<RetaggedKeys>>,
    /// `RetaggedKeys::generation`.
    generation: AtomicU64,
    /// `RetaggedKeys::last`.
    last: AtomicU64,
    /// All fences and completions up to here are in `keys`. It is raised after these changed.
    known: AtomicU64,
    filter: Filter,
}

impl RetagLedger {
    pub(crate) fn new(keys: RetaggedKeys) -> RetagLedger {
        RetagLedger {
            keys: RwLock::new(Arc::new(keys)),
            generation: AtomicU64::new(0),
            last: AtomicU64::new(0),
            known: AtomicU64::new(0),
            filter: Filter::types([FENCED, COMPLETED]),
        }
    }

    pub(crate) fn keys(&self) -> Arc<RetaggedKeys> {
        self.keys.read().clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the log has a fence or a completion, as far as this app knows.
    pub(crate) fn is_empty(&self) -> bool {
        self.last.load(Ordering::Acquire) == 0
    }

    /// All fences and completions up to here are known.
    pub(crate) fn known(&self) -> Position {
        Position::new(self.known.load(Ordering::Acquire))
    }

    /// The filter of fences and completions.
    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Notes that the log has no unknown fence or completion up to here: a commit was accepted on
    /// that condition.
    pub(crate) fn has_none_upto(&self, position: Position) {
        self.known.fetch_max(position.get(), Ordering::AcqRel);
    }

    /// Whether there is a fence or a completion above `known`, and at or below `upto`. It is known
    /// afterwards. `upto` must be published.
    ///
    /// # Errors
    /// [`RetagFailure`] if it cannot be read.
    pub(crate) async fn is_behind(
        &self,
        store: &Store,
        known: Position,
        upto: Position,
    ) -> Result<bool, RetagFailure> {
        self.refresh(store, upto).await?;
        Ok(self.last.load(Ordering::Acquire) > known.get())
    }

    /// Reads the fences and completions up to here, which must be published.
    ///
    /// # Errors
    /// [`RetagFailure`] if they cannot be read.
    pub(crate) async fn refresh(&self, store: &Store, upto: Position) -> Result<(), RetagFailure> {
        let mut at = self.known();
        if at >= upto {
            return Ok(());
        }
        let last = store.last(&self.filter, upto).await?;
        if last.is_none_or(|last| last <= at) {
            self.has_none_upto(upto);
            return Ok(());
        }
        let mut found = Vec::new();
        while at < upto {
            let batch = store.read(&self.filter, Read::after(at).upto(upto)).await?;
            for event in batch.iter() {
                let one = match event.event_type() {
                    FENCED => LedgerEvent::Fence(decode(&event)?),
                    _ => LedgerEvent::Completion(decode(&event)?),
                };
                found.push((event.position(), one));
            }
            at = batch.upto();
        }
        let mut keys = self.keys.write();
        let mut next = RetaggedKeys::clone(&keys);
        for (position, event) in found {
            // Another task may have read it, too.
            if position > next.last {
                next.add(position, event);
            }
        }
        self.generation.store(next.generation, Ordering::Release);
        self.last.store(next.last.get(), Ordering::Release);
        *keys = Arc::new(next);
        drop(keys);
        self.has_none_upto(upto);
        Ok(())
    }
}

/// The marks for some tags: the positions of older events that have them today.
#[derive(Default)]
pub(crate) struct Marks(Vec<(Tag, RetagMark)>);

impl Marks {
    /// The marks for these tags: of the completed ones of these keys, or all.
    ///
    /// # Errors
    /// [`RetagFailure`] if they cannot be read.
    pub(crate) async fn read(
        store: &Store,
        keys: Option<&RetaggedKeys>,
        tags: &[Tag],
    ) -> Result<Marks, RetagFailure> {
        let head = store.head().position();
        let mut marks = Marks::default();
        let at_once = TAGS_AT_ONCE.min(store.limits().filter_items).max(1);
        for tags in tags.chunks(at_once) {
            let item = |tag| FilterItem::everything().or_type(RETAGGED).and_tag(tag_mark(tag));
            let filter: Filter = tags.iter().map(item).collect();
            let mut at = Position::START;
            while at < head {
                let batch = store.read(&filter, Read::after(at).upto(head)).await?;
                for event in batch.iter() {
                    let one: RetagMark = decode(&event)?;
                    // Two tags can have one digest.
                    let Some(tag) = tags.iter().find(|tag| tag.as_str() == one.tag) else {
                        continue;
                    };
                    if keys.is_none_or(|keys| keys.has(&one.event_type, tag.key())) {
                        marks.0.push((tag.clone(), one));
                    }
                }
                at = batch.upto();
            }
        }
        Ok(marks)
    }

    /// Whether the event at this position has this tag by a mark.
    pub(crate) fn has(&self, event_type: &str, tag: &Tag, position: Position) -> bool {
        self.0.iter().any(|(marked, one)| {
            marked == tag
                && one.event_type == event_type
                && one.positions.binary_search(&position.get()).is_ok()
        })
    }

    /// The positions of the events that have this tag by a mark, in order.
    pub(crate) fn positions(&self, tag: &Tag) -> Vec<Position> {
        let of_tag = self.0.iter().filter(|(marked, _)| marked == tag);
        in_order(of_tag.map(|(_, one)| one))
    }

    /// The types whose events have marks.
    pub(crate) fn types(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(_, one)| &*one.event_type).collect()
    }

    /// The positions of the events of this type that have a mark, in order.
    pub(crate) fn positions_of(&self, event_type: &str) -> Vec<Position> {
        let marks = self.0.iter().map(|(_, one)| one);
        in_order(marks.filter(|one| one.event_type == event_type))
    }
}

fn in_order<'m>(marks: impl Iterator<Item = &'m RetagMark>) -> Vec<Position> {
    let positions = marks.flat_map(|one| one.positions.iter().copied());
    let mut positions: Vec<_> = positions.map(Position::new).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

impl fmt::Debug for RetagLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetagLedger").field("keys", &self.keys()).finish_non_exhaustive()
    }
}
