//! Asking about the past, over HTTP.

use std::time::Duration;

use diptych::{
    App, Timestamp,
    testing::{Clock, Controlled},
};
use serde_json::json;

use crate::{
    client::Request,
    served::{Served, with_views},
};

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// On three days a seat is taken, and each is recorded a day late.
async fn three_days() -> Served {
    let clock = Clock::new();
    clock.set(instant("2013-01-02T00:00:00Z"));
    let app = with_views(App::over(Controlled::new(clock.clone()))).start().await.unwrap();
    let served = Served::of(app, |server| server).await;
    for (day, seat) in [(3, "a1"), (2, "a2"), (1, "a3")] {
        let take = Request::send("take-seat", json!({ "seat": seat, "by": "ada" }));
        let at = format!("2013-01-0{day}T12:00:00Z");
        served.ask(&take.header("diptych-occurred-at", at)).await.ok();
        clock.advance(Duration::from_secs(86_400));
    }
    served
}

async fn seats(served: &Served, point: &str) -> (String, Vec<String>) {
    let response = served.get(&format!("/queries/seats?{point}")).await;
    let position = response.need("diptych-position");
    let places = response.ok();
    let seats = places.as_array().unwrap().iter();
    (position, seats.map(|place| place["seat"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn the_past_is_asked_by_position_by_what_was_known_and_by_what_was_so() {
    let served = three_days().await;
    for (point, position, expected) in [
        ("_as_of=0", "0", vec![]),
        ("_as_of=2", "2", vec!["a1", "a2"]),
        ("_as_of=3", "3", vec!["a1", "a2", "a3"]),
        ("_recorded_before=2013-01-02T00:00:00Z", "0", vec![]),
        ("_recorded_before=2013-01-03T00:00:00Z", "1", vec!["a1"]),
        ("_recorded_before=2013-01-02T23:00:00-05:00", "2", vec!["a1", "a2"]),
        ("_recorded_before=9999-01-01T00:00:00Z", "3", vec!["a1", "a2", "a3"]),
        ("_occurred_before=2013-01-02T00:00:00Z", "3", vec!["a3"]),
        ("_occurred_before=2013-01-03T00:00:00Z", "3", vec!["a2", "a3"]),
        ("_occurred_before=2013-01-03T00:00:00Z&_as_of=2", "2", vec!["a2"]),
        ("_occurred_before=1000-01-01T00:00:00Z", "3", vec![]),
    ] {
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(seats(&served, point).await, (position.to_owned(), expected), "{point}");
    }
}

#[tokio::test]
async fn a_header_says_the_same_and_the_address_goes_first() {
    let served = three_days().await;
    let request =
        Request::get("/queries/seats").header("Diptych-Occurred-Before", "2013-01-02T00:00:00Z");
    assert_eq!(served.ask(&request).await.ok(), json!([{ "seat": "a3", "by": null }]));
    let both = Request::get("/queries/how-many?_as_of=1").header("Diptych-As-Of", 2);
    assert_eq!(served.ask(&both).await.ok(), 1);
}

#[tokio::test]
async fn above_the_head_there_is_nothing_to_ask() {
    let served = three_days().await;
    for position in ["4", "18446744073709551615"] {
        let response = served.get(&format!("/queries/how-many?_as_of={position}")).await;
        let problem = response.problem(400, "above-head");
        assert_eq!(problem["head"], 3);
    }
}
