use diptych_store::{
    Append, RawEvent, Tag,
    encoding::{Fields, Layout},
};

use super::*;
use crate::{
    append::accept::Writes,
    engine::Engine,
    format::frame,
    index::Columns,
    log::Log,
    open::CommitSource,
    options::{Background, Clustering, LogOptions, Tuning},
};

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        index_bytes: 700,
        background: Background::Inline,
        clustering: Clustering::Off,
        ..LogOptions::default()
    }
}

/// Reads every event of every sealed segment, at the offset that the index has for it.
fn read(shared: &SharedState, catalog: &Catalog) -> Vec<(u64, Order)> {
    let mut found = Vec::new();
    for part in catalog.parts.iter().filter(|part| part.segment.is_sealed()) {
        let offsets = part.ask(shared.disk(), |index| index.offsets(0, u32::MAX)).unwrap();
        let published = part.segment.published(shared.disk()).unwrap();
        for offset in offsets.unwrap() {
            let bytes = &published.bytes[offset as usize..];
            let content = frame::parse(bytes, published.head.checksum).unwrap().content().unwrap();
            let fields = Fields::new(content, Layout::of(content).unwrap());
            let number = std::str::from_utf8(fields.payload()).unwrap().parse().unwrap();
            found.push((number, published.head.order));
        }
    }
    found
}

#[test]
fn readers_that_hold_old_parts_still_read_the_old_file() {
    old_parts_read_the_old_file(&options());
}

/// The log unmaps the files of the old parts first, because the new ones were used later. The names
/// of the old files then lead to other files.
#[test]
fn old_parts_read_the_old_file_if_few_files_stay_mapped() {
    let tuning = Tuning { mapped_files: 16, ..Tuning::default() };
    old_parts_read_the_old_file(&LogOptions { tuning, ..options() });
}

fn old_parts_read_the_old_file(options: &LogOptions) {
    let dir = tempfile::tempdir().unwrap();
    let options = || options.clone();
    let log = Log::open(dir.path(), options()).unwrap();
    for number in 1..=1_000_u64 {
        let event = RawEvent::new("counted", number.to_string()).tag(Tag::new("odd", number % 2));
        log.blocking().commit(Append::event(event)).unwrap();
    }
    log.close().unwrap();
    // Clustering begins before any event was read.
    let engine = Engine::open(dir.path(), options(), CommitSource::Users).unwrap();
    let old = engine.shared().catalog();
    engine.cluster_all().unwrap();
    let new = engine.shared().catalog();
    let of_new = read(engine.shared(), &new);
    let of_old = read(engine.shared(), &old);
    let last = of_old.len() as u64;
    assert!(last > 100);
    let as_arrived = (1..=last).map(|number| (number, Order::Arrival));
    assert_eq!(of_old, as_arrived.collect::<Vec<_>>());
    let numbers: Vec<u64> = of_new.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    let clustered = of_new.iter().filter(|(_, order)| *order == Order::Clustered).count() as u64;
    assert!(clustered * 2 > last, "{clustered} of {last}");
    // The index files that clustering wrote fit the new segment files, so an open keeps them.
    let index = |engine: &Engine| {
        let mut names = engine.shared().disk().list(&engine.shared().folders().index).unwrap();
        names.sort();
        names
    };
    let before = index(&engine);
    drop(engine);
    let engine = Engine::open(dir.path(), options(), CommitSource::Users).unwrap();
    assert_eq!(read(engine.shared(), &engine.shared().catalog()), of_new);
    assert_eq!(index(&engine), before);
}

/// The catalog is changed in its place. Its groups must name the parts of their segments as if it
/// had been made anew.
#[test]
fn groups_name_the_parts_of_their_segments_after_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), options(), CommitSource::Users).unwrap();
    let check = |when: &str| {
        let catalog = engine.shared().catalog();
        let files = catalog.filters.iter().map(|span| span.file.clone()).collect();
        let anew = Catalog::new(catalog.parts.clone(), files);
        let spans = |catalog: &Catalog| -> Vec<_> {
            catalog.filters.iter().map(|span| (span.file.first, span.parts.clone())).collect()
        };
        assert_eq!(spans(&catalog), spans(&anew), "{when}");
        catalog.filters.len()
    };
    for number in 1..=2_500_u64 {
        let event = RawEvent::new("counted", number.to_string()).tag(Tag::new("odd", number % 2));
        let _ = pollster::block_on(engine.append(Append::event(event), Writes::Other)).unwrap();
        if number.is_multiple_of(5) {
            engine.flush().unwrap();
            check("written");
        }
    }
    // Groups of 64 and of eight.
    assert!(check("written") > 4);
    engine.cluster_all().unwrap();
    assert!(check("clustered") > 4);
    let first_two = engine.shared().catalog().parts[..2].to_vec();
    let columns = Columns::new(first_two[0].first);
    let one = IndexPart::memory(first_two[0].segment.clone(), columns);
    engine.shared().live_catalog().replace_parts(&first_two, one);
    check("one part in the place of two");
}
