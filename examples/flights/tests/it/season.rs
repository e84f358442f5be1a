//! The demo's clock, and commands that must not move it.

use std::convert::Infallible;

use diptych::{App, Command, DecisionContext, Event, ExecuteError, Position};
use diptych_demo::{
    AppOptions,
    commands::{Refusal, ScheduleFlight},
    events::FlightScheduled,
    load::{self, LoadError},
    plan::Plan,
    source::Source,
    views::{DepartureBoard, DepartureBoardAnswer},
};
use serde::{Deserialize, Serialize};

use super::{at, first_days, loaded, started};

/// Commits an event without any rule.
#[derive(Serialize)]
struct Put<E>(E);

impl<E: Event + Clone> Command for Put<E> {
    type State = ();
    type Event = E;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<E>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}

/// An event of another program.
#[derive(Clone, Event, Serialize, Deserialize)]
#[event("book-lent")]
struct BookLent {}

fn schedule(flight: &str, departs_at: &str) -> ScheduleFlight {
    ScheduleFlight {
        flight: flight.parse().unwrap(),
        departs_at: at(departs_at),
        destination: "IAH".parse().unwrap(),
        plane: None,
        distance_miles: None,
    }
}

async fn board(app: &App) -> DepartureBoardAnswer {
    let airport = "EWR".parse().unwrap();
    app.query(DepartureBoard { airport, at: None }).strong().await.unwrap().value
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_from_clients_neither_leave_the_season_nor_empty_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    loaded(&app, &first_days()).await;
    let before = board(&app).await;
    assert!(before.rows.len() > 10, "{}", before.rows.len());

    // A command without an instant, and without an `occurred_at` beside it.
    let flight = "ZZ1-EWR-2013-01-20";
    app.execute(schedule(flight, "2013-01-20T17:00:00Z")).actor("visitor").await.unwrap();
    assert_eq!(board(&app).await, before);
    let far = schedule("ZZ1-EWR-9000-01-01", "9000-01-01T17:00:00Z");
    let refused = app.execute(far.clone()).actor("visitor").await;
    // The file covers all of January, although only a part of it was loaded.
    let (first, last) = ("2013-01-01".parse().unwrap(), "2013-02-07".parse().unwrap());
    let Err(ExecuteError::Rejected(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal, Refusal::OutOfSeason { flight: far.flight, first, last });
    assert_eq!(board(&app).await, before);
    app.stop().await.unwrap();
}

/// Such events are in logs of older demos: without an actor, at any instant.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_flights_far_off_shows_its_boards() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    loaded(&app, &first_days()).await;
    let before = board(&app).await;
    for (flight, occurred_at) in [
        ("ZZ1-EWR-9000-01-01", Some(at("8999-12-31T10:00:00Z"))),
        ("ZZ2-EWR-2013-01-03", Some(at("9000-01-01T10:00:00Z"))),
        ("ZZ3-EWR-2013-12-03", None),
    ] {
        let ScheduleFlight { flight, departs_at, destination, plane, distance_miles } =
            schedule(flight, "2014-01-01T00:00:00Z");
        let board = flight.board();
        let scheduled =
            FlightScheduled { flight, board, departs_at, destination, plane, distance_miles };
        let put = app.execute(Put(scheduled));
        match occurred_at {
            Some(instant) => put.occurred_at(instant).await.unwrap(),
            None => put.await.unwrap(),
        };
    }
    assert_eq!(board(&app).await, before);
    app.stop().await.unwrap();

    let again = started(folder.path()).await;
    assert_eq!(board(&again).await, before);
    again.stop().await.unwrap();
}

/// Regression test: no view shows the note at the start of a load, so the next start reported its
/// type as unknown.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_knows_every_event_type_of_a_load() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    let plan = Plan::of(&Source::january()).unwrap();
    load::open(&app, &plan).await.unwrap();
    app.stop().await.unwrap();
    let options = AppOptions { snapshots: None };
    let again = diptych_demo::app(folder.path(), options).unwrap().strict().start().await;
    again.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_program_stays_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    app.execute(Put(BookLent {})).await.unwrap();
    let plan = Plan::of(&Source::january()).unwrap();
    let refused = load::open(&app, &plan).await.unwrap_err();
    assert!(matches!(&refused, LoadError::Foreign { event_type } if event_type == "book-lent"));
    assert!(refused.to_string().contains("a folder of its own"), "{refused}");
    assert_eq!(app.head(), Position::new(1));
    app.stop().await.unwrap();
}
