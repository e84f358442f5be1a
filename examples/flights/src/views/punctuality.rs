//! How punctual the airlines are. What they are called comes from one source and what they do from
//! another: a record of both that nobody keeps elsewhere.

use std::{cmp::Reverse, collections::BTreeMap};

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LATE_MINUTES, Minutes, map_bytes};
use crate::{events::Happening, ids::Airline};

/// Each airline's name and figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Punctuality {
    airlines: BTreeMap<Airline, Figures>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Figures {
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

/// Which bar of the picture an arrival belongs to.
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
        Some(map_bytes::<Airline, Figures>(self.airlines.len()))
    }
}

impl Punctuality {
    fn of(&mut self, airline: Airline) -> &mut Figures {
        self.airlines.entry(airline).or_default()
    }
}

impl Figures {
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

/// How punctual each airline is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PunctualityByAirline {}

/// How punctual the airlines are.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PunctualityAnswer {
    /// Those with flights, the one with most of them first.
    pub airlines: Vec<PunctualityOfAirline>,
}

/// How punctual one airline is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PunctualityOfAirline {
    /// Which.
    pub airline: Airline,
    /// What it is called, if that was told.
    pub name: Option<String>,
    /// Flights in the timetable.
    pub scheduled: u64,
    /// Flights that left.
    pub departed: u64,
    /// Flights that arrived.
    pub landed: u64,
    /// Flights that were cancelled.
    pub cancelled: u64,
    /// Flights that ended somewhere else.
    pub diverted: u64,
    /// Flights that arrived less than 15 minutes late.
    pub on_time: u64,
    /// How late they left.
    pub mean_departure_delay_minutes: Option<f64>,
    /// How late they arrived, those of which that is known.
    pub mean_arrival_delay_minutes: Option<f64>,
    /// Arrivals more than 15 minutes early, up to 15 early, 1 to 14 late, 15 to 29, 30 to 59, 60 to
    /// 119, and more.
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

impl Figures {
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
