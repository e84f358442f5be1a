//! The checksum of an event covers its content and its position, and nothing that the engine adds.
//! Data outside the log may refer to events by this checksum for years.

use diptych_log::{BackupOptions, Clustering, Log, LogOptions, backup, restore};
use diptych_store::{
    Append, EventChecksum, EventStore, Memory, Metadata, Position, RawEvent, Store, Tag,
    TimeSource, Timestamp,
};
use pollster::block_on;

const EVENTS: u64 = 600;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 4096,
        index_bytes: 1500,
        clustering: Clustering::Off,
        time: TimeSource::Caller,
        ..LogOptions::default()
    }
}

/// The commit with the event at this position.
fn commit(position: u64) -> Append {
    let tags = [Tag::new("account", position % 7), Tag::new("all", 1)];
    let actor = position.is_multiple_of(3).then(|| "ann".into());
    let event = RawEvent::new("counted", format!("event {position}")).version(2);
    let event = event.metadata(Metadata { actor, ..Metadata::default() });
    let event = tags.into_iter().fold(event, RawEvent::tag);
    let recorded_at = Some(Timestamp::from_micros(1_000_000 + position as i64));
    Append { recorded_at, ..Append::event(event) }
}

fn checksums(store: &Store) -> Vec<EventChecksum> {
    let at = |position| block_on(store.checksum(Position::new(position))).unwrap().unwrap();
    (0..=EVENTS).map(at).collect()
}

fn of(log: &Log) -> Vec<EventChecksum> {
    checksums(&Store::new(log.clone()))
}

#[test]
fn a_checksum_is_the_same_in_memory_in_files_clustered_reopened_and_restored() {
    let memory = Store::new(Memory::new().time(TimeSource::Caller));
    for position in 1..=EVENTS {
        block_on(async { memory.append(commit(position)).await.unwrap().synced().await }).unwrap();
    }
    let expected = checksums(&memory);
    let distinct = expected.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(distinct.len(), expected.len());

    let dir = tempfile::tempdir().unwrap();
    let [path, copy, restored] = ["log", "backup", "restored"].map(|name| dir.path().join(name));
    let log = Log::open(&path, options()).unwrap();
    for position in 1..=EVENTS {
        let _accepted = log.blocking().append(commit(position)).unwrap();
    }
    log.blocking().flush().unwrap();
    assert_eq!(of(&log), expected, "in the order of arrival");
    log.blocking().cluster().unwrap();
    assert_eq!(of(&log), expected, "clustered");
    let identity = EventStore::identity(&log);
    log.close().unwrap();
    let log = Log::open(&path, options()).unwrap();
    assert_eq!(of(&log), expected, "reopened");
    log.close().unwrap();

    backup(&path, &copy, &BackupOptions::default(), |_, _| {}).unwrap();
    restore(&copy, &restored, &options(), |_, _| {}).unwrap();
    let log = Log::open(&restored, options()).unwrap();
    assert_ne!(EventStore::identity(&log).epoch, identity.epoch);
    assert_eq!(of(&log), expected, "restored, in another epoch");
    log.close().unwrap();
}
