//! The right panel, as tables.

use diptych::Recorded;
use diptych_sqlite::{Projection, Result, Transaction};

use crate::Trade;

/// One row for each sale. Readers compute the sums.
pub(crate) struct Sales;

impl Projection for Sales {
    type Event = Trade;

    fn name(&self) -> &str {
        "sales"
    }

    fn create(&self, tx: &Transaction<'_>) -> Result {
        tx.execute_batch(
            "CREATE TABLE sale (
                 article TEXT NOT NULL, month INTEGER NOT NULL,
                 pieces INTEGER NOT NULL, cents INTEGER NOT NULL
             );
             CREATE INDEX sale_by_month ON sale (month);",
        )?;
        Ok(())
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> Result {
        if let Trade::Sold { article, month, pieces, cents } = &event.event {
            let mut insert = tx.prepare_cached("INSERT INTO sale VALUES (?1, ?2, ?3, ?4)")?;
            insert.execute((article, month, pieces, cents))?;
        }
        Ok(())
    }
}
