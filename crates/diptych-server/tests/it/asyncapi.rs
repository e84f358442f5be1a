//! The AsyncAPI document of the feeds.

use std::fs;

use diptych::{
    App, Memory, Recorded,
    catalogue::Catalogue,
    collaboration::{Feed, PublicEvent},
};
use diptych_server::{Caller, Credential, Denial, Operation, Server, Visit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    client::Request,
    domain::{Remarked, Seat},
    served::TheatreServer,
};

/// The place of a seat in the house.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Place {
    /// The row and the number in it.
    at: (char, u8),
    /// The level, if the house has several.
    #[serde(default)]
    level: Option<String>,
}

/// A change of the plan.
#[derive(PublicEvent, Serialize, Deserialize, JsonSchema)]
enum PlanChanged {
    /// A seat is taken now.
    #[event("seat-occupied", version = 2)]
    Occupied {
        #[tag]
        seat: String,
        place: Place,
    },
    /// A seat is free again.
    #[event("seat-freed")]
    Freed {
        #[tag]
        seat: String,
    },
}

struct Plans;

impl Feed for Plans {
    const NAME: &'static str = "plans";
    type Private = Seat;
    type Public = PlanChanged;

    fn publish(event: &Recorded<Seat>) -> impl IntoIterator<Item = PlanChanged> {
        let place = Place { at: ('a', 1), level: None };
        Some(match &event.event {
            Seat::Taken { seat, .. } => PlanChanged::Occupied { seat: seat.clone(), place },
            Seat::Left { seat } => PlanChanged::Freed { seat: seat.clone() },
        })
    }
}

/// A visitor praised the house.
#[derive(PublicEvent, Serialize, Deserialize, JsonSchema)]
#[event("praise")]
struct Praise {
    text: String,
}

struct Praises;

impl Feed for Praises {
    const NAME: &'static str = "praises";
    type Private = Remarked;
    type Public = Praise;

    fn publish(event: &Recorded<Remarked>) -> impl IntoIterator<Item = Praise> {
        Some(Praise { text: event.event.text.clone() })
    }
}

async fn served(set: impl FnOnce(Server) -> Server) -> TheatreServer {
    let catalogue = Catalogue::with_schemas().feed::<Praises>().feed::<Plans>();
    let app = App::over(Memory::new()).catalogue(catalogue).start().await.unwrap();
    let named = |server: Server| server.title("Theatre", "3").host("theatre.example");
    TheatreServer::of(app.clone(), |_| set(named(Server::new(app)))).await
}

async fn document(served: &TheatreServer, host: &str) -> Value {
    let request = Request::get("/asyncapi.json").header("host", host);
    served.ask(&request).await.ok()
}

/// Compare the two when this fails, and copy the printed one if the change is meant.
#[tokio::test]
async fn the_document_has_every_feed_and_event_in_the_same_order_each_time() {
    let served = served(|server| server).await;
    let document = document(&served, "theatre.example").await;
    let text = format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/asyncapi.json");
    let golden = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, golden, "{text}");
}

#[tokio::test]
async fn the_server_of_the_document_is_the_one_that_was_asked() {
    let served = served(|server| server).await;
    for (host, protocol) in [
        ("theatre.example", "https"),
        ("theatre.example:8443", "https"),
        ("localhost:80", "http"),
        ("127.0.0.1", "http"),
        ("[::1]:8080", "http"),
    ] {
        let document = document(&served, host).await;
        let expected = json!({ "own": { "host": host, "protocol": protocol } });
        assert_eq!(document["servers"], expected);
    }
    let request = Request::get("/asyncapi.json").header("host", "evil.example");
    served.ask(&request).await.problem(403, "host");
}

/// A payload of a feed that was declared without schemas can be anything.
#[tokio::test]
async fn a_feed_without_schemas_is_in_the_document_too() {
    let app = App::over(Memory::new()).feed::<Praises>().start().await.unwrap();
    let served = TheatreServer::of(app.clone(), |_| Server::new(app)).await;
    let document = document(&served, "localhost").await;
    assert_eq!(document["components"]["messages"]["praises.praise.v1"]["payload"], true);
    assert_eq!(document["info"]["title"], "Diptych");
}

#[tokio::test]
async fn the_documents_name_the_credential_of_callers() {
    for (credential, openapi, asyncapi) in [
        (
            Credential::Bearer,
            json!({ "type": "http", "scheme": "bearer" }),
            json!({ "type": "http", "scheme": "bearer" }),
        ),
        (
            Credential::Basic,
            json!({ "type": "http", "scheme": "basic" }),
            json!({ "type": "http", "scheme": "basic" }),
        ),
        (
            Credential::Header("x-user".to_owned()),
            json!({ "type": "apiKey", "in": "header", "name": "x-user" }),
            json!({ "type": "httpApiKey", "in": "header", "name": "x-user" }),
        ),
    ] {
        let served = served(|server| server.credential(credential)).await;
        let feeds = document(&served, "localhost").await;
        let routes = served.get("/openapi.json").await.ok();
        assert_eq!(routes["components"]["securitySchemes"]["caller"], openapi);
        assert_eq!(routes["security"], json!([{ "caller": [] }]));
        let open = ["/health", "/ready"];
        for (path, methods) in routes["paths"].as_object().unwrap() {
            let expected = open.contains(&path.as_str()).then(|| json!([]));
            let first = methods.as_object().unwrap().values().next().unwrap();
            assert_eq!(first.get("security"), expected.as_ref(), "{path}");
        }
        assert_eq!(feeds["components"]["securitySchemes"]["caller"], asyncapi);
        let reference = json!([{ "$ref": "#/components/securitySchemes/caller" }]);
        assert_eq!(feeds["operations"]["send-plans"]["security"], reference);
    }
}

#[tokio::test]
async fn the_hook_decides_who_reads_the_document() {
    async fn deny(visit: Visit) -> Result<Caller, Denial> {
        match visit.operation {
            Operation::Catalogue => Err(Denial::forbidden("no")),
            _ => Ok(Caller::anonymous()),
        }
    }
    let served = served(|server| server.admit(deny)).await;
    served.get("/asyncapi.json").await.problem(403, "denied");
}
