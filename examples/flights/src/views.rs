//! The right panel: one file for each view, with its queries.
//!
//! All views fold the same [`Happening`]s, and each keeps only the data that its queries need. No
//! view reads another one. The board and the figures of an airline both use the events of a flight,
//! and each view folds these events itself.

mod board;
mod delays;
mod happenings;
mod names;
mod planes;
mod punctuality;
mod refusals;
mod routes;
#[cfg(test)]
mod tests;

use diptych::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::Happening;

pub use board::{Board, BoardRow, DepartureBoard, DepartureBoardAnswer, FlightCard, FlightDetails};
pub use delays::{
    DelayByHour, DelayByHourAnswer, DelayByWeather, DelayByWeatherAnswer, DelayOfHour,
    DelayOfWeather, WeatherDelay,
};
pub use happenings::{
    CountOfType, FlightDays, Happenings, HappeningsAnswer, Kind, RecentHappening, RecentHappenings,
};
pub use names::{AllNames, NameOfAirport, Names, NamesAnswer};
pub use planes::{Leg, PlaneDay, PlaneDayAnswer, Planes};
pub use punctuality::{Punctuality, PunctualityAnswer, PunctualityByAirline, PunctualityOfAirline};
pub use refusals::{CountOfRule, Refusals, RefusalsAnswer, RefusalsByRule, RefusedCommand};
pub use routes::{RankedRoute, RouteOrder, RouteRanking, RouteRankingAnswer, Routes};

/// The actor of commands that come from clients and not from a file.
pub const VISITOR: &str = "visitor";

/// Whether an event moves the demo's clock. It does if its flight comes from a file, and if the
/// fact was over when it was recorded.
///
/// A command without an instant occurs when it is recorded, years after the flights, and a client
/// may send an instant in the year 9000. The log keeps such events and the views show them. If they
/// moved the clock, the boards would be empty for all visitors.
fn moves_time(event: &Recorded<Happening>) -> bool {
    let is_of_a_visitor = event.metadata.actor.as_ref().is_some_and(|actor| actor == VISITOR);
    !is_of_a_visitor && event.occurred_at() < event.recorded_at
}

/// From this delay on, an arrival counts as late.
const LATE_MINUTES: i32 = 15;

/// A count, and a sum of minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Minutes {
    count: u64,
    sum: i64,
}

impl Minutes {
    fn add(&mut self, minutes: i32) {
        self.count += 1;
        self.sum += i64::from(minutes);
    }

    /// The mean in tenths of a minute, as an integer, so that it is equal on every machine. `None`
    /// if the count is zero.
    fn mean_tenths(self) -> Option<i64> {
        let count = i64::try_from(self.count).ok().filter(|count| *count > 0)?;
        Some((self.sum * 10 + count / 2).div_euclid(count))
    }

    fn mean(self) -> Option<f64> {
        self.mean_tenths().map(|tenths| tenths as f64 / 10.0)
    }
}

/// Approximate bytes of a `BTreeMap`. The factor covers nodes that are not full.
fn map_bytes<K, V>(entries: usize) -> usize {
    entries * (size_of::<K>() + size_of::<V>()) * 3 / 2
}
