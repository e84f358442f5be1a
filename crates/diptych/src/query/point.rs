//! Points in the past: which part of the log is known, and which of it counts.

use diptych_store::{Corruption, Filter, Position, Read, ReadError, Timestamp};

use super::QueryError;
use crate::{App, follow::Halted};

/// A point in time, in one of the two meanings that time has, or in both.
///
/// - What was *known*: the events up to a position ([`at`](Point::at)), or those that were recorded
///   before an instant ([`recorded_before`](Point::recorded_before)). Both are a prefix of the
///   log.
/// - What was *so*: of what is known, the events that occurred before an instant
///   ([`occurred_before`](Point::occurred_before)), in order of when they occurred; those of the
///   same instant in order of the log.
///
/// What is said adds up: *what did we know on Monday about Sunday* is
/// `Point::now().recorded_before(monday).occurred_before(sunday)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    position: Option<Position>,
    recorded_before: Option<Timestamp>,
    occurred_before: Option<Timestamp>,
}

impl Point {
    /// Everything that is in the log when it is asked for, in order of the log.
    pub fn now() -> Point {
        Point::default()
    }

    /// The events up to and with this position, and nothing after.
    pub fn at(position: Position) -> Point {
        Point::now().as_of(position)
    }

    /// The same without the events after this position.
    #[must_use]
    pub fn as_of(mut self, position: Position) -> Point {
        self.position = Some(self.position.map_or(position, |other| other.min(position)));
        self
    }

    /// The same without the events that were recorded at this instant or later: what was known
    /// until then.
    #[must_use]
    pub fn recorded_before(mut self, instant: Timestamp) -> Point {
        let earlier = self.recorded_before.map_or(instant, |other| other.min(instant));
        self.recorded_before = Some(earlier);
        self
    }

    /// The same without the events that occurred at this instant or later, and with the others in
    /// order of when they occurred: what was so until then.
    #[must_use]
    pub fn occurred_before(mut self, instant: Timestamp) -> Point {
        let earlier = self.occurred_before.map_or(instant, |other| other.min(instant));
        self.occurred_before = Some(earlier);
        self
    }
}

/// The point of everything up to this position.
impl From<Position> for Point {
    fn from(position: Position) -> Point {
        Point::at(position)
    }
}

/// A point as it was found in one log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    /// What is known: everything up to here.
    pub(super) upto: Position,
    /// What of it counts, in order of when it occurred; else all of it, in order of the log.
    pub(super) occurred_before: Option<Timestamp>,
    /// Whether what came meanwhile may be in it, too.
    pub(super) is_open: bool,
}

impl Prefix {
    /// Whether its events are a part of the log, in order of the log.
    pub(super) fn is_in_log_order(&self) -> bool {
        self.occurred_before.is_none()
    }
}

impl App {
    /// The last position that was recorded before this instant, [`Position::START`] if none was:
    /// what was recorded before it is a prefix of the log.
    ///
    /// # Errors
    /// The error of the store; also where all of the log was recorded before the instant, and the
    /// store has ended, so that more may have been.
    pub async fn position_before(&self, instant: Timestamp) -> Result<Position, ReadError> {
        let head = self.head();
        let last = self.last_recorded_before(instant, head).await?;
        match self.core.head.ended() {
            Some(ended) if last == head => Err(ReadError::Unavailable(ended)),
            _ => Ok(last),
        }
    }

    /// The part of the log that a point means now.
    pub(super) async fn prefix(&self, point: Point) -> Result<Prefix, QueryError> {
        let head = self.head();
        let mut upto = point.position.unwrap_or(head);
        if upto > head {
            return Err(QueryError::AboveHead { position: upto, head });
        }
        if let Some(instant) = point.recorded_before {
            upto = self.last_recorded_before(instant, upto).await?;
        }
        // Where an event above was recorded, the prefix does not change any more.
        let is_prefix_known = point.position.is_some() || upto < head;
        if !is_prefix_known && self.core.head.is_ended() {
            let halted = Halted::ended(&self.core.head);
            return Err(QueryError::halted(halted, "the log"));
        }
        let is_open = point == Point::now();
        Ok(Prefix { upto, occurred_before: point.occurred_before, is_open })
    }

    /// The same at or below `upto`.
    async fn last_recorded_before(
        &self,
        instant: Timestamp,
        upto: Position,
    ) -> Result<Position, ReadError> {
        // Everything at or below `low` is before, everything above `high` is not.
        let (mut low, mut high) = (Position::START, upto);
        // Most ask about the end of the log.
        let mut probe = upto;
        while low < high {
            match self.recorded_at(probe).await? < instant {
                true => low = probe,
                false => high = probe.before(),
            }
            probe = low.plus((high.get() - low.get()).div_ceil(2));
        }
        Ok(low)
    }

    async fn recorded_at(&self, position: Position) -> Result<Timestamp, ReadError> {
        let read = Read::after(position.before()).upto(position).limit(1);
        let batch = self.core.store.read(&Filter::everything(), read).await?;
        let event = batch.get(0).ok_or_else(|| Corruption {
            place: format!("position {position}"),
            what: "the store gives no event there, and positions have no gaps".to_owned(),
            advice: "this is a mistake of the store: report it to its authors".to_owned(),
        })?;
        Ok(event.recorded_at())
    }
}
