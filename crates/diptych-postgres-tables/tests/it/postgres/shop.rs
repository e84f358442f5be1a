//! Shops that sell, and reports of what they sold: once as rows, and once as a fold in memory
//! that the rows are held against.

use std::collections::BTreeMap;

use diptych::{
    App, Command, DecisionContext, Event, Filter, Memory, Position, Receipt, Recorded, Store,
    projection::Target, store::Read,
};
use diptych_postgres_tables::{Postgres, PostgresProjection, Projection, Transaction};
use diptych_postgres_testing::{PostgresServer, new_name, runtime};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::follow::decoded;

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(super) enum Trade {
    #[event("sold")]
    Sold {
        #[tag]
        shop: String,
        month: u32,
        cents: i64,
    },
    #[event("returned")]
    Returned {
        #[tag]
        shop: String,
        cents: i64,
    },
}

/// An event that no report applies.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("swept")]
pub(super) struct Swept {
    #[tag]
    pub(super) shop: String,
}

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
enum Happening {
    Trade(Trade),
    Swept(Swept),
}

pub(super) fn sold(shop: u64, month: u32, cents: i64) -> Trade {
    Trade::Sold { shop: format!("shop-{shop}"), month, cents }
}

pub(super) fn returned(shop: u64, cents: i64) -> Trade {
    Trade::Returned { shop: format!("shop-{shop}"), cents }
}

/// Records that these things happened, whatever they are.
#[derive(Serialize)]
pub(super) struct Note<E>(pub(super) Vec<E>);

impl<E: Event + Clone> Command for Note<E> {
    type State = ();
    type Event = E;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<E>, std::convert::Infallible> {
        Ok(self.0.clone())
    }
}

/// Notes each by itself; where the last of them is.
pub(super) fn note<E: Event + Clone>(app: &App, events: impl IntoIterator<Item = E>) -> Receipt {
    let noted = events.into_iter().map(|event| app.execute(Note(vec![event])));
    noted.map(|execute| block_on(execute.into_future()).unwrap()).last().unwrap()
}

pub(super) fn app() -> App {
    block_on(App::over(Memory::new()).start()).unwrap()
}

/// An app in which as many things happened, some of them of no concern to reports.
pub(super) fn busy_app(seed: u64, events: usize) -> App {
    println!("seed {seed}");
    let app = app();
    happen(&app, &mut fastrand::Rng::with_seed(seed), events);
    app
}

/// As many things happen, in one commit.
pub(super) fn happen(app: &App, random: &mut fastrand::Rng, events: usize) {
    let each = std::iter::repeat_with(|| {
        let (shop, cents) = (random.u64(..5), random.i64(1..10_000));
        match random.u32(..10) {
            0 => Happening::Trade(returned(shop, cents)),
            1 | 2 => Happening::Swept(Swept { shop: format!("shop-{shop}") }),
            _ => Happening::Trade(sold(shop, random.u32(1..=12), cents)),
        }
    });
    let events = each.take(events).collect();
    block_on(async { app.execute(Note(events)).await }).unwrap();
}

/// Two tables of one report: what was sold, line by line, and a sum that an event taken in twice
/// would make wrong.
pub(super) struct Sales;

impl Projection for Sales {
    type Event = Trade;

    fn name(&self) -> &str {
        "sales"
    }

    fn create(&self) -> Vec<String> {
        [
            "create table sale (shop text not null, month bigint not null, cents bigint not null)",
            "create index sale_by_month on sale (month)",
            "create table shop_total (
                shop text primary key, trades bigint not null, cents bigint not null)",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        let (shop, cents) = match &event.event {
            Trade::Sold { shop, month, cents } => {
                let columns = ["shop", "month", "cents"];
                tx.insert("sale", &columns, &[shop, &i64::from(*month), cents])?;
                (shop, *cents)
            }
            Trade::Returned { shop, cents } => (shop, -*cents),
        };
        tx.execute(
            "insert into shop_total values ($1, 1, $2) on conflict (shop) do update
             set trades = shop_total.trades + 1, cents = shop_total.cents + excluded.cents",
            &[shop, &cents],
        )?;
        Ok(())
    }
}

/// A schema of its own in a database of a server.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) address: String,
    database: String,
    pub(super) schema: String,
}

impl Place {
    pub(super) fn new(server: &PostgresServer) -> Place {
        Place::named(server, "postgres", &new_name())
    }

    pub(super) fn named(server: &PostgresServer, database: &str, schema: &str) -> Place {
        let (address, schema) = (server.address(database, "main"), schema.to_owned());
        Place { address, database: database.to_owned(), schema }
    }

    pub(super) fn tables(&self) -> Postgres {
        Postgres::at(&self.address).schema(&self.schema)
    }

    pub(super) fn sales(&self) -> PostgresProjection<Sales> {
        self.tables().projection(Sales)
    }

    pub(super) fn execute(&self, server: &PostgresServer, sql: &str) {
        let sql = format!("set search_path = \"{}\"; {sql}", self.schema);
        server.execute(&self.database, &sql);
    }

    /// The answers to these questions, of one moment.
    pub(super) fn ask<const N: usize>(
        &self,
        server: &PostgresServer,
        questions: [&str; N],
    ) -> [Vec<Row>; N] {
        runtime().block_on(async {
            let client = server.client(&self.database).await;
            let begin = format!(
                "set search_path = \"{}\"; begin isolation level repeatable read",
                self.schema
            );
            client.batch_execute(&begin).await.unwrap();
            let mut answers = [const { Vec::new() }; N];
            for (answer, question) in answers.iter_mut().zip(questions) {
                *answer = client.query(question, &[]).await.unwrap();
            }
            answers
        })
    }

    /// The rows of `Sales` are what a fold up to its checkpoint gives; that position.
    pub(super) fn assert_in_step(&self, server: &PostgresServer, store: &Store) -> Position {
        let [at, months, shops] = self.ask(
            server,
            [
                "select position from diptych_checkpoint where name = 'sales'",
                "select month, count(*), sum(cents)::bigint from sale group by month",
                "select shop, trades, cents from shop_total",
            ],
        );
        let upto: Option<i64> = at[0].get(0);
        let upto = Position::new(upto.unwrap_or(0).cast_unsigned());
        let month = |row: &Row| u32::try_from(row.get::<_, i64>(0)).unwrap();
        let totals = Totals {
            months: months.iter().map(|row| (month(row), (row.get(1), row.get(2)))).collect(),
            shops: shops.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect(),
        };
        assert_eq!(totals, Totals::of(store, upto), "up to {upto}");
        upto
    }
}

/// The rows of `Sales` as a fold: sums by shop, and sums of sales by month.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) shops: BTreeMap<String, (i64, i64)>,
    pub(super) months: BTreeMap<u32, (i64, i64)>,
}

impl Totals {
    /// A fold of the log up to this position.
    pub(super) fn of(store: &Store, upto: Position) -> Totals {
        let (mut totals, mut after) = (Totals::default(), Position::START);
        while after < upto {
            let read = Read::after(after).upto(upto);
            let filter = Filter::types(["sold", "returned"]);
            let batch = block_on(store.read(&filter, read)).unwrap();
            for event in batch.iter() {
                totals.apply(&decoded::<Trade>(&event).event);
            }
            after = batch.upto();
        }
        totals
    }

    fn apply(&mut self, event: &Trade) {
        let (shop, cents) = match event {
            Trade::Sold { shop, month, cents } => {
                let of_month = self.months.entry(*month).or_default();
                *of_month = (of_month.0 + 1, of_month.1 + cents);
                (shop, *cents)
            }
            Trade::Returned { shop, cents } => (shop, -*cents),
        };
        let of_shop = self.shops.entry(shop.clone()).or_default();
        *of_shop = (of_shop.0 + 1, of_shop.1 + cents);
    }
}

/// The checkpoint that the target itself reports.
pub(super) fn position<T: Target>(target: &mut T) -> Option<u64> {
    target.checkpoint().unwrap().map(|checkpoint| checkpoint.position.get())
}
