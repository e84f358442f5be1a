use std::{fmt, str::FromStr};

use diptych::Timestamp;
use jiff::{civil::Date, tz::Offset};

use super::{InvalidName, as_text};

/// A calendar day, such as `2013-01-15`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day of this instant, in UTC.
    pub fn of(instant: Timestamp) -> Day {
        match jiff::Timestamp::from_microsecond(instant.as_micros()) {
            Ok(instant) => Day(Offset::UTC.to_datetime(instant).date()),
            // The instant is outside the calendar.
            Err(_) if instant.as_micros() > 0 => Day(Date::MAX),
            Err(_) => Day(Date::MIN),
        }
    }

    /// The day with this year, month and day of the month; `None` if there is no such day.
    pub fn new(year: i16, month: i8, day: i8) -> Option<Day> {
        Date::new(year, month, day).ok().filter(|date| (0..=9999).contains(&date.year())).map(Day)
    }

    /// The first instant of the day, in UTC.
    pub fn start(self) -> Timestamp {
        let start = Offset::UTC.to_timestamp(self.0.at(0, 0, 0, 0));
        start.map_or(Timestamp::NEVER, |at| Timestamp::from_micros(at.as_microsecond()))
    }

    /// Adds days. Stops at the last day of the calendar, or at the first day if `days` is negative.
    #[must_use]
    pub fn plus(self, days: i32) -> Day {
        Day(self.0.saturating_add(jiff::Span::new().days(days)))
    }

    /// All days from this day to `last`.
    pub fn through(self, last: Day) -> impl Iterator<Item = Day> {
        let days = std::iter::successors(Some(self.0), |day| day.tomorrow().ok());
        days.map(Day).take_while(move |day| *day <= last)
    }
}

impl FromStr for Day {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Day, InvalidName> {
        let day = || {
            let (year, rest) = text.split_once('-')?;
            let (month, day) = rest.split_once('-')?;
            let is_number = |part: &str, digits: usize| {
                part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
            };
            if !is_number(year, 4) || !is_number(month, 2) || !is_number(day, 2) {
                return None;
            }
            Day::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
        };
        day().ok_or_else(|| {
            InvalidName::new(text, "a day", "one of the calendar, such as 2013-01-15")
        })
    }
}

impl fmt::Display for Day {
    /// Written by hand for speed, because every command formats several days.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = (self.0.year(), self.0.month(), self.0.day());
        if !(0..=9999).contains(&year) {
            return write!(f, "{year}-{month:02}-{day:02}");
        }
        let digit = |number: i16, unit: i16| b'0' + (number / unit % 10) as u8;
        let (month, day) = (month.into(), day.into());
        let text = [
            digit(year, 1000),
            digit(year, 100),
            digit(year, 10),
            digit(year, 1),
            b'-',
            digit(month, 10),
            digit(month, 1),
            b'-',
            digit(day, 10),
            digit(day, 1),
        ];
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

as_text!(Day, "a day, such as 2013-01-15", "^[0-9]{4}-[0-9]{2}-[0-9]{2}$");

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn only_days_of_the_calendar_parse() {
        assert_eq!(day("2012-02-29").to_string(), "2012-02-29");
        for text in ["2013-02-29", "2013-1-01", "20130101", "2013-01-01T00:00", "-013-01-01", ""] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let instant: Timestamp = "2013-01-15T23:59:59.999999Z".parse().unwrap();
        assert_eq!(Day::of(instant), day("2013-01-15"));
        assert_eq!(day("2013-01-15").start(), "2013-01-15T00:00:00Z".parse().unwrap());
        assert_eq!(day("2012-12-31").plus(1), day("2013-01-01"));
        // Clients may send any instant.
        assert!(Day::of(Timestamp::NEVER) < Day::of(Timestamp::from_micros(i64::MAX)));
    }

    #[test]
    fn through_includes_both_ends_and_is_empty_backwards() {
        let days: Vec<_> = day("2013-02-27").through(day("2013-03-01")).collect();
        assert_eq!(days, [day("2013-02-27"), day("2013-02-28"), day("2013-03-01")]);
        assert_eq!(day("2013-02-27").through(day("2013-02-26")).count(), 0);
    }
}
