//! Webhooks of another system, signed by another library: who is believed, and what happens once.

use std::{
    convert::Infallible,
    fmt::{Debug, Write},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use diptych::{App, Filter, Memory, Timestamp, store::Read};
use diptych_gateways::{WebhookSecret, WebhookVerifier};
use diptych_server::{Mount, ReceivedWebhook, ServeError, Server, WebhookReaction, WebhookRoute};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    client::{Connection, Request, Response},
    domain::{NotGiven, NoteRefusal, Remark, Take},
    served::{TheatreServer, with_views},
};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const PATH: &str = "/hooks/box-office";
const NOW: i64 = 1_700_000_000;

/// The words of the box office.
#[derive(Deserialize)]
#[serde(tag = "type", content = "data")]
enum Sale {
    #[serde(rename = "ticket.sold")]
    Sold { place: String, customer: String },
    #[serde(rename = "ticket.sold-early")]
    SoldEarly { place: String, customer: String },
    #[serde(rename = "ticket.sold-noted")]
    SoldNoted { place: String, customer: String },
    #[serde(rename = "ticket.remark")]
    Remark { text: String },
    #[serde(rename = "ticket.broken")]
    Broken {},
    #[serde(other)]
    Other,
}

fn translate(sale: ReceivedWebhook<Sale>) -> Result<WebhookReaction, String> {
    let take = |seat, by| Take { seat, by, companions: 0 };
    Ok(match sale.body {
        Sale::Sold { place, customer } => WebhookReaction::execute(take(place, customer)),
        Sale::SoldEarly { place, customer } => {
            WebhookReaction::execute_until(take(place, customer), |_| false)
        }
        Sale::SoldNoted { place, customer } => {
            WebhookReaction::execute_noted(take(place, customer), |take, why: &NotGiven| {
                NoteRefusal { seat: take.seat.clone(), rule: why.to_string() }
            })
        }
        Sale::Remark { text } => WebhookReaction::execute(Remark { text }),
        Sale::Broken {} => return Err("the ticket is broken".to_owned()),
        Sale::Other => WebhookReaction::nothing(),
    })
}

fn verifier(secrets: &[&str]) -> WebhookVerifier {
    let secrets = secrets.iter().map(|secret| secret.parse::<WebhookSecret>().unwrap());
    WebhookVerifier::new(secrets)
}

fn route(secrets: &[&str]) -> WebhookRoute {
    let now = || Timestamp::from_micros(NOW * 1_000_000);
    WebhookRoute::new("box-office", verifier(secrets), translate).clock(now)
}

async fn served() -> TheatreServer {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    TheatreServer::of(app, |server| server.webhook(PATH, route(&[OLD, NEW]))).await
}

fn sold(place: &str) -> String {
    json!({ "type": "ticket.sold", "data": { "place": place, "customer": "ada" } }).to_string()
}

/// The signature of another library.
fn signature(secret: &str, id: &str, at: i64, body: &str) -> String {
    standardwebhooks::Webhook::new(secret).unwrap().sign(id, at, body.as_bytes()).unwrap()
}

fn request(secret: &str, id: &str, at: i64, body: &str) -> Request {
    Request::post(PATH, body)
        .header("webhook-id", id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", signature(secret, id, at, body))
}

#[track_caller]
fn outcome(response: Response) -> String {
    response.ok()["outcome"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_signed_webhook_becomes_one_command_and_its_events_name_their_source() {
    let served = served().await;
    let body = sold("a1");
    assert_eq!(outcome(served.ask(&request(NEW, "msg_1", NOW, &body)).await), "done");
    // The sender signs with both secrets while it exchanges them, in any order.
    let both = format!("v9,x {} {}", signature(OTHER, "msg_2", NOW, &body), {
        signature(OLD, "msg_2", NOW, &sold("a2"))
    });
    let rotated = Request::post(PATH, sold("a2"))
        .header("webhook-id", "msg_2")
        .header("webhook-timestamp", NOW)
        .header("webhook-signature", both);
    assert_eq!(outcome(served.ask(&rotated).await), "done");
    let all = served.app.store().read(&Filter::everything(), Read::all()).await.unwrap();
    let metadata = all.get(0).unwrap().metadata();
    assert_eq!(metadata.actor.as_deref(), Some("webhook:box-office"));
    assert_eq!(metadata.extra.get("webhook-id").map(|id| &**id), Some("msg_1"));
    assert_eq!(served.head(), 2);
}

#[tokio::test]
async fn nothing_but_the_words_of_the_sender_within_five_minutes_is_believed() {
    let served = served().await;
    let (body, late) = (sold("a1"), 5 * 60 + 1);
    let sign = |id: &str, at: i64, body: &str| signature(OLD, id, at, body);
    let sent = |id: &str, at: i64, signature: String, body: &str| {
        Request::post(PATH, body)
            .header("webhook-id", id)
            .header("webhook-timestamp", at)
            .header("webhook-signature", signature)
    };
    let forged = [
        ("another secret", request(OTHER, "msg", NOW, &body)),
        ("another body", sent("msg", NOW, sign("msg", NOW, &body), &sold("a2"))),
        ("another id", sent("msg2", NOW, sign("msg", NOW, &body), &body)),
        ("another time", sent("msg", NOW + 1, sign("msg", NOW, &body), &body)),
        ("too old", request(OLD, "msg", NOW - late, &body)),
        ("too new", request(OLD, "msg", NOW + late, &body)),
        ("no signature", sent("msg", NOW, String::new(), &body)),
        ("a short signature", sent("msg", NOW, "v1,AAAA".to_owned(), &body)),
        (
            "the scheme of public keys",
            sent("msg", NOW, sign("msg", NOW, &body).replace("v1,", "v1a,"), &body),
        ),
    ];
    for (name, request) in forged {
        let response = served.ask(&request).await;
        response.problem(401, "denied");
        assert_eq!(response.need("www-authenticate"), "StandardWebhooks", "{name}");
    }
    assert_eq!(served.head(), 0);
    for at in [NOW - late + 1, NOW + late - 1] {
        let request = request(OLD, &format!("msg_{at}"), at, &sold(&at.to_string()));
        assert_eq!(outcome(served.ask(&request).await), "done");
    }
}

#[tokio::test]
async fn a_request_that_is_no_webhook_is_told_which_header_is_wrong() {
    let served = served().await;
    let (body, names) = (sold("a1"), ["webhook-id", "webhook-timestamp", "webhook-signature"]);
    let values = ["msg".to_owned(), NOW.to_string(), signature(OLD, "msg", NOW, &body)];
    let without = |left_out: &str| {
        let parts = names.iter().zip(&values).filter(|(name, _)| **name != left_out);
        parts.fold(Request::post(PATH, &body), |request, (name, value)| request.header(name, value))
    };
    for name in names {
        let problem = served.ask(&without(name)).await.problem(400, "header");
        assert_eq!(problem["header"], name);
        let twice = without("").header(name, "msg");
        assert_eq!(served.ask(&twice).await.problem(400, "header")["header"], name);
    }
    let long = "x".repeat(257);
    for (name, value) in [
        ("webhook-id", ""),
        ("webhook-id", "msg.1"),
        ("webhook-id", "two words"),
        ("webhook-id", &long),
        ("webhook-id", "größe"),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "-1700000000"),
        ("webhook-timestamp", "+1700000000"),
        ("webhook-timestamp", "1700000000.5"),
        ("webhook-timestamp", "99999999999999999999"),
        ("webhook-timestamp", "9223372036854775807"),
    ] {
        let request = without(name).header(name, value);
        let problem = served.ask(&request).await.problem(400, "header");
        assert_eq!(problem["header"], name, "{value:?}");
    }
    served.get(PATH).await.problem(405, "method");
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn a_body_has_to_be_json_that_the_translation_understands_and_not_too_long() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let small = |server: Server| server.webhook(PATH, route(&[OLD]).body_bytes(200));
    let served = TheatreServer::of(app, small).await;
    for body in ["{", "7", r#"{"type":"ticket.sold","data":{"place":7}}"#] {
        served.ask(&request(OLD, "msg", NOW, body)).await.problem(400, "malformed");
    }
    let broken = r#"{"type":"ticket.broken","data":{}}"#;
    let problem = served.ask(&request(OLD, "msg", NOW, broken)).await.problem(400, "malformed");
    assert!(problem["detail"].as_str().unwrap().ends_with("the ticket is broken"), "{problem}");
    // The command itself says that it is wrong.
    served.ask(&request(OLD, "msg", NOW, &sold(""))).await.problem(400, "invalid");
    let long = sold(&"x".repeat(200));
    let problem = served.ask(&request(OLD, "msg", NOW, &long)).await.problem(413, "too-large");
    assert_eq!(problem["limit_bytes"], 200);
    let body = sold("a1");
    let form = Request::new("POST", PATH).body(body.clone()).header("content-type", "text/plain");
    let form = form.header("webhook-id", "msg").header("webhook-timestamp", NOW);
    let form = form.header("webhook-signature", signature(OLD, "msg", NOW, &body));
    served.ask(&form).await.problem(415, "content-type");
    // None of them has used up the id.
    assert_eq!(outcome(served.ask(&request(OLD, "msg", NOW, &body)).await), "done");
    assert_eq!(served.head(), 1);
}

/// The warnings on this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = WarningText(String::new());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct WarningText(String);

impl Visit for WarningText {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

/// Messages about refused requests are one a second, and this one is another matter.
#[tokio::test]
async fn a_signed_webhook_that_is_not_understood_is_logged_apart_from_a_bad_signature() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let served = served().await;
    let broken = r#"{"type":"ticket.broken","data":{}}"#;
    for id in ["msg1", "msg2"] {
        served.ask(&request(OTHER, id, NOW, broken)).await.problem(401, "denied");
    }
    served.ask(&request(OLD, "msg3", NOW, broken)).await.problem(400, "malformed");
    let told = warnings.0.lock().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("a request was refused"), "{told:?}");
    let taken = "a webhook with a valid signature was not taken";
    for part in [taken, "the ticket is broken", "source=\"box-office\"", "id=\"msg3\""] {
        assert!(told[1].contains(part), "{part}: {told:?}");
    }
}

#[tokio::test]
async fn a_webhook_without_a_meaning_here_is_taken_and_has_no_effect() {
    let served = served().await;
    let body = r#"{"type":"ticket.printed"}"#;
    assert_eq!(outcome(served.ask(&request(OLD, "msg", NOW, body)).await), "ignored");
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn a_webhook_that_comes_again_is_answered_again_and_has_one_effect() {
    let served = served().await;
    let remark = |text: &str| json!({ "type": "ticket.remark", "data": { "text": text } });
    let body = remark("sold out").to_string();
    for again in 0..3 {
        let request = request(OLD, "msg", NOW + again, &body);
        assert_eq!(outcome(served.ask(&request).await), "done");
    }
    assert_eq!(served.head(), 1);
    // The id alone counts, whatever the body has become.
    let other = remark("sold out again").to_string();
    assert_eq!(outcome(served.ask(&request(OLD, "msg", NOW, &other)).await), "done");
    assert_eq!(served.head(), 1);
    assert_eq!(outcome(served.ask(&request(OLD, "msg2", NOW, &body)).await), "done");
    assert_eq!(served.head(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repetitions_at_the_same_time_have_one_effect() {
    let served = Arc::new(served().await);
    let body = json!({ "type": "ticket.remark", "data": { "text": "sold out" } }).to_string();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (served, body) = (served.clone(), body.clone());
        asking.spawn(async move { served.ask(&request(OLD, "msg", NOW, &body)).await });
    }
    while let Some(response) = asking.join_next().await {
        assert_eq!(outcome(response.unwrap()), "done");
    }
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn a_repetition_after_a_restart_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let app = with_views(App::open(folder.path()).unwrap()).start().await.unwrap();
        let served = TheatreServer::of(app, |server| server.webhook(PATH, route(&[OLD]))).await;
        assert_eq!(outcome(served.ask(&request(OLD, "msg", NOW, &sold("a1"))).await), "done");
        assert_eq!(served.head(), 1);
        served.stop().await.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_rejected_webhook_is_answered_with_200_so_that_it_does_not_come_for_days() {
    let served = served().await;
    served.take("a1", "grace").await;
    let response = served.ask(&request(OLD, "msg", NOW, &sold("a1"))).await.ok();
    let expected = json!({ "outcome": "rejected", "detail": "the seat a1 is taken by grace" });
    assert_eq!(response, expected);
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn a_rejection_that_is_not_final_is_answered_with_503_until_the_command_is_accepted() {
    let served = served().await;
    served.take("a1", "grace").await;
    let data = json!({ "place": "a1", "customer": "ada" });
    let body = json!({ "type": "ticket.sold-early", "data": data }).to_string();
    let request = request(OLD, "msg", NOW, &body);
    let response = served.ask(&request).await;
    response.problem(503, "rejected");
    response.need("retry-after");
    served.done("leave-seat", json!({ "seat": "a1" })).await;
    for _ in 0..2 {
        assert_eq!(outcome(served.ask(&request).await), "done");
    }
    assert_eq!(served.head(), 3);
}

#[tokio::test]
async fn a_rejection_is_noted_once_before_the_sender_is_told_to_stop() {
    let served = served().await;
    served.take("a1", "grace").await;
    let data = json!({ "place": "a1", "customer": "ada" });
    let body = json!({ "type": "ticket.sold-noted", "data": data }).to_string();
    for _ in 0..2 {
        assert_eq!(outcome(served.ask(&request(OLD, "msg", NOW, &body)).await), "rejected");
        assert_eq!(served.head(), 2);
    }
    // Without room for a note the webhook has to come again.
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let mut limits = diptych_server::ServerLimits::default();
    limits.noted_rejections = 0;
    let full = |server: Server| server.limits(limits).webhook(PATH, route(&[OLD]));
    let served = TheatreServer::of(app, full).await;
    served.take("a1", "grace").await;
    served.ask(&request(OLD, "msg", NOW, &body)).await.problem(503, "rejected");
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn the_clock_of_the_route_decides_about_the_time() {
    let now = Arc::new(AtomicI64::new(NOW));
    let clock = now.clone();
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let route = route(&[OLD])
        .clock(move || Timestamp::from_micros(clock.load(Ordering::Relaxed) * 1_000_000));
    let served = TheatreServer::of(app, |server| server.webhook(PATH, route)).await;
    let request = request(OLD, "msg", NOW, &sold("a1"));
    assert_eq!(outcome(served.ask(&request).await), "done");
    now.store(NOW + 3_600, Ordering::Relaxed);
    served.ask(&request).await.problem(401, "denied");
}

#[tokio::test]
async fn a_webhook_that_cannot_be_declared_stops_the_start() {
    let nothing = |_: ReceivedWebhook<Value>| Ok::<_, Infallible>(WebhookReaction::nothing());
    let named = |name: &str, secrets: &[&str]| WebhookRoute::new(name, verifier(secrets), nothing);
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let server = || Server::new(app.clone()).host("localhost");
    for (server, expected) in [
        (server().webhook("hooks", named("a", &[OLD])), "has to be a slash"),
        (server().webhook("/hooks/{x}", named("a", &[OLD])), "has to be a slash"),
        (server().webhook("/feeds/x", named("a", &[OLD])), "no other route may have its path"),
        (server().webhook("/a", named("A:b", &[OLD])), "small letters, digits and dashes"),
        (server().webhook("/a", named("a", &[])), "has no secret"),
        (
            server().webhook("/a", named("a", &[OLD])).webhook("/a", named("b", &[OLD])),
            "no other route may have its path",
        ),
        (
            server().webhook("/a", named("a", &[OLD])).webhook("/b", named("a", &[OLD])),
            "no other webhook its name",
        ),
        (
            server().file("/a", "text/plain", b"a").webhook("/a", named("a", &[OLD])),
            "a file have one path",
        ),
        (
            server().mount(mounted("/a")).webhook("/a", named("a", &[OLD])),
            "the mounted \"/a\" has this path too",
        ),
        (
            server().webhook("/a", named("a", &[OLD])).mount(mounted("/a")),
            "the mounted \"/a\" has this path too",
        ),
        (
            server().webhook("/a/b", named("a", &[OLD])).mount(mounted("/a/{key}")),
            "the mounted \"/a/{key}\" has this path too",
        ),
        (
            server().webhook("/a/b/c", named("a", &[OLD])).mount(mounted("/a/{*rest}")),
            "the mounted \"/a/{*rest}\" has this path too",
        ),
        (server().mount(mounted("/a")).file("/a", "text/plain", b"a"), "the mounted \"/a\""),
        (
            server().file("/a/b", "text/plain", b"a").mount(mounted("/a/{key}")),
            "the mounted \"/a/{key}\"",
        ),
    ] {
        match server.into_router() {
            Err(ServeError::Declaration { problem }) => {
                assert!(problem.contains(expected), "{problem}");
            }
            other => panic!("{expected}: {:?}", other.map(drop)),
        }
    }
}

#[tokio::test]
async fn a_webhook_below_a_prefix_is_the_same_webhook() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let server = Server::new(app.clone()).host("localhost").webhook(PATH, route(&[OLD]));
    let (routes, _) = server.into_router().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = axum::Router::new().nest("/api", routes);
    tokio::spawn(async move { axum::serve(listener, service).await });
    let (body, path) = (sold("a1"), format!("/api{PATH}"));
    let request = Request::post(&path, &body)
        .header("webhook-id", "msg")
        .header("webhook-timestamp", NOW)
        .header("webhook-signature", signature(OLD, "msg", NOW, &body));
    assert_eq!(outcome(Connection::open(address).await.ask(&request).await), "done");
    assert_eq!(app.head().get(), 1);
}

#[tokio::test]
async fn the_document_lists_the_endpoint() {
    let served = served().await;
    let document = served.get("/openapi.json").await.ok();
    let post = &document["paths"][PATH]["post"];
    assert_eq!(post["operationId"], "box-office-webhook");
    for status in ["200", "400", "401", "413", "415", "503"] {
        assert!(post["responses"][status].is_object(), "{status}");
    }
}

fn mounted(path: &str) -> Mount {
    Mount::new(|_| Vec::new()).route(path, axum::routing::get(async || "mounted"))
}
