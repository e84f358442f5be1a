//! Facts for a trace that single events tell.

use diptych_store::{EventRef, Metadata, Position, ReadError, Store};
use serde_json::Value;

use super::{
    stored::{
        CALL_RESENT, CALL_STARTED, CALL_UNKNOWN, FiringRecord, PARKED, ParkingRecord, REACTED,
        RELEASED, ReactionRecord, ReleaseRecord, ResentCall, SETTLED, SettlementRecord,
        StartedCall, TIMER_FIRED, UnknownCall, WHY, decode,
    },
    trace::{OperatorAnswer, OperatorNote, StepKind},
};
use crate::collaboration::{IntakeAnswer, keeps_parked, parked_in};

/// The cause that an event of processes names in itself.
pub(super) fn cause_in(event: &EventRef<'_>) -> Option<Position> {
    match event.event_type() {
        REACTED => decode(event).ok().map(|record: ReactionRecord| record.trigger.position),
        TIMER_FIRED => decode(event).ok().map(|record: FiringRecord| record.set_at),
        SETTLED => decode(event).ok().map(|record: SettlementRecord| record.reaction),
        CALL_STARTED => decode(event).ok().map(|record: StartedCall| record.reaction),
        CALL_UNKNOWN => decode(event).ok().map(|record: UnknownCall| record.reaction),
        CALL_RESENT => decode(event).ok().map(|record: ResentCall| record.reaction),
        PARKED => decode(event).ok().map(|record: ParkingRecord| record.trigger.position),
        RELEASED => decode(event).ok().map(|record: ReleaseRecord| record.parked_at),
        _ => None,
    }
}

/// The operator who gave an answer, if one did.
pub(super) fn operator(metadata: Metadata) -> Option<OperatorNote> {
    let why = metadata.extra.get(WHY)?.as_str().to_owned();
    let who = metadata.actor?.as_str().to_owned();
    Some(OperatorNote { who, why })
}

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The published event that an event of an intake keeps, because it was parked.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn foreign_parked(
    store: &Store,
    event: &EventRef<'_>,
) -> Result<Option<StepKind>, ReadError> {
    if !keeps_parked(event.event_type()) {
        return Ok(None);
    }
    let parked = parked_in(store, event).await?;
    Ok(parked.map(|parked| {
        let (answered_at, answer, by) = match parked.answer {
            Some(given) => {
                let by = OperatorNote { who: given.who, why: given.why };
                let answer = match given.answer {
                    IntakeAnswer::Retry => OperatorAnswer::Retry,
                    IntakeAnswer::Skip => OperatorAnswer::Skip,
                    IntakeAnswer::Replace(_) => OperatorAnswer::Replace,
                };
                (Some(given.at), Some(answer), Some(by))
            }
            None => (None, None, None),
        };
        StepKind::ForeignParked {
            intake: parked.intake,
            subject: parked.subject,
            event_type: parked.event_type,
            position: event.position(),
            reason: parked.reason,
            origin: parked.origin,
            answered_at,
            answer,
            by,
        }
    }))
}
