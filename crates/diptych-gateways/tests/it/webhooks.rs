use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diptych::{
    Timestamp,
    process::{CallFailure, Gateway},
};
use diptych_gateways::{
    HttpOptions, Reach, Webhook, WebhookDelivery, WebhookEndpoint, WebhookRefusal, WebhookSecret,
    Webhooks,
};
use serde_json::json;

use super::server::{Reply, Request, Server};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn anywhere() -> HttpOptions {
    let mut options = Webhooks::options();
    options.reach = Reach::Anywhere;
    options
}

/// Webhooks whose every endpoint but `missing` has this address, and these secrets.
fn webhooks(url: &str, secrets: &[&str], options: HttpOptions) -> Webhooks {
    let url = format!("{url}/hook");
    let secrets: Vec<WebhookSecret> =
        secrets.iter().map(|secret| secret.parse().unwrap()).collect();
    let endpoints = move |name: &str| {
        let endpoint = WebhookEndpoint { url: url.clone(), secrets: secrets.clone() };
        (name != "missing").then_some(endpoint)
    };
    Webhooks::new(endpoints, options).unwrap()
}

fn webhook(endpoint: &str) -> Webhook {
    Webhook {
        endpoint: endpoint.to_owned(),
        event_type: "order.paid".to_owned(),
        timestamp: Timestamp::from_micros(0),
        data: json!({ "order": 7 }),
    }
}

async fn refusal(webhooks: &Webhooks, endpoint: &str) -> Option<WebhookRefusal> {
    match webhooks.send(&webhook(endpoint), "diptych-key").await {
        Err(CallFailure::Refused(refused)) => refused.read(),
        other => panic!("{other:?}"),
    }
}

/// Whether another library accepts the signature for this secret.
fn is_accepted(request: &Request, secret: &str) -> bool {
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.header(name).unwrap().parse().unwrap());
    }
    let receiver = standardwebhooks::Webhook::new(secret).unwrap();
    receiver.verify(request.body.as_bytes(), &headers).is_ok()
}

#[tokio::test]
async fn signatures_are_accepted_by_another_library_for_each_secret_of_a_rotation() {
    let server = Server::with([]).await;
    let webhooks = webhooks(&server.url, &[NEW, OLD], anywhere());
    let delivered = webhooks.send(&webhook("shop"), "diptych-key").await;
    assert_eq!(delivered, Ok(WebhookDelivery { status: 200 }));
    let requests = server.requests();
    assert_eq!(requests[0].line, "POST /hook");
    let body = r#"{"type":"order.paid","timestamp":"1970-01-01T00:00:00Z","data":{"order":7}}"#;
    assert_eq!(requests[0].body, body);
    assert!(is_accepted(&requests[0], OLD) && is_accepted(&requests[0], NEW));
    assert!(!is_accepted(&requests[0], OTHER));
    let mut forged = requests[0].clone();
    forged.body = body.replace('7', "8");
    assert!(!is_accepted(&forged, OLD));
}

#[tokio::test]
async fn a_repetition_has_the_same_id_and_body_and_the_time_of_its_own() {
    let server = Server::with([Reply::json(500, ""), Reply::Reset]).await;
    let webhooks = webhooks(&server.url, &[OLD], anywhere());
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for _ in 0..2 {
        assert!(webhooks.send(&webhook("shop"), "diptych-key").await.is_err());
    }
    webhooks.send(&webhook("shop"), "diptych-key").await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(request.header("webhook-id"), Some("diptych-key"));
        assert_eq!(request.body, requests[0].body);
        let at: u64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
        assert!(at >= begin);
    }
}

#[tokio::test]
async fn failures_and_redirects_are_tried_again_after_the_time_that_the_receiver_asks_for() {
    let inner = Server::with([]).await;
    let location: &'static str = format!("location: {}/secret\r\n", inner.url).leak();
    let server = Server::with([
        Reply::Answer(302, location, String::new()),
        Reply::Answer(429, "retry-after: 9\r\n", String::new()),
        Reply::json(404, ""),
    ])
    .await;
    let webhooks = webhooks(&server.url, &[OLD], anywhere());
    for expected in [None, Some(Duration::from_secs(9)), None] {
        match webhooks.send(&webhook("shop"), "diptych-key").await {
            Err(CallFailure::NotSent { retry_after, .. }) => assert_eq!(retry_after, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(inner.requests().len(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_and_others_go_on() {
    let server = Server::with([Reply::json(410, "")]).await;
    let webhooks = webhooks(&server.url, &[OLD], anywhere());
    assert_eq!(refusal(&webhooks, "shop").await, Some(WebhookRefusal::Gone));
    assert_eq!(refusal(&webhooks, "shop").await, Some(WebhookRefusal::Disabled));
    assert_eq!(webhooks.disabled(), ["shop"]);
    assert_eq!(server.requests().len(), 1);
    webhooks.send(&webhook("office"), "diptych-key").await.unwrap();
}

#[tokio::test]
async fn only_public_addresses_with_tls_and_known_endpoints_with_a_secret_get_webhooks() {
    let server = Server::with([]).await;
    let known = webhooks(&server.url, &[OLD], anywhere());
    assert_eq!(refusal(&known, "missing").await, Some(WebhookRefusal::UnknownEndpoint));
    let unsigned = webhooks(&server.url, &[], anywhere());
    assert_eq!(refusal(&unsigned, "shop").await, Some(WebhookRefusal::UnknownEndpoint));
    let port = server.url.rsplit(':').next().unwrap();
    for url in [
        server.url.clone(),
        "http://shop.example".to_owned(),
        format!("https://127.0.0.1:{port}"),
        format!("https://localhost:{port}"),
    ] {
        let guarded = webhooks(&url, &[OLD], Webhooks::options());
        assert_eq!(refusal(&guarded, "shop").await, Some(WebhookRefusal::Address), "{url}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\naaaa\r\n4\r\naaaa\r\n";
    let server = Server::with([Reply::Bytes(endless)]).await;
    let mut options = anywhere();
    options.answer_bytes = 6;
    let webhooks = webhooks(&server.url, &[OLD], options);
    let delivered = webhooks.send(&webhook("shop"), "diptych-key").await;
    assert_eq!(delivered, Ok(WebhookDelivery { status: 200 }));
}
