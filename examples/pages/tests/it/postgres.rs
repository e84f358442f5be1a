//! Programs on a real server of PostgreSQL.

use diptych::{
    LogOptions,
    log::Log,
    store::{Append, EventStore, RawEvent, Tag},
};
use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_postgres_testing::{PostgresServer, new_name, shared};

use crate::programs::{part_of, program, run};

#[tokio::test]
async fn a_log_in_a_database_is_opened_and_keeps_its_events() {
    let Some(server) = shared() else { return };
    let (address, folder) = (server.address("postgres", &new_name()), tempfile::tempdir().unwrap());
    let open = || run(program("postgres_log").env("DATABASE_URL", &address), folder.path());
    assert_eq!(open(), "the log ends at 0\n");
    append(&store(&address).await, "placed", ("order", "7"), "{}").await.unwrap();
    assert_eq!(open(), "the log ends at 1\n");
}

#[tokio::test]
async fn a_projection_writes_the_rows_of_a_log_in_a_folder() {
    let Some(server) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path().join("shop"), LogOptions::default()).unwrap();
    for (shop, amount) in [("rome", 5), ("oslo", 2), ("rome", 30)] {
        let payload = format!(r#"{{"shop":"{shop}","amount":{amount}}}"#);
        append(&log, "sold", ("shop", shop), &payload).await.unwrap();
    }
    log.close().unwrap();

    let database = database(server);
    let address = format!("postgres://postgres@127.0.0.1:{}/{database}", server.port());
    let catch_up = || run(program("postgres_sales").env("DATABASE_URL", &address), folder.path());
    catch_up();
    catch_up(); // it goes on after the checkpoint, and counts nothing twice
    let totals = rows(server, &database, "select shop, amount from shop.total order by shop");
    assert_eq!(totals.await, [("oslo".to_owned(), 2), ("rome".to_owned(), 35)]);
    let sales = rows(server, &database, "select shop, amount from shop.sale order by amount");
    assert_eq!(sales.await.len(), 3);
}

#[tokio::test]
async fn an_inline_projection_has_the_earlier_events_and_refuses_appends_without_it() {
    let Some(server) = shared() else { return };
    let (database, folder) = (database(server), tempfile::tempdir().unwrap());
    let address = server.address(&database, "payments");
    let payments = store(&address).await;
    for (account, cents) in [("ann", 500), ("bob", 7), ("ann", -100)] {
        let payload = format!(r#"{{"account":"{account}","cents":{cents}}}"#);
        append(&payments, "paid", ("account", account), &payload).await.unwrap();
    }
    run(program("postgres_balances").env("DATABASE_URL", &address), folder.path());
    let balances = rows(server, &database, "select account, cents from shop.balance order by 1");
    assert_eq!(balances.await, [("ann".to_owned(), 400), ("bob".to_owned(), 7)]);

    let payload = r#"{"account":"ann","cents":1}"#;
    let refused = append(&payments, "paid", ("account", "ann"), payload).await.unwrap_err();
    let shown = part_of("guides/postgres.md", "The\nerror names both lists:\n\n```text\n", "\n```");
    assert!(refused.contains(&shown), "the page has\n{shown}\nand the error is\n{refused}");
}

#[tokio::test]
async fn the_rows_of_orders_are_those_of_their_events() {
    let Some(server) = shared() else { return };
    let (database, folder) = (database(server), tempfile::tempdir().unwrap());
    let address = server.address(&database, "orders");
    let orders = store(&address).await;
    for (name, order, item) in [
        ("item_added", "7", "lamp"),
        ("item_added", "7", "rope"),
        ("item_added", "8", "saw"),
        ("item_packed", "7", "lamp"),
        ("item_packed", "8", "saw"),
    ] {
        let payload = format!(r#"{{"order":"{order}","item":"{item}"}}"#);
        append(&orders, name, ("order", order), &payload).await.unwrap();
    }
    run(program("postgres_orders").env("DATABASE_URL", &address), folder.path());
    let unpacked = rows(server, &database, "select id, unpacked from shop.orders order by id");
    assert_eq!(unpacked.await, [("7".to_owned(), 1), ("8".to_owned(), 0)]);
}

async fn store(address: &str) -> PostgresStore {
    PostgresStore::open(address, PostgresOptions::default()).await.unwrap()
}

/// Appends an event with a tag, and returns the words of a refusal.
async fn append(
    store: &impl EventStore,
    name: &'static str,
    (key, value): (&str, &str),
    payload: &str,
) -> Result<(), String> {
    let event = RawEvent::new(name, payload).tag(Tag::new(key, value));
    let accepted = store.append(Append::event(event)).await.map_err(|error| error.to_string())?;
    accepted.synced().await.map(drop).map_err(|error| error.to_string())
}

/// Makes a database of its own for a test.
fn database(server: &PostgresServer) -> String {
    let name = new_name().replace('-', "_");
    std::thread::scope(|scope| {
        let made = scope.spawn(|| server.execute("postgres", &format!("create database {name}")));
        made.join().unwrap();
    });
    name
}

/// Rows of a text and a number.
async fn rows(server: &PostgresServer, database: &str, query: &str) -> Vec<(String, i64)> {
    let client = server.client(database).await;
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
