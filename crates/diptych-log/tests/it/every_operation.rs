//! One life of a log, stopped at each of its operations on the disk. These operations prepare
//! blocks, write index files and merge them, complete a segment and begin the next one, build
//! groups, and cluster.

use std::{collections::BTreeMap, sync::Arc};

use diptych_log::{
    Background, Log, LogOptions,
    disk::simulated::{Fault, SimulatedDisk},
    verify,
};
use diptych_store::{
    Append, AppendError, Digest, EventStore, Filter, Key, Position, RawEvent, Read, Tag,
};

use crate::seeds::{all, seeds};

const FOLDER: &str = "/data/log";
const COMMITS: u64 = 120;

fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        background: Background::Inline,
        // With these sizes the log prepares blocks now and then and fills more than nine segments,
        // which makes a group. Each segment has several index files.
        segment_bytes: 9_000,
        index_bytes: 2_500,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn key(number: u64) -> String {
    format!("key {number}")
}

/// Commits until the disk stops, and returns how many commits were acknowledged.
fn live(disk: &SimulatedDisk) -> u64 {
    let Ok(log) = Log::open(FOLDER, options(disk)) else { return 0 };
    let begun = log.head().position().get();
    for number in begun..COMMITS {
        let event = RawEvent::new("counted", vec![number as u8; 700]);
        let event = event.tag(Tag::new("five", number % 5)).tag(Tag::new("own", number));
        let append = Append::event(event).key(Key::new(key(number), Digest([number as u8; 16])));
        match log.blocking().commit(append) {
            Ok(_) => {}
            Err(AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_)) => return number,
            Err(error) => panic!("commit {number}: {error}"),
        }
    }
    let _ = log.close();
    COMMITS
}

/// Checks that every acknowledged commit is there, whole and in order, and that look-ups find it.
/// Beside these there may be only the commit that was being written.
fn check(disk: &SimulatedDisk, acknowledged: u64, when: &str) {
    let log = Log::open(FOLDER, options(disk)).unwrap_or_else(|error| panic!("{when}: {error}"));
    let head = log.head().position().get();
    assert!(head == acknowledged || head == acknowledged + 1, "{when}: {head} of {acknowledged}");
    let events = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    for (number, event) in (0..).zip(events.iter()) {
        assert_eq!(event.position(), Position::new(number + 1), "{when}");
        assert_eq!(event.payload(), [number as u8; 700], "{when}");
    }
    assert_eq!(events.len() as u64, head, "{when}");
    for five in 0..5 {
        let found = log.blocking().read(&Filter::tag(Tag::new("five", five)), Read::all()).unwrap();
        let expected = (0..head).filter(|number| number % 5 == five).count();
        assert_eq!(found.len(), expected, "{when}");
    }
    for number in 0..COMMITS {
        let found = log.blocking().keyed(&key(number)).unwrap().map(|commit| commit.first);
        let expected = (number < head).then(|| Position::new(number + 1));
        assert_eq!(found, expected, "{when}: key {number}");
    }
    log.close().unwrap();
    if let Err(error) = verify(FOLDER, &options(disk), |_, _| {}) {
        panic!("{when}: {error:?}");
    }
}

/// The second open sees writes of the first life that are not durable. It must make nothing durable
/// that rests on them.
#[test]
fn a_log_outlives_a_kill_a_stopped_open_and_a_loss_of_power_at_every_operation() {
    let seeds = seeds(100).end.div_ceil(100);
    let whole = SimulatedDisk::new(0);
    assert_eq!(live(&whole), COMMITS);
    let operations = whole.operations();
    let mut stopped = 0;
    for (seed, after) in (0..seeds).flat_map(|seed| (0..operations).map(move |at| (seed, at))) {
        let disk = SimulatedDisk::new(seed);
        disk.fail_after(after, Fault::Stop);
        let first = live(&disk);
        let killed = disk.process_kill();
        // An open has about this many operations.
        let second_after = (after * 7 + seed * 11) % 48;
        killed.fail_after(second_after, Fault::Stop);
        // An open that fails acknowledges nothing.
        let acknowledged = live(&killed).max(first);
        let when = format!(
            "seed {seed}, killed at operation {after}: {:?}, stopped at {second_after}: {:?}",
            disk.failures(),
            killed.failures()
        );
        check(&killed.power_loss(seed * 1_000_003 + after), acknowledged, &when);
        stopped += u64::from(killed.is_stopped());
    }
    assert!(stopped > operations / 2, "{stopped} of {operations} opens were stopped");
}

/// The kind of the failed operation, and the ending of the name of its file.
fn kind(failure: &str) -> String {
    let words: Vec<_> = failure.split(' ').collect();
    let operation = words.first().copied().unwrap_or("");
    let path = words.iter().find(|word| word.starts_with('/')).copied().unwrap_or("");
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    format!("{operation} {}", ending.map_or("folder or mark", |(_, ending)| ending))
}

/// By default the process is lost at one operation and the power at the next one; in a longer run,
/// both at each.
#[test]
fn power_and_process_are_lost_at_every_operation() {
    let seeds = seeds(100).end.div_ceil(100);
    let whole = SimulatedDisk::new(0);
    assert_eq!(live(&whole), COMMITS);
    let operations = whole.operations();
    let names: Vec<_> = whole.contents().into_iter().map(|(path, _)| path).collect();
    let has = |ending| names.iter().any(|path| path.to_string_lossy().ends_with(ending));
    assert!(has(".group") && has(".run"), "{names:?}");
    let mut kinds = BTreeMap::<String, u64>::new();
    for (seed, after) in (0..seeds).flat_map(|seed| (0..operations).map(move |at| (seed, at))) {
        let disk = SimulatedDisk::new(seed);
        disk.fail_after(after, Fault::Stop);
        let acknowledged = live(&disk);
        if let Some(failure) = disk.failures().first() {
            *kinds.entry(kind(failure)).or_default() += 1;
        }
        let when = format!("seed {seed}, cut off at operation {after}: {:?}", disk.failures());
        if all() || after.is_multiple_of(2) {
            check(&disk.process_kill(), acknowledged, &format!("{when}, process killed"));
        }
        if all() || !after.is_multiple_of(2) {
            let lost = disk.power_loss(seed * 1_000_003 + after);
            check(&lost, acknowledged, &format!("{when}, power lost"));
            // The log continues on the surviving disk to the end of its life.
            assert_eq!(live(&lost), COMMITS, "{when}");
            check(&lost, COMMITS, &when);
        }
    }
    println!("{operations} operations, each cut off with {seeds} seeds: {kinds:?}");
    for wanted in ["Write seg", "SetSize seg", "Sync seg", "Rename tmp", "Remove run", "Map group"]
    {
        assert!(kinds.keys().any(|kind| kind == wanted), "{wanted} is not among {kinds:?}");
    }
}
