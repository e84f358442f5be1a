//! Parked letters: triggers that an instance could not take, and the answers of operators.

use std::collections::{BTreeMap, HashMap};

use diptych_store::{
    Append, AppendCondition, AppendError, Filter, FilterItem, Metadata, Position, Read, ReadError,
    Refusal, Store, Timestamp,
};
use serde::Serialize;

use super::{
    actions::Reactions,
    json::number,
    stored::{
        InstanceId, PARKED, ParkingRecord, RELEASED, ReleaseRecord, StoredAnswer, TriggerPlace,
        about, decode, process_tag,
    },
};

/// A trigger before which an instance stands. Later triggers of the instance wait behind it, and
/// are read from the log again when it is answered. Other instances go on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ParkedLetter {
    /// The name under which the log has known the process first.
    pub process: String,
    /// The tag of the instance, such as `order:7`. It is empty if the letter cannot be read.
    pub instance: String,
    /// The position of the trigger.
    #[serde(serialize_with = "number")]
    pub position: Position,
    /// The number among the events that an upcaster makes of the stored one, from 0.
    pub part: u32,
    /// The reason why the instance could not take it.
    pub reason: String,
    /// The position of the event that tells so. It names the letter.
    #[serde(serialize_with = "number")]
    pub parked_at: Position,
    /// When it was parked.
    pub since: Timestamp,
}

/// The answer of an operator to a parked letter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LetterAnswer {
    /// The instance takes the trigger again, by the code of this program.
    Retry,
    /// The trigger is left out: it is neither applied nor reacted to.
    Skip,
    /// The trigger is applied, and these actions stand in place of the reaction.
    Replace(Reactions),
}

/// Why a letter could not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LetterError {
    /// The letter was answered before, at this position.
    #[error("the letter of {instance} was answered at position {at}: list the letters again")]
    Answered {
        /// The instance.
        instance: String,
        /// The position of the answer.
        at: Position,
    },
    /// The letter or the answer cannot be written.
    #[error("the answer cannot be stored: {0}")]
    Malformed(String),
    /// The log cannot be read.
    #[error("the letters cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The answer cannot be appended.
    #[error("the answer cannot be stored: {0}")]
    Append(#[source] AppendError),
}

/// The letters of a process that were not answered, in order of their positions in the log. An
/// instance has one letter: if it was parked again without an answer, the newest one.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn letters(store: &Store, process: &str) -> Result<Vec<ParkedLetter>, ReadError> {
    let head = store.fresh_head().await?;
    let own = FilterItem::everything().or_type(PARKED).or_type(RELEASED);
    let filter = Filter::from(own.and_tag(process_tag(process)));
    let (mut after, mut letters) = (Position::START, BTreeMap::new());
    let mut newest: HashMap<String, Position> = HashMap::new();
    while after < head {
        let batch = store.read(&filter, Read::after(after).upto(head)).await?;
        for event in batch.iter() {
            let (parked_at, since) = (event.position(), event.recorded_at());
            if event.event_type() == RELEASED {
                if let Ok(ReleaseRecord { parked_at, .. }) = decode(&event) {
                    letters.remove(&parked_at);
                }
                continue;
            }
            // A letter that cannot be read must not hide the others.
            let letter = match decode(&event) {
                Ok(ParkingRecord { instance, trigger, reason, .. }) => {
                    let TriggerPlace { position, part } = trigger;
                    let (process, instance) = (process.to_owned(), instance.to_string());
                    if let Some(former) = newest.insert(instance.clone(), parked_at) {
                        letters.remove(&former);
                    }
                    ParkedLetter { process, instance, position, part, reason, parked_at, since }
                }
                Err(error) => ParkedLetter {
                    process: process.to_owned(),
                    instance: String::new(),
                    position: Position::START,
                    part: 0,
                    reason: format!("the letter cannot be read: {error}"),
                    parked_at,
                    since,
                },
            };
            letters.insert(parked_at, letter);
        }
        after = batch.upto();
    }
    Ok(letters.into_values().collect())
}

/// Stores the answer to a letter. Returns its position.
///
/// # Errors
/// [`LetterError`] if the letter was answered before, or the store fails.
pub(super) async fn answer(
    store: &Store,
    process: &str,
    letter: &ParkedLetter,
    answer: LetterAnswer,
    (who, why): (&str, &str),
) -> Result<Position, LetterError> {
    if letter.instance.is_empty() {
        let at = letter.parked_at;
        return Err(LetterError::Malformed(format!(
            "the letter at position {at} cannot be read: use a program as new as the one that \
             wrote it"
        )));
    }
    check_author(who, why)?;
    let answer = match answer {
        LetterAnswer::Retry => StoredAnswer::Retry,
        LetterAnswer::Skip => StoredAnswer::Skip,
        LetterAnswer::Replace(reactions) => {
            StoredAnswer::Replace(reactions.into_actions().map_err(LetterError::Malformed)?)
        }
    };
    let ParkedLetter { position, part, parked_at, .. } = *letter;
    let id = InstanceId { process: process.into(), instance: letter.instance.as_str().into() };
    let record = ReleaseRecord {
        process: id.process.clone(),
        instance: id.instance.clone(),
        parked_at,
        trigger: TriggerPlace { position, part },
        answer,
        who: who.to_owned(),
        why: why.to_owned(),
    };
    let metadata = Metadata { actor: Some(who.into()), ..Metadata::default() };
    let event = about(RELEASED, &id, &record, metadata);
    let event = event.map_err(|error| LetterError::Malformed(error.to_string()))?;
    let fail_if = Filter::from(FilterItem::everything().or_type(RELEASED).and_tag(id.tag()));
    let append = Append::event(event).condition(AppendCondition { fail_if, after: parked_at });
    match store.append(append).await {
        Ok(accepted) => {
            let at = accepted.last;
            let synced = accepted.synced().await;
            synced.map(|_| at).map_err(|error| LetterError::Append(error.into()))
        }
        Err(AppendError::Refused(Refusal::Conflict { at, .. })) => {
            Err(LetterError::Answered { instance: letter.instance.clone(), at })
        }
        Err(error) => Err(LetterError::Append(error)),
    }
}

/// An answer names its author and its reason, because the log keeps it for ever.
///
/// # Errors
/// [`LetterError::Malformed`] if one of them is empty.
pub(super) fn check_author(who: &str, why: &str) -> Result<(), LetterError> {
    match who.trim().is_empty() || why.trim().is_empty() {
        true => Err(LetterError::Malformed("tell who answers, and why".to_owned())),
        false => Ok(()),
    }
}
