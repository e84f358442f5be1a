use std::time::Duration;

use diptych::{
    Position,
    collaboration::{FeedCursor, FeedRead, FeedSource},
    process::{CallFailure, Gateway, Reconciliation, TraceOptions, TraceSource, TraceTarget},
};
use diptych_gateways::{
    GatewaySetupError, HttpFeed, HttpGateway, HttpOptions, HttpRequest, HttpTraces, Reach,
    StatusMeaning,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::server::{Reply, Server, nothing};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) order: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChargeReceipt {
    pub(crate) receipt: String,
}

type Payments = HttpGateway<Charge, ChargeReceipt>;

pub(crate) fn payments(url: &str) -> Payments {
    Payments::post(&format!("{url}/charges"), HttpOptions::default()).unwrap()
}

async fn sent(gateway: &Payments) -> Result<ChargeReceipt, CallFailure> {
    gateway.send(&Charge { order: 7 }, "diptych-key").await
}

async fn unknown(gateway: &Payments) -> String {
    match sent(gateway).await {
        Err(CallFailure::Unknown { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

async fn not_sent(gateway: &Payments) -> (String, Option<Duration>) {
    match sent(gateway).await {
        Err(CallFailure::NotSent { reason, retry_after }) => (reason, retry_after),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_is_posted_with_its_key_and_the_secret_of_the_gateway() {
    let server = Server::with([Reply::json(201, r#"{"receipt":"r7"}"#)]).await;
    let gateway = payments(&server.url).header("authorization", "Bearer secret").unwrap();
    assert_eq!(sent(&gateway).await, Ok(ChargeReceipt { receipt: "r7".to_owned() }));
    let requests = server.requests();
    assert_eq!((&*requests[0].line, &*requests[0].body), ("POST /charges", r#"{"order":7}"#));
    assert_eq!(requests[0].header("idempotency-key"), Some("diptych-key"));
    assert_eq!(requests[0].header("authorization"), Some("Bearer secret"));
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert!(!format!("{gateway:?}").contains("Bearer secret"));
}

/// The URL with the user `ada` and the password `p@ss`.
fn with_user(url: &str) -> String {
    url.replace("http://", "http://ada:p%40ss@")
}

/// `ada:p@ss` in Base64.
const BASIC: &str = "Basic YWRhOnBAc3M=";

#[tokio::test]
async fn user_and_password_of_a_url_are_sent_unless_there_is_a_header_for_them() {
    let server = Server::with([]).await;
    let url = with_user(&server.url);
    let gateway = || payments(&url);
    let options = HttpOptions::default;
    let read = FeedRead::after(FeedCursor::End);
    let feed = || HttpFeed::new(&url, options()).unwrap();
    let traces = || HttpTraces::new(&url, options()).unwrap();
    let at = || TraceTarget::Position(Position::new(1));
    let (name, token) = ("authorization", "Bearer secret");
    // The server answers neither a receipt nor a page nor a trace.
    gateway().send(&Charge { order: 7 }, "key").await.unwrap_err();
    feed().read(read).await.unwrap_err();
    traces().trace(at(), TraceOptions::default()).await.unwrap_err();
    let gateway = gateway().header(name, token).unwrap();
    gateway.send(&Charge { order: 7 }, "key").await.unwrap_err();
    feed().header(name, token).unwrap().read(read).await.unwrap_err();
    let traces = traces().header(name, token).unwrap();
    traces.trace(at(), TraceOptions::default()).await.unwrap_err();
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().map(|request| request.header(name).unwrap()).collect();
    assert_eq!(sent, [BASIC, BASIC, BASIC, token, token, token]);
}

#[tokio::test]
async fn another_request_is_made_by_a_function_and_the_key_has_the_header_of_choice() {
    let server = Server::with([Reply::json(204, "")]).await;
    let base = server.url.clone();
    let request = move |order: &u64| {
        HttpRequest::put(format!("{base}/orders/{order}")).header("x-kind", "order").json(&"paid")
    };
    let gateway = HttpGateway::<u64, ()>::new(request, HttpOptions::default()).unwrap();
    let gateway = gateway.key_header("x-request-id").unwrap();
    assert_eq!(gateway.send(&9, "diptych-key").await, Ok(()));
    let requests = server.requests();
    assert_eq!((&*requests[0].line, &*requests[0].body), ("PUT /orders/9", r#""paid""#));
    assert_eq!(requests[0].header("x-kind"), Some("order"));
    assert_eq!(requests[0].header("x-request-id"), Some("diptych-key"));
    assert_eq!(requests[0].header("idempotency-key"), None);
}

#[tokio::test]
async fn a_refused_connection_and_a_missing_name_sent_nothing() {
    let (reason, _) = not_sent(&payments(&nothing().await)).await;
    assert!(reason.contains("onnect"), "{reason}");
    // Names under `invalid` never resolve.
    not_sent(&payments("http://payments.invalid")).await;
}

#[tokio::test]
async fn a_connection_that_ends_after_the_request_was_read_leaves_it_unknown() {
    let server = Server::with([Reply::Reset]).await;
    unknown(&payments(&server.url)).await;
    assert_eq!(server.requests().len(), 1, "it is not sent again by the client of HTTP");
    // The same on a connection that was used before.
    server.reply(Reply::json(200, r#"{"receipt":"r"}"#));
    server.reply(Reply::Reset);
    let gateway = payments(&server.url);
    sent(&gateway).await.unwrap();
    unknown(&gateway).await;
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_answer_that_is_late_cut_too_long_or_not_understood_leaves_the_call_unknown() {
    let server = Server::with([
        Reply::Silence,
        Reply::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"receipt\":"),
        Reply::json(200, &format!(r#"{{"receipt":"{}"}}"#, "x".repeat(1_000))),
        Reply::json(200, r#"{"other":1}"#),
    ])
    .await;
    let mut options = HttpOptions::default();
    options.answer_within = Duration::from_millis(300);
    let quick = Payments::post(&server.url, options.clone()).unwrap();
    unknown(&quick).await;
    options.answer_within = Duration::from_secs(60);
    options.answer_bytes = 500;
    let gateway = Payments::post(&server.url, options).unwrap();
    let reason = unknown(&gateway).await;
    assert!(reason.contains("cut short"), "{reason}");
    let reason = unknown(&gateway).await;
    assert!(reason.contains("more than 500 bytes"), "{reason}");
    let reason = unknown(&gateway).await;
    assert!(reason.contains("missing field `receipt`"), "{reason}");
}

#[tokio::test]
async fn statuses_tell_refused_from_try_again_and_from_unknown() {
    let busy = |status, after| Reply::Answer(status, after, String::new());
    let server = Server::with([
        busy(429, "retry-after: 17\r\n"),
        busy(503, ""),
        Reply::json(500, ""),
        Reply::json(402, r#"{"why":"no funds"}"#),
        Reply::json(409, ""),
    ])
    .await;
    let gateway = payments(&server.url).status(409, StatusMeaning::TryAgain);
    let (reason, after) = not_sent(&gateway).await;
    assert_eq!(after, Some(Duration::from_secs(17)));
    assert!(reason.contains("429"), "{reason}");
    assert_eq!(not_sent(&gateway).await.1, None);
    assert!(unknown(&gateway).await.contains("500"));
    let Err(CallFailure::Refused(refused)) = sent(&gateway).await else { panic!("not refused") };
    assert_eq!(refused.json, json!({ "why": "no funds" }));
    not_sent(&gateway).await;
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let inner = Server::with([]).await;
    let location: &'static str = format!("location: {}/secret\r\n", inner.url).leak();
    let server = Server::with([Reply::Answer(307, location, String::new())]).await;
    let refused = sent(&payments(&server.url)).await;
    let Err(CallFailure::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert!(refused.text.contains("no redirect is followed"), "{}", refused.text);
    assert_eq!(inner.requests().len(), 0);
}

#[tokio::test]
async fn a_gateway_with_public_reach_calls_no_internal_address_also_not_by_a_name() {
    let server = Server::with([]).await;
    let port = server.url.rsplit(':').next().unwrap();
    let mut options = HttpOptions::default();
    options.reach = Reach::Public;
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433"] {
        let url = format!("http://{host}:{port}/");
        let gateway = Payments::post(&url, options.clone()).unwrap();
        let refused = sent(&gateway).await;
        let Err(CallFailure::Refused(refused)) = refused else { panic!("{host}: {refused:?}") };
        assert!(refused.text.contains("internal address"), "{}", refused.text);
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn an_earlier_call_is_asked_about_by_its_key() {
    let again = Reply::Answer(202, "retry-after: 3\r\n", String::new());
    let server = Server::with([
        Reply::json(200, r#"{"receipt":"r7"}"#),
        Reply::json(404, ""),
        again,
        Reply::json(500, ""),
        Reply::Reset,
        Reply::json(403, ""),
    ])
    .await;
    let gateway = payments(&server.url);
    let ask = async |gateway: &Payments| gateway.reconcile(&Charge { order: 7 }, "k-1").await;
    assert_eq!(ask(&gateway).await, Ok(Reconciliation::Unknown), "it cannot ask");
    let gateway = gateway.found_at(&format!("{}/charges/{{key}}", server.url)).unwrap();
    let done = ChargeReceipt { receipt: "r7".to_owned() };
    assert_eq!(ask(&gateway).await, Ok(Reconciliation::Done(done)));
    assert_eq!(server.requests()[0].line, "GET /charges/k-1");
    assert_eq!(ask(&gateway).await, Ok(Reconciliation::NotDone));
    for _ in 0..3 {
        let asked = ask(&gateway).await;
        assert!(matches!(asked, Err(CallFailure::NotSent { .. })), "{asked:?}");
    }
    assert_eq!(ask(&gateway).await, Ok(Reconciliation::Unknown));
}

#[test]
fn addresses_and_headers_are_checked_when_the_gateway_is_made() {
    let made = |url: &str| Payments::post(url, HttpOptions::default());
    for url in ["payments", "ftp://payments.example/", "http://"] {
        assert!(matches!(made(url), Err(GatewaySetupError::Url { .. })), "{url}");
    }
    let gateway = || made("http://payments.example/").unwrap();
    let header = gateway().header("x-secret", "line\nbreak").unwrap_err();
    assert!(!header.to_string().contains("break"), "{header}");
    assert!(gateway().found_at("http://payments.example/charges").is_err());
}
