//! Projections that an app runs and keeps in step.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, AppBuilder, Memory, Position, Store,
    follow::{
        ControlError, FollowState, FollowerControl, FollowerStatus, FollowerStop, Refresh,
        WaitError,
    },
};
use diptych_log::{Adoption, LogOptions, adopt};
use diptych_sqlite::{Sqlite, rusqlite::Connection};

use crate::{
    odd::{odd, row},
    replaced::copy,
    shop::{Sales, Swept, Totals, assert_in_step, happen, note, reader, sales, sold},
};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

async fn started(builder: AppBuilder, file: &Path) -> (App, FollowerControl) {
    let place = Sqlite::at(file).busy_timeout(LONG);
    let app = builder.projection(place.projection(Sales)).start().await.unwrap();
    let sales = app.projection("sales").unwrap();
    (app, sales)
}

/// Waits until a projection is in this state.
fn wait_for(sales: &FollowerControl, wanted: impl Fn(&FollowState) -> bool) -> FollowerStatus {
    let began = Instant::now();
    loop {
        let status = sales.status();
        if wanted(&status.state) {
            return status;
        }
        assert!(began.elapsed() < LONG, "it is {status:?}");
        thread::yield_now();
    }
}

async fn stopped(sales: &FollowerControl) -> FollowerStop {
    match sales.caught_up(LONG).await {
        Err(WaitError::Stopped { stopped, .. }) => {
            assert_eq!(sales.status().state, FollowState::Stopped(stopped.clone()));
            stopped
        }
        other => panic!("it did not stop: {other:?}"),
    }
}

/// How many events `Sales` is made of.
fn trades(store: &Store, upto: Position) -> u64 {
    let totals = Totals::of(store, upto);
    totals.shops.values().map(|(trades, _)| trades.cast_unsigned()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_a_fold_of_the_log_at_every_moment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(App::over(Memory::new()), &file).await;
    let mut random = fastrand::Rng::with_seed(21);
    happen(&app, &mut random, 3);
    sales.caught_up(LONG).await.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (store, file, is_done) = (app.store().clone(), file.clone(), is_done.clone());
        thread::spawn(move || {
            let mut seen = vec![Position::START];
            while !is_done.load(Ordering::SeqCst) {
                seen.push(assert_in_step(&store, &file));
            }
            seen
        })
    };
    for _ in 0..200 {
        let events = random.usize(1..20);
        happen(&app, &mut random, events);
    }
    assert_eq!(sales.caught_up(LONG).await.unwrap(), app.head());
    is_done.store(true, Ordering::SeqCst);
    let seen = reader.join().unwrap();
    assert!(seen.is_sorted(), "the checkpoint went back: {seen:?}");

    // The checkpoint is that of the last batch: what came since has nothing for the rows.
    assert_eq!(Totals::asked(&crate::shop::reader(&file)), Totals::of(app.store(), app.head()));
    let status = sales.status();
    assert_eq!((status.state, status.position), (FollowState::Live, app.head()));
    assert_eq!(status.events, trades(app.store(), app.head()));
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_from_the_checkpoint_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let [log, file] = ["log", "report.db"].map(|name| folder.path().join(name));
    let mut events = 0;
    for round in 1..=3 {
        let (app, sales) = started(App::open(&log).unwrap(), &file).await;
        note(&app, [sold(round, 1, 10), sold(round, 2, 20)]);
        // The last of it has nothing for the rows.
        note(&app, [Swept { shop: "shop-1".to_owned() }]);
        assert_eq!(sales.caught_up(LONG).await.unwrap().get(), 3 * round);
        events += sales.status().events;
        app.stop().await.unwrap();
        let (app, _) = started(App::open(&log).unwrap(), &file).await;
        assert_eq!(assert_in_step(app.store(), &file).get(), 3 * round, "the end was not noted");
        app.stop().await.unwrap();
    }
    assert_eq!(events, 6, "an event was taken in twice, or not at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_share_the_work_and_take_nothing_in_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (one, of_one) = started(App::over(Memory::new()), &file).await;
    let (two, of_two) = started(App::over_store(one.store().clone()), &file).await;

    // Each in turn finds that the other moved the checkpoint.
    for round in 0..10 {
        let (busy, idle) = if round % 2 == 0 { (&of_one, &of_two) } else { (&of_two, &of_one) };
        idle.pause().await.unwrap();
        busy.resume().await.unwrap();
        note(&one, [sold(round, 1, 5)]);
        busy.caught_up(LONG).await.unwrap();
        assert_eq!(assert_in_step(one.store(), &file), one.head());
    }
    let each = (of_one.status().events, of_two.status().events);
    assert_eq!(each, (5, 5));

    // And all at once.
    of_one.resume().await.unwrap();
    of_two.resume().await.unwrap();
    let mut random = fastrand::Rng::with_seed(22);
    for _ in 0..100 {
        happen(&one, &mut random, 10);
    }
    for sales in [&of_one, &of_two] {
        sales.caught_up(LONG).await.unwrap();
        assert_eq!(wait_for(sales, |state| *state == FollowState::Live).position, one.head());
    }
    let upto = assert_in_step(one.store(), &file);
    assert_eq!(trades(one.store(), upto), trades(one.store(), one.head()));
    let both = of_one.status().events + of_two.status().events;
    assert_eq!(both, trades(one.store(), one.head()));
    two.stop().await.unwrap();
    one.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_replaced_is_said_and_nothing_is_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let [log, backup, file] = ["log", "backup", "report.db"].map(|name| folder.path().join(name));
    let (app, sales) = started(App::open(&log).unwrap(), &file).await;
    note(&app, (1..=10).map(|number| sold(1, 1, number)));
    sales.caught_up(LONG).await.unwrap();
    app.stop().await.unwrap();
    copy(&log, &backup);
    let (app, sales) = started(App::open(&log).unwrap(), &file).await;
    note(&app, (11..=15).map(|number| sold(1, 1, number)));
    sales.caught_up(LONG).await.unwrap();
    let before = Totals::asked(&reader(&file));
    app.stop().await.unwrap();

    // An older copy of its files; the log in a new epoch, as after a loss; and another log.
    let restored = folder.path().join("restored");
    copy(&backup, &restored);
    adopt(&restored, Adoption::Moved, &LogOptions::default()).unwrap();
    let lossy = folder.path().join("lossy");
    copy(&log, &lossy);
    adopt(&lossy, Adoption::Copy, &LogOptions::default()).unwrap();
    let other = folder.path().join("other");
    let cases = [
        (restored, "position 15, and the log ends at 10"),
        (lossy, "it was restored or lost commits"),
        (other, "and this is log"),
    ];
    for (log, said) in cases {
        let (app, sales) = started(App::open(&log).unwrap(), &file).await;
        if app.head() == Position::START {
            note(&app, [sold(1, 1, 1)]);
        }
        let stopped = stopped(&sales).await;
        assert!(stopped.reason.contains(said), "{stopped}");
        assert!(stopped.reason.contains("rebuild the projection"), "{stopped}");
        assert_eq!(Totals::asked(&reader(&file)), before);

        // Writers go on, and asked again it says the same.
        note(&app, [sold(2, 2, 2)]);
        let again = sales.resume().await.unwrap_err();
        assert_eq!(again, ControlError::Stopped(self::stopped(&sales).await));
        assert_eq!(Totals::asked(&reader(&file)), before);
        app.stop().await.unwrap();
    }

    let (app, sales) = started(App::open(folder.path().join("other")).unwrap(), &file).await;
    stopped(&sales).await;
    sales.rebuild().await.unwrap();
    sales.caught_up(LONG).await.unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.head());
    assert_ne!(Totals::asked(&reader(&file)), before);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_makes_the_same_rows_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(App::over(Memory::new()), &file).await;
    let mut random = fastrand::Rng::with_seed(23);
    happen(&app, &mut random, 200);
    sales.caught_up(LONG).await.unwrap();
    let before = Totals::asked(&reader(&file));
    sales.pause().await.unwrap();
    sales.rebuild().await.unwrap();
    sales.caught_up(LONG).await.unwrap();
    assert_eq!(Totals::asked(&reader(&file)), before);
    assert_eq!(sales.status().events, 2 * trades(app.store(), app.head()));

    // Another runner resets it, which the next event shows.
    let mut other = crate::shop::sales(&file);
    diptych::projection::Target::reset(&mut other).unwrap();
    note(&app, [sold(1, 1, 1)]);
    sales.caught_up(LONG).await.unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.head());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_projection_is_stepped_event_by_event() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(App::over(Memory::new()), &file).await;
    note(&app, [sold(1, 1, 1)]);
    sales.caught_up(LONG).await.unwrap();
    assert_eq!(sales.pause().await.unwrap().get(), 1);
    note(&app, [sold(1, 1, 2)]);
    note(&app, [Swept { shop: "shop-1".to_owned() }]);
    note(&app, [sold(1, 1, 3), sold(1, 1, 4)]);

    let late = sales.caught_up(Duration::from_millis(20)).await;
    let Err(WaitError::NotYet(late)) = late else { panic!("{late:?}") };
    assert_eq!((late.have.get(), late.need.get()), (1, 5));
    let rows = || trades(app.store(), assert_in_step(app.store(), &file));
    assert_eq!(rows(), 1);
    for more in 2..=4 {
        sales.step().await.unwrap();
        assert_eq!((rows(), sales.status().events), (more, more));
    }
    // There is nothing more.
    sales.step().await.unwrap();
    assert_eq!((rows(), sales.status().state), (4, FollowState::Paused));
    note(&app, [sold(1, 1, 5)]);
    sales.resume().await.unwrap();
    sales.caught_up(LONG).await.unwrap();
    assert_eq!(rows(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_stops_this_projection_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [file, other] = ["report.db", "other.db"].map(|name| folder.path().join(name));
    let at = Arc::new(AtomicU64::new(4));
    let wrong = at.clone();
    let poisoned = Sqlite::at(&file).projection(odd(move |tx, event| {
        row(tx, event)?;
        match event.position.get() == wrong.load(Ordering::SeqCst) {
            true => Err("no rate for this day".into()),
            false => Ok(()),
        }
    }));
    let builder = App::over(Memory::new()).projection(poisoned).projection(sales(&other));
    let app = builder.start().await.unwrap();
    let [odd, sales] = ["odd", "sales"].map(|name| app.projection(name).unwrap());
    note(&app, (1..=9).map(|number| sold(1, 1, number)));

    let stopped = stopped(&odd).await;
    assert_eq!(stopped.at.get(), 4);
    assert!(stopped.reason.contains("no rate for this day"), "{stopped}");
    let rows = || -> u64 {
        reader(&file).query_row("SELECT count(*) FROM odd", (), |row| row.get(0)).unwrap()
    };
    assert_eq!((rows(), odd.status().position.get()), (3, 3));

    // Writers and the other projection went on, and go on.
    note(&app, [sold(1, 1, 10)]);
    assert_eq!(sales.caught_up(LONG).await.unwrap().get(), 10);
    assert_eq!(assert_in_step(app.store(), &other).get(), 10);
    assert_eq!(rows(), 3);

    at.store(0, Ordering::SeqCst);
    odd.resume().await.unwrap();
    assert_eq!(odd.caught_up(LONG).await.unwrap().get(), 10);
    assert_eq!(rows(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_delays_no_other_follower() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let lock = Connection::open(&file).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let place = Sqlite::at(&file).busy_timeout(Duration::from_millis(1));
    let builder = App::over(Memory::new()).projection(place.projection(Sales));
    // Not even the start of the app.
    let app = builder.start().await.unwrap();
    let sales = app.projection("sales").unwrap();
    let receipt = note(&app, [sold(1, 1, 1)]);
    let stalled = wait_for(&sales, |state| matches!(state, FollowState::Stalled { .. }));
    assert!(stalled.state.to_string().contains("locked"), "{stalled:?}");
    assert_eq!((stalled.lag.positions, stalled.position), (1, Position::START));
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sales.after(&receipt, LONG).await.unwrap(), receipt.last());
    assert_eq!(assert_in_step(app.store(), &file), app.head());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_refreshed_when_it_is_told_to_be() {
    for refresh in [Refresh::OnDemand, Refresh::Every(Duration::from_secs(3_600))] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.db");
        let first = App::over(Memory::new()).start().await.unwrap();
        note(&first, [sold(1, 1, 1)]);
        let builder = App::over_store(first.store().clone());
        let app = builder.projection_with(sales(&file), refresh).start().await.unwrap();
        let sales = app.projection("sales").unwrap();
        // At the start it catches up in any case.
        sales.caught_up(LONG).await.unwrap();
        wait_for(&sales, |state| *state == FollowState::Live);

        let receipt = note(&app, [sold(1, 1, 2)]);
        wait_for(&sales, |state| *state == FollowState::Resting);
        let late = sales.after(&receipt, Duration::from_millis(20)).await;
        assert!(matches!(late, Err(WaitError::NotYet(_))), "{late:?}");
        assert_eq!(assert_in_step(app.store(), &file).get(), 1);
        sales.refresh().await.unwrap();
        sales.after(&receipt, LONG).await.unwrap();
        assert_eq!(assert_in_step(app.store(), &file).get(), 2);
    }
}
