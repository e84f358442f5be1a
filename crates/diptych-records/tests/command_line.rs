//! The commands that a program offers for its own records and views.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{fs, path::Path, process::ExitCode};

use clap::{CommandFactory, Parser};
use diptych::{App, Memory};
use diptych_records::{
    Export, ExportArgs, ImportError, Record, RecordCommand, RecordOutcome, Records, WithRecords,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("customer")]
struct Customer {
    #[key]
    id: u64,
    city: String,
    note: Option<String>,
}

/// The program of a shop.
#[derive(Debug, Parser)]
enum Program {
    /// The table of customers.
    #[command(subcommand)]
    Customers(RecordCommand),
    /// Export a view.
    Cities(ExportArgs),
}

async fn started() -> (App, Records<Customer>) {
    let app = App::over(Memory::new()).records::<Customer>().start().await.unwrap();
    let customers = app.records::<Customer>();
    (app, customers)
}

fn command(line: &[&str]) -> RecordCommand {
    match Program::try_parse_from([&["shop", "customers"], line].concat()) {
        Ok(Program::Customers(command)) => command,
        other => panic!("{other:?}"),
    }
}

async fn ran(customers: &Records<Customer>, line: &[&str]) -> Result<RecordOutcome, ImportError> {
    command(line).outcome(customers).await
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_commands_are_consistent_and_keep_their_own_help() {
    Program::command().debug_assert();
    let mut program = Program::command();
    program.build();
    let customers = program.find_subcommand("customers").unwrap();
    let help = |name: &str| {
        let command = customers.find_subcommand(name).unwrap();
        command.get_about().unwrap().to_string()
    };
    assert!(help("import").starts_with("Import a table"), "{}", help("import"));
    assert!(help("compare").starts_with("Compare a table"), "{}", help("compare"));
    assert!(help("export").starts_with("Export all rows"), "{}", help("export"));
}

#[tokio::test]
async fn a_table_goes_in_by_its_type_and_comes_back() {
    let (app, customers) = started().await;
    let folder = tempfile::tempdir().unwrap();
    let csv = path(folder.path(), "crm.csv");
    fs::write(&csv, "number;city;note;fax\n1;Rome;-;1\n2;Oslo;x;2\nthree;Bern;;3\n").unwrap();
    let options = ["--rename", "number=id", "--skip", "fax", "--delimiter", ";", "--nulls", "-"];
    let with = |first: &[&'static str]| {
        [first, &[csv.as_str()], &options[..]]
            .concat()
            .iter()
            .map(|of| (*of).to_owned())
            .collect::<Vec<_>>()
    };
    let strings = with(&["import"]);
    let line: Vec<&str> = strings.iter().map(String::as_str).collect();
    let outcome = ran(&customers, &line).await.unwrap();
    assert!(!outcome.is_clean());
    let report = serde_json::to_value(&outcome).unwrap();
    assert_eq!((&report["created"], &report["refused"]), (&json!(2), &json!(1)));
    assert!(outcome.to_string().contains("row 3: id"), "the type refuses it: {outcome}");
    let head = app.head();
    fs::write(&csv, "number;city;note;fax\n1;Rome;-;1\n2;Oslo;x;2\n").unwrap();
    assert!(ran(&customers, &line).await.unwrap().is_clean());
    assert_eq!(app.head(), head, "a second run appends nothing");

    let mut compare = line.clone();
    compare[0] = "compare";
    assert!(ran(&customers, &compare).await.unwrap().is_clean());
    customers.patch(2, json!({ "city": "Ulm" })).await.unwrap();
    let outcome = ran(&customers, &compare).await.unwrap();
    assert!(
        outcome.to_string().contains("2: city is \"Oslo\" there, and \"Ulm\" here"),
        "{outcome}"
    );
    let code = command(&compare).run(&customers).await.unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(3)));

    let back = path(folder.path(), "back.db");
    let outcome = ran(&customers, &["export", &back]).await.unwrap();
    assert_eq!(serde_json::to_value(outcome).unwrap()["rows"], 2);
    let (_other, again) = started().await;
    let outcome = ran(&again, &["import", &back, "--table", "customer"]).await.unwrap();
    assert!(outcome.is_clean());
    let rows = async |of: &Records<Customer>| {
        let list = of.list(diptych_records::List::new()).unwrap().strong().await.unwrap();
        list.items.iter().map(|entry| entry.row.clone()).collect::<Vec<_>>()
    };
    assert_eq!(rows(&customers).await, rows(&again).await);
    let wrong = ran(&customers, &["export", &path(folder.path(), "back.txt")]).await;
    assert!(matches!(wrong, Err(ImportError::Format { .. })));
}

#[tokio::test]
async fn columns_make_a_key_and_rows_that_are_gone_are_deleted() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
    #[record("weather")]
    struct Weather {
        #[key]
        id: String,
        origin: String,
        hour: u32,
    }
    let app = App::over(Memory::new()).records::<Weather>().start().await.unwrap();
    let weather = app.records::<Weather>();
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "weather.ndjson");
    let line = ["import", &file, "--key-columns", "origin,hour", "--source", "noaa"];
    let import = async |rows: &str, line: &[&str]| {
        fs::write(&file, rows).unwrap();
        let report = command(line).outcome(&weather).await.unwrap();
        serde_json::to_value(report).unwrap()
    };
    let two = "{\"origin\":\"JFK\",\"hour\":1}\n{\"origin\":\"JFK\",\"hour\":2}\n";
    assert_eq!(import(two, &line).await["created"], 2);
    let one = "{\"origin\":\"JFK\",\"hour\":2}\n";
    let report = import(one, &[&line[..], &["--delete-missing"]].concat()).await;
    assert_eq!((&report["deleted"], &report["unchanged"]), (&json!(1), &json!(1)));
    assert!(weather.get("JFK/2".to_owned()).strong().await.unwrap().is_some());
    let compare = ["compare", &file, "--key-columns", "origin,hour"];
    assert!(command(&compare).outcome(&weather).await.unwrap().is_clean());
}

#[test]
fn a_view_that_only_the_program_knows_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let csv = path(folder.path(), "cities.csv");
    let line = ["shop", "cities", &csv, "--table", "places", "--nulls", "NA", "--json"];
    let Program::Cities(args) = Program::try_parse_from(line).unwrap() else {
        panic!("another command")
    };
    let rows: [Value; 2] =
        [json!({ "city": "Rome", "customers": 2 }), json!({ "city": "", "customers": null })];
    let export = Export::of("cities", rows).unwrap().key("city");
    assert_eq!(
        format!("{:?}", args.run(export.clone()).unwrap()),
        format!("{:?}", ExitCode::SUCCESS)
    );
    assert_eq!(fs::read_to_string(&csv).unwrap(), "city,customers\nRome,2\n,NA\n");
    let ddl = fs::read_to_string(path(folder.path(), "cities.sql")).unwrap();
    assert!(ddl.starts_with("CREATE TABLE \"places\""), "{ddl}");
    let again = args.run(export).unwrap_err();
    assert!(matches!(again, ImportError::File { .. }), "a file that exists is left: {again}");
}
