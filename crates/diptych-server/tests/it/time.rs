//! Asking about the past, over HTTP.

use std::{num::NonZeroUsize, time::Duration};

use diptych::{
    App, Timestamp,
    testing::{Clock, ControlledClock},
};
use serde_json::json;

use crate::{
    client::Request,
    served::{TheatreServer, with_views},
    store::{Mood, MoodyStore},
};

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// On three days a seat is taken, and each is recorded a day late.
async fn three_days() -> TheatreServer {
    let clock = Clock::new();
    clock.set(instant("2013-01-02T00:00:00Z"));
    let app = with_views(App::over(ControlledClock::new(clock.clone()))).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server).await;
    for (day, seat) in [(3, "a1"), (2, "a2"), (1, "a3")] {
        let take = Request::send("take-seat", json!({ "seat": seat, "by": "ada" }));
        let at = format!("2013-01-0{day}T12:00:00Z");
        served.ask(&take.header("diptych-occurred-at", at)).await.ok();
        clock.advance(Duration::from_secs(86_400));
    }
    served
}

async fn seats(served: &TheatreServer, point: &str) -> (String, Vec<String>) {
    let response = served.get(&format!("/queries/seats?{point}")).await;
    let position = response.need("diptych-position");
    let places = response.ok();
    let seats = places.as_array().unwrap().iter();
    (position, seats.map(|place| place["seat"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn a_query_about_the_past_takes_a_position_or_an_instant() {
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
async fn the_address_wins_over_a_header() {
    let served = three_days().await;
    let request =
        Request::get("/queries/seats").header("Diptych-Occurred-Before", "2013-01-02T00:00:00Z");
    assert_eq!(served.ask(&request).await.ok(), json!([{ "seat": "a3", "by": null }]));
    let both = Request::get("/queries/how-many?_as_of=1").header("Diptych-As-Of", 2);
    assert_eq!(served.ask(&both).await.ok(), 1);
}

#[tokio::test]
async fn a_position_above_the_head_is_refused() {
    let served = three_days().await;
    for position in ["4", "18446744073709551615"] {
        let response = served.get(&format!("/queries/how-many?_as_of={position}")).await;
        let problem = response.problem(400, "above-head");
        assert_eq!(problem["head"], 3);
    }
}

/// 64 strangers who asked about the past took the threads that answer requests, and commands came
/// through 70 times more slowly.
#[tokio::test]
async fn queries_about_the_past_delay_no_command_and_end_with_their_client() {
    let store = MoodyStore::new();
    let builder = with_views(App::over(store.store()));
    let builder = builder.past_folds(NonZeroUsize::MIN).past_waiting(0);
    let served = TheatreServer::of(builder.start().await.unwrap(), |server| server).await;
    served.take("a1", "ada").await;
    served.take("a2", "ben").await;
    served.get("/queries/seats?_consistency=strong").await.ok();
    store.set(Mood::PastHeld);
    let past = Request::get("/queries/seats?_as_of=1");
    let mut stranger = served.connect().await;
    stranger.write(past.bytes()).await;
    store.held(1).await;

    for target in ["/queries/seats?row=a&_as_of=1", "/queries/seats/explanation?_as_of=1"] {
        let busy = served.get(target).await;
        let problem = busy.problem(503, "busy");
        assert_eq!(busy.need("retry-after"), "1");
        assert!(problem["detail"].as_str().unwrap().contains("retry later"), "{problem}");
    }
    served.take("a3", "cem").await;
    let now = served.get("/queries/seats?_consistency=strong").await.ok();
    assert_eq!(now.as_array().unwrap().len(), 3);
    // The view in memory has it.
    served.get("/queries/seats?_as_of=3").await.ok();

    drop(stranger);
    store.free().await;
    store.set(Mood::Well);
    // The read has ended with the client; the place that its fold had comes free just after.
    let seats = async {
        loop {
            let seats = served.get("/queries/seats?_as_of=1").await;
            if seats.status != 503 {
                return seats;
            }
            tokio::task::yield_now().await;
        }
    };
    let seats = tokio::time::timeout(crate::client::LONG, seats).await.unwrap();
    assert_eq!(seats.need("diptych-cost-events"), "1");
}

#[tokio::test]
async fn a_wrong_instant_is_answered_with_the_form_of_a_right_one() {
    let served = TheatreServer::new().await;
    for instant in ["yesterday", "2013-01-01", "2013-01-01T10:00:00", "2013-02-30T00:00:00Z", ""] {
        for name in ["_recorded_before", "_occurred_before"] {
            let response = served.get(&format!("/queries/seats?{name}={instant}")).await;
            let problem = response.problem(400, "parameter");
            assert_eq!(problem["parameter"], name);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("such as 2013-01-01T10:15:00Z"), "{detail}");
        }
        let remark = Request::send("remark", r#"{"text":"x"}"#);
        let response = served.ask(&remark.header("diptych-occurred-at", instant)).await;
        assert_eq!(response.problem(400, "header")["header"], "diptych-occurred-at");
    }
    let target = "/queries/seats?_recorded_before=2013-01-01T10:00:00+01:00";
    let problem = served.get(target).await.problem(400, "parameter");
    assert!(problem["detail"].as_str().unwrap().contains("%2B"), "{problem}");
    assert_eq!(served.head(), 0);
}
