//! Appends with and without rows in their transaction, in one run. To measure:
//!
//! ```sh
//! DIPTYCH_INLINE_APPENDS=4000 cargo test --release -p diptych-postgres-tables --test it \
//!     inline_speed -- --nocapture
//! ```

use std::{env, thread, time::Instant};

use diptych::{Event, Recorded, Store, store::Append};
use diptych_postgres::{PostgresOptions, StoreBuilder};
use diptych_postgres_tables::{InlineProjection, Projection, Transaction};
use diptych_postgres_testing::{PostgresServer, new_name, runtime, shared};
use pollster::block_on;

use super::shop::{Trade, sold};

/// One row for each event, by one statement, or by `COPY`.
struct Lines {
    copies: bool,
}

impl Projection for Lines {
    type Event = Trade;

    fn name(&self) -> &str {
        "lines"
    }

    fn create(&self) -> Vec<String> {
        vec!["create table line (shop text not null, cents bigint not null)".to_owned()]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        let Trade::Sold { shop, cents, .. } = &event.event else { return Ok(()) };
        match self.copies {
            true => tx.insert("line", &["shop", "cents"], &[shop, cents])?,
            false => {
                tx.execute("insert into line values ($1, $2)", &[shop, cents])?;
            }
        }
        Ok(())
    }
}

/// Too few to measure anything.
const APPENDS: usize = 192;
const ROUNDS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Rows {
    None,
    Copied,
    Executed,
}

/// Appends a second, and milliseconds of a call of the server, for which the log is locked.
fn measure(server: &PostgresServer, rows: Rows, writers: usize, appends: usize) -> (f64, f64) {
    let log = new_name();
    let mut builder =
        StoreBuilder::new(server.address("postgres", &log), PostgresOptions::default());
    if !matches!(rows, Rows::None) {
        let copies = matches!(rows, Rows::Copied);
        builder = builder.inline(InlineProjection::new(Lines { copies }).schema(&log));
    }
    let store = Store::new(block_on(builder.open()).unwrap());
    let append = |writer: usize| {
        let event = sold(writer as u64, 1, 10).encode().unwrap();
        block_on(async { store.append(Append::event(event)).await.unwrap().synced().await })
            .unwrap();
    };
    append(0);
    let calls = || {
        let sql = "select w.batch from diptych.writer w join diptych.log l on l.id = w.log
            where l.name = $1";
        runtime().block_on(async {
            let client = server.client("postgres").await;
            client.query_one(sql, &[&log]).await.unwrap().get::<_, i64>(0)
        })
    };
    let (before, began) = (calls(), Instant::now());
    thread::scope(|scope| {
        for writer in 0..writers {
            let append = &append;
            scope.spawn(move || (0..appends / writers).for_each(|_| append(writer)));
        }
    });
    let took = began.elapsed().as_secs_f64();
    let calls = (calls() - before) as f64;
    if !matches!(rows, Rows::None) {
        let count = format!("select count(*) from \"{log}\".line");
        let rows: i64 = runtime().block_on(async {
            let client = server.client("postgres").await;
            client.query_one(&count, &[]).await.unwrap().get(0)
        });
        assert_eq!(rows as usize, appends / writers * writers + 1);
    }
    ((appends / writers * writers) as f64 / took, took * 1_000.0 / calls)
}

#[test]
fn appends_with_rows_write_them_all_at_a_known_price() {
    let Some(server) = shared() else { return };
    let named = env::var("DIPTYCH_INLINE_APPENDS");
    let appends = named.map_or(APPENDS, |text| text.parse().unwrap());
    for writers in [1, 64] {
        // One writer waits for each sync.
        let appends = if writers == 1 { appends / 4 } else { appends };
        let mut ratios = [const { Vec::new() }; 2];
        for round in 0..ROUNDS {
            let (plain, plain_call) = measure(server, Rows::None, writers, appends);
            for (rows, ratios) in [Rows::Copied, Rows::Executed].into_iter().zip(&mut ratios) {
                let (rate, call) = measure(server, rows, writers, appends);
                ratios.push(rate / plain);
                println!(
                    "round {round}, {writers} writers: {plain:.0} appends/s without rows in calls \
                     of {plain_call:.2} ms, {rate:.0} with rows {rows:?} in calls of {call:.2} ms"
                );
            }
        }
        for (rows, ratios) in [Rows::Copied, Rows::Executed].into_iter().zip(&mut ratios) {
            ratios.sort_by(f64::total_cmp);
            let median = ratios[ROUNDS / 2];
            println!(
                "{writers} writers, rows {rows:?}: median {median:.2} of appends without rows"
            );
        }
    }
}
