//! Published events that could not be taken in, and those that wait behind them.

use std::collections::{BTreeMap, VecDeque};

use diptych_store::{
    Append, AppendCondition, AppendError, EventRef, Filter, FilterItem, Metadata, Position, Read,
    ReadError, Refusal, Store, Timestamp,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    cloud_event::CloudEvent,
    stored::{
        ANSWERED, AnsweredRecord, PARKED, ParkedRecord, RESUMED, ResumedRecord, StoredIntakeAnswer,
        decode, intake_tag, record,
    },
};
use crate::event::SchemaError;

/// Number of answers that are read at once.
const ANSWERS: usize = 64;

/// A published event that could not be taken in. Later events of its subject wait behind it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ParkedForeignEvent {
    /// The name under which the log keeps the place of the intake.
    pub intake: String,
    /// The subject, such as `order:7`. It is empty for an event without a subject.
    pub subject: String,
    /// The reason, or why the copy cannot be read.
    pub reason: String,
    /// The number of events that wait behind it.
    pub waiting: usize,
    /// The event, as it came. `None` if its copy in this log cannot be read, because a newer
    /// program wrote it or it is damaged. Such a letter takes no answer.
    pub event: Option<CloudEvent>,
    /// The position in this log of the event that keeps it.
    #[serde(serialize_with = "number")]
    pub parked_at: Position,
    /// When it was parked.
    pub since: Timestamp,
}

/// The answer of an operator to a parked event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntakeAnswer {
    /// The intake translates it again, by the code of this program.
    Retry,
    /// It is left out.
    Skip,
    /// It is taken in with this payload instead of its own.
    Replace(Value),
}

/// A published event that waits.
pub(super) struct WaitingForeignEvent {
    pub(super) at: Position,
    pub(super) since: Timestamp,
    /// The reason; `None` if it only waits behind another one.
    pub(super) reason: Option<String>,
    pub(super) event: CloudEvent,
}

/// The events of an intake that wait, by subject, and the answers that were not followed yet.
#[derive(Default)]
pub(super) struct WaitingSubjects {
    subjects: BTreeMap<String, VecDeque<WaitingForeignEvent>>,
    answered: BTreeMap<String, StoredIntakeAnswer>,
    waiting: usize,
    /// Everything up to here in this log was considered.
    pub(super) upto: Position,
    /// Events about the intake that cannot be read. They hide no others.
    unreadable: Vec<(Position, String)>,
    /// Those of them that keep a published event.
    unreadable_letters: Vec<UnreadableLetter>,
}

/// A published event that waits, and whose copy cannot be read.
struct UnreadableLetter {
    at: Position,
    since: Timestamp,
    /// The subject, if this part of the copy can be read, or an answer names it.
    subject: Option<String>,
    reason: String,
}

impl UnreadableLetter {
    fn new(event: &EventRef<'_>, error: &SchemaError) -> UnreadableLetter {
        let copy = serde_json::from_slice::<Value>(event.payload()).unwrap_or_default();
        UnreadableLetter {
            at: event.position(),
            since: event.recorded_at(),
            subject: copy.get("subject").and_then(Value::as_str).map(str::to_owned),
            reason: format!("the parked event cannot be read: {error}"),
        }
    }
}

impl WaitingSubjects {
    pub(super) fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// The number of events that wait.
    pub(super) fn count(&self) -> usize {
        self.waiting
    }

    pub(super) fn holds(&self, subject: &str) -> bool {
        self.subjects.contains_key(subject)
    }

    /// Reads what was added to the log since.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub(super) async fn catch_up(&mut self, store: &Store, intake: &str) -> Result<(), ReadError> {
        let head = store.fresh_head().await?;
        let about = [PARKED, ANSWERED, RESUMED].into_iter();
        let about = about.fold(FilterItem::everything(), FilterItem::or_type);
        let filter = Filter::from(about.and_tag(intake_tag(intake)));
        while self.upto < head {
            let batch = store.read(&filter, Read::after(self.upto).upto(head)).await?;
            for event in batch.iter() {
                let Err(error) = self.apply(&event) else { continue };
                if event.event_type() == PARKED {
                    self.unreadable_letters.push(UnreadableLetter::new(&event, &error));
                }
                self.unreadable.push((event.position(), error.to_string()));
            }
            self.upto = batch.upto();
        }
        Ok(())
    }

    fn apply(&mut self, event: &EventRef<'_>) -> Result<(), SchemaError> {
        match event.event_type() {
            PARKED => {
                let ParkedRecord { subject, reason, event: waiting, .. } = decode(event)?;
                let (at, since) = (event.position(), event.recorded_at());
                let waiting = WaitingForeignEvent { at, since, reason, event: waiting };
                self.subjects.entry(subject).or_default().push_back(waiting);
                self.waiting += 1;
            }
            ANSWERED => {
                let AnsweredRecord { subject, parked_at, answer, .. } = decode(event)?;
                let mut unreadable = self.unreadable_letters.iter_mut();
                if let Some(letter) = unreadable.find(|letter| letter.at.get() == parked_at) {
                    letter.subject = Some(subject);
                    return Ok(());
                }
                let first = self.subjects.get(&subject).and_then(VecDeque::front);
                if first.is_some_and(|first| first.at.get() == parked_at) {
                    self.answered.insert(subject, answer);
                }
            }
            RESUMED => {
                let ResumedRecord { subject, upto, reason, goes_on, .. } = decode(event)?;
                self.answered.remove(&subject);
                self.unreadable_letters.retain(|letter| {
                    letter.subject.as_ref() != Some(&subject)
                        || upto.is_none_or(|upto| letter.at.get() > upto)
                });
                let Some(waiting) = self.subjects.get_mut(&subject) else { return Ok(()) };
                let before = waiting.len();
                waiting.retain(|event| upto.is_none_or(|upto| event.at.get() > upto));
                self.waiting -= before - waiting.len();
                match waiting.front_mut() {
                    Some(first) => {
                        first.reason = reason.or(first.reason.take());
                        if goes_on {
                            self.answered.insert(subject, StoredIntakeAnswer::Retry);
                        }
                    }
                    None => drop(self.subjects.remove(&subject)),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A subject whose first event was answered, with the answer.
    pub(super) fn next_answered(&self) -> Option<(String, StoredIntakeAnswer)> {
        self.answered.iter().next().map(|(subject, answer)| (subject.clone(), answer.clone()))
    }

    pub(super) fn of_subject(&self, subject: &str) -> impl Iterator<Item = &WaitingForeignEvent> {
        self.subjects.get(subject).into_iter().flatten()
    }

    /// The first event of each subject, and those that cannot be read, in the order in which they
    /// were parked.
    pub(super) fn parked(&self, intake: &str) -> Vec<ParkedForeignEvent> {
        let first = self.subjects.iter().filter_map(|(subject, waiting)| {
            let first = waiting.front()?;
            Some(ParkedForeignEvent {
                intake: intake.to_owned(),
                subject: subject.clone(),
                reason: first.reason.clone().unwrap_or_default(),
                waiting: waiting.len() - 1,
                event: Some(first.event.clone()),
                parked_at: first.at,
                since: first.since,
            })
        });
        let unreadable = self.unreadable_letters.iter().map(|letter| ParkedForeignEvent {
            intake: intake.to_owned(),
            subject: letter.subject.clone().unwrap_or_default(),
            reason: letter.reason.clone(),
            waiting: 0,
            event: None,
            parked_at: letter.at,
            since: letter.since,
        });
        let mut parked: Vec<_> = first.chain(unreadable).collect();
        parked.sort_by_key(|parked| parked.parked_at);
        parked
    }

    /// Events about the intake that cannot be read, each with its position and the reason.
    pub(super) fn unreadable(&self) -> &[(Position, String)] {
        &self.unreadable
    }
}

fn number<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    position.get().serialize(serializer)
}

/// Why a parked event could not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeAnswerError {
    /// It was answered before.
    #[error(
        "the event of {subject:?} that was parked at position {parked_at} was answered before: \
         list the parked events again"
    )]
    Answered {
        /// The subject.
        subject: String,
        /// The position in this log of the event that keeps it.
        parked_at: Position,
        /// The position of the last answer to it.
        at: Option<Position>,
    },
    /// An answer names its author and its reason, because the log keeps it for ever.
    #[error("the answer cannot be stored: tell who answers, and why")]
    Author,
    /// The copy of the event cannot be read, so no answer can be followed.
    #[error(
        "the event that is parked at position {parked_at} cannot be read: use a program as new as \
         the one that wrote it"
    )]
    Unreadable {
        /// The position in this log of the event that keeps it.
        parked_at: Position,
    },
    /// The answer cannot be written.
    #[error("the answer cannot be stored: {0}")]
    Malformed(#[from] SchemaError),
    /// The log cannot be read.
    #[error("the parked events cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The answer cannot be appended.
    #[error("the answer cannot be stored: {0}")]
    Append(#[source] AppendError),
}

/// Stores the answer to a parked event. Returns its position.
///
/// # Errors
/// [`IntakeAnswerError`] if it was answered before or cannot be read, or the store fails.
pub(super) async fn answer(
    store: &Store,
    intake: &str,
    parked: &ParkedForeignEvent,
    given: IntakeAnswer,
    (who, why): (&str, &str),
) -> Result<Position, IntakeAnswerError> {
    if who.trim().is_empty() || why.trim().is_empty() {
        return Err(IntakeAnswerError::Author);
    }
    let answer = match given {
        IntakeAnswer::Retry => StoredIntakeAnswer::Retry,
        IntakeAnswer::Skip => StoredIntakeAnswer::Skip,
        IntakeAnswer::Replace(data) => StoredIntakeAnswer::Replace(data),
    };
    let (subject, parked_at) = (&parked.subject, parked.parked_at);
    if parked.event.is_none() {
        return Err(IntakeAnswerError::Unreadable { parked_at });
    }
    let answered = AnsweredRecord {
        intake: intake.to_owned(),
        subject: subject.clone(),
        parked_at: parked_at.get(),
        answer,
        who: who.to_owned(),
        why: why.to_owned(),
    };
    let metadata = Metadata { actor: Some(who.into()), ..Metadata::default() };
    let event = record(ANSWERED, intake, &answered, metadata)?;
    let about = FilterItem::everything().or_type(ANSWERED).or_type(RESUMED);
    let about = Filter::from(about.and_tag(intake_tag(intake)));
    let mut known = WaitingSubjects::default();
    loop {
        known.catch_up(store, intake).await?;
        let first = known.of_subject(subject).next().map(|first| first.at);
        if first != Some(parked_at) || known.answered.contains_key(subject) {
            let at = last_answer(store, intake, parked_at).await?.map(|(at, _)| at);
            return Err(IntakeAnswerError::Answered { subject: subject.clone(), parked_at, at });
        }
        let condition = AppendCondition { fail_if: about.clone(), after: known.upto };
        let append = Append::event(event.clone()).condition(condition);
        let failed = match store.append(append).await {
            Ok(accepted) => match accepted.synced().await {
                Ok(synced) => return Ok(synced.last),
                Err(error) => error.into(),
            },
            // An answer to this event or to another one came in between.
            Err(AppendError::Refused(Refusal::Conflict { .. })) => continue,
            Err(error) => error,
        };
        return Err(IntakeAnswerError::Append(failed));
    }
}

/// The last answer to the event that is kept at a position, and the position of the answer.
pub(super) async fn last_answer(
    store: &Store,
    intake: &str,
    parked_at: Position,
) -> Result<Option<(Position, AnsweredRecord)>, ReadError> {
    let about = FilterItem::everything().or_type(ANSWERED).and_tag(intake_tag(intake));
    let (about, mut upto) = (Filter::from(about), store.head().position());
    while upto > parked_at {
        let read = Read { after: parked_at, ..Read::backwards().upto(upto).limit(ANSWERS) };
        let batch = store.read(&about, read).await?;
        for event in batch.iter() {
            if let Ok(record) = decode::<AnsweredRecord>(&event)
                && record.parked_at == parked_at.get()
            {
                return Ok(Some((event.position(), record)));
            }
        }
        upto = batch.upto().before();
    }
    Ok(None)
}
