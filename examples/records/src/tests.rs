use diptych_records::{CsvFile, List, Record, Records, SqliteTable};
use serde_json::Value;

use super::*;

const PLAIN: [&str; 12] = [
    "a customer is created: 201",
    "it is created again: 409 exists",
    "another has the same address: 409 taken",
    "its name is changed: 200 Anna",
    "an older revision is changed: 412 stale",
    "it moves by a plain change",
    "it is shown: Anna in Oslo",
    "customers of this round in Oslo: 1",
    "it is deleted: 204",
    "it is deleted: 204",
    "it is gone: 404 missing",
    "its history has 4 events",
];

#[tokio::test]
async fn one_client_works_unchanged_at_all_stages_of_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let told = async |stage| told(stage, folder.path(), &format!("s{stage}")).await.unwrap();
    assert_eq!(told(1).await, PLAIN);
    assert_eq!(told(2).await, PLAIN);
    let mut with_intent = PLAIN;
    with_intent[5] = "it moves by move-house, after 422 retired: 200";
    assert_eq!(told(3).await, with_intent);
}

#[tokio::test]
async fn the_second_view_follows_the_rows_of_all_stages() {
    let folder = tempfile::tempdir().unwrap();
    let is = |city: &str, customers: u64| (city.to_owned(), customers);
    let (app, _server) = plain::start(folder.path()).await.unwrap();
    let customers = Records::<plain::Customer>::of(&app);
    for (id, city) in [("a", "Rome"), ("b", "Rome"), ("c", "Oslo")] {
        let row = json!({ "id": id, "email": id, "city": city, "name": id });
        customers.create(serde_json::from_value(row).unwrap()).await.unwrap();
    }
    app.stop().await.unwrap();

    let (app, _server) = second_view::start(folder.path()).await.unwrap();
    let cities = async |app: &App| {
        let cities = app.query(second_view::PerCity {}).strong().await.unwrap().value;
        cities.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(cities(&app).await, [is("Oslo", 1), is("Rome", 2)]);
    let customers = Records::<plain::Customer>::of(&app);
    customers.patch("a".to_owned(), json!({ "city": "Oslo" })).await.unwrap();
    customers.delete("c".to_owned()).await.unwrap();
    assert_eq!(cities(&app).await, [is("Oslo", 1), is("Rome", 1)]);
    app.stop().await.unwrap();

    let (app, _server) = intent::start(folder.path()).await.unwrap();
    let move_house = intent::MoveHouse { customer: "b".to_owned(), city: "Oslo".to_owned() };
    app.execute(move_house).await.unwrap();
    let cities = app.query(intent::PerCity {}).strong().await.unwrap().value;
    assert_eq!(cities.into_iter().collect::<Vec<_>>(), [is("Oslo", 2)]);
    app.stop().await.unwrap();
}

/// All rows of a record, with each of their columns.
async fn rows<R: Record>(app: &App) -> Vec<Value> {
    let page = Records::<R>::of(app).list(List::new()).unwrap().strong().await.unwrap().value;
    page.items.into_iter().map(|entry| serde_json::to_value(entry.row).unwrap()).collect()
}

#[tokio::test]
async fn the_rows_go_back_to_a_table_and_come_in_again_column_by_column() {
    let (log, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    told(1, log.path(), "s1").await.unwrap();
    settle(log.path()).await.unwrap();
    let lines = way_back::run(log.path(), folder.path()).await.unwrap();
    assert_eq!(lines[0], "customer.db has the same 3 customers");
    assert_eq!(lines[1], "customer.csv has the same 3 customers");
    let (app, _server) = intent::start(log.path()).await.unwrap();
    let before = rows::<intent::Customer>(&app).await;
    app.stop().await.unwrap();
    assert_eq!(before[0]["city"], "Bern", "the move by the command is in the table");

    for is_csv in [false, true] {
        let again = tempfile::tempdir().unwrap();
        let (app, _server) = plain::start(again.path()).await.unwrap();
        let customers = Records::<plain::Customer>::of(&app);
        let (csv, sqlite) = (folder.path().join("customer.csv"), folder.path().join("customer.db"));
        let report = match is_csv {
            true => customers.import(CsvFile::open(csv).unwrap()).run().await,
            false => customers.import(SqliteTable::open(sqlite, "customer").unwrap()).run().await,
        };
        assert_eq!(report.unwrap().created, 3);
        let after = rows::<plain::Customer>(&app).await;
        for column in ["id", "email", "city", "name"] {
            let values =
                |rows: &[Value]| rows.iter().map(|row| row[column].clone()).collect::<Vec<_>>();
            assert_eq!(values(&before), values(&after), "{column}");
        }
        app.stop().await.unwrap();
    }
}
