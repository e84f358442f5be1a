//! `GET /live`: one stream for a page with many queries, and watches that clients share.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use diptych::{App, Memory, Query, Session};
use diptych_server::{Caller, Denial, Operation, Server, ServerLimits, Visit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::{
    client::{Events, Request},
    domain::{Guestbook, Plan, cure},
    served::{TheatreServer, with_views},
};

const PAGE: &str = "/live?query=how-many&query=last-remarks%3Flast%3D1";

async fn serving(set: impl FnOnce(Server) -> Server) -> TheatreServer {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let mut limits = ServerLimits::default();
    limits.live_interval = Duration::ZERO;
    TheatreServer::of(app, |server| set(server.limits(limits))).await
}

async fn quick() -> TheatreServer {
    serving(|server| server).await
}

/// The next answers of the stream by their queries, until each of these queries has this answer.
async fn until(events: &mut Events, expected: &[(&str, Value)]) -> String {
    let mut last = std::collections::BTreeMap::new();
    loop {
        let event = events.next().await.unwrap();
        assert_eq!(event.event, "answer", "{event:?}");
        let data = event.json();
        last.insert(data["query"].as_str().unwrap().to_owned(), data["answer"].clone());
        if expected.iter().all(|(query, answer)| last.get(*query) == Some(answer)) {
            return event.id;
        }
    }
}

#[tokio::test]
async fn one_stream_sends_the_answers_of_several_queries() {
    let served = quick().await;
    let mut events = served.events(PAGE).await;
    assert_eq!(events.head.need("x-accel-buffering"), "no");
    let (many, remarks) = ("how-many", "last-remarks?last=1");
    until(&mut events, &[(many, json!(0)), (remarks, json!([]))]).await;
    served.take("a1", "ada").await;
    served.remark("fine").await;
    until(&mut events, &[(many, json!(1)), (remarks, json!(["fine"]))]).await;
    // The stream takes the place of one.
    let served = TheatreServer::within(|limits| limits.streams = 1).await;
    let _page = served.events(PAGE).await;
    served.get(PAGE).await.problem(503, "busy");
}

#[tokio::test]
async fn the_status_can_come_in_the_same_stream() {
    let served = quick().await;
    let mut events = served.events("/live?status&query=how-many").await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let event = events.next().await.unwrap();
        if event.event == "status" {
            assert_eq!(event.json()["log"]["head"], 0);
        }
        seen.insert(event.event);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["answer", "status"]);
    let mut only = served.events("/live?status=true&query=how-many&status=false").await;
    only.next().await.unwrap();
}

#[tokio::test]
async fn a_wrong_query_is_named_in_the_problem() {
    let limits = |server: Server| {
        let mut limits = ServerLimits::default();
        limits.stream_queries = 2;
        server.limits(limits)
    };
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let served = TheatreServer::of(app, limits).await;
    for (wrong, status, kind) in [
        ("nothing", 404, "unknown"),
        ("seats", 404, "unknown"),
        ("last-remarks%3Flast%3Dx", 400, "arguments"),
        ("how-many%3F_as_of%3D1", 400, "parameter"),
        ("how-many%3Fx%3D1", 400, "arguments"),
        ("how%20many", 400, "malformed"),
        ("..%2Fhow-many", 404, "unknown"),
    ] {
        let problem = served.get(&format!("/live?query=how-many&query={wrong}")).await;
        let problem = problem.problem(status, kind);
        let text = wrong.replace("%3F", "?").replace("%3D", "=").replace("%20", " ");
        assert_eq!(problem["query"], text.replace("%2F", "/"), "{problem}");
    }
    let three = served.get("/live?query=how-many&query=how-many&query=how-many").await;
    let detail = three.problem(400, "parameter")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("3 queries") && detail.contains("at most 2"), "{detail}");
    for target in ["/live", "/live?status=no", "/live?query=how-many&x=1", "/live?last=1"] {
        served.get(target).await.problem(400, "parameter");
    }
    served.ask(&Request::post("/live?query=how-many", "{}")).await.problem(405, "method");
}

/// A hook with a rule about tenants must not be got round by the stream of a page.
#[tokio::test]
async fn the_hook_sees_each_query_as_if_it_came_alone() {
    static VISITS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        let Visit { operation, path, arguments, .. } = &visit;
        VISITS.lock().unwrap().push(format!("{operation:?} {path} {arguments:?}"));
        let is_denied = arguments.contains(&("last".to_owned(), "9".to_owned()));
        match visit.operation {
            Operation::Query(_) if is_denied => Err(Denial::forbidden("not nine")),
            Operation::Status => Err(Denial::forbidden("no status")),
            _ => Ok(Caller::anonymous()),
        }
    }
    let served = serving(|server| server.admit(admit)).await;
    let mut events = served.events(PAGE).await;
    events.next().await.unwrap();
    assert_eq!(
        *VISITS.lock().unwrap(),
        [
            r#"Query("how-many") /queries/how-many/live []"#,
            r#"Watch("how-many") /queries/how-many/live []"#,
            r#"Query("last-remarks") /queries/last-remarks/live [("last", "1")]"#,
            r#"Watch("last-remarks") /queries/last-remarks/live [("last", "1")]"#,
        ]
    );
    let denied = served.get("/live?query=how-many&query=last-remarks%3Flast%3D9").await;
    assert_eq!(denied.problem(403, "denied")["query"], "last-remarks?last=9");
    served.get("/live?query=how-many&status").await.problem(403, "denied");
}

#[tokio::test]
async fn a_page_that_reconnects_goes_back_in_no_query() {
    let served = quick().await;
    let mut events = served.events(PAGE).await;
    served.take("a1", "ada").await;
    served.remark("fine").await;
    let (many, remarks) = ("how-many", "last-remarks?last=1");
    let id = until(&mut events, &[(many, json!(1)), (remarks, json!(["fine"]))]).await;
    drop(events);
    // The last event has the highest position that was sent, whichever query it came from.
    let session: Session = served.app.resume_session(&id.parse().unwrap()).await.unwrap();
    assert_eq!(session.seen().get(), 2);
    for view in [served.app.view::<Plan>().unwrap(), served.app.view::<Guestbook>().unwrap()] {
        view.rebuild().await.unwrap();
    }
    let resumed = Request::get(PAGE).header("last-event-id", &id);
    let by_session = served.events(&format!("{PAGE}&_session={id}")).await;
    let by_id = Events::open(served.address, &resumed).await;
    for mut events in [by_id, by_session] {
        for _ in 0..2 {
            let (position, answer) = Events::answer(&events.next().await.unwrap());
            assert_eq!(position, 2, "{answer}");
        }
    }
}

#[tokio::test]
async fn trouble_names_its_query_and_leaves_the_others_alone() {
    let served = quick().await;
    let mut events = served.events(PAGE).await;
    let (many, remarks) = ("how-many", "last-remarks?last=1");
    until(&mut events, &[(many, json!(0)), (remarks, json!([]))]).await;
    served.done("poison", json!({ "poison": "page" })).await;
    let trouble = events.next().await.unwrap();
    assert_eq!((&*trouble.event, &trouble.json()["query"]), ("problem", &json!(remarks)));
    served.take("a1", "ada").await;
    until(&mut events, &[(many, json!(1))]).await;
    // After the trouble the answer comes again, also if it is the one before.
    cure("page");
    served.app.view::<Guestbook>().unwrap().resume().await.unwrap();
    until(&mut events, &[(remarks, json!([]))]).await;

    let other = quick().await;
    other.take("a1", "ada").await;
    let foreign = other.events(PAGE).await.next().await.unwrap().id;
    let request = Request::get(PAGE).header("last-event-id", &foreign);
    let mut events = Events::open(served.address, &request).await;
    let mut named = Vec::new();
    for _ in 0..2 {
        let sent = events.next().await.unwrap();
        assert_eq!((&*sent.event, &sent.json()["type"]), ("problem", &json!("urn:diptych:token")));
        named.push(sent.json()["query"].as_str().unwrap().to_owned());
    }
    named.sort_unstable();
    assert_eq!(named, [many, remarks]);
}

/// The number of taken seats, which counts how often it is written as JSON.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
struct Tally(usize);

static WRITTEN: AtomicUsize = AtomicUsize::new(0);

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WRITTEN.fetch_add(1, Ordering::Relaxed);
        self.0.serialize(serializer)
    }
}

#[derive(Deserialize, JsonSchema)]
struct StreamCount {}

impl Query for StreamCount {
    type View = Plan;
    type Answer = Tally;

    fn answer(&self, plan: &Plan) -> Tally {
        Tally(plan.len())
    }
}

#[tokio::test]
async fn windows_on_equal_queries_share_each_answer() {
    const WINDOWS: usize = 8;
    let served = serving(|server| server.live_query::<StreamCount>("counted")).await;
    let mut windows = Vec::new();
    for window in 0..WINDOWS {
        // A page and a stream of one query share, too.
        let target = if window % 2 == 0 { "/live?query=counted" } else { "/queries/counted/live" };
        let mut events = served.events(target).await;
        assert_eq!(Events::answer(&events.next().await.unwrap()), (0, json!(0)));
        windows.push(events);
    }
    let before = WRITTEN.load(Ordering::Relaxed);
    served.take("a1", "ada").await;
    for events in &mut windows {
        assert_eq!(Events::answer(&events.next().await.unwrap()), (1, json!(1)));
    }
    assert_eq!(WRITTEN.load(Ordering::Relaxed), before + 1);
    // The watch goes on without the client that began it, and ends with the last one.
    windows.drain(..WINDOWS - 1).for_each(drop);
    served.take("a2", "ada").await;
    assert_eq!(Events::answer(&windows[0].next().await.unwrap()), (2, json!(2)));
    assert_eq!(WRITTEN.load(Ordering::Relaxed), before + 2);
    drop(windows);
    let mut again = served.events("/live?query=counted").await;
    assert_eq!(Events::answer(&again.next().await.unwrap()), (2, json!(2)));
}

/// A client that was ahead must not hold up the others.
#[tokio::test]
async fn a_client_ahead_of_the_view_waits_alone() {
    let served = quick().await;
    let view = served.app.view::<Plan>().unwrap();
    view.pause().await.unwrap();
    served.remark("nothing to do with seats").await;
    served.take("a1", "ada").await;
    let seen = served.app.token_at(served.app.head()).await.unwrap();
    let live = "/queries/how-many/live";
    let resumed = Request::get(live).header("last-event-id", seen);
    let mut ahead = Events::open(served.address, &resumed).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut events = served.events(live).await;
        let (position, answer) = Events::answer(&events.next().await.unwrap());
        assert_eq!((position, answer), (0, json!(0)));
        others.push(events);
    }
    view.resume().await.unwrap();
    assert_eq!(Events::answer(&ahead.next().await.unwrap()), (2, json!(1)));
    for events in &mut others {
        assert_eq!(Events::answer(&events.next().await.unwrap()), (2, json!(1)));
    }
}
