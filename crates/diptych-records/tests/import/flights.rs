//! The tables of the flights are imported, exported, and imported again.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use diptych::{App, Memory};
use diptych_records::{Cell, CsvFile, Record, RowSource, SqliteTable, WithRecords};
use serde::{Deserialize, Serialize};

use crate::counts;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("airport")]
struct Airport {
    #[key]
    faa: String,
    name: String,
    lat: f64,
    lon: f64,
    alt: i32,
    tz: i32,
    dst: String,
    tzone: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("plane")]
struct Plane {
    #[key]
    tailnum: String,
    year: Option<u16>,
    #[serde(rename = "type")]
    kind: String,
    manufacturer: String,
    model: String,
    engines: u8,
    seats: u16,
    speed: Option<u32>,
    engine: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("weather")]
struct Weather {
    #[key]
    id: String,
    origin: String,
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    temp: Option<f64>,
    dewp: Option<f64>,
    humid: Option<f64>,
    wind_dir: Option<u16>,
    wind_speed: Option<f64>,
    wind_gust: Option<f64>,
    precip: f64,
    pressure: Option<f64>,
    visib: f64,
    time_hour: String,
}

/// A table of the flights, unpacked into the folder.
fn unpacked(folder: &Path, name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights/data");
    let packed = File::open(data.join(format!("{name}.csv.gz"))).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let path = folder.join(format!("{name}.csv"));
    fs::write(&path, text).unwrap();
    path
}

/// The cells of each column by key. Numbers are equal by their value, not by their text.
fn columns(table: &mut dyn RowSource, key: &[&str]) -> BTreeMap<Vec<String>, Vec<String>> {
    let names = table.columns().to_vec();
    let mut rows = BTreeMap::new();
    let text = |cell: &Cell| match cell {
        Cell::Null => "no value".to_owned(),
        Cell::Integer(whole) => (*whole as f64).to_string(),
        Cell::Real(real) => real.to_string(),
        Cell::Text(text) => text.parse::<f64>().map_or(text.clone(), |real| real.to_string()),
        other => panic!("{other:?}"),
    };
    table
        .read(&mut |cells| {
            let named: BTreeMap<_, _> =
                names.iter().map(String::as_str).zip(cells.iter().map(text)).collect();
            let key = key.iter().map(|name| named[name].clone()).collect();
            let cells = named.into_iter().filter(|(name, _)| *name != "id");
            let row = cells.map(|(name, cell)| format!("{name}={cell}")).collect();
            assert!(rows.insert(key, row).is_none(), "a key comes twice");
            Ok(())
        })
        .unwrap();
    rows
}

/// Imports a table, exports it, and imports it again.
async fn there_and_back<R: Record>(name: &str, rows: u64, key: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = unpacked(folder.path(), name);
    let table = || CsvFile::open(&path).unwrap().nulls("NA");
    let app = App::over(Memory::new()).records::<R>().start().await.unwrap();
    let import = app.records::<R>().import(table());
    let import = if key.len() > 1 { import.key_of(key) } else { import };
    let report = import.run().await.unwrap();
    assert_eq!(counts(&report), (rows, rows, 0, 0, 0, 0), "{:?}", report.refusals.first());

    let (csv, sqlite) = (folder.path().join("back.csv"), folder.path().join("back.db"));
    let export = app.records::<R>().export().await.unwrap().nulls("NA");
    export.to_csv(&csv).unwrap();
    export.to_sqlite(&sqlite).unwrap();
    assert!(export.to_csv(&csv).is_err() && export.to_sqlite(&sqlite).is_err(), "it exists");
    assert_eq!(fs::read_to_string(csv.with_extension("sql")).unwrap(), export.ddl());

    let original = columns(&mut table(), key);
    assert_eq!(original.len() as u64, rows);
    let mut from_csv = CsvFile::open(&csv).unwrap().nulls("NA");
    assert_eq!(columns(&mut from_csv, key), original, "CSV column by column");
    let mut from_sqlite = SqliteTable::open(&sqlite, R::NAME).unwrap();
    assert_eq!(columns(&mut from_sqlite, key), original, "SQLite column by column");

    let again = App::over(Memory::new()).records::<R>().start().await.unwrap();
    let report = again.records::<R>().import(from_sqlite.clone()).run().await.unwrap();
    assert_eq!(counts(&report), (rows, rows, 0, 0, 0, 0));
    let compared = again.records::<R>().compare(from_csv).run().await.unwrap();
    assert!(compared.is_equal(), "{compared:?}");
    let compared = app.records::<R>().compare(from_sqlite).run().await.unwrap();
    assert!(compared.is_equal(), "{compared:?}");
}

#[tokio::test]
async fn the_airports_of_the_flights_come_back_column_by_column() {
    there_and_back::<Airport>("airports", 1_458, &["faa"]).await;
}

#[tokio::test]
async fn the_planes_of_the_flights_come_back_column_by_column() {
    there_and_back::<Plane>("planes", 3_322, &["tailnum"]).await;
}

#[tokio::test]
async fn the_weather_of_the_flights_comes_back_column_by_column() {
    there_and_back::<Weather>("weather", 26_115, &["origin", "time_hour"]).await;
}
