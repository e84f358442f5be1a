//! Where a plane was on a day.

use std::collections::BTreeMap;

use diptych::{Filter, Fold, Query, Recorded, Tag, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::map_bytes;
use crate::{
    commands::Status,
    events::Happening,
    ids::{Airport, Day, FlightId, Plane},
};

/// Each plane: what it is, and its flights in the order in which they left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Planes {
    planes: BTreeMap<Plane, Logbook>,
    flights: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Logbook {
    kind: Option<PlaneKind>,
    flown: Vec<Flown>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PlaneKind {
    manufacturer: String,
    model: String,
    built: Option<i16>,
    seats: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flown {
    flight: FlightId,
    destination: Airport,
    departed_at: Timestamp,
    ended: Option<(Timestamp, Status)>,
}

impl Fold for Planes {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        let at = event.occurred_at();
        match &event.event {
            Happening::Plane(registered) => {
                let of = registered.clone();
                self.of(registered.plane).kind = Some(PlaneKind {
                    manufacturer: of.manufacturer,
                    model: of.model,
                    built: of.built,
                    seats: of.seats,
                });
            }
            Happening::Departed(departed) => {
                let Some(plane) = departed.plane else { return };
                let (flight, destination) = (departed.flight, departed.destination);
                let flown = Flown { flight, destination, departed_at: at, ended: None };
                self.of(plane).flown.push(flown);
                self.flights += 1;
            }
            Happening::Landed(landed) => {
                self.end(landed.plane, landed.flight, (at, Status::Landed));
            }
            Happening::Diverted(diverted) => {
                self.end(diverted.plane, diverted.flight, (at, Status::Diverted));
            }
            _ => {}
        }
    }

    fn heap_bytes(&self) -> Option<usize> {
        // Vectors that grow are half as large again, on the whole.
        let flights = self.flights * size_of::<Flown>() * 3 / 2;
        Some(map_bytes::<Plane, Logbook>(self.planes.len()) + flights)
    }
}

impl Planes {
    fn of(&mut self, plane: Plane) -> &mut Logbook {
        self.planes.entry(plane).or_default()
    }

    fn end(&mut self, plane: Option<Plane>, flight: FlightId, ended: (Timestamp, Status)) {
        let Some(logbook) = plane.and_then(|plane| self.planes.get_mut(&plane)) else { return };
        // It is the last, because a plane that is in the air cannot depart.
        let flown = logbook.flown.iter_mut().rev().find(|flown| flown.flight == flight);
        if let Some(flown) = flown {
            flown.ended = Some(ended);
        }
    }
}

/// What a plane flew on a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaneDay {
    /// Which plane.
    pub plane: Plane,
    /// On which day, in UTC.
    pub day: Day,
}

/// A plane, and what it flew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlaneDayAnswer {
    /// Which plane.
    pub plane: Plane,
    /// Who built it, if it is registered.
    pub manufacturer: Option<String>,
    /// As what.
    pub model: Option<String>,
    /// In which year.
    pub built: Option<i16>,
    /// How many people sit in it.
    pub seats: Option<u16>,
    /// What left on that day, in order.
    pub legs: Vec<Leg>,
}

/// One flight of a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Leg {
    /// Which.
    pub flight: FlightId,
    /// From where.
    pub origin: Airport,
    /// To where.
    pub destination: Airport,
    /// When it left.
    #[schemars(with = "String")]
    pub departed_at: Timestamp,
    /// When it landed, if it did.
    #[schemars(with = "Option<String>")]
    pub landed_at: Option<Timestamp>,
    /// How it stands with it.
    pub status: Status,
}

impl Query for PlaneDay {
    type View = Planes;
    type Answer = PlaneDayAnswer;

    fn answer(&self, view: &Planes) -> PlaneDayAnswer {
        let logbook = view.planes.get(&self.plane);
        let flown = logbook.into_iter().flat_map(|logbook| &logbook.flown);
        let of_the_day = flown.filter(|flown| Day::of(flown.departed_at) == self.day);
        let mut legs: Vec<_> = of_the_day.map(Flown::leg).collect();
        legs.sort_by_key(|leg| leg.departed_at);
        let kind = logbook.and_then(|logbook| logbook.kind.as_ref());
        PlaneDayAnswer {
            plane: self.plane,
            manufacturer: kind.map(|kind| kind.manufacturer.clone()),
            model: kind.map(|kind| kind.model.clone()),
            built: kind.and_then(|kind| kind.built),
            seats: kind.map(|kind| kind.seats),
            legs,
        }
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("plane", self.plane))
    }
}

impl Flown {
    fn leg(&self) -> Leg {
        let landed = self.ended.filter(|(_, status)| *status == Status::Landed);
        Leg {
            flight: self.flight,
            origin: self.flight.origin(),
            destination: self.destination,
            departed_at: self.departed_at,
            landed_at: landed.map(|(at, _)| at),
            status: self.ended.map_or(Status::Departed, |(_, status)| status),
        }
    }
}
