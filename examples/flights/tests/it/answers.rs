//! Answers to queries about real flights, in the form that the page reads.

use diptych::{App, ExecuteError, Query};
use example_flights::{
    commands::{DepartFlight, FlightCommand, NoteRefusal, Refusal, ScheduleFlight},
    ids::Airport,
    views::{
        AllNames, DelayByHour, DelayByWeather, DepartureBoard, FlightCard, PlaneDay,
        PunctualityByAirline, RecentHappenings, RefusalsByRule, RouteOrder, RouteRanking,
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{at, first_days, loaded, started};

async fn answer<Q: Query<Answer: Serialize>>(app: &App, query: Q) -> Value {
    serde_json::to_value(&app.query(query).strong().await.unwrap().value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_have_the_shape_that_the_page_expects() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    loaded(&app, &first_days()).await;
    let airport: Airport = "EWR".parse().unwrap();

    let card = answer(&app, FlightCard { flight: "UA1545-EWR-2013-01-01".parse().unwrap() }).await;
    assert_eq!(
        card,
        json!({
            "flight": "UA1545-EWR-2013-01-01", "airline": "UA", "number": 1545,
            "departs_at": "2013-01-01T10:15:00Z", "destination": "IAH", "plane": "N14228",
            "status": "landed", "delay_minutes": 2, "departed_at": "2013-01-01T10:17:00Z",
            "ended_at": "2013-01-01T14:04:00Z", "arrival_delay_minutes": 11, "origin": "EWR",
            "scheduled_at": "2012-12-31T10:15:00Z", "distance_miles": 1400,
        })
    );
    let nobody = FlightCard { flight: "ZZ1-EWR-2013-01-01".parse().unwrap() };
    assert_eq!(answer(&app, nobody).await, Value::Null);

    let board = DepartureBoard { airport, at: Some(at("2013-01-01T12:00:00Z")) };
    let board = answer(&app, board).await;
    assert_eq!(board["rows"][0]["flight"], "UA1545-EWR-2013-01-01");
    let instants: Vec<_> =
        board["rows"].as_array().unwrap().iter().map(|row| row["departs_at"].as_str()).collect();
    assert!(instants.is_sorted() && instants.last().unwrap().unwrap() <= "2013-01-01T20:00:00Z");
    let newest = answer(&app, DepartureBoard { airport, at: None }).await;
    assert_eq!(newest["at"], "2013-01-03T23:59:00Z");

    let punctuality = answer(&app, PunctualityByAirline {}).await;
    assert_eq!(punctuality["airlines"][0]["name"], "United Air Lines Inc.");
    let routes = RouteRanking { order: RouteOrder::Busiest, top: Some(2), origin: Some(airport) };
    let routes = answer(&app, routes).await;
    assert_eq!(routes["routes"].as_array().unwrap().len(), 2);
    assert!(routes["routes"][0]["destination_name"].is_string());
    let latest = RouteRanking { order: RouteOrder::Latest, top: None, origin: None };
    assert_eq!(answer(&app, latest).await["routes"].as_array().unwrap().len(), 15);

    let (plane, day) = ("N14228".parse().unwrap(), "2013-01-01".parse().unwrap());
    let plane = answer(&app, PlaneDay { plane, day }).await;
    assert_eq!((&plane["manufacturer"], &plane["built"]), (&json!("BOEING"), &json!(1999)));
    assert_eq!(plane["legs"][0]["flight"], "UA1545-EWR-2013-01-01");

    let hours = answer(&app, DelayByHour { airport, day }).await;
    assert_eq!(hours["hours"].as_array().unwrap().len(), 24);
    assert_eq!(hours["hours"][10]["hour"], 10);
    assert!(hours["hours"][11]["temperature_f"].is_number());
    assert!(hours["hours"][11]["departed"].as_u64().unwrap() > 0);
    let weather = answer(&app, DelayByWeather {}).await;
    let departed = |by: &str| -> u64 {
        weather[by].as_array().unwrap().iter().map(|of| of["departed"].as_u64().unwrap()).sum()
    };
    assert!(departed("wind") > 2_000 && departed("visibility") > 2_000);

    let names = answer(&app, AllNames {}).await;
    assert_eq!(names["airlines"]["UA"], "United Air Lines Inc.");
    assert!(names["airports"]["IAH"]["latitude"].as_f64().unwrap() > 29.0);

    let happenings = answer(&app, RecentHappenings {}).await;
    assert_eq!(happenings["recent"].as_array().unwrap().len(), 40);
    // The view counts all events except the note at the start of the load.
    assert_eq!(happenings["recent"][0]["number"], app.head().get() - 1);
    assert!(happenings["recent"][0]["text"].is_string());
    assert_eq!(happenings["first"], "2012-12-31T10:15:00Z");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_can_be_recorded_after_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    let schedule = ScheduleFlight {
        flight: "ZZ1-EWR-2013-01-01".parse().unwrap(),
        departs_at: at("2013-01-01T10:00:00Z"),
        destination: "IAH".parse().unwrap(),
        plane: None,
        distance_miles: None,
    };
    app.execute(schedule.clone()).occurred_at(at("2012-12-31T10:00:00Z")).await.unwrap();
    let refused = app.execute(schedule.clone()).await;
    let Err(ExecuteError::Rejected(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal, Refusal::ScheduledOnce { flight: schedule.flight });
    // A plain command that is refused commits nothing.
    assert_eq!(app.head().get(), 1);

    let note = NoteRefusal::of(&schedule, &refusal);
    app.execute(note).occurred_at(at("2012-12-31T11:00:00Z")).await.unwrap();
    let refusals = answer(&app, RefusalsByRule { top: None }).await;
    assert_eq!(refusals["total"], 1);
    assert_eq!(
        refusals["newest"][0],
        json!({
            "at": "2012-12-31T11:00:00Z", "flight": "ZZ1-EWR-2013-01-01",
            "command": ScheduleFlight::NAME, "rule": "scheduled-once",
            "reason": "ZZ1-EWR-2013-01-01 is scheduled already",
        })
    );
    let departed =
        DepartFlight { flight: schedule.flight, plane: None, at: at("2013-01-01T10:05:00Z") };
    app.execute(departed).occurred_at(at("2013-01-01T10:05:00Z")).await.unwrap();
    let card = answer(&app, FlightCard { flight: schedule.flight }).await;
    assert_eq!((&card["status"], &card["delay_minutes"]), (&json!("departed"), &json!(5)));
    app.stop().await.unwrap();
}
