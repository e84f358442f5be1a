//! Checks that every log must pass, whatever happened to it before.
//!
//! A failed check panics. A failed read is an error instead, because only the caller knows whether
//! the disk had a fault.

use std::collections::{BTreeMap, BTreeSet};

use diptych_log::{Log, disk::simulated::Random};
use diptych_store::{
    Batch, Direction, EventStore, Filter, FilterItem, Position, RawEvent, Read, ReadError, Tag,
    Timestamp,
};

/// An event from a read of everything. Its position is its index plus 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScannedEvent {
    pub(crate) event: RawEvent,
    pub(crate) recorded_at: Timestamp,
}

/// Reads everything, and checks that positions are dense from 1 to the head and that time never
/// goes back.
pub(crate) fn scan(log: &Log) -> Result<Vec<ScannedEvent>, ReadError> {
    let head = EventStore::head(log).position();
    let mut found: Vec<ScannedEvent> = Vec::new();
    let mut after = Position::START;
    while after < head {
        let read = Read::after(after).upto(head);
        let batch = log.blocking().read(&Filter::everything(), read)?;
        assert!(batch.upto() > after, "a read came no further than {after}");
        assert!(batch.upto() <= head, "a read went beyond the head");
        for event in batch.iter() {
            let expected = found.len() as u64 + 1;
            assert_eq!(event.position().get(), expected, "positions are not dense");
            let recorded_at = event.recorded_at();
            let before = found.last().map(|before| before.recorded_at);
            assert!(before <= Some(recorded_at), "time goes back at {expected}");
            let event = event.to_raw();
            found.push(ScannedEvent { event, recorded_at });
        }
        after = batch.upto();
        assert_eq!(after.get(), found.len() as u64, "a read left events out");
    }
    Ok(found)
}

/// Checks that every kind of look-up gives the same events as a scan of all of them.
pub(crate) fn indexes(
    log: &Log,
    scan: &[ScannedEvent],
    random: &mut Random,
) -> Result<(), ReadError> {
    let mut types = BTreeSet::from(["no-such-type".to_owned()]);
    let mut tags = BTreeSet::from([Tag::new("no-such", "tag")]);
    for ScannedEvent { event, .. } in scan {
        types.insert(event.event_type.to_string());
        tags.extend(event.tags.iter().cloned());
    }
    let (types, tags): (Vec<_>, Vec<_>) = (types.into_iter().collect(), tags.into_iter().collect());
    // A log can have too many tags to check each. The seed decides which tags are checked.
    const TAGS: usize = 24;
    let some_tags: Vec<&Tag> = if tags.len() <= TAGS {
        tags.iter().collect()
    } else {
        (0..TAGS).filter_map(|_| random.pick(&tags)).collect()
    };
    for tag in &some_tags {
        filter(log, scan, &Filter::tag((*tag).clone()), random)?;
        count(log, scan, tag, random)?;
    }
    for name in &types {
        filter(log, scan, &Filter::event_type(name.clone()), random)?;
    }
    for _ in 0..4 {
        let several = item(&types, &tags, random);
        let several = Filter::from(several).or(item(&types, &tags, random));
        filter(log, scan, &several, random)?;
    }
    filter(log, scan, &Filter::everything(), random)?;
    filter(log, scan, &Filter::nothing(), random)?;
    stats(log, scan)
}

/// Checks that the stats are equal to a count of the events.
fn stats(log: &Log, scan: &[ScannedEvent]) -> Result<(), ReadError> {
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    let mut tag_keys: BTreeMap<&str, u64> = BTreeMap::new();
    for ScannedEvent { event, .. } in scan {
        *types.entry(&event.event_type).or_default() += 1;
        event.tags.iter().for_each(|tag| *tag_keys.entry(tag.key()).or_default() += 1);
    }
    let stats = log.blocking().stats()?;
    assert_eq!(stats.head.get(), scan.len() as u64, "the head");
    for (found, counted) in [(&stats.types, types), (&stats.tag_keys, tag_keys)] {
        assert!(found.is_sorted_by(|more, less| more.1 >= less.1), "not most first: {found:?}");
        let found: BTreeMap<&str, u64> =
            found.iter().map(|(name, count)| (&**name, *count)).collect();
        assert_eq!(found, counted, "stats");
    }
    Ok(())
}

/// A filter item with one type or none, and up to two tags.
fn item(types: &[String], tags: &[Tag], random: &mut Random) -> FilterItem {
    let mut item = FilterItem::everything();
    if random.chance(60) {
        item = item.or_type(random.pick(types).unwrap().clone());
    }
    for _ in 0..random.below(3) {
        item = item.and_tag(random.pick(tags).unwrap().clone());
    }
    item
}

fn count(
    log: &Log,
    scan: &[ScannedEvent],
    tag: &Tag,
    random: &mut Random,
) -> Result<(), ReadError> {
    for upto in [some_position(scan, random), Position::MAX] {
        let within = scan.iter().take(usize_of(upto));
        let expected = within.filter(|scanned| scanned.event.tags.contains(tag));
        let counted = log.blocking().count(tag, upto)?;
        assert_eq!(counted, expected.count() as u64, "count of {tag} up to {upto}");
    }
    Ok(())
}

fn filter(
    log: &Log,
    scan: &[ScannedEvent],
    filter: &Filter,
    random: &mut Random,
) -> Result<(), ReadError> {
    let matches = |scanned: &ScannedEvent| {
        let tags = || scanned.event.tags.iter().map(Tag::as_str);
        filter.matches_parts(&scanned.event.event_type, tags)
    };
    let positions = (1..).map(Position::new).zip(scan);
    let all: Vec<Position> =
        positions.filter(|(_, scanned)| matches(scanned)).map(|(position, _)| position).collect();

    let upto = some_position(scan, random);
    for upto in [upto, Position::MAX] {
        let expected = all.iter().rev().find(|position| **position <= upto);
        let last = log.blocking().last(filter, upto)?;
        assert_eq!(last, expected.copied(), "last of {filter} up to {upto}");
    }
    let after = some_position(scan, random);
    let whole = (Position::START, Position::MAX);
    for (after, upto) in [whole, (after, upto.max(after))] {
        let limit = 1 + random.index(40);
        let expected = all.iter().filter(|position| after < **position && **position <= upto);
        let expected: Vec<Position> = expected.copied().collect();
        let read = Read::after(after).upto(upto).limit(limit);
        let found = forwards(log, scan, filter, read.clone())?;
        assert_eq!(found, expected, "{filter} after {after} up to {upto} by {limit}");
        let direction = Direction::Backwards;
        let mut found = backwards(log, scan, filter, Read { direction, ..read })?;
        found.reverse();
        assert_eq!(found, expected, "{filter} after {after} up to {upto} by {limit}, back");
    }
    Ok(())
}

fn forwards(
    log: &Log,
    scan: &[ScannedEvent],
    filter: &Filter,
    mut read: Read,
) -> Result<Vec<Position>, ReadError> {
    let end = read.upto.min(Position::new(scan.len() as u64));
    let mut found = Vec::new();
    while read.after < end {
        let batch = log.blocking().read(filter, read.clone())?;
        assert!(batch.upto() > read.after, "{filter}: no further than {}", read.after);
        take(&batch, scan, &mut found);
        read.after = batch.upto();
    }
    Ok(found)
}

fn backwards(
    log: &Log,
    scan: &[ScannedEvent],
    filter: &Filter,
    mut read: Read,
) -> Result<Vec<Position>, ReadError> {
    read.upto = read.upto.min(Position::new(scan.len() as u64));
    let mut found = Vec::new();
    while read.after < read.upto {
        let batch = log.blocking().read(filter, read.clone())?;
        assert!(batch.upto() <= read.upto, "{filter}: not below {}", read.upto);
        take(&batch, scan, &mut found);
        read.upto = batch.upto().before();
    }
    Ok(found)
}

fn take(batch: &Batch, scan: &[ScannedEvent], found: &mut Vec<Position>) {
    for event in batch.iter() {
        let position = event.position();
        let scanned = &scan[usize_of(position.before())];
        assert_eq!(event.to_raw(), scanned.event, "the event at {position}");
        assert_eq!(event.recorded_at(), scanned.recorded_at, "the time of {position}");
        found.push(position);
    }
}

fn some_position(scan: &[ScannedEvent], random: &mut Random) -> Position {
    Position::new(random.below(scan.len() as u64 + 1))
}

fn usize_of(position: Position) -> usize {
    usize::try_from(position.get()).unwrap_or(usize::MAX)
}
