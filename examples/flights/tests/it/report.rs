//! The sums of the report equal those of the views.

use std::time::Duration;

use diptych_sqlite::rusqlite::Connection;
use example_flights::{
    report::FlightsByDay,
    views::{PunctualityByAirline, PunctualityOfAirline},
};

use super::{first_days, loaded, started};

const SUMS: &str = "
    SELECT sum(scheduled), sum(departed), sum(cancelled), sum(landed), sum(diverted),
        1.0 * sum(departure_delay_minutes) / sum(departed),
        1.0 * sum(arrival_delay_minutes) / sum(arrivals_timed)
    FROM flights_by_day WHERE airline = ?1";

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_of_an_airline_are_equal_in_sql_and_in_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    loaded(&app, &first_days()).await;
    let projection = app.projection(FlightsByDay::NAME).unwrap();
    projection.caught_up(Duration::from_secs(60)).await.unwrap();
    let report = Connection::open(folder.path().join("reports.db")).unwrap();

    let shown = app.query(PunctualityByAirline {}).strong().await.unwrap();
    assert_eq!(shown.airlines.len(), 15);
    for PunctualityOfAirline {
        airline,
        scheduled,
        departed,
        cancelled,
        landed,
        diverted,
        mean_departure_delay_minutes,
        mean_arrival_delay_minutes,
        ..
    } in &shown.airlines
    {
        type Sums = (u64, u64, u64, u64, u64, Option<f64>, Option<f64>);
        let sums: Sums = report.query_row(SUMS, [airline.as_str()], |row| row.try_into()).unwrap();
        let counts = (sums.0, sums.1, sums.2, sums.3, sums.4);
        assert_eq!(counts, (*scheduled, *departed, *cancelled, *landed, *diverted), "{airline}");
        let is_near = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => (one - other).abs() <= 0.051,
            (one, other) => one == other,
        };
        assert!(is_near(sums.5, *mean_departure_delay_minutes), "{airline}: {sums:?}");
        assert!(is_near(sums.6, *mean_arrival_delay_minutes), "{airline}: {sums:?}");
    }
    let days = "SELECT count(DISTINCT day), count(DISTINCT origin) FROM flights_by_day";
    let days: (u32, u32) = report.query_row(days, (), |row| row.try_into()).unwrap();
    // Flights enter the timetable a day ahead, so a fourth day has rows.
    assert_eq!(days, (4, 3));
    app.stop().await.unwrap();
}
