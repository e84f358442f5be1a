//! The catalogue and the OpenAPI document agree with the server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{client::Request, served::TheatreServer};

/// All values under this key, wherever they are.
fn all<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if name == key {
                    found.push(value);
                }
                all(value, key, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| all(value, key, found)),
        _ => {}
    }
}

/// A part of the document, or the shared part that it refers to.
fn resolved<'d>(document: &'d Value, part: &'d Value) -> &'d Value {
    match part["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
        None => part,
    }
}

async fn document(target: &str) -> Value {
    TheatreServer::new().await.get(target).await.ok()
}

#[tokio::test]
async fn every_reference_of_the_documents_resolves() {
    for target in ["/catalogue", "/openapi.json"] {
        let document = document(target).await;
        let mut references = Vec::new();
        all(&document, "$ref", &mut references);
        assert!(references.len() > 10, "{target}");
        for reference in references {
            let place = reference.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{target}: {place}");
        }
    }
}

#[tokio::test]
async fn operation_ids_are_unique() {
    let openapi = document("/openapi.json").await;
    let mut ids = Vec::new();
    all(&openapi["paths"], "operationId", &mut ids);
    let unique: BTreeSet<_> = ids.iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(unique.len(), ids.len());
}

#[tokio::test]
async fn the_catalogue_lists_every_registration() {
    let (catalogue, openapi) = (document("/catalogue").await, document("/openapi.json").await);
    let names = |list: &str| -> Vec<String> {
        let entries = catalogue[list].as_array().unwrap();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let commands = [
        "leave-seat",
        "poison",
        "remark",
        "seat-party",
        "stumble",
        "take-seat",
        "take-seat-noting",
    ];
    assert_eq!(names("commands"), commands);
    let queries = ["curse", "how-many", "last-remarks", "oddity", "riddle", "seats", "who-sits"];
    assert_eq!(names("queries"), queries);
    assert_eq!(
        names("events"),
        ["seat-taken", "seat-left", "remarked", "seat-refused", "poisoned"]
    );
    for name in commands {
        assert!(openapi["paths"][format!("/commands/{name}")]["post"].is_object(), "{name}");
    }
    for name in queries {
        let live = openapi["paths"].get(format!("/queries/{name}/live"));
        assert_eq!(live.is_some(), ["how-many", "last-remarks"].contains(&name), "{name}");
        let parameters = live.map(|live| live["get"]["parameters"].as_array().unwrap().as_slice());
        let parameters = parameters.unwrap_or_default().iter().map(|it| resolved(&openapi, it));
        let names = parameters.map(|it| it["name"].as_str().unwrap());
        let options: Vec<&str> = names.filter(|name| name.starts_with('_')).collect();
        assert!(options.iter().all(|option| *option == "_session"), "{name}: {options:?}");
        for method in ["get", "post"] {
            assert!(openapi["paths"][format!("/queries/{name}")][method].is_object());
        }
    }
    assert_eq!(
        (&openapi["openapi"], &openapi["info"]["title"]),
        (&json!("3.1.0"), &json!("Theatre"))
    );
    assert_eq!(openapi["info"]["version"], "7");
    let views = catalogue["views"].as_array().unwrap();
    let plan =
        views.iter().find(|view| view["type"].as_str().unwrap().ends_with("::Plan")).unwrap();
    assert_eq!(plan["events"], json!(["seat-taken", "seat-left"]));
    assert_eq!(plan["queries"].as_array().unwrap().len(), 6 - 1 + 1);
}

#[tokio::test]
async fn schemas_describe_the_types() {
    let openapi = document("/openapi.json").await;
    let schemas = &openapi["components"]["schemas"];
    let take = &schemas["Take"];
    assert_eq!(take["required"], json!(["seat", "by"]));
    assert_eq!(take["properties"]["seat"]["type"], "string");
    assert_eq!(take["properties"]["seat"]["description"], "Such as `a1`.");
    assert_eq!(take["properties"]["companions"]["maximum"], 255);
    let post = &openapi["paths"]["/commands/take-seat"]["post"];
    assert_eq!(
        post["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/Take"
    );
    assert_eq!(post["summary"], "Takes a seat.");
    assert!(post["responses"]["422"].is_object());
    let remark = &openapi["paths"]["/commands/remark"]["post"];
    assert!(remark["responses"].get("422").is_none(), "no rule rejects it");
    let parameters = openapi["paths"]["/queries/seats"]["get"]["parameters"].as_array().unwrap();
    let parameter = |name: &str| {
        let mut parameters = parameters.iter().map(|parameter| resolved(&openapi, parameter));
        parameters.find(|parameter| parameter["name"] == name).unwrap()
    };
    assert_eq!(parameter("top")["required"], false);
    assert_eq!(parameter("_as_of")["schema"]["type"], "integer");
    let who = &openapi["paths"]["/queries/who-sits"]["get"]["parameters"][0];
    assert_eq!((&who["name"], &who["required"]), (&json!("seat"), &json!(true)));
    let variants = &schemas["NotGiven"]["oneOf"];
    let taken = json!({ "$ref": "#/components/schemas/NotGivenSeatIsTaken" });
    assert_eq!((&variants[0], variants.as_array().unwrap().len()), (&taken, 2));
    let taken = &schemas["NotGivenSeatIsTaken"]["properties"];
    assert_eq!(
        (&taken["rule"]["const"], &taken["by"]["type"]),
        (&json!("seat-is-taken"), &json!("string"))
    );
}

/// An enum of events is stored as the contents of its variants.
#[tokio::test]
async fn the_schema_of_an_event_is_that_of_its_payload() {
    let served = TheatreServer::new().await;
    served.take("a1", "ada").await;
    let catalogue = served.get("/catalogue").await.ok();
    let taken = &catalogue["events"][0];
    assert_eq!(taken["tags"], json!(["seat"]));
    assert_eq!(taken["schema"]["required"], json!(["seat", "by"]), "{taken}");
    let explained = served.get("/queries/seats/explanation").await.ok();
    assert_eq!(explained["events"][0]["data"], json!({ "seat": "a1", "by": "ada" }));
    let remarked = &catalogue["events"][2];
    assert_eq!(remarked["schema"]["$ref"], "#/components/schemas/Remarked");
}

/// A client that is generated from the document gets each member with its type.
#[tokio::test]
async fn the_members_of_problems_are_those_of_the_document() {
    let served = TheatreServer::new().await;
    served.take("a1", "ada").await;
    let openapi = served.get("/openapi.json").await.ok();
    let schemas = &openapi["components"]["schemas"];
    let take = |body: Value| Request::send("take-seat", body);
    let by_ada = |seat: &str| take(json!({ "seat": seat, "by": "ada" }));
    let keyed = |seat: &str| by_ada(seat).header("idempotency-key", "k");
    served.ask(&keyed("a2")).await.ok();
    let other = TheatreServer::new().await;
    other.remark("another log").await;
    let foreign = other.get("/queries/how-many").await.need("diptych-token");
    let requests = [
        by_ada("a1"),
        keyed("a3"),
        by_ada("a1").header("diptych-unchanged-since", 0),
        by_ada("a1").header("diptych-after", foreign),
        take(json!({ "seat": 1 })),
        take(json!({ "seat": "", "by": "ada" })),
        Request::get("/queries/seats?top=x"),
        Request::get("/queries/seats?_as_of=9"),
        Request::get("/queries/seats?_at_most=x"),
        Request::get("/queries/nothing"),
        Request::send("remark", " ".repeat(2_000_000)),
    ];
    for request in requests {
        let problem = served.ask(&request).await;
        assert!(problem.status >= 400, "{}", problem.text());
        for (name, value) in problem.json().as_object().unwrap() {
            let kind = match value {
                Value::String(_) => "string",
                Value::Number(_) => "integer",
                Value::Array(_) => "array",
                _ if name == "rejection" => continue,
                _ => panic!("{name}: {value}"),
            };
            let known = &schemas["diptych-problem"]["properties"][name];
            assert_eq!(known["type"], kind, "{name} of {request:?}");
        }
    }
}

/// Each path of the document answers as described there.
#[tokio::test]
async fn every_path_of_the_document_is_answered() {
    let served = TheatreServer::new().await;
    let take = Request::send("take-seat", json!({ "seat": "a1", "by": "ada" }));
    served.ask(&take.header("idempotency-key", "k")).await.ok();
    let openapi = served.get("/openapi.json").await.ok();
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        let path = path.replace("{key}", "k");
        for method in methods.as_object().unwrap().keys() {
            let request = match method.as_str() {
                "post" => Request::post(&path, "{}"),
                _ => Request::get(&path),
            };
            let mut connection = served.connect().await;
            connection.write(request.bytes()).await;
            let response = connection.head().await.unwrap();
            assert!(![404, 405].contains(&response.status), "{method} {path}");
        }
    }
}

/// The page of reference is the only list of routes, parameters and headers for people.
#[tokio::test]
async fn the_page_of_reference_has_every_route_parameter_and_header() {
    let page = include_str!("../../src/http.md");
    let openapi = document("/openapi.json").await;
    let shared = |kind: &str| openapi["components"][kind].as_object().unwrap().clone();
    let parameters = shared("parameters");
    let names = parameters.values().map(|parameter| parameter["name"].as_str().unwrap().to_owned());
    let mut needed: BTreeSet<String> =
        names.chain(shared("headers").into_iter().map(|(name, _)| name)).collect();
    for path in openapi["paths"].as_object().unwrap().keys() {
        let parts: Vec<&str> = path.split('/').collect();
        needed.insert(match parts.as_slice() {
            [_, room @ ("commands" | "queries"), _] => format!("/{room}/{{name}}"),
            [_, "queries", _, last] => format!("/queries/{{name}}/{last}"),
            _ => path.clone(),
        });
    }
    assert!(needed.len() > 30, "{needed:?}");
    let missing = needed.iter().filter(|name| !page.contains(&format!("`{name}`")));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}
