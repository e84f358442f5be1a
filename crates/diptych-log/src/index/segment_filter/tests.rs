use proptest::prelude::*;

use super::*;

fn seed() -> Seed {
    Seed::from_bytes(*b"0123456789abcdef")
}

fn group(first: u32, segments: &[Vec<u32>]) -> SegmentFilter {
    let hash = |name: &u32| Name::Tag(&format!("k:{name}")).hash(seed());
    let hashes = segments.iter().map(|names| names.iter().map(hash).collect());
    let hashes: Vec<_> = hashes.map(SegmentHashes::new).collect();
    let marks: Vec<u64> = (0..segments.len() as u64).map(|segment| segment + 100).collect();
    SegmentFilter::parse(encode(first, &marks, of_segments(&hashes), seed()).into()).unwrap()
}

proptest! {
    #[test]
    fn no_segment_that_has_a_name_is_left_out(
        segments in proptest::collection::vec(proptest::collection::vec(0u32..300, 0..200), 16),
    ) {
        let eights: Vec<SegmentFilter> =
            [0, 8].map(|from| group(41 + from as u32, &segments[from..from + 8])).into();
        let marks = [7; 16];
        let bytes = encode(41, &marks, merge(&eights), seed());
        let both = SegmentFilter::parse(bytes.into()).unwrap();
        for name in 0..310 {
            let expected = (0..).zip(&segments).filter(|(_, names)| names.contains(&name));
            let expected = expected.fold(0_u64, |set, (segment, _)| set | 1 << segment);
            let hash = Name::Tag(&format!("k:{name}")).hash(seed());
            prop_assert_eq!(both.find(hash), expected);
            prop_assert_eq!(eights[0].find(hash) | eights[1].find(hash) << 8, expected);
        }
    }

    #[test]
    fn malformed_groups_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        for format in [WITHOUT_SUMS, FORMAT] {
            let mut bytes = [&MAGIC[..], &format.to_le_bytes(), &bytes].concat();
            if bytes.len() > HEADER {
                let checksum = checksum(&bytes);
                bytes[28..SEED].copy_from_slice(&checksum.to_le_bytes());
            }
            if let Some(group) = SegmentFilter::parse(bytes.into()) {
                let _ = (group.find(7), group.entries().take(1000).count(), group.mark(3));
            }
        }
    }
}

#[test]
fn a_tag_a_type_and_a_key_with_one_text_are_different_names() {
    let entries = [Name::Tag("a:1"), Name::Type("paid"), Name::Key("k")];
    let hashes = entries.map(|name| SegmentHashes::new(vec![name.hash(seed())]));
    let bytes = encode(1, &[1, 2, 3], of_segments(&hashes), seed());
    let group = SegmentFilter::parse(bytes.into()).unwrap();
    let set = |name| group.having(NameQuery::One(name));
    assert_eq!([set(Name::Tag("a:1")), set(Name::Type("paid")), set(Name::Key("k"))], [1, 2, 4]);
    assert_eq!([set(Name::Tag("paid")), set(Name::Type("k")), set(Name::Key("a:1"))], [0; 3]);
    let tag = || Filter::tag(diptych_store::Tag::new("a", 1));
    assert_eq!(group.having(NameQuery::Filter(&tag())), 1);
    assert_eq!(group.having(NameQuery::Filter(&Filter::types(["paid", "none"]))), 2);
    assert_eq!(group.having(NameQuery::Filter(&Filter::everything())), u64::MAX);
}

#[test]
fn a_file_that_is_not_whole_is_no_group() {
    let bytes = encode(1, &[9; 8], (0..40).map(|at| (at * 99, 5)), seed());
    assert!(SegmentFilter::parse(bytes.clone().into()).is_some());
    for length in 0..bytes.len() {
        assert!(SegmentFilter::parse(bytes[..length].to_vec().into()).is_none(), "cut at {length}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let whole = SegmentFilter::parse(flipped.into()).is_some_and(|group| group.is_whole());
        assert!(!whole, "bit {bit}");
    }
}

/// A file of format 3 from one of the present format.
fn without_sums(bytes: &[u8]) -> Vec<u8> {
    let Parts { sums, buckets, .. } = SegmentFilter::parts_of(bytes).unwrap();
    let mut older = [&bytes[..sums], &bytes[buckets..]].concat();
    older[8..10].copy_from_slice(&WITHOUT_SUMS.to_le_bytes());
    let checksum = checksum(&older);
    older[28..SEED].copy_from_slice(&checksum.to_le_bytes());
    older
}

fn many() -> impl Iterator<Item = FilterEntry> + Clone {
    (0..5_000_u32).map(|at| (at * 858_993, u64::from(at % 255) + 1))
}

/// Once, each file was read as a whole at the first look-up.
#[test]
fn a_look_up_notices_damage_of_a_page_that_it_reads_and_of_no_other() {
    let bytes = encode(1, &[9; 8], many(), seed());
    let Parts { sums, pages, buckets, .. } = SegmentFilter::parts_of(&bytes).unwrap();
    let (mut noticed, mut unnoticed) = (0, 0);
    for page in 0..pages.unwrap() {
        let mut damaged = bytes.clone();
        let at = (buckets + page * PAGE + 100).min(bytes.len() - 1);
        damaged[at] ^= 1;
        let group = SegmentFilter::parse(damaged.clone().into());
        let group = group.expect("the front is whole");
        assert!(!group.is_damaged(), "nothing was read");
        for (hash, set) in many() {
            // A fresh one has not noticed anything yet.
            let fresh = SegmentFilter { pages: Pages::new(sums, pages).into(), ..group.clone() };
            let found = fresh.find(hash);
            match fresh.is_damaged() {
                true => assert_eq!(found, u64::MAX),
                false => assert_eq!(found, set),
            }
            *(if fresh.is_damaged() { &mut noticed } else { &mut unnoticed }) += 1;
        }
        assert!(!group.is_whole() && group.is_damaged());
    }
    assert!(noticed > 1_000 && unnoticed > noticed, "{noticed} and {unnoticed}");
}

#[test]
fn a_file_without_sums_of_pages_gives_equal_answers() {
    let bytes = encode(1, &[9; 8], many(), seed());
    let older = without_sums(&bytes);
    let group = SegmentFilter::parse(older.clone().into()).unwrap();
    assert!(is_read_whole(&older) && !is_read_whole(&bytes));
    assert!(group.is_whole());
    for (hash, set) in many() {
        assert_eq!((group.find(hash), group.find(hash + 1)), (set, 0));
    }
    assert_eq!(group.entries().collect::<Vec<_>>(), many().collect::<Vec<_>>());
    for at in (0..older.len()).step_by(97) {
        let mut flipped = older.clone();
        flipped[at] ^= 4;
        assert!(SegmentFilter::parse(flipped.into()).is_none(), "byte {at}");
    }
}

#[test]
fn golden_bytes() {
    let bytes = encode(9, &[5, 0], [(0x1000_0000, 1), (0x9000_0000, 3)].into_iter(), seed());
    let expected: &[u8] = &[
        4, 0, 1, 0, 9, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, // header
    ];
    assert_eq!((&bytes[..8], &bytes[8..28]), (&MAGIC[..], expected));
    let marks: &[u8] = &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let body: &[u8] = &[
        0, 0, 0, 0, 2, 0, 0, 0, // buckets
        0, 0, 0, 0x10, 0, 0, 0, 0x90, // hashes
        1, 3, // sets
    ];
    assert_eq!(&bytes[SEED..HEADER], b"0123456789abcdef");
    assert_eq!(&bytes[HEADER..HEADER + 16], marks);
    assert_eq!(bytes[HEADER + 16..HEADER + 20], crc32c::crc32c(body).to_le_bytes());
    assert_eq!(&bytes[HEADER + 20..], body);
    let golden = without_sums(&bytes);
    assert_eq!(&golden[HEADER..], [marks, body].concat());
}
