//! Points in the past: the part of the log that is known, and the events in it that count.

use diptych_store::{Corruption, Filter, Position, Read, ReadError, Store, Timestamp};
use tokio::task::yield_now;

use crate::{
    follow::HaltCause,
    query::{QueryError, RightPanel},
};

/// A point in time, in one of the two meanings that time has, or in both.
///
/// - The time of *knowing*: the events up to a position ([`at`](Point::at)), or the events recorded
///   before an instant ([`recorded_before`](Point::recorded_before)), or up to and including it
///   ([`recorded_upto`](Point::recorded_upto)). All are a prefix of the log.
/// - The time of *occurring*: among the known events, those that occurred before an instant
///   ([`occurred_before`](Point::occurred_before)), or up to and including it
///   ([`occurred_upto`](Point::occurred_upto)), in order of when they occurred. Events of one
///   instant are in log order.
///
/// The conditions combine: *our knowledge on Monday about Sunday* is
/// `Point::now().recorded_before(monday).occurred_before(sunday)`. A bound ahead of the clock is
/// fine: `occurred_upto(Timestamp::MAX)` puts all known events in order of when they occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Point {
    position: Option<Position>,
    recorded_before: Option<Timestamp>,
    occurred_before: Option<Timestamp>,
}

impl Point {
    /// All events in the log at the time of the question, in log order.
    pub fn now() -> Point {
        Point::default()
    }

    /// The events up to and including this position.
    pub fn at(position: Position) -> Point {
        Point::now().as_of(position)
    }

    /// Leaves out the events after this position.
    #[must_use]
    pub fn as_of(mut self, position: Position) -> Point {
        self.position = Some(self.position.map_or(position, |other| other.min(position)));
        self
    }

    /// Leaves out the events recorded at this instant or later. The rest was known before it.
    #[must_use]
    pub fn recorded_before(mut self, instant: Timestamp) -> Point {
        let earlier = self.recorded_before.map_or(instant, |other| other.min(instant));
        self.recorded_before = Some(earlier);
        self
    }

    /// Leaves out the events recorded after this instant. The rest was known at it.
    #[must_use]
    pub fn recorded_upto(self, instant: Timestamp) -> Point {
        self.recorded_before(instant.just_after())
    }

    /// Leaves out the events that occurred at this instant or later, and puts the others in order
    /// of when they occurred.
    #[must_use]
    pub fn occurred_before(mut self, instant: Timestamp) -> Point {
        let earlier = self.occurred_before.map_or(instant, |other| other.min(instant));
        self.occurred_before = Some(earlier);
        self
    }

    /// Leaves out the events that occurred after this instant, and puts the others in order of when
    /// they occurred.
    #[must_use]
    pub fn occurred_upto(self, instant: Timestamp) -> Point {
        self.occurred_before(instant.just_after())
    }
}

/// The point that contains all events up to this position.
impl From<Position> for Point {
    fn from(position: Position) -> Point {
        Point::at(position)
    }
}

/// The part of a log that a [`Point`] stands for: see [`Past::resolve`](super::Past::resolve).
///
/// Equal queries about equal parts of one log have equal answers, so this is a key for answers that
/// a program keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ResolvedPoint {
    /// The events up to and including this position are known.
    pub upto: Position,
    /// If set, only the events that occurred before this instant count.
    pub occurred_before: Option<Timestamp>,
    /// Whether the point always stands for this part, whatever is appended later. It does not if it
    /// leaves the end open: `Point::now()` stands for more with each event.
    pub is_final: bool,
}

/// A point resolved in one log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    /// All events up to here are known.
    pub(super) upto: Position,
    /// If set, only events that occurred before this instant count, in order of when they occurred.
    /// Otherwise all events count, in log order.
    pub(super) occurred_before: Option<Timestamp>,
    /// Whether events that came meanwhile may be included.
    pub(super) is_open: bool,
    /// Whether the point always stands for this prefix.
    is_final: bool,
}

impl Prefix {
    /// Resolves a point to a part of the log as it is now.
    pub(super) async fn resolve(panel: &RightPanel, point: Point) -> Result<Prefix, QueryError> {
        let head = panel.store().known_head().await?;
        let mut upto = point.position.unwrap_or(head);
        if upto > head {
            return Err(QueryError::AboveHead { position: upto, head });
        }
        if let Some(instant) = point.recorded_before {
            upto = last_recorded_before(panel.store(), instant, upto).await?;
        }
        // If the log has an event above the prefix, the prefix can no longer change.
        let is_prefix_known = point.position.is_some() || upto < head;
        if !is_prefix_known && panel.head.is_ended() {
            let halted = HaltCause::ended(&panel.head);
            return Err(QueryError::halted(halted, "the log"));
        }
        let is_open = point == Point::now();
        let (occurred_before, is_final) = (point.occurred_before, is_prefix_known);
        Ok(Prefix { upto, occurred_before, is_open, is_final })
    }

    /// The same prefix, without events that come meanwhile, and its description for the caller.
    pub(super) fn closed(self) -> (Prefix, ResolvedPoint) {
        let Prefix { upto, occurred_before, is_open: _, is_final } = self;
        (Prefix { is_open: false, ..self }, ResolvedPoint { upto, occurred_before, is_final })
    }

    /// Whether its events are a prefix of the log, in log order.
    pub(super) fn is_in_log_order(&self) -> bool {
        self.occurred_before.is_none()
    }
}

/// The last position that was recorded before this instant.
///
/// # Errors
/// [`ReadError`] from the store. It is also an error if the store has ended and all events known
/// here were recorded before the instant: the log may have later events that also were.
pub(crate) async fn position_before(
    panel: &RightPanel,
    instant: Timestamp,
) -> Result<Position, ReadError> {
    let head = panel.store().known_head().await?;
    let last = last_recorded_before(panel.store(), instant, head).await?;
    match panel.head.ended() {
        Some(ended) if last == head => Err(ReadError::Unavailable(ended)),
        _ => Ok(last),
    }
}

/// The last position at or below `upto` that was recorded before this instant.
async fn last_recorded_before(
    store: &Store,
    instant: Timestamp,
    upto: Position,
) -> Result<Position, ReadError> {
    // All events at or below `low` were recorded before the instant, and none above `high` was.
    let (mut low, mut high) = (Position::START, upto);
    // Most callers ask about the end of the log.
    let mut probe = upto;
    while low < high {
        match recorded_at(store, probe).await? < instant {
            true => low = probe,
            false => high = probe.before(),
        }
        probe = low.plus((high.get() - low.get()).div_ceil(2));
        // Each probe may wait for a page of the disk. Other tasks run between two probes.
        yield_now().await;
    }
    Ok(low)
}

async fn recorded_at(store: &Store, position: Position) -> Result<Timestamp, ReadError> {
    let read = Read::after(position.before()).upto(position).limit(1);
    let batch = store.read(&Filter::everything(), read).await?;
    let event = batch.get(0).ok_or_else(|| Corruption {
        place: format!("position {position}"),
        what: "the store gives no event there, and positions have no gaps".to_owned(),
        advice: "this is a mistake of the store: report it to its authors".to_owned(),
    })?;
    Ok(event.recorded_at())
}
