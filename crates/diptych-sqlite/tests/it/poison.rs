//! Projections that name a key: an event that cannot be applied holds back its own keys alone.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Position, Recorded, Tag,
    follow::{ControlError, FollowState, FollowerControl, SkipNote, VersionState},
    store::{Append, RawEvent},
};
use diptych_sqlite::{Projection, Sqlite, SwitchPolicy, Transaction, rusqlite::Connection};

use crate::shop::{Totals, Trade, app, happen, note, reader, sold};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// The sales of each shop. It refuses sales of 666 cents until it is repaired.
#[derive(Clone)]
struct Tills {
    is_repaired: Arc<AtomicBool>,
    key: Option<&'static str>,
    /// Whether each event is committed by itself.
    is_slow: bool,
}

impl Projection for Tills {
    type Event = Trade;

    fn name(&self) -> &str {
        "tills"
    }

    fn key(&self) -> Option<&str> {
        self.key
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        tx.execute_batch("CREATE TABLE till (shop TEXT PRIMARY KEY, cents INTEGER NOT NULL)")?;
        if self.is_slow {
            tx.execute_batch(
                "CREATE TABLE line (shop TEXT REFERENCES till DEFERRABLE INITIALLY DEFERRED)",
            )?;
        }
        Ok(())
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> diptych_sqlite::Result {
        let (shop, cents) = match &event.event {
            Trade::Sold { shop, cents, .. } => (shop, *cents),
            Trade::Returned { shop, cents } => (shop, -*cents),
        };
        if cents == 666 && !self.is_repaired.load(Ordering::SeqCst) {
            return Err("a suspicious sum".into());
        }
        tx.execute(
            "INSERT INTO till VALUES (?1, ?2)
             ON CONFLICT (shop) DO UPDATE SET cents = cents + excluded.cents",
            (shop, cents),
        )?;
        Ok(())
    }
}

fn tills() -> Tills {
    Tills { is_repaired: Arc::default(), key: Some("shop"), is_slow: false }
}

async fn run(log: &App, file: &Path, tills: Tills) -> (App, FollowerControl) {
    let target = Sqlite::at(file).busy_timeout(LONG).projection(tills);
    let app = log.beside().projection(target).start().await.unwrap();
    let control = app.projection("tills").unwrap();
    (app, control)
}

fn rows(file: &Path) -> BTreeMap<String, i64> {
    let report = reader(file);
    let mut rows = report.prepare("SELECT shop, cents FROM till").unwrap();
    let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// The key, position and number of held events of each poisoned key, as readers see them.
fn marks(file: &Path) -> Vec<(String, u64, u64)> {
    let report = reader(file);
    let sql = "SELECT key, position, held FROM diptych_poisoned WHERE projection = 'tills'
               ORDER BY key";
    let mut marks = report.prepare(sql).unwrap();
    let marks = marks.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    marks.collect::<Result<_, _>>().unwrap()
}

fn expected(log: &App) -> BTreeMap<String, i64> {
    let totals = Totals::of(log.store(), log.head());
    totals.shops.into_iter().map(|(shop, (_, cents))| (shop, cents)).collect()
}

fn shop(number: u64) -> Tag {
    Tag::new("shop", format!("shop-{number}"))
}

fn by_me() -> SkipNote {
    SkipNote { who: "ann".to_owned(), why: "it was a test".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_holds_back_its_own_key_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 10), sold(2, 1, 20), sold(1, 1, 666), sold(2, 1, 5), sold(1, 1, 7)]);
    let tills = tills();
    let (app, control) = run(&log, &file, tills.clone()).await;
    assert_eq!(control.caught_up(LONG).await.unwrap(), Position::new(5));
    assert_eq!(rows(&file), BTreeMap::from([("shop-1".to_owned(), 10), ("shop-2".into(), 25)]));
    assert_eq!(marks(&file), [("shop:shop-1".to_owned(), 3, 2)]);
    // It tells that it rests after it has told the position.
    let began = Instant::now();
    while control.status().state != FollowState::Live {
        assert!(began.elapsed() < LONG, "{:?}", control.status());
        thread::yield_now();
    }
    let status = control.status();
    assert_eq!((status.poisoned.len(), status.poisoned[0].held), (1, 2));
    assert!(status.poisoned[0].reason.contains("a suspicious sum"), "{status:?}");

    // The next start knows it.
    app.stop().await.unwrap();
    let (app, control) = run(&log, &file, tills.clone()).await;
    note(&log, [sold(1, 1, 1), sold(2, 1, 1)]);
    control.caught_up(LONG).await.unwrap();
    assert_eq!(marks(&file), [("shop:shop-1".to_owned(), 3, 3)]);

    let again = control.retry_key(&shop(1)).await.unwrap_err();
    assert!(again.to_string().contains("still poisoned"), "{again}");
    assert_eq!(marks(&file), [("shop:shop-1".to_owned(), 3, 3)]);
    tills.is_repaired.store(true, Ordering::SeqCst);
    control.retry_key(&shop(1)).await.unwrap();
    assert_eq!((rows(&file), marks(&file)), (expected(&log), Vec::new()));
    assert_eq!(control.status().poisoned, []);
    let none = control.retry_key(&shop(1)).await.unwrap_err();
    assert!(none.to_string().contains("is not poisoned"), "{none}");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_event_stays_skipped_after_a_rebuild_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 10), sold(1, 1, 666), sold(1, 1, 7)]);
    let (app, control) = run(&log, &file, tills()).await;
    control.caught_up(LONG).await.unwrap();
    control.skip_event(&shop(1), by_me()).await.unwrap();
    let skipped = BTreeMap::from([("shop-1".to_owned(), 17)]);
    assert_eq!((rows(&file), marks(&file)), (skipped.clone(), Vec::new()));
    control.rebuild().await.unwrap();
    control.caught_up(LONG).await.unwrap();
    assert_eq!((rows(&file), marks(&file)), (skipped.clone(), Vec::new()));
    app.stop().await.unwrap();
    let (app, control) = run(&log, &file, tills()).await;
    control.rebuild().await.unwrap();
    control.caught_up(LONG).await.unwrap();
    assert_eq!((rows(&file), marks(&file)), (skipped, Vec::new()));
    assert_eq!(control.status().skipped[0].note, by_me());
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_poisons_its_key_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 10)]);
    let unreadable = RawEvent::new("sold", "no trade").tag(shop(2));
    log.store().append(Append::event(unreadable)).await.unwrap().synced().await.unwrap();
    note(&log, [sold(1, 1, 5), sold(2, 1, 5)]);
    let (app, control) = run(&log, &file, tills()).await;
    assert_eq!(control.caught_up(LONG).await.unwrap(), log.head());
    assert_eq!(rows(&file), BTreeMap::from([("shop-1".to_owned(), 15)]));
    assert_eq!(marks(&file), [("shop:shop-2".to_owned(), 2, 2)]);
    control.skip_event(&shop(2), by_me()).await.unwrap();
    assert_eq!(rows(&file)["shop-2"], 5);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_without_a_key_or_with_another_one_stops() {
    for key in [None, Some("country")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.db");
        let log = app();
        note(&log, [sold(1, 1, 10), sold(1, 1, 666), sold(2, 1, 7)]);
        let (app, control) = run(&log, &file, Tills { key, ..tills() }).await;
        let stopped = control.caught_up(LONG).await.unwrap_err();
        assert!(stopped.to_string().contains("before position 2"), "{stopped}");
        assert_eq!(rows(&file), BTreeMap::from([("shop-1".to_owned(), 10)]));
        let refused = control.retry_key(&shop(1)).await.unwrap_err();
        assert!(matches!(refused, ControlError::Failed { .. }), "{refused}");
        app.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_poisoned_keys_stop_the_projection() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, (1..=101).map(|shop| sold(shop, 1, 666)));
    let (app, control) = run(&log, &file, tills()).await;
    let stopped = control.caught_up(LONG).await.unwrap_err();
    assert!(stopped.to_string().contains("as many keys are poisoned as may be: 100"), "{stopped}");
    assert_eq!(marks(&file).len(), 100);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_isolated_if_each_event_is_committed_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 10), sold(1, 1, 666), sold(2, 1, 7), sold(1, 1, 1)]);
    let slow = Tills { is_slow: true, ..tills() };
    let (app, control) = run(&log, &file, slow.clone()).await;
    control.caught_up(LONG).await.unwrap();
    assert_eq!(rows(&file), BTreeMap::from([("shop-1".to_owned(), 10), ("shop-2".into(), 7)]));
    assert_eq!(marks(&file), [("shop:shop-1".to_owned(), 2, 2)]);
    slow.is_repaired.store(true, Ordering::SeqCst);
    let refused = control.retry_key(&shop(1)).await.unwrap_err();
    assert!(refused.to_string().contains("rebuild the projection"), "{refused}");
    control.rebuild().await.unwrap();
    control.caught_up(LONG).await.unwrap();
    assert_eq!((rows(&file), marks(&file)), (expected(&log), Vec::new()));
    app.stop().await.unwrap();
}

/// At every moment the rows are a fold of all events but the held ones.
#[tokio::test(flavor = "multi_thread")]
async fn rows_marks_and_checkpoint_change_together() {
    let seed = std::env::var("DIPTYCH_SEED").map_or(77, |text| text.parse().unwrap());
    println!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    let mut random = fastrand::Rng::with_seed(seed);
    let tills = tills();
    let (app, control) = run(&log, &file, tills.clone()).await;
    control.caught_up(LONG).await.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let looks = {
        let (store, file, is_done) = (log.store().clone(), file.clone(), is_done.clone());
        thread::spawn(move || {
            let mut looks = 0;
            while !is_done.load(Ordering::SeqCst) {
                let mut report = reader(&file);
                let report = report.transaction().unwrap();
                assert_without_held(&store, &report);
                looks += 1;
            }
            looks
        })
    };
    for _ in 0..60 {
        let events = random.usize(1..40);
        happen(&log, &mut random, events);
        if random.u32(..10) == 0 {
            note(&log, [sold(random.u64(..5), 1, 666)]);
        }
    }
    control.caught_up(LONG).await.unwrap();
    assert!(!marks(&file).is_empty(), "nothing was poisoned");
    tills.is_repaired.store(true, Ordering::SeqCst);
    for poisoned in control.status().poisoned {
        let _ = control.retry_key(&poisoned.key).await;
    }
    is_done.store(true, Ordering::SeqCst);
    assert!(looks.join().unwrap() > 0);
    assert_eq!((rows(&file), marks(&file)), (expected(&log), Vec::new()));
    app.stop().await.unwrap();
}

fn assert_without_held(store: &diptych::Store, report: &Connection) {
    let position: Option<u64> =
        report.query_row("SELECT position FROM diptych_checkpoint", (), |row| row.get(0)).unwrap();
    let at = Position::new(position.unwrap_or(0));
    let mut marks = report.prepare("SELECT key, position FROM diptych_poisoned").unwrap();
    let marks = marks.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)));
    let marks: BTreeMap<_, _> = marks.unwrap().collect::<Result<_, _>>().unwrap();
    let shops = Totals::of(store, at).shops.into_keys();
    let expected: BTreeMap<_, _> = shops
        .filter_map(|shop| {
            let held = marks.get(&format!("shop:{shop}")).map(|at| Position::new(*at).before());
            let totals = Totals::of(store, held.unwrap_or(at));
            Some((shop.clone(), totals.shops.get(&shop)?.1))
        })
        .collect();
    let mut rows = report.prepare("SELECT shop, cents FROM till").unwrap();
    let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let rows: BTreeMap<String, i64> = rows.collect::<Result<_, _>>().unwrap();
    assert_eq!(rows, expected, "at {at}, without {marks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poison_of_a_version_stays_with_it_after_a_switch() {
    #[derive(Clone)]
    struct NextTills(Tills);

    impl Projection for NextTills {
        type Event = Trade;

        fn name(&self) -> &str {
            "tills"
        }

        fn version(&self) -> u32 {
            2
        }

        fn key(&self) -> Option<&str> {
            self.0.key
        }

        fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
            tx.execute_batch("CREATE TABLE till_v2 (shop TEXT, cents INTEGER NOT NULL)")?;
            Ok(())
        }

        fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> diptych_sqlite::Result {
            let Trade::Sold { shop, cents, .. } = &event.event else { return Ok(()) };
            tx.execute("INSERT INTO till_v2 VALUES (?1, ?2)", (shop, cents))?;
            Ok(())
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 10), sold(1, 1, 666)]);
    let (app, control) = run(&log, &file, tills()).await;
    control.caught_up(LONG).await.unwrap();
    app.stop().await.unwrap();
    let target = Sqlite::at(&file).projection(NextTills(tills())).beside(SwitchPolicy::Automatic);
    let app = log.beside().projection(target).start().await.unwrap();
    let control = app.projection("tills").unwrap();
    let began = Instant::now();
    while control.status().versions.first().is_none_or(|it| it.version != 2) {
        assert!(began.elapsed() < LONG, "{:?}", control.status());
        thread::yield_now();
    }
    assert_eq!(marks(&file), [], "the new version has no poisoned key");
    let kept: String = reader(&file)
        .query_row("SELECT projection FROM diptych_poisoned", (), |row| row.get(0))
        .unwrap();
    assert_eq!(kept, "tills@v1");
    app.stop().await.unwrap();
}

/// A second version, which refuses sales of 666 cents as the first one does.
#[derive(Clone)]
struct StrictTills;

impl Projection for StrictTills {
    type Event = Trade;

    fn name(&self) -> &str {
        "tills"
    }

    fn version(&self) -> u32 {
        2
    }

    fn key(&self) -> Option<&str> {
        Some("shop")
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        tx.execute_batch("CREATE TABLE till_v2 (shop TEXT, cents INTEGER NOT NULL)")?;
        Ok(())
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> diptych_sqlite::Result {
        let Trade::Sold { shop, cents, .. } = &event.event else { return Ok(()) };
        if *cents == 666 {
            return Err("too strict".into());
        }
        tx.execute("INSERT INTO till_v2 VALUES (?1, ?2)", (shop, cents))?;
        Ok(())
    }
}

/// Runs the second version beside the first one until it was compared.
async fn strict_beside(log: &App, file: &Path) -> (App, FollowerControl, VersionState) {
    let target = Sqlite::at(file).projection(StrictTills).beside(SwitchPolicy::Automatic);
    let app = log.beside().projection(target).start().await.unwrap();
    let control = app.projection("tills").unwrap();
    let began = Instant::now();
    let state = loop {
        let versions = control.status().versions;
        match versions.into_iter().find(|it| it.version == 2).map(|it| it.state) {
            Some(state) if state != VersionState::Building => break state,
            _ => assert!(began.elapsed() < LONG, "{:?}", control.status()),
        }
        thread::yield_now();
    };
    (app, control, state)
}

/// Regression: a version that refused events took the place of one that had applied them.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_poisoned_in_the_new_version_only_is_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 10), sold(1, 1, 666)]);
    let repaired = tills();
    repaired.is_repaired.store(true, Ordering::SeqCst);
    let (app, control) = run(&log, &file, repaired).await;
    control.caught_up(LONG).await.unwrap();
    app.stop().await.unwrap();
    let (app, _, state) = strict_beside(&log, &file).await;
    let VersionState::Different { difference, .. } = state else { panic!("{state:?}") };
    assert!(difference.contains("is poisoned in version 2 only"), "{difference}");
    assert!(difference.contains("too strict"), "{difference}");
    app.stop().await.unwrap();
}

/// Regression: the new version did not know what was skipped, so it poisoned the key again, was
/// different, and never took the place of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_skipped_stays_skipped_in_a_version_that_is_built_beside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 10), sold(1, 1, 666), sold(1, 1, 7)]);
    let (app, control) = run(&log, &file, tills()).await;
    control.caught_up(LONG).await.unwrap();
    control.skip_event(&shop(1), by_me()).await.unwrap();
    app.stop().await.unwrap();
    let (app, control, state) = strict_beside(&log, &file).await;
    assert_eq!(state, VersionState::Served);
    let status = control.status();
    assert_eq!((status.poisoned, status.skipped[0].note.clone()), (Vec::new(), by_me()));
    control.rebuild().await.unwrap();
    control.caught_up(LONG).await.unwrap();
    assert_eq!(marks(&file), []);
    let cents: Vec<i64> = {
        let report = reader(&file);
        let mut rows = report.prepare("SELECT cents FROM till_v2 ORDER BY rowid").unwrap();
        rows.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(cents, [10, 7]);
    app.stop().await.unwrap();
}

/// Regression: the time of a held event took the place of the time of the last one.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_last_event_stays_when_held_events_are_applied() {
    fn recorded_at(file: &Path) -> String {
        let sql = "SELECT recorded_at FROM diptych_checkpoint";
        reader(file).query_row(sql, (), |row| row.get(0)).unwrap()
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    let tills = tills();
    let (app, control) = run(&log, &file, tills.clone()).await;
    note(&log, [sold(2, 1, 20)]);
    control.caught_up(LONG).await.unwrap();
    let first = recorded_at(&file);
    note(&log, [sold(1, 1, 666)]);
    while recorded_at(&file) == first {
        note(&log, [sold(2, 1, 5)]);
        control.caught_up(LONG).await.unwrap();
    }
    note(&log, [sold(2, 1, 5)]);
    control.caught_up(LONG).await.unwrap();
    let last = recorded_at(&file);
    tills.is_repaired.store(true, Ordering::SeqCst);
    control.retry_key(&shop(1)).await.unwrap();
    assert_eq!((rows(&file), marks(&file)), (expected(&log), Vec::new()));
    assert_eq!(recorded_at(&file), last);
    app.stop().await.unwrap();
}

/// The statements of the guide, for this projection.
fn documented_removal(projection: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/projections.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, section) = page.split_once("## Removing a projection").unwrap();
    let (_, code) = section.split_once("```sql\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let statements = code.lines().filter_map(|line| line.split(';').next());
    statements.map(|line| line.replace("'sales'", &format!("'{projection}'"))).collect()
}

/// Regression: the skipped events stayed, and a later projection of that name left them out.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_statements_remove_all_that_is_stored_about_a_projection() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 666), sold(1, 1, 7), sold(2, 1, 5), sold(2, 1, 666)]);
    let (app, control) = run(&log, &file, tills()).await;
    control.caught_up(LONG).await.unwrap();
    control.skip_event(&shop(1), by_me()).await.unwrap();
    assert_eq!(marks(&file).len(), 1);
    app.stop().await.unwrap();

    let database = Connection::open(&file).unwrap();
    database.execute_batch("DROP TABLE till").unwrap();
    for statement in documented_removal("tills") {
        match statement.starts_with("SELECT") {
            true => drop(database.prepare(&statement).unwrap()),
            false => drop(database.execute(&statement, ()).unwrap()),
        }
    }
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'diptych%'";
    let tables = {
        let mut tables = database.prepare(sql).unwrap();
        let tables = tables.query_map((), |row| row.get(0)).unwrap();
        tables.collect::<Result<Vec<String>, _>>().unwrap()
    };
    for table in tables {
        let mut rows = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let is_named = |at| row.get::<_, String>(at).is_ok_and(|text| text == "tills");
            assert!(!(0..columns).any(is_named), "{table} has a row of the projection");
        }
    }
    drop(database);
    let again = tills();
    again.is_repaired.store(true, Ordering::SeqCst);
    let (app, control) = run(&log, &file, again).await;
    control.caught_up(LONG).await.unwrap();
    assert_eq!(rows(&file), expected(&log), "nothing is left out");
    app.stop().await.unwrap();
}
