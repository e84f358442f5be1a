//! All calls of gateways that processes asked for, each with its outcome.

use std::collections::HashMap;

use diptych_store::{
    EventRef, Filter, FilterItem, LogId, Position, Read, ReadError, Store, Timestamp,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    actions::Action,
    command::ActionKey,
    entry::{CallTries, Gateways},
    json::number,
    stored::{
        CALL_RESENT, CALL_UNKNOWN, REACTED, ReactionRecord, ResentCall, SETTLED, SettlementRecord,
        UnknownCall, decode, process_tag,
    },
    trigger::{ActionOutcome, ActionRejection},
};

/// A call of a gateway, such as the delivery of a webhook, as the log tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GatewayCall {
    /// The name under which the log has known the process first.
    pub process: String,
    /// The tag of the instance, such as `order:7`.
    pub instance: String,
    /// The name of the gateway.
    pub gateway: String,
    /// The call as JSON.
    pub call: String,
    /// The key of the call, as the system outside knows it: the `webhook-id` of a webhook.
    pub key: String,
    /// The position of the reaction that asked for it.
    #[serde(serialize_with = "number")]
    pub asked_at: Position,
    /// When the log recorded that.
    pub since: Timestamp,
    /// Its outcome, if it has one.
    pub state: GatewayCallState,
}

/// The outcome of a call, as the log tells, and its tries, as this program knows them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
#[non_exhaustive]
pub enum GatewayCallState {
    /// It has no outcome yet.
    Pending {
        /// The tries that failed in this run of this program. Absent if none has, or if another
        /// program makes the call.
        #[serde(skip_serializing_if = "Option::is_none")]
        tries: Option<CallTries>,
    },
    /// It waits for an operator.
    Waiting {
        /// The reason.
        reason: String,
        /// The position of the event that lists it. It names the call to
        /// [`waiting_calls`](super::ProcessOperations::waiting_calls).
        #[serde(serialize_with = "number")]
        listed_at: Position,
    },
    /// The system outside answered.
    Answered {
        /// The answer as JSON.
        answer: Value,
        /// When the log recorded the answer.
        at: Timestamp,
    },
    /// The system outside refused it for good, or an operator did.
    Refused {
        /// The refusal.
        rejection: ActionRejection,
        /// When the log recorded the refusal.
        at: Timestamp,
    },
    /// It was not sent, because its trigger was too old for the gateway.
    Withheld {
        /// When the log recorded that.
        at: Timestamp,
    },
}

/// A kind of [`GatewayCallState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallPhase {
    /// Calls without an outcome.
    Pending,
    /// Calls that wait for an operator.
    Waiting,
    /// Calls that were answered.
    Answered,
    /// Calls that were refused.
    Refused,
    /// Calls that were not sent.
    Withheld,
}

/// Which calls a list has. The default is the newest hundred of all gateways.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallQuestion {
    /// Only those of this process.
    pub process: Option<String>,
    /// Only those of this gateway.
    pub gateway: Option<String>,
    /// Only those in this state.
    pub phase: Option<CallPhase>,
    /// Only those that were asked for before this position: the place where an earlier list ended.
    pub before: Option<Position>,
    /// Maximum number of calls. The calls of one reaction stay together, so there may be a few
    /// more.
    pub most: usize,
}

impl Default for CallQuestion {
    fn default() -> CallQuestion {
        CallQuestion { process: None, gateway: None, phase: None, before: None, most: 100 }
    }
}

impl CallQuestion {
    /// The calls of this gateway.
    pub fn of_gateway(name: impl Into<String>) -> CallQuestion {
        CallQuestion { gateway: Some(name.into()), ..CallQuestion::default() }
    }

    fn takes(&self, call: &GatewayCall) -> bool {
        let is_early = self.before.is_none_or(|before| call.asked_at < before);
        is_early && self.phase.is_none_or(|phase| phase == call.state.phase())
    }
}

impl GatewayCallState {
    /// The kind of the state.
    pub fn phase(&self) -> CallPhase {
        match self {
            GatewayCallState::Pending { .. } => CallPhase::Pending,
            GatewayCallState::Waiting { .. } => CallPhase::Waiting,
            GatewayCallState::Answered { .. } => CallPhase::Answered,
            GatewayCallState::Refused { .. } => CallPhase::Refused,
            GatewayCallState::Withheld { .. } => CallPhase::Withheld,
        }
    }
}

/// The newest event about an action that has been met on the way back through the log.
type LaterStates = HashMap<(Position, u32), GatewayCallState>;

/// The calls of a process, the newest first. It reads the events of the process from the end of
/// the log, until it has found enough.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn calls(
    store: &Store,
    gateways: &Gateways,
    process: &str,
    question: &CallQuestion,
) -> Result<Vec<GatewayCall>, ReadError> {
    let own = [REACTED, SETTLED, CALL_UNKNOWN, CALL_RESENT];
    let own = own.into_iter().fold(FilterItem::everything(), FilterItem::or_type);
    let filter = Filter::from(own.and_tag(process_tag(process)));
    let (log, mut upto) = (store.identity().id, store.fresh_head().await?);
    let (mut later, mut found) = (LaterStates::new(), Vec::new());
    while upto > Position::START && found.len() < question.most {
        let batch = store.read(&filter, Read::backwards().upto(upto)).await?;
        for event in batch.iter() {
            if event.event_type() != REACTED {
                note_state(&mut later, &event);
                continue;
            }
            // A reaction that a newer program wrote hides no other.
            let Ok(record) = decode::<ReactionRecord>(&event) else { continue };
            if *record.process == *process {
                let calls = calls_of(&record, &event, (log, gateways), question, &mut later);
                found.extend(calls.into_iter().filter(|call| question.takes(call)));
            }
        }
        upto = batch.upto().before();
    }
    cut(&mut found, question.most);
    Ok(found)
}

/// Leaves this number of calls, and the others of the last one's reaction: the next list begins
/// before their position.
pub(super) fn cut(calls: &mut Vec<GatewayCall>, most: usize) {
    let last = most.checked_sub(1).and_then(|last| calls.get(last));
    let last = last.map(|call| call.asked_at);
    let rest = calls.iter().skip(most).take_while(|call| Some(call.asked_at) == last).count();
    calls.truncate(most.saturating_add(rest));
}

/// Keeps the state that an event tells about a call, unless a later event told another one.
fn note_state(later: &mut LaterStates, event: &EventRef<'_>) {
    let noted = match event.event_type() {
        CALL_UNKNOWN => decode::<UnknownCall>(event).map(|record| {
            let (reason, listed_at) = (record.reason, event.position());
            let state = GatewayCallState::Waiting { reason, listed_at };
            (record.reaction, record.action, state)
        }),
        CALL_RESENT => decode::<ResentCall>(event).map(|record| {
            let state = GatewayCallState::Pending { tries: None };
            (record.reaction, record.action, state)
        }),
        _ => decode::<SettlementRecord>(event).map(|record| {
            let at = event.recorded_at();
            let state = match record.outcome {
                ActionOutcome::Answered(answer) => GatewayCallState::Answered { answer, at },
                ActionOutcome::Rejected(rejection) => GatewayCallState::Refused { rejection, at },
                ActionOutcome::Withheld => GatewayCallState::Withheld { at },
                // Only a command has nothing to do.
                ActionOutcome::NothingToDo => {
                    GatewayCallState::Answered { answer: Value::Null, at }
                }
            };
            (record.reaction, record.action, state)
        }),
    };
    if let Ok((reaction, action, state)) = noted {
        later.entry((reaction, action)).or_insert(state);
    }
}

/// The calls of a reaction, the last one first.
fn calls_of(
    record: &ReactionRecord,
    event: &EventRef<'_>,
    (log, gateways): (LogId, &Gateways),
    question: &CallQuestion,
    later: &mut LaterStates,
) -> Vec<GatewayCall> {
    let (id, asked_at) = (record.id(), event.position());
    let mut calls = Vec::new();
    for (action, number) in record.actions.iter().zip(0_u32..) {
        // The outcomes of commands are dropped here, too.
        let state = later.remove(&(asked_at, number));
        let Action::Call { gateway, body } = action else { continue };
        if question.gateway.as_ref().is_some_and(|only| only != gateway) {
            continue;
        }
        let trigger = record.trigger;
        let key = ActionKey::new(&id, trigger.position.get(), trigger.part, number).outside(log);
        let state = match state {
            None | Some(GatewayCallState::Pending { .. }) => {
                GatewayCallState::Pending { tries: gateways.tries(gateway, &key) }
            }
            Some(state) => state,
        };
        calls.push(GatewayCall {
            process: id.process.to_string(),
            instance: id.instance.to_string(),
            gateway: gateway.clone(),
            call: body.clone(),
            key,
            asked_at,
            since: event.recorded_at(),
            state,
        });
    }
    calls.reverse();
    calls
}
