//! Punctuality of the airlines. The view joins names and flights, which come from different
//! sources.

use std::{cmp::Reverse, collections::BTreeMap};

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LATE_MINUTES, Minutes, map_bytes};
use crate::{events::Happening, ids::Airline};

/// Name and figures of each airline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Punctuality {
    airlines: BTreeMap<Airline, AirlineFigures>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct AirlineFigures {
    name: Option<String>,
    scheduled: u64,
    landed: u64,
    cancelled: u64,
    diverted: u64,
    on_time: u64,
    departures: Minutes,
    arrivals: Minutes,
    arrivals_by_delay: [u64; BINS],
}

const BINS: usize = 7;

/// The index of the bar for an arrival in the chart.
fn bin(delay_minutes: i32) -> usize {
    match delay_minutes {
        ..-15 => 0,
        -15..=0 => 1,
        1..15 => 2,
        15..30 => 3,
        30..60 => 4,
        60..120 => 5,
        120.. => 6,
    }
}

impl Fold for Punctuality {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        match &event.event {
            Happening::Airline(named) => {
                self.of(named.airline).name = Some(named.name.clone());
            }
            Happening::Scheduled(scheduled) => self.of(scheduled.flight.airline()).scheduled += 1,
            Happening::Departed(departed) => {
                self.of(departed.flight.airline()).departures.add(departed.delay_minutes);
            }
            Happening::Cancelled(cancelled) => self.of(cancelled.flight.airline()).cancelled += 1,
            Happening::Diverted(diverted) => self.of(diverted.flight.airline()).diverted += 1,
            Happening::Landed(landed) => {
                self.of(landed.flight.airline()).landed(landed.arrival_delay_minutes);
            }
            _ => {}
        }
    }

    fn heap_bytes(&self) -> Option<usize> {
        Some(map_bytes::<Airline, AirlineFigures>(self.airlines.len()))
    }
}

impl Punctuality {
    fn of(&mut self, airline: Airline) -> &mut AirlineFigures {
        self.airlines.entry(airline).or_default()
    }
}

impl AirlineFigures {
    fn landed(&mut self, delay_minutes: Option<i32>) {
        self.landed += 1;
        let Some(delay) = delay_minutes else { return };
        self.arrivals.add(delay);
        self.on_time += u64::from(delay < LATE_MINUTES);
        if let Some(bin) = self.arrivals_by_delay.get_mut(bin(delay)) {
            *bin += 1;
        }
    }
}

/// Punctuality of all airlines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PunctualityByAirline {}

/// Punctuality of all airlines.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PunctualityAnswer {
    /// All airlines with flights, ordered by number of flights, largest first.
    pub airlines: Vec<PunctualityOfAirline>,
}

/// Punctuality of one airline.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PunctualityOfAirline {
    /// The airline.
    pub airline: Airline,
    /// Its name, if known.
    pub name: Option<String>,
    /// Number of scheduled flights.
    pub scheduled: u64,
    /// Number of departures.
    pub departed: u64,
    /// Number of landings.
    pub landed: u64,
    /// Number of cancelled flights.
    pub cancelled: u64,
    /// Number of diverted flights.
    pub diverted: u64,
    /// Number of landings less than 15 minutes late.
    pub on_time: u64,
    /// Mean delay of the departures.
    pub mean_departure_delay_minutes: Option<f64>,
    /// Mean delay of the landings whose delay is known.
    pub mean_arrival_delay_minutes: Option<f64>,
    /// Number of landings more than 15 minutes early, up to 15 minutes early, 1 to 14 late, 15 to
    /// 29, 30 to 59, 60 to 119, and later.
    pub arrivals_by_delay: [u64; BINS],
}

impl Query for PunctualityByAirline {
    type View = Punctuality;
    type Answer = PunctualityAnswer;

    fn answer(&self, view: &Punctuality) -> PunctualityAnswer {
        let flown = view.airlines.iter().filter(|(_, of)| of.scheduled > 0);
        let mut airlines: Vec<_> = flown.map(|(airline, of)| of.shown(*airline)).collect();
        airlines.sort_by_key(|of| (Reverse(of.scheduled), of.airline));
        PunctualityAnswer { airlines }
    }
}

impl AirlineFigures {
    fn shown(&self, airline: Airline) -> PunctualityOfAirline {
        PunctualityOfAirline {
            airline,
            name: self.name.clone(),
            scheduled: self.scheduled,
            departed: self.departures.count,
            landed: self.landed,
            cancelled: self.cancelled,
            diverted: self.diverted,
            on_time: self.on_time,
            mean_departure_delay_minutes: self.departures.mean(),
            mean_arrival_delay_minutes: self.arrivals.mean(),
            arrivals_by_delay: self.arrivals_by_delay,
        }
    }
}
