//! A transaction that ends under the projection, and results that depended on where a batch ends.
//!
//! A projection passed over a statement with `OR ROLLBACK` that failed, and then used a savepoint.
//! SQLite had rolled the batch back, the savepoint began another transaction, and that was
//! committed: the rows of the events before were lost, and the runner believed to be at the end.

use diptych::{
    Recorded,
    projection::{Target, TargetError},
};
use diptych_sqlite::{
    Result, Sqlite, Transaction,
    rusqlite::{Connection, types::Value},
};

use crate::{
    follow::{End, follow, refused, trouble},
    odd::{Odd, odd, row},
    shop::{Trade, app, note, position, reader, sold},
};

/// Batches of these sizes must not make a difference.
const BATCHES: [usize; 4] = [1, 2, 3, 100];

fn rows(file: &std::path::Path) -> Vec<u64> {
    let report = reader(file);
    let mut find = report.prepare("SELECT position FROM odd ORDER BY rowid").unwrap();
    find.query_map((), |row| row.get(0)).unwrap().collect::<std::result::Result<_, _>>().unwrap()
}

/// Nine events go into this projection in batches of each size: how that ends, and the rows.
fn in_batches(odd: impl Fn() -> Odd) -> Vec<(std::result::Result<u64, End>, Vec<u64>)> {
    let each = BATCHES.map(|batch_events| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.db");
        let app = app();
        note(&app, (1..=9).map(|number| sold(1, 1, number)));
        let mut odd = Sqlite::at(&file).projection(odd());
        let end = follow(app.store(), &mut odd, batch_events);
        (end, rows(&file))
    });
    each.into()
}

/// It refuses the third event, whatever the batches are, and the rows are those of the two before.
fn assert_refused_at_the_third(odd: impl Fn() -> Odd, why: &str) {
    for (end, rows) in in_batches(odd) {
        let (at, reason) = refused(end);
        assert!(reason.contains(why), "{reason}");
        assert_eq!((at, rows), (3, vec![1, 2]));
    }
}

type Apply = fn(&Transaction<'_>, &Recorded<Trade>) -> Result;

fn with(create: &'static str, apply: Apply) -> impl Fn() -> Odd {
    move || Odd { create, ..odd(apply) }
}

const ODD: &str = "CREATE TABLE odd (position INTEGER, cents INTEGER)";

#[test]
fn a_savepoint_after_a_rollback_that_was_passed_over_does_not_commit() {
    let apply: Apply = |tx, event| {
        if event.position.get() == 3 {
            let twice = "INSERT OR ROLLBACK INTO odd (rowid, position) VALUES (1, 77)";
            assert!(tx.execute(twice, ()).is_err());
            tx.execute_batch("SAVEPOINT mine")?;
        }
        row(tx, event)
    };
    assert_refused_at_the_third(with(ODD, apply), "the transaction ended early");
}

#[test]
fn a_trigger_that_rolls_back_and_is_passed_over_does_not_commit() {
    let create = "CREATE TABLE odd (position INTEGER, cents INTEGER);
        CREATE TRIGGER never_77 BEFORE INSERT ON odd WHEN new.cents = 77 BEGIN
            SELECT RAISE(ROLLBACK, 'not 77');
        END;";
    let apply: Apply = |tx, event| {
        if event.position.get() == 3 {
            assert!(tx.execute("INSERT INTO odd VALUES (3, 77)", ()).is_err());
            tx.execute_batch("SAVEPOINT mine")?;
        }
        row(tx, event)
    };
    assert_refused_at_the_third(with(create, apply), "the transaction ended early");
}

/// SQLite rolls back by itself when it is full, which it also says when no row id is left.
#[test]
fn a_full_database_that_is_passed_over_does_not_commit() {
    let create = "CREATE TABLE odd (position INTEGER, cents INTEGER);
        CREATE TABLE large (id INTEGER PRIMARY KEY AUTOINCREMENT);";
    let apply: Apply = |tx, event| {
        if event.position.get() == 3 {
            tx.execute("INSERT INTO large VALUES (9223372036854775807)", ())?;
            let error = tx.execute("INSERT INTO large VALUES (NULL)", ()).unwrap_err();
            assert!(error.to_string().contains("full"), "{error}");
            tx.execute_batch("SAVEPOINT mine")?;
        }
        row(tx, event)
    };
    assert_refused_at_the_third(with(create, apply), "the transaction ended early");
}

#[test]
fn a_create_that_rolls_back_and_begins_another_transaction_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    struct Sly;
    impl diptych_sqlite::Projection for Sly {
        type Event = Trade;
        fn name(&self) -> &str {
            "sly"
        }
        fn create(&self, tx: &Transaction<'_>) -> Result {
            tx.execute_batch("CREATE TABLE odd (x PRIMARY KEY); INSERT INTO odd VALUES (1)")?;
            assert!(tx.execute("INSERT OR ROLLBACK INTO odd VALUES (1)", ()).is_err());
            Ok(tx.execute_batch("SAVEPOINT mine; CREATE TABLE odd (x)")?)
        }
        fn apply(&self, _: &Transaction<'_>, _: &Recorded<Trade>) -> Result {
            Ok(())
        }
    }
    let error = Sqlite::at(&file).projection(Sly).checkpoint().unwrap_err();
    assert!(error.to_string().contains("the transaction ended early"), "{error}");
    assert!(!Connection::open(&file).unwrap().table_exists(None, "odd").unwrap());
}

/// The second event went back to before the first if both were in one batch, and was refused if
/// it was alone.
#[test]
fn a_savepoint_ends_with_its_event() {
    let apply: Apply = |tx, event| {
        if event.position.get() == 2 {
            tx.execute_batch("SAVEPOINT mine")?;
        }
        if event.position.get() == 3 {
            tx.execute_batch("ROLLBACK TO mine")?;
        }
        row(tx, event)
    };
    assert_refused_at_the_third(with(ODD, apply), "no such savepoint: mine");
}

#[test]
fn savepoints_within_an_event_give_the_same_rows_in_every_batch() {
    let apply: Apply = |tx, event| {
        row(tx, event)?;
        if event.position.get() % 2 == 0 {
            tx.execute_batch("SAVEPOINT mine")?;
            row(tx, event)?;
            tx.execute_batch("ROLLBACK TO mine; RELEASE mine")?;
        }
        Ok(())
    };
    for (end, rows) in in_batches(with(ODD, apply)) {
        end.unwrap();
        assert_eq!(rows, (1..=9).collect::<Vec<_>>());
    }
}

#[test]
fn savepoints_of_the_crate_are_not_for_projections() {
    let apply: Apply = |tx, event| {
        row(tx, event)?;
        if event.position.get() == 3 {
            tx.execute_batch("SAVEPOINT mine; release Diptych_Event")?;
        }
        Ok(())
    };
    assert_refused_at_the_third(with(ODD, apply), "is reserved");
}

/// A key that is checked at the commit was held against the last event of the batch, and was fine
/// if a later event of the same batch made up for it.
#[test]
fn a_deferred_key_is_checked_for_each_event() {
    let create = "CREATE TABLE odd (position INTEGER, cents INTEGER);
        CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED);";
    let apply: Apply = |tx, event| {
        row(tx, event)?;
        match event.position.get() {
            3 => drop(tx.execute("INSERT INTO child VALUES (1)", ())?),
            4 => drop(tx.execute("INSERT INTO parent VALUES (1)", ())?),
            _ => {}
        }
        Ok(())
    };
    assert_refused_at_the_third(with(create, apply), "FOREIGN KEY constraint failed");
}

#[test]
fn a_deferred_key_that_holds_after_each_event_is_fine() {
    let create = "CREATE TABLE odd (position INTEGER, cents INTEGER);
        CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED);";
    let apply: Apply = |tx, event| {
        row(tx, event)?;
        let id = event.position.get();
        tx.execute("INSERT INTO child VALUES (?1)", [id])?;
        tx.execute("INSERT INTO parent VALUES (?1)", [id])?;
        Ok(())
    };
    for (end, rows) in in_batches(with(create, apply)) {
        end.unwrap();
        assert_eq!(rows, (1..=9).collect::<Vec<_>>());
    }
}

#[test]
fn a_deferred_key_of_another_table_is_checked_for_each_event() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    let odd = Odd {
        create: "CREATE TABLE odd (position INTEGER PRIMARY KEY, cents INTEGER)",
        ..odd(|tx, event| {
            // The row that another table refers to is away for one event.
            let sql = match event.position.get() {
                3 => "UPDATE odd SET position = 100 WHERE position = 1",
                4 => "UPDATE odd SET position = 1 WHERE position = 100",
                _ => return row(tx, event),
            };
            Ok(tx.execute(sql, ()).map(drop)?)
        })
    };
    let mut odd = Sqlite::at(&file).projection(odd);
    note(&app, [sold(1, 1, 1)]);
    follow(app.store(), &mut odd, 10).unwrap();
    let sql = "CREATE TABLE of_people (of REFERENCES odd DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO of_people VALUES (1)";
    Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    note(&app, (2..=4).map(|number| sold(1, 1, number)));
    let (at, reason) = refused(follow(app.store(), &mut odd, 10));
    assert!(reason.contains("FOREIGN KEY constraint failed"), "{reason}");
    assert_eq!((at, rows(&file)), (3, vec![1, 2]));
}

#[test]
fn nothing_that_outlasts_an_event_can_be_changed_in_apply() {
    let cases: [(Apply, &str); 7] = [
        (|tx, _| Ok(tx.execute_batch("PRAGMA defer_foreign_keys = on")?), "must not use PRAGMA"),
        (|tx, _| Ok(tx.pragma_update(None, "cache_size", 10)?), "must not use PRAGMA cache_size"),
        (|tx, _| Ok(tx.execute_batch("PRAGMA page_size = 512")?), "must not use PRAGMA page_size"),
        (|tx, _| Ok(tx.execute_batch("PRAGMA no_such_thing")?), "must not use PRAGMA"),
        (|tx, _| Ok(tx.execute_batch("DROP TRIGGER temp.mine")?), "no such trigger"),
        (
            |tx, _| {
                let sql = "CREATE TEMP TRIGGER mine AFTER INSERT ON odd BEGIN SELECT 1; END";
                Ok(tx.execute_batch(sql)?)
            },
            "temporary",
        ),
        (|tx, _| Ok(tx.query_row("SELECT total_changes()", (), |_| Ok(()))?), "total_changes()"),
    ];
    for (hostile, why) in cases {
        let apply = move |tx: &Transaction<'_>, event: &Recorded<Trade>| {
            row(tx, event)?;
            match event.position.get() {
                3 => hostile(tx, event),
                _ => Ok(()),
            }
        };
        assert_refused_at_the_third(|| odd(apply), why);
    }
}

#[test]
fn apply_can_read_the_schema() {
    let apply: Apply = |tx, event| {
        let sql = "SELECT count(*) FROM pragma_table_info('odd')";
        let columns: i64 = tx.query_row(sql, (), |row| row.get(0))?;
        assert_eq!(columns, 2);
        row(tx, event)
    };
    for (end, _) in in_batches(with(ODD, apply)) {
        end.unwrap();
    }
}

fn broken(odd: Odd, file: &std::path::Path) -> String {
    match Sqlite::at(file).projection(odd).checkpoint() {
        Err(TargetError::Broken { reason, .. }) => reason,
        other => panic!("it is not broken: {other:?}"),
    }
}

#[test]
fn nothing_that_is_gone_with_the_connection_can_be_made_in_create() {
    let cases = [
        ("CREATE TEMP TABLE mine (x)", "temporary"),
        ("CREATE TABLE mine (x); CREATE TEMP VIEW all_mine AS SELECT * FROM mine", "temporary"),
        (
            "CREATE TABLE mine (x);
             CREATE TEMP TRIGGER t AFTER INSERT ON mine BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
            "temporary",
        ),
        ("CREATE TABLE mine (x); PRAGMA recursive_triggers = on", "must not use PRAGMA"),
        ("PRAGMA foreign_keys = off; CREATE TABLE mine (x)", "must not use PRAGMA"),
    ];
    for (create, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.db");
        let reason = broken(Odd { create, ..odd(row) }, &file);
        assert!(reason.contains(why), "{create}: {reason}");
        assert!(!Connection::open(&file).unwrap().table_exists(None, "mine").unwrap());
    }
}

/// Rows of the second projection kept the first from removing its own, so the same events gave an
/// error, or none, depending on which was ahead.
#[test]
fn a_key_that_refers_to_a_table_of_another_projection_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let parent = Odd { create: "CREATE TABLE odd (position INTEGER PRIMARY KEY)", ..odd(row) };
    let mut parent = Sqlite::at(&file).projection(parent);
    assert_eq!(position(&mut parent), None);
    for create in [
        "CREATE TABLE child (parent REFERENCES odd (position))",
        "CREATE TABLE child (parent REFERENCES ODD ON DELETE CASCADE)",
        "CREATE TABLE child (parent, FOREIGN KEY (parent) REFERENCES not_there_yet (id))",
    ] {
        let reason = broken(Odd { name: "second", create, ..odd(row) }, &file);
        assert!(reason.contains("which does not belong to this projection"), "{create}: {reason}");
        assert!(!Connection::open(&file).unwrap().table_exists(None, "child").unwrap());
    }
    let of_its_own = "CREATE TABLE mine (id PRIMARY KEY, up REFERENCES Mine);
        CREATE TABLE more (mine REFERENCES mine)";
    let own = Odd { name: "second", create: of_its_own, ..odd(row) };
    assert_eq!(position(&mut Sqlite::at(&file).projection(own)), None);
}

const WITH_RULES: &str = "CREATE TABLE odd (position INTEGER, cents INTEGER);
    CREATE INDEX by_cents ON odd (cents);
    CREATE VIEW all_odd AS SELECT * FROM odd;
    CREATE TABLE counted (how_many INTEGER);
    CREATE TRIGGER counting AFTER INSERT ON odd BEGIN INSERT INTO counted VALUES (1); END;";

#[test]
fn changes_by_hand_are_found_at_the_start_and_before_the_next_commit() {
    let cases = [
        ("DROP TRIGGER counting", "trigger counting of projection odd was removed"),
        ("DROP INDEX by_cents", "index by_cents of projection odd was removed"),
        ("DROP VIEW all_odd", "view all_odd of projection odd was removed"),
        ("ALTER TABLE counted ADD COLUMN more", "table counted of projection odd was changed"),
        (
            "DROP TRIGGER counting;
             CREATE TRIGGER counting AFTER INSERT ON odd BEGIN DELETE FROM counted; END",
            "trigger counting of projection odd was changed",
        ),
        (
            "CREATE TRIGGER foreign_one AFTER INSERT ON odd BEGIN
                 SELECT RAISE(ROLLBACK, 'no'); END",
            "trigger foreign_one on table odd does not belong to projection odd",
        ),
        (
            "CREATE UNIQUE INDEX only_one ON counted (how_many)",
            "index only_one on table counted does not belong to projection odd",
        ),
    ];
    for (by_hand, why) in cases {
        for is_running in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("report.db");
            let app = app();
            let new = || Sqlite::at(&file).projection(Odd { create: WITH_RULES, ..odd(row) });
            let mut odd = new();
            note(&app, [sold(1, 1, 1)]);
            follow(app.store(), &mut odd, 10).unwrap();
            let at = odd.checkpoint().unwrap();
            Connection::open(&file).unwrap().execute_batch(by_hand).unwrap();
            note(&app, [sold(1, 1, 2)]);
            let error = match is_running {
                // As a runner does that looked at the tables before.
                true => trouble(crate::follow::follow_from(
                    at,
                    app.store().identity(),
                    app.store(),
                    &mut odd,
                    10,
                )),
                false => trouble(follow(app.store(), &mut new(), 10)),
            };
            assert!(matches!(error, TargetError::Broken { .. }), "{error}");
            assert!(error.to_string().contains(why), "{by_hand}: {error}");
            assert_eq!(rows(&file), [1]);

            odd.reset().unwrap();
            follow(app.store(), &mut odd, 10).unwrap();
            assert_eq!(rows(&file), [1, 2]);
        }
    }
}

/// Callers that wait for rows get no answer from tables that were changed while no event came.
#[test]
fn a_change_by_hand_is_noticed_when_the_checkpoint_is_confirmed() {
    for by_hand in ["DROP TRIGGER counting", "DROP INDEX by_cents"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.db");
        let app = app();
        let mut odd = Sqlite::at(&file).projection(Odd { create: WITH_RULES, ..odd(row) });
        note(&app, [sold(1, 1, 1)]);
        follow(app.store(), &mut odd, 10).unwrap();
        let at = odd.checkpoint().unwrap();
        odd.confirm(at).unwrap();
        Connection::open(&file).unwrap().execute_batch(by_hand).unwrap();
        let error = odd.confirm(at).unwrap_err();
        assert!(error.to_string().contains("of projection odd was removed"), "{by_hand}: {error}");
    }
}

#[test]
fn an_index_and_a_view_of_people_are_theirs_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    let mut odd = Sqlite::at(&file).projection(odd(row));
    note(&app, [sold(1, 1, 1)]);
    follow(app.store(), &mut odd, 10).unwrap();
    let sql = "CREATE INDEX of_people ON odd (cents); CREATE VIEW theirs AS SELECT * FROM odd";
    Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    note(&app, [sold(1, 1, 2)]);
    follow(app.store(), &mut odd, 10).unwrap();
    assert_eq!(rows(&file), [1, 2]);
}

/// A statement is looked at when it is prepared. One that `create` left prepared was run by
/// `apply` without another look.
#[test]
fn a_statement_that_create_prepared_is_looked_at_again() {
    struct Sly;
    impl diptych_sqlite::Projection for Sly {
        type Event = Trade;
        fn name(&self) -> &str {
            "sly"
        }
        fn create(&self, tx: &Transaction<'_>) -> Result {
            tx.execute_batch(ODD)?;
            drop(tx.prepare_cached("DELETE FROM sqlite_sequence"));
            drop(tx.prepare_cached("CREATE TABLE more (x)")?);
            Ok(())
        }
        fn apply(&self, tx: &Transaction<'_>, _: &Recorded<Trade>) -> Result {
            tx.prepare_cached("CREATE TABLE more (x)")?.execute(())?;
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, [sold(1, 1, 1)]);
    let (_, reason) = refused(follow(app.store(), &mut Sqlite::at(&file).projection(Sly), 10));
    assert!(reason.contains("made in `create`, not in `apply`"), "{reason}");
    let more = reader(&file).query_row("SELECT 1 FROM more", (), |row| row.get::<_, Value>(0));
    assert!(more.unwrap_err().to_string().contains("no such table"));
}
