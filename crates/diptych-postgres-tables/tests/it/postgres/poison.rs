//! Projections that name a key: an event that cannot be applied holds back its own keys alone.

use std::{collections::BTreeMap, time::Duration};

use diptych::{Recorded, Tag};
use diptych_postgres_tables::{Projection, Transaction};
use diptych_postgres_testing::{PostgresServer, shared};

use super::shop::{Place, Trade, app, note, sold};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// The sales of each shop. The database refuses sales of 666 cents until the check is dropped.
struct Tills;

impl Projection for Tills {
    type Event = Trade;

    fn name(&self) -> &str {
        "tills"
    }

    fn key(&self) -> Option<&str> {
        Some("shop")
    }

    fn create(&self) -> Vec<String> {
        let line = "create table line (shop text not null, cents bigint not null)";
        vec![line.to_owned()]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        let Trade::Sold { shop, month, cents } = &event.event else { return Ok(()) };
        // A month that is none is refused by the server, with the other rows of the batch.
        let cents = if *month > 12 { None } else { Some(*cents) };
        tx.insert("line", &["shop", "cents"], &[shop, &cents])?;
        Ok(())
    }
}

fn sums(server: &PostgresServer, place: &Place) -> BTreeMap<String, i64> {
    let [rows] = place.ask(server, ["select shop, sum(cents)::bigint from line group by shop"]);
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_server_refuses_holds_back_its_own_key_and_the_others_go_on() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let log = app();
    tokio::task::block_in_place(|| {
        note(&log, [sold(1, 1, 10), sold(2, 1, 20), sold(1, 13, 1), sold(2, 1, 5), sold(1, 1, 7)]);
    });
    let builder = log.beside().projection(place.tables().projection(Tills));
    let app = builder.start().await.unwrap();
    let control = app.projection("tills").unwrap();
    control.caught_up(LONG).await.unwrap();
    let seen = || std::thread::scope(|scope| scope.spawn(|| sums(server, &place)).join().unwrap());
    let [one, two] = [1, 2].map(|shop| format!("shop-{shop}"));
    assert_eq!(seen(), BTreeMap::from([(one.clone(), 10), (two.clone(), 25)]));
    let marks = std::thread::scope(|scope| {
        let ask = || {
            let sql = "select key, position, failed, held from diptych_poisoned";
            let [rows] = place.ask(server, [sql]);
            rows.iter()
                .map(|row| (row.get::<_, String>(0), row.get(1), row.get(2), row.get(3)))
                .collect::<Vec<(String, i64, i64, i64)>>()
        };
        scope.spawn(ask).join().unwrap()
    });
    assert_eq!(marks, [("shop:shop-1".to_owned(), 3, 3, 2)]);
    // The cause is still there, so a retry changes nothing; a skip lets the others of the key in.
    let key = Tag::new("shop", "shop-1");
    control.retry_key(&key).await.unwrap_err();
    let note = diptych::follow::SkipNote { who: "ann".to_owned(), why: "no month".to_owned() };
    control.skip_event(&key, note).await.unwrap();
    assert_eq!(seen(), BTreeMap::from([(one, 17), (two, 25)]));
    app.stop().await.unwrap();
}
