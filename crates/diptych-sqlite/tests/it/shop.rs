//! Shops that sell, and reports of what they sold: once as rows, and once as a fold in memory
//! that the rows are held against.

use std::{collections::BTreeMap, path::Path};

use diptych::{
    App, Command, DecisionContext, Event, Filter, Memory, Position, Receipt, Recorded, Store,
    projection::Target, store::Read,
};
use diptych_sqlite::{
    Projection, Sqlite, SqliteProjection, Transaction,
    rusqlite::{Connection, OpenFlags},
};
use pollster::block_on;
use serde::{Deserialize, Serialize};

use crate::follow::decoded;

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(crate) enum Trade {
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
pub(crate) struct Swept {
    #[tag]
    pub(crate) shop: String,
}

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
enum Happening {
    Trade(Trade),
    Swept(Swept),
}

pub(crate) fn sold(shop: u64, month: u32, cents: i64) -> Trade {
    Trade::Sold { shop: format!("shop-{shop}"), month, cents }
}

pub(crate) fn returned(shop: u64, cents: i64) -> Trade {
    Trade::Returned { shop: format!("shop-{shop}"), cents }
}

/// Records that these things happened, whatever they are.
pub(crate) struct Note<E>(pub(crate) Vec<E>);

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
pub(crate) fn note<E: Event + Clone>(app: &App, events: impl IntoIterator<Item = E>) -> Receipt {
    let noted = events.into_iter().map(|event| app.execute(Note(vec![event])));
    noted.map(|execute| block_on(execute.into_future()).unwrap()).last().unwrap()
}

pub(crate) fn app() -> App {
    block_on(App::over(Memory::new()).start()).unwrap()
}

/// An app in which as many things happened, some of them of no concern to reports.
pub(crate) fn busy_app(seed: u64, events: usize) -> App {
    println!("seed {seed}");
    let app = app();
    happen(&app, &mut fastrand::Rng::with_seed(seed), events);
    app
}

/// As many things happen, in one commit.
pub(crate) fn happen(app: &App, random: &mut fastrand::Rng, events: usize) {
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
pub(crate) struct Sales;

impl Projection for Sales {
    type Event = Trade;

    fn name(&self) -> &str {
        "sales"
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        tx.execute_batch(
            "CREATE TABLE sale (shop TEXT NOT NULL, month INTEGER NOT NULL, cents INTEGER NOT NULL);
             CREATE INDEX sale_by_month ON sale (month);
             CREATE TABLE shop_total (
                 shop TEXT PRIMARY KEY, trades INTEGER NOT NULL, cents INTEGER NOT NULL
             );",
        )?;
        Ok(())
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> diptych_sqlite::Result {
        let (shop, cents) = match &event.event {
            Trade::Sold { shop, month, cents } => {
                let mut line = tx.prepare_cached("INSERT INTO sale VALUES (?1, ?2, ?3)")?;
                line.execute((shop, month, cents))?;
                (shop, *cents)
            }
            Trade::Returned { shop, cents } => (shop, -*cents),
        };
        let mut add = tx.prepare_cached(
            "INSERT INTO shop_total VALUES (?1, 1, ?2) ON CONFLICT (shop)
             DO UPDATE SET trades = trades + 1, cents = cents + excluded.cents",
        )?;
        add.execute((shop, cents))?;
        Ok(())
    }
}

pub(crate) fn sales(file: &Path) -> SqliteProjection<Sales> {
    Sqlite::at(file).projection(Sales)
}

/// The rows of `Sales` as a fold: sums by shop, and sums of sales by month.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) shops: BTreeMap<String, (i64, i64)>,
    pub(crate) months: BTreeMap<u32, (i64, i64)>,
}

impl Totals {
    /// A fold of the log up to this position.
    pub(crate) fn of(store: &Store, upto: Position) -> Totals {
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

    /// The sums in the database: a grouping of its lines, and its table of sums.
    pub(crate) fn asked(report: &Connection) -> Totals {
        let by_month = "SELECT month, count(*), sum(cents) FROM sale GROUP BY month";
        let by_shop = "SELECT shop, trades, cents FROM shop_total";
        let mut months = report.prepare(by_month).unwrap();
        let mut shops = report.prepare(by_shop).unwrap();
        let months = months.query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
        let shops = shops.query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
        Totals {
            months: months.unwrap().collect::<Result<_, _>>().unwrap(),
            shops: shops.unwrap().collect::<Result<_, _>>().unwrap(),
        }
    }
}

pub(crate) fn reader(file: &Path) -> Connection {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// The rows of `Sales` are what a fold up to its checkpoint gives; that position.
pub(crate) fn assert_in_step(store: &Store, file: &Path) -> Position {
    let mut report = reader(file);
    // One transaction: rows and checkpoint of one moment.
    let report = report.transaction().unwrap();
    let upto: Option<u64> = report
        .query_row("SELECT position FROM diptych_checkpoint WHERE name = 'sales'", (), |row| {
            row.get(0)
        })
        .unwrap();
    let upto = Position::new(upto.unwrap_or(0));
    assert_eq!(Totals::asked(&report), Totals::of(store, upto), "up to {upto}");
    upto
}

/// The checkpoint that the target itself reports.
pub(crate) fn position<T: Target>(target: &mut T) -> Option<u64> {
    target.checkpoint().unwrap().map(|checkpoint| checkpoint.position.get())
}
