//! `GET` and `POST /queries/{name}`: arguments, freshness, and the headers of answers.

use std::time::Duration;

use diptych::{App, Memory};
use diptych_server::{Server, ServerLimits};
use serde_json::{Value, json};

use crate::{
    client::{Events, Request},
    domain::{Guestbook, Plan, cure},
    served::{TheatreServer, with_views},
    store::{Mood, MoodyStore},
};

async fn with_seats() -> TheatreServer {
    let served = TheatreServer::new().await;
    for (seat, by) in [("a1", "ada"), ("a2", "bob"), ("b1", "cleo")] {
        served.take(seat, by).await;
    }
    served.get("/queries/how-many?_consistency=strong").await.ok();
    served
}

#[tokio::test]
async fn arguments_are_in_the_address_or_in_a_post() {
    let served = with_seats().await;
    for (arguments, body, answer) in [
        ("", "{}", json!(["a1", "a2", "b1"])),
        ("row=a", r#"{"row":"a"}"#, json!(["a1", "a2"])),
        ("row=a&top=1", r#"{"row":"a","top":1}"#, json!(["a1"])),
        ("row=&top=2", r#"{"row":null,"top":2}"#, json!(["a1", "a2"])),
        ("names=true&row=b", r#"{"names":true,"row":"b"}"#, json!(["b1"])),
        ("row=%61", r#"{"row":"\u0061"}"#, json!(["a1", "a2"])),
    ] {
        let places = |places: Value| -> Value {
            places.as_array().unwrap().iter().map(|place| place["seat"].clone()).collect()
        };
        let asked = served.get(&format!("/queries/seats?{arguments}")).await.ok();
        assert_eq!(places(asked), answer, "{arguments}");
        let posted = served.ask(&Request::post("/queries/seats", body)).await.ok();
        assert_eq!(places(posted), answer, "{body}");
    }
    let named = served.get("/queries/seats?names=true&row=b").await.ok();
    assert_eq!(named, json!([{ "seat": "b1", "by": "cleo" }]));
}

#[tokio::test]
async fn a_query_without_arguments_may_be_a_unit() {
    let served = with_seats().await;
    assert_eq!(served.get("/queries/how-many").await.ok(), 3);
    for body in ["{}", "null"] {
        assert_eq!(served.ask(&Request::post("/queries/how-many", body)).await.ok(), 3);
    }
    for body in ["", "[]", "\0", "7"] {
        served.ask(&Request::post("/queries/how-many", body)).await.problem(400, "malformed");
    }
    let unknown = Request::post("/queries/how-many", r#"{"row":"a"}"#);
    for request in [unknown, Request::get("/queries/how-many?row=a")] {
        served.ask(&request).await.problem(400, "arguments");
    }
}

#[tokio::test]
async fn wrong_arguments_are_refused() {
    let served = with_seats().await;
    for target in [
        "/queries/who-sits",
        "/queries/who-sits?saet=a1",
        "/queries/who-sits?seat=a1&seat=a2",
        "/queries/seats?top=x",
        "/queries/seats?top=-1",
        "/queries/seats?top=4294967296",
        "/queries/seats?top=1.5",
        "/queries/seats?names=perhaps",
        "/queries/seats?rwo=a",
    ] {
        served.get(target).await.problem(400, "arguments");
    }
    for (target, argument, says) in [
        ("/queries/who-sits", "seat", "is missing"),
        ("/queries/who-sits?seat=a1&seat=a2&seat=", "seat", "is there 3 times"),
        ("/queries/seats?row=a&top=x&names=true", "top", "cannot be read: invalid digit"),
        ("/queries/seats?top=1&top=1", "top", "is there 2 times"),
        ("/queries/seats?names=perhaps", "names", "cannot be read"),
        ("/queries/seats/explanation?top=-1", "top", "cannot be read"),
        ("/queries/last-remarks/live?last=x", "last", "cannot be read"),
    ] {
        let problem = served.get(target).await.problem(400, "arguments");
        assert_eq!(problem["argument"], argument, "{target}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("{argument:?} {says}")), "{detail}");
    }
    let unknown = served.get("/queries/seats?rwo=a").await.json();
    assert_eq!(unknown["argument"], "rwo");
    assert!(unknown["detail"].as_str().unwrap().contains("\"row\""), "{unknown}");
    for (body, kind) in [
        ("", "malformed"),
        ("[", "malformed"),
        ("[1,2,3,4]", "malformed"),
        (r#"{"top":"1"}"#, "malformed"),
        (r#"{"rwo":"a"}"#, "arguments"),
    ] {
        served.ask(&Request::post("/queries/seats", body)).await.problem(400, kind);
    }
    let both = served.ask(&Request::post("/queries/seats?row=a", "{}")).await;
    assert_eq!(both.problem(400, "arguments")["argument"], "row");
    let plain = Request::new("POST", "/queries/seats").body("{}");
    served.ask(&plain).await.problem(415, "content-type");
    served.get("/queries/steats").await.problem(404, "unknown");
    served.get("/queries/%FF").await.problem(400, "malformed");
}

#[tokio::test]
async fn hostile_arguments_are_only_text() {
    let served = TheatreServer::new().await;
    for (seat, encoded) in [
        ("a&b=c", "a%26b%3Dc"),
        ("ä ö", "%C3%A4+%C3%B6"),
        ("<script>", "%3Cscript%3E"),
        ("\u{0}", "%00"),
        ("_as_of", "_as_of"),
        ("100%", "100%"),
        ("../../etc/passwd", "..%2f..%2Fetc/passwd"),
        ("a;b", "a;b"),
    ] {
        served.take(seat, "x").await;
        let target = format!("/queries/who-sits?_consistency=strong&seat={encoded}");
        assert_eq!(served.get(&target).await.ok(), "x", "{seat}");
    }
    for encoded in ["%FF", "a%C3", "%ED%A0%80"] {
        let target = format!("/queries/who-sits?seat={encoded}");
        served.get(&target).await.problem(400, "malformed");
    }
}

#[tokio::test]
async fn an_answer_has_its_position_and_its_cost() {
    let served = with_seats().await;
    let response = served.get("/queries/how-many?_consistency=strong").await;
    assert_eq!(response.need("diptych-position"), "3");
    assert_eq!(response.need("diptych-cost-events"), "0");
    assert_eq!(response.need("cache-control"), "no-store");
    assert!(response.header("diptych-stale").is_none());
    assert!(response.header("diptych-session").is_none());
    let token: diptych::SessionToken = response.need("diptych-token").parse().unwrap();
    assert_eq!(token, served.app.token_at(served.app.head()).await.unwrap());
    let head = served.ask(&Request::new("HEAD", "/queries/how-many")).await;
    assert_eq!((head.status, head.need("diptych-position")), (200, "3".to_owned()));
    let by_header = Request::get("/queries/how-many").header("Diptych-As-Of", 2);
    let past = served.ask(&by_header).await;
    assert_eq!(
        (past.need("diptych-position"), past.need("diptych-cost-events")),
        ("2".into(), "2".into())
    );
    assert_eq!(past.ok(), 2);
}

/// A client held tokens when an older copy of the log was put back, which grew past them. It has
/// the same id and epoch, and answered as if it knew of what the client had written.
#[tokio::test]
async fn a_token_of_a_lost_history_is_a_problem_everywhere() {
    let before = MoodyStore::new();
    let copy = before.older_copy();
    let before = TheatreServer::over(before.store()).await;
    let receipt = before.take("a1", "ada").await.need("diptych-receipt");
    let seen = before.get("/queries/how-many?_consistency=strong").await.need("diptych-token");
    let served = TheatreServer::over(copy.store()).await;
    for target in ["/queries/how-many?_after=", "/queries/how-many?_session="] {
        let above = served.get(&format!("{target}{seen}")).await.problem(409, "token");
        assert!(above["detail"].as_str().unwrap().contains("the log ends at 0"), "{above}");
    }
    served.take("b1", "ben").await;
    served.take("b2", "ben").await;
    let gone = |problem: Value| {
        let detail = problem["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("is not in this log any more"), "{detail}");
    };
    for token in [&receipt, &seen] {
        gone(served.get(&format!("/queries/how-many?_after={token}")).await.problem(409, "token"));
    }
    let session = format!("/queries/how-many?_session={seen}");
    gone(served.get(&session).await.problem(409, "token"));
    let body = json!({ "seat": "a1", "by": "ada" });
    let after = Request::send("take-seat", &body).header("Diptych-After", &receipt);
    gone(served.ask(&after).await.problem(409, "token"));
    let live = Request::get("/queries/how-many/live").header("last-event-id", &seen);
    let mut events = Events::open(served.address, &live).await;
    let sent = events.next().await.unwrap();
    assert_eq!(sent.event, "problem");
    gone(sent.json());
    assert_eq!(served.head(), 2, "nothing was written");
}

#[tokio::test]
async fn a_view_that_is_not_far_enough_names_both_positions() {
    let served = with_seats().await;
    let view = served.app.view::<Plan>().unwrap();
    view.pause().await.unwrap();
    let taken = served.take("b2", "dan").await;
    assert_eq!(served.get("/queries/how-many").await.ok(), 3, "eventual asks for nothing");
    let token = served.app.token_at(served.app.head()).await.unwrap();
    let receipt = taken.need("diptych-receipt");
    for need in [
        "_consistency=strong".to_owned(),
        format!("_after={receipt}"),
        format!("_after={token}"),
        format!("_session={token}"),
        "_at_most=0".to_owned(),
    ] {
        let target = format!("/queries/how-many?{need}");
        let response = served.get(&format!("{target}&_within=1")).await;
        let problem = response.problem(503, "not-yet");
        assert_eq!(response.need("retry-after"), "1");
        assert_eq!((&problem["need"], &problem["have"]), (&4.into(), &3.into()), "{need}");
        assert_eq!(problem["within_ms"], 1);
        for flag in ["_or_stale", "_or_stale=true"] {
            let stale = served.get(&format!("{target}&_within=1&{flag}")).await;
            assert_eq!(stale.need("diptych-stale"), "4");
            assert_eq!(stale.need("diptych-position"), "3");
            assert_eq!(stale.ok(), 3);
        }
        served.get(&format!("{target}&_within=1&_or_stale=false")).await.problem(503, "not-yet");
    }
    served.get("/queries/how-many?_at_most=600000").await.ok();
    let mut waiting = served.connect().await;
    waiting.write(Request::get(&format!("/queries/how-many?_after={receipt}")).bytes()).await;
    view.resume().await.unwrap();
    assert_eq!(waiting.response(true).await.unwrap().ok(), 4);
}

#[tokio::test]
async fn a_query_waits_at_most_the_limit_of_the_server() {
    let served = TheatreServer::within(|limits| limits.wait_time = Duration::from_millis(2)).await;
    served.app.view::<Plan>().unwrap().pause().await.unwrap();
    served.take("a1", "ada").await;
    for wait in ["", "&_within=18446744073709551615"] {
        let target = format!("/queries/how-many?_consistency=strong{wait}");
        assert_eq!(served.get(&target).await.problem(503, "not-yet")["within_ms"], 2, "{wait:?}");
    }
}

#[tokio::test]
async fn a_session_reads_its_writes_and_never_goes_back() {
    let served = with_seats().await;
    let begun = served.get("/queries/how-many").await.need("diptych-token");
    let in_session = |request: Request, session: &str| request.header("diptych-session", session);
    let ask = |session: &str| in_session(Request::get("/queries/how-many?_within=1"), session);
    let view = served.app.view::<Plan>().unwrap();
    view.pause().await.unwrap();
    let take = Request::send("take-seat", json!({ "seat": "b2", "by": "dan" }));
    let written = served.ask(&in_session(take, &begun)).await.need("diptych-session");
    assert_eq!(served.ask(&ask(&begun)).await.ok(), 3, "who was told nothing needs nothing");
    served.ask(&ask(&written)).await.problem(503, "not-yet");
    view.step().await.unwrap();
    let response = served.ask(&ask(&written)).await;
    let seen = response.need("diptych-session");
    assert_eq!(response.ok(), 4);
    // Another client writes, and only this session sees it.
    served.take("b3", "eve").await;
    view.step().await.unwrap();
    let response = served.ask(&ask(&seen)).await;
    let further = response.need("diptych-session");
    assert_eq!(response.ok(), 5);
    view.rebuild().await.unwrap();
    let again = served.ask(&ask(&further)).await;
    assert!(again.status == 503 || again.header("diptych-position") == Some("5"), "{again:?}");
}

#[tokio::test]
async fn malformed_tokens_differ_from_tokens_of_another_log() {
    let (served, other) = (with_seats().await, with_seats().await);
    let foreign = other.get("/queries/how-many").await.need("diptych-token");
    for parameter in ["_session", "_after"] {
        let target = format!("/queries/how-many?{parameter}");
        let problem = served.get(&format!("{target}={foreign}")).await.problem(409, "token");
        assert_eq!(problem["parameter"], parameter, "{problem}");
        for text in ["", "x", "Z%C3%A4", &"A".repeat(5_000)] {
            served.get(&format!("{target}={text}")).await.problem(400, "parameter");
        }
    }
    served.get(&format!("/queries/how-many?_as_of=1&_after={foreign}")).await.problem(409, "token");
}

#[tokio::test]
async fn malformed_parameters_are_refused() {
    let served = with_seats().await;
    for parameter in [
        "_consistency=linear",
        "_within=soon",
        "_within=-1",
        "_within=18446744073709551616",
        "_at_most=1.5",
        "_at_most=",
        "_or_stale=perhaps",
        "_as_of=-1",
        "_as_of=latest",
        "_as_of=18446744073709551616",
        "_recorded_before=2013",
        "_recorded_before=2013-02-30T00:00:00Z",
        "_occurred_before=now",
        "_occurred_before=%00",
        "_limit=-1",
        "_asof=1",
        "_=1",
        "_as_of=1&_as_of=1",
    ] {
        let response = served.get(&format!("/queries/how-many?{parameter}")).await;
        let problem = response.problem(400, "parameter");
        let name = parameter.split_once('=').unwrap().0;
        assert_eq!(problem["parameter"], name, "{problem}");
    }
    let header = Request::get("/queries/how-many").header("diptych-at-most", "soon");
    assert_eq!(served.ask(&header).await.problem(400, "header")["header"], "diptych-at-most");
    let twice = Request::get("/queries/how-many").header("diptych-as-of", 1);
    served.ask(&twice.header("diptych-as-of", 1)).await.problem(400, "header");
}

#[tokio::test]
async fn a_query_changes_nothing() {
    let served = with_seats().await;
    for target in [
        "/queries/seats",
        "/queries/how-many?_as_of=1",
        "/queries/who-sits/explanation?seat=a1",
        "/status",
        "/catalogue",
        "/queries/riddle",
    ] {
        served.get(target).await;
        served.ask(&Request::new("HEAD", target)).await;
    }
    served.ask(&Request::post("/queries/seats", "{}")).await.ok();
    assert_eq!((served.head(), served.app.stats().accepted), (3, 3));
}

#[tokio::test]
async fn mistakes_of_the_program_are_problems_and_the_next_request_works() {
    let served = with_seats().await;
    let mut connection = served.connect().await;
    for query in ["riddle", "curse", "oddity"] {
        let target = format!("/queries/{query}");
        connection.ask(&Request::get(&target)).await.problem(500, "mistake");
    }
    connection.ask(&Request::get("/queries/how-many")).await.ok();
}

#[tokio::test]
async fn an_explanation_lists_the_events_of_the_answer() {
    let served = with_seats().await;
    let leave = Request::send("leave-seat", json!({ "seat": "a1" }));
    served.ask(&leave.header("diptych-occurred-at", "2013-01-01T10:00:00Z")).await.ok();
    let response = served.get("/queries/who-sits/explanation?seat=a1").await;
    assert_eq!(response.need("diptych-position"), "4");
    let explained = response.ok();
    assert_eq!((&explained["upto"], &explained["is_whole"]), (&4.into(), &true.into()));
    let events = explained["events"].as_array().unwrap();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0]["position"], 1);
    assert_eq!(events[0]["type"], "seat-taken");
    assert_eq!(events[0]["version"], 1);
    assert_eq!(events[0]["tags"], json!(["seat:a1"]));
    assert_eq!(events[0]["data"]["by"], "ada");
    assert_eq!(events[1]["occurred_at"], "2013-01-01T10:00:00Z");
    assert_eq!(events[1]["actor"], Value::Null);
    let target = "/queries/seats/explanation?_limit=2";
    let cut = served.get(target).await.ok();
    assert_eq!((&cut["upto"], &cut["is_whole"]), (&2.into(), &false.into()));
    assert_eq!(cut["events"].as_array().unwrap().len(), 2);
    let then = served.get("/queries/who-sits/explanation?seat=a1&_as_of=1").await.ok();
    assert_eq!((&then["upto"], then["events"].as_array().unwrap().len()), (&1.into(), 1));
    let above = served.get("/queries/seats/explanation?_as_of=9").await;
    assert_eq!(above.problem(400, "above-head")["parameter"], "_as_of");
    let header = Request::get("/queries/seats").header("diptych-as-of", 9);
    let above = served.ask(&header).await.problem(400, "above-head");
    assert_eq!(above["header"], "diptych-as-of");
    served.get("/queries/seats/explanation?rwo=1").await.problem(400, "arguments");
}

#[tokio::test]
async fn an_explanation_has_a_limit_of_events() {
    let served = TheatreServer::within(|limits| limits.explained_events = 1).await;
    served.take("a1", "ada").await;
    served.take("a2", "ada").await;
    let cut = served.get("/queries/seats/explanation?_limit=1000").await.ok();
    assert_eq!((cut["events"].as_array().unwrap().len(), &cut["is_whole"]), (1, &false.into()));
}

#[tokio::test]
async fn a_stopped_view_names_its_position_and_answers_stale() {
    let served = TheatreServer::new().await;
    served.remark("one").await;
    served.done("poison", json!({ "poison": "queries" })).await;
    served.remark("two").await;
    let strong = served.get("/queries/last-remarks?_consistency=strong").await;
    let problem = strong.problem(503, "view-stopped");
    assert_eq!(problem["at"], 2, "{problem}");
    // The reason quotes the event: callers who may see the status are told it.
    assert!(!problem.to_string().contains("poison"), "{problem}");
    let status = served.get("/status").await.ok().to_string();
    assert!(status.contains("poison: queries"), "{status}");
    let stale = served.get("/queries/last-remarks?_consistency=strong&_or_stale").await;
    assert_eq!(
        (stale.need("diptych-stale"), stale.need("diptych-position")),
        ("3".into(), "1".into())
    );
    assert_eq!(stale.ok(), json!(["one"]));
    // Also the answer that nothing was said about is not taken for one of a quiet day.
    let eventual = served.get("/queries/last-remarks").await;
    assert_eq!(eventual.need("diptych-view-state"), "stopped");
    let since: diptych::Timestamp = eventual.need("diptych-view-since").parse().unwrap();
    assert!(since <= diptych::Timestamp::now());
    assert_eq!(eventual.ok(), json!(["one"]));
    served.take("a1", "ada").await;
    assert_eq!(served.get("/queries/how-many?_consistency=strong").await.ok(), 1);
    let ready = served.get("/ready").await.problem(503, "not-ready");
    assert!(ready["views"][0].as_str().unwrap().ends_with("Guestbook: stopped"), "{ready}");
    assert!(!ready.to_string().contains("poison"), "no hook is asked about readiness: {ready}");
    served.get("/health").await.ok();
    cure("queries");
    served.app.view::<Guestbook>().unwrap().resume().await.unwrap();
    let well = served.get("/queries/last-remarks?_consistency=strong").await.ok();
    assert_eq!(well, json!(["one", "two"]));
    let well = served.get("/queries/last-remarks").await;
    assert_eq!(
        (well.header("diptych-view-state"), well.header("diptych-view-since")),
        (None, None)
    );
}

#[tokio::test]
async fn an_answer_that_exceeds_its_time_is_slow() {
    let store = MoodyStore::new();
    let served = TheatreServer::over(store.store()).await;
    let soon = Duration::from_millis(20);
    let limits = |server: Server| {
        let mut limits = ServerLimits::default();
        limits.answer_time = soon;
        server.limits(limits)
    };
    let hurried = TheatreServer::of(served.app.clone(), limits).await;
    served.take("a1", "ada").await;
    served.take("a2", "ada").await;
    // A view that is at position 1 would answer from memory.
    served.get("/queries/how-many?_consistency=strong").await.ok();
    store.set(Mood::Held);
    let target = "/queries/who-sits?seat=a1&_as_of=1";
    hurried.get(target).await.problem(503, "slow");
    store.set(Mood::Well);
    assert_eq!(served.get(target).await.ok(), "ada");
}

#[tokio::test]
async fn a_stopped_app_says_so() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let served = TheatreServer::of(app.clone(), |server| server).await;
    served.take("a1", "ada").await;
    assert_eq!(served.get("/queries/how-many?_consistency=strong").await.ok(), 1);
    app.stop().await.unwrap();
    let take = Request::send("take-seat", json!({ "seat": "a2", "by": "bob" }));
    served.ask(&take).await.problem(503, "stopping");
    served.get("/health").await.ok();
    for fresh in ["_consistency=strong", "_at_most=3600000"] {
        served.get(&format!("/queries/how-many?{fresh}")).await.problem(503, "stopping");
    }
    let answer = served.get("/queries/how-many").await;
    assert_eq!((answer.need("diptych-view-state"), answer.ok()), ("closed".into(), json!(1)));
    served.get("/ready").await.problem(503, "stopping");
}

/// Nothing was kept in memory that could have said so.
#[tokio::test]
async fn a_stopped_app_without_views_is_not_ready() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let served = TheatreServer::of(app.clone(), |server| server).await;
    served.get("/ready").await.ok();
    app.stop().await.unwrap();
    served.get("/ready").await.problem(503, "stopping");
}
