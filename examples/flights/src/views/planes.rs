//! The flights of a plane on a day.

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

/// Model and flights of each plane. The flights are in the order of their departures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Planes {
    planes: BTreeMap<Plane, Logbook>,
    flights: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Logbook {
    kind: Option<PlaneKind>,
    flown: Vec<FlownLeg>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PlaneKind {
    manufacturer: String,
    model: String,
    built: Option<i16>,
    seats: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlownLeg {
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
                let flown = FlownLeg { flight, destination, departed_at: at, ended: None };
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
        // A vector that grows by doubling has on average room for one and a half times its
        // contents.
        let flights = self.flights * size_of::<FlownLeg>() * 3 / 2;
        Some(map_bytes::<Plane, Logbook>(self.planes.len()) + flights)
    }
}

impl Planes {
    fn of(&mut self, plane: Plane) -> &mut Logbook {
        self.planes.entry(plane).or_default()
    }

    fn end(&mut self, plane: Option<Plane>, flight: FlightId, ended: (Timestamp, Status)) {
        let Some(logbook) = plane.and_then(|plane| self.planes.get_mut(&plane)) else { return };
        // Searches from the end: only the last flight can land, because a plane in the air cannot
        // depart.
        let flown = logbook.flown.iter_mut().rev().find(|flown| flown.flight == flight);
        if let Some(flown) = flown {
            flown.ended = Some(ended);
        }
    }
}

/// The flights of a plane on a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaneDay {
    /// The plane.
    pub plane: Plane,
    /// The local day of the flights, which is part of their names.
    pub day: Day,
}

/// A plane, and its flights on the day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlaneDayAnswer {
    /// The plane.
    pub plane: Plane,
    /// Manufacturer, if the plane is registered.
    pub manufacturer: Option<String>,
    /// Model, if the plane is registered.
    pub model: Option<String>,
    /// Year in which it was built, if known.
    pub built: Option<i16>,
    /// Number of seats, if the plane is registered.
    pub seats: Option<u16>,
    /// The departures of the day, in order.
    pub legs: Vec<Leg>,
}

/// One flight of a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Leg {
    /// The flight.
    pub flight: FlightId,
    /// Airport of the departure.
    pub origin: Airport,
    /// Destination.
    pub destination: Airport,
    /// Time of the departure.
    #[schemars(with = "String")]
    pub departed_at: Timestamp,
    /// Time of the landing, if it landed.
    #[schemars(with = "Option<String>")]
    pub landed_at: Option<Timestamp>,
    /// Status.
    pub status: Status,
}

impl Query for PlaneDay {
    type View = Planes;
    type Answer = PlaneDayAnswer;

    fn answer(&self, view: &Planes) -> PlaneDayAnswer {
        let logbook = view.planes.get(&self.plane);
        let flown = logbook.into_iter().flat_map(|logbook| &logbook.flown);
        let of_the_day = flown.filter(|flown| flown.flight.day() == self.day);
        let mut legs: Vec<_> = of_the_day.map(FlownLeg::leg).collect();
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

impl FlownLeg {
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
