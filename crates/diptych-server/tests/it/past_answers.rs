//! Answers about the past: computed once for equal questions, kept, and bounded.

use std::num::NonZeroUsize;

use diptych::{App, Memory};
use diptych_server::{Caller, Denial, Server, ServerLimits, Visit};
use serde_json::json;

use crate::{
    client::{Request, Response},
    served::{TheatreServer, with_views},
    store::{Mood, MoodyStore},
};

/// A server with three seats taken, whose view has them all.
async fn with_seats(builder: diptych::AppBuilder, set: fn(Server) -> Server) -> TheatreServer {
    let served = TheatreServer::of(with_views(builder).start().await.unwrap(), set).await;
    for seat in ["a1", "a2", "b1"] {
        served.take(seat, "ada").await;
    }
    served.get("/queries/how-many?_consistency=strong").await.ok();
    served
}

fn same(server: Server) -> Server {
    server
}

fn limited(set: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    let mut limits = ServerLimits::default();
    set(&mut limits);
    limits
}

#[tokio::test]
async fn equal_questions_at_one_time_are_computed_once_and_kept() {
    let store = MoodyStore::new();
    let builder = App::over(store.store()).past_folds(NonZeroUsize::MIN).past_waiting(0);
    let served = with_seats(builder, same).await;
    store.set(Mood::PastHeld);
    let target = "/queries/seats?row=a&top=9&_as_of=1";
    let mut first = served.connect().await;
    first.write(Request::get(target).bytes()).await;
    store.held(1).await;
    // The order of the arguments makes no difference, and other questions find no thread.
    let mut second = served.connect().await;
    second.write(Request::get("/queries/seats?top=9&_as_of=1&row=a").bytes()).await;
    for other in ["row=a&top=8&_as_of=1", "row=b&top=9&_as_of=1", "row=a&top=9&_as_of=2"] {
        served.get(&format!("/queries/seats?{other}")).await.problem(503, "busy");
    }
    store.set(Mood::Well);
    let expected = json!([{ "seat": "a1", "by": null }]);
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.response(true).await.unwrap().ok(), expected);
    }
    // The kept answer needs no thread, and reads nothing. It does not depend on later events.
    served.take("a3", "cem").await;
    store.set(Mood::PastHeld);
    let kept = served.get(target).await;
    assert_eq!((kept.need("diptych-position"), kept.need("diptych-cost-events")), one_event());
    assert!(kept.header("diptych-token").is_some());
    assert_eq!(kept.ok(), expected);
    store.set(Mood::Well);
}

fn one_event() -> (String, String) {
    ("1".to_owned(), "1".to_owned())
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_computation_to_the_others() {
    let store = MoodyStore::new();
    let builder = App::over(store.store()).past_folds(NonZeroUsize::MIN).past_waiting(0);
    let served = with_seats(builder, same).await;
    store.set(Mood::PastHeld);
    let explained = Request::get("/queries/seats/explanation?_as_of=2");
    let mut first = served.connect().await;
    first.write(explained.bytes()).await;
    store.held(1).await;
    let mut second = served.connect().await;
    second.write(explained.bytes()).await;
    // Another explanation finds no thread: this one is still being made.
    let other = served.get("/queries/seats/explanation?_as_of=2&_limit=1").await;
    other.problem(503, "busy");
    drop(first);
    store.set(Mood::Well);
    let explanation = second.response(true).await.unwrap().ok();
    assert_eq!(explanation["upto"], 2);
    assert_eq!(explanation["events"].as_array().unwrap().len(), 2);
}

async fn cached(served: &TheatreServer, request: &Request) -> (Response, Option<String>, String) {
    let response = served.ask(request).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let tag = response.header("etag").map(str::to_owned);
    let control = response.need("cache-control");
    (response, tag, control)
}

#[tokio::test]
async fn a_client_may_keep_what_can_no_longer_change() {
    let served = with_seats(App::over(Memory::new()), same).await;
    let seats = |options: &str| Request::get(&format!("/queries/seats?{options}"));
    for (request, expected) in [
        (seats("_as_of=2"), "private, max-age=3600, immutable"),
        (seats("_as_of=3"), "private, max-age=3600, immutable"),
        (
            seats("_as_of=2&_occurred_before=9999-01-01T00:00:00Z"),
            "private, max-age=3600, immutable",
        ),
        (seats("_recorded_before=2000-01-01T00:00:00Z"), "private, max-age=3600, immutable"),
        // Later events can belong to the answer.
        (seats("_recorded_before=9999-01-01T00:00:00Z"), "private, no-cache"),
        (seats("_occurred_before=9999-01-01T00:00:00Z"), "private, no-cache"),
        // The address does not say it all.
        (seats(""), "no-store"),
        (seats("_as_of=2").header("diptych-occurred-before", "2000-01-01T00:00:00Z"), "no-store"),
        (seats("").header("diptych-as-of", 2), "no-store"),
        (Request::post("/queries/seats?_as_of=2", "{}"), "no-store"),
    ] {
        let (_, tag, control) = cached(&served, &request).await;
        assert_eq!(control, expected, "{request:?}");
        assert_eq!(tag.is_some(), control != "no-store", "{request:?}");
    }
    let token = served.get("/queries/seats").await.need("diptych-token");
    for option in ["_session", "_after"] {
        let (_, tag, control) =
            cached(&served, &seats(&format!("_as_of=2&{option}={token}"))).await;
        assert_eq!((tag, &*control), (None, "no-store"), "{option}");
    }
}

#[tokio::test]
async fn a_client_with_the_answer_gets_none() {
    let served = with_seats(App::over(Memory::new()), same).await;
    let target = "/queries/seats?_as_of=2";
    let (whole, tag, control) = cached(&served, &Request::get(target)).await;
    let tag = tag.unwrap();
    assert!(tag.starts_with("W/\""), "{tag}");
    let strong = tag.trim_start_matches("W/").to_owned();
    for known in [tag.clone(), strong, format!("\"x\", {tag}"), "*".to_owned()] {
        let none = served.ask(&Request::get(target).header("if-none-match", &known)).await;
        assert_eq!((none.status, none.body.len()), (304, 0), "{known}");
        assert_eq!((none.need("etag"), none.need("cache-control")), (tag.clone(), control.clone()));
        assert_eq!(none.need("diptych-position"), "2");
    }
    for other in ["\"x\"", "", "W/"] {
        let again = served.ask(&Request::get(target).header("if-none-match", other)).await;
        assert_eq!((again.status, &again.body), (200, &whole.body), "{other:?}");
    }
    let (_, other, _) = cached(&served, &Request::get("/queries/seats?_as_of=1")).await;
    assert_ne!(other, Some(tag));
}

/// The hook must be asked each time, because it may refuse the caller the next time.
#[tokio::test]
async fn with_a_hook_clients_ask_each_time() {
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        match visit.headers.contains_key("x-banned") {
            true => Err(Denial::forbidden("not you")),
            false => Ok(Caller::anonymous()),
        }
    }
    let served = with_seats(App::over(Memory::new()), |server| server.admit(admit)).await;
    let request = Request::get("/queries/seats?_as_of=2");
    let (_, tag, control) = cached(&served, &request).await;
    assert_eq!(control, "private, no-cache");
    let again = request.header("if-none-match", tag.unwrap());
    assert_eq!(served.ask(&again).await.status, 304);
    served.ask(&again.header("x-banned", "yes")).await.problem(403, "denied");
}

/// A token of a lost history is refused, also if the answer is there.
#[tokio::test]
async fn a_kept_answer_does_not_hide_a_wrong_token() {
    let served = with_seats(App::over(Memory::new()), same).await;
    let other = with_seats(App::over(Memory::new()), same).await;
    served.get("/queries/seats?_as_of=1").await.ok();
    let foreign = other.get("/queries/seats?_as_of=1").await.need("diptych-token");
    for option in ["_after", "_session"] {
        let target = format!("/queries/seats?_as_of=1&{option}={foreign}");
        served.get(&target).await.problem(409, "token");
    }
}

#[tokio::test]
async fn a_question_reads_a_limited_number_of_events() {
    let limits = |server: Server| server.limits(limited(|limits| limits.past_reads = 2));
    let served = with_seats(App::over(Memory::new()), limits).await;
    served.take("b2", "ada").await;
    served.get("/queries/how-many?_consistency=strong").await.ok();
    for (target, events) in
        [("/queries/seats?_as_of=1", 1), ("/queries/seats?_as_of=2", 2), ("/queries/seats", 4)]
    {
        let answer = served.get(target).await.ok();
        assert_eq!(answer.as_array().unwrap().len(), events, "{target}");
    }
    for target in ["/queries/seats?_as_of=3", "/queries/seats/explanation?_as_of=3"] {
        let problem = served.get(target).await.problem(400, "too-many-events");
        assert_eq!(problem["limit"], 2, "{target}");
        assert!(problem["detail"].as_str().unwrap().contains("an earlier point"), "{problem}");
    }
    // The view in memory has the answer, and an explanation stops at its own limit.
    served.get("/queries/seats?_as_of=4").await.ok();
    let explanation = served.get("/queries/seats/explanation?_as_of=3&_limit=1").await.ok();
    assert_eq!(explanation["is_whole"], false);
}
