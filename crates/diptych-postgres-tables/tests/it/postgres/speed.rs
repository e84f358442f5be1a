//! The rows and the time of a catch-up beside a hand-written `COPY` of the same rows. To measure:
//!
//! ```sh
//! DIPTYCH_CATCH_UP=200000 cargo test --release -p diptych-postgres-tables --test it speed -- \
//!     --nocapture
//! ```

use std::{
    env,
    time::{Duration, Instant},
};

use diptych::{App, Recorded, projection::Target};
use diptych_postgres_tables::{Projection, Transaction};
use diptych_postgres_testing::{runtime, shared};
use futures_util::SinkExt;

use super::{
    follow::{follow, read},
    shop::{Place, Trade, app, happen},
};

/// Lines of sales alone.
struct Lines;

const TABLE: &str = "create table line (shop text not null, month bigint not null,
    cents bigint not null)";

impl Projection for Lines {
    type Event = Trade;

    fn name(&self) -> &str {
        "lines"
    }

    fn create(&self) -> Vec<String> {
        vec![TABLE.to_owned()]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        if let Trade::Sold { shop, month, cents } = &event.event {
            let columns = ["shop", "month", "cents"];
            tx.insert("line", &columns, &[shop, &i64::from(*month), cents])?;
        }
        Ok(())
    }
}

/// Too few to measure anything.
const EVENTS: usize = 4_000;
const BATCH: usize = 1_000;
const ROUNDS: usize = 5;

/// Reads the log in the same batches, and copies the rows of each in a transaction of its own.
fn copy_by_hand(app: &App, place: &Place) -> Duration {
    let address = place.address.clone();
    runtime().block_on(async {
        let (client, connection) =
            tokio_postgres::connect(address.split('?').next().unwrap(), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        let schema = &place.schema;
        let made = format!(
            "create schema \"{schema}\"; set search_path = \"{schema}\"; {TABLE};
             create table place (position bigint); insert into place values (0)"
        );
        client.batch_execute(&made).await.unwrap();
        let copy = client.prepare("copy line from stdin").await.unwrap();
        let set = client.prepare("update place set position = $1").await.unwrap();
        let began = Instant::now();
        let mut after = diptych::Position::START;
        while after < app.head() {
            let (events, upto) = read::<Trade>(app.store(), after, BATCH);
            client.batch_execute("begin").await.unwrap();
            client.execute(&set, &[&upto.get().cast_signed()]).await.unwrap();
            let mut text = String::new();
            for event in &events {
                if let Trade::Sold { shop, month, cents } = &event.event {
                    use std::fmt::Write;
                    writeln!(text, "{shop}\t{month}\t{cents}").unwrap();
                }
            }
            let sink = client.copy_in::<_, bytes::Bytes>(&copy).await.unwrap();
            let mut sink = std::pin::pin!(sink);
            sink.send(text.into()).await.unwrap();
            sink.finish().await.unwrap();
            client.batch_execute("commit").await.unwrap();
            after = upto;
        }
        began.elapsed()
    })
}

#[test]
fn a_catch_up_gives_the_rows_of_a_copy_by_hand() {
    let Some(server) = shared() else { return };
    let named = env::var("DIPTYCH_CATCH_UP");
    let events = named.map_or(EVENTS, |text| text.parse().unwrap());
    let app = app();
    for part in 0..20 {
        happen(&app, &mut fastrand::Rng::with_seed(part), events / 20);
    }
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let place = Place::new(server);
        let by_hand = copy_by_hand(&app, &place);
        let [by_hand_rows] = place.ask(server, ["select count(*), sum(cents)::bigint from line"]);
        let place = Place::new(server);
        let mut lines = place.tables().projection(Lines);
        lines.checkpoint().unwrap();
        let began = Instant::now();
        follow(app.store(), &mut lines, BATCH).unwrap();
        let ours = began.elapsed();
        let [our_rows] = place.ask(server, ["select count(*), sum(cents)::bigint from line"]);
        let [sums, our_sums] = [by_hand_rows, our_rows]
            .map(|rows| (rows[0].get::<_, i64>(0), rows[0].get::<_, i64>(1)));
        assert_eq!(sums, our_sums);
        let ratio = by_hand.as_secs_f64() / ours.as_secs_f64();
        println!("round {round}: by hand {by_hand:?}, projection {ours:?}, {ratio:.2} of it");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median {:.2} of a COPY by hand", ratios[ROUNDS / 2]);
}
