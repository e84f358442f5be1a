//! Another program holds the lock of the database for long.
//!
//! A pause and the end of the app waited for the lock, as long as the projection's own timeout, and
//! until that was over the projection passed for one that is live.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Memory,
    follow::{FollowState, FollowerControl},
};
use diptych_sqlite::{Sqlite, rusqlite::Connection};

use crate::shop::{Sales, assert_in_step, note, sold};

/// A wait that takes as long fails the test.
const LONG: Duration = Duration::from_secs(60);
/// Longer than a test may take.
const BUSY: Duration = Duration::from_secs(3_600);

async fn started(file: &Path) -> (App, FollowerControl) {
    let projection = Sqlite::at(file).busy_timeout(BUSY).projection(Sales);
    let app = App::over(Memory::new()).projection(projection).start().await.unwrap();
    let sales = app.projection("sales").unwrap();
    note(&app, [sold(1, 1, 1)]);
    sales.caught_up(LONG).await.unwrap();
    (app, sales)
}

fn locked(file: &Path) -> Connection {
    let lock = Connection::open(file).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

/// Waits until it says that it waits for the lock.
fn stalls(sales: &FollowerControl) {
    let began = Instant::now();
    loop {
        match sales.status().state {
            FollowState::Stalled { reason } => {
                assert!(reason.contains("locked"), "{reason}");
                return;
            }
            state => assert!(began.elapsed() < LONG, "it is {state}"),
        }
        thread::yield_now();
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("it waits for the lock")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_as_stalled_while_it_waits_and_goes_on_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(&file).await;
    let lock = locked(&file);
    let receipt = note(&app, [sold(1, 1, 2)]);
    stalls(&sales);
    // Readers of what is there are not held up.
    assert_eq!(assert_in_step(app.store(), &file).get(), 1);
    drop(lock);
    in_time(sales.after(&receipt, LONG)).await.unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.head());
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_does_not_wait_for_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(&file).await;
    let lock = locked(&file);
    note(&app, [sold(1, 1, 2)]);
    stalls(&sales);
    assert_eq!(in_time(sales.pause()).await.unwrap().get(), 1);
    assert_eq!(sales.status().state, FollowState::Paused);
    drop(lock);
    assert_eq!(assert_in_step(app.store(), &file).get(), 1, "it was paused");
    in_time(sales.resume()).await.unwrap();
    in_time(sales.caught_up(LONG)).await.unwrap();
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_app_does_not_wait_for_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(&file).await;
    let lock = locked(&file);
    note(&app, [sold(1, 1, 2)]);
    stalls(&sales);
    in_time(app.stop()).await.unwrap();
    drop(lock);
}
