//! Server-sent events: answers as they change, and the status.

use std::time::Duration;

use serde_json::json;

use crate::{
    client::{Events, Request},
    domain::{Guestbook, Plan, cure},
    served::TheatreServer,
};

const LIVE: &str = "/queries/how-many/live";

async fn quick() -> TheatreServer {
    TheatreServer::within(|limits| limits.live_interval = Duration::ZERO).await
}

#[tokio::test]
async fn a_stream_sends_the_answer_and_then_each_changed_one() {
    let served = quick().await;
    let mut events = served.events(LIVE).await;
    assert_eq!(events.head.need("cache-control"), "no-cache");
    assert_eq!(Events::answer(&events.next().await.unwrap()), (0, json!(0)));
    served.take("a1", "ada").await;
    assert_eq!(Events::answer(&events.next().await.unwrap()), (1, json!(1)));
    // An event that leaves the answer equal is not sent.
    served.remark("nothing to do with seats").await;
    served.take("a2", "ada").await;
    assert_eq!(Events::answer(&events.next().await.unwrap()), (3, json!(2)));
}

/// A view that is paused tells no trouble, so its stream looked like that of a quiet day.
#[tokio::test]
async fn an_answer_of_a_view_that_stands_still_has_its_state() {
    let served = quick().await;
    let mut events = served.events(LIVE).await;
    let first: serde_json::Value =
        serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    assert_eq!(first, json!({ "position": 0, "answer": 0 }));
    served.app.view::<Plan>().unwrap().pause().await.unwrap();
    let mut events = served.events(LIVE).await;
    let first: serde_json::Value =
        serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    assert_eq!(first, json!({ "position": 0, "answer": 0, "view_state": "paused" }));
}

#[tokio::test]
async fn text_of_several_lines_is_one_event() {
    let served = quick().await;
    let text = "one\r\ntwo\nevent: answer\n\ndata: x";
    served.remark(text).await;
    served.get("/queries/last-remarks?_consistency=strong").await.ok();
    let mut events = served.events("/queries/last-remarks/live?last=1").await;
    assert_eq!(Events::answer(&events.next().await.unwrap()), (1, json!([text])));
}

#[tokio::test]
async fn a_stream_resumes_at_its_last_event() {
    let served = quick().await;
    served.take("a1", "ada").await;
    let mut events = served.events(LIVE).await;
    let mut last = events.next().await.unwrap();
    while Events::answer(&last).0 < 1 {
        last = events.next().await.unwrap();
    }
    drop(events);
    let view = served.app.view::<Plan>().unwrap();
    view.rebuild().await.unwrap();
    let resumed = Request::get(LIVE).header("last-event-id", &last.id);
    let mut events = Events::open(served.address, &resumed).await;
    let (position, answer) = Events::answer(&events.next().await.unwrap());
    assert!(position >= 1, "never an older answer");
    assert_eq!(answer, 1);
    let token = served.take("a2", "ada").await.need("diptych-position");
    assert_eq!(token, "2");
    assert_eq!(Events::answer(&events.next().await.unwrap()), (2, json!(2)));
}

/// Until the view reaches the position, the stream sends no older answer.
#[tokio::test]
async fn a_resumed_stream_waits_for_the_seen_position() {
    let served = quick().await;
    let view = served.app.view::<Plan>().unwrap();
    view.pause().await.unwrap();
    served.take("a1", "ada").await;
    let seen = served.app.token_at(served.app.head()).await.unwrap();
    let by_session = format!("{LIVE}?_session={seen}");
    let resumed = Request::get(LIVE).header("last-event-id", &seen);
    let mut by_id = Events::open(served.address, &resumed).await;
    let mut by_session = served.events(&by_session).await;
    // One that was nowhere has its answer, so those before it could have had it, too.
    let first = served.events(LIVE).await.next().await.unwrap();
    assert_eq!(Events::answer(&first), (0, json!(0)));
    view.step().await.unwrap();
    for events in [&mut by_id, &mut by_session] {
        assert_eq!(Events::answer(&events.next().await.unwrap()), (1, json!(1)));
    }
}

#[tokio::test]
async fn an_id_of_another_log_is_a_problem_in_the_stream() {
    let (served, other) = (quick().await, quick().await);
    other.take("a1", "ada").await;
    let foreign = other.events(LIVE).await.next().await.unwrap().id;
    let mut events =
        Events::open(served.address, &Request::get(LIVE).header("last-event-id", &foreign)).await;
    let sent = events.next().await.unwrap();
    assert_eq!((sent.event.as_str(), sent.id.as_str()), ("problem", ""));
    assert_eq!(sent.json()["type"], "urn:diptych:token");
    for id in ["x", "kö", ""] {
        let request = Request::get(LIVE).header("last-event-id", id);
        served.ask(&request).await.problem(400, "header");
    }
}

#[tokio::test]
async fn a_query_without_live_answers_says_so() {
    let served = quick().await;
    served.get("/queries/seats/live").await.problem(404, "unknown");
    served.get("/queries/nothing/live").await.problem(404, "unknown");
    served.get("/queries/last-remarks/live?last=x").await.problem(400, "arguments");
    for parameter in ["_as_of=1", "_consistency=strong", "_within=1", "_at_most=1", "_or_stale"] {
        served.get(&format!("{LIVE}?{parameter}")).await.problem(400, "parameter");
    }
}

#[tokio::test]
async fn streams_above_the_limit_are_busy_until_one_ends() {
    let served = TheatreServer::within(|limits| limits.streams = 2).await;
    let mut first = served.events(LIVE).await;
    first.next().await.unwrap();
    let _second = served.events("/status/live").await;
    for target in [LIVE, "/status/live"] {
        let response = served.get(target).await;
        response.problem(503, "busy");
        response.need("retry-after");
    }
    // Streams take no place of other requests, nor those of streams.
    served.get("/queries/how-many").await.ok();
    drop(first);
    loop {
        // Its end is known when the server next looks at the connection.
        let mut connection = served.connect().await;
        connection.write(Request::get(LIVE).bytes()).await;
        if connection.head().await.unwrap().status == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn a_stopped_view_is_one_problem_and_the_stream_continues() {
    let served = quick().await;
    let mut events = served.events("/queries/last-remarks/live").await;
    assert_eq!(Events::answer(&events.next().await.unwrap()), (0, json!([])));
    served.done("poison", json!({ "poison": "live" })).await;
    let trouble = events.next().await.unwrap();
    assert_eq!(trouble.event, "problem");
    assert_eq!(trouble.json()["type"], "urn:diptych:view-stopped");
    served.remark("after").await;
    cure("live");
    served.app.view::<Guestbook>().unwrap().resume().await.unwrap();
    assert_eq!(Events::answer(&events.next().await.unwrap()), (2, json!(["after"])));
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let served = quick().await;
    let mut answers = served.events(LIVE).await;
    let mut status = served.events("/status/live").await;
    answers.next().await.unwrap();
    let first = status.next().await.unwrap();
    assert_eq!((first.event.as_str(), &first.json()["log"]["head"]), ("status", &json!(0)));
    served.stop().await;
    while answers.next().await.is_some() || status.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_the_latest_answer() {
    let served = TheatreServer::new().await;
    let mut events = served.events("/queries/last-remarks/live?last=1").await;
    events.next().await.unwrap();
    let large = "x".repeat(100_000);
    for number in 0..100 {
        served.remark(&format!("{number} {large}")).await;
    }
    let last = json!([format!("99 {large}")]);
    let mut answers = 0;
    loop {
        answers += 1;
        if Events::answer(&events.next().await.unwrap()).1 == last {
            break;
        }
    }
    assert!(answers < 100, "{answers} answers: none was left out");
    assert_eq!(served.head(), 100);
}

#[tokio::test]
async fn a_stream_is_never_compressed() {
    let served = quick().await;
    served.remark(&"x".repeat(5_000)).await;
    let request = Request::get("/queries/last-remarks/live").header("accept-encoding", "gzip");
    let mut events = Events::open(served.address, &request).await;
    assert_eq!(events.head.header("content-encoding"), None);
    events.next().await.unwrap();
}

/// A caller could watch for ever after its right had ended.
#[tokio::test]
async fn a_stream_ends_after_its_time_so_that_the_hook_is_asked_again() {
    let soon = Duration::from_millis(20);
    let served = TheatreServer::within(|limits| limits.stream_time = soon).await;
    for target in [LIVE, "/live?query=how-many&status", "/status/live"] {
        let mut events = served.events(target).await;
        while events.next().await.is_some() {}
    }
    let endless = TheatreServer::within(|limits| limits.stream_time = Duration::MAX).await;
    endless.events(LIVE).await.next().await.unwrap();
}
