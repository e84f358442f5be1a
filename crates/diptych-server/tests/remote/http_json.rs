//! The log as JSON over HTTP.

use std::{collections::BTreeSet, net::SocketAddr};

use axum::http::{Request, header};
use diptych::store::{Append, Tracking};
use diptych_server::{LogServer, ServerLimits};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::door_server::{Answer, DoorServer, fill, in_time, raw_event, with_host};

async fn started() -> DoorServer {
    DoorServer::start(|log| log).await
}

fn post(target: &str, body: impl ToString) -> Request<String> {
    let request = Request::post(target).header("content-type", "application/json");
    request.body(body.to_string()).unwrap()
}

async fn append(server: &DoorServer, body: Value) -> Answer {
    server.ask(post("/v1/logs/log/events", body)).await
}

/// One request of the page, as curl would send it.
fn curl(line: &str) -> Request<String> {
    let mut words = Vec::new();
    let mut quoted = false;
    let mut word = String::new();
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.extend(taken(&mut word)),
            c => word.push(c),
        }
    }
    words.extend(taken(&mut word));
    let mut words = words.into_iter();
    assert_eq!(words.next().as_deref(), Some("curl"));
    let (mut target, mut headers, mut body) = (String::new(), Vec::new(), None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-H" => headers.push(words.next().unwrap()),
            "-d" => body = words.next(),
            url => target = url.strip_prefix("http://localhost:4500").unwrap().to_owned(),
        }
    }
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder().method(method).uri(target);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(body.unwrap_or_default()).unwrap()
}

fn taken(word: &mut String) -> Option<String> {
    Some(std::mem::take(word)).filter(|word| !word.is_empty())
}

/// Replaces the values that differ from run to run.
fn steady(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            for (name, value) in members {
                let varies = ["recordedAt", "recorded_at", "detail"].contains(&name.as_str());
                let known = std::mem::take(value);
                *value = if varies && known.is_string() { json!("…") } else { steady(known) };
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| {
            *value = steady(std::mem::take(value));
        }),
        _ => {}
    }
    value
}

fn values(text: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.map(|value| steady(value.unwrap_or_else(|error| panic!("{error}: {text}")))).collect()
}

#[tokio::test]
async fn every_example_of_the_page_gets_its_answer() {
    let server = started().await;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/log-http.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut blocks = page.split("```").skip(1).step_by(2);
    let mut examples = 0;
    while let Some(request) = blocks.next() {
        let request = request.strip_prefix("sh\n").unwrap();
        let expected = blocks.next().unwrap().strip_prefix("json\n").unwrap();
        let answer = server.ask(curl(request)).await;
        let answer = values(std::str::from_utf8(&answer.body).unwrap());
        assert_eq!(answer, values(expected), "{request}");
        examples += 1;
    }
    assert!(examples >= 10, "{examples}");
}

#[tokio::test]
async fn payloads_pass_through_byte_by_byte() {
    let server = started().await;
    for data in
        ["1.0", "1e2", "{\"b\":1,  \"a\":[ ]}", "\"\\u0041\"", "null", "12345678901234567890"]
    {
        let body = format!("{{\"events\":[{{\"type\":\"t\",\"data\": {data} }}]}}");
        let answer = server.ask(post("/v1/logs/log/events", body)).await.ok();
        let after = answer["first"].as_u64().unwrap() - 1;
        let answer = server.get(&format!("/v1/logs/log/events?after={after}")).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains(&format!("\"data\":{data}")), "{text}");
    }
    let body = json!({ "events": [{ "type": "t", "data_base64": "/wA=" }] });
    let first = append(&server, body).await.ok()["first"].as_u64().unwrap();
    let answer = server.get(&format!("/v1/logs/log/events?after={}", first - 1)).await.ok();
    assert_eq!(answer["events"][0]["data_base64"], "/wA=");
}

#[tokio::test]
async fn every_field_of_an_event_comes_back() {
    let server = started().await;
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let mut event = json!({
        "type": "paid",
        "version": 3,
        "tags": ["account:1", "shop:7"],
        "data": { "amount": 5 },
        "id": id,
        "occurred_at": "2013-01-01T10:15:00Z",
        "metadata": { "correlation": id, "causation": id, "actor": "ada", "tenant": "x" },
    });
    append(&server, json!({ "events": [event] })).await.ok();
    let answer = server.get("/v1/logs/log/events").await.ok();
    let mut read = answer["events"][0].clone();
    read.as_object_mut().unwrap().remove("recorded_at").unwrap();
    event["position"] = 1.into();
    assert_eq!(read, event);
}

#[tokio::test]
async fn a_wrong_request_is_a_problem_that_names_the_place() {
    let server = started().await;
    let good = json!({ "type": "t", "data": 1 });
    let with = |name: &str, value: Value| {
        let mut event = good.clone();
        event[name] = value;
        json!({ "events": [good, event] })
    };
    for (body, field) in [
        (with("tags", json!(["plain"])), "events[1].tags[0]"),
        (with("tag", json!("a:1")), "events[1].tag"),
        (with("id", json!("seven")), "events[1].id"),
        (with("occurred_at", json!("today")), "events[1].occurred_at"),
        (with("data_base64", json!("AA==")), "events[1].data"),
        (with("metadata", json!({ "causation": "x" })), "events[1].metadata.causation"),
        (json!({ "events": [{ "type": "t" }] }), "events[0].data"),
        (json!({ "events": [["t", [], 1]] }), "events[0]"),
        (json!([[good]]), ""),
        (json!({ "events": [good], "conditions": [] }), "conditions"),
        (
            json!({ "events": [good], "condition": { "failIfEventsMatch": { "items": [
                { "tags": ["x"] }
            ] } } }),
            "condition.failIfEventsMatch.items[0].tags[0]",
        ),
        (json!({ "events": [good], "condition": { "after": 1 } }), "condition.failIfEventsMatch"),
    ] {
        let problem = append(&server, body.clone()).await.problem(400, "malformed");
        let named = problem["field"].as_str().unwrap_or_default();
        assert_eq!(named, field, "{body}: {problem}");
    }
    for (query, argument) in [
        ("after=x", "after"),
        ("limits=1", "limits"),
        ("backwards=yes", "backwards"),
        ("items=%5B", "items"),
        ("items=%5B%5D&type=t", "items"),
    ] {
        let answer = server.get(&format!("/v1/logs/log/events?{query}")).await;
        assert_eq!(answer.problem(400, "arguments")["argument"], argument, "{query}");
    }
    server.get("/v1/logs/log/events?after=9").await.problem(400, "above-head");
    server.get("/v1/logs/orders").await.problem(404, "unknown");
    server.get("/v1/log").await.problem(404, "unknown");
    let wrong = Request::delete("/v1/logs/log/events").body(String::new()).unwrap();
    server.ask(wrong).await.problem(405, "method");
    let plain = Request::post("/v1/logs/log/events").body("{}".to_owned()).unwrap();
    server.ask(plain).await.problem(415, "content-type");
    assert_eq!(server.store.head().position().get(), 0);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let mut limits = ServerLimits::default();
    limits.body_bytes = 1_000;
    let server = DoorServer::start(|log| log.limits(limits)).await;
    let large = json!({ "events": [{ "type": "t", "data": "x".repeat(1_000) }] });
    append(&server, large).await.problem(413, "too-large");
    append(&server, json!({ "events": [{ "type": "t", "data": 1 }] })).await.ok();
}

#[tokio::test]
async fn a_key_names_one_request_and_tracking_only_grows() {
    let server = started().await;
    let request = |data: u32, tracked: u32| {
        json!({
            "events": [{ "type": "t", "data": data }],
            "key": format!("k{data}"),
            "tracking": { "source": "other", "position": tracked },
        })
    };
    assert_eq!(append(&server, request(1, 5)).await.ok()["repeated"], false);
    let mut other = request(2, 6);
    other["key"] = "k1".into();
    let problem = append(&server, other).await.problem(409, "key-reused");
    assert_eq!((&problem["first"], &problem["last"]), (&json!(1), &json!(1)));
    let problem = append(&server, request(3, 5)).await.problem(409, "tracked");
    assert_eq!((&problem["tracked"], &problem["at"]), (&json!(5), &json!(1)));
    let tracking = server.get("/v1/logs/log/tracking/other").await.ok();
    assert_eq!(tracking, json!({ "source": "other", "position": 5 }));
    let origin = server.store.identity();
    let tracking = Tracking::new("named", 7).origin(origin);
    let commit = Append::event(raw_event("t", "1")).tracking(tracking);
    server.store.append(commit).await.unwrap().synced().await.unwrap();
    let tracking = server.get("/v1/logs/log/tracking/named").await.ok();
    assert_eq!(tracking["log"], origin.id.to_string());
}

#[tokio::test]
async fn a_client_with_another_history_is_refused() {
    let server = started().await;
    let ask = async |history: &str| {
        let request = Request::get("/v1/logs/log").header("diptych-history", history);
        server.ask(request.body(String::new()).unwrap()).await
    };
    let log = server.get("/v1/logs/log").await.ok();
    let (id, epoch) = (log["id"].as_str().unwrap(), log["epoch"].as_str().unwrap());
    ask(&format!("{id}/{epoch}")).await.ok();
    let other: u64 = epoch.parse::<u64>().unwrap() ^ 1;
    let problem = ask(&format!("{id}/{other}")).await.problem(409, "token");
    let told = [&problem["id"], &problem["epoch"]].map(|part| part.as_str().unwrap());
    ask(&told.join("/")).await.ok();
    assert_eq!(ask("restored").await.problem(400, "header")["header"], "diptych-history");
}

#[tokio::test]
async fn a_long_read_is_whole_as_lines_and_goes_on_after_upto_as_json() {
    let server = started().await;
    fill(&server.store, 40, 300 << 10).await;
    let request = Request::get("/v1/logs/log/events").header("accept", "application/x-ndjson");
    let answer = server.ask(request.body(String::new()).unwrap()).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    assert_eq!(answer.headers["diptych-position"], "40");
    let lines = String::from_utf8(answer.body.to_vec()).unwrap();
    let position = |line: &str| serde_json::from_str::<Value>(line).unwrap()["position"].clone();
    let positions: Vec<Value> = lines.lines().map(position).collect();
    assert_eq!(positions, (1..=40).map(Value::from).collect::<Vec<_>>());
    let (mut found, mut after, mut answers) = (Vec::new(), 0, 0);
    while after < 40 {
        let target = format!("/v1/logs/log/events?after={after}&limit=15");
        let answer = server.get(&target).await.ok();
        let events = answer["events"].as_array().unwrap();
        assert!(events.len() <= 15);
        found.extend(events.iter().map(|event| event["position"].clone()));
        after = answer["upto"].as_u64().unwrap();
        answers += 1;
    }
    assert_eq!((found, answers > 2), (positions, true));
    let answer = server.get("/v1/logs/log/events?backwards=true&limit=2").await.ok();
    assert_eq!(answer["events"][1]["position"], 39);
}

/// Reads server-sent events as they come.
pub(crate) struct Events {
    body: hyper::body::Incoming,
    text: String,
}

impl Events {
    pub(crate) async fn open(address: SocketAddr, target: &str, last: Option<&str>) -> Events {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) = in_time(http1::handshake(stream)).await.unwrap();
        let mut request = Request::get(target).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = with_host(request.body(String::new()).unwrap());
        tokio::spawn(connection);
        let response = in_time(sender.send_request(request)).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Events { body: response.into_body(), text: String::new() }
    }

    /// The fields of the next event, by name.
    async fn next(&mut self) -> Option<Vec<(String, String)>> {
        while !self.text.contains("\n\n") {
            let frame = in_time(self.body.frame()).await?.unwrap();
            self.text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
        let (event, rest) = self.text.split_once("\n\n").unwrap();
        let fields = event.lines().map(|line| line.split_once(": ").unwrap());
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.text = rest.to_owned();
        Some(fields)
    }

    /// The name, the id and the data of the next event.
    pub(crate) async fn named(&mut self) -> (String, String, Value) {
        let fields = self.next().await.unwrap();
        let field = |name: &str| {
            let found = fields.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let data = serde_json::from_str(&field("data")).unwrap_or_default();
        (field("event"), field("id"), data)
    }
}

#[tokio::test]
async fn a_subscription_goes_on_after_the_last_event_that_its_client_had() {
    let server = started().await;
    fill(&server.store, 2, 10).await;
    let mut events = Events::open(server.address, "/v1/logs/log/events?tag=account:1", None).await;
    let (name, id, data) = events.named().await;
    assert_eq!((name.as_str(), id.as_str(), &data["upto"]), ("batch", "2", &json!(2)));
    assert_eq!(data["events"].as_array().unwrap().len(), 2);
    let (name, id, data) = events.named().await;
    assert_eq!((name.as_str(), id.as_str(), &data["upto"]), ("caught-up", "2", &json!(2)));
    fill(&server.store, 1, 10).await;
    let (name, id, data) = events.named().await;
    assert_eq!((name.as_str(), id.as_str()), ("batch", "3"));
    assert_eq!(data["events"][0]["position"], 3);
    // The comment of a quiet stream moves the position, here past an event that does not match.
    let other = diptych::store::RawEvent::new("other", "1");
    server.store.append(Append::event(other)).await.unwrap().synced().await.unwrap();
    let beat = events.next().await.unwrap();
    assert_eq!(beat, [(String::new(), "upto 4".to_owned()), ("id".to_owned(), "4".to_owned())]);
    let again = "/v1/logs/log/events?after=1";
    let mut events = Events::open(server.address, again, Some("2")).await;
    assert_eq!(events.named().await.2["events"][0]["position"], 3);
    server.stop().await;
    loop {
        let (name, _, problem) = events.named().await;
        if name == "problem" {
            assert_eq!(problem["type"], "urn:diptych:stopping");
            break;
        }
    }
}

#[tokio::test]
async fn a_carriage_return_in_a_payload_does_not_break_a_stream() {
    let server = started().await;
    let event = raw_event("t", "{\"a\":\r1}");
    server.store.append(Append::event(event)).await.unwrap().synced().await.unwrap();
    let mut events = Events::open(server.address, "/v1/logs/log/events", None).await;
    assert_eq!(events.named().await.2["events"][0]["data"], json!({ "a": 1 }));
}

#[tokio::test]
async fn a_stream_takes_no_bounds_and_no_wrong_position() {
    let server = started().await;
    let ask = async |target: &str, last: &str| {
        let request = Request::get(target).header("accept", "text/event-stream");
        let request = request.header("last-event-id", last);
        server.ask(request.body(String::new()).unwrap()).await
    };
    ask("/v1/logs/log/events?limit=3", "0").await.problem(400, "arguments");
    let problem = ask("/v1/logs/log/events", "x").await.problem(400, "header");
    assert_eq!(problem["header"], "last-event-id");
}

#[tokio::test]
async fn hosts_and_sites_that_are_not_the_servers_own_are_refused() {
    let server = DoorServer::start(|log: LogServer| log.host("log.example")).await;
    let ask = async |name: &str, value: &str| {
        let request = Request::get("/v1/logs/log").header(name, value);
        server.ask(request.body(String::new()).unwrap()).await
    };
    ask("host", "log.example").await.ok();
    ask("host", "localhost:4500").await.ok();
    ask("host", "evil.example").await.problem(403, "host");
    ask("origin", "https://evil.example").await.problem(403, "host");
    ask("sec-fetch-site", "cross-site").await.problem(403, "host");
}

/// The value has the form that the schema tells.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if let Some(properties) = schema["properties"].as_object() {
        let members = value.as_object().unwrap_or_else(|| panic!("{place}: {value}"));
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(members.contains_key(name.as_str().unwrap()), "{place} lacks {name}");
        }
        for (name, value) in members {
            let schema = properties.get(name).unwrap_or_else(|| panic!("{place}.{name} is new"));
            check(document, schema, value, &format!("{place}.{name}"));
        }
    } else if let Some(items) = schema.get("items") {
        for value in value.as_array().unwrap_or_else(|| panic!("{place}: {value}")) {
            check(document, items, value, &format!("{place}[]"));
        }
    }
    let of_kind = |kind: &Value| match kind.as_str().unwrap() {
        "integer" => value.is_u64(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    let is_right = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(of_kind),
        Value::Null => true,
        kind => of_kind(kind),
    };
    assert!(is_right, "{place}: {value} is no {}", schema["type"]);
}

#[tokio::test]
async fn the_openapi_document_describes_the_answers() {
    let server = started().await;
    let document = server.get("/v1/openapi.json").await.ok();
    let paths = document["paths"].as_object().unwrap();
    let commit = json!({
        "events": [{ "type": "t", "tags": ["a:1"], "data": 1 }],
        "key": "k",
        "tracking": { "source": "s", "position": 1 },
    });
    let mut checked = BTreeSet::new();
    let mut check_answer = async |path: &str, target: &str, body: Option<&Value>| {
        let method = if body.is_some() { "post" } else { "get" };
        let request = match body {
            Some(body) => post(target, body),
            None => Request::get(target).body(String::new()).unwrap(),
        };
        let operation = &paths[path][method];
        let answer = server.ask(request).await.ok();
        let answers = &operation["responses"]["200"]["content"]["application/json"];
        check(&document, &answers["schema"], &answer, path);
        checked.insert(format!("{method} {path}"));
    };
    let at = |rest: &str| format!("/v1/logs/log{rest}");
    check_answer(&at("/events"), &at("/events"), Some(&commit)).await;
    check_answer(&at(""), &at(""), None).await;
    check_answer(&at("/events"), &at("/events?tag=a:1"), None).await;
    check_answer(&at("/events/read"), &at("/events/read"), Some(&json!({}))).await;
    check_answer(&at("/last"), &at("/last?type=t"), None).await;
    check_answer(&at("/count"), &at("/count?tag=a:1"), None).await;
    check_answer(&at("/types"), &at("/types"), None).await;
    check_answer(&at("/keys/{key}"), &at("/keys/k"), None).await;
    check_answer(&at("/tracking/{source}"), &at("/tracking/s"), None).await;
    assert_eq!(document["security"], json!([{ "token": [] }, {}]));
    for (path, methods) in paths {
        let is_open = ["/health", "/ready"].contains(&path.as_str());
        let expected = is_open.then(|| json!([]));
        for operation in methods.as_object().unwrap().values() {
            assert_eq!(operation.get("security"), expected.as_ref(), "{path}");
        }
    }
    check_answer("/health", "/health", None).await;
    check_answer("/ready", "/ready", None).await;
    check_answer("/v1/openapi.json", "/v1/openapi.json", None).await;
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .filter(|operation| operation != "get /metrics")
        .collect();
    assert_eq!(checked, described, "every operation was asked");
    let commit = document["paths"]["/v1/logs/log/events"]["post"]["requestBody"].clone();
    let schema = &commit["content"]["application/json"]["schema"];
    check(&document, schema, &json!({ "events": [{ "type": "t", "data": 1 }] }), "commit");
    let problem = server.get("/v1/logs/orders").await.problem(404, "unknown");
    check(&document, &json!({ "$ref": "#/components/schemas/Problem" }), &problem, "problem");
    let names = |operation: &Value| -> BTreeSet<String> {
        let parameters = operation["parameters"].as_array().unwrap();
        parameters.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let read = ["after", "backwards", "items", "limit", "tag", "type", "upto"];
    assert_eq!(names(&paths["/v1/logs/log/events"]["get"]), read.map(str::to_owned).into());
}
