//! The intakes of a log for operators: what waits, and the answers to it.
//!
//! All of it is data in the log. So no types of a program are needed, and the log need not be that
//! of a running app.

use std::fmt;

use diptych_store::{Filter, FilterItem, LogIdentity, Position, Read, ReadError, Store};
use serde::{Serialize, Serializer};

use super::{
    parked::{IntakeAnswer, IntakeAnswerError, ParkedForeignEvent, WaitingSubjects, answer},
    stored::{STARTED, StartedRecord, decode, place_source},
};

/// The intakes of a log, for operators: their places, the published events that could not be taken
/// in, and the answers to them.
///
/// It needs no types, so it works on any [`Store`]: that of a running app, that of a server, or a
/// folder that is opened for reading only. Answers are events in the log, and a running intake
/// follows them. If no app runs, the next start does.
///
/// An intake is named as the log knows it: see
/// [`IntakeOptions::stored_as`](super::IntakeOptions::stored_as).
#[derive(Clone)]
pub struct IntakeOperations {
    store: Store,
}

/// An intake as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KnownIntake {
    /// The name under which the log keeps its place.
    pub name: String,
    /// The name of the source at its first start.
    pub source: String,
    /// The types of public events that it understood then.
    pub types: Vec<String>,
    /// The log of the source. `None` before the first page.
    #[serde(serialize_with = "text")]
    pub log: Option<LogIdentity>,
    /// Everything up to this position of that log was taken in. An intake stores its place with
    /// each event, and else after many positions only.
    #[serde(serialize_with = "number")]
    pub position: Position,
}

/// Why a question about intakes has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeOperationError {
    /// The log knows no intake of this name.
    #[error("the log knows no intake {name:?} (it knows: {known:?})")]
    NoSuchIntake {
        /// The name.
        name: String,
        /// The names of all intakes.
        known: Vec<String>,
    },
    /// The log cannot be read.
    #[error("the intakes of the log cannot be read: {0}")]
    Read(#[from] ReadError),
}

impl IntakeOperations {
    /// The intakes of this log.
    pub fn over(store: Store) -> IntakeOperations {
        IntakeOperations { store }
    }

    /// All intakes that the log knows, in the order of their first starts. A start that a newer
    /// program wrote is left out.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub async fn intakes(&self) -> Result<Vec<KnownIntake>, ReadError> {
        let started = Filter::from(FilterItem::everything().or_type(STARTED));
        let head = self.store.fresh_head().await?;
        let (mut known, mut upto) = (Vec::<KnownIntake>::new(), Position::START);
        while upto < head {
            let batch = self.store.read(&started, Read::after(upto).upto(head)).await?;
            known.extend(batch.iter().filter_map(|event| {
                let StartedRecord { intake: name, types, source } = decode(&event).ok()?;
                Some(KnownIntake { name, source, types, log: None, position: Position::START })
            }));
            upto = batch.upto();
        }
        for intake in &mut known {
            if let Some(tracked) = self.store.tracked(&place_source(&intake.name)).await? {
                (intake.log, intake.position) = (tracked.origin, tracked.position);
            }
        }
        Ok(known)
    }

    /// The published events that wait for an answer, of this intake or of all, in the order in
    /// which they were parked: for each subject the first, and each that cannot be read. Events
    /// behind the first wait.
    ///
    /// # Errors
    /// [`IntakeOperationError`] if there is no such intake, or the log cannot be read.
    pub async fn letters(
        &self,
        intake: Option<&str>,
    ) -> Result<Vec<ParkedForeignEvent>, IntakeOperationError> {
        let mut all = Vec::new();
        for known in self.chosen(intake).await? {
            let mut waiting = WaitingSubjects::default();
            waiting.catch_up(&self.store, &known).await?;
            all.extend(waiting.parked(&known));
        }
        all.sort_by_key(|letter| letter.parked_at);
        Ok(all)
    }

    /// Answers a parked event. The intake then takes in the events of the subject in order. `who`
    /// and `why` stand in the log with the answer. Returns the position of the answer.
    ///
    /// # Errors
    /// [`IntakeAnswerError::Answered`] if it was answered before, and other errors of the store.
    pub async fn answer(
        &self,
        letter: &ParkedForeignEvent,
        given: IntakeAnswer,
        who: &str,
        why: &str,
    ) -> Result<Position, IntakeAnswerError> {
        answer(&self.store, &letter.intake, letter, given, (who, why)).await
    }

    /// The name of this intake, or of all.
    async fn chosen(&self, intake: Option<&str>) -> Result<Vec<String>, IntakeOperationError> {
        let known: Vec<_> = self.intakes().await?.into_iter().map(|known| known.name).collect();
        match intake {
            None => Ok(known),
            Some(name) if known.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
            Some(name) => Err(IntakeOperationError::NoSuchIntake { name: name.to_owned(), known }),
        }
    }
}

impl fmt::Debug for IntakeOperations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntakeOperations").field(&self.store.identity()).finish()
    }
}

fn number<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    position.get().serialize(serializer)
}

fn text<S: Serializer>(log: &Option<LogIdentity>, serializer: S) -> Result<S::Ok, S::Error> {
    log.map(|log| log.to_string()).serialize(serializer)
}
