//! The REST routes of a record.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "http/clients.rs"]
mod clients;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use diptych::{App, Invalid, Memory, Store, poster::Poster};
use diptych_records::{Record, ServeRecords, WithRecords};
use diptych_server::{Caller, Denial, Operation, Server, ServerLimits, Visit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A customer of the shop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Record)]
#[record("customer", validate = Customer::check)]
struct Customer {
    #[key]
    id: String,
    #[unique]
    email: Option<String>,
    #[index]
    city: String,
    #[index]
    age: u32,
    #[retired("move-house")]
    address: Option<String>,
}

impl Customer {
    fn check(&self) -> Result<(), Invalid> {
        match self.city.is_empty() {
            true => Err(Invalid::new("city", "is empty: name one")),
            false => Ok(()),
        }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn kind(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["rejection"]["kind"].as_str().unwrap_or_default())
    }
}

struct Client(Router);

impl Client {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, "localhost");
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let response = self.0.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Value::Null).await
    }
}

async fn app() -> App {
    App::over(Memory::new()).records::<Customer>().start().await.unwrap()
}

async fn client() -> Client {
    let server = Server::new(app().await).host("localhost").records::<Customer>("/customers");
    Client(server.into_router().unwrap().0)
}

fn customer(id: &str, city: &str, age: u32) -> Value {
    json!({ "id": id, "email": format!("{id}@x"), "city": city, "age": age, "address": null })
}

#[tokio::test]
async fn a_row_is_created_shown_changed_and_deleted() {
    let client = client().await;
    let created = client.send("POST", "/customers", &[], customer("a b/1", "Rome", 30)).await;
    assert_eq!(
        (created.status, &created.body),
        (StatusCode::CREATED, &customer("a b/1", "Rome", 30))
    );
    let place = created.header("location").to_owned();
    assert_eq!(place, "/customers/a%20b%2F1");
    let first = created.header("etag").to_owned();
    assert!(!created.header("diptych-receipt").is_empty());

    let shown = client.get(&format!("{place}?_after={}", created.header("diptych-receipt"))).await;
    assert_eq!((shown.status, shown.header("etag")), (StatusCode::OK, first.as_str()));
    assert_eq!(shown.body, customer("a b/1", "Rome", 30));
    let known = client.send("GET", &place, &[("if-none-match", &first)], Value::Null).await;
    assert_eq!((known.status, known.body), (StatusCode::NOT_MODIFIED, Value::Null));

    let patch = [("content-type", "application/merge-patch+json"), ("if-match", first.as_str())];
    let patched = client.send("PATCH", &place, &patch, json!({ "age": 31 })).await;
    assert_eq!((patched.status, &patched.body["age"]), (StatusCode::OK, &json!(31)));
    let second = patched.header("etag").to_owned();
    assert_ne!(first, second);
    let stale = client.send("PATCH", &place, &patch, json!({ "age": 32 })).await;
    assert_eq!(stale.kind(), (412, "stale"));
    assert_eq!(stale.header("content-type"), "application/problem+json");
    let put =
        client.send("PUT", &place, &[("if-match", &second)], customer("a b/1", "Oslo", 1)).await;
    assert_eq!((put.status, &put.body["city"]), (StatusCode::OK, &json!("Oslo")));
    let same = client.send("PUT", &place, &[], customer("a b/1", "Oslo", 1)).await;
    assert_eq!(same.header("etag"), put.header("etag"), "nothing changed");

    let stale = client.send("DELETE", &place, &[("if-match", &second)], Value::Null).await;
    assert_eq!(stale.kind(), (412, "stale"));
    let deleted = client.send("DELETE", &place, &[("if-match", "*")], Value::Null).await;
    assert_eq!((deleted.status, deleted.body), (StatusCode::NO_CONTENT, Value::Null));
    let after = deleted.headers["diptych-receipt"].to_str().unwrap();
    assert_eq!(client.get(&format!("{place}?_after={after}")).await.kind(), (404, "missing"));
    assert_eq!(client.send("DELETE", &place, &[], Value::Null).await.kind(), (404, "missing"));

    let history = client.get(&format!("{place}/history")).await;
    let events: Vec<_> = history.body.as_array().unwrap().iter().collect();
    assert_eq!(events.len(), 4);
    assert_eq!(events[1]["event"], "customer-changed");
    assert_eq!(
        (&events[1]["old"], &events[1]["new"]),
        (&json!({ "age": 30 }), &json!({ "age": 31 }))
    );
    let (_, revision) = first.trim_matches('"').rsplit_once('-').unwrap();
    let past = client.get(&format!("{place}?_as_of={revision}")).await;
    assert_eq!((past.status, &past.body["city"]), (StatusCode::OK, &json!("Rome")));
    let past = client.get(&format!("{place}/history?_as_of={revision}")).await;
    assert_eq!(past.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn each_refusal_has_its_status_and_its_reason() {
    let client = client().await;
    let post = async |row| client.send("POST", "/customers", &[], row).await;
    post(customer("a", "Rome", 1)).await;
    assert_eq!(post(customer("a", "Rome", 1)).await.kind(), (409, "exists"));
    let mut taken = customer("b", "Rome", 1);
    taken["email"] = json!("a@x");
    let taken = post(taken).await;
    assert_eq!(taken.kind(), (409, "taken"));
    assert_eq!(taken.body["rejection"]["field"], "email");

    let new = [("if-none-match", "*")];
    let put = client.send("PUT", "/customers/a", &new, customer("a", "Rome", 1)).await;
    assert_eq!(put.kind(), (412, "exists"));
    let put = client.send("PUT", "/customers/c", &[], customer("c", "Rome", 1)).await;
    assert_eq!(put.kind(), (404, "missing"));
    let put = client.send("PUT", "/customers/c", &new, customer("c", "Rome", 1)).await;
    assert_eq!(put.status, StatusCode::CREATED);

    let patch = async |body| client.send("PATCH", "/customers/a", &[], body).await;
    let retired = patch(json!({ "address": "Via" })).await;
    assert_eq!(retired.kind(), (422, "retired"));
    assert_eq!(retired.body["rejection"]["command"], "move-house");
    assert_eq!(patch(json!({ "city": "" })).await.kind(), (422, "unfit"));
    assert_eq!(patch(json!({ "age": -1 })).await.kind(), (422, "unfit"));
    assert_eq!(patch(json!({ "id": "z" })).await.kind(), (422, "unfit"));
    let unknown = patch(json!({ "agee": 1 })).await;
    assert_eq!((unknown.status.as_u16(), &unknown.body["field"]), (422, &json!("agee")));
    let mut more = customer("d", "Rome", 1);
    more["agee"] = json!(1);
    let more = post(more).await;
    assert_eq!((more.status.as_u16(), &more.body["field"]), (422, &json!("agee")));
    let invalid = post(customer("d", "", 1)).await;
    assert_eq!((invalid.status.as_u16(), &invalid.body["field"]), (422, &json!("city")));
    let other = client.send("PUT", "/customers/a", &[], customer("b", "Rome", 1)).await;
    assert_eq!((other.status.as_u16(), &other.body["field"]), (422, &json!("id")));

    assert_eq!(patch(json!([1])).await.status, StatusCode::BAD_REQUEST);
    let wrong = client.send("PATCH", "/customers/a", &[("if-match", "7")], json!({})).await;
    assert_eq!((wrong.status.as_u16(), &wrong.body["field"]), (400, &json!("if-match")));
    let text = [("content-type", "text/plain")];
    let text = client.send("PATCH", "/customers/a", &text, json!({})).await;
    assert_eq!(text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let method = client.send("DELETE", "/customers", &[], Value::Null).await;
    assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_repeat_under_its_key_is_carried_out_once() {
    let client = client().await;
    let key = [("idempotency-key", "k")];
    let post = async |row| client.send("POST", "/customers", &key, row).await;
    let first = post(customer("a", "Rome", 1)).await;
    let again = post(customer("a", "Rome", 1)).await;
    assert_eq!((again.status, again.header("etag")), (StatusCode::CREATED, first.header("etag")));
    let other = post(customer("b", "Rome", 1)).await;
    assert_eq!(
        (other.status.as_u16(), &other.body["type"]),
        (409, &json!("urn:diptych:key-reused"))
    );
}

#[tokio::test]
async fn rows_are_listed_by_parameters_page_after_page() {
    let client = client().await;
    for (id, city, age) in [("a", "Rome", 3), ("b", "Oslo", 1), ("c", "Rome", 2), ("d", "7", 10)] {
        client.send("POST", "/customers", &[], customer(id, city, age)).await;
    }
    let list = async |query: &str| {
        let answer = client.get(&format!("/customers?_consistency=strong&{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query} {}", answer.body);
        let items = answer.body["items"].as_array().unwrap();
        let ids: String = items.iter().map(|item| item["row"]["id"].as_str().unwrap()).collect();
        (ids, answer)
    };
    for (query, ids) in [
        ("", "abcd"),
        ("city=Rome", "ac"),
        ("city=Rome&city=Oslo&_order=age", "bca"),
        ("city=7", "d"),
        ("age.from=2&age.to=3&_order=-age", "ac"),
        ("age.from=2&age.to=3&_order=age&_limit=2", "ca"),
        ("age.from=x&_order=age", ""),
        ("city.from=7&city.to=8", "d"),
        ("city.from=7&city.to=8&_order=city", "d"),
        ("city.from=7&_order=city", "dbac"),
        ("city.from=7&_order=-city", "cabd"),
        ("city.to=10000", ""),
        ("city.from=10000&_order=city&city.to=P", "db"),
        ("city.from=null", ""),
        ("city.from=R&city.from=7", "ac"),
        ("id.from=1&id.to=b", "ab"),
        ("_order=-age", "dacb"),
        ("id=b", "b"),
    ] {
        assert_eq!(list(query).await.0, ids, "{query}");
    }
    let (mut told, mut address) = (String::new(), "_order=age&_limit=3".to_owned());
    loop {
        let (ids, answer) = list(&address).await;
        told.push_str(&ids);
        told.push('|');
        let Some(next) = answer.body["next"].as_str() else { break };
        let link = answer.header("link");
        assert!(link.ends_with(&format!("_next={next}>; rel=\"next\"")), "{link}");
        assert!(link.starts_with("</customers?_consistency=strong&_order=age&"), "{link}");
        address = format!("_order=age&_limit=3&_next={next}");
    }
    assert_eq!(told, "bca|d|");
    for (query, field) in [
        ("address=x", "address"),
        ("_order=address", "address"),
        ("_limit=0", "limit"),
        ("_limit=x", "_limit"),
        ("_next=%20", "after"),
    ] {
        let answer = client.get(&format!("/customers?{query}")).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["field"]),
            (400, &json!(field)),
            "{query}"
        );
    }
    assert_eq!(client.get("/customers?_unknown=1").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_hook_is_asked_about_each_operation_and_names_the_actor() {
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        match &visit.operation {
            Operation::Command(name) if name == "delete-customer" => {
                Err(Denial::forbidden("no deletion"))
            }
            Operation::Query(name) if name == "list-customer" => Err(Denial::forbidden("no list")),
            Operation::Past(_) => Err(Denial::forbidden("no past")),
            Operation::Command(_) | Operation::Query(_) => Ok(Caller::named("ann")),
            _ => Err(Denial::forbidden("nothing else")),
        }
    }
    let app = app().await;
    let server = Server::new(app.clone()).host("localhost").admit(admit);
    let mut limits = ServerLimits::default();
    limits.body_bytes = 200;
    let server = server.limits(limits).records::<Customer>("/v1/customers/");
    let client = Client(server.into_router().unwrap().0);
    let send = async |method: &str, path: &str, body| {
        client.send(method, &format!("/v1/customers{path}"), &[], body).await.status.as_u16()
    };
    assert_eq!(send("POST", "", customer("a", "Rome", 1)).await, 201);
    assert_eq!(send("POST", "", customer("b", &"R".repeat(300), 1)).await, 413);
    assert_eq!(send("GET", "/a", Value::Null).await, 200);
    assert_eq!(send("GET", "/a?_as_of=1", Value::Null).await, 403);
    assert_eq!(send("GET", "/a?%5Fas_of=1", Value::Null).await, 403);
    assert_eq!(send("GET", "/a/history", Value::Null).await, 403);
    assert_eq!(send("GET", "", Value::Null).await, 403);
    assert_eq!(send("DELETE", "/a", Value::Null).await, 403);
    assert_eq!(send("PATCH", "/a", json!({ "age": 2 })).await, 200);
    let history = app.records::<Customer>().history("a".to_owned()).await.unwrap();
    assert!(history.iter().all(|change| change.actor.as_deref() == Some("ann")));
}

#[tokio::test]
async fn the_document_has_the_routes_and_every_reference_in_it_leads_somewhere() {
    let client = client().await;
    let document = client.get("/openapi.json").await.body;
    for (path, methods) in [
        ("/customers", ["get", "post"].as_slice()),
        ("/customers/{key}", &["get", "put", "patch", "delete"]),
        ("/customers/{key}/history", &["get"]),
    ] {
        for method in methods {
            assert!(document["paths"][path][method]["operationId"].is_string(), "{path} {method}");
        }
    }
    let row = &document["components"]["schemas"]["Customer"];
    assert_eq!(row["description"], "A customer of the shop.");
    assert!(document["components"]["schemas"]["diptych-record-refusal"].is_object());
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "$ref" => references.push(text.clone()),
                    member => collect(member, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[tokio::test]
async fn a_poster_shows_the_rows_and_changes_none() {
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone()).records::<Customer>().start().await.unwrap();
    let row: Customer = serde_json::from_value(customer("a", "Rome", 1)).unwrap();
    let receipt = app.records::<Customer>().create(row).await.unwrap();
    let poster = Poster::over_store(store).records::<Customer>().open().await.unwrap();
    let server = Server::poster(poster).host("localhost").records::<Customer>("/customers");
    let client = Client(server.into_router().unwrap().0);
    let shown = client.get(&format!("/customers/a?_after={receipt}")).await;
    assert_eq!((shown.status, shown.body), (StatusCode::OK, customer("a", "Rome", 1)));
    let refused = client.send("POST", "/customers", &[], customer("b", "Rome", 1)).await;
    assert_eq!(
        (refused.status, &refused.body["type"]),
        (StatusCode::NOT_FOUND, &json!("urn:diptych:unknown"))
    );
    assert!(refused.body["detail"].as_str().unwrap().contains("owns the log"));
}

#[tokio::test]
async fn a_path_that_is_taken_is_a_mistake_at_the_start() {
    let server = async |path: &str, other: &str| {
        let server = Server::new(app().await).host("localhost");
        let server = server.records::<Customer>(path).records::<Customer>(other);
        server.into_router().map(drop).map_err(|error| error.to_string())
    };
    server("/a", "/b").await.unwrap();
    for (path, other) in [("/a", "/a"), ("/live", "/b"), ("a", "/b"), ("/", "/b")] {
        let refused = server(path, other).await.unwrap_err();
        assert!(refused.contains("mounted path"), "{refused}");
    }
}

#[cfg(feature = "import")]
#[tokio::test]
async fn before_its_import_a_row_is_unknown_and_not_missing() {
    let app = app().await;
    let server = Server::new(app.clone()).host("localhost").records::<Customer>("/customers");
    let client = Client(server.into_router().unwrap().0);
    client.send("POST", "/customers", &[], customer("own", "Rome", 1)).await;
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("customer.ndjson");
    std::fs::write(&lines, customer("a", "Rome", 30).to_string()).unwrap();
    let table = diptych_records::NdjsonFile::open(&lines).unwrap();
    assert_eq!(app.records::<Customer>().import(table).run().await.unwrap().created, 1);

    assert_eq!(client.get("/customers/a?_as_of=2").await.status, StatusCode::OK);
    let unknown = client.get("/customers/a?_as_of=1").await;
    assert_eq!(unknown.kind(), (404, "unknown-before-import"));
    assert_eq!(unknown.body["rejection"]["imported_at"], 2);
    assert_eq!(client.get("/customers/own?_as_of=0").await.kind(), (404, "missing"));
    let list = client.get("/customers?_as_of=1").await;
    assert_eq!(list.kind(), (404, "list-unknown-before-import"));
    assert_eq!(list.body["rejection"]["imported_at"], 2);
    let list = client.get("/customers?_as_of=2&city=Rome").await.body;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    let before_both = client.get("/customers?_recorded_before=2001-01-01T00:00:00Z").await;
    assert_eq!(before_both.kind(), (404, "list-unknown-before-import"));
    assert_eq!(client.get("/customers").await.status, StatusCode::OK);
    let history = client.get("/customers/a/history").await.body;
    assert_eq!(history[0]["event"], "customer-imported");
    assert_eq!(
        (&history[0]["occurred_at"], &history[0]["new"]["city"]),
        (&Value::Null, &json!("Rome"))
    );
}

#[tokio::test]
async fn a_caller_that_may_write_a_row_and_not_get_it_receives_the_receipt_alone() {
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        match &visit.operation {
            Operation::Query(name) if name == "get-customer" && visit.arguments.is_empty() => {
                Err(Denial::forbidden("no row"))
            }
            _ => Ok(Caller::named("ann")),
        }
    }
    let app = app().await;
    let server = Server::new(app.clone()).host("localhost").admit(admit);
    let server = server.records::<Customer>("/customers");
    let client = Client(server.into_router().unwrap().0);
    assert_eq!(client.get("/customers/a").await.status, StatusCode::FORBIDDEN);
    let new = [("if-none-match", "*")];
    let patch = json!({ "age": 2 });
    for (method, path, headers, body, status) in [
        ("POST", "/customers", [].as_slice(), customer("a", "Rome", 1), 201),
        ("PATCH", "/customers/a", &[], patch.clone(), 200),
        ("PUT", "/customers/a", &[], customer("a", "Oslo", 2), 200),
        ("PUT", "/customers/b", &new, customer("b", "Rome", 1), 201),
    ] {
        let answer = client.send(method, path, headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {}", answer.body);
        let receipt = answer.header("diptych-receipt");
        assert!(!receipt.is_empty() && answer.body.to_string().contains(receipt), "{method}");
        assert!(answer.body.get("city").is_none(), "{method} {}", answer.body);
        assert_eq!(answer.header("etag"), "", "{method}");
    }
    let row = app.records::<Customer>().get("a".to_owned()).strong().await.unwrap().value.unwrap();
    assert_eq!((row.row.city.as_str(), row.row.age), ("Oslo", 2));
    // The same caller, where the hook lets it read.
    let shown = client.send("PATCH", "/customers/a?read=1", &[], patch).await;
    assert_eq!((shown.status, &shown.body["city"]), (StatusCode::OK, &json!("Oslo")));
}

#[tokio::test]
async fn a_tag_of_another_epoch_never_matches() {
    // Both logs have the same row at the same position, as a log has after a restore.
    let (before, after) = (client().await, client().await);
    let mut tags = Vec::new();
    for client in [&before, &after] {
        let created = client.send("POST", "/customers", &[], customer("a", "Rome", 1)).await;
        tags.push(created.header("etag").to_owned());
    }
    let (old, own) = (tags[0].as_str(), tags[1].as_str());
    assert!(old != own && old.ends_with("-1\"") && own.ends_with("-1\""), "{tags:?}");
    let send = async |method: &str, tag: &str, body| {
        after.send(method, "/customers/a", &[("if-match", tag)], body).await
    };
    for tag in [old, "\"1\""] {
        let patched = send("PATCH", tag, json!({ "age": 2 })).await;
        assert_eq!(patched.kind(), (412, "other-epoch"));
        let replaced = send("PUT", tag, customer("a", "Oslo", 1)).await;
        assert_eq!(replaced.kind(), (412, "other-epoch"));
        assert_eq!(send("DELETE", tag, Value::Null).await.kind(), (412, "other-epoch"));
        let shown = [("if-none-match", tag)];
        let shown = after.send("GET", "/customers/a", &shown, Value::Null).await;
        assert_eq!((shown.status, shown.body), (StatusCode::OK, customer("a", "Rome", 1)));
    }
    assert_eq!(send("PATCH", own, json!({ "age": 2 })).await.status, StatusCode::OK);
}
