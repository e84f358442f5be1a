//! A new version of a report that is built beside the old one, compared with it, and switched.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Position, Recorded, Store,
    follow::{ControlError, FollowState, FollowerControl, Switch, VersionState, VersionStatus},
};
use diptych_sqlite::{
    Projection, Sqlite, SwitchPolicy, Transaction,
    rusqlite::{Connection, OptionalExtension},
};

use crate::shop::{Trade, app, happen, note, reader, sold};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// A report of what each shop sold, in one of its versions.
#[derive(Clone, Copy)]
pub(crate) struct Takings {
    version: u32,
    /// Its answers are wrong by so much for each trade.
    error: i64,
}

impl Projection for Takings {
    type Event = Trade;

    fn name(&self) -> &str {
        "takings"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        tx.execute_batch(&format!(
            "CREATE TABLE takings_v{0} (shop TEXT PRIMARY KEY, cents INTEGER NOT NULL);
             CREATE INDEX takings_by_cents_v{0} ON takings_v{0} (cents);",
            self.version
        ))?;
        Ok(())
    }

    fn readers(&self) -> Vec<(String, String)> {
        vec![("takings".to_owned(), format!("takings_v{}", self.version))]
    }

    fn compared(&self) -> Vec<String> {
        vec!["SELECT shop, cents FROM takings ORDER BY shop".to_owned()]
    }

    fn sample(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result<Vec<String>> {
        let most: Option<i64> =
            tx.query_row("SELECT max(cents) FROM takings", (), |row| row.get(0))?;
        Ok(vec![format!("the most is {most:?}")])
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> diptych_sqlite::Result {
        let (shop, cents) = match &event.event {
            Trade::Sold { shop, cents, .. } => (shop, *cents),
            Trade::Returned { shop, cents } => (shop, -*cents),
        };
        let mut add = tx.prepare_cached(&format!(
            "INSERT INTO takings_v{} VALUES (?1, ?2) ON CONFLICT (shop)
             DO UPDATE SET cents = cents + excluded.cents",
            self.version
        ))?;
        add.execute((shop, cents + self.error))?;
        Ok(())
    }
}

pub(crate) fn takings(version: u32) -> Takings {
    Takings { version, error: 0 }
}

/// An app over the log that runs this version.
async fn run(
    log: &App,
    file: &Path,
    takings: Takings,
    policy: SwitchPolicy,
) -> (App, FollowerControl) {
    let target = Sqlite::at(file).busy_timeout(LONG).projection(takings).beside(policy);
    let app = log.beside().projection(target).start().await.unwrap();
    let control = app.projection("takings").unwrap();
    (app, control)
}

/// Runs this version until it has caught up, and ends it.
async fn run_once(log: &App, file: &Path, takings: Takings) {
    let (app, control) = run(log, file, takings, SwitchPolicy::Automatic).await;
    control.caught_up(LONG).await.unwrap();
    control.save().await.unwrap();
    app.stop().await.unwrap();
}

/// The rows that readers see, and their checkpoint, in one transaction.
fn asked(file: &Path) -> (Vec<(String, i64)>, Position, u32) {
    let mut report = reader(file);
    let report = report.transaction().unwrap();
    let (position, version): (Option<u64>, u32) = report
        .query_row(
            "SELECT position, version FROM diptych_checkpoint WHERE name = 'takings'",
            (),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let mut rows = report.prepare("SELECT shop, cents FROM takings ORDER BY shop").unwrap();
    let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    (rows.collect::<Result<_, _>>().unwrap(), Position::new(position.unwrap_or(0)), version)
}

/// Readers see a whole state: the fold of the log up to the checkpoint.
pub(crate) fn assert_whole(store: &Store, file: &Path) -> (Position, u32) {
    let (rows, position, version) = asked(file);
    let totals = crate::shop::Totals::of(store, position);
    let expected: Vec<_> =
        totals.shops.into_iter().map(|(shop, (_, cents))| (shop, cents)).collect();
    assert_eq!(rows, expected, "version {version} at {position}");
    (position, version)
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>, told: impl Fn() -> String) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "{}", told());
        thread::yield_now();
    }
}

/// Waits until the version of this program is in such a state.
fn wait_until(
    control: &FollowerControl,
    version: u32,
    wanted: impl Fn(&VersionState) -> bool,
) -> VersionStatus {
    let look = || {
        let versions = control.status().versions;
        versions.into_iter().find(|it| it.version == version && wanted(&it.state))
    };
    wait_for(look, || format!("it is {:?}", control.status()))
}

fn tables(file: &Path) -> Vec<String> {
    let report = reader(file);
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'takings%'
               ORDER BY name";
    let mut find = report.prepare(sql).unwrap();
    find.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_built_beside_the_old_and_switched_when_it_is_equal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    let mut random = fastrand::Rng::with_seed(31);
    happen(&log, &mut random, 3_000);
    // The old program runs on while the new one builds, and readers read all the time.
    let (old_app, old) = run(&log, &file, takings(1), SwitchPolicy::Automatic).await;
    old.caught_up(LONG).await.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let readers = {
        let (store, file, is_done) = (log.store().clone(), file.clone(), is_done.clone());
        thread::spawn(move || {
            let mut seen = Vec::new();
            while !is_done.load(Ordering::SeqCst) {
                seen.push(assert_whole(&store, &file));
            }
            seen
        })
    };
    let (new_app, new) = run(&log, &file, takings(2), SwitchPolicy::Automatic).await;
    for _ in 0..100 {
        happen(&log, &mut random, 5);
        tokio::task::yield_now().await;
    }
    new.caught_up(LONG).await.unwrap();
    let served = wait_until(&new, 2, |state| *state == VersionState::Served);
    assert_eq!(assert_whole(log.store(), &file).1, 2);
    // The old program keeps its version up to date beside the new one.
    let kept = wait_until(&old, 1, |state| *state == VersionState::Kept);
    assert!(kept.position <= log.head() && served.position <= log.head());
    happen(&log, &mut random, 50);
    new.caught_up(LONG).await.unwrap();
    is_done.store(true, Ordering::SeqCst);
    let seen = readers.join().unwrap();
    assert!(seen.is_sorted(), "a position or a version went back: {seen:?}");
    assert_eq!(tables(&file), ["takings_v1", "takings_v2"]);

    // A program without versions side by side does not touch rows that a newer one serves.
    let mut alone = Sqlite::at(&file).projection(takings(1));
    let error = diptych::projection::Target::checkpoint(&mut alone).unwrap_err();
    assert!(error.to_string().contains("have version 2"), "{error}");
    new_app.stop().await.unwrap();
    old_app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_differs_is_not_switched_and_tells_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 100), sold(2, 1, 200), sold(1, 2, 50)]);
    run_once(&log, &file, takings(1)).await;
    let wrong = Takings { version: 2, error: 1 };
    let (app, control) = run(&log, &file, wrong, SwitchPolicy::Automatic).await;
    let is_different = |state: &VersionState| matches!(state, VersionState::Different { .. });
    let status = wait_until(&control, 2, is_different);
    let VersionState::Different { at, difference } = status.state else { unreachable!() };
    assert_eq!(at, log.head());
    let told = "SELECT shop, cents FROM takings ORDER BY shop: row 1: version 1 has \
                (\"shop-1\", 150), version 2 has (\"shop-1\", 152) (2 and 2 rows)";
    assert_eq!(difference, told);
    assert_eq!(asked(&file).2, 1, "it was switched");
    let FollowState::Beside { reason } = wait_for(
        || Some(control.status().state).filter(|it| it.to_string().contains("waits")),
        || format!("it is {:?}", control.status()),
    ) else {
        unreachable!()
    };
    assert!(reason.contains("version 2 waits at position 3 beside version 1"), "{reason}");

    // A command meets the same difference, unless it accepts that.
    let refused = control.switch(Switch::forward()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Different { .. }), "{refused}");
    assert!(matches!(control.compare().await, Err(ControlError::Different { .. })));
    control.switch(Switch::forward().accept_difference()).await.unwrap();
    assert_eq!(asked(&file).0, [("shop-1".to_owned(), 152), ("shop-2".to_owned(), 201)]);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_by_command_goes_forward_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 100), sold(2, 1, 200)]);
    run_once(&log, &file, takings(1)).await;
    let (new_app, new) = run(&log, &file, takings(2), SwitchPolicy::ByCommand).await;
    let equal = wait_until(&new, 2, |state| matches!(state, VersionState::Equal { .. }));
    assert_eq!((equal.position, asked(&file).2), (Position::new(2), 1));
    // It does not pass the rows that readers see, even if their program no longer runs.
    note(&log, [sold(3, 1, 300)]);
    new.compare().await.unwrap();
    assert_eq!(new.status().position, Position::new(2));
    new.switch(Switch::forward()).await.unwrap();
    new.caught_up(LONG).await.unwrap();
    assert_eq!(assert_whole(log.store(), &file), (Position::new(3), 2));

    // Back at an equal position takes the old program, which keeps up beside the new one.
    let unequal = new.switch(Switch::back().within(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(unequal, ControlError::Unequal { .. }), "{unequal}");
    let (old_app, old) = run(&log, &file, takings(1), SwitchPolicy::Automatic).await;
    let positions = || old.status().versions.iter().map(|it| it.position.get()).collect::<Vec<_>>();
    wait_for(|| (positions() == [3, 3]).then_some(()), || format!("{:?}", old.status()));
    assert_eq!(asked(&file).2, 2, "an older version took over by itself");
    new.switch(Switch::back()).await.unwrap();
    assert_eq!(assert_whole(log.store(), &file), (Position::new(3), 1));
    note(&log, [sold(4, 1, 400)]);
    old.caught_up(LONG).await.unwrap();
    assert_eq!(assert_whole(log.store(), &file), (Position::new(4), 1));

    // The newer one does not take over again by itself, and the old one is dropped after the next
    // switch.
    new.switch(Switch::forward()).await.unwrap();
    assert_eq!(assert_whole(log.store(), &file), (Position::new(4), 2));
    let refused = new.drop_version(2).await.unwrap_err();
    assert!(refused.to_string().contains("version 2 is served"), "{refused}");
    let refused = old.drop_version(1).await.unwrap_err();
    assert!(refused.to_string().contains("this program builds version 1"), "{refused}");
    old_app.stop().await.unwrap();
    new.drop_version(1).await.unwrap();
    assert_eq!(tables(&file), ["takings_v2"]);
    let refused = new.switch(Switch::back()).await.unwrap_err();
    assert!(refused.to_string().contains("no other version"), "{refused}");
    new_app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_back_at_any_position_shows_the_kept_rows_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 100)]);
    run_once(&log, &file, takings(1)).await;
    let (app, new) = run(&log, &file, takings(2), SwitchPolicy::Automatic).await;
    note(&log, [sold(2, 1, 200)]);
    wait_until(&new, 2, |state| *state == VersionState::Served);
    new.caught_up(LONG).await.unwrap();
    new.switch(Switch::back().at_any_position()).await.unwrap();
    assert_eq!(assert_whole(log.store(), &file), (Position::new(1), 1));
    let ahead = wait_until(&new, 2, |state| *state == VersionState::Kept);
    assert_eq!(ahead.position, Position::new(2));
    new.switch(Switch::forward().at_any_position()).await.unwrap();
    assert_eq!(assert_whole(log.store(), &file), (Position::new(2), 2));
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_version_beside_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    let mut random = fastrand::Rng::with_seed(32);
    happen(&log, &mut random, 500);
    run_once(&log, &file, takings(1)).await;
    // Ends while building: some of it is there, and readers see the old rows.
    let (app, control) = run(&log, &file, takings(2), SwitchPolicy::ByCommand).await;
    drop((app, control));
    assert_eq!(assert_whole(log.store(), &file).1, 1);
    // Ends after the comparison.
    let (app, control) = run(&log, &file, takings(2), SwitchPolicy::ByCommand).await;
    wait_until(&control, 2, |state| matches!(state, VersionState::Equal { .. }));
    drop((app, control));
    assert_eq!(assert_whole(log.store(), &file).1, 1);
    // Ends after the switch.
    let (app, control) = run(&log, &file, takings(2), SwitchPolicy::ByCommand).await;
    let is_compared = |state: &VersionState| matches!(state, VersionState::Equal { .. });
    let before = wait_until(&control, 2, is_compared);
    assert_eq!(control.status().events, 0, "it began again");
    control.switch(Switch::forward()).await.unwrap();
    drop((app, control));
    let at = assert_whole(log.store(), &file);
    assert_eq!(at, (before.position, 2));
    let (app, control) = run(&log, &file, takings(2), SwitchPolicy::ByCommand).await;
    control.caught_up(LONG).await.unwrap();
    assert_eq!(assert_whole(log.store(), &file).1, 2);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_the_version_beside_leaves_the_served_rows_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 100), sold(2, 1, 200)]);
    run_once(&log, &file, takings(1)).await;
    let wrong = Takings { version: 2, error: 1 };
    let (app, control) = run(&log, &file, wrong, SwitchPolicy::Automatic).await;
    let is_different = |state: &VersionState| matches!(state, VersionState::Different { .. });
    wait_until(&control, 2, is_different);
    app.stop().await.unwrap();
    // The correction needs no new version: nothing of the wrong one was seen.
    let (app, control) = run(&log, &file, takings(2), SwitchPolicy::Automatic).await;
    wait_until(&control, 2, is_different);
    control.rebuild().await.unwrap();
    assert_eq!(assert_whole(log.store(), &file).0, Position::new(2));
    wait_until(&control, 2, |state| *state == VersionState::Served);
    assert_eq!(assert_whole(log.store(), &file), (Position::new(2), 2));
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_have_a_name_of_the_served_version_are_refused() {
    struct SameTables(Takings);

    impl Projection for SameTables {
        type Event = Trade;

        fn name(&self) -> &str {
            "takings"
        }

        fn version(&self) -> u32 {
            2
        }

        fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
            self.0.create(tx)
        }

        fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> diptych_sqlite::Result {
            self.0.apply(tx, event)
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 100)]);
    run_once(&log, &file, takings(1)).await;
    let target = Sqlite::at(&file).projection(SameTables(takings(1)));
    let mut target = target.beside(SwitchPolicy::Automatic);
    let error = diptych::projection::Target::checkpoint(&mut target).unwrap_err().to_string();
    assert!(error.contains("table takings_v1 exists already: version 2"), "{error}");
    assert_eq!(assert_whole(log.store(), &file), (Position::new(1), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_for_readers_that_was_removed_by_hand_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let log = app();
    note(&log, [sold(1, 1, 100)]);
    run_once(&log, &file, takings(1)).await;
    Connection::open(&file).unwrap().execute_batch("DROP VIEW takings").unwrap();
    let target = || Sqlite::at(&file).projection(takings(1)).beside(SwitchPolicy::Automatic);
    let error = diptych::projection::Target::checkpoint(&mut target()).unwrap_err().to_string();
    assert!(error.contains("view takings of projection takings was removed: rebuild"), "{error}");
    diptych::projection::Target::reset(&mut target()).unwrap();
    let rows = "SELECT cents FROM takings";
    let rows = reader(&file).query_row(rows, (), |row| row.get::<_, i64>(0)).optional().unwrap();
    assert_eq!(rows, None, "it begins again");
    run_once(&log, &file, takings(1)).await;
    assert_eq!(assert_whole(log.store(), &file), (Position::new(1), 1));
}
