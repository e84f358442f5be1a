//! The small tables that are built into the program: names, planes and the weather.

use diptych::Timestamp;

use super::{
    SourceError,
    table::{Quotes, Row, Table},
};
use crate::events::{AirlineNamed, AirportNamed, PlaneRegistered, Weather, WeatherObserved};

/// All data besides the flights.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) airlines: Vec<AirlineNamed>,
    pub(crate) airports: Vec<AirportNamed>,
    pub(crate) planes: Vec<PlaneRegistered>,
    /// Each observation with the time of its measurement.
    pub(crate) weather: Vec<(Timestamp, WeatherObserved)>,
}

const AIRLINES: [&str; 2] = ["carrier", "name"];
const AIRPORTS: [&str; 8] = ["faa", "name", "lat", "lon", "alt", "tz", "dst", "tzone"];
const PLANES: [&str; 9] =
    ["tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "speed", "engine"];
const WEATHER: [&str; 15] = [
    "origin",
    "year",
    "month",
    "day",
    "hour",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
    "time_hour",
];

impl Facts {
    pub(crate) fn read() -> Result<Facts, SourceError> {
        Ok(Facts {
            airlines: read(
                "airlines.csv",
                include_bytes!("../../data/airlines.csv"),
                &AIRLINES,
                |row| Ok(AirlineNamed { airline: row.value(0)?, name: row.value(1)? }),
            )?,
            airports: read(
                "airports.csv.gz",
                include_bytes!("../../data/airports.csv.gz"),
                &AIRPORTS,
                airport,
            )?,
            planes: read(
                "planes.csv.gz",
                include_bytes!("../../data/planes.csv.gz"),
                &PLANES,
                plane,
            )?,
            weather: read(
                "weather.csv.gz",
                include_bytes!("../../data/weather.csv.gz"),
                &WEATHER,
                weather,
            )?,
        })
    }
}

fn read<T>(
    file: &str,
    bytes: &[u8],
    columns: &'static [&'static str],
    each: impl Fn(&Row<'_>) -> Result<T, SourceError>,
) -> Result<Vec<T>, SourceError> {
    let mut table = Table::open(file, bytes, columns, Quotes::Some)?;
    let mut all = Vec::new();
    while let Some(row) = table.row()? {
        all.push(each(&row)?);
    }
    Ok(all)
}

/// Seven digits after the point are exact to about a centimetre.
fn airport(row: &Row<'_>) -> Result<AirportNamed, SourceError> {
    let degrees = |column| match row.measured(column, 7)? {
        Some(degrees) => Ok(degrees),
        None => Err(row.wrong(column, "it is missing".to_owned())),
    };
    Ok(AirportNamed {
        airport: row.value(0)?,
        name: row.value(1)?,
        latitude: degrees(2)?,
        longitude: degrees(3)?,
    })
}

fn plane(row: &Row<'_>) -> Result<PlaneRegistered, SourceError> {
    Ok(PlaneRegistered {
        plane: row.value(0)?,
        built: row.known(1)?,
        manufacturer: row.value(3)?,
        model: row.value(4)?,
        seats: row.value(6)?,
    })
}

/// The values were converted from other units, so most digits in the file carry no information.
fn weather(row: &Row<'_>) -> Result<(Timestamp, WeatherObserved), SourceError> {
    let weather = Weather {
        temperature_f: row.measured(5, 2)?,
        wind_mph: row.measured(9, 2)?,
        gust_mph: row.measured(10, 2)?,
        precipitation_inches: row.measured(11, 2)?,
        visibility_miles: row.measured(13, 2)?,
    };
    Ok((row.value(14)?, WeatherObserved { airport: row.value(0)?, weather }))
}
