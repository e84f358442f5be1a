//! Queries of the past fold only the events in a query's scope. The scopes suffice at any instant.

use diptych::{Point, Query, View};
use example_flights::views::{DelayByHour, DepartureBoard, FlightCard, PlaneDay};

use super::{at, first_days, loaded, started};

async fn check<Q>(app: &diptych::App, query: Q)
where
    Q: Query<View: View, Answer: PartialEq + std::fmt::Debug>,
{
    app.check_scope(&query, Point::now()).await.unwrap();
    for instant in ["2013-01-01T09:30:00Z", "2013-01-02T15:00:00Z", "2013-01-03T03:30:00Z"] {
        app.check_scope(&query, Point::now().occurred_before(at(instant))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_contains_every_event_that_its_answer_depends_on() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    loaded(&app, &first_days()).await;
    for airport in ["EWR", "JFK"] {
        let airport = airport.parse().unwrap();
        check(&app, DepartureBoard { airport, at: None }).await;
        for instant in ["2013-01-01T10:00:00Z", "2013-01-03T02:00:00Z", "2013-01-03T07:59:00Z"] {
            check(&app, DepartureBoard { airport, at: Some(at(instant)) }).await;
        }
        check(&app, DelayByHour { airport, day: "2013-01-02".parse().unwrap() }).await;
    }
    check(&app, FlightCard { flight: "UA1545-EWR-2013-01-01".parse().unwrap() }).await;
    let (plane, day) = ("N14228".parse().unwrap(), "2013-01-01".parse().unwrap());
    check(&app, PlaneDay { plane, day }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_of_the_past_reads_only_a_few_boards() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    loaded(&app, &first_days()).await;
    let (airport, instant) = ("EWR".parse().unwrap(), at("2013-01-02T15:00:00Z"));
    let board = DepartureBoard { airport, at: Some(instant) };
    let board = app.query(board).occurred_before(instant).await.unwrap();
    assert!(board.rows.len() > 50, "{}", board.rows.len());
    assert!(board.cost.events < 3_000, "{:?}", board.cost);
    // The board has no departure from after the instant.
    assert!(board.rows.iter().all(|row| row.departed_at.is_none_or(|at| at < instant)));
    assert!(board.rows.iter().any(|row| row.departed_at.is_some()));
    assert!(board.rows.iter().any(|row| row.departed_at.is_none()));
}
