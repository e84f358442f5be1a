//! A checksum of one event at its position in the log. It is equal in every store for an equal
//! event at that position, and different for other events.
//!
//! If an older copy of a log is put back and grows again, a position alone can name another event.
//! So everything that is kept outside a log (snapshots, checkpoints, tokens) also carries the
//! checksum of the event at its position, and is compared with the log before use.

use std::fmt;

use twox_hash::XxHash3_64;

use crate::{
    batch::EventRef,
    encoding::Rest,
    event::{Metadata, RawEvent},
    identity::LogIdentity,
    position::Position,
    tag::Tag,
    time::Timestamp,
};

/// The checksum of one event at its position. It covers every field that a read returns, including
/// the position and `recorded_at`.
///
/// It does not depend on how a store keeps the event, so it survives clustering, a backup and a
/// copy into another kind of store. It detects accidents, but does not stop an attacker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventChecksum(u64);

impl EventChecksum {
    /// The checksum of [`Position::START`], which has no event.
    pub const START: EventChecksum = EventChecksum(0);

    /// The checksum of this event.
    pub fn of(event: &EventRef<'_>) -> EventChecksum {
        let content = Content {
            event_type: event.event_type(),
            tags: event.tags().count(),
            payload: event.payload(),
            rest: event.rest(),
        };
        content.checksum(event.tags()).at(event.position(), event.recorded_at())
    }

    /// The checksum with this number, as it was stored.
    pub const fn from_u64(number: u64) -> EventChecksum {
        EventChecksum(number)
    }

    /// The checksum as one number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for EventChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The checksum of an event without its position. It can be computed before the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentChecksum(u64);

impl ContentChecksum {
    /// The checksum of this event, as a store writes it.
    pub fn of(event: &RawEvent) -> ContentChecksum {
        // Tags are a set: a store writes a repeated tag once, at its first place.
        let is_first = |at: &usize| {
            let tag = event.tags.get(*at);
            event.tags.iter().position(|other| Some(other) == tag) == Some(*at)
        };
        let distinct = || (0..event.tags.len()).filter(is_first);
        let content = Content {
            event_type: &event.event_type,
            tags: distinct().count(),
            payload: &event.payload,
            rest: rest(event),
        };
        content.checksum(distinct().filter_map(|at| event.tags.get(at).map(Tag::as_str)))
    }

    /// The checksum of the event at this position and time.
    pub fn at(self, position: Position, recorded_at: Timestamp) -> EventChecksum {
        let mut place = [0; 16];
        let (first, last) = place.split_at_mut(8);
        first.copy_from_slice(&position.get().to_le_bytes());
        last.copy_from_slice(&recorded_at.as_micros().to_le_bytes());
        EventChecksum(add(self.0, &place))
    }
}

/// A place in one history of one log: the position, and the checksum of the event there.
///
/// An older copy of a log that is put back keeps its identity, and can get other events at the same
/// positions. The checksum of one event distinguishes the two histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryPoint {
    /// The log and its history.
    pub log: LogIdentity,
    /// The position.
    pub position: Position,
    /// Checksum of the event at the position.
    pub checksum: EventChecksum,
}

fn rest(event: &RawEvent) -> Rest<'_> {
    let Metadata { occurred_at, correlation, causation, actor, extra } = &event.metadata;
    Rest {
        version: event.version,
        id: event.id,
        occurred_at: *occurred_at,
        correlation: *correlation,
        causation: *causation,
        actor: actor.as_deref(),
        extra: extra.iter().map(|(name, value)| (&**name, &**value)).collect(),
    }
}

/// The fields of an event that do not depend on its position, without the tags.
struct Content<'a> {
    event_type: &'a str,
    tags: usize,
    payload: &'a [u8],
    rest: Rest<'a>,
}

impl Content<'_> {
    /// Hashes one piece after another, in an order that never changes. The first piece tells which
    /// others follow, so that two different events never give equal pieces.
    fn checksum<'t>(&self, tags: impl Iterator<Item = &'t str>) -> ContentChecksum {
        let Rest { version, id, occurred_at, correlation, causation, actor, extra } = &self.rest;
        let is_there = [
            id.is_some(),
            occurred_at.is_some(),
            correlation.is_some(),
            causation.is_some(),
            actor.is_some(),
        ];
        let mut head = [0; 17];
        let numbers = [u64::from(*version), self.tags as u64, extra.len() as u64];
        for (bytes, number) in head.chunks_exact_mut(4).zip(numbers) {
            // The cast is safe, because the limits of stores are far below 32 bits.
            bytes.copy_from_slice(&(number as u32).to_le_bytes());
        }
        for (byte, is_there) in head.iter_mut().skip(12).zip(is_there) {
            *byte = u8::from(is_there);
        }
        let mut hash = add(add(0, &head), self.event_type.as_bytes());
        for tag in tags {
            hash = add(hash, tag.as_bytes());
        }
        if let Some(id) = id {
            hash = add(hash, id.as_bytes());
        }
        if let Some(at) = occurred_at {
            hash = add(hash, &at.as_micros().to_le_bytes());
        }
        for id in [correlation, causation].into_iter().flatten() {
            hash = add(hash, id.as_bytes());
        }
        if let Some(actor) = actor {
            hash = add(hash, actor.as_bytes());
        }
        for (name, value) in extra {
            hash = add(add(hash, name.as_bytes()), value.as_bytes());
        }
        ContentChecksum(add(hash, self.payload))
    }
}

/// Adds a piece to the hash so far. The length of the piece counts, too.
#[inline]
fn add(before: u64, piece: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(before, piece)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{append::Append, batch::Read, filter::Filter, memory::Memory, store::Store};

    fn full() -> RawEvent {
        let metadata = Metadata {
            occurred_at: Some(Timestamp::from_micros(-5)),
            correlation: Some(Uuid::from_u128(2)),
            causation: Some(Uuid::from_u128(3)),
            actor: Some("ann".into()),
            extra: [("a".into(), "1".into()), ("b".into(), "2".into())].into(),
        };
        let event = RawEvent::new("opened", "{}").version(2).id(Uuid::from_u128(1));
        let tags = [Tag::new("account", "a"), Tag::new("bank", "b")];
        tags.into_iter().fold(event.metadata(metadata), RawEvent::tag)
    }

    fn at(event: &RawEvent, position: u64, micros: i64) -> EventChecksum {
        ContentChecksum::of(event).at(position.into(), Timestamp::from_micros(micros))
    }

    /// Tokens and databases keep checksums for years, and every store has to give equal ones.
    #[test]
    fn the_checksum_of_a_known_event_never_changes() {
        assert_eq!(at(&RawEvent::new("a", ""), 1, 0).to_string(), "0b91ed047e9eaf86");
        assert_eq!(at(&full(), 7, 1_700_000_000_000_000).to_string(), "994f7a6c6063924b");
        assert_eq!(EventChecksum::from_u64(0x1f).to_string(), "000000000000001f");
    }

    #[test]
    fn the_checksum_covers_every_field_the_position_and_the_time() {
        let changes: [fn(&mut RawEvent); 16] = [
            |_| {},
            |event| event.event_type = "Opened".into(),
            |event| event.version = 3,
            |event| event.tags.reverse(),
            |event| event.tags.truncate(1),
            |event| event.tags = vec![Tag::new("account", "abank:b")],
            |event| event.payload = b"{ }".to_vec(),
            |event| event.id = None,
            |event| event.id = Some(Uuid::from_u128(9)),
            |event| event.metadata.occurred_at = None,
            |event| event.metadata.correlation = None,
            |event| event.metadata.causation = event.metadata.correlation.take(),
            |event| event.metadata.actor = Some("anna".into()),
            |event| event.metadata.actor = None,
            |event| drop(event.metadata.extra.remove("b")),
            |event| drop(event.metadata.extra.insert("a".into(), "12".into())),
        ];
        let changed = changes.map(|change| {
            let mut event = full();
            change(&mut event);
            event
        });
        let mut seen: Vec<_> = changed.iter().map(|event| at(event, 7, 100)).collect();
        seen.extend([at(&full(), 8, 100), at(&full(), 7, 101), EventChecksum::START]);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    fn any_event() -> impl Strategy<Value = RawEvent> {
        let ids = || proptest::option::of(any::<u128>().prop_map(Uuid::from_u128));
        let tag = "[ab]:[a-c]{0,2}".prop_map(|tag| Tag::parse(&tag).unwrap());
        let tags = proptest::collection::vec(tag, 0..5);
        let extra = proptest::collection::btree_map("[a-c]{1,2}", ".{0,5}", 0..3);
        let bytes = proptest::collection::vec(any::<u8>(), 0..600);
        let plain = ("[a-c]{1,3}", 1..4_u32, tags, bytes, ids());
        let times = Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros();
        let rest = (proptest::option::of(times), ids(), ids(), extra);
        (plain, rest).prop_map(|((name, version, tags, payload, id), rest)| {
            let (occurred_at, correlation, causation, extra) = rest;
            let extra =
                extra.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let metadata = Metadata {
                occurred_at: occurred_at.map(Timestamp::from_micros),
                correlation,
                causation,
                actor: None,
                extra,
            };
            RawEvent { event_type: name.into(), version, tags, payload, id, metadata }
        })
    }

    proptest! {
        #[test]
        fn an_event_has_the_same_checksum_before_and_after_it_is_stored(event in any_event()) {
            let store = Store::new(Memory::new());
            let content = ContentChecksum::of(&event);
            pollster::block_on(async {
                let accepted = store.append(Append::event(event)).await.unwrap();
                let expected = content.at(accepted.last, accepted.recorded_at);
                accepted.synced().await.unwrap();
                let batch = store.read(&Filter::everything(), Read::all()).await.unwrap();
                let read = EventChecksum::of(&batch.get(0).unwrap());
                prop_assert_eq!(read, expected);
                prop_assert_eq!(store.checksum(1.into()).await.unwrap(), Some(expected));
                Ok(())
            })?;
        }
    }
}
