//! Projections of a few lines, for things that a projection should not do.

use diptych::Recorded;
use diptych_sqlite::{Projection, Result, Transaction};

use crate::shop::Trade;

type Apply = Box<dyn Fn(&Transaction<'_>, &Recorded<Trade>) -> Result + Send>;

/// Made of these statements, and of what is done with an event.
pub(crate) struct Odd {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) create: &'static str,
    pub(crate) apply: Apply,
}

/// Its table is `odd (position, cents)`.
pub(crate) fn odd(
    apply: impl Fn(&Transaction<'_>, &Recorded<Trade>) -> Result + Send + 'static,
) -> Odd {
    let create = "CREATE TABLE odd (position INTEGER, cents INTEGER)";
    Odd { name: "odd", version: 1, create, apply: Box::new(apply) }
}

/// One row for each event.
pub(crate) fn row(tx: &Transaction<'_>, event: &Recorded<Trade>) -> Result {
    let mut insert = tx.prepare_cached("INSERT INTO odd VALUES (?1, ?2)")?;
    insert.execute((event.position.get(), 1))?;
    Ok(())
}

impl Projection for Odd {
    type Event = Trade;

    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn create(&self, tx: &Transaction<'_>) -> Result {
        Ok(tx.execute_batch(self.create)?)
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Trade>) -> Result {
        (self.apply)(tx, event)
    }
}
