//! Tables of other systems: import, the time before it, comparison, export.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use diptych::{App, Memory, Point};
use diptych_records::{
    Cell, CsvFile, DifferenceKind, Export, ImportError, ImportReport, Knowledge, List,
    ListKnowledge, NdjsonFile, PlainRecord, Record, Records, RowSource, SqliteTable, WithRecords,
};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

mod flights;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("customer")]
struct Customer {
    #[key]
    id: String,
    #[unique]
    email: Option<String>,
    city: String,
    note: Option<String>,
    cents: Option<i64>,
    is_member: bool,
    /// A decimal, as text.
    rate: Option<String>,
    since: Option<String>,
    photo: Option<String>,
}

const COLUMNS: &str = "id TEXT PRIMARY KEY, email TEXT, city TEXT NOT NULL, note TEXT, \
                       cents INTEGER, is_member INTEGER, rate TEXT, since TEXT, photo BLOB";

async fn started() -> (App, Records<Customer>) {
    let app = App::over(Memory::new()).records::<Customer>().start().await.unwrap();
    let customers = app.records::<Customer>();
    (app, customers)
}

/// A file of SQLite with a table of customers.
struct Shop {
    folder: TempDir,
}

impl Shop {
    fn new() -> Shop {
        let shop = Shop { folder: tempfile::tempdir().unwrap() };
        shop.run(&format!("CREATE TABLE customer ({COLUMNS})"));
        shop
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    fn run(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn table(&self) -> SqliteTable {
        SqliteTable::open(self.path(), "customer").unwrap()
    }

    /// Adds rows with these numbers.
    fn fill(&self, numbers: std::ops::Range<u32>) {
        let mut connection = Connection::open(self.path()).unwrap();
        let transaction = connection.transaction().unwrap();
        for number in numbers {
            let values = (format!("c{number}"), format!("c{number}@example.org"), number);
            let sql = "INSERT INTO customer (id, email, city, cents, is_member) \
                       VALUES (?1, ?2, 'Rome', ?3, 1)";
            transaction.prepare_cached(sql).unwrap().execute(values).unwrap();
        }
        transaction.commit().unwrap();
    }
}

fn counts(report: &ImportReport) -> (u64, u64, u64, u64, u64, u64) {
    let ImportReport { read, created, changed, unchanged, deleted, refused, .. } = report;
    (*read, *created, *changed, *unchanged, *deleted, *refused)
}

#[tokio::test]
async fn a_second_run_appends_nothing_and_a_changed_row_appends_its_change() {
    let (app, customers) = started().await;
    let shop = Shop::new();
    shop.fill(0..600);
    let first = customers.import(shop.table()).run().await.unwrap();
    assert_eq!(counts(&first), (600, 600, 0, 0, 0, 0));
    let head = app.head();
    let second = customers.import(shop.table()).run().await.unwrap();
    assert_eq!((counts(&second), app.head()), ((600, 0, 0, 600, 0, 0), head));

    shop.run("UPDATE customer SET city = 'Oslo' WHERE id = 'c7'");
    let third = customers.import(shop.table()).run().await.unwrap();
    assert_eq!(counts(&third), (600, 0, 1, 599, 0, 0));
    shop.run("UPDATE customer SET city = 'Rome' WHERE id = 'c7'");
    let back = customers.import(shop.table()).run().await.unwrap();
    assert_eq!(counts(&back), (600, 0, 1, 599, 0, 0), "the way back is a change, too");

    let history = customers.history("c7".to_owned()).await.unwrap().value;
    let told: Vec<_> = history.iter().map(|change| change.event.as_str()).collect();
    assert_eq!(told, ["customer-imported", "customer-changed", "customer-changed"]);
    assert_eq!(json!(history[1].old), json!({ "city": "Rome" }));
    assert_eq!(json!(history[1].new), json!({ "city": "Oslo" }));
    assert!(history.iter().all(|change| change.occurred_at.is_none()), "it is unknown");
}

#[tokio::test]
async fn a_change_made_here_stays_while_the_row_there_does_not_change() {
    let (_app, customers) = started().await;
    let shop = Shop::new();
    shop.fill(0..1);
    customers.import(shop.table()).run().await.unwrap();
    customers.patch("c0".to_owned(), json!({ "city": "Bern" })).await.unwrap();
    let again = customers.import(shop.table()).run().await.unwrap();
    assert_eq!(counts(&again), (1, 0, 0, 1, 0, 0));
    let row = customers.get("c0".to_owned()).strong().await.unwrap().value.unwrap().row;
    assert_eq!(row.city, "Bern");
}

/// A table whose reading ends with an error after some rows, as if the program were killed.
struct Torn(SqliteTable, u64);

impl RowSource for Torn {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn table(&self) -> &str {
        self.0.table()
    }
    fn columns(&self) -> &[String] {
        self.0.columns()
    }
    fn read(
        &mut self,
        row: &mut dyn FnMut(&[Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let (mut left, last) = (self.1, self.1);
        self.0.read(&mut |cells| {
            if left == 0 {
                let (table, problem) = ("customer".to_owned(), "torn".to_owned());
                return Err(ImportError::Row { table, row: last + 1, problem });
            }
            left -= 1;
            row(cells)
        })
    }
}

#[tokio::test]
async fn a_run_that_was_stopped_half_way_goes_on_with_the_next_one() {
    let (_app, customers) = started().await;
    let shop = Shop::new();
    shop.fill(0..1_000);
    let torn = customers.import(Torn(shop.table(), 450)).run().await.unwrap_err();
    assert_eq!(
        torn.to_string(),
        "cannot read row 451 of customer: torn; mend the table, and run it again"
    );
    let after = customers.import(shop.table()).run().await.unwrap();
    assert_eq!(counts(&after), (1_000, 550, 0, 450, 0, 0));
    assert!(customers.compare(shop.table()).run().await.unwrap().is_equal());
}

/// The folder of [`Shop`] for the process that is killed.
const FOLDER: &str = "DIPTYCH_TEST_IMPORT_FOLDER";

#[tokio::test]
async fn an_import_that_kills_its_process() {
    // The next test runs it in a process of its own.
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let app = App::open(folder.join("log")).unwrap().records::<Customer>().start().await.unwrap();
    let table = SqliteTable::open(folder.join("shop.db"), "customer").unwrap();
    let run = app.records::<Customer>().import(table).run_with(|report| {
        if report.created >= 1_000 {
            std::process::abort();
        }
    });
    panic!("it ended: {:?}", run.await);
}

#[tokio::test]
async fn a_run_whose_process_was_killed_goes_on_with_the_next_one() {
    let shop = Shop::new();
    shop.fill(0..3_000);
    let killed = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_import_that_kills_its_process"])
        .env(FOLDER, shop.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&killed.stdout).into_owned();
    assert!(killed.status.code().is_none() && !said.contains("it ended"), "{killed:?}");

    let app = App::open(shop.folder.path().join("log")).unwrap();
    let app = app.records::<Customer>().start().await.unwrap();
    let customers = app.records::<Customer>();
    let after = customers.import(shop.table()).run().await.unwrap();
    assert_eq!((after.read, after.changed, after.refused), (3_000, 0, 0));
    assert_eq!(after.created + after.unchanged, 3_000);
    assert!((1_000..3_000).contains(&after.unchanged), "{after:?}");
    assert!(customers.compare(shop.table()).run().await.unwrap().is_equal());
    assert_eq!(app.head().get(), 3_000, "one event a row");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn null_empty_text_decimals_dates_zones_bytes_and_unicode_keys_come_as_they_are() {
    let (_app, customers) = started().await;
    let shop = Shop::new();
    shop.run(
        "INSERT INTO customer VALUES
         ('Zoë 🦀 ключ', NULL, '', '', 9007199254740993, 0, '12.30',
          '2024-02-29T23:59:60+05:45', x'00ff10'),
         ('100%/a', 'a@example.org', 'Rome', NULL, NULL, 1, '0.10', '2024-03-31', NULL)",
    );
    let report = customers.import(shop.table()).run().await.unwrap();
    assert_eq!(counts(&report), (2, 2, 0, 0, 0, 0), "{report:?}");
    let row = customers.get("Zoë 🦀 ключ".to_owned()).strong().await.unwrap().value.unwrap().row;
    let expected = Customer {
        id: "Zoë 🦀 ключ".to_owned(),
        email: None,
        city: String::new(),
        note: Some(String::new()),
        cents: Some(9_007_199_254_740_993),
        is_member: false,
        rate: Some("12.30".to_owned()),
        since: Some("2024-02-29T23:59:60+05:45".to_owned()),
        photo: Some("AP8Q".to_owned()),
    };
    assert_eq!(row, expected);
    let row = customers.get("100%/a".to_owned()).strong().await.unwrap().value.unwrap().row;
    assert_eq!((row.note, row.cents, row.is_member), (None, None, true));
    assert_eq!(row.rate.as_deref(), Some("0.10"));

    // The same rows as CSV and NDJSON are unchanged: the digest is of the row, not of its file.
    let csv = shop.folder.path().join("customer.csv");
    let export = customers.export().await.unwrap();
    let unclear = export.to_csv(&csv).unwrap_err();
    assert!(matches!(unclear, ImportError::Nulls { column } if column == "note"));
    export.nulls("\\N").to_csv(&csv).unwrap();
    let table = CsvFile::open(&csv).unwrap().nulls("\\N").named("shop.db");
    let report = customers.import(table).run().await.unwrap();
    assert_eq!(counts(&report), (2, 0, 0, 2, 0, 0), "{report:?}");
    let lines = shop.folder.path().join("customer.ndjson");
    fs::write(&lines, format!("{}\n\n", json!(expected))).unwrap();
    let table = NdjsonFile::open(&lines).unwrap();
    let report = customers.import(table).run().await.unwrap();
    assert_eq!(counts(&report), (1, 0, 0, 1, 0, 0), "{report:?}");
}

#[tokio::test]
async fn an_empty_cell_of_csv_has_no_value_if_its_field_takes_that() {
    let (_app, customers) = started().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    let text = "\u{feff}number,city,note,cents,is_member,fax\n7,,,12,yes,1\n8,\"a\nb\",x,,f,2\n";
    fs::write(&path, text).unwrap();
    let table = || CsvFile::open(&path).unwrap();
    let unmapped = customers.import(table()).run().await.unwrap_err().to_string();
    assert!(unmapped.contains("no field number for its column number"), "{unmapped}");
    let import = customers.import(table()).rename("number", "id").skip("fax");
    let report = import.run().await.unwrap();
    assert_eq!(counts(&report), (2, 2, 0, 0, 0, 0), "{report:?}");
    let row = customers.get("7".to_owned()).strong().await.unwrap().value.unwrap().row;
    assert_eq!((row.city.as_str(), row.note, row.cents, row.is_member), ("", None, Some(12), true));
    let row = customers.get("8".to_owned()).strong().await.unwrap().value.unwrap().row;
    assert_eq!((row.city.as_str(), row.cents, row.is_member), ("a\nb", None, false));
}

#[tokio::test]
async fn rows_that_do_not_fit_are_listed_and_the_others_imported() {
    let (_app, customers) = started().await;
    customers
        .create(Customer {
            id: "here".to_owned(),
            email: Some("taken@example.org".to_owned()),
            city: "Rome".to_owned(),
            note: None,
            cents: None,
            is_member: false,
            rate: None,
            since: None,
            photo: None,
        })
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("customer.csv");
    let rows = "id,email,city,is_member,cents\n1,a@x,Rome,1,1\n2,a@x,Rome,1,1\n3,,Rome,maybe,1\n\
                1,b@x,Rome,0,1\nhere,c@x,Oslo,0,1\n4,taken@example.org,Rome,0,1\n,,Rome,0,\n\
                5,,Rome,0,1.5\n6,,Rome,0,\n";
    fs::write(&path, rows).unwrap();
    let report = customers.import(CsvFile::open(&path).unwrap()).run().await.unwrap();
    assert_eq!(counts(&report), (9, 2, 0, 0, 0, 7), "{report:?}");
    let mut reasons: Vec<_> =
        report.refusals.iter().map(|row| (row.row, row.reason.as_str())).collect();
    reasons.sort_unstable();
    let expected = [
        (2, "another row has this email: change either"),
        (3, "is_member: does not fit: invalid type: string \"maybe\", expected a boolean"),
        (4, "id: an earlier row has this key: a key names one row"),
        (5, "exists here with other values and was not imported: make both equal, or skip the row"),
        (6, "another row has this email: change either"),
        (7, "id: is empty: give the row a key"),
        (8, "cents: does not fit: invalid type: string \"1.5\", expected i64"),
    ];
    assert_eq!(reasons, expected);
}

#[tokio::test]
async fn a_changed_primary_key_is_a_new_row_and_the_old_one_goes_if_that_is_asked_for() {
    let (_app, customers) = started().await;
    let shop = Shop::new();
    shop.fill(0..3);
    customers.import(shop.table()).run().await.unwrap();
    shop.run("UPDATE customer SET id = 'ü', email = 'new@example.org' WHERE id = 'c1'");
    let report = customers.import(shop.table()).run().await.unwrap();
    assert_eq!(counts(&report), (3, 1, 0, 2, 0, 0));
    let compared = customers.compare(shop.table()).run().await.unwrap();
    assert_eq!((compared.there, compared.here, compared.differing), (3, 4, 1));
    assert_eq!(compared.differences[0].key, "c1");
    assert_eq!(compared.differences[0].kind, DifferenceKind::MissingThere);

    let own = Customer { id: "own".into(), ..a_row() };
    customers.create(own).await.unwrap();
    let report = customers.import(shop.table()).delete_missing().run().await.unwrap();
    assert_eq!(counts(&report), (3, 0, 0, 3, 1, 0), "a row of our own stays");
    shop.run("UPDATE customer SET id = 'c1' WHERE id = 'ü'");
    // The new key has the email of the row that is to go. That one goes first.
    let report = customers.import(shop.table()).delete_missing().run().await.unwrap();
    assert_eq!(counts(&report), (3, 0, 0, 2, 1, 1), "{report:?}");
    assert!(report.refusals[0].reason.contains("another row has this email"), "{report:?}");
    let report = customers.import(shop.table()).delete_missing().run().await.unwrap();
    assert_eq!(counts(&report), (3, 1, 0, 2, 0, 0), "{report:?}");
}

fn a_row() -> Customer {
    Customer {
        id: "a".into(),
        email: None,
        city: "Rome".into(),
        note: None,
        cents: None,
        is_member: false,
        rate: None,
        since: None,
        photo: None,
    }
}

#[tokio::test]
async fn before_its_import_a_row_is_unknown_and_a_row_made_here_is_absent() {
    let (app, customers) = started().await;
    customers.create(Customer { id: "own".into(), ..a_row() }).await.unwrap();
    let before = app.head();
    let shop = Shop::new();
    shop.fill(0..1);
    customers.import(shop.table()).run().await.unwrap();
    let after = app.head();
    let key = || "c0".to_owned();
    let unknown = Knowledge::Unknown { imported_at: after.get() };
    assert_eq!(customers.as_of(key(), before).await.unwrap(), unknown);
    let recorded = Point::now().recorded_before(diptych::Timestamp::from_micros(1));
    assert_eq!(customers.as_of(key(), recorded).await.unwrap(), unknown);
    assert!(matches!(customers.as_of(key(), after).await.unwrap(), Knowledge::There(_)));
    let own = customers.as_of("own".to_owned(), before.before()).await.unwrap();
    assert_eq!(own, Knowledge::Absent);
    assert_eq!(customers.as_of("none".to_owned(), before).await.unwrap(), Knowledge::Absent);
    customers.delete(key()).await.unwrap();
    assert_eq!(customers.as_of(key(), app.head()).await.unwrap(), Knowledge::Absent);
    assert_eq!(customers.as_of(key(), before).await.unwrap(), unknown);
}

#[tokio::test]
async fn before_the_first_import_a_list_is_unknown_and_then_has_the_rows_that_the_log_knew() {
    let (app, customers) = started().await;
    customers.create(Customer { id: "own".into(), ..a_row() }).await.unwrap();
    let before = app.head();
    let listed = async |point: Point| {
        let list = customers.list_as_of(List::new(), point).unwrap().await.unwrap();
        match list {
            ListKnowledge::Listed(page) => {
                Ok(page.items.into_iter().map(|entry| entry.row.id).collect::<Vec<_>>())
            }
            ListKnowledge::Unknown { imported_at } => Err(imported_at),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(listed(before.into()).await, Ok(vec!["own".to_owned()]), "nothing was imported");
    let shop = Shop::new();
    shop.fill(0..2);
    customers.import(shop.table()).run().await.unwrap();
    let first = before.plus(1);
    assert_eq!(listed(before.into()).await, Err(first.get()));
    let recorded = Point::now().recorded_before(diptych::Timestamp::from_micros(1));
    assert_eq!(listed(recorded).await, Err(first.get()));
    assert_eq!(listed(first.into()).await.unwrap().len(), 2);
    let then = app.head();
    shop.fill(2..3);
    customers.import(shop.table()).run().await.unwrap();
    assert_eq!(listed(then.into()).await.unwrap().len(), 3, "as of the run before");
    assert_eq!(listed(Point::now()).await.unwrap().len(), 4);
    let wrong = customers.list_as_of(List::new().order_by("note"), before);
    assert!(wrong.is_err_and(|invalid| invalid.field == "note"));
}

#[tokio::test]
async fn a_comparison_lists_the_rows_of_differing_ranges_and_no_others() {
    let (_app, customers) = started().await;
    let shop = Shop::new();
    shop.fill(0..5_000);
    customers.import(shop.table()).run().await.unwrap();
    let compared = customers.compare(shop.table()).run().await.unwrap();
    assert!(compared.is_equal());
    assert_eq!((compared.ranges, compared.differing_ranges), (5, 0));

    customers.patch("c10".to_owned(), json!({ "city": "Oslo", "cents": 1 })).await.unwrap();
    customers.delete("c4999".to_owned()).await.unwrap();
    shop.run("DELETE FROM customer WHERE id = 'c4998'");
    let compared = customers.compare(shop.table()).run().await.unwrap();
    assert!(!compared.is_equal());
    assert_eq!((compared.there, compared.here, compared.differing), (4_999, 4_999, 3));
    assert!(compared.differing_ranges <= 3, "{compared:?}");
    let listed: Vec<_> = compared.differences.iter().map(|row| json!(row)).collect();
    assert_eq!(
        listed,
        [
            json!({ "key": "c10", "kind": "other-values", "fields": {
                "city": { "there": "Rome", "here": "Oslo" },
                "cents": { "there": 10, "here": 1 },
            }}),
            json!({ "key": "c4998", "kind": "missing-there" }),
            json!({ "key": "c4999", "kind": "missing-here" }),
        ]
    );
}

#[tokio::test]
async fn a_typed_record_reads_what_a_program_without_its_type_imported() {
    let (app, customers) = started().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    let header = "number,email,city,note,cents,is_member,fax\n";
    let write = |rows: &str| fs::write(&path, format!("{header}{rows}")).unwrap();
    write("007,a@x,,,12,true,1\n8,,Rome,x,,false,2\n9,a@x,Rome,,1,true,3\n");
    let plain = PlainRecord::new("customer", "id")
        .unique("email")
        .rename("number", "id")
        .skip("fax")
        .text_column("number")
        .text_column("city");
    let import = async |plain: &PlainRecord| {
        let table = CsvFile::open(&path).unwrap();
        plain.import(app.store(), table, |_| ()).await.unwrap()
    };
    let report = import(&plain).await;
    assert_eq!(counts(&report), (3, 2, 0, 0, 0, 1), "{report:?}");
    assert_eq!(report.refusals[0].reason, "another row has this email: change either");
    assert_eq!(counts(&import(&plain).await), (3, 0, 0, 2, 0, 1));
    let row = customers.get("007".to_owned()).strong().await.unwrap().value.unwrap().row;
    assert_eq!((row.city.as_str(), row.cents, row.is_member), ("", Some(12), true));
    let taken = Customer { id: "own".into(), email: Some("a@x".into()), ..a_row() };
    assert!(customers.create(taken).await.is_err(), "its unique value has its tag");

    write("007,a@x,Oslo,,12,true,1\n");
    let report = import(&plain.clone().delete_missing()).await;
    assert_eq!(counts(&report), (1, 0, 1, 0, 1, 0), "{report:?}");
    customers.patch("007".to_owned(), json!({ "note": "here" })).await.unwrap();
    let mut table = CsvFile::open(&path).unwrap();
    let compared = plain.compare(app.store(), &mut table, |_, _| ()).await.unwrap();
    assert_eq!((compared.there, compared.here, compared.differing), (1, 1, 1));
    let fields = json!({ "note": { "there": null, "here": "here" } });
    assert_eq!(json!(compared.differences[0])["fields"], fields);

    // The type reads the table as the same rows, and the plain export has the same.
    let table = CsvFile::open(&path).unwrap();
    let typed = customers.import(table).rename("number", "id").skip("fax").run().await.unwrap();
    assert_eq!(counts(&typed), (1, 0, 0, 1, 0, 0), "{typed:?}");
    let back = folder.path().join("back.db");
    plain.export(app.store(), |_, _| ()).await.unwrap().to_sqlite(&back).unwrap();
    let compared = customers.compare(SqliteTable::open(&back, "customer").unwrap());
    assert!(compared.run().await.unwrap().is_equal());
}

#[tokio::test]
async fn a_plain_import_names_the_row_and_the_column_of_each_refusal() {
    let (app, _) = started().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    let long = "k".repeat(257);
    fs::write(&path, format!("id,email\na,a@x\nb,a@x\na,c@x\n,d@x\n{long},e@x\n")).unwrap();
    let plain = PlainRecord::new("customer", "id").unique("email");
    let table = CsvFile::open(&path).unwrap();
    let report = plain.import(app.store(), table, |_| ()).await.unwrap();
    let mut reasons: Vec<_> =
        report.refusals.iter().map(|row| (row.row, row.reason.as_str())).collect();
    reasons.sort_unstable();
    let expected = [
        (2, "another row has this email: change either"),
        (3, "id: an earlier row has this key: a key names one row"),
        (4, "id: is empty: give the row a key"),
        (5, "id: has 257 bytes, more than 256: take a shorter key"),
    ];
    assert_eq!(reasons, expected);
    assert_eq!(counts(&report), (5, 1, 0, 0, 0, 4), "{report:?}");
}

#[test]
fn rows_of_any_view_become_a_table_with_the_types_of_their_values() {
    #[derive(Serialize)]
    struct City {
        name: &'static str,
        people: u64,
        share: Option<f64>,
        is_capital: bool,
        parts: Vec<u8>,
    }
    let rome =
        City { name: "Ro\"me", people: u64::MAX, share: None, is_capital: true, parts: vec![1] };
    let export = Export::of("cities", [rome]).unwrap().key("name");
    let ddl = export.ddl();
    for column in
        ["\"name\" TEXT PRIMARY KEY NOT NULL", "\"people\" TEXT", "\"is_capital\" BOOLEAN"]
    {
        assert!(ddl.contains(column), "{ddl}");
    }
    let folder = tempfile::tempdir().unwrap();
    export.to_sqlite(folder.path().join("cities.db")).unwrap();
    let mut table = SqliteTable::open(folder.path().join("cities.db"), "cities").unwrap();
    let mut cells = Vec::new();
    table
        .read(&mut |row| {
            cells = row.to_vec();
            Ok(())
        })
        .unwrap();
    let named: BTreeMap<_, _> = table.columns().iter().map(String::as_str).zip(cells).collect();
    assert_eq!(named["people"], Cell::Text(u64::MAX.to_string()));
    assert_eq!((&named["share"], &named["is_capital"]), (&Cell::Null, &Cell::Integer(1)));
    assert_eq!(named["parts"], Cell::Text("[1]".to_owned()));
    assert!(matches!(Export::of("x", [1]), Err(ImportError::Export { .. })));
}

/// `DIPTYCH_MEASURE=1 cargo test --release -p diptych-records --features import --test import
/// many_rows` has 100,000 rows, and fails with the times of its steps. Otherwise it has fewer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_go_in_once_and_compare_as_equal() {
    let is_measured = std::env::var_os("DIPTYCH_MEASURE").is_some();
    let rows: u32 = if is_measured { 100_000 } else { 2_000 };
    let shop = Shop::new();
    shop.fill(0..rows);
    let rows = u64::from(rows);
    let app = App::open(shop.folder.path().join("log")).unwrap();
    let app = app.records::<Customer>().start().await.unwrap();
    let customers = app.records::<Customer>();
    let begin = std::time::Instant::now();
    let report = customers.import(shop.table()).run().await.unwrap();
    let (first, head) = (begin.elapsed(), app.head());
    assert_eq!(counts(&report), (rows, rows, 0, 0, 0, 0));
    let begin = std::time::Instant::now();
    let report = customers.import(shop.table()).run().await.unwrap();
    let second = begin.elapsed();
    assert_eq!((counts(&report), app.head()), ((rows, 0, 0, rows, 0, 0), head));
    let begin = std::time::Instant::now();
    assert!(customers.compare(shop.table()).run().await.unwrap().is_equal());
    let compared = begin.elapsed();
    assert!(!is_measured, "first {first:?}, second {second:?}, comparison {compared:?}");
}
