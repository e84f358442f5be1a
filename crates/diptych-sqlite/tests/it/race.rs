//! Several run the same projection on one file, at the same time.

use std::{path::Path, sync::Barrier, thread, time::Duration};

use diptych::{Store, projection::Target};
use diptych_sqlite::Sqlite;

use crate::{
    follow::follow_from,
    shop::{Sales, assert_in_step, busy_app, happen, sales},
};

const RUNNERS: usize = 3;

/// How often a runner found the checkpoint moved by another one.
fn race(store: &Store, file: &Path) -> u64 {
    let barrier = Barrier::new(RUNNERS);
    let run = |batch_events| {
        // Never long enough to give up: they wait for each other all the time.
        let place = Sqlite::at(file).busy_timeout(Duration::from_secs(60));
        let mut sales = place.projection(Sales);
        let at = sales.checkpoint().unwrap();
        // All begin with the same checkpoint, and one of them moves it.
        barrier.wait();
        follow_from(at, store.identity(), store, &mut sales, batch_events).unwrap()
    };
    thread::scope(|scope| {
        let runners: Vec<_> =
            (1..=RUNNERS).map(|number| scope.spawn(move || run(number))).collect();
        runners.into_iter().map(|runner| runner.join().unwrap()).sum()
    })
}

#[test]
fn nothing_is_taken_in_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(12, 100);
    let mut random = fastrand::Rng::with_seed(12);
    for _ in 0..20 {
        let moved = race(app.store(), &file);
        println!("the checkpoint was moved by another {moved} times");
        assert!(moved >= RUNNERS as u64 - 1, "they did not meet");
        assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
        happen(&app, &mut random, 100);
    }
}

#[test]
fn resets_on_the_way_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(13, 150);
    thread::scope(|scope| {
        let resets = scope.spawn(|| {
            let mut sales = sales(&file);
            for _ in 0..10 {
                sales.reset().unwrap();
                assert_in_step(app.store(), &file);
            }
        });
        while !resets.is_finished() {
            race(app.store(), &file);
            assert_in_step(app.store(), &file);
        }
        resets.join().unwrap();
    });
    race(app.store(), &file);
    assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
}
