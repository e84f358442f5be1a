//! What is told and decided by no rule. Told again in the same way, it is nothing new.

use std::convert::Infallible;

use diptych::{Command, Filter, Tag};
use serde::Serialize;

use super::Known;
use crate::events::{AirlineNamed, AirportNamed, PlaneRegistered, WeatherObserved};

/// Says what an airline is called.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NameAirline(pub AirlineNamed);

impl Command for NameAirline {
    type State = Known<AirlineNamed>;
    type Event = AirlineNamed;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("airline", self.0.airline))
    }

    fn decide(&self, known: &Known<AirlineNamed>) -> Result<Vec<AirlineNamed>, Infallible> {
        Ok(known.unless_known(self.0.clone()))
    }
}

/// Says what an airport is called, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NameAirport(pub AirportNamed);

impl Command for NameAirport {
    type State = Known<AirportNamed>;
    type Event = AirportNamed;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("airport", self.0.airport))
    }

    fn decide(&self, known: &Known<AirportNamed>) -> Result<Vec<AirportNamed>, Infallible> {
        Ok(known.unless_known(self.0.clone()))
    }
}

/// Says what kind of plane a tail number is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegisterPlane(pub PlaneRegistered);

impl Command for RegisterPlane {
    type State = Known<PlaneRegistered>;
    type Event = PlaneRegistered;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("plane", self.0.plane))
    }

    fn decide(&self, known: &Known<PlaneRegistered>) -> Result<Vec<PlaneRegistered>, Infallible> {
        Ok(known.unless_known(self.0.clone()))
    }
}

/// Says how the weather was. Every observation counts, also one that is like the last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObserveWeather(pub WeatherObserved);

impl Command for ObserveWeather {
    type State = ();
    type Event = WeatherObserved;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): ()) -> Result<Vec<WeatherObserved>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}
