use std::convert::Infallible;

use diptych_store::{
    Digest, Epoch, Key, Limits, LogId, LogIdentity, Position, RawEvent, Tag, Timestamp, encoding,
};
use proptest::prelude::*;

use super::*;
use crate::format::frame::{SECTION, SYNCED, Section};

fn header() -> Header {
    Header {
        format: crate::format::segment::FORMAT,
        order: Order::Arrival,
        sequence: 3,
        identity: LogIdentity {
            id: LogId::from_bytes(*b"0123456789abcdef"),
            epoch: Epoch::from_u64(0x0000_0002_aabb_ccdd),
        },
        base: Position::new(1_000),
        base_time: Timestamp::from_micros(5),
    }
}

/// A record of a segment: an event with these tags, or a control record.
#[derive(Clone, Debug)]
struct Record {
    tags: Option<Vec<u8>>,
    payload: usize,
    flags: u8,
}

fn put(out: &mut Vec<u8>, flags: u8, position: u32, time: u64, body: &[u8]) {
    let start = out.len();
    let fill = |out: &mut Vec<u8>| {
        out.extend_from_slice(body);
        Ok::<_, Infallible>(())
    };
    frame::prepare(out, flags, fill).unwrap();
    frame::complete(&mut out[start..], position, time, header().checksum());
    if flags & SYNCED != 0 {
        frame::mark_synced(&mut out[start..], header().checksum());
    }
}

fn event(tags: &[u8], payload: usize) -> RawEvent {
    let tags = tags.iter().map(|number| Tag::new("k", number));
    tags.fold(RawEvent::new("t", vec![7; payload]), RawEvent::tag)
}

fn segment(records: &[Record], zeros: usize) -> Vec<u8> {
    let mut out = header().encode().to_vec();
    let mut position = 0;
    for (at, record) in records.iter().enumerate() {
        let mut body = Vec::new();
        let last = if at + 1 == records.len() { LAST } else { 0 };
        let Some(tags) = &record.tags else {
            put(&mut out, record.flags | CONTROL | LAST, position, at as u64 / 3, &[1]);
            continue;
        };
        let mut flags = record.flags | last;
        if record.payload % 3 == 0 {
            let key = Key::new("request", Digest([record.payload as u8; 16]));
            Section { key: Some(key), tracking: None }.encode(&mut body);
            flags |= SECTION;
        }
        encoding::encode(&event(tags, record.payload), &Limits::default(), &mut body).unwrap();
        put(&mut out, flags, position, at as u64 / 3, &body);
        position += 1;
    }
    out.resize(out.len() + zeros, 0);
    out
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let tags = proptest::collection::vec(0_u8..6, 0..4);
    let flags = prop_oneof![Just(0), Just(LAST), Just(LAST | SYNCED), Just(SYNCED)];
    let record = (proptest::option::weighted(0.9, tags), 0..40_usize, flags)
        .prop_map(|(tags, payload, flags)| Record { tags, payload, flags });
    proptest::collection::vec(record, 0..60)
}

/// Positions and tags of the events in a segment, in the order of their frames.
fn events(bytes: &[u8]) -> Vec<(u32, Vec<String>)> {
    let mut found = Vec::new();
    walk(bytes, Header::parse(bytes).unwrap().checksum(), |_, frame| {
        if !frame.has(CONTROL) {
            let content = frame.content().unwrap();
            let fields = Fields::new(content, Layout::of(content).unwrap());
            found.push((frame.position, fields.tags().map(str::to_owned).collect()));
        }
        Ok(())
    })
    .unwrap();
    found
}

/// The order that the documentation of `cluster` describes, computed step by step.
fn expected_order(events: &[(u32, Vec<String>)]) -> Vec<u32> {
    let count = |tag: &String| events.iter().filter(|(_, tags)| tags.contains(tag)).count();
    let all: Vec<&String> = events.iter().flat_map(|(_, tags)| tags).collect();
    let first = |tag: &String| all.iter().position(|other| *other == tag);
    let group = |tags: &[String]| {
        let shared = tags.iter().filter(|tag| count(tag) >= 2);
        shared.min_by_key(|tag| (count(tag), first(tag))).cloned()
    };
    let mut groups: Vec<(Option<String>, Vec<u32>)> = Vec::new();
    for (position, tags) in events {
        let of = group(tags);
        match groups.iter_mut().find(|(tag, _)| of.is_some() && *tag == of) {
            Some((_, events)) => events.push(*position),
            None => groups.push((of, vec![*position])),
        }
    }
    groups.into_iter().flat_map(|(_, events)| events).collect()
}

proptest! {
    #[test]
    fn clustering_and_restoring_gives_the_same_bytes(records in records(), zeros in 0..40_usize) {
        let bytes = segment(&records, zeros);
        let clustered = cluster(&bytes).unwrap();
        prop_assert_eq!(clustered.bytes.len(), bytes.len());
        prop_assert_eq!(&*arrival_bytes(&clustered.bytes).unwrap(), &bytes[..]);
        prop_assert_eq!(is_clustering_of(&clustered.bytes, &bytes), Ok(true));
        let restored = arrival_bytes(&bytes).unwrap();
        let borrowed = matches!(restored, Cow::Borrowed(same) if same == bytes);
        prop_assert!(borrowed);

        let arrived = in_arrival_order(&clustered.bytes).unwrap();
        prop_assert_eq!(arrived.header, header());
        prop_assert_eq!(arrived.offsets.as_ref(), Some(&clustered.offsets));
        let order: Vec<u32> = events(&clustered.bytes).iter().map(|(at, _)| *at).collect();
        prop_assert_eq!(order, expected_order(&events(&bytes)));
        for (position, offset) in (0..).zip(&clustered.offsets) {
            let rest = &clustered.bytes[*offset as usize..];
            let frame = frame::parse(rest, clustered.header.checksum()).unwrap();
            prop_assert!(frame.position == position && !frame.has(CONTROL));
        }
    }

    #[test]
    fn bytes_that_are_cut_or_put_together_wrongly_are_never_misread(
        records in records(),
        at in any::<proptest::sample::Index>(),
        twice in any::<bool>(),
    ) {
        let bytes = segment(&records, 0);
        let clustered = cluster(&bytes).unwrap().bytes;
        let mut starts = Vec::new();
        walk(&clustered, header().in_order(Order::Clustered).checksum(), |start, frame| {
            starts.push(start..start + frame.size());
            Ok(())
        }).unwrap();
        prop_assume!(!starts.is_empty());
        let range = starts[at.index(starts.len())].clone();
        let is_control = frame::peek(clustered[range.start..].first_chunk().unwrap())
            .unwrap().flags & CONTROL != 0;
        let mut spoilt = clustered.clone();
        if twice {
            spoilt.extend_from_slice(&clustered[range.clone()]);
        } else {
            spoilt.drain(range.clone());
        }
        match arrival_bytes(&spoilt) {
            Err(_) => {}
            // If the missing record was the last one, nothing in the segment shows that it is
            // missing.
            Ok(found) => {
                let shorter = bytes.starts_with(&found);
                let only_control = starts.len() == 1 || events(&clustered).is_empty();
                prop_assert!(shorter || is_control || only_control, "misread");
                prop_assert!(!twice || is_control);
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let record =
        |tags: Option<&[u8]>, flags| Record { tags: tags.map(<[u8]>::to_vec), payload: 5, flags };
    let records = [
        record(None, LAST),
        record(Some(&[1, 2]), LAST | SYNCED),
        record(Some(&[3]), LAST),
        record(None, LAST),
        record(Some(&[2, 1]), LAST),
        record(Some(&[]), LAST),
    ];
    let bytes = segment(&records, 20);
    let clustered = cluster(&bytes).unwrap().bytes;
    assert_ne!(events(&bytes), events(&clustered));
    for bit in 0..bytes.len() * 8 {
        let flip = |bytes: &[u8]| {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        };
        assert!(arrival_bytes(&flip(&clustered)).is_err(), "bit {bit}");
        assert!(is_clustering_of(&flip(&clustered), &bytes).is_err(), "bit {bit}");
        assert_eq!(is_clustering_of(&clustered, &flip(&bytes)), Ok(false), "bit {bit}");
        assert!(cluster(&flip(&bytes)).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() - 20 {
        let found = arrival_bytes(&clustered[..length]);
        assert!(found.is_err() || bytes.starts_with(&found.unwrap()), "cut at {length}");
        let shorter = is_clustering_of(&clustered[..length], &bytes);
        assert!(!shorter.is_ok_and(|is| is), "cut at {length}");
        assert_eq!(is_clustering_of(&clustered, &bytes[..length]), Ok(false), "cut at {length}");
    }
}

#[test]
fn golden_bytes() {
    let mut bytes = header().encode().to_vec();
    put(&mut bytes, CONTROL | LAST, 0, 0, &[1]);
    for (position, tags) in [&[1, 9][..], &[2, 9], &[1, 9]].into_iter().enumerate() {
        let mut body = Vec::new();
        encoding::encode(&event(tags, 1), &Limits::default(), &mut body).unwrap();
        put(&mut bytes, LAST, position as u32, 2, &body);
    }
    put(&mut bytes, CONTROL | LAST, 3, 2, &[3]);
    let clustered = cluster(&bytes).unwrap();
    let header = &clustered.bytes[..segment::HEADER];
    assert_eq!(&header[..16], b"DIPTYSEG\x02\0\x01\0\x03\0\0\0");
    let expected: &[&[u8]] = &[
        // Both control records, of positions 0 and 3.
        b"\x01\0\0\0\0\0\x09\0\0\0\0\0\x01",
        b"\x01\0\0\x03\0\0\x29\0\0\0\0\0\x03",
        // Events 0 and 2, which share `k:1`, and then event 1. All three have `k:9`.
        b"\x0d\0\0\0\0\0\x21\0\0\0\0\0\0\x01t\x02\x03k:1\x03k:9\x07",
        b"\x0d\0\0\x02\0\0\x21\0\0\0\0\0\0\x01t\x02\x03k:1\x03k:9\x07",
        b"\x0d\0\0\x01\0\0\x21\0\0\0\0\0\0\x01t\x02\x03k:2\x03k:9\x07",
    ];
    let mut rest = &clustered.bytes[segment::HEADER..];
    for expected in expected {
        let (frame, after) = rest.split_at(4 + expected.len());
        assert_eq!(&frame[4..], *expected);
        assert!(frame::parse(frame, clustered.header.checksum()).is_ok());
        rest = after;
    }
    assert!(rest.is_empty());
    assert_eq!(clustered.offsets, [98, 156, 127]);
    assert_eq!(crc32c::crc32c(&clustered.bytes), 3_765_067_811);
}
