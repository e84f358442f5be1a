//! Due times by calendar and time zone: every day at a time, on a business day, in some months.
//!
//! Everything here is a pure function of its arguments and of the rules of the zones, which are
//! compiled into the program. The clock and the zone files of the machine have no part in it. So
//! count from the time in the trigger, or from
//! [`ReactionContext::now`](super::ReactionContext::now).
//!
//! ```
//! use diptych::{
//!     Timestamp,
//!     process::{
//!         Reactions,
//!         calendar::{BusinessDays, Zone, civil::time},
//!     },
//! };
//!
//! // A Friday, 18:00 in New York.
//! let trigger: Timestamp = "2026-07-31T22:00:00Z".parse()?;
//! let zone = Zone::named("America/New_York")?;
//! let due = zone.business_day(trigger, &BusinessDays::default(), time(9, 0, 0, 0))?;
//! assert_eq!(due.at.to_string(), "2026-08-03T13:00:00Z");
//! assert_eq!(due.civil.as_ref().unwrap().time, "2026-08-03T09:00:00");
//! let reaction = Reactions::none().set_timer("open", due);
//! # drop(reaction);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Reactions::set_timer`](super::Reactions::set_timer) also takes the `Result` of these
//! functions. An error then parks the instance, and the letter has its text.
//!
//! # Summer time
//!
//! - A civil time that does not exist, because the clocks go forward over it, is as much later as
//!   they go forward: 02:30 becomes 03:30.
//! - A civil time that exists twice, because the clocks go back, is its first occurrence.
//!
//! # Changed rules
//!
//! A timer keeps the instant that it was set with. If a later release has other rules for the zone,
//! then timers that are already set do not move.
//! [`TimerFired::civil`](super::TimerFired::civil) has the civil time that was asked for. So a
//! process can ask [`Zone::at`] again, and set the timer anew if the answer is a later instant.

use std::{collections::BTreeSet, sync::LazyLock};

use diptych_store::Timestamp;
use jiff::{
    Span,
    civil::{Date, DateTime, Time, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};
pub use jiff::{ToSpan, civil};

use super::due::{CivilTime, Due};

/// The rules of the zones that are compiled into the program.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The number of days in which a business day has to come.
const MOST_DAYS: u32 = 3_660;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// The days on which business is done: all but some days of the week and some holidays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusinessDays {
    weekend: Vec<Weekday>,
    holidays: BTreeSet<Date>,
}

/// Why there is no due time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// The program does not know the zone.
    #[error(
        "{name:?} is no time zone that this program knows: use a name of the IANA database, such \
         as Europe/Berlin"
    )]
    UnknownZone {
        /// The name.
        name: String,
    },
    /// The time is outside of the calendar.
    #[error("the due time is outside of the years -9999 to 9999: set it nearer")]
    OutOfRange,
    /// A span has a part that is shorter than a day.
    #[error(
        "a span of a calendar has hours or less: add them as a duration to an instant, because a \
         day has not always 24 hours"
    )]
    PartOfDay,
    /// There is no business day.
    #[error("no business day in {MOST_DAYS} days after {after}: see the weekend and the holidays")]
    NoBusinessDay {
        /// The day before the search.
        after: String,
    },
}

impl TryFrom<Result<Due, CalendarError>> for Due {
    type Error = CalendarError;

    fn try_from(due: Result<Due, CalendarError>) -> Result<Due, CalendarError> {
        due
    }
}

impl From<jiff::Error> for CalendarError {
    fn from(_: jiff::Error) -> CalendarError {
        CalendarError::OutOfRange
    }
}

impl Zone {
    /// The zone with this name in the IANA database. Capital letters do not matter.
    ///
    /// # Errors
    /// [`CalendarError::UnknownZone`] if the program does not know it.
    pub fn named(name: &str) -> Result<Zone, CalendarError> {
        match ZONES.get(name) {
            Ok(rules) => Ok(Zone { name: rules.iana_name().unwrap_or(name).to_owned(), rules }),
            Err(_) => Err(CalendarError::UnknownZone { name: name.to_owned() }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The civil time here at an instant.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] if the calendar does not have it.
    pub fn civil(&self, at: Timestamp) -> Result<DateTime, CalendarError> {
        let at = jiff::Timestamp::from_microsecond(at.as_micros())?;
        Ok(self.rules.to_datetime(at))
    }

    /// The instant of a civil time. See [above](self#summer-time) for a time that does not exist,
    /// or exists twice.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] if it is no instant of a log.
    pub fn at(&self, civil: DateTime) -> Result<Due, CalendarError> {
        let at = self.rules.to_ambiguous_timestamp(civil).compatible()?;
        let at = Timestamp::from_micros(at.as_microsecond());
        match at.has_text() {
            true => Ok(Due { at, civil: Some(CivilTime::new(&*self.name, civil.to_string())) }),
            false => Err(CalendarError::OutOfRange),
        }
    }

    /// Years, months, weeks and days later, at the same civil time. A day that the month does not
    /// have becomes its last: a month after 31 January is 28 or 29 February.
    ///
    /// # Errors
    /// [`CalendarError::PartOfDay`] if the span has hours or less, and
    /// [`CalendarError::OutOfRange`].
    pub fn later(&self, from: Timestamp, span: Span) -> Result<Due, CalendarError> {
        let days = Span::new()
            .years(span.get_years())
            .months(span.get_months())
            .weeks(span.get_weeks())
            .days(span.get_days());
        if days.fieldwise() != span.fieldwise() {
            return Err(CalendarError::PartOfDay);
        }
        self.at(self.civil(from)?.checked_add(span)?)
    }

    /// The first instant after another at which it is this time of the day here. There is one on
    /// each day.
    ///
    /// A process that does something every day sets the timer anew when it fires, counted from
    /// [`TimerFired::due`](super::TimerFired::due). Then no day counts twice if the clock is set
    /// back, and each day that the program missed has its turn. Counted from
    /// [`TimerFired::fired_at`](super::TimerFired::fired_at), missed days are left out.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`].
    pub fn every_day(&self, after: Timestamp, time: Time) -> Result<Due, CalendarError> {
        // Around a change of summer time, yesterday's time may still be ahead.
        let mut day = self.civil(after)?.date().yesterday()?;
        loop {
            let due = self.at(day.to_datetime(time))?;
            if due.at > after {
                return Ok(due);
            }
            day = day.tomorrow()?;
        }
    }

    /// This time of the day on the next business day. The day of `after` here does not count.
    ///
    /// # Errors
    /// [`CalendarError::NoBusinessDay`] if there is none within ten years, and
    /// [`CalendarError::OutOfRange`].
    pub fn business_day(
        &self,
        after: Timestamp,
        days: &BusinessDays,
        time: Time,
    ) -> Result<Due, CalendarError> {
        let from = self.civil(after)?.date();
        let mut day = from;
        for _ in 0..MOST_DAYS {
            day = day.tomorrow()?;
            if days.contain(day) {
                return self.at(day.to_datetime(time));
            }
        }
        Err(CalendarError::NoBusinessDay { after: from.to_string() })
    }
}

impl Default for BusinessDays {
    /// Monday to Friday, without holidays.
    fn default() -> BusinessDays {
        let weekend = vec![Weekday::Saturday, Weekday::Sunday];
        BusinessDays { weekend, holidays: BTreeSet::new() }
    }
}

impl BusinessDays {
    /// Sets the days of the week without business.
    #[must_use]
    pub fn weekend(mut self, days: impl IntoIterator<Item = Weekday>) -> BusinessDays {
        self.weekend = days.into_iter().collect();
        self
    }

    /// Adds days without business.
    #[must_use]
    pub fn holidays(mut self, days: impl IntoIterator<Item = Date>) -> BusinessDays {
        self.holidays.extend(days);
        self
    }

    /// Whether business is done on this day.
    pub fn contain(&self, day: Date) -> bool {
        !self.weekend.contains(&day.weekday()) && !self.holidays.contains(&day)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};

    use super::*;

    fn instant(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn new_york() -> Zone {
        Zone::named("america/new_york").unwrap()
    }

    fn assert_due(due: Result<Due, CalendarError>, at: &str, civil: &str) {
        let due = due.unwrap();
        assert_eq!((due.at, due.civil.unwrap().to_string()), (instant(at), civil.to_owned()));
    }

    #[test]
    fn a_civil_time_that_does_not_exist_is_later_by_the_change() {
        // The clocks of New York went from 02:00 to 03:00 on 8 March 2026.
        assert_due(
            new_york().at(date(2026, 3, 8).at(2, 30, 0, 0)),
            "2026-03-08T07:30:00Z",
            "2026-03-08T02:30:00[America/New_York]",
        );
        let at = instant("2026-03-08T07:30:00Z");
        assert_eq!(new_york().civil(at).unwrap(), date(2026, 3, 8).at(3, 30, 0, 0));
    }

    #[test]
    fn a_civil_time_that_exists_twice_is_the_first() {
        // From 02:00 back to 01:00 on 1 November 2026.
        assert_due(
            new_york().at(date(2026, 11, 1).at(1, 30, 0, 0)),
            "2026-11-01T05:30:00Z",
            "2026-11-01T01:30:00[America/New_York]",
        );
    }

    #[test]
    fn a_time_of_the_day_comes_once_on_each_day_over_both_changes() {
        for (from, at) in [("2026-03-05T12:00:00Z", 2), ("2026-10-29T12:00:00Z", 1)] {
            let (zone, mut after) = (new_york(), instant(from));
            let mut days = Vec::new();
            for _ in 0..6 {
                let due = zone.every_day(after, time(at, 30, 0, 0)).unwrap();
                assert!(due.at > after);
                days.push(zone.civil(due.at).unwrap().date());
                after = due.at;
            }
            let first = zone.civil(instant(from)).unwrap().date();
            let expected = (1..=6_i64).map(|day| first.checked_add(day.days()).unwrap());
            assert_eq!(days, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn between_both_occurrences_of_a_time_the_day_has_had_its_turn() {
        let between = instant("2026-11-01T06:00:00Z");
        let next = new_york().every_day(between, time(1, 30, 0, 0)).unwrap();
        assert_eq!(next.at, instant("2026-11-02T06:30:00Z"));
    }

    #[test]
    fn a_business_day_leaves_out_weekends_and_holidays() {
        let days = BusinessDays::default().holidays([date(2026, 7, 3), date(2026, 7, 6)]);
        let thursday = instant("2026-07-02T22:00:00Z");
        assert_due(
            new_york().business_day(thursday, &days, time(9, 0, 0, 0)),
            "2026-07-07T13:00:00Z",
            "2026-07-07T09:00:00[America/New_York]",
        );
        // It is Sunday in New York, and Monday in Auckland, where a day is next.
        let sunday = instant("2026-07-12T23:00:00Z");
        let due = |zone: &str| {
            let zone = Zone::named(zone).unwrap();
            zone.business_day(sunday, &days, time(9, 0, 0, 0)).unwrap().at
        };
        assert_eq!(due("America/New_York"), instant("2026-07-13T13:00:00Z"));
        assert_eq!(due("Pacific/Auckland"), instant("2026-07-13T21:00:00Z"));
    }

    #[test]
    fn months_later_it_is_the_same_civil_time_and_the_last_day_at_the_latest() {
        // Over a change of summer time: 09:00 stays 09:00.
        assert_due(
            new_york().later(instant("2026-02-15T14:00:00Z"), 2.months()),
            "2026-04-15T13:00:00Z",
            "2026-04-15T09:00:00[America/New_York]",
        );
        assert_due(
            new_york().later(instant("2026-12-31T14:00:00Z"), 2.months()),
            "2027-02-28T14:00:00Z",
            "2027-02-28T09:00:00[America/New_York]",
        );
    }

    #[test]
    fn mistakes_are_told() {
        let (zone, now) = (new_york(), instant("2026-01-01T00:00:00Z"));
        let unknown = Zone::named("America/Gotham").unwrap_err();
        assert!(unknown.to_string().contains(r#""America/Gotham" is no time zone"#));
        assert_eq!(zone.later(now, 36.hours()), Err(CalendarError::PartOfDay));
        assert_eq!(zone.later(now, 9_000.years()), Err(CalendarError::OutOfRange));
        assert_eq!(
            zone.every_day(Timestamp::MAX, time(9, 0, 0, 0)),
            Err(CalendarError::OutOfRange)
        );
        let never =
            BusinessDays::default().weekend(jiff::civil::Weekday::Monday.cycle_forward().take(7));
        let none = zone.business_day(now, &never, time(9, 0, 0, 0)).unwrap_err();
        assert!(none.to_string().contains("after 2025-12-31"), "{none}");
    }
}
