//! Tables of PostgreSQL become rows of records, with a real server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod postgres {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use diptych::{App, Memory};
    use diptych_postgres_testing::{PostgresServer, shared};
    use diptych_records::{
        Cell, ImportError, ImportReport, PlainRecord, PostgresTable, Record, RowSource, WithRecords,
    };
    use serde::{Deserialize, Serialize};
    use serde_json::{Map, Value, json};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
    #[record("client")]
    struct Client {
        #[key]
        id: i64,
        #[unique]
        email: Option<String>,
        city: String,
        since: String,
        parts: Vec<Option<i64>>,
        more: Value,
    }

    /// A schema of the shared server for one test.
    struct Schema {
        server: &'static PostgresServer,
        name: String,
    }

    impl Schema {
        /// Makes the schema, and executes the statements in it.
        fn with(sql: &str) -> Option<Schema> {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("old{}", NEXT.fetch_add(1, Ordering::Relaxed));
            // The server is started by a runtime, and the test runs on another one.
            let server = thread::scope(|scope| scope.spawn(shared).join().unwrap())?;
            let schema = Schema { server, name };
            schema.run(&format!("create schema {}", schema.name));
            schema.run(sql);
            Some(schema)
        }

        fn run(&self, sql: &str) {
            let sql = format!("set search_path = {}; {sql}", self.name);
            thread::scope(|scope| {
                scope.spawn(|| self.server.execute("postgres", &sql)).join().unwrap();
            });
        }

        fn address(&self) -> String {
            self.server.address("postgres", "none")
        }

        fn open(&self, table: &str) -> Result<PostgresTable, ImportError> {
            PostgresTable::open(self.address(), format!("{}.{table}", self.name))
        }

        fn select(&self, statement: &str) -> Result<PostgresTable, ImportError> {
            PostgresTable::select(self.address(), "rows", statement)
        }
    }

    fn counts(report: &ImportReport) -> (u64, u64, u64, u64, u64, u64) {
        let ImportReport { read, created, changed, unchanged, deleted, refused, .. } = report;
        (*read, *created, *changed, *unchanged, *deleted, *refused)
    }

    async fn plain(app: &App, record: &PlainRecord, table: PostgresTable) -> ImportReport {
        record.import(app.store(), table, |_| ()).await.unwrap()
    }

    /// The rows of the record as the log has them.
    async fn rows(app: &App, record: &PlainRecord) -> Vec<Map<String, Value>> {
        let folder = tempfile::tempdir().unwrap();
        let mut compared = Vec::new();
        let export = record.export(app.store(), |_, _| ()).await.unwrap();
        export.to_sqlite(folder.path().join("rows.db")).unwrap();
        let mut table =
            diptych_records::SqliteTable::open(folder.path().join("rows.db"), "client").unwrap();
        let names = table.columns().to_vec();
        table
            .read(&mut |cells| {
                let value = |cell: &Cell| match cell {
                    Cell::Null => Value::Null,
                    Cell::Integer(whole) => json!(whole),
                    Cell::Real(real) => json!(real),
                    Cell::Text(text) => json!(text),
                    other => panic!("{other:?}"),
                };
                compared.push(names.iter().cloned().zip(cells.iter().map(value)).collect());
                Ok(())
            })
            .unwrap();
        compared
    }

    #[tokio::test]
    async fn each_type_comes_without_loss_and_a_second_run_appends_nothing() {
        let Some(old) = Schema::with(
            "create type mood as enum ('ok', 'so ''so');
             create domain cents as numeric(20, 4);
             create table client (
                 id bigint primary key, small smallint, is_member boolean, part real,
                 whole double precision, price numeric, owed cents, name text, code char(3),
                 tag uuid, born date, at time, at_zone timetz, local timestamp,
                 instant timestamptz, during interval, doc json, docb jsonb, photo bytea, mood mood,
                 host inet, bits bit(3), numbers integer[], texts text[], prices numeric[],
                 photos bytea[], instants timestamptz[][]);
             set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set bytea_output = 'escape';
             insert into client values
             (9223372036854775807, -32768, true, 0.1, 0.1,
              12345678901234567890.123456789012345678900, 1.5, E'a\\tb\\\\\\nc\\u0001 Zoë 🦀', 'x',
              'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '2024-02-29', '23:59:59.999999',
              '12:00:00+05:45', '2024-02-29 23:59:59.5', '2024-03-01 05:44:59.5+05:45',
              '1 year 2 months 3.5 seconds', '{\"b\": [1, null, \"\\u0000\"], \"a\": 0.5}',
              '{\"k\": 18446744073709551615}', '\\x00ff10', 'so ''so', '10.0.0.1/8', '101',
              '{1,NULL,3}', array['', 'NULL', null, 'a,\"b\\}'], array[1.10, null],
              array['\\x00'::bytea], array[array['2024-01-01 00:00:00Z'::timestamptz]]),
             (1, null, null, null, null, null, null, null, null, null, null, null, null, null,
              'infinity', null, null, null, null, null, null, null, null, null, null, null, '{}');
             reset all",
        ) else {
            return;
        };
        let app = App::over(Memory::new()).start().await.unwrap();
        let record = PlainRecord::new("client", "id");
        let report = plain(&app, &record, old.open("client").unwrap()).await;
        assert_eq!(counts(&report), (2, 2, 0, 0, 0, 0), "{report:?}");
        let rows = rows(&app, &record).await;
        let expected = json!({
            "id": 9_223_372_036_854_775_807_i64, "small": -32768, "is_member": 1, "part": 0.1,
            "whole": 0.1, "price": "12345678901234567890.123456789012345678900",
            "owed": "1.5000", "name": "a\tb\\\nc\u{1} Zoë 🦀", "code": "x  ",
            "tag": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "born": "2024-02-29",
            "at": "23:59:59.999999", "at_zone": "12:00:00+05:45",
            "local": "2024-02-29T23:59:59.5", "instant": "2024-02-29T23:59:59.5Z",
            "during": "P1Y2MT3.5S", "doc": "{\"a\":0.5,\"b\":[1,null,\"\\u0000\"]}",
            "docb": "{\"k\":18446744073709551615}", "photo": "AP8Q", "mood": "so 'so",
            "host": "10.0.0.1/8", "bits": "101", "numbers": "[1,null,3]",
            "texts": "[\"\",\"NULL\",null,\"a,\\\"b\\\\}\"]", "prices": "[\"1.10\",null]",
            "photos": "[\"AA==\"]", "instants": "[[\"2024-01-01T00:00:00Z\"]]",
        });
        let of = |id: i64| rows.iter().find(|row| row["id"] == json!(id)).unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(of(i64::MAX)[name], *value, "{name}");
        }
        assert_eq!((&of(1)["instant"], &of(1)["instants"]), (&json!("infinity"), &json!("[]")));
        assert_eq!(of(1)["name"], Value::Null);

        let head = app.head();
        let report = plain(&app, &record, old.open("client").unwrap()).await;
        assert_eq!((counts(&report), app.head()), ((2, 0, 0, 2, 0, 0), head));
        let mut table = old.open("client").unwrap();
        let compared = record.compare(app.store(), &mut table, |_, _| ());
        assert!(compared.await.unwrap().is_equal());
    }

    const CLIENTS: &str = "create table client (id bigint primary key, email text, city text,
        since timestamptz, parts integer[], more jsonb);
        insert into client select n, 'c' || n || '@example.org', 'Rome',
            timestamptz '2024-01-01 00:00:00Z' + n * interval '1 hour', array[n, null],
            jsonb_build_object('n', n) from generate_series(1, 3000) n";

    #[tokio::test]
    async fn runs_with_and_without_the_type_follow_the_table_and_double_nothing() {
        let Some(old) = Schema::with(CLIENTS) else { return };
        let app = App::over(Memory::new()).records::<Client>().start().await.unwrap();
        let clients = app.records::<Client>();
        let record = PlainRecord::new("client", "id").unique("email");
        let report = plain(&app, &record, old.open("client").unwrap()).await;
        assert_eq!(counts(&report), (3_000, 3_000, 0, 0, 0, 0));
        let row = clients.get(7).strong().await.unwrap().value.unwrap().row;
        assert_eq!((row.since.as_str(), row.parts), ("2024-01-01T07:00:00Z", vec![Some(7), None]));
        let typed = clients.import(old.open("client").unwrap()).run().await.unwrap();
        assert_eq!(counts(&typed), (3_000, 0, 0, 3_000, 0, 0));

        // The unique value of a row that goes is free in the next run.
        old.run(
            "update client set city = 'Oslo' where id % 1000 = 0;
             delete from client where id = 5;
             insert into client values (6000, 'c5@example.org', 'Bern', now(), '{}', 'null'),
                 (6001, 'c6@example.org', 'Bern', now(), '{}', '1')",
        );
        let record = record.delete_missing();
        let report = plain(&app, &record, old.open("client").unwrap()).await;
        assert_eq!(counts(&report), (3_001, 0, 3, 2_996, 1, 2), "{report:?}");
        assert!(report.refusals[0].reason.contains("another row has this email"), "{report:?}");
        let report = plain(&app, &record, old.open("client").unwrap()).await;
        assert_eq!(counts(&report), (3_001, 1, 0, 2_999, 0, 1), "{report:?}");
        old.run("delete from client where id = 6001");
        let compared = clients.compare(old.open("client").unwrap()).run().await.unwrap();
        assert!(compared.is_equal(), "{compared:?}");
        let select = format!("select * from {}.client where id = 1; ", old.name);
        let name = format!("{}.client", old.name);
        let some = PostgresTable::select(old.address(), name, &select).unwrap();
        assert_eq!(counts(&plain(&app, &record, some).await), (1, 0, 0, 1, 2_999, 0));
    }

    /// A table whose reading ends with an error after some rows, as if the program were killed.
    struct Torn(PostgresTable, u64);

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
            let mut left = self.1;
            self.0.read(&mut |cells| {
                left = left.checked_sub(1).ok_or(ImportError::Stopped)?;
                row(cells)
            })
        }
    }

    #[tokio::test]
    async fn a_run_that_was_stopped_half_way_goes_on_with_the_next_one() {
        let Some(old) = Schema::with(CLIENTS) else { return };
        let app = App::over(Memory::new()).start().await.unwrap();
        let record = PlainRecord::new("client", "id").unique("email");
        let torn = record.import(app.store(), Torn(old.open("client").unwrap(), 1_700), |_| ());
        assert!(matches!(torn.await.unwrap_err(), ImportError::Stopped));
        assert_eq!(app.store().fresh_head().await.unwrap().get(), 1_700);
        let report = plain(&app, &record, old.open("client").unwrap()).await;
        assert_eq!(counts(&report), (3_000, 1_300, 0, 1_700, 0, 0));
    }

    #[tokio::test]
    async fn a_run_sees_one_state_of_the_table_while_others_write() {
        let Some(old) = Schema::with(CLIENTS) else { return };
        let mut table = old.open("client").unwrap();
        let mut cities = std::collections::BTreeSet::new();
        let mut count = 0;
        table
            .read(&mut |cells| {
                if count == 0 {
                    old.run(
                        "update client set city = 'Oslo'; delete from client where id > 10;
                         insert into client (id, city) values (9000, 'Bern')",
                    );
                }
                count += 1;
                cities.insert(format!("{:?}", cells[2]));
                Ok(())
            })
            .unwrap();
        assert_eq!(count, 3_000);
        assert_eq!(cities.into_iter().collect::<Vec<_>>(), ["Text(\"Rome\")"]);
    }

    #[tokio::test]
    async fn what_cannot_be_mapped_is_an_error_with_its_column_and_type() {
        let Some(old) = Schema::with(
            "create type place as (x integer, y integer);
             create table client (id integer, span int4range, place place, spans int4range[]);
             insert into client values (1, '[1,2)', row(1, 2), '{}');
             create table rates (id integer, rate double precision, doc jsonb, more integer[]);
             insert into rates values (1, 'NaN', '1', '{}'), (2, 1, '0.1234567890123456789', '{}'),
                 (3, 1, '1', '[0:1]={1,2}'), (4, 1, '1', '{1}'), (4, 2, '2', '{}'),
                 (null, null, null, null)",
        ) else {
            return;
        };
        let app = App::over(Memory::new()).start().await.unwrap();
        let record = PlainRecord::new("client", "id");
        let import = async |record: &PlainRecord| {
            let table = old.open("client").unwrap();
            record.import(app.store(), table, |_| ()).await.map_err(|error| error.to_string())
        };
        let said = import(&record).await.unwrap_err();
        assert!(said.contains("column span has the type int4range, which has no form"), "{said}");
        let skipping = record.clone().skip("span");
        let said = import(&skipping).await.unwrap_err();
        assert!(said.contains("column place has the type place"), "{said}");
        let said = import(&skipping.clone().skip("place")).await.unwrap_err();
        assert!(said.contains("column spans has the type int4range[]"), "{said}");
        let report = import(&skipping.skip("place").skip("spans")).await.unwrap();
        assert_eq!(counts(&report), (1, 1, 0, 0, 0, 0));

        let record = PlainRecord::new("rate", "id");
        let report = plain(&app, &record, old.open("rates").unwrap()).await;
        assert_eq!(counts(&report), (6, 1, 0, 0, 0, 5), "{report:?}");
        let reasons: Vec<_> = report.refusals.iter().map(|row| row.reason.as_str()).collect();
        for (reason, words) in reasons.iter().zip([
            "rate: NaN has no form in JSON",
            "doc: 0.1234567890123456789 is no number that readers of JSON keep",
            "more: [0:1]={1,2} is an array whose first element is not number 1",
            "id: an earlier row has this key",
            "id: is empty: give the row a key",
        ]) {
            assert!(reason.starts_with(words), "{reason}");
        }
    }

    #[tokio::test]
    async fn hostile_tables_and_statements_get_clear_errors_and_change_nothing() {
        let Some(old) = Schema::with(
            "create table \"a.b\" (id integer, \"we\"\"ird\nname\" text);
             insert into \"a.b\" values (1, E'\\\\N'), (2, repeat('x', 5000000)), (3, E'\\t\\n');
             create table client (id integer, city text); insert into client values (1, 'Rome')",
        ) else {
            return;
        };
        let failed = |table: Result<PostgresTable, ImportError>| table.unwrap_err().to_string();
        let missing = failed(old.open("nothing"));
        assert!(missing.contains("does not exist (42P01)"), "{missing}");
        for name in ["x\" union select 1 --", "\"; drop table client; --", "a\0b"] {
            failed(old.open(name));
        }
        let two = failed(old.select("select 1; drop table client"));
        assert!(two.contains("multiple commands"), "{two}");
        failed(old.select("select 1) to program 'touch /tmp/x' --"));
        let secret = "postgres://ann:hidden@127.0.0.1:1/shop?password=hidden";
        let away = failed(PostgresTable::open(secret, "client"));
        assert!(!away.contains("hidden"), "{away}");

        let app = App::over(Memory::new()).start().await.unwrap();
        let writes = format!("delete from {}.client returning id", old.name);
        let table = old.select(&writes).unwrap();
        let record = PlainRecord::new("client", "id");
        let refused = record.import(app.store(), table, |_| ()).await.unwrap_err().to_string();
        assert!(refused.contains("read-only transaction"), "{refused}");

        // A comment hides the end of no statement, and a name may have any characters.
        let select = format!("select * from {}.\"a.b\" -- all of them", old.name);
        let report = plain(&app, &record, old.select(&select).unwrap()).await;
        assert_eq!(counts(&report), (3, 2, 0, 0, 0, 1), "{report:?}");
        let refusal = &report.refusals[0];
        assert_eq!(refusal.key.as_deref(), Some("2"));
        assert!(refusal.reason.contains("an event of this log has 4194304 at most"), "{refusal:?}");
        let mut cells = Vec::new();
        let mut table = old.select(&select).unwrap();
        assert_eq!(table.columns(), ["id", "we\"ird\nname"]);
        table
            .read(&mut |row| {
                cells.push(row[1].clone());
                Ok(())
            })
            .unwrap();
        assert_eq!(cells[0], Cell::Text("\\N".to_owned()));
        assert_eq!(cells[2], Cell::Text("\t\n".to_owned()));

        let table = old.open("client").unwrap();
        old.run("alter table client rename city to town");
        let renamed = record.import(app.store(), table, |_| ()).await.unwrap_err().to_string();
        assert!(renamed.contains("its columns have changed since it was opened"), "{renamed}");
        let record = record.rename("city", "place");
        let table = old.open("client").unwrap();
        let renamed = record.import(app.store(), table, |_| ()).await.unwrap_err().to_string();
        assert!(renamed.contains("has no column city; it has id, town"), "{renamed}");
    }

    /// The memory of this process without files, in KiB.
    fn own_kibibytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The address for the process whose memory is measured.
    const ADDRESS: &str = "DIPTYCH_TEST_IMPORT_ADDRESS";

    #[tokio::test]
    async fn an_import_whose_memory_is_measured() {
        // The next test runs it in a process of its own.
        let Ok(address) = std::env::var(ADDRESS) else { return };
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("log")).unwrap().start().await.unwrap();
        let record = PlainRecord::new("large", "id");
        let before = own_kibibytes();
        let mut most = before;
        for run in 0..2 {
            let table = PostgresTable::open(&address, "large").unwrap();
            let show = |_| most = most.max(own_kibibytes());
            let report = record.import(app.store(), table, show).await.unwrap();
            assert_eq!(report.refused, 0);
            assert_eq!([report.created, report.unchanged][run], report.read);
        }
        app.stop().await.unwrap();
        println!("grown by {} KiB", most - before);
    }

    /// `DIPTYCH_IMPORT_ROWS` has the number of rows.
    #[test]
    fn a_large_table_does_not_sit_in_memory() {
        let rows = std::env::var("DIPTYCH_IMPORT_ROWS").ok().and_then(|rows| rows.parse().ok());
        let rows: u64 = rows.unwrap_or(10_000);
        let Some(old) = Schema::with("") else { return };
        old.server.execute(
            "postgres",
            &format!(
                "create view public.large as select n as id, repeat(md5(n::text), 128) as text
             from generate_series(1, {rows}) n"
            ),
        );
        let ran = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "postgres::an_import_whose_memory_is_measured", "--nocapture"])
            .env(ADDRESS, old.address())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
        let grown = said.split("grown by ").nth(1).and_then(|rest| rest.split(' ').next());
        let grown: u64 = grown.unwrap().parse().unwrap();
        let table = rows * 4_096 / 1_024;
        println!("{rows} rows of {table} KiB, {grown} KiB of memory");
        assert!(grown < table / 2, "{grown} KiB for a table of {table} KiB");
    }
}
