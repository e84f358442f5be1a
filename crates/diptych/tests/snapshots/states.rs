//! Snapshots of decision states. They save reads and never change a result. An unusable snapshot
//! causes a warning and a replay.

use std::{
    cell::Cell,
    io,
    sync::{Arc, mpsc},
};

use diptych::{
    App, AppBuilder, CommandError, Event, ExecuteError, Filter, Fold, Memory, Recorded, StartError,
    Tag, Upcasters,
    event::Upcast,
    snapshot::{MemorySnapshots, SnapshotOptions, Snapshots},
    store::LogIdentity,
};
use diptych_log::{
    Background, Log, LogOptions,
    disk::simulated::{Fault, Operation, SimulatedDisk},
};
use diptych_store::EventStore;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::json;

use crate::support::{
    counted_store::{CountedStore, Warnings, write_event},
    declare::events,
    probe::{HeardEvents, heard, look, say, told},
};

thread_local! {
    static APPLIED: Cell<u64> = const { Cell::new(0) };
}

/// Declares the events and the fold of one release of the program.
macro_rules! ledger {
    ($version:expr, $schema:literal) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Entry {
            page: u64,
            amount: u64,
        }

        events!(Entries { Entry(Entry) = "entered", $schema, [page]; });

        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Ledger {
            sum: u64,
            events: u64,
        }

        impl Fold for Ledger {
            type Event = Entries;

            const VERSION: Option<u32> = $version;

            fn apply(&mut self, event: &Recorded<Entries>) {
                APPLIED.set(APPLIED.get() + 1);
                let Entries::Entry(entry) = &event.event;
                self.sum += entry.amount;
                self.events += 1;
            }
        }
    };
}

ledger!(Some(1), 1);

fn entry(amount: u64) -> Entries {
    Entries::Entry(Entry { page: 1, amount })
}

fn page() -> Filter {
    Filter::tag(Tag::new("page", 1))
}

/// Appends `events` events. The amount of each event equals its position.
fn fill(store: &CountedStore, events: u64) {
    let from = store.inner().head().position().get() + 1;
    for amount in from..from + events {
        write_event(store.inner(), entry(amount).encode().unwrap());
    }
}

fn sum(events: u64) -> Ledger {
    Ledger { sum: events * (events + 1) / 2, events }
}

const EVERY: SnapshotOptions = SnapshotOptions::every(1);

fn over(store: &CountedStore, place: &Arc<MemorySnapshots>) -> AppBuilder {
    App::over(store.store()).snapshots_in(place.clone())
}

/// Starts an app, reads a state and stops. Returns the state and the number of events read.
async fn once<F>(store: &CountedStore, place: &Arc<MemorySnapshots>) -> (F, u64)
where
    F: Fold + Clone + std::fmt::Debug + Serialize + de::DeserializeOwned,
{
    let before = store.events_read();
    let app = over(store, place).snapshots::<F>(EVERY).start().await.unwrap();
    let state = look::<F>(&app, &page()).await.unwrap();
    app.stop().await.unwrap();
    (state, store.events_read() - before)
}

fn kept(place: &MemorySnapshots) -> (String, Vec<u8>) {
    let names = place.names("").unwrap();
    assert_eq!(names.len(), 1);
    let bytes = place.load(&names[0]).unwrap().unwrap();
    (names[0].clone(), bytes)
}

#[tokio::test]
async fn after_a_restart_only_later_events_are_read() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 5_000);
    assert_eq!(once::<Ledger>(&store, &place).await, (sum(5_000), 5_000));
    assert_eq!(once::<Ledger>(&store, &place).await, (sum(5_000), 0));
    fill(&store, 3);
    let app = over(&store, &place).snapshots::<Ledger>(EVERY).start().await.unwrap();
    let before = store.events_read();
    let receipt = app.execute(say::<Ledger, _>(&page(), [entry(5_004)])).await.unwrap();
    assert_eq!((receipt.last().get(), store.events_read() - before), (5_004, 3));
    app.stop().await.unwrap();
    assert_eq!(once::<Ledger>(&store, &place).await, (sum(5_004), 0), "a snapshot lacks an event");
    // Each boundary and each fold has its own snapshot.
    let app = over(&store, &place).snapshots::<Ledger>(EVERY).start().await.unwrap();
    let everything = look::<Ledger>(&app, &Filter::everything()).await.unwrap();
    assert_eq!(everything, sum(5_004));
    let lines = heard::<Entries>(&app, &page()).await.unwrap();
    assert_eq!(lines.len(), 5_004);
    app.stop().await.unwrap();
    assert_eq!(place.names("").unwrap().len(), 2);
    assert_eq!(warnings.take(), [""; 0]);
}

#[tokio::test]
async fn a_state_from_a_snapshot_has_its_former_size() {
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 1_000);
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let app = over(&store, &place).snapshots::<HeardEvents<Entries>>(EVERY);
        let app = app.start().await.unwrap();
        heard::<Entries>(&app, &page()).await.unwrap();
        sizes.push(app.stats().cache.bytes);
        app.stop().await.unwrap();
    }
    assert_eq!(store.events_read(), 1_000);
    assert!(sizes[0] > 10_000 && sizes[0] == sizes[1], "{sizes:?}");
}

#[tokio::test]
async fn state_snapshots_are_stored_beside_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let options = SnapshotOptions::every(100);
    let start = async |snapshots: bool| {
        let app = App::open(dir.path()).unwrap();
        match snapshots {
            true => app.snapshots::<Ledger>(options).start().await.unwrap(),
            false => app.start().await.unwrap(),
        }
    };
    let app = start(true).await;
    let entries: Vec<_> = (1..=150).map(entry).collect();
    for entries in entries.chunks(30) {
        app.execute(say::<Ledger, _>(&page(), entries.to_vec())).await.unwrap();
    }
    app.stop().await.unwrap();
    let files = || std::fs::read_dir(dir.path().join("snapshots")).unwrap().count();
    assert_eq!(files(), 1);
    for (snapshots, applied) in [(true, 30), (false, 150), (true, 30)] {
        APPLIED.set(0);
        let app = start(snapshots).await;
        assert_eq!(look::<Ledger>(&app, &page()).await.unwrap(), sum(150));
        assert_eq!(APPLIED.get(), applied, "the snapshot is of position 120");
        app.stop().await.unwrap();
    }
    assert_eq!(files(), 1, "no unfinished file may be left");
    // A user may delete the snapshots at any time.
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let app = start(true).await;
    assert_eq!(look::<Ledger>(&app, &page()).await.unwrap(), sum(150));
    app.stop().await.unwrap();
    assert_eq!(files(), 1);
}

#[tokio::test]
async fn a_damaged_snapshot_causes_a_replay_with_a_warning() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    assert_eq!(once::<Ledger>(&store, &place).await, (sum(20), 20));
    let (name, bytes) = kept(&place);
    let mut damaged = Vec::new();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            damaged.push(flipped);
        }
        damaged.push(bytes[..at].to_vec());
        damaged.push(bytes[at..].to_vec());
    }
    // `bytes[0..]` is the undamaged snapshot.
    damaged.retain(|damaged| *damaged != bytes);
    damaged.push([bytes.as_slice(), b"\0"].concat());
    damaged.push(bytes.repeat(2));
    damaged.push(vec![0; 1 << 20]);
    for bytes in damaged {
        place.save(&name, &bytes).unwrap();
        assert_eq!(once::<Ledger>(&store, &place).await, (sum(20), 20));
        let warning = warnings.one();
        assert!(warning.contains("a snapshot is of no use: replaying"), "{warning}");
        assert!(warning.contains("Ledger") && warning.contains("tag=page:1"), "{warning}");
    }
    // The replay has written a new snapshot.
    assert_eq!(once::<Ledger>(&store, &place).await, (sum(20), 0));
    assert_eq!(warnings.take(), [""; 0]);
}

#[tokio::test]
async fn a_snapshot_of_another_log_epoch_or_fold_causes_a_replay_with_a_warning() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    once::<Ledger>(&store, &place).await;
    let (name, bytes) = kept(&place);
    let LogIdentity { id, epoch } = EventStore::identity(&store.store());
    let other = LogIdentity::random();
    for identity in [LogIdentity { id, epoch: epoch.next() }, LogIdentity { epoch, ..other }] {
        let other = store.again_as(identity);
        place.save(&name, &bytes).unwrap();
        assert_eq!(once::<Ledger>(&other, &place).await, (sum(20), 20));
        assert!(warnings.one().contains("of another log"));
    }
    // This log has the same identity and is shorter, as after an unnoticed loss of events.
    let shorter = CountedStore::as_log(Memory::new(), LogIdentity { id, epoch }, None);
    fill(&shorter, 19);
    place.save(&name, &bytes).unwrap();
    assert_eq!(once::<Ledger>(&shorter, &place).await, (sum(19), 19));
    let warning = warnings.one();
    assert!(warning.contains("position 20, and the log ends at 19"), "{warning}");
    // These snapshots belong to another fold and to another boundary.
    let others = Arc::new(MemorySnapshots::default());
    let app = over(&store, &others).snapshots::<HeardEvents<Entries>>(EVERY);
    let app = app.snapshots::<Ledger>(EVERY).start().await.unwrap();
    heard::<Entries>(&app, &page()).await.unwrap();
    look::<Ledger>(&app, &Filter::everything()).await.unwrap();
    app.stop().await.unwrap();
    assert_eq!(others.names("").unwrap().len(), 2);
    for other in others.names("").unwrap() {
        place.save(&name, &others.load(&other).unwrap().unwrap()).unwrap();
        assert_eq!(once::<Ledger>(&store, &place).await, (sum(20), 20));
        assert!(warnings.one().contains("made by other code"));
    }
}

/// The releases of one program have types of the same names.
#[tokio::test]
async fn a_snapshot_of_another_fold_version_causes_a_replay_with_a_warning() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    let first = {
        ledger!(Some(1), 1);
        let (state, read) = once::<Ledger>(&store, &place).await;
        assert_eq!((state.sum, read), (210, 20));
        let (state, read) = once::<Ledger>(&store, &place).await;
        assert_eq!((state.sum, read), (210, 0));
        std::any::type_name::<Ledger>()
    };
    assert_eq!(warnings.take(), [""; 0]);
    let second = {
        ledger!(Some(2), 1);
        let (state, read) = once::<Ledger>(&store, &place).await;
        assert_eq!((state.sum, read), (210, 20));
        std::any::type_name::<Ledger>()
    };
    assert!(warnings.one().contains("made by other code"));
    let unsaid = {
        ledger!(None, 1);
        for (read, warned) in [(20, 1), (0, 0)] {
            let (state, events) = once::<Ledger>(&store, &place).await;
            assert_eq!((state.sum, events), (210, read), "the executable is the same");
            assert_eq!(warnings.take().len(), warned);
        }
        std::any::type_name::<Ledger>()
    };
    assert_eq!((first, second), (second, unsaid), "the test needs types of one name");
    assert_eq!(kept(&place).0.len(), 32);
}

#[tokio::test]
async fn a_snapshot_of_another_event_version_causes_a_replay_with_a_warning() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    let first = {
        ledger!(Some(1), 1);
        once::<Ledger>(&store, &place).await;
        std::any::type_name::<Ledger>()
    };
    ledger!(Some(1), 2);
    assert_eq!(first, std::any::type_name::<Ledger>());
    // The snapshot is unusable, and no upcaster reads events of version 1, so the replay fails.
    let app = over(&store, &place).snapshots::<Ledger>(EVERY).start().await.unwrap();
    let error = look::<Ledger>(&app, &page()).await.unwrap_err();
    assert!(error.to_string().contains("entered version 1 is not known"), "{error}");
    assert!(warnings.one().contains("made by other code"));
    app.stop().await.unwrap();
    let double = Upcasters::new().object("entered", 1, |payload| {
        let amount: u64 = payload.get("amount")?.ok_or("no amount")?;
        payload.insert("amount", amount * 2)
    });
    let app = over(&store, &place).upcasters(double).snapshots::<Ledger>(EVERY);
    let app = app.start().await.unwrap();
    assert_eq!(look::<Ledger>(&app, &page()).await.unwrap(), Ledger { sum: 420, events: 20 });
    assert!(warnings.one().contains("made by other code"));
    app.stop().await.unwrap();
}

/// A release adds an upcaster that gives older events to a fold for the first time. An earlier
/// snapshot holds a state without these events. Only the set of upcasters shows this.
#[tokio::test]
async fn a_snapshot_with_other_upcasters_causes_a_replay_with_a_warning() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    let corrected = diptych::store::RawEvent::new("corrected", "{}").tag(Tag::new("page", 1));
    write_event(store.inner(), corrected);
    fill(&store, 1);
    once::<Ledger>(&store, &place).await;
    let split = |_: &diptych::event::EncodedEvent<'_>| {
        Ok(vec![Upcast::json("entered", 1, &json!({ "page": 1, "amount": 1_000 }))?])
    };
    let upcasters = || Upcasters::new().split("corrected", 1, &["entered"], split);
    // The app reads one more event than it folds, to check whether older events lack a tag.
    for (warned, read) in [(1, 23), (0, 1)] {
        let app = over(&store, &place).upcasters(upcasters()).snapshots::<Ledger>(EVERY);
        let app = app.start().await.unwrap();
        let before = store.events_read();
        let state = look::<Ledger>(&app, &page()).await.unwrap();
        assert_eq!(state, Ledger { sum: 210 + 22 + 1_000, events: 22 });
        assert_eq!((warnings.take().len(), store.events_read() - before), (warned, read));
        app.stop().await.unwrap();
    }
}

thread_local! {
    static MOOD: Cell<&'static str> = const { Cell::new("") };
}

/// A fold whose serialisation fails or panics, as `MOOD` says.
#[derive(Clone, Debug, Default, PartialEq)]
struct Moody(u64);

impl Fold for Moody {
    type Event = Entries;

    fn apply(&mut self, _: &Recorded<Entries>) {
        self.0 += 1;
    }
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match MOOD.get() {
            "serialize fails" => Err(ser::Error::custom("no")),
            "serialize panics" => panic!("oh"),
            _ => self.0.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Moody, D::Error> {
        match MOOD.get() {
            "deserialize fails" => Err(de::Error::custom("no")),
            "deserialize panics" => panic!("oh"),
            _ => u64::deserialize(from).map(Moody),
        }
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_or_read_causes_a_replay_with_a_warning() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    for mood in ["serialize fails", "serialize panics"] {
        MOOD.set(mood);
        assert_eq!(once::<Moody>(&store, &place).await, (Moody(20), 20));
        let warning = warnings.one();
        assert!(warning.contains("a state cannot be kept as a snapshot"), "{warning}");
        assert!(warning.contains("no") || warning.contains("panicked: oh"), "{warning}");
        assert_eq!(place.names("").unwrap(), [""; 0]);
    }
    MOOD.set("");
    assert_eq!(once::<Moody>(&store, &place).await, (Moody(20), 20));
    for mood in ["deserialize fails", "deserialize panics"] {
        MOOD.set(mood);
        assert_eq!(once::<Moody>(&store, &place).await, (Moody(20), 20));
        assert!(warnings.one().contains("replaying"));
    }
    MOOD.set("");
    assert_eq!(once::<Moody>(&store, &place).await, (Moody(20), 0));
}

/// An event after the snapshot cannot be folded. The command fails as it would without a snapshot.
#[tokio::test]
async fn an_event_that_cannot_be_folded_is_an_error_after_a_snapshot_too() {
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    once::<Ledger>(&store, &place).await;
    let garbage = diptych::store::RawEvent::new("entered", "?").tag(Tag::new("page", 1));
    write_event(store.inner(), garbage);
    let app = over(&store, &place).snapshots::<Ledger>(EVERY).start().await.unwrap();
    for _ in 0..2 {
        let failed = look::<Ledger>(&app, &page()).await.unwrap_err();
        let ExecuteError::Failed(CommandError::Fold(failed)) = failed else { panic!("{failed}") };
        assert_eq!(failed.position.get(), 21);
    }
    app.stop().await.unwrap();
    assert_eq!(place.load(&kept(&place).0).unwrap().unwrap(), kept(&place).1);
}

/// A snapshot place that records saves. A test can make it fail, panic or wait.
#[derive(Clone, Default)]
struct Place(Arc<PlaceState>);

#[derive(Default)]
struct PlaceState {
    kept: MemorySnapshots,
    mood: Mutex<&'static str>,
    /// A save waits for a message here.
    gate: Mutex<Option<mpsc::Receiver<()>>>,
    /// The position of each saved snapshot, and the head of the log at that time.
    saved: Mutex<Vec<(u64, u64)>>,
    log: Mutex<Option<Log>>,
}

impl Snapshots for Place {
    fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.0.kept.names(prefix)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.kept.remove(name)
    }

    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match *self.0.mood.lock() {
            "fails" => Err(io::Error::other("out of order")),
            "panics" => panic!("out of order"),
            _ => self.0.kept.load(name),
        }
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some(gate) = &*self.0.gate.lock() {
            gate.recv().unwrap();
        }
        match *self.0.mood.lock() {
            "fails" => return Err(io::Error::other("out of order")),
            "panics" => panic!("out of order"),
            _ => self.0.kept.save(name, bytes)?,
        }
        if let Some(log) = &*self.0.log.lock() {
            let at = 8 + 32 + 16 + 8 + name.len();
            let position = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            self.0.saved.lock().push((position, log.head().position().get()));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_failing_snapshot_place_fails_no_command() {
    let (warnings, _listening) = Warnings::listen();
    for mood in ["fails", "panics"] {
        let (store, place) = (CountedStore::new(Memory::new()), Place::default());
        *place.0.mood.lock() = mood;
        let app = App::over(store.store()).snapshots_in(place.clone());
        let app = app.snapshots::<Ledger>(EVERY).start().await.unwrap();
        for amount in 1..=3 {
            app.execute(say::<Ledger, _>(&page(), [entry(amount)])).await.unwrap();
        }
        assert_eq!(look::<Ledger>(&app, &page()).await.unwrap(), sum(3));
        app.stop().await.unwrap();
        let (loads, saves): (Vec<_>, Vec<_>) =
            warnings.take().into_iter().partition(|warning| warning.contains("replaying"));
        assert_eq!((loads.len(), saves.len()), (1, 3), "{loads:?} {saves:?}");
        for warning in loads.iter().chain(&saves) {
            assert!(warning.contains("out of order"), "{warning}");
        }
    }
}

#[tokio::test]
async fn stop_waits_for_a_running_save() {
    let place = Place::default();
    let (say_so, gate) = mpsc::channel();
    *place.0.gate.lock() = Some(gate);
    let app = App::over(Memory::new()).snapshots_in(place.clone());
    let app = app.snapshots::<Ledger>(EVERY).start().await.unwrap();
    app.execute(say::<Ledger, _>(&page(), [entry(1)])).await.unwrap();
    let stop = app.stop();
    tokio::pin!(stop);
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = &mut stop => panic!("stop did not wait for the save"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(place.0.kept.names("").unwrap(), [""; 0]);
    say_so.send(()).unwrap();
    stop.await.unwrap();
    assert_eq!(place.0.kept.names("").unwrap().len(), 1);
}

/// Starts an app over a log that writes only on `flush`. Its snapshot place records the log head.
async fn unwritten(seed: u64) -> (SimulatedDisk, Log, Place, App) {
    let disk = SimulatedDisk::new(seed);
    let options = LogOptions {
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let log = Log::open("/log", options).unwrap();
    let place = Place::default();
    *place.0.log.lock() = Some(log.clone());
    let app = App::over(log.clone()).snapshots_in(place.clone());
    let app = app.snapshots::<Ledger>(EVERY).start().await.unwrap();
    (disk, log, place, app)
}

async fn turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_state_with_unpublished_events_is_not_saved() {
    let (_disk, log, place, app) = unwritten(1).await;
    let mut answers = Vec::new();
    for round in 0..5 {
        for amount in 1..=4 {
            let say = say::<Ledger, _>(&page(), [entry(round * 4 + amount)]);
            if round > 0 || amount == 1 {
                answers.push(app.execute(say).submit().await);
            }
            turns().await;
        }
        log.blocking().flush().unwrap();
    }
    for answer in answers {
        answer.await.unwrap();
    }
    app.stop().await.unwrap();
    let saved = place.0.saved.lock().clone();
    assert_eq!(saved.len(), 17, "{saved:?}");
    assert!(saved.iter().all(|(position, head)| position <= head), "{saved:?}");
    assert!(saved.iter().any(|(position, head)| position < head), "commands must share a commit");
}

#[tokio::test]
async fn a_state_with_unsynced_events_is_never_saved() {
    for seed in 0..20 {
        let (disk, log, place, app) = unwritten(seed).await;
        let first = app.execute(say::<Ledger, _>(&page(), [entry(1)])).submit().await;
        log.blocking().flush().unwrap();
        first.await.unwrap();
        let second = app.execute(say::<Ledger, _>(&page(), [entry(2)])).submit().await;
        turns().await;
        disk.fail_after(0, Fault::Io(Operation::Sync));
        log.blocking().flush().unwrap_err();
        let unknown = second.await.unwrap_err();
        assert!(
            matches!(unknown, ExecuteError::Failed(CommandError::OutcomeUnknown(_))),
            "{unknown}"
        );
        app.stop().await.unwrap_err();
        assert_eq!(*place.0.saved.lock(), [(1, 1)]);
    }
}

#[tokio::test]
async fn snapshots_need_a_place() {
    let app = App::over(Memory::new()).snapshots::<Ledger>(EVERY);
    assert!(matches!(app.start().await, Err(StartError::NoSnapshotPlace)));
    // A place without snapshots of any fold is allowed.
    let place = MemorySnapshots::default();
    App::over(Memory::new()).snapshots_in(place).start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let app = App::open(dir.path()).unwrap().snapshots::<Ledger>(EVERY);
    std::fs::write(dir.path().join("snapshots"), "in the way").unwrap();
    let error = app.start().await.unwrap_err();
    assert!(matches!(error, StartError::SnapshotPlace(_)), "{error}");
    // An app without snapshots starts.
    let app = App::open(dir.path()).unwrap().start().await.unwrap();
    told(&app, &page(), [entry(1)]).await.unwrap();
    app.stop().await.unwrap();
}

/// Regression: a fold got one more field with a default, under the same version. The sum continued
/// from the snapshot, and the largest amount started from zero. The state was half old, half new.
#[tokio::test]
async fn a_field_added_under_the_same_version_causes_a_replay_with_a_warning() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    fill(&store, 20);
    {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Tally {
            sum: u64,
        }

        impl Fold for Tally {
            type Event = Entries;

            const VERSION: Option<u32> = Some(1);

            fn apply(&mut self, event: &Recorded<Entries>) {
                let Entries::Entry(entry) = &event.event;
                self.sum += entry.amount;
            }
        }

        assert_eq!(once::<Tally>(&store, &place).await, (Tally { sum: 210 }, 20));
        assert_eq!(once::<Tally>(&store, &place).await, (Tally { sum: 210 }, 0));
    }
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Tally {
        sum: u64,
        #[serde(default)]
        largest: u64,
    }

    impl Fold for Tally {
        type Event = Entries;

        const VERSION: Option<u32> = Some(1);

        fn apply(&mut self, event: &Recorded<Entries>) {
            let Entries::Entry(entry) = &event.event;
            self.sum += entry.amount;
            self.largest = self.largest.max(entry.amount);
        }
    }

    assert_eq!(warnings.take(), [""; 0]);
    let whole = Tally { sum: 210, largest: 20 };
    assert_eq!(once::<Tally>(&store, &place).await, (whole.clone(), 20));
    let warning = warnings.one();
    assert!(warning.contains("without a new VERSION"), "{warning}");
    assert_eq!(once::<Tally>(&store, &place).await, (whole, 0));
    assert_eq!(warnings.take(), [""; 0]);
}
