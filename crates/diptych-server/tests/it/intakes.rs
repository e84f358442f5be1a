//! Feeds and intakes for operators over HTTP: how far they are, what waits, and answers.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use diptych::{
    App, Event, Memory, Store,
    collaboration::{
        FeedError, FeedPage, FeedRead, FeedSource, ForeignEvent, Intake, IntakeOptions, IntakeStart,
    },
};
use diptych_server::{Caller, Denial, Operation, Server, Visit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    client::Request,
    feeds::{Occupied, Seats},
    served::{TheatreServer, with_views},
};

/// The cleaners hear that a seat is occupied.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("seat-to-clean")]
struct ToClean {
    #[tag]
    place: String,
}

/// Cannot take in the seats of row x.
struct Cleaning;

impl Intake for Cleaning {
    const NAME: &'static str = "cleaning";
    type Public = Occupied;
    type Event = ToClean;

    fn translate(
        event: &ForeignEvent<Occupied>,
    ) -> Result<Vec<ToClean>, Box<dyn Error + Send + Sync>> {
        match event.event.seat.as_str() {
            seat if seat.starts_with('x') => Err("there is no row x".into()),
            seat => Ok(vec![ToClean { place: seat.to_owned() }]),
        }
    }
}

/// A theatre with these seats taken, and the cleaners who listen to it.
async fn cleaners(seats: &[&str], set: impl FnOnce(Server) -> Server) -> (App, TheatreServer) {
    let theatre = with_views(App::over(Memory::new())).feed::<Seats>().start().await.unwrap();
    let theatre = TheatreServer::of(theatre, |server| server).await;
    for seat in seats {
        theatre.take(seat, "ada").await;
    }
    let (theatre, _) = theatre.end();
    let mut options = IntakeOptions::default();
    options.wait = Duration::from_millis(100);
    let app = with_views(App::over(Memory::new())).intake_with::<Cleaning>(
        theatre.feed("seats").unwrap(),
        IntakeStart::Beginning,
        options,
    );
    (theatre, TheatreServer::of(app.start().await.unwrap(), set).await)
}

/// Asks until so many events are parked.
async fn letters(served: &TheatreServer, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let answer = served.get("/intakes/letters?intake=cleaning").await.ok();
        if answer["count"] == count {
            return answer["letters"].as_array().unwrap().clone();
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks until the intake has this state.
async fn intake(served: &TheatreServer, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let answer = served.get("/intakes").await.ok();
        if answer["intakes"][0]["state"] == state {
            return answer["intakes"][0].clone();
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn intakes_and_parked_events_are_listed_and_answered() {
    let seats = ["a1", "x1", "x2", "x3", "a2"];
    let (theatre, served) = cleaners(&seats, Server::process_operations).await;
    let parked = letters(&served, 3).await;
    assert_eq!(parked[0]["subject"], "seat:x1");
    assert_eq!(parked[0]["intake"], "cleaning");
    assert_eq!(parked[0]["reason"], "there is no row x");
    assert_eq!(parked[0]["event"]["data"], json!({ "seat": "x1" }));
    let live = intake(&served, "live").await;
    assert_eq!((&live["name"], &live["stored_as"]), (&json!("cleaning"), &json!("cleaning")));
    assert_eq!((&live["position"], &live["lag_positions"]), (&json!(5), &json!(0)));
    assert_eq!((&live["waiting"], &live["trouble"]), (&json!(3), &Value::Null));
    assert_eq!(live["log"], theatre.identity().to_string());
    assert_eq!(live["types"], json!(["seat-occupied"]));
    assert!(live["age_seconds"].is_number(), "{live}");
    let cut = served.get("/intakes/letters?limit=1").await.ok();
    assert_eq!((cut["letters"].as_array().unwrap().len(), &cut["count"]), (1, &json!(3)));

    // A wrong answer changes nothing.
    let path = |letter: &Value| format!("/intakes/letters/{}", letter["parked_at"]);
    let first = path(&parked[0]);
    let post = |path: &str, body: Value| {
        let request = Request::post(path, body);
        let served = &served;
        async move { served.ask(&request).await }
    };
    let skip = json!({ "answer": "skip", "who": "ann", "why": "row x was sold twice" });
    post(&first, json!({ "answer": "skip", "why": "x" })).await.problem(400, "malformed");
    post(&first, json!({ "answer": "skip", "who": "ann", "why": " " }))
        .await
        .problem(400, "malformed");
    post(&first, json!({ "answer": "forget", "who": "ann", "why": "x" }))
        .await
        .problem(400, "malformed");
    post("/intakes/letters/1", skip.clone()).await.problem(404, "unknown");
    post("/intakes/letters/x", skip.clone()).await.problem(404, "unknown");
    served.get("/intakes/letters?intake=cleaners").await.problem(404, "unknown");
    served.get("/intakes/letters?process=cleaning").await.problem(400, "arguments");
    assert_eq!(letters(&served, 3).await, parked);

    // One is skipped, one gets another payload, and one is tried again in vain.
    assert_eq!(served.get(&first).await.ok()["letter"], parked[0]);
    let answered = post(&first, skip.clone()).await.ok();
    assert!(answered["answered_at"].as_u64() > parked[2]["parked_at"].as_u64());
    letters(&served, 2).await;
    post(&first, skip).await.problem(404, "unknown");
    let replace = json!({
        "answer": { "replace": { "seat": "b2" } }, "who": "ann", "why": "x2 is b2 now",
    });
    post(&path(&parked[1]), replace).await.ok();
    letters(&served, 1).await;
    let retry = json!({ "answer": "retry", "who": "ann", "why": "again" });
    post(&path(&parked[2]), retry).await.ok();
    assert_eq!(letters(&served, 1).await[0]["parked_at"], parked[2]["parked_at"]);
    let status = served.get("/status").await.ok();
    assert_eq!(status["intakes"][0]["name"], "cleaning");
    let cleaned = diptych::Filter::types(["seat-to-clean"]);
    let cleaned = served.app.store().read(&cleaned, diptych::store::Read::all()).await.unwrap();
    let places: Vec<_> = cleaned
        .iter()
        .flat_map(|event| event.tags().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(places, ["place:a1", "place:a2", "place:b2"]);
}

#[tokio::test]
async fn feeds_are_listed_with_what_was_read() {
    let theatre = with_views(App::over(Memory::new())).feed::<Seats>().start().await.unwrap();
    let served = TheatreServer::of(theatre, Server::process_operations).await;
    served.take("a1", "ada").await;
    served.get("/feeds/seats").await.ok();
    served.get("/feeds/seats?after=9").await.problem(400, "above-head");
    let feeds = served.get("/feeds").await.ok();
    let expected = json!({ "feeds": [{
        "name": "seats", "types": ["seat-occupied.v2"], "reads": 2, "events": 1, "failures": 1,
        "read_upto": 1,
    }] });
    assert_eq!(feeds, expected);
}

/// A source that refuses its reader.
struct RevokedSource;

impl FeedSource for RevokedSource {
    fn name(&self) -> String {
        "seats".to_owned()
    }

    async fn read(&self, _: FeedRead) -> Result<FeedPage, FeedError> {
        Err(FeedError::Refused { reason: "401: the token was revoked".to_owned() })
    }
}

#[tokio::test]
async fn a_stalled_intake_shows_its_reason_and_one_that_does_not_run_its_place() {
    let store = Store::new(Memory::new());
    let app = || with_views(App::over_store(store.clone()));
    let running =
        app().intake::<Cleaning>(RevokedSource, IntakeStart::Beginning).start().await.unwrap();
    let served = TheatreServer::of(running, Server::process_operations).await;
    let stalled = intake(&served, "stalled").await;
    assert!(stalled["trouble"].as_str().unwrap().contains("the token was revoked"), "{stalled}");
    served.stop().await.stop().await.unwrap();
    let served = TheatreServer::of(app().start().await.unwrap(), Server::process_operations).await;
    let known = &served.get("/intakes").await.ok()["intakes"][0];
    assert_eq!((&known["name"], &known["source"]), (&json!("cleaning"), &json!("seats")));
    assert_eq!((&known["state"], &known["position"]), (&Value::Null, &json!(0)));
}

async fn guarded(visit: Visit) -> Result<Caller, Denial> {
    let name = visit.headers.get("x-user").and_then(|name| name.to_str().ok());
    match (visit.operation, name) {
        (Operation::AnswerLetter, Some("boss")) => Ok(Caller::named("boss")),
        (Operation::Processes, Some("boss" | "ann")) => Ok(Caller::named("ann")),
        _ => Err(Denial::forbidden("only the boss")),
    }
}

#[tokio::test]
async fn lists_and_answers_need_the_operations_of_processes() {
    let (_theatre, served) =
        cleaners(&["x1"], |server| server.process_operations().admit(guarded)).await;
    for path in ["/feeds", "/intakes", "/intakes/letters", "/intakes/letters/1"] {
        served.get(path).await.problem(403, "denied");
    }
    let start = Instant::now();
    let letter = loop {
        let asked = Request::get("/intakes/letters").header("x-user", "ann");
        let answer = served.ask(&asked).await.ok();
        if let Some(letter) = answer["letters"].get(0) {
            break letter.clone();
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let path = format!("/intakes/letters/{}", letter["parked_at"]);
    let body = json!({ "answer": "skip", "who": "ann", "why": "x" });
    let by = |user: &str| Request::post(&path, &body).header("x-user", user);
    served.ask(&by("ann")).await.problem(403, "denied");
    let answered = served.ask(&by("boss")).await.ok()["answered_at"].as_u64().unwrap();
    let at = diptych::store::Read::after((answered - 1).into()).limit(1);
    let stored = served.app.store().read(&diptych::Filter::everything(), at).await.unwrap();
    let stored: Value = serde_json::from_slice(stored.get(0).unwrap().payload()).unwrap();
    assert_eq!((&stored["who"], &stored["answer"]), (&json!("boss"), &json!("skip")));
}

#[tokio::test]
async fn a_server_without_routes_for_operators_shows_no_intakes() {
    let (_theatre, served) = cleaners(&[], |server| server).await;
    for path in ["/feeds", "/intakes", "/intakes/letters"] {
        let problem = served.get(path).await.problem(404, "unknown");
        let detail = problem["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("Server::process_operations"), "{detail}");
    }
    assert!(served.get("/openapi.json").await.ok()["paths"].get("/intakes").is_none());
    let (_theatre, served) = cleaners(&[], Server::process_operations).await;
    let document = served.get("/openapi.json").await.ok();
    let letter = &document["paths"]["/intakes/letters/{position}"];
    assert!(letter["get"].is_object() && letter["post"].is_object(), "{letter}");
    assert_eq!(letter["post"]["tags"], json!(["intakes"]));
}
