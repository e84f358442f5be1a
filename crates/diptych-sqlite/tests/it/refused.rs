//! An event that a projection refuses: everything before it is taken in, nothing after it, and the
//! reason is told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use diptych::projection::{Target, TargetError};
use diptych_sqlite::{Sqlite, rusqlite::Connection};

use crate::{
    follow::{follow, refused, stopped},
    odd::{odd, row},
    shop::{app, note, position, reader, sold},
};

fn positions(report: &Connection) -> Vec<u64> {
    let mut find = report.prepare("SELECT position FROM odd ORDER BY rowid").unwrap();
    find.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("no rate for this day")]
struct NoRate(#[source] std::num::ParseIntError);

#[test]
fn a_batch_goes_event_by_event_to_the_one_that_is_refused_and_on_once_it_is_mended() {
    for batch_events in [1, 3, 4, 100] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.db");
        let app = app();
        note(&app, (1..=9).map(|number| sold(1, 1, number)));
        let at = Arc::new(AtomicU64::new(6));
        let wrong = Arc::clone(&at);
        let mut odd = Sqlite::at(&file).projection(odd(move |tx, event| {
            row(tx, event)?;
            if event.position.get() == wrong.load(Ordering::SeqCst) {
                let error = "x".parse::<u64>().unwrap_err();
                return Err(NoRate(error).into());
            }
            Ok(())
        }));
        let stopped = stopped(follow(app.store(), &mut odd, batch_events));
        assert_eq!(stopped.reached.unwrap().position.get(), 5);
        let text = stopped.to_string();
        assert!(text.starts_with("projection odd: the event at position 6 was refused"), "{text}");
        let TargetError::Event { position: at_position, reason, source } = stopped.cause else {
            panic!("{text}")
        };
        assert_eq!(at_position.get(), 6);
        assert_eq!(reason, "no rate for this day: invalid digit found in string");
        assert!(source.unwrap().downcast_ref::<NoRate>().is_some());
        assert_eq!((positions(&reader(&file)), position(&mut odd)), ((1..=5).collect(), Some(5)));

        // It stays there, and goes on from there.
        refused(follow(app.store(), &mut odd, batch_events));
        at.store(0, Ordering::SeqCst);
        follow(app.store(), &mut odd, batch_events).unwrap();
        assert_eq!((positions(&reader(&file)), position(&mut odd)), ((1..=9).collect(), Some(9)));
    }
}

#[test]
fn a_panic_is_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=5).map(|number| sold(1, 1, number)));
    let mut odd = Sqlite::at(&file).projection(odd(|tx, event| {
        row(tx, event)?;
        // With a statement that is not finished.
        let mut open = tx.prepare("SELECT position FROM odd")?;
        let mut rows = open.query(())?;
        rows.next()?;
        assert!(event.position.get() != 3, "three is too many");
        Ok(())
    }));
    let (at, reason) = refused(follow(app.store(), &mut odd, 10));
    assert_eq!((at, reason.as_str()), (3, "it panicked: three is too many"));
    assert_eq!((positions(&reader(&file)), position(&mut odd)), (vec![1, 2], Some(2)));
}

#[test]
fn a_fault_found_by_the_commit_refuses_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=4).map(|number| sold(1, 1, number)));
    let mut odd = odd(|tx, event| {
        let parent = if event.position.get() == 3 { None } else { Some(1) };
        tx.execute("INSERT OR IGNORE INTO parent VALUES (1)", ())?;
        tx.execute("INSERT INTO child VALUES (coalesce(?1, 99))", [parent])?;
        Ok(())
    });
    odd.create = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED);";
    let mut odd = Sqlite::at(&file).projection(odd);
    let (at, reason) = refused(follow(app.store(), &mut odd, 10));
    assert!(at == 3 && reason.starts_with("FOREIGN KEY constraint failed"), "{at}: {reason}");
    assert_eq!(position(&mut odd), Some(2));
    // Tables that refer to each other can be removed with rows in them.
    odd.reset().unwrap();
    assert_eq!(position(&mut odd), None);
}
