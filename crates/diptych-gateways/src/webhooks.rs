//! Signed webhooks.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use diptych::{
    Timestamp,
    process::{ActionRejection, CallFailure, Gateway, GatewayOptions, Reconciliation},
};
use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    address::Reach,
    exchange::{Exchange, GatewaySetupError, HttpOptions},
    http::checked,
    signature::{WebhookSecret, signatures},
};

/// A webhook: the call of [`Webhooks`]. Its body on the wire has type, timestamp and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// The name of the endpoint, from which the gateway finds its address and its secrets.
    pub endpoint: String,
    /// The type of the event, such as `order.paid`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When the event happened.
    pub timestamp: Timestamp,
    /// The event.
    pub data: Value,
}

/// The body of a webhook.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    timestamp: Timestamp,
    data: &'a Value,
}

/// Where the webhooks of an endpoint go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEndpoint {
    /// The address.
    pub url: String,
    /// The secrets that sign each webhook. While a secret is exchanged for another, both are here.
    pub secrets: Vec<WebhookSecret>,
}

/// A webhook was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDelivery {
    /// The status of the answer.
    pub status: u16,
}

/// Why a webhook is not delivered, and not tried again. It is the
/// [JSON](ActionRejection::json) of the rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WebhookRefusal {
    /// The gateway knows no endpoint of this name, or it has no secret.
    UnknownEndpoint,
    /// The receiver wants no more webhooks (410).
    Gone,
    /// The receiver has wanted no more webhooks before, or the program disabled the endpoint. This
    /// one was not sent.
    Disabled,
    /// The endpoint has no public address, or none with TLS.
    Address,
}

/// Sends webhooks that are signed after the specification of Standard Webhooks.
///
/// - The id (`webhook-id`) is the key of the call: it is the same at each try, so the receiver
///   recognises a repetition.
/// - Each webhook is signed with every secret of its endpoint.
/// - Requests go to public addresses with TLS only, unless [`HttpOptions::reach`] says otherwise.
/// - An answer other than 2xx, and a redirect, are tried again by the [policy](Webhooks::policy).
/// - The answer 410 disables the endpoint in this program, and the process gets
///   [`WebhookRefusal::Gone`]. Let it send a command that notes so for ever, or give the next start
///   the endpoints [of the report](crate::WebhookReport::disabled) by
///   [`without`](Webhooks::without).
pub struct Webhooks {
    exchange: Exchange,
    endpoints: Endpoints,
    disabled: Mutex<BTreeSet<String>>,
}

/// Finds endpoints by their names.
type Endpoints = Box<dyn Fn(&str) -> Option<WebhookEndpoint> + Send + Sync>;

impl Webhooks {
    /// Sends webhooks to these endpoints. The function is asked at each try.
    ///
    /// # Errors
    /// [`GatewaySetupError`] if the client cannot be made.
    pub fn new(
        endpoints: impl Fn(&str) -> Option<WebhookEndpoint> + Send + Sync + 'static,
        options: HttpOptions,
    ) -> Result<Webhooks, GatewaySetupError> {
        let exchange = Exchange::new(options)?;
        Ok(Webhooks { exchange, endpoints: Box::new(endpoints), disabled: Mutex::default() })
    }

    /// Disables these endpoints from the start: those that
    /// [the log knows as disabled](crate::WebhookReport::disabled), so that a restart sends them
    /// nothing.
    #[must_use]
    pub fn without(self, endpoints: impl IntoIterator<Item = String>) -> Webhooks {
        self.disabled.lock().extend(endpoints);
        self
    }

    /// Bounds of requests to public addresses, with little room for answers.
    pub fn options() -> HttpOptions {
        let mut options = HttpOptions::default();
        (options.reach, options.answer_bytes) = (Reach::Public, 64 << 10);
        options
    }

    /// A policy of tries over about four days: the first wait is 5 seconds, and each is twice as
    /// long as the one before, up to a day.
    pub fn policy() -> GatewayOptions {
        let mut policy = GatewayOptions::default().idempotent();
        (policy.first_wait, policy.longest_wait) =
            (Duration::from_secs(5), Duration::from_secs(24 * 60 * 60));
        policy.attempts = 18;
        // One receiver that is away must not hold back the others.
        policy.failures_to_open = u32::MAX;
        policy
    }

    /// The endpoints that are disabled: by their receivers since the start of the program, or from
    /// [its start](Webhooks::without).
    pub fn disabled(&self) -> Vec<String> {
        self.disabled.lock().iter().cloned().collect()
    }

    fn refused(&self, webhook: &Webhook, why: WebhookRefusal, text: &str) -> CallFailure {
        let text = format!("the webhook to {:?} is not delivered: {text}", webhook.endpoint);
        let json = serde_json::to_value(why).unwrap_or_default();
        CallFailure::Refused(ActionRejection::new(text, json))
    }
}

impl Gateway for Webhooks {
    type Call = Webhook;
    type Answer = WebhookDelivery;

    async fn send(&self, webhook: &Webhook, key: &str) -> Result<WebhookDelivery, CallFailure> {
        let refused = |why, text: &str| Err(self.refused(webhook, why, text));
        let found = (self.endpoints)(&webhook.endpoint);
        let Some(endpoint) = found.filter(|endpoint| !endpoint.secrets.is_empty()) else {
            return refused(WebhookRefusal::UnknownEndpoint, "there is no such endpoint");
        };
        if self.disabled.lock().contains(&webhook.endpoint) {
            return refused(WebhookRefusal::Disabled, "its receiver wants no more");
        }
        let url = match checked(&endpoint.url) {
            Ok(url) if self.exchange.reach() == Reach::Anywhere || url.scheme() == "https" => url,
            Ok(_) => return refused(WebhookRefusal::Address, "its address has no TLS"),
            Err(error) => return refused(WebhookRefusal::Address, &error.to_string()),
        };
        let Webhook { event_type, timestamp, data, .. } = webhook;
        let body = Body { event_type, timestamp: *timestamp, data };
        let not_sent = |reason, retry_after| CallFailure::NotSent { reason, retry_after };
        let body = serde_json::to_vec(&body).map_err(|why| not_sent(why.to_string(), None))?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signed = signatures(&endpoint.secrets, key, at, &body);
        let request = self.exchange.client().post(url);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = request.header("webhook-id", key).header("webhook-timestamp", at);
        let request = request.header("webhook-signature", signed).body(body).build();
        let request = request.map_err(|why| not_sent(why.without_url().to_string(), None))?;
        let received = match self.exchange.send(request).await {
            Ok(received) => received,
            Err(CallFailure::Refused(why)) => return refused(WebhookRefusal::Address, &why.text),
            Err(other) => return Err(other),
        };
        let status = received.status.as_u16();
        match status {
            // The rest of the answer says nothing to a sender.
            200..300 => Ok(WebhookDelivery { status }),
            410 => {
                self.disabled.lock().insert(webhook.endpoint.clone());
                refused(WebhookRefusal::Gone, "its receiver wants no more (410)")
            }
            _ => Err(not_sent(received.text(), received.retry_after)),
        }
    }

    /// The receiver recognises a repetition by its id, so it may be sent again.
    async fn reconcile(
        &self,
        _: &Webhook,
        _: &str,
    ) -> Result<Reconciliation<WebhookDelivery>, CallFailure> {
        Ok(Reconciliation::NotDone)
    }

    /// The calls to one endpoint go one after another.
    fn lane(&self, webhook: &Webhook) -> Option<String> {
        Some(webhook.endpoint.clone())
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut webhooks = f.debug_struct("Webhooks");
        webhooks.field("reach", &self.exchange.reach()).field("disabled", &self.disabled());
        webhooks.finish_non_exhaustive()
    }
}
