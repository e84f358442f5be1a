//! The departures of an airport, and all about one flight.

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

/// All flights, by the board that they are on.
///
/// What is known of a flight may come in any order, as it does where the past is asked in order of
/// when things occurred. A flight is shown once its place in the timetable is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    boards: BTreeMap<BoardId, BTreeMap<FlightId, Flight>>,
    flights: usize,
    /// When the newest event of a flight of the files was so.
    newest: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Flight {
    scheduled: Option<Scheduled>,
    /// When it left, with which plane, how late.
    departed: Option<(Timestamp, Option<Plane>, i32)>,
    ended: Option<Ended>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scheduled {
    at: Timestamp,
    departs_at: Timestamp,
    destination: Airport,
    plane: Option<Plane>,
    distance_miles: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ended {
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
                self.flight(scheduled.flight).scheduled = Some(Scheduled {
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
        Some(map_bytes::<FlightId, Flight>(self.flights))
    }
}

impl Board {
    fn flight(&mut self, flight: FlightId) -> &mut Flight {
        let board = self.boards.entry(flight.board()).or_default();
        board.entry(flight).or_insert_with(|| {
            self.flights += 1;
            Flight::default()
        })
    }
}

impl Flight {
    fn end(&mut self, at: Timestamp, status: Status, arrival_delay_minutes: Option<i32>) {
        self.ended = Some(Ended { at, status, arrival_delay_minutes });
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
    /// Which flight.
    pub flight: FlightId,
    /// Whose it is.
    pub airline: Airline,
    /// The number that the airline gives it.
    pub number: u16,
    /// When it is to depart.
    #[schemars(with = "String")]
    pub departs_at: Timestamp,
    /// Where it goes.
    pub destination: Airport,
    /// The plane: that with which it left, or is to.
    pub plane: Option<Plane>,
    /// How it stands with it.
    pub status: Status,
    /// How late it left.
    pub delay_minutes: Option<i32>,
    /// When it left.
    #[schemars(with = "Option<String>")]
    pub departed_at: Option<Timestamp>,
    /// When it landed, was diverted or cancelled.
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// How late it arrived.
    pub arrival_delay_minutes: Option<i32>,
}

/// The departures of an airport around an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DepartureBoard {
    /// Of which airport.
    pub airport: Airport,
    /// Around when; else when the newest event of a flight of the files was so.
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
}

/// The departures of an airport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DepartureBoardAnswer {
    /// Of which airport.
    pub airport: Airport,
    /// Around when; nothing if nothing was said and nothing is known.
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
    /// In the order in which they are to depart.
    pub rows: Vec<BoardRow>,
}

impl DepartureBoard {
    const BEFORE_MINUTES: i64 = 4 * 60;
    const AFTER_MINUTES: i64 = 8 * 60;

    fn window(at: Timestamp) -> (Timestamp, Timestamp) {
        let first = plus_minutes(at, -DepartureBoard::BEFORE_MINUTES);
        (first, plus_minutes(at, DepartureBoard::AFTER_MINUTES))
    }

    /// The boards that have flights in the window. A flight departs on its board's day or, in UTC,
    /// on the next: what schedules it sees to that.
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

    /// Whatever the view has, an instant has a few boards.
    fn scope(&self) -> Filter {
        let Some(at) = self.at else { return Filter::everything() };
        let boards = self.boards(at).map(|board| Filter::tag(Tag::new("board", board)));
        boards.fold(Filter::nothing(), Filter::or)
    }
}

/// All about one flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlightCard {
    /// Which.
    pub flight: FlightId,
}

/// What is known of one flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FlightDetails {
    /// What the board shows of it.
    #[serde(flatten)]
    pub row: BoardRow,
    /// Where it departs.
    pub origin: Airport,
    /// Since when it is in the timetable.
    #[schemars(with = "String")]
    pub scheduled_at: Timestamp,
    /// How far it is.
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
