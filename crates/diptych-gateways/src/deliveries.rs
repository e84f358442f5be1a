//! The list of the webhooks that went out, or still have to.

use std::collections::BTreeMap;

use diptych::{
    Position, Timestamp,
    process::{
        CallPhase, CallQuestion, GatewayCall, GatewayCallState, OperationError, ProcessOperations,
    },
};

use crate::webhooks::{Webhook, WebhookRefusal, Webhooks};

/// Number of calls of one read.
const PAGE: usize = 1_000;

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
    /// Whether it was refused because the receiver wants no more.
    fn wants_no_more(&self) -> bool {
        matches!(self.refusal(), Some(WebhookRefusal::Gone | WebhookRefusal::Disabled))
    }

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
    /// The endpoints whose receivers want no more, from the whole log: the newest delivery with an
    /// outcome was refused so. It reads the refused calls of this gateway, and answered ones back
    /// to the oldest such refusal.
    ///
    /// # Errors
    /// [`OperationError`] if the log cannot be read.
    pub async fn disabled_in(
        operations: &ProcessOperations,
        gateway: &str,
    ) -> Result<Vec<String>, OperationError> {
        let mut refused: BTreeMap<String, Position> = BTreeMap::new();
        let mut question = CallQuestion::of_gateway(gateway);
        (question.phase, question.most) = (Some(CallPhase::Refused), PAGE);
        loop {
            let calls = operations.calls(&question).await?;
            let Some(last) = calls.last() else { break };
            question.before = Some(last.asked_at);
            for call in calls.into_iter().filter_map(WebhookCall::read) {
                if call.wants_no_more() {
                    refused.entry(call.webhook.endpoint).or_insert(call.asked_at);
                }
            }
        }
        (question.phase, question.before) = (Some(CallPhase::Answered), None);
        while let Some(oldest) = refused.values().min().copied() {
            let calls = operations.calls(&question).await?;
            let Some(last) = calls.last().map(|call| call.asked_at) else { break };
            question.before = Some(last);
            for call in calls.into_iter().filter_map(WebhookCall::read) {
                let endpoint = &call.webhook.endpoint;
                if refused.get(endpoint).is_some_and(|refused_at| call.asked_at > *refused_at) {
                    refused.remove(endpoint);
                }
            }
            if last <= oldest {
                break;
            }
        }
        Ok(refused.into_keys().collect())
    }

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
            let is_disabled = match &call.state {
                _ if call.wants_no_more() => true,
                GatewayCallState::Answered { .. } => false,
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
