//! The work of one reaction, and the record of its outcomes.

use diptych_store::{Append, AppendError, Metadata, Position, Refusal, Store};
use serde_json::Value;

use super::{
    Process,
    command::ActionKey,
    shared::{Interruption, ProcessShared, Waits},
    stored::{InstanceId, ReactionRecord, SETTLED, SettlementRecord, about},
    trigger::{ActionOutcome, ActionRejection},
};
use crate::stored_text::shortened;

/// A reaction with commands or calls.
pub(super) struct Work {
    pub(super) id: InstanceId,
    /// The event that asks for it: the reaction, or that an operator lets a call leave again.
    pub(super) place: Position,
    /// The position of the reaction.
    pub(super) position: Position,
    pub(super) record: ReactionRecord,
    /// The correlation and the count of reactions that its commands carry on.
    pub(super) metadata: Metadata,
    /// Whether another run may have begun it.
    pub(super) is_old: bool,
    /// The only action to carry out, if it is one.
    pub(super) only: Option<u32>,
    /// The number of the first claim of a call.
    pub(super) first_claim: u64,
}

/// The number of bytes that an outcome may have, so that its event fits into the store.
pub(super) fn most_outcome(store: &Store) -> usize {
    store.limits().event_bytes / 4 * 3
}

/// The outcome with a rejection that fits into an event.
fn fitting(outcome: ActionOutcome, most: usize) -> ActionOutcome {
    match outcome {
        ActionOutcome::Rejected(ActionRejection { text, json }) => {
            let bytes = serde_json::to_vec(&json).map_or(usize::MAX, |json| json.len());
            let is_large = text.len().saturating_add(bytes) > most;
            let json = if is_large { Value::Null } else { json };
            let text = if is_large { shortened(text) } else { text };
            ActionOutcome::Rejected(ActionRejection { text, json })
        }
        other => other,
    }
}

/// Stores the outcome of an action, unless it has one. A rejection that does not fit into an event
/// loses its JSON and the end of its text.
pub(super) async fn settle<P: Process>(
    shared: &ProcessShared<P>,
    work: &Work,
    action: u32,
    name: &str,
    key: &ActionKey,
    outcome: ActionOutcome,
) -> Result<(), Interruption> {
    let record = SettlementRecord {
        process: work.id.process.clone(),
        instance: work.id.instance.clone(),
        reaction: work.position,
        action,
        name: name.to_owned(),
        outcome: fitting(outcome, most_outcome(shared.reader.store())),
    };
    let event = about(SETTLED, &work.id, &record, work.metadata.clone())?;
    let (mut waits, mut had_trouble) = (Waits::new(&shared.options), false);
    let stopped = loop {
        let append = Append::event(event.clone()).key(key.of_settled());
        let stored = match shared.reader.store().append(append).await {
            Ok(accepted) => match accepted.synced().await {
                Ok(_) => break None,
                Err(error) => error.cause.into(),
            },
            // Another program settled it, or committed the events of the command.
            Err(AppendError::Refused(Refusal::KeyTaken { .. } | Refusal::KeyReused { .. })) => {
                break None;
            }
            Err(error) => error.into(),
        };
        // The outcome would be lost with this work, so it waits for the store here.
        let Interruption::Later(reason) = stored else { break Some(stored) };
        had_trouble = true;
        shared.status.trouble(&work.id.instance, Some(reason));
        waits.wait().await;
    };
    if had_trouble {
        shared.status.trouble(&work.id.instance, None);
    }
    stopped.map_or(Ok(()), Err)
}
