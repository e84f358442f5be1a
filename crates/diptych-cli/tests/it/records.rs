//! Tables of other systems become rows of records, are compared with them, and come back.

mod postgres;

use std::{
    fs::{self, File},
    io::Read,
    path::PathBuf,
};

use rusqlite::{Connection, types::Value as SqlValue};
use serde_json::{Value, json};

use crate::{
    program::{Program, Ran},
    served::ServeProcess,
};

/// The tables of the flights: their keys, and the numbers of their rows.
const TABLES: &[(&str, &[&str], u64)] = &[
    ("airports", &["--key", "faa"], 1_458),
    ("planes", &["--key", "tailnum"], 3_322),
    ("weather", &["--key", "id", "--key-columns", "origin,time_hour"], 26_115),
];

impl Program {
    /// A file of this name in the folder of the program, with these contents.
    fn file(&self, name: &str, contents: &str) -> String {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A table of the flights as a CSV file.
    fn flights(&self, table: &str) -> String {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/flights/data");
        let packed = PathBuf::from(data).join(format!("{table}.csv.gz"));
        let mut text = String::new();
        let mut reader = flate2::read::GzDecoder::new(File::open(packed).unwrap());
        reader.read_to_string(&mut text).unwrap();
        self.file(&format!("{table}.csv"), &text)
    }

    fn events(&self) -> u64 {
        let stats = self.run(&["stats", "--json"], "");
        stats.lines()[0]["events"].as_u64().unwrap()
    }

    /// Runs a command on customers whose key is `id`, and gives its JSON.
    fn customers(&self, command: &str, file: &str, options: &[&str]) -> (Ran, Value) {
        let (ran, output) = self.customers_said(command, file, options);
        let output = output.unwrap_or_else(|| panic!("{}", ran.stderr));
        (ran, output)
    }

    /// Runs a command on customers, and gives its JSON if it came so far.
    fn customers_said(&self, command: &str, file: &str, options: &[&str]) -> (Ran, Option<Value>) {
        let args = [command, file, "--record", "customer", "--key", "id", "--json"];
        let ran = self.run(&[&args, options].concat(), "");
        let output = ran.lines().into_iter().next();
        (ran, output)
    }
}

/// The cells of a CSV file without the marks around them, by column.
fn columns(csv: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut lines = csv.lines().map(cells);
    let header = lines.next().unwrap();
    (header, lines.collect())
}

fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut is_quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            other => cells.last_mut().unwrap().push(other),
        }
    }
    cells
}

/// The rows in order of their cells, with the columns in order of `names`.
fn in_order(csv: &str, names: &[String]) -> Vec<Vec<String>> {
    let (header, rows) = columns(csv);
    let at = |name: &String| header.iter().position(|column| column == name).unwrap();
    let places: Vec<_> = names.iter().map(at).collect();
    // `0` and `0.0` are one number.
    let value = |text: &String| match text.parse::<f64>() {
        Ok(number) => number.to_string(),
        Err(_) => text.clone(),
    };
    let ordered = |row: Vec<String>| places.iter().map(|at| value(&row[*at])).collect();
    let mut rows: Vec<Vec<String>> = rows.into_iter().map(ordered).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn the_tables_of_the_flights_go_in_once_and_come_back_column_by_column() {
    for (table, key, rows) in TABLES {
        let program = Program::new();
        let csv = program.flights(table);
        let record = [&["--record", table, "--json", "--nulls", "NA"], *key].concat();
        let run = |command: &str, file: &str, record: &[&str]| {
            let ran = program.run(&[&[command, file], record].concat(), "");
            ran.ended(0, "");
            assert_eq!(ran.stderr, "", "no progress bar without a terminal");
            ran.lines()[0].clone()
        };
        let first = run("import", &csv, &record);
        assert_eq!((&first["created"], &first["refused"]), (&json!(rows), &json!(0)), "{table}");
        let events = program.events();
        assert_eq!(events, *rows);
        let second = run("import", &csv, &record);
        assert_eq!(second["unchanged"], json!(rows), "{table}");
        assert_eq!(program.events(), events, "a second run appends nothing");
        let compared = run("compare", &csv, &record);
        assert_eq!((&compared["equal"], &compared["there"]), (&json!(true), &json!(rows)));

        // The key is a column of its own if it is made of others.
        let export = ["--record", table, "--json", key[0], key[1]];
        let back = program.path("back.csv");
        let exported = run("export", &back, &[&export[..], &["--nulls", "NA"]].concat());
        assert_eq!(exported["rows"], json!(rows));
        let (before, after) =
            (fs::read_to_string(&csv).unwrap(), fs::read_to_string(&back).unwrap());
        let (names, _) = columns(&before);
        assert_eq!(in_order(&before, &names), in_order(&after, &names), "{table}");
        assert!(fs::read_to_string(program.path("back.sql")).unwrap().contains("CREATE TABLE"));

        // The SQLite file of the export goes into another log, and equals the first one.
        let database = program.path("back.db");
        run("export", &database, &export);
        let other = program.path("other");
        let again = ["--data", &other, "--record", table, "--table", table, key[0], key[1]];
        let [imported, compared] = ["import", "compare"].map(|command| {
            let ran = crate::program::run(&[&[command, &database, "--json"], &again[..]].concat());
            ran.ended(0, "");
            ran.lines()[0].clone()
        });
        assert_eq!((&imported["created"], &compared["equal"]), (&json!(rows), &json!(true)));
    }
}

#[test]
fn a_row_that_has_changed_appends_its_change_and_the_comparison_lists_it() {
    let program = Program::new();
    let path = program.path("crm.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE clients (number INTEGER PRIMARY KEY, city TEXT, note TEXT, fax TEXT);
         INSERT INTO clients VALUES (1, 'Rome', NULL, ''), (2, 'Oslo', '', ''), (3, 'Bern', 'x',
         '');",
    )
    .unwrap();
    let options = ["--table", "clients", "--rename", "number=id", "--skip", "fax"];
    let (ran, report) = program.customers("import", &path, &options);
    ran.ended(0, "");
    assert_eq!(report["created"], 3, "{report}");

    old.execute_batch(
        "UPDATE clients SET city = 'Genoa' WHERE number = 1;
         DELETE FROM clients WHERE number = 2; INSERT INTO clients VALUES (4, 'Ulm', NULL, '');",
    )
    .unwrap();
    let (ran, compared) = program.customers("compare", &path, &options);
    ran.ended(3, "rows differ");
    assert_eq!((&compared["equal"], &compared["differing"]), (&json!(false), &json!(3)));
    let expected = json!([
        { "key": "1", "kind": "other-values",
          "fields": { "city": { "there": "Genoa", "here": "Rome" } } },
        { "key": "2", "kind": "missing-there" },
        { "key": "4", "kind": "missing-here" },
    ]);
    assert_eq!(compared["differences"], expected);
    let text = ["compare", &path, "--record", "customer", "--key", "id"];
    let text = program.run(&[&text, &options[..]].concat(), "");
    assert!(
        text.stdout.contains("1: city is \"Genoa\" there, and \"Rome\" here"),
        "{}",
        text.stdout
    );

    let (ran, report) = program.customers("import", &path, &options);
    ran.ended(0, "");
    assert_eq!(
        (&report["created"], &report["changed"], &report["deleted"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let last = program.run(&["read", "--filter", "type=customer-changed"], "").lines();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0]["data"]["old"], json!({ "city": "Rome" }));
    assert_eq!(last[0]["data"]["new"], json!({ "city": "Genoa" }));
    let options = [&options[..], &["--delete-missing"]].concat();
    let (_, report) = program.customers("import", &path, &options);
    assert_eq!((&report["deleted"], &report["unchanged"]), (&json!(1), &json!(3)));
    let (ran, _) = program.customers("compare", &path, &options[..options.len() - 1]);
    ran.ended(0, "");
}

#[test]
fn refused_rows_are_listed_and_the_others_are_imported() {
    let program = Program::new();
    let rows = "{\"id\":1,\"email\":\"a@x\"}\n{\"email\":\"b@x\"}\n\n{\"id\":2,\"email\":\"a@x\"}\n\
                {\"id\":1,\"email\":\"c@x\"}\n{\"id\":\"u/\\u001b\",\"email\":null}\n";
    let file = program.file("people.ndjson", rows);
    let (ran, report) = program.customers("import", &file, &["--unique", "email"]);
    ran.ended(3, "rows were refused");
    assert_eq!(
        (&report["read"], &report["created"], &report["refused"]),
        (&json!(5), &json!(2), &json!(3))
    );
    let refusals = report["refusals"].as_array().unwrap();
    let of = |row: u64| {
        let found = refusals.iter().find(|refused| refused["row"] == row);
        found.unwrap_or_else(|| panic!("row {row} was not refused"))
    };
    assert_eq!((&of(2)["key"], &of(3)["key"]), (&Value::Null, &json!("2")));
    assert!(of(2)["reason"].as_str().unwrap().contains("no field id, the key"));
    assert!(of(3)["reason"].as_str().unwrap().contains("another row has this email"));
    assert!(of(4)["reason"].as_str().unwrap().contains("id: an earlier row has this key"));
    let args = ["import", &file, "--record", "customer", "--key", "id", "--unique", "email"];
    let text = program.run(&args, "");
    assert!(text.stdout.contains("row 3 with key 2: another row has this email"));
    assert_eq!(program.events(), 2);
}

#[test]
fn a_table_goes_into_the_log_of_a_server_and_comes_back() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    let file = program.file("people.csv", "id,city\n007,Rome\n8,\"O\"\"slo\"\n");
    let record = ["--data", &server.url, "--record", "customer", "--key", "id"];
    let run = |args: &[&str]| crate::program::run(&[args, &record[..]].concat());
    let ran = run(&["import", &file, "--text-column", "id"]);
    ran.ended(0, "");
    assert!(ran.stdout.contains("created    2\n"), "{}", ran.stdout);
    run(&["compare", &file, "--text-column", "id"]).ended(0, "");
    let back = program.path("back.sqlite3");
    run(&["export", &back, "--table", "people"]).ended(0, "");
    let rows = Connection::open(&back).unwrap();
    let sql = "SELECT id, city FROM people WHERE city LIKE 'O%'";
    let row: (SqlValue, String) =
        rows.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(row, (SqlValue::Text("8".to_owned()), "O\"slo".to_owned()));
}

#[test]
fn a_wrong_source_is_an_error_before_the_log_is_made() {
    let program = Program::new();
    let csv = program.file("people.csv", "id,city\n1,Rome\n");
    let text = program.file("people.txt", "id,city\n1,Rome\n");
    let database = program.path("crm.db");
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE clients (id, city)").unwrap();
    let run = |file: &str, options: &[&str]| {
        let args = ["import", file, "--record", "customer", "--key", "id"];
        program.run(&[&args, options].concat(), "")
    };
    run(&program.path("none.csv"), &[]).ended(1, "none.csv");
    run(&text, &[]).ended(1, "give --format");
    run(&database, &[]).ended(1, "name its table with --table");
    run(&database, &["--table", "customers"]).ended(1, "no such table");
    run(&csv, &["--table", "people"]).ended(1, "--table is for SQLite files");
    run(&database, &["--table", "clients", "--nulls", "NA"]).ended(1, "are for CSV files");
    run(&csv, &["--delimiter", "é"]).ended(1, "no ASCII character");
    run(&csv, &["--rename", "city"]).ended(1, "such as number=id");
    assert!(!program.data().exists());
    run(&csv, &["--skip", "fax"]).ended(1, "it has no column fax; it has id, city");
    run(&text, &["--format", "csv"]).ended(0, "");

    let export = |file: &str, options: &[&str]| {
        let args = ["export", file, "--record", "customer", "--key", "id"];
        program.run(&[&args, options].concat(), "")
    };
    export(&csv, &[]).ended(1, "people.csv");
    assert_eq!(fs::read_to_string(&csv).unwrap(), "id,city\n1,Rome\n", "it is left as it is");
    export(&database, &["--table", "clients"]).ended(1, "already exists");
    export(&program.path("out.json"), &[]).ended(1, "give --format sqlite or csv");
    export(&program.path("out"), &["--format", "ndjson"]).ended(1, "SQLite or CSV");
    assert!(!PathBuf::from(program.path("out")).exists());
}

#[test]
fn events_with_a_meaning_of_their_own_are_left_to_their_program() {
    let program = Program::new();
    program.load("{\"type\":\"customer-moved\",\"tags\":[\"customer:1\"],\"data\":{}}\n");
    let file = program.file("people.csv", "id,city\n1,Rome\n");
    for command in ["import", "compare"] {
        let args = [command, &file, "--record", "customer", "--key", "id"];
        program.run(&args, "").ended(1, "use that program");
    }
    assert_eq!(program.events(), 1);
}
