//! A target in memory: rows, the checkpoint that is stored with them, and injected failures.

use std::{collections::VecDeque, sync::Arc};

use diptych::{
    Position, Recorded,
    projection::{Checkpoint, Target, TargetError},
};
use parking_lot::Mutex;

use crate::support::ledger::Booked;

/// A handle on the place. Each runner of the projection has one.
#[derive(Clone, Default)]
pub(crate) struct Rows(pub(crate) Arc<Mutex<Place>>);

#[derive(Default)]
pub(crate) struct Place {
    /// Position and amount of each row.
    pub(crate) rows: Vec<(u64, i64)>,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The failures of the next calls.
    pub(crate) trouble: VecDeque<Trouble>,
    /// The target refuses events with these amounts. A test may change the list.
    pub(crate) refused: Vec<i64>,
    /// For each successful call of `apply`: the number of events and the last position.
    pub(crate) steps: Vec<(usize, u64)>,
    pub(crate) calls: usize,
    pub(crate) looks: usize,
    pub(crate) resets: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Unavailable,
    Broken,
    Panics,
    /// The call succeeds.
    None,
}

impl Place {
    fn trouble(&mut self) -> Result<(), TargetError> {
        self.calls += 1;
        let (reason, source) = ("the place is away".to_owned(), None);
        match self.trouble.pop_front() {
            Some(Trouble::Unavailable) => Err(TargetError::Unavailable { reason, source }),
            Some(Trouble::Broken) => {
                Err(TargetError::Broken { reason: "the place is broken".to_owned(), source })
            }
            Some(Trouble::Panics) => panic!("the place fell down"),
            Some(Trouble::None) | None => Ok(()),
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.checkpoint.map_or(Position::START, |checkpoint| checkpoint.position)
    }
}

impl Rows {
    /// Sets the failures of the next calls.
    pub(crate) fn next(&self, trouble: &[Trouble]) {
        self.0.lock().trouble = trouble.iter().copied().collect();
    }

    pub(crate) fn amounts(&self) -> Vec<i64> {
        self.0.lock().rows.iter().map(|row| row.1).collect()
    }
}

impl Target for Rows {
    type Event = Booked;

    fn name(&self) -> &str {
        "rows"
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        let mut place = self.0.lock();
        place.looks += 1;
        place.trouble()?;
        Ok(place.checkpoint)
    }

    fn apply(
        &mut self,
        events: &[Recorded<Booked>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        let mut place = self.0.lock();
        place.trouble()?;
        if place.checkpoint != from {
            return Err(TargetError::Moved { found: place.checkpoint });
        }
        let above = from.map_or(Position::START, |from| from.position);
        assert!(to.position >= above, "the checkpoint moves back");
        assert!(events.is_sorted_by_key(|event| event.position), "the events are out of order");
        for event in events {
            assert!(event.position > above && event.position <= to.position, "event out of range");
            if place.refused.contains(&event.amount) {
                return Err(TargetError::event(event.position, "not this one"));
            }
        }
        place.rows.extend(events.iter().map(|event| (event.position.get(), event.amount)));
        place.steps.push((events.len(), to.position.get()));
        place.checkpoint = Some(to);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        let mut place = self.0.lock();
        place.trouble()?;
        place.resets += 1;
        (place.rows, place.checkpoint) = (Vec::new(), None);
        Ok(())
    }
}
