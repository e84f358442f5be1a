//! The departures of an airport, and the details of one flight.

use std::collections::BTreeMap;

use diptych::{Filter, Fold, Query, Recorded, Tag, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{map_bytes, moves_time};
use crate::{
    commands::Status,
    events::Happening,
    ids::{Airline, Airport, BoardId, Day, FlightId, Plane},
    time::plus_minutes,
};

/// All flights, by board.
///
/// The events of a flight may come in any order. For example, a query of the past can take them in
/// the order in which they occurred. The board shows a flight once its entry in the timetable is
/// known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    boards: BTreeMap<BoardId, BTreeMap<FlightId, FlightEntry>>,
    flights: usize,
    /// The time of the newest event of a flight from the files. It is the demo's clock.
    newest: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct FlightEntry {
    scheduled: Option<TimetableEntry>,
    /// Time of the departure, plane, and delay in minutes.
    departed: Option<(Timestamp, Option<Plane>, i32)>,
    ended: Option<FlightEnd>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TimetableEntry {
    at: Timestamp,
    departs_at: Timestamp,
    destination: Airport,
    plane: Option<Plane>,
    distance_miles: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlightEnd {
    at: Timestamp,
    status: Status,
    arrival_delay_minutes: Option<i32>,
}

impl Fold for Board {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        let at = event.occurred_at();
        if event.event.is_of_a_flight() && moves_time(event) {
            self.newest = self.newest.max(Some(at));
        }
        match &event.event {
            Happening::Scheduled(scheduled) => {
                self.flight(scheduled.flight).scheduled = Some(TimetableEntry {
                    at,
                    departs_at: scheduled.departs_at,
                    destination: scheduled.destination,
                    plane: scheduled.plane,
                    distance_miles: scheduled.distance_miles,
                });
            }
            Happening::Departed(departed) => {
                let flight = self.flight(departed.flight);
                flight.departed = Some((at, departed.plane, departed.delay_minutes));
            }
            Happening::Cancelled(cancelled) => {
                self.flight(cancelled.flight).end(at, Status::Cancelled, None);
            }
            Happening::Landed(landed) => {
                let delay = landed.arrival_delay_minutes;
                self.flight(landed.flight).end(at, Status::Landed, delay);
            }
            Happening::Diverted(diverted) => {
                self.flight(diverted.flight).end(at, Status::Diverted, None);
            }
            _ => {}
        }
    }

    fn heap_bytes(&self) -> Option<usize> {
        Some(map_bytes::<FlightId, FlightEntry>(self.flights))
    }
}

impl Board {
    fn flight(&mut self, flight: FlightId) -> &mut FlightEntry {
        let board = self.boards.entry(flight.board()).or_default();
        board.entry(flight).or_insert_with(|| {
            self.flights += 1;
            FlightEntry::default()
        })
    }
}

impl FlightEntry {
    fn end(&mut self, at: Timestamp, status: Status, arrival_delay_minutes: Option<i32>) {
        self.ended = Some(FlightEnd { at, status, arrival_delay_minutes });
    }

    fn row(&self, flight: FlightId) -> Option<BoardRow> {
        let scheduled = self.scheduled.as_ref()?;
        let (departed_at, plane, delay_minutes) = match self.departed {
            Some((at, plane, delay)) => (Some(at), plane, Some(delay)),
            None => (None, scheduled.plane, None),
        };
        let ended = self.ended.as_ref();
        let status = match ended {
            Some(ended) => ended.status,
            None if departed_at.is_some() => Status::Departed,
            None => Status::Scheduled,
        };
        Some(BoardRow {
            flight,
            airline: flight.airline(),
            number: flight.number(),
            departs_at: scheduled.departs_at,
            destination: scheduled.destination,
            plane,
            status,
            delay_minutes,
            departed_at,
            ended_at: ended.map(|ended| ended.at),
            arrival_delay_minutes: ended.and_then(|ended| ended.arrival_delay_minutes),
        })
    }
}

/// One line of a departure board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BoardRow {
    /// The flight.
    pub flight: FlightId,
    /// Its airline.
    pub airline: Airline,
    /// Its number.
    pub number: u16,
    /// Scheduled departure.
    #[schemars(with = "String")]
    pub departs_at: Timestamp,
    /// Destination.
    pub destination: Airport,
    /// The plane of the departure, or the planned plane before it.
    pub plane: Option<Plane>,
    /// Status.
    pub status: Status,
    /// Delay of the departure.
    pub delay_minutes: Option<i32>,
    /// Time of the departure.
    #[schemars(with = "Option<String>")]
    pub departed_at: Option<Timestamp>,
    /// Time of the landing, diversion or cancellation.
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// Delay of the landing.
    pub arrival_delay_minutes: Option<i32>,
}

/// The departures of an airport around an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DepartureBoard {
    /// The airport.
    pub airport: Airport,
    /// The instant. If absent, the demo's clock: the newest event of a flight from the files.
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
}

/// The departures of an airport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DepartureBoardAnswer {
    /// The airport.
    pub airport: Airport,
    /// The instant. Absent if the query gave none and no flight is known.
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
    /// The rows, ordered by scheduled departure.
    pub rows: Vec<BoardRow>,
}

impl DepartureBoard {
    const BEFORE_MINUTES: i64 = 4 * 60;
    const AFTER_MINUTES: i64 = 8 * 60;

    fn window(at: Timestamp) -> (Timestamp, Timestamp) {
        let first = plus_minutes(at, -DepartureBoard::BEFORE_MINUTES);
        (first, plus_minutes(at, DepartureBoard::AFTER_MINUTES))
    }

    /// The boards that may have flights in the window. Scheduling makes sure that, in UTC, a flight
    /// departs on its board's day or on the day after.
    fn boards(&self, at: Timestamp) -> impl Iterator<Item = BoardId> {
        let (first, last) = DepartureBoard::window(at);
        let days = Day::of(first).plus(-1).through(Day::of(last));
        let origin = self.airport;
        days.map(move |day| BoardId { origin, day })
    }
}

impl Query for DepartureBoard {
    type View = Board;
    type Answer = DepartureBoardAnswer;

    fn answer(&self, view: &Board) -> DepartureBoardAnswer {
        let (airport, at) = (self.airport, self.at.or(view.newest));
        let mut rows = Vec::new();
        if let Some(at) = at {
            let (first, last) = DepartureBoard::window(at);
            let boards = self.boards(at).filter_map(|board| view.boards.get(&board));
            let shown = boards.flatten().filter_map(|(id, flight)| flight.row(*id));
            rows.extend(shown.filter(|row| (first..=last).contains(&row.departs_at)));
            rows.sort_unstable_by_key(|row| (row.departs_at, row.flight));
        }
        DepartureBoardAnswer { airport, at, rows }
    }

    /// A given instant depends on only a few boards. Without an instant, the whole view matters.
    fn scope(&self) -> Filter {
        let Some(at) = self.at else { return Filter::everything() };
        let boards = self.boards(at).map(|board| Filter::tag(Tag::new("board", board)));
        boards.fold(Filter::nothing(), Filter::or)
    }
}

/// The details of one flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlightCard {
    /// The flight.
    pub flight: FlightId,
}

/// The known facts about one flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FlightDetails {
    /// The row of the board.
    #[serde(flatten)]
    pub row: BoardRow,
    /// Airport of the departure.
    pub origin: Airport,
    /// Time at which the flight entered the timetable.
    #[schemars(with = "String")]
    pub scheduled_at: Timestamp,
    /// Distance to the destination.
    pub distance_miles: Option<u16>,
}

impl Query for FlightCard {
    type View = Board;
    type Answer = Option<FlightDetails>;

    fn answer(&self, view: &Board) -> Option<FlightDetails> {
        let flight = view.boards.get(&self.flight.board())?.get(&self.flight)?;
        let scheduled = flight.scheduled.as_ref()?;
        Some(FlightDetails {
            row: flight.row(self.flight)?,
            origin: self.flight.origin(),
            scheduled_at: scheduled.at,
            distance_miles: scheduled.distance_miles,
        })
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("flight", self.flight))
    }
}
