//! The work of one reaction, and the record of its outcomes.

use diptych_store::{Append, AppendError, Metadata, Position, Refusal};

use super::{
    Process,
    command::ActionKey,
    shared::{Interruption, ProcessShared},
    stored::{InstanceId, ReactionRecord, SETTLED, SettlementRecord, about},
    trigger::ActionOutcome,
};

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

/// Stores the outcome of an action, unless it has one.
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
        outcome,
    };
    let event = about(SETTLED, &work.id, &record, work.metadata.clone())?;
    match shared.reader.store().append(Append::event(event).key(key.of_settled())).await {
        Ok(accepted) => match accepted.synced().await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.cause.into()),
        },
        // Another program settled it, or committed the events of the command.
        Err(AppendError::Refused(Refusal::KeyTaken { .. } | Refusal::KeyReused { .. })) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
