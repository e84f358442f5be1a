//! The calls that wait for an operator, and the answers to them.

use std::collections::BTreeMap;

use diptych_store::{
    Append, AppendError, Digest, Filter, FilterItem, Key, Metadata, Position, Read, ReadError,
    Refusal, Store, Timestamp,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    command::ActionKey,
    json::number,
    letter::{LetterError, check_author},
    stored::{
        CALL_RESENT, CALL_UNKNOWN, InstanceId, ReactionRecord, ResentCall, SETTLED,
        SettlementRecord, UnknownCall, about, decode, process_tag,
    },
    trigger::{ActionOutcome, ActionRejection},
};

/// A call of a gateway that needs an operator: it may have been sent, or each try of it failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WaitingCall {
    /// The name under which the log has known the process first.
    pub process: String,
    /// The tag of the instance, such as `order:7`. It is empty if the event that lists the
    /// call cannot be read.
    pub instance: String,
    /// The name of the gateway.
    pub gateway: String,
    /// The call as JSON.
    pub call: String,
    /// The key of the call, as the system outside knows it.
    pub key: String,
    /// The reason why it waits.
    pub reason: String,
    /// The position of the event that lists it. It names the call.
    #[serde(serialize_with = "number")]
    pub listed_at: Position,
    /// When it was listed.
    pub since: Timestamp,
    #[serde(skip)]
    pub(super) record: Option<UnknownCall>,
    /// The key of the action in the log.
    #[serde(skip)]
    pub(super) action_key: String,
}

/// The answer of an operator to a waiting call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CallAnswer {
    /// The call was made, and this is its answer.
    Answered(Value),
    /// The call was not made, and is not to be made. The process gets the refusal.
    Refused(ActionRejection),
    /// The call is sent again.
    SendAgain,
}

/// The calls of a process that wait, in the order in which they were listed.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn waiting_calls(
    store: &Store,
    process: &str,
) -> Result<Vec<WaitingCall>, ReadError> {
    let head = store.fresh_head().await?;
    let own = FilterItem::everything().or_type(CALL_UNKNOWN).or_type(CALL_RESENT);
    let own = own.or_type(SETTLED).and_tag(process_tag(process));
    let (filter, mut after) = (Filter::from(own), Position::START);
    let (mut waiting, mut calls) = (BTreeMap::new(), Vec::new());
    while after < head {
        let batch = store.read(&filter, Read::after(after).upto(head)).await?;
        for event in batch.iter() {
            let (at, since) = (event.position(), event.recorded_at());
            match event.event_type() {
                CALL_UNKNOWN => match decode::<UnknownCall>(&event) {
                    Ok(record) => {
                        waiting.insert((record.reaction, record.action), (record, at, since));
                    }
                    // A call that cannot be read must not hide the others.
                    Err(error) => calls.push(WaitingCall {
                        process: process.to_owned(),
                        instance: String::new(),
                        gateway: String::new(),
                        call: String::new(),
                        key: String::new(),
                        reason: format!("the entry cannot be read: {error}"),
                        listed_at: at,
                        since,
                        record: None,
                        action_key: String::new(),
                    }),
                },
                CALL_RESENT => {
                    if let Ok(ResentCall { reaction, action, .. }) = decode(&event) {
                        waiting.remove(&(reaction, action));
                    }
                }
                _ => {
                    if let Ok(SettlementRecord { reaction, action, .. }) = decode(&event) {
                        waiting.remove(&(reaction, action));
                    }
                }
            }
        }
        after = batch.upto();
    }
    for (record, listed_at, since) in waiting.into_values() {
        let id = InstanceId { process: record.process.clone(), instance: record.instance.clone() };
        let reaction = reaction_at(store, record.reaction).await?;
        let (call, key, action_key) = match &reaction {
            Some(reaction) => {
                let trigger = reaction.trigger;
                let number = usize::try_from(record.action).unwrap_or(usize::MAX);
                let call = reaction.actions.get(number).and_then(|action| action.call());
                let position = trigger.position.get();
                let key = ActionKey::new(&id, position, trigger.part, record.action);
                let outside = key.outside(store.identity().id);
                (call.unwrap_or_default().to_owned(), outside, key.name().to_owned())
            }
            None => (String::new(), String::new(), String::new()),
        };
        calls.push(WaitingCall {
            process: process.to_owned(),
            instance: record.instance.to_string(),
            gateway: record.gateway.clone(),
            call,
            key,
            reason: record.reason.clone(),
            listed_at,
            since,
            record: Some(record),
            action_key,
        });
    }
    calls.sort_by_key(|call| call.listed_at);
    Ok(calls)
}

/// The reaction at this position, if it can be read.
pub(super) async fn reaction_at(
    store: &Store,
    at: Position,
) -> Result<Option<ReactionRecord>, ReadError> {
    let batch = store.read(&Filter::everything(), only(at)).await?;
    Ok(batch.get(0).and_then(|event| decode(&event).ok()))
}

/// Reads the event at this position.
pub(super) fn only(at: Position) -> Read {
    Read::after(at.before()).upto(at).limit(1)
}

/// The name of the key under which an operator lets a call leave again after this claim.
pub(super) fn resent_name(key: &str, claim: u64) -> String {
    format!("{key}:resent:{claim}")
}

/// Stores the answer to a waiting call. Returns its position.
///
/// # Errors
/// [`LetterError`] if the call has an answer, or the store fails.
pub(super) async fn answer_call(
    store: &Store,
    call: &WaitingCall,
    answer: CallAnswer,
    (who, why): (&str, &str),
) -> Result<Position, LetterError> {
    let Some(record) = &call.record else {
        let at = call.listed_at;
        return Err(LetterError::Malformed(format!(
            "the call at position {at} cannot be read: use a program as new as the one that \
             wrote it"
        )));
    };
    check_author(who, why)?;
    let UnknownCall { process, instance, reaction, action, gateway, claim, .. } = record;
    let id = InstanceId { process: process.clone(), instance: instance.clone() };
    // The answer belongs to the flow of the call.
    let listed = store.read(&Filter::everything(), only(call.listed_at)).await?;
    let listed = listed.get(0).map_or_else(Metadata::default, |event| event.metadata());
    let mut metadata = Metadata { actor: Some(who.into()), ..listed };
    metadata.extra.insert(super::stored::WHY.into(), why.into());
    let outcome = match answer {
        CallAnswer::SendAgain => None,
        CallAnswer::Answered(answer) => Some(ActionOutcome::Answered(answer)),
        CallAnswer::Refused(rejection) => Some(ActionOutcome::Rejected(rejection)),
    };
    let (event, key) = match outcome {
        Some(outcome) => {
            let record = SettlementRecord {
                process: process.clone(),
                instance: instance.clone(),
                reaction: *reaction,
                action: *action,
                name: gateway.clone(),
                outcome,
            };
            // An action is settled once, by an operator or by a program.
            let key = Key::new(&call.action_key, ActionKey::settled_digest());
            (about(SETTLED, &id, &record, metadata), key)
        }
        None => {
            let record = ResentCall {
                process: process.clone(),
                instance: instance.clone(),
                reaction: *reaction,
                action: *action,
                claim: claim + 1,
            };
            let name = resent_name(&call.action_key, *claim);
            let key = Key::new(name, Digest::of(b"resent"));
            (about(CALL_RESENT, &id, &record, metadata), key)
        }
    };
    let event = event.map_err(|error| LetterError::Malformed(error.to_string()))?;
    match store.append(Append::event(event).key(key)).await {
        Ok(accepted) => {
            let at = accepted.last;
            let synced = accepted.synced().await;
            synced.map(|_| at).map_err(|error| LetterError::Append(error.into()))
        }
        Err(AppendError::Refused(
            Refusal::KeyTaken { last, .. } | Refusal::KeyReused { last, .. },
        )) => Err(LetterError::Answered { instance: call.instance.clone(), at: last }),
        Err(error) => Err(LetterError::Append(error)),
    }
}
