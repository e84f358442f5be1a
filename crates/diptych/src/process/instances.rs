//! The instances of a process and their pending timers, as the log tells.

use std::collections::{HashMap, HashSet};

use diptych_store::{EventRef, Filter, FilterItem, Position, Read, ReadError, Store, Timestamp};
use serde::Serialize;

use super::{
    actions::Action,
    json::number,
    stored::{
        CALL_RESENT, CALL_STARTED, CALL_UNKNOWN, FiringRecord, InstanceId, PARKED, ParkingRecord,
        REACTED, RELEASED, ReactionRecord, ReleaseRecord, ResentCall, SETTLED, SettlementRecord,
        StartedCall, TIMER_FIRED, UnknownCall, decode, process_tag, timers_tag,
    },
};

/// An instance of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProcessInstance {
    /// The name under which the log has known the process first.
    pub process: String,
    /// The tag of the instance, such as `order:7`.
    pub instance: String,
    /// The position of its newest event of the process: a reaction, or the outcome of an action.
    #[serde(serialize_with = "number")]
    pub position: Position,
    /// When the log recorded that event.
    pub at: Timestamp,
    /// Whether it ended, and reacts no more.
    pub is_ended: bool,
    /// Whether it stands before a trigger that it cannot take.
    pub is_parked: bool,
}

/// A timer that has not fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WaitingTimer {
    /// The name under which the log has known the process first.
    pub process: String,
    /// The tag of the instance, such as `order:7`.
    pub instance: String,
    /// The name of the timer in its instance.
    pub timer: String,
    /// The instant from which it fires.
    pub due: Timestamp,
    /// The position of the reaction that set it.
    #[serde(serialize_with = "number")]
    pub set_at: Position,
}

/// The pending timers of a process, the first due first, at most `most`, and the number of all.
/// It reads all timer events of the process.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn timers(
    store: &Store,
    process: &str,
    most: usize,
) -> Result<(Vec<WaitingTimer>, usize), ReadError> {
    let head = store.fresh_head().await?;
    let (filter, mut after) = (Filter::tag(timers_tag(process)), Position::START);
    let mut pending = HashMap::new();
    while after < head {
        let batch = store.read(&filter, Read::after(after).upto(head)).await?;
        for event in batch.iter() {
            if event.event_type() == TIMER_FIRED {
                if let Ok(FiringRecord { process, instance, timer, set_at, .. }) = decode(&event) {
                    let id = InstanceId { process, instance };
                    let timer = id.timer(&timer);
                    if pending.get(&timer).is_some_and(|(_, _, at, _)| *at == set_at) {
                        pending.remove(&timer);
                    }
                }
                continue;
            }
            // A reaction that a newer program wrote hides no other.
            let Ok(record) = decode::<ReactionRecord>(&event) else { continue };
            let (id, set_at) = (record.id(), event.position());
            for (action, number) in record.actions.iter().zip(0_u32..) {
                match action {
                    Action::SetTimer { timer, due, .. } => {
                        let place = (*due, id.instance.clone(), set_at, number);
                        pending.insert(id.timer(timer), place);
                    }
                    Action::CancelTimer { timer } => drop(pending.remove(&id.timer(timer))),
                    _ => {}
                }
            }
        }
        after = batch.upto();
    }
    let count = pending.len();
    let mut due: Vec<_> = pending.into_values().collect();
    due.sort_unstable_by_key(|(due, _, set_at, number)| (*due, *set_at, *number));
    due.truncate(most);
    let mut timers = Vec::with_capacity(due.len());
    for (due, instance, set_at, number) in due {
        let batch = store.read(&filter, super::worklist::only(set_at)).await?;
        let record = batch.get(0).and_then(|event| decode::<ReactionRecord>(&event).ok());
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let action = record.as_ref().and_then(|record| record.actions.get(number));
        let Some(Action::SetTimer { timer, .. }) = action else { continue };
        let (process, instance) = (process.to_owned(), instance.to_string());
        timers.push(WaitingTimer { process, instance, timer: timer.clone(), due, set_at });
    }
    Ok((timers, count))
}

/// The instances of a process whose newest events are the newest, at most `most`. It reads the
/// events of the process from the end, until it has found that many instances.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn instances(
    store: &Store,
    process: &str,
    most: usize,
) -> Result<Vec<ProcessInstance>, ReadError> {
    let filter = Filter::tag(process_tag(process));
    let mut upto = store.fresh_head().await?;
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    'log: while upto > Position::START {
        let batch = store.read(&filter, Read::backwards().upto(upto)).await?;
        for event in batch.iter() {
            let Some(id) = instance_of(&event) else { continue };
            if *id.process != *process || !seen.insert(id.clone()) {
                continue;
            }
            found.push((id, event.position(), event.recorded_at()));
            if found.len() >= most {
                break 'log;
            }
        }
        upto = batch.upto().before();
    }
    let mut instances = Vec::with_capacity(found.len());
    for (id, position, at) in found {
        let last = last_of(store, &id, &[REACTED]).await?;
        let record = last.and_then(|batch| decode::<ReactionRecord>(&batch.get(0)?).ok());
        let is_ended = record.is_some_and(|record| record.actions.contains(&Action::End));
        let last = last_of(store, &id, &[PARKED, RELEASED]).await?;
        let is_parked = last
            .is_some_and(|batch| batch.get(0).is_some_and(|event| event.event_type() == PARKED));
        instances.push(ProcessInstance {
            process: process.to_owned(),
            instance: id.instance.to_string(),
            position,
            at,
            is_ended,
            is_parked,
        });
    }
    Ok(instances)
}

/// The newest event of these types about an instance, if there is one.
pub(super) async fn last_of(
    store: &Store,
    id: &InstanceId,
    types: &[&'static str],
) -> Result<Option<diptych_store::Batch>, ReadError> {
    let item = types.iter().copied().fold(FilterItem::everything(), FilterItem::or_type);
    let filter = Filter::from(item.and_tag(id.tag()));
    let mut upto = store.fresh_head().await?;
    while upto > Position::START {
        let batch = store.read(&filter, Read::backwards().upto(upto).limit(1)).await?;
        if !batch.is_empty() {
            return Ok(Some(batch));
        }
        upto = batch.upto().before();
    }
    Ok(None)
}

/// The instance that an event of processes is about.
fn instance_of(event: &EventRef<'_>) -> Option<InstanceId> {
    let (process, instance) = match event.event_type() {
        REACTED => {
            decode(event).map(|ReactionRecord { process, instance, .. }| (process, instance))
        }
        TIMER_FIRED => {
            decode(event).map(|FiringRecord { process, instance, .. }| (process, instance))
        }
        SETTLED => {
            decode(event).map(|SettlementRecord { process, instance, .. }| (process, instance))
        }
        CALL_STARTED => {
            decode(event).map(|StartedCall { process, instance, .. }| (process, instance))
        }
        CALL_UNKNOWN => {
            decode(event).map(|UnknownCall { process, instance, .. }| (process, instance))
        }
        CALL_RESENT => {
            decode(event).map(|ResentCall { process, instance, .. }| (process, instance))
        }
        PARKED => decode(event).map(|ParkingRecord { process, instance, .. }| (process, instance)),
        RELEASED => {
            decode(event).map(|ReleaseRecord { process, instance, .. }| (process, instance))
        }
        _ => return None,
    }
    .ok()?;
    Some(InstanceId { process, instance })
}
