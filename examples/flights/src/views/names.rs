//! Names of airlines and airports.

use std::collections::BTreeMap;

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::map_bytes;
use crate::{
    events::Happening,
    ids::{Airline, Airport},
};

/// All names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Names {
    airlines: BTreeMap<Airline, String>,
    airports: BTreeMap<Airport, NameOfAirport>,
}

impl Fold for Names {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        match &event.event {
            Happening::Airline(named) => {
                self.airlines.insert(named.airline, named.name.clone());
            }
            Happening::Airport(named) => {
                let (name, latitude, longitude) =
                    (named.name.clone(), named.latitude, named.longitude);
                let named_so = NameOfAirport { name, latitude, longitude };
                self.airports.insert(named.airport, named_so);
            }
            _ => {}
        }
    }

    fn heap_bytes(&self) -> Option<usize> {
        let airlines: usize = self.airlines.values().map(String::capacity).sum();
        let airports: usize = self.airports.values().map(|of| of.name.capacity()).sum();
        let maps = map_bytes::<Airline, String>(self.airlines.len())
            + map_bytes::<Airport, NameOfAirport>(self.airports.len());
        Some(airlines + airports + maps)
    }
}

/// All names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllNames {}

/// All names by code.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NamesAnswer {
    /// Names of airlines.
    pub airlines: BTreeMap<Airline, String>,
    /// Names and places of airports.
    pub airports: BTreeMap<Airport, NameOfAirport>,
}

/// Name and place of an airport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NameOfAirport {
    /// Name of the airport.
    pub name: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

impl Query for AllNames {
    type View = Names;
    type Answer = NamesAnswer;

    fn answer(&self, view: &Names) -> NamesAnswer {
        NamesAnswer { airlines: view.airlines.clone(), airports: view.airports.clone() }
    }
}
