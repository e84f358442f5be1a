use diptych::Recorded;
use diptych_sqlite::{Projection, Result, Transaction};

use crate::events::Shed;

/// One row for each loan.
pub struct LoanReport;

impl Projection for LoanReport {
    type Event = Shed;

    fn name(&self) -> &str {
        "loans"
    }

    fn create(&self, tx: &Transaction<'_>) -> Result {
        tx.execute_batch(
            "CREATE TABLE loan (tool TEXT NOT NULL, member TEXT NOT NULL, days INTEGER NOT NULL)",
        )?;
        Ok(())
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Shed>) -> Result {
        if let Shed::Lent { tool, member, days } = &event.event {
            let mut insert = tx.prepare_cached("INSERT INTO loan VALUES (?1, ?2, ?3)")?;
            insert.execute((tool, member, days))?;
        }
        Ok(())
    }
}
