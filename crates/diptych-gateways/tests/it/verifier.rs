//! Webhooks that come in, verified without a server, and those of our own gateway at our server.

use std::{convert::Infallible, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use diptych::{App, Command, DecisionContext, Event, Memory, Timestamp, process::Gateway};
use diptych_gateways::{
    HttpOptions, PublicKeyError, Reach, Webhook, WebhookEndpoint, WebhookFault, WebhookHeaders,
    WebhookPublicKey, WebhookSecret, WebhookVerifier, Webhooks,
};
use diptych_server::{ReceivedWebhook, Server, WebhookReaction, WebhookRoute};
use http::HeaderMap;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const AT: i64 = 1_700_000_000;
const BODY: &[u8] = br#"{"paid":7}"#;

fn secret(text: &str) -> WebhookSecret {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_micros(AT * 1_000_000)
}

fn headers(id: &str, at: i64, signature: &str) -> WebhookHeaders {
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", id.parse().unwrap());
    headers.insert("webhook-timestamp", at.into());
    headers.insert("webhook-signature", signature.parse().unwrap());
    WebhookHeaders::read(&headers).unwrap()
}

/// The signature of another library.
fn signature(secret: &str, id: &str, at: i64) -> String {
    standardwebhooks::Webhook::new(secret).unwrap().sign(id, at, BODY).unwrap()
}

#[test]
fn each_secret_and_each_signature_of_a_rotation_is_tried() {
    let (old, new) = (signature(OLD, "msg", AT), signature(NEW, "msg", AT));
    let both = format!("{old} {new}");
    for (secrets, listed, is_good) in [
        (&[OLD][..], &*old, true),
        (&[OLD][..], &*new, false),
        (&[OLD][..], &*both, true),
        (&[NEW, OLD][..], &*old, true),
        (&[NEW, OLD][..], &*new, true),
        (&[][..], &*both, false),
    ] {
        let verifier = WebhookVerifier::new(secrets.iter().map(|text| secret(text)));
        let verified = verifier.verify(&headers("msg", AT, listed), BODY, now());
        let expected = if is_good { Ok(()) } else { Err(WebhookFault::Signature) };
        assert_eq!(verified, expected, "{secrets:?} {listed}");
        assert_eq!(verifier.is_empty(), secrets.is_empty());
    }
}

#[test]
fn a_webhook_of_another_time_is_refused_in_both_directions() {
    let verifier = WebhookVerifier::new([secret(OLD)]).tolerance(Duration::from_secs(10));
    for apart in [-11, -10, 0, 10, 11] {
        let sent = headers("msg", AT + apart, &signature(OLD, "msg", AT + apart));
        let expected = match apart.abs() {
            11 => Err(WebhookFault::Time { sent_at: sent.sent_at() }),
            _ => Ok(()),
        };
        assert_eq!(verifier.verify(&sent, BODY, now()), expected, "{apart}");
    }
}

#[test]
fn the_owner_of_a_public_key_is_believed() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = format!("whpk_{}", STANDARD.encode(pair.public_key()));
    let verifier = WebhookVerifier::new([]).public_keys([key.parse().unwrap()]);
    let message = [format!("msg.{AT}.").as_bytes(), BODY].concat();
    let signed = STANDARD.encode(pair.sign(&message));
    let sent = headers("msg", AT, &format!("v1a,{signed}"));
    assert_eq!(verifier.verify(&sent, BODY, now()), Ok(()));
    assert_eq!(verifier.verify(&sent, b"{}", now()), Err(WebhookFault::Signature));
    // Each scheme has its own keys, so a signature cannot change its scheme.
    let other_scheme = headers("msg", AT, &format!("v1,{signed}"));
    assert_eq!(verifier.verify(&other_scheme, BODY, now()), Err(WebhookFault::Signature));
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let foreign = STANDARD.encode(other.sign(&message));
    let foreign = headers("msg", AT, &format!("v1a,{foreign}"));
    assert_eq!(verifier.verify(&foreign, BODY, now()), Err(WebhookFault::Signature));
}

#[test]
fn a_public_key_that_is_none_is_refused() {
    let short = format!("whpk_{}", STANDARD.encode([1; 31]));
    let secret = format!("whsk_{}", STANDARD.encode([1; 32]));
    for text in [&*short, &*secret, "whpk_", "whpk_%", OLD, ""] {
        assert_eq!(text.parse::<WebhookPublicKey>(), Err(PublicKeyError), "{text}");
    }
}

#[derive(Event, Serialize, Deserialize)]
#[event("order-noted")]
struct Noted {
    #[tag]
    order: u64,
}

/// Notes an order of another service.
#[derive(Serialize, Deserialize)]
struct Note {
    order: u64,
}

impl Command for Note {
    type State = ();
    type Event = Noted;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Noted>, Infallible> {
        Ok(vec![Noted { order: self.order }])
    }
}

#[tokio::test]
async fn a_webhook_of_our_gateway_becomes_a_command_of_our_server_once() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let paid = |paid: ReceivedWebhook<Value>| match paid.body["data"]["order"].as_u64() {
        Some(order) => Ok(WebhookReaction::execute(Note { order })),
        None => Err("it has no order"),
    };
    let route = WebhookRoute::new("shop", WebhookVerifier::new([secret(OLD)]), paid);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/shop", listener.local_addr().unwrap());
    let server = Server::new(app.clone()).webhook("/hooks/shop", route);
    let serving = tokio::spawn(server.serve(listener, std::future::pending()));
    let mut options: HttpOptions = Webhooks::options();
    options.reach = Reach::Anywhere;
    let endpoint = WebhookEndpoint { url, secrets: vec![secret(NEW), secret(OLD)] };
    let webhooks = Webhooks::new(move |_| Some(endpoint.clone()), options).unwrap();
    let webhook = Webhook {
        endpoint: "shop".to_owned(),
        event_type: "order.paid".to_owned(),
        timestamp: now(),
        data: json!({ "order": 7 }),
    };
    for _ in 0..2 {
        webhooks.send(&webhook, "diptych-key").await.unwrap();
    }
    assert_eq!(app.head().get(), 1);
    serving.abort();
}
