//! Delays of departures by the weather of the hour. Departures and weather come from independent
//! sources, so the view joins the two in whichever order they arrive.

use std::collections::BTreeMap;

use diptych::{Filter, Fold, Query, Recorded, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Minutes, map_bytes};
use crate::{
    commands::ABOUT_ITS_DAY,
    events::{FlightDeparted, Happening, Weather},
    ids::{Airport, BoardId, Day},
    time::hour_of,
};

/// Departures and weather of each hour at each airport, and sums over all hours by kind of weather.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeatherDelay {
    hours: BTreeMap<(Airport, i64), Hour>,
    wind: [Minutes; Bands::WIND.len()],
    visibility: [Minutes; Bands::VISIBILITY.len()],
    precipitation: [Minutes; Bands::PRECIPITATION.len()],
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    departures: Minutes,
    weather: Option<Weather>,
}

impl Fold for WeatherDelay {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        let hour = hour_of(event.occurred_at());
        match &event.event {
            Happening::Weather(observed) => {
                let of = self.hours.entry((observed.airport, hour)).or_default();
                let (departures, before) = (of.departures, of.weather.replace(observed.weather));
                if let Some(before) = before {
                    self.under(before, |sum| sum.take(departures));
                }
                self.under(observed.weather, |sum| sum.put(departures));
            }
            Happening::Departed(departed) if belongs(departed, event) => {
                let of = self.hours.entry((departed.flight.origin(), hour)).or_default();
                of.departures.add(departed.delay_minutes);
                if let Some(weather) = of.weather {
                    self.under(weather, |sum| sum.add(departed.delay_minutes));
                }
            }
            _ => {}
        }
    }

    fn heap_bytes(&self) -> Option<usize> {
        Some(map_bytes::<(Airport, i64), Hour>(self.hours.len()))
    }
}

/// Whether a departure is near its board's day. The scope of [`DelayByHour`] relies on this.
fn belongs(departed: &FlightDeparted, event: &Recorded<Happening>) -> bool {
    let (first, last) = (ABOUT_ITS_DAY.start(), ABOUT_ITS_DAY.end());
    let day = departed.flight.day();
    (day.plus(*first)..=day.plus(*last)).contains(&Day::of(event.occurred_at()))
}

impl WeatherDelay {
    /// Changes the sums for this weather.
    fn under(&mut self, weather: Weather, change: impl Fn(&mut Minutes)) {
        let sums = [
            Bands::WIND.of(weather.wind_mph).and_then(|band| self.wind.get_mut(band)),
            Bands::VISIBILITY
                .of(weather.visibility_miles)
                .and_then(|band| self.visibility.get_mut(band)),
            Bands::PRECIPITATION
                .of(weather.precipitation_inches)
                .and_then(|band| self.precipitation.get_mut(band)),
        ];
        sums.into_iter().flatten().for_each(change);
    }
}

impl Minutes {
    fn put(&mut self, other: Minutes) {
        self.count += other.count;
        self.sum += other.sum;
    }

    fn take(&mut self, other: Minutes) {
        self.count -= other.count;
        self.sum -= other.sum;
    }
}

/// Bands of one measured value. Each begins where the band before it ends.
struct Bands<const N: usize>([(f64, &'static str); N]);

impl<const N: usize> Bands<N> {
    const fn len(&self) -> usize {
        N
    }

    /// The index of the band with this value.
    fn of(&self, figure: Option<f64>) -> Option<usize> {
        let figure = figure?;
        self.0.iter().rposition(|(from, _)| figure >= *from)
    }

    fn shown(&self, sums: &[Minutes; N]) -> Vec<DelayOfWeather> {
        let banded = self.0.iter().zip(sums);
        let shown = banded.map(|((_, label), sum)| DelayOfWeather {
            label: (*label).to_owned(),
            departed: sum.count,
            mean_delay_minutes: sum.mean(),
        });
        shown.collect()
    }
}

impl Bands<5> {
    const WIND: Bands<5> = Bands([
        (0.0, "below 5 mph"),
        (5.0, "5 to 10 mph"),
        (10.0, "10 to 15 mph"),
        (15.0, "15 to 20 mph"),
        (20.0, "20 mph and more"),
    ]);
    const VISIBILITY: Bands<5> = Bands([
        (0.0, "below 1 mile"),
        (1.0, "1 to 3 miles"),
        (3.0, "3 to 6 miles"),
        (6.0, "6 to 10 miles"),
        (10.0, "10 miles"),
    ]);
}

impl Bands<4> {
    const PRECIPITATION: Bands<4> = Bands([
        (0.0, "none"),
        (0.005, "below 0.05 in"),
        (0.05, "0.05 to 0.2 in"),
        (0.2, "0.2 in and more"),
    ]);
}

/// The hours of a day at an airport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayByHour {
    /// The airport.
    pub airport: Airport,
    /// The day, in UTC.
    pub day: Day,
}

/// The hours of a day at an airport.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DelayByHourAnswer {
    /// The airport.
    pub airport: Airport,
    /// The day, in UTC.
    pub day: Day,
    /// All 24 hours.
    pub hours: Vec<DelayOfHour>,
}

/// One hour: its departures, their delay, and the weather.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DelayOfHour {
    /// From 0 to 23, in UTC.
    pub hour: u8,
    /// Number of departures.
    pub departed: u64,
    /// Mean delay of the departures.
    pub mean_delay_minutes: Option<f64>,
    /// The weather, if measured.
    #[serde(flatten)]
    pub weather: Weather,
}

impl Query for DelayByHour {
    type View = WeatherDelay;
    type Answer = DelayByHourAnswer;

    fn answer(&self, view: &WeatherDelay) -> DelayByHourAnswer {
        let first = hour_of(self.day.start());
        let hours = (0..24).map(|hour: u8| {
            let of = view.hours.get(&(self.airport, first.saturating_add(hour.into())));
            let departures = of.map(|of| of.departures).unwrap_or_default();
            DelayOfHour {
                hour,
                departed: departures.count,
                mean_delay_minutes: departures.mean(),
                weather: of.and_then(|of| of.weather).unwrap_or_default(),
            }
        });
        DelayByHourAnswer { airport: self.airport, day: self.day, hours: hours.collect() }
    }

    /// The weather of the airport, and the boards whose flights may depart on the day.
    fn scope(&self) -> Filter {
        let first = self.day.plus(-ABOUT_ITS_DAY.end());
        let days = first.through(self.day.plus(-ABOUT_ITS_DAY.start()));
        let boards = days.map(|day| BoardId { origin: self.airport, day });
        let boards = boards.map(|board| Filter::tag(Tag::new("board", board)));
        boards.fold(Filter::tag(Tag::new("airport", self.airport)), Filter::or)
    }
}

/// The delay of departures by kind of weather.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayByWeather {}

/// The delay of departures by kind of weather.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DelayByWeatherAnswer {
    /// By wind, the weakest first.
    pub wind: Vec<DelayOfWeather>,
    /// By visibility, the lowest first.
    pub visibility: Vec<DelayOfWeather>,
    /// By rain and snow, the least first.
    pub precipitation: Vec<DelayOfWeather>,
}

/// A kind of weather, and the delay of the departures in it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DelayOfWeather {
    /// Name of the kind, such as `5 to 10 mph`.
    pub label: String,
    /// Number of departures.
    pub departed: u64,
    /// Mean delay of the departures.
    pub mean_delay_minutes: Option<f64>,
}

impl Query for DelayByWeather {
    type View = WeatherDelay;
    type Answer = DelayByWeatherAnswer;

    fn answer(&self, view: &WeatherDelay) -> DelayByWeatherAnswer {
        DelayByWeatherAnswer {
            wind: Bands::WIND.shown(&view.wind),
            visibility: Bands::VISIBILITY.shown(&view.visibility),
            precipitation: Bands::PRECIPITATION.shown(&view.precipitation),
        }
    }
}
