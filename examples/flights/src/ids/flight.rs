use std::{fmt, str::FromStr};

use super::{Airline, Airport, Day, InvalidName, as_text};

/// One flight: its airline, its number and its board, such as `UA1545-EWR-2013-01-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId {
    airline: Airline,
    number: u16,
    board: BoardId,
}

/// The departures of one airport on one day, such as `EWR-2013-01-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoardId {
    /// The airport of the departures.
    pub origin: Airport,
    /// The day in the timetable, in the airport's local time.
    pub day: Day,
}

impl FlightId {
    /// All flight numbers are below this.
    const NUMBERS: u16 = 10_000;

    /// The flight with this airline, number and board; `None` if the number is too large.
    pub fn new(airline: Airline, number: u16, board: BoardId) -> Option<FlightId> {
        (number < FlightId::NUMBERS).then_some(FlightId { airline, number, board })
    }

    /// The airline.
    pub fn airline(&self) -> Airline {
        self.airline
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The airport of the departure.
    pub fn origin(&self) -> Airport {
        self.board.origin
    }

    /// The day in the timetable, in the airport's local time.
    pub fn day(&self) -> Day {
        self.board.day
    }

    /// The board that shows the flight.
    pub fn board(&self) -> BoardId {
        self.board
    }
}

impl FromStr for FlightId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<FlightId, InvalidName> {
        let flight = || {
            let (head, board) = text.split_once('-')?;
            let (airline, digits) = head.split_at_checked(2)?;
            let is_number = matches!(digits.len(), 1..=4)
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                // A leading zero would give one flight two names.
                && (digits == "0" || !digits.starts_with('0'));
            let number = is_number.then(|| digits.parse().ok())??;
            FlightId::new(airline.parse().ok()?, number, board.parse().ok()?)
        };
        flight().ok_or_else(|| {
            InvalidName::new(
                text,
                "a flight",
                "airline, number, airport, day: UA1545-EWR-2013-01-01",
            )
        })
    }
}

impl FromStr for BoardId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<BoardId, InvalidName> {
        let board = || {
            let (origin, day) = text.split_once('-')?;
            Some(BoardId { origin: origin.parse().ok()?, day: day.parse().ok()? })
        };
        board().ok_or_else(|| InvalidName::new(text, "a board", "airport and day: EWR-2013-01-01"))
    }
}

impl fmt::Display for FlightId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.airline.as_str())?;
        self.number.fmt(f)?;
        f.write_str("-")?;
        self.board.fmt(f)
    }
}

impl fmt::Display for BoardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.origin.as_str())?;
        f.write_str("-")?;
        self.day.fmt(f)
    }
}

as_text!(
    FlightId,
    "a flight: airline, number, airport and local day, such as UA1545-EWR-2013-01-01",
    "^[A-Z0-9]{2}(0|[1-9][0-9]{0,3})-[A-Z0-9]{3}-[0-9]{4}-[0-9]{2}-[0-9]{2}$"
);
as_text!(
    BoardId,
    "the departures of an airport on a day, such as EWR-2013-01-01",
    "^[A-Z0-9]{3}-[0-9]{4}-[0-9]{2}-[0-9]{2}$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flight_prints_the_text_that_it_was_parsed_from() {
        let flight: FlightId = "UA1545-EWR-2013-01-01".parse().unwrap();
        assert_eq!((flight.airline().as_str(), flight.number()), ("UA", 1545));
        assert_eq!(flight.board().to_string(), "EWR-2013-01-01");
        assert_eq!(flight.to_string(), "UA1545-EWR-2013-01-01");
        let json = serde_json::to_string(&flight).unwrap();
        assert_eq!(serde_json::from_str::<FlightId>(&json).unwrap(), flight);
        assert_eq!("9E1-JFK-2013-12-31".parse::<FlightId>().unwrap().number(), 1);
    }

    #[test]
    fn text_that_is_not_a_flight_is_refused() {
        for text in [
            "",
            "UA-EWR-2013-01-01",
            "UA01-EWR-2013-01-01",
            "UA12345-EWR-2013-01-01",
            "UA+1-EWR-2013-01-01",
            "UA1-EWR-2013-02-30",
            "UA1-EWR-2013-01-01-",
            "<script>alert(1)</script>",
            "üA1-EWR-2013-01-01",
        ] {
            let error = text.parse::<FlightId>().unwrap_err().to_string();
            assert!(error.contains("is not a flight: write airline, number"), "{error}");
        }
    }
}
