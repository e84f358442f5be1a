//! The list of the webhooks that went out, or still have to.

use std::collections::BTreeMap;

use diptych::{
    Position, Timestamp,
    process::{CallQuestion, GatewayCall, GatewayCallState, OperationError, ProcessOperations},
};

use crate::webhooks::{Webhook, WebhookRefusal, Webhooks};

/// The webhooks that a list of calls has, as the log tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WebhookReport {
    /// The deliveries, the newest first.
    pub deliveries: Vec<WebhookCall>,
    /// The endpoints whose receivers want no more, as far as the list goes back: the newest
    /// delivery with an outcome was refused so.
    pub disabled: Vec<String>,
}

/// A delivery of a webhook.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WebhookCall {
    /// The webhook.
    pub webhook: Webhook,
    /// The id that the receiver gets: `webhook-id`.
    pub id: String,
    /// The position of the reaction that asked for it.
    pub asked_at: Position,
    /// When the log recorded that.
    pub since: Timestamp,
    /// The answer, or the tries and the time of the next.
    pub state: GatewayCallState,
}

impl WebhookCall {
    /// The reason why it is not delivered for good, if the gateway refused it.
    pub fn refusal(&self) -> Option<WebhookRefusal> {
        match &self.state {
            GatewayCallState::Refused { rejection, .. } => rejection.read(),
            _ => None,
        }
    }

    fn read(call: GatewayCall) -> Option<WebhookCall> {
        let webhook = serde_json::from_str(&call.call).ok()?;
        let GatewayCall { key: id, asked_at, since, state, .. } = call;
        Some(WebhookCall { webhook, id, asked_at, since, state })
    }
}

impl Webhooks {
    /// The deliveries that the log knows: pending ones with their failed tries and their next,
    /// answered ones, and those that were refused for good. The question names the gateway, as in
    /// `CallQuestion::of_gateway("webhooks")`. Calls that are no webhooks are left out.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such process, or the log cannot be read.
    pub async fn report(
        operations: &ProcessOperations,
        question: &CallQuestion,
    ) -> Result<WebhookReport, OperationError> {
        let calls = operations.calls(question).await?;
        let deliveries: Vec<_> = calls.into_iter().filter_map(WebhookCall::read).collect();
        let mut endpoints: BTreeMap<&str, bool> = BTreeMap::new();
        for call in &deliveries {
            let is_disabled = match (&call.state, call.refusal()) {
                (_, Some(WebhookRefusal::Gone | WebhookRefusal::Disabled)) => true,
                (GatewayCallState::Answered { .. }, _) => false,
                // It says nothing about the wish of the receiver.
                _ => continue,
            };
            endpoints.entry(&call.webhook.endpoint).or_insert(is_disabled);
        }
        let disabled = endpoints.into_iter().filter(|(_, is_disabled)| *is_disabled);
        let disabled = disabled.map(|(endpoint, _)| endpoint.to_owned()).collect();
        Ok(WebhookReport { deliveries, disabled })
    }
}
