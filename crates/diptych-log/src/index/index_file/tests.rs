//! Tests of the index file.

use diptych_store::Tracking;

use super::*;
use crate::{
    format::frame::take_bytes,
    index::{hash, merge},
};

fn seed() -> Seed {
    Seed::from_bytes(*b"0123456789abcdef")
}

fn sample(events: u32) -> (Columns, Coverage) {
    let mut columns = Columns::new(Position::new(1_001));
    for at in 0..events {
        let tags = [format!("account:{}", at % 37), "tenant:1".to_owned()];
        let offset = 64 + at * 300 + if at > 100 { 70_000 } else { 0 };
        columns.push(offset, ["a", "b", "c"][at as usize % 3], tags.iter().map(String::as_str));
        if at % 5 == 0 {
            let first = columns.first.plus(u64::from(at));
            let commit = KeyedCommit { first, last: first.plus(1), digest: Digest([at as u8; 16]) };
            columns.keys.insert(format!("key {at}").into(), commit);
        }
    }
    let tracking = Tracking::new("billing", 7);
    let coverage = Coverage {
        segment: 4,
        checksum: 99,
        end: 123_456,
        time: 5,
        proof: 123_460,
        chain: Chain::from_u64(7),
        tracking: [("billing".into(), (tracking, Position::new(2)))].into(),
    };
    (columns, coverage)
}

#[test]
fn an_encoded_file_decodes_to_the_same_columns() {
    for events in [0, 1, 63, 64, 65, 1_000] {
        let (columns, coverage) = sample(events);
        let (run, read) = IndexFile::parse(encode(&columns, &coverage, seed()).into()).unwrap();
        assert_eq!((run.columns(), read), (columns.clone(), coverage));
        for (low, high) in [(0, u32::MAX), (1, 62), (3, 64), (64, 64), (70, 900), (900, 5)] {
            let expected = (low..events).take_while(|at| *at <= high);
            let expected = expected.filter_map(|at| run.offset(at)).collect();
            assert_eq!(run.offsets(low, high), Some(expected), "{low}..={high}");
        }
        for at in 0..events {
            assert_eq!(run.offset(at), Some(columns.offsets[at as usize]));
            assert_eq!(run.type_at(at), Some(columns.types[at as usize]));
        }
        for (tag, positions) in &columns.tags {
            assert_eq!(run.postings(tag).unwrap().to_vec(), positions.to_vec());
        }
        assert!(run.postings("account:none").is_none() && run.key("none").is_none());
        assert_eq!(run.key("key 0"), columns.keys.get("key 0").copied());
    }
}

/// Once, a number of slots that was far too large made a search through the table take a
/// minute, and a number of events made a merge take all memory.
#[test]
fn a_file_whose_sections_have_no_room_for_its_numbers_is_no_index() {
    let (columns, coverage) = sample(100);
    let bytes = encode(&columns, &coverage, seed());
    let forged = |at: usize, number: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..80]);
        let checksum = crc32c::crc32c_append(checksum, &bytes[SEED..]);
        bytes[80..84].copy_from_slice(&checksum.to_le_bytes());
        IndexFile::parse(bytes.into())
    };
    let is_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    for (at, what) in [(20, "events"), (72, "slots of tags"), (76, "slots of keys")] {
        assert!(forged(at, is_at(at)).is_some(), "{what}");
        for number in [101, 1 << 30, u32::MAX] {
            assert!(forged(at, number).is_none(), "{number} {what}");
        }
    }
    for section in 0..6 {
        assert!(forged(48 + section * 4, u32::MAX).is_none(), "section {section}");
    }
    assert!(forged(48, 0).is_none(), "a section in the header");
    // Once, the events of a block that lies nowhere were left out of reads.
    assert!(forged(HEADER, is_at(HEADER)).is_some(), "the first block of offsets");
    assert!(forged(HEADER, 10_000).is_none(), "the first block of offsets lies nowhere");
}

/// Once, verification went through the entries of such a file, and found nothing wrong.
#[test]
fn a_file_whose_slots_lead_elsewhere_does_not_find_each_name() {
    let (columns, coverage) = sample(100);
    let whole = encode(&columns, &coverage, seed());
    let parsed = IndexFile::parse(whole.clone().into()).unwrap().0;
    assert!(parsed.finds_each_name());
    let mut forged = whole;
    forged[SEED] ^= 1;
    let checksum = crc32c::crc32c(&forged[..80]);
    let checksum = crc32c::crc32c_append(checksum, &forged[SEED..]);
    forged[80..84].copy_from_slice(&checksum.to_le_bytes());
    let forged = IndexFile::parse(forged.into()).unwrap().0;
    assert_eq!(forged.columns(), parsed.columns());
    assert!(forged.postings("tenant:1").is_none() && !forged.finds_each_name());
}

#[test]
fn a_file_that_is_not_whole_is_no_index() {
    let (columns, coverage) = sample(50);
    let bytes = encode(&columns, &coverage, seed());
    for length in 0..bytes.len() {
        assert!(IndexFile::parse(bytes[..length].to_vec().into()).is_none(), "cut at {length}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(IndexFile::parse(flipped.into()).is_none(), "bit {bit}");
    }
}

#[test]
fn golden_bytes() {
    let mut columns = Columns::new(Position::new(3));
    columns.push(64, "paid", ["a:1"].into_iter());
    let coverage = Coverage {
        segment: 2,
        checksum: 9,
        end: 90,
        time: 6,
        proof: 95,
        chain: Chain::from_u64(0x0102_0304_0506_0708),
        ..Coverage::default()
    };
    let bytes = encode(&columns, &coverage, seed());
    assert_eq!(&bytes[..16], b"DIPTYIDX\x03\0\x01\0\x02\0\0\0");
    assert_eq!(
        bytes[16..48],
        [
            9, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0,
            0, 0, 0
        ]
    );
    let body: &[u8] = &[
        0, 0, 0, 0, 64, 0, 0, 0, 2, 0, 0, // offsets
        0, // types
        1, 4, b'p', b'a', b'i', b'd', // names
        1, 0, 0, 0, 3, b'a', b':', b'1', 1, 0, // tags
        0, // tracking
    ];
    assert_eq!(&bytes[SEED..104], b"0123456789abcdef");
    assert_eq!(bytes[104..HEADER], [95, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(&bytes[HEADER..], body);
}

/// Average number of slots between the first slot that is tried for a name of a table and the
/// slot that has it. This is the cost of adding a name and of looking it up.
fn steps(seed: Seed, kind: NameKind, table: &[u8], slots: usize) -> f64 {
    let (mut steps, mut names) = (0, 0);
    for slot in (0..slots).filter(|slot| u32_in(table, *slot) != Some(0)) {
        let place = u32_in(table, slot).unwrap() as usize - 1;
        let (name, _) = take_bytes(&table[slots * 4 + place..]).unwrap();
        let first = hash::hash(seed, kind, name) as usize;
        steps += slot.wrapping_sub(first) & (slots - 1);
        names += 1;
    }
    steps as f64 / f64::from(names)
}

/// Once, names that a user had crafted to share one CRC-32C all fell on one slot: an index of
/// 400,000 events took 26 seconds instead of 0.8, because each tag passed all before it.
#[test]
fn crafted_names_do_not_collide() {
    const NAMES: usize = 20_000;
    let names = hash::tests::of_one_crc(NAMES);
    let (one, other) = names.split_at(NAMES / 2);
    let runs = [hostile(1, one), hostile(1 + one.len() as u64, other)];
    let merged = merge::merge(&runs, &Coverage::default(), Seed::random()).unwrap();
    let (merged, _) = IndexFile::parse(merged.into()).unwrap();
    assert_eq!((merged.tags().count(), merged.keys().count()), (NAMES, NAMES));
    for run in runs.iter().chain([&merged]) {
        let tags = steps(run.seed, NameKind::Tag, run.section(3), run.tag_slots);
        let keys = steps(run.seed, NameKind::Key, run.section(4), run.key_slots);
        // A table that is at most two thirds full needs fewer than 1.5 steps.
        assert!(tags < 2.0 && keys < 2.0, "{tags} steps for a tag, {keys} for a key");
    }
}

/// An index with one event for each of these names. The name is the event's tag and its key.
fn hostile(first: u64, names: &[String]) -> IndexFile {
    let mut columns = Columns::new(Position::new(first));
    for (at, name) in (0..).zip(names) {
        columns.push(64 + at * 100, "paid", [&**name].into_iter());
        let first = columns.first.plus(u64::from(at));
        let commit = KeyedCommit { first, last: first, digest: Digest([0; 16]) };
        columns.keys.insert(name.as_str().into(), commit);
    }
    let encoded = encode(&columns, &Coverage::default(), Seed::random());
    IndexFile::parse(encoded.into()).unwrap().0
}
