//! Facts that no rule refuses. Repeating a fact commits nothing.

use std::convert::Infallible;

use diptych::{Command, DecisionContext, Filter, Tag};
use serde::Serialize;

use super::LatestFact;
use crate::events::{AirlineNamed, AirportNamed, PlaneRegistered, WeatherObserved};

/// Reports the name of an airline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NameAirline(pub AirlineNamed);

impl Command for NameAirline {
    type State = LatestFact<AirlineNamed>;
    type Event = AirlineNamed;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("airline", self.0.airline))
    }

    fn decide(
        &self,
        known: &LatestFact<AirlineNamed>,
        _: &DecisionContext,
    ) -> Result<Vec<AirlineNamed>, Infallible> {
        Ok(known.unless_known(self.0.clone()))
    }
}

/// Reports the name and the place of an airport.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NameAirport(pub AirportNamed);

impl Command for NameAirport {
    type State = LatestFact<AirportNamed>;
    type Event = AirportNamed;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("airport", self.0.airport))
    }

    fn decide(
        &self,
        known: &LatestFact<AirportNamed>,
        _: &DecisionContext,
    ) -> Result<Vec<AirportNamed>, Infallible> {
        Ok(known.unless_known(self.0.clone()))
    }
}

/// Reports the model of a plane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegisterPlane(pub PlaneRegistered);

impl Command for RegisterPlane {
    type State = LatestFact<PlaneRegistered>;
    type Event = PlaneRegistered;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("plane", self.0.plane))
    }

    fn decide(
        &self,
        known: &LatestFact<PlaneRegistered>,
        _: &DecisionContext,
    ) -> Result<Vec<PlaneRegistered>, Infallible> {
        Ok(known.unless_known(self.0.clone()))
    }
}

/// Reports the weather. Every observation commits an event, even if it equals the one before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObserveWeather(pub WeatherObserved);

impl Command for ObserveWeather {
    type State = ();
    type Event = WeatherObserved;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<WeatherObserved>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}
