//! Feeds over HTTP: pages, long polling, streams, and who may read them.

use std::time::{Duration, Instant};

use diptych::{
    App, Memory, Recorded,
    collaboration::{Feed, FeedName, PublicEvent},
};
use diptych_server::{Caller, Denial, Operation, Visit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    client::{Events, Request, Response},
    domain::Seat,
    served::{TheatreServer, with_views},
};

/// The theatre tells others that a seat was taken, and not by whom.
#[derive(PublicEvent, Serialize, Deserialize)]
#[event("seat-occupied", version = 2)]
pub(crate) struct Occupied {
    #[tag]
    pub(crate) seat: String,
}

pub(crate) struct Seats;

impl Feed for Seats {
    const NAME: &'static str = "seats";
    type Private = Seat;
    type Public = Occupied;

    fn publish(event: &Recorded<Seat>) -> impl IntoIterator<Item = Occupied> {
        match &event.event {
            Seat::Taken { seat, .. } => Some(Occupied { seat: seat.clone() }),
            Seat::Left { .. } => None,
        }
    }
}

async fn served() -> TheatreServer {
    let app = with_views(App::over(Memory::new())).feed::<Seats>().start().await.unwrap();
    TheatreServer::of(app, |server| server).await
}

async fn take(served: &TheatreServer, seat: &str) {
    served.done("take-seat", json!({ "seat": seat, "by": "ada" })).await;
}

fn seats(page: &Value) -> Vec<String> {
    let events = page.as_array().unwrap();
    events.iter().map(|event| event["data"]["seat"].as_str().unwrap().to_owned()).collect()
}

fn page(response: Response) -> (Value, u64) {
    assert_eq!(response.need("content-type"), "application/cloudevents-batch+json");
    let upto = response.need("diptych-upto").parse().unwrap();
    (response.ok(), upto)
}

#[tokio::test]
async fn a_feed_is_read_page_by_page_as_cloud_events() {
    let served = served().await;
    for seat in ["a1", "a2", "a3"] {
        take(&served, seat).await;
    }
    served.done("leave-seat", json!({ "seat": "a2" })).await;
    let response = served.get("/feeds/seats?limit=2").await;
    let name = FeedName::parse(&response.need("diptych-feed")).unwrap();
    assert_eq!((name.log, name.feed.as_str()), (served.app.identity(), "seats"));
    assert_eq!(response.need("diptych-head"), "4");
    let (events, upto) = page(response);
    assert_eq!((seats(&events), upto), (vec!["a1".to_owned(), "a2".to_owned()], 2));
    let first = &events[0];
    assert_eq!(first["specversion"], "1.0");
    assert_eq!(first["type"], "seat-occupied.v2");
    assert_eq!(first["subject"], "seat:a1");
    assert_eq!(first["sequence"], "00000000000000000001");
    assert_eq!(first["data"], json!({ "seat": "a1" }));
    assert!(first["time"].is_string() && first["correlationid"].is_string());

    let last = events[1]["id"].as_str().unwrap();
    let (rest, upto) = page(served.get(&format!("/feeds/seats?lastEventId={last}")).await);
    assert_eq!((seats(&rest), upto), (vec!["a3".to_owned()], 4));
    let (none, upto) = page(served.get("/feeds/seats?after=4").await);
    assert_eq!((none, upto), (json!([]), 4));
    assert_eq!(page(served.get("/feeds/seats?after=end").await).1, 4);
}

#[tokio::test]
async fn a_request_waits_for_an_event_as_long_as_it_says() {
    let served = served().await;
    take(&served, "a1").await;
    let asked = Instant::now();
    let (none, _) = page(served.get("/feeds/seats?after=1&timeout=30").await);
    assert_eq!(none, json!([]));
    assert!(asked.elapsed() >= Duration::from_millis(30));
    let mut waiting = served.connect().await;
    waiting.write(Request::get("/feeds/seats?after=1&timeout=60000").bytes()).await;
    take(&served, "a2").await;
    let (events, _) = page(waiting.response(true).await.unwrap());
    assert_eq!(seats(&events), ["a2"]);
}

#[tokio::test]
async fn a_stream_has_existing_and_new_events_and_goes_on_after_the_last() {
    let served = served().await;
    take(&served, "a1").await;
    take(&served, "a2").await;
    let stream = Request::get("/feeds/seats").header("accept", "text/event-stream");
    let mut events = Events::open(served.address, &stream).await;
    let first = events.next().await.unwrap();
    assert_eq!(first.json()["data"]["seat"], "a1");
    assert_eq!(first.id, first.json()["id"].as_str().unwrap());
    assert_eq!(events.next().await.unwrap().json()["data"]["seat"], "a2");
    take(&served, "a3").await;
    assert_eq!(events.next().await.unwrap().json()["data"]["seat"], "a3");

    let mut again = Events::open(served.address, &stream.header("last-event-id", &first.id)).await;
    assert_eq!(again.next().await.unwrap().json()["data"]["seat"], "a2");
}

#[tokio::test]
async fn wrong_questions_have_their_problems() {
    let served = served().await;
    take(&served, "a1").await;
    served.get("/feeds/orders").await.problem(404, "unknown");
    let above = served.get("/feeds/seats?after=2").await.problem(400, "above-head");
    assert_eq!((above["after"].as_u64(), above["head"].as_u64()), (Some(2), Some(1)));
    for wrong in ["after=x", "timeout=-1", "limit=x", "lastEventId=7", "from=1"] {
        served.get(&format!("/feeds/seats?{wrong}")).await.problem(400, "parameter");
    }
    let request = Request::get("/feeds/seats").header("last-event-id", "x");
    served.ask(&request).await.problem(400, "header");
}

async fn partners_only(visit: Visit) -> Result<Caller, Denial> {
    match visit.operation {
        Operation::Feed(feed) if visit.headers.get("authorization").is_none() => {
            Err(Denial::unknown(format!("the feed {feed} needs a token"), "Bearer"))
        }
        _ => Ok(Caller::anonymous()),
    }
}

#[tokio::test]
async fn the_hook_decides_who_reads_a_feed() {
    let app = with_views(App::over(Memory::new())).feed::<Seats>().start().await.unwrap();
    let served = TheatreServer::of(app, |server| server.admit(partners_only)).await;
    let refused = served.get("/feeds/seats").await.problem(401, "denied");
    assert!(refused["detail"].as_str().unwrap().contains("the feed seats needs a token"));
    let partner = Request::get("/feeds/seats").header("authorization", "Bearer x");
    page(served.ask(&partner).await);
}

#[tokio::test]
async fn the_documents_list_the_feeds() {
    let served = served().await;
    let catalogue = served.get("/catalogue").await.ok();
    let events = json!([{ "type": "seat-occupied", "version": 2 }]);
    let expected = json!([{ "name": "seats", "path": "/feeds/seats", "events": events }]);
    assert_eq!(catalogue["feeds"], expected);
    let openapi = served.get("/openapi.json").await.ok();
    assert_eq!(openapi["paths"]["/feeds/seats"]["get"]["operationId"], "seats-feed");
}
