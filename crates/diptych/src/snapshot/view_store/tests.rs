use std::{cell::Cell, collections::BTreeMap, fmt::Write, io};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, BatchBuilder, CommitBatch, CommitNumber,
    EventStore, Filter, Head, HeadPublisher, KeyedCommit, Limits, LogIdentity, RawEvent, Read,
    ReadCommits, ReadError, Store, Tag, Timestamp, Tracking, encoding,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::*;
use crate::{
    event::{EncodedEvent, Event, EventType, Recorded, SchemaError},
    snapshot::MemorySnapshots,
};

struct NoteTaken;

impl Event for NoteTaken {
    fn types() -> Vec<EventType> {
        vec![EventType::new("happened")]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        Ok(RawEvent::new("happened", "{}"))
    }

    fn decode(_: &EncodedEvent<'_>) -> Result<NoteTaken, SchemaError> {
        Ok(NoteTaken)
    }
}

/// A view as some release of the program has it.
macro_rules! view {
    ($version:expr) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Noting {
            events: u64,
            by_name: BTreeMap<String, u64>,
        }

        impl Fold for Noting {
            type Event = NoteTaken;

            const VERSION: Option<u32> = $version;

            fn apply(&mut self, _: &Recorded<NoteTaken>) {
                self.events += 1;
            }
        }
    };
}

view!(Some(1));

fn view(events: u64) -> Noting {
    Noting { events, by_name: [("a".to_owned(), events), ("b".to_owned(), 1)].into() }
}

fn store_of<F: Fold + Serialize + de::DeserializeOwned>(
    place: &Arc<impl Snapshots>,
    log: LogIdentity,
    keep: usize,
) -> ViewSnapshotStore<F> {
    let policy = Arc::new(SnapshotPolicy::new(10).unwrap());
    ViewSnapshotStore::new(
        policy,
        keep,
        Arc::new(Arc::clone(place)),
        lineage(log, 0),
        "happened".to_owned(),
    )
}

/// A log with an event at every position. Each event shows the history by its `recorded_at`.
struct Endless {
    log: LogIdentity,
    history: i64,
    head: HeadPublisher,
    has_other_writers: bool,
}

fn lineage(log: LogIdentity, history: i64) -> Arc<Lineage> {
    let head = HeadPublisher::new(Position::MAX);
    Arc::new(Lineage::new(Store::new(Endless { log, history, head, has_other_writers: false })))
}

impl EventStore for Endless {
    fn identity(&self) -> LogIdentity {
        self.log
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn head(&self) -> Head {
        self.head.head()
    }

    fn has_other_writers(&self) -> bool {
        self.has_other_writers
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.head.publish(at(30), CommitNumber::default());
        Ok(self.head.head().position())
    }

    async fn read(&self, _: &Filter, read: Read) -> Result<Batch, ReadError> {
        let (mut builder, mut bytes) = (BatchBuilder::new(), Vec::new());
        encoding::encode(&RawEvent::new("happened", "{}"), &self.limits(), &mut bytes).unwrap();
        let end = bytes.len() as u32;
        let chunk = builder.chunk(bytes.into());
        let recorded_at = Timestamp::from_micros(self.history);
        builder.push(read.after.plus(1), recorded_at, chunk, 0, end).unwrap();
        Ok(builder.finish(read.upto, read.upto))
    }

    async fn commits(&self, _: ReadCommits) -> Result<CommitBatch, ReadError> {
        unreachable!("no commit is read")
    }

    async fn append(&self, _: Append) -> Result<AcceptedCommit, AppendError> {
        unreachable!("nothing is written")
    }

    async fn last(&self, _: &Filter, _: Position) -> Result<Option<Position>, ReadError> {
        unreachable!("nothing is looked up")
    }

    async fn count(&self, _: &Tag, _: Position) -> Result<u64, ReadError> {
        unreachable!("nothing is looked up")
    }

    async fn keyed(&self, _: &str) -> Result<Option<KeyedCommit>, ReadError> {
        unreachable!("nothing is looked up")
    }

    async fn tracked(&self, _: &str) -> Result<Option<Tracking>, ReadError> {
        unreachable!("nothing is looked up")
    }
}

fn at(position: u64) -> Position {
    Position::new(position)
}

/// The position and the state of the newest, in a log that ends there.
fn newest<F: Fold>(snapshots: &ViewSnapshotStore<F>, head: u64) -> Option<(u64, F)> {
    upto(snapshots, head, head)
}

fn upto<F: Fold>(snapshots: &ViewSnapshotStore<F>, upto: u64, head: u64) -> Option<(u64, F)> {
    let kept = snapshots.newest(at(upto), at(head))?;
    Some((kept.position.get(), kept.fold))
}

fn positions<F: Fold>(snapshots: &ViewSnapshotStore<F>) -> Vec<u64> {
    snapshots.positions().unwrap().into_iter().map(Position::get).collect()
}

fn names(place: &impl Snapshots) -> Vec<String> {
    place.names("").unwrap()
}

#[test]
fn the_newest_that_is_not_too_new_is_found() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    let snapshots = store_of::<Noting>(&place, log, 8);
    assert_eq!(newest(&snapshots, u64::MAX), None);
    assert_eq!(positions(&snapshots), [0; 0]);
    for position in [100, 9, 1_000_000_000_000, 10, 99] {
        snapshots.save(&view(position), at(position), 0).unwrap();
    }
    assert_eq!(positions(&snapshots), [9, 10, 99, 100, 1_000_000_000_000]);
    const LAST: u64 = 1_000_000_000_000;
    for (asked, found) in [(9, 9), (10, 10), (11, 10), (98, 10), (99, 99), (LAST, LAST)] {
        assert_eq!(upto(&snapshots, asked, u64::MAX), Some((found, view(found))), "{asked}");
    }
    assert_eq!(upto(&snapshots, 8, u64::MAX), None);
    let name = &names(&*place)[0];
    assert!(name.starts_with("view-") && name.ends_with("-00000000000000000009"), "{name}");
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name}");
    // A second snapshot at one position replaces the first.
    snapshots.save(&view(7), at(100), 0).unwrap();
    assert_eq!(upto(&snapshots, 100, u64::MAX), Some((100, view(7))));
    assert_eq!(positions(&snapshots).len(), 5);
}

#[test]
fn what_is_damaged_is_skipped_for_an_older_one_and_removed() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    store_of::<Noting>(&place, log, 8).save(&view(10), at(10), 0).unwrap();
    store_of::<Noting>(&place, log, 8).save(&view(20), at(20), 0).unwrap();
    let name = names(&*place).pop().unwrap();
    let bytes = place.load(&name).unwrap().unwrap();
    let mut damaged = Vec::new();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            damaged.push(flipped);
        }
        damaged.push(bytes[..at].to_vec());
        damaged.push(bytes[at + 1..].to_vec());
    }
    damaged.push([bytes.as_slice(), b"\0"].concat());
    damaged.push(vec![0; 1 << 20]);
    // Undamaged, but of another position.
    damaged.push(place.load(&names(&*place)[0]).unwrap().unwrap());
    for bytes in damaged {
        let snapshots = store_of::<Noting>(&place, log, 8);
        place.save(&name, &bytes).unwrap();
        let (found, warnings) = WarningLog::during(|| newest(&snapshots, 100));
        assert_eq!(found, Some((10, view(10))));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("trying an older one"), "{warnings:?}");
        assert!(warnings[0].contains("position=20") && warnings[0].contains("Noting"));
        // The warning comes once, and the snapshot is no longer listed.
        assert_eq!(WarningLog::during(|| newest(&snapshots, 100)), (Some((10, view(10))), vec![]));
        assert_eq!(positions(&snapshots), [10]);
        assert_eq!(names(&*place).len(), 1);
        snapshots.save(&view(30), at(30), 0).unwrap();
        assert_eq!(positions(&snapshots), [10, 30]);
        assert_eq!(names(&*place).len(), 2);
        place.remove(&snapshots.name(at(30))).unwrap();
    }
    let snapshots = store_of::<Noting>(&place, log, 8);
    place.save(&name, &bytes).unwrap();
    assert_eq!(newest(&snapshots, 100), Some((20, view(20))));
}

#[test]
fn one_that_is_written_anew_is_of_use_again() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    let snapshots = store_of::<Noting>(&place, log, 8);
    place.save(&snapshots.name(at(10)), b"?").unwrap();
    assert_eq!(WarningLog::during(|| newest(&snapshots, 10)).1.len(), 1);
    snapshots.save(&view(10), at(10), 0).unwrap();
    assert_eq!(newest(&snapshots, 10), Some((10, view(10))));
}

/// The bytes say another position than the name, and nothing else is wrong with them.
#[test]
fn a_name_and_its_bytes_are_of_one_position() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    let snapshots = store_of::<Noting>(&place, log, 8);
    let name = snapshots.name(at(20));
    let kept = SavedState {
        fold: &view(10),
        position: at(10),
        newest: Timestamp::NEVER,
        payload_bytes: 0,
    };
    let bytes = snapshots.policy.write(log, &name, "happened", kept).unwrap();
    let bytes = bytes.seal(EventChecksum::from_u64(1));
    place.save(&name, &bytes).unwrap();
    let (found, warnings) = WarningLog::during(|| newest(&snapshots, 100));
    assert_eq!(found, None);
    assert!(warnings[0].contains("it is of position 10"), "{warnings:?}");
}

#[test]
fn one_above_the_head_is_kept_if_another_process_wrote_up_to_there() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    let before = store_of::<Noting>(&place, log, 8);
    for position in [10, 20, 30] {
        before.save(&view(position), at(position), 0).unwrap();
    }
    let head = HeadPublisher::new(at(15));
    let store = Store::new(Endless { log, history: 0, head, has_other_writers: true });
    let snapshots = ViewSnapshotStore::<Noting>::new(
        Arc::new(SnapshotPolicy::new(10).unwrap()),
        8,
        Arc::new(place.clone()),
        Arc::new(Lineage::new(store)),
        "happened".to_owned(),
    );
    let (found, warnings) = WarningLog::during(|| newest(&snapshots, 15));
    assert_eq!((found, warnings), (Some((10, view(10))), vec![]));
    assert_eq!(positions(&snapshots), [10, 20, 30]);
    assert_eq!(newest(&snapshots, 30), Some((30, view(30))));
    // Above the true end of the log a snapshot is of no use.
    before.save(&view(40), at(40), 0).unwrap();
    assert_eq!(newest(&snapshots, 30), Some((30, view(30))));
    assert_eq!(positions(&snapshots), [10, 20, 30]);
}

#[test]
fn one_above_the_end_of_the_log_is_skipped_and_removed() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    let before = store_of::<Noting>(&place, log, 8);
    for position in [10, 20, 30] {
        before.save(&view(position), at(position), 0).unwrap();
    }
    let snapshots = store_of::<Noting>(&place, log, 8);
    // A question about the past gives no warning about newer snapshots.
    assert_eq!(WarningLog::during(|| upto(&snapshots, 19, 30)), (Some((10, view(10))), vec![]));
    let (found, warnings) = WarningLog::during(|| newest(&snapshots, 29));
    assert_eq!(found, Some((20, view(20))));
    assert!(warnings[0].contains("of position 30, and the log ends at 29"), "{warnings:?}");
    assert_eq!(names(&*place).len(), 2);
    // The log continues with other events: the removed snapshot must not be used for them.
    assert_eq!(newest(&snapshots, 35), Some((20, view(20))));
    snapshots.save(&view(25), at(25), 0).unwrap();
    assert_eq!(names(&*place).len(), 3);
    assert_eq!(newest(&before, 35), Some((25, view(25))));
}

/// An older copy of a log was put back and grew past the snapshots: it has the same id and epoch,
/// and at their positions other events.
#[test]
fn one_of_a_history_that_is_gone_is_skipped_and_removed() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    let in_history = |history: i64| {
        let policy = Arc::new(SnapshotPolicy::<Noting>::new(10).unwrap());
        let place: Arc<dyn Snapshots> = place.clone();
        ViewSnapshotStore::new(policy, 8, place, lineage(log, history), "happened".to_owned())
    };
    let (before, now) = (in_history(1), in_history(2));
    for position in [10, 20] {
        before.save(&view(position), at(position), 0).unwrap();
    }
    now.save(&view(15), at(15), 0).unwrap();
    let (found, warnings) = WarningLog::during(|| newest(&now, 100));
    assert_eq!(found, Some((15, view(15))));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("at position 20 there is another event"), "{warnings:?}");
    assert_eq!(positions(&now), [10, 15]);
    let (found, warnings) = WarningLog::during(|| upto(&now, 12, 100));
    assert_eq!((found, warnings.len()), (None, 1), "{warnings:?}");
    assert_eq!(names(&*place), [now.name(at(15))]);
}

#[test]
fn those_of_another_log_epoch_or_declaration_are_not_used_and_removed_later() {
    let log = LogIdentity::random();
    let others = [
        LogIdentity { epoch: log.epoch.next(), ..log },
        LogIdentity { id: LogIdentity::random().id, ..log },
    ];
    for other in others {
        let place = Arc::new(MemorySnapshots::default());
        let foreign = store_of::<Noting>(&place, other, 8);
        foreign.save(&view(10), at(10), 0).unwrap();
        foreign.save(&view(20), at(20), 0).unwrap();
        let snapshots = store_of::<Noting>(&place, log, 8);
        let (found, warnings) = WarningLog::during(|| newest(&snapshots, 100));
        assert_eq!((found, warnings.len(), positions(&snapshots)), (None, 1, vec![]));
        assert!(warnings[0].contains("of another log: replaying"), "{warnings:?}");
        assert!(warnings[0].contains("snapshots=2"), "{warnings:?}");
        // Under a name of this log it is refused because of its content.
        let bytes = place.load(&foreign.name(at(20))).unwrap().unwrap();
        place.save(&snapshots.name(at(20)), &bytes).unwrap();
        let (found, warnings) = WarningLog::during(|| newest(&snapshots, 100));
        assert_eq!((found, warnings.len()), (None, 2), "{warnings:?}");
        snapshots.save(&view(15), at(15), 0).unwrap();
        assert_eq!(names(&*place), [snapshots.name(at(15))]);
        assert_eq!(newest(&foreign, 100), None);
    }
    let place = Arc::new(MemorySnapshots::default());
    store_of::<Noting>(&place, log, 8).save(&view(10), at(10), 0).unwrap();
    let policy = Arc::new(SnapshotPolicy::<Noting>::new(10).unwrap());
    let snapshots = ViewSnapshotStore::new(
        policy,
        8,
        place,
        lineage(log, 0),
        "happened, and what became it".to_owned(),
    );
    assert_eq!(newest(&snapshots, 100), None);
}

/// Releases of one program, whose types have one name.
#[test]
fn those_of_another_version_or_executable_are_not_used() {
    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    macro_rules! release {
        ($version:expr) => {{
            view!($version);
            let snapshots = store_of::<Noting>(&place, log, 8);
            let found = newest(&snapshots, 100).map(|(_, view)| view.events);
            snapshots.save(&Noting::default(), at(10), 0).unwrap();
            assert_eq!(names(&*place).len(), 1);
            let again = newest(&snapshots, 100).map(|(_, view)| view.events);
            assert_eq!(again, Some(0));
            found
        }};
    }
    assert_eq!(release!(Some(1)), None);
    assert_eq!(release!(Some(1)), Some(0));
    assert_eq!(release!(Some(2)), None);
    assert_eq!(release!(None), None);
    assert_eq!(release!(None), None, "without a version it is of the very type");
    assert_eq!(release!(Some(2)), None);
    // Another executable differs in its fingerprint only.
    view!(None);
    let mut policy = SnapshotPolicy::<Noting>::new(10).unwrap();
    let ours = ViewSnapshotStore::new(
        Arc::new(SnapshotPolicy::new(10).unwrap()),
        8,
        place.clone(),
        lineage(log, 0),
        String::new(),
    );
    ours.save(&Noting::default(), at(10), 0).unwrap();
    policy.fingerprint[31] ^= 1;
    let theirs =
        ViewSnapshotStore::new(Arc::new(policy), 8, place.clone(), lineage(log, 0), String::new());
    assert_eq!(newest(&theirs, 100), None);
    assert_eq!(newest(&ours, 100), Some((10, Noting::default())));
}

#[test]
fn what_is_not_of_this_view_is_left_alone() {
    #[derive(Default, Serialize, Deserialize)]
    struct Other;

    impl Fold for Other {
        type Event = NoteTaken;

        fn apply(&mut self, _: &Recorded<NoteTaken>) {}
    }

    let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
    let snapshots = store_of::<Noting>(&place, log, 1);
    let other = Arc::new(SnapshotPolicy::<Other>::new(10).unwrap());
    let mine = snapshots.name(at(10));
    let (prefix, digits) = mine.split_at(mine.len() - 20);
    let theirs = [
        ViewSnapshotStore::new(other, 1, place.clone(), lineage(log, 0), String::new()).name(at(5)),
        "0123456789abcdef0123456789abcdef".to_owned(),
        "view-".to_owned(),
        prefix.to_owned(),
        format!("{prefix}99999999999999999999"),
        format!("{prefix}+{}", &digits[1..]),
        format!("{prefix}{}", &digits[1..]),
        format!("{prefix}{digits}0"),
        format!("{prefix}{digits}.tmp"),
        format!("{}x{digits}", &prefix[..prefix.len() - 1]),
        snapshots.view.clone() + "note",
        snapshots.view.clone() + "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
    ];
    for name in &theirs {
        place.save(name, b"theirs").unwrap();
    }
    assert_eq!(WarningLog::during(|| newest(&snapshots, u64::MAX)), (None, vec![]));
    for position in 1..30 {
        snapshots.save(&view(position), at(position), 0).unwrap();
    }
    assert_eq!(positions(&snapshots), [29]);
    let mut expected = theirs.to_vec();
    expected.push(snapshots.name(at(29)));
    expected.sort();
    assert_eq!(names(&*place), expected);
}

thread_local! {
    static MOOD: Cell<&'static str> = const { Cell::new("") };
}

/// A state that can fail or panic when it is written or read.
#[derive(Debug, Default, PartialEq)]
struct Moody(Option<Option<u64>>);

impl Fold for Moody {
    type Event = NoteTaken;

    fn apply(&mut self, _: &Recorded<NoteTaken>) {}
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match MOOD.get() {
            "fails" => Err(ser::Error::custom("no")),
            "panics" => panic!("oh"),
            _ => self.0.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Moody, D::Error> {
        match MOOD.get() {
            "fails" => Err(de::Error::custom("no")),
            "panics" => panic!("oh"),
            _ => Deserialize::deserialize(from).map(Moody),
        }
    }
}

#[test]
fn a_state_that_cannot_be_written_or_read_is_none() {
    for (mood, says) in [("fails", "no"), ("panics", "panicked: oh")] {
        let (place, log) = (Arc::new(MemorySnapshots::default()), LogIdentity::random());
        let moody = store_of::<Moody>(&place, log, 8);
        moody.save(&Moody(Some(Some(1))), at(10), 0).unwrap();
        MOOD.set(mood);
        let reason = moody.save(&Moody(None), at(20), 0).unwrap_err();
        assert!(reason.contains(says), "{reason}");
        assert_eq!(positions(&moody), [10]);
        let (found, warnings) = WarningLog::during(|| newest(&moody, 100));
        assert!(found.is_none() && warnings[0].contains(says), "{warnings:?}");
        MOOD.set("");
        let reason = moody.save(&Moody(Some(None)), at(20), 0).unwrap_err();
        assert!(reason.contains("would be read back as None"), "{reason}");
        assert_eq!(names(&*place), [""; 0], "what cannot be read is removed");
        moody.save(&Moody(Some(Some(1))), at(10), 0).unwrap();
        let found = newest(&store_of::<Moody>(&place, log, 8), 100);
        assert_eq!(found, Some((10, Moody(Some(Some(1))))));
    }
}

/// A place where some operations fail or panic.
#[derive(Default)]
struct TestPlace {
    kept: MemorySnapshots,
    /// The operation that is broken, and whether it "fails" or "panics".
    broken: Mutex<(&'static str, &'static str)>,
    /// If not empty, only operations on this name are broken.
    name: Mutex<String>,
}

impl TestPlace {
    fn asked(&self, what: &str, name: &str) -> io::Result<()> {
        let (broken, how) = *self.broken.lock();
        let only = self.name.lock().clone();
        if broken != what || !(only.is_empty() || only == name) {
            return Ok(());
        }
        assert_ne!(how, "panics", "out of order");
        Err(io::Error::other("out of order"))
    }
}

impl Snapshots for TestPlace {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.asked("load", name)?;
        self.kept.load(name)
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.asked("save", name)?;
        self.kept.save(name, bytes)
    }

    fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.asked("names", prefix)?;
        let mut names = self.kept.names(prefix)?;
        names.reverse();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.asked("remove", name)?;
        self.kept.remove(name)
    }
}

#[test]
fn a_disk_that_fails_costs_nothing_but_time() {
    for how in ["fails", "panics"] {
        let (place, log) = (Arc::new(TestPlace::default()), LogIdentity::random());
        let snapshots = store_of::<Noting>(&place, log, 2);
        let breaks = |what: &'static str| *place.broken.lock() = (what, how);
        for position in [10, 20] {
            snapshots.save(&view(position), at(position), 0).unwrap();
        }
        breaks("save");
        assert!(snapshots.save(&view(30), at(30), 0).unwrap_err().contains("out of order"));
        assert_eq!(newest(&snapshots, 100), Some((20, view(20))));
        breaks("names");
        let (found, warnings) = WarningLog::during(|| newest(&snapshots, 100));
        assert!(found.is_none() && warnings[0].contains("cannot be listed"), "{warnings:?}");
        assert!(snapshots.positions().unwrap_err().contains("out of order"));
        let (saved, warnings) = WarningLog::during(|| snapshots.save(&view(30), at(30), 0));
        assert_eq!((saved, warnings.len()), (Ok(()), 1));
        breaks("remove");
        let (saved, warnings) = WarningLog::during(|| snapshots.save(&view(40), at(40), 0));
        assert_eq!((saved, warnings.len()), (Ok(()), 1));
        assert!(warnings[0].contains("cannot be removed") && warnings[0].contains("out of order"));
        breaks("");
        assert_eq!(positions(&snapshots), [10, 20, 30, 40]);
        assert_eq!(newest(&snapshots, 100), Some((40, view(40))));
        snapshots.save(&view(50), at(50), 0).unwrap();
        assert_eq!(positions(&snapshots).len(), 2);
    }
}

#[test]
fn one_that_cannot_be_read_this_time_is_left_alone() {
    for how in ["fails", "panics"] {
        let (place, log) = (Arc::new(TestPlace::default()), LogIdentity::random());
        let snapshots = store_of::<Noting>(&place, log, 8);
        for position in [10, 20] {
            snapshots.save(&view(position), at(position), 0).unwrap();
        }
        *place.broken.lock() = ("load", how);
        *place.name.lock() = snapshots.name(at(20));
        let (found, warnings) = WarningLog::during(|| newest(&snapshots, 100));
        assert_eq!((found, warnings.len()), (Some((10, view(10))), 1));
        assert!(warnings[0].contains("out of order"), "{warnings:?}");
        // The view goes on from the older one.
        snapshots.save(&view(15), at(15), 0).unwrap();
        assert_eq!(newest(&snapshots, 100), Some((15, view(15))));
        *place.broken.lock() = ("", "");
        assert_eq!(newest(&snapshots, 100), Some((20, view(20))));
        assert_eq!(positions(&snapshots), [10, 15, 20]);
    }
}

/// The positions that are kept after `saves` snapshots, with one each `unit`.
fn after(saves: u64, keep: usize, unit: u64) -> Vec<u64> {
    let mut kept = Vec::new();
    for position in (1..=saves).map(|number| at(number * unit)) {
        kept.push(position);
        let removed = superfluous(kept.clone(), position, keep, unit);
        kept.retain(|kept| !removed.contains(kept));
        assert!(kept.len() <= keep.max(1) && kept.last() == Some(&position));
        assert!(kept.len() == keep.max(1) || removed.is_empty());
    }
    kept.into_iter().map(Position::get).collect()
}

#[test]
fn distances_from_the_newest_about_double() {
    assert_eq!(after(8, 8, 100), [100, 200, 300, 400, 500, 600, 700, 800]);
    assert_eq!(after(50, 1, 7), [350]);
    assert_eq!(after(50, 0, 7), [350]);
    for keep in 4..=16 {
        for saves in [10, 30, 100, 250, 1_000, 3_000] {
            let kept = after(saves, keep, 100_000);
            let units_back = |position: &u64| (saves * 100_000 - position) / 100_000;
            let mut back: Vec<_> = kept.iter().rev().map(units_back).collect();
            // The start of the log counts as a snapshot.
            back.push(saves);
            // The growth from one to the next if it were even.
            let even = ((saves + 1) as f64).powf(1.0 / keep as f64).max(2.0);
            let growth = back.windows(2).map(|pair| (pair[1] + 1) as f64 / (pair[0] + 1) as f64);
            let most = growth.fold(0.0, f64::max);
            assert!(most <= even * even * 2.0, "{keep} {saves} {most} {even} {back:?}");
        }
    }
}

#[test]
fn what_was_just_saved_stays_also_below_the_work_of_another_process() {
    let ten: Vec<_> = (1..=10).map(|number| at(number * 100)).collect();
    for saved in &ten {
        for keep in 0..12 {
            let removed = superfluous(ten.clone(), *saved, keep, 100);
            assert_eq!(removed.len(), 10 - keep.clamp(1, 10));
            assert!(!removed.contains(saved));
            assert!(keep < 2 || !removed.contains(&ten[9]), "{keep} {removed:?}");
        }
    }
    // Two positions are nearly equal: one of them goes, although it is new.
    let close = [31_000, 15_000, 7_000, 3_000, 1_000, 1, 0].map(|back| at(40_000 - back)).to_vec();
    assert_eq!(superfluous(close, at(40_000), 6, 1_000), [at(39_999)]);
    let far = [Position::START, at(1), at(u64::MAX - 1), at(u64::MAX)].to_vec();
    assert_eq!(superfluous(far.clone(), at(1), 4, u64::MAX), []);
    assert_eq!(superfluous(far, at(u64::MAX), 1, 0).len(), 3);
    assert_eq!(superfluous(Vec::new(), at(1), 0, 0), []);
}

/// The warnings that were logged on this thread.
#[derive(Clone, Default)]
struct WarningLog(Arc<Mutex<Vec<String>>>);

impl WarningLog {
    fn during<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
        let heard = WarningLog::default();
        let answer = tracing::subscriber::with_default(heard.clone(), run);
        let warnings = std::mem::take(&mut *heard.0.lock());
        (answer, warnings)
    }
}

impl tracing::Subscriber for WarningLog {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            write!(text, "{field}={value:?} ").unwrap();
        });
        self.0.lock().push(text);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
