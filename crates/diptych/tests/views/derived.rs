//! Tests of derived rows. Rows derived step by step equal rows derived anew. The work grows with
//! the number of changed rows. A look-up derives nothing.

mod chain;
mod family;
mod groups;
mod records;

use diptych::{Fold, Position, Recorded, Timestamp, Uuid};

/// Wraps an event as the log would return it.
fn recorded<E>(position: u64, event: E) -> Recorded<E> {
    Recorded {
        position: Position::new(position),
        recorded_at: Timestamp::from_micros(0),
        id: Uuid::nil(),
        metadata: diptych::Metadata::default(),
        event,
    }
}

fn folded<F: Fold>(events: impl IntoIterator<Item = F::Event>) -> F {
    let mut fold = F::default();
    for (position, event) in (1..).zip(events) {
        fold.apply(&recorded(position, event));
    }
    fold
}
