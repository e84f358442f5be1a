//! Takes in waiting events after the answers of operators.

use diptych_store::{
    Append, AppendCondition, AppendError, Filter, FilterItem, LogIdentity, Metadata, Position,
    RawEvent, Refusal,
};
use serde_json::{Value, value::to_raw_value};

use super::{
    cloud_event::CloudEvent,
    intake::Intake,
    interruption::IntakeInterruption,
    metrics::IntakeOutcome,
    page::FeedError,
    parked::WaitingSubjects,
    shared::IntakeShared,
    stored::{RESUMED, ResumedRecord, StoredIntakeAnswer, intake_tag, record},
    translator::{Translation, Translator},
};
use crate::stored_text::shortened;

/// Maximum number of waiting events that are taken in by one commit. The others follow.
const RESUMED_AT_ONCE: usize = 100;

/// Takes in the waiting events of a subject once an operator answered the first of them.
pub(super) struct Keeper<'k, I: Intake> {
    pub(super) shared: &'k IntakeShared,
    pub(super) translator: &'k Translator<I>,
    pub(super) waiting: &'k mut WaitingSubjects,
}

/// The events that an answer becomes.
struct Resumption {
    events: Vec<RawEvent>,
    record: ResumedRecord,
    /// The number of published events that are taken in.
    taken: u64,
}

impl<I: Intake> Keeper<'_, I> {
    pub(super) async fn follow_answers(
        &mut self,
        place: Option<(Position, LogIdentity)>,
    ) -> Result<(), IntakeInterruption> {
        self.waiting.catch_up(&self.shared.store, &self.shared.intake).await?;
        while let Some((subject, answer)) = self.waiting.next_answered() {
            let Some((_, log)) = place else { return Ok(()) };
            self.resume(&subject, &answer, log).await?;
            self.waiting.catch_up(&self.shared.store, &self.shared.intake).await?;
        }
        self.shared.status.waiting(self.waiting.count());
        Ok(())
    }

    /// Takes in the first events of a subject, as far as they can be taken in. If the store cannot
    /// hold so many at once, fewer are tried, down to none: then the first event waits on, with the
    /// reason. The events behind those that were taken in follow by a step of their own.
    async fn resume(
        &mut self,
        subject: &str,
        answer: &StoredIntakeAnswer,
        log: LogIdentity,
    ) -> Result<(), IntakeInterruption> {
        let (mut most, mut refusal) = (RESUMED_AT_ONCE, None);
        loop {
            let Resumption { mut events, record: resumed, taken } =
                self.resumed(subject, answer, log, (most, &refusal))?;
            events.push(record(RESUMED, &self.shared.intake, &resumed, Metadata::default())?);
            // Another program of this intake may have followed the same answer.
            let about = FilterItem::everything().or_type(RESUMED);
            let about = about.and_tag(intake_tag(&resumed.intake));
            let after = self.waiting.upto;
            let condition = AppendCondition { fail_if: Filter::from(about), after };
            let append = Append::events(events).condition(condition);
            match self.shared.store.append(append).await {
                Ok(accepted) => {
                    accepted.synced().await.map_err(AppendError::from)?;
                    let skipped = u64::from(*answer == StoredIntakeAnswer::Skip);
                    self.shared.status.count(IntakeOutcome::Resumed, taken);
                    self.shared.status.count(IntakeOutcome::Skipped, skipped);
                }
                Err(AppendError::Refused(Refusal::Conflict { .. })) => {}
                Err(AppendError::Invalid(invalid)) if most > 0 => {
                    (most, refusal) = (most / 2, Some(invalid.to_string()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    /// At most so many events of a subject, translated, and how far they go. The refusal tells why
    /// the store holds not even one.
    fn resumed(
        &self,
        subject: &str,
        answer: &StoredIntakeAnswer,
        log: LogIdentity,
        (most, refusal): (usize, &Option<String>),
    ) -> Result<Resumption, IntakeInterruption> {
        let (mut events, mut upto, mut stopped, mut taken) = (Vec::new(), None, None, 0);
        let mut goes_on = false;
        for (number, waiting) in self.waiting.of_subject(subject).enumerate() {
            let event = match (number, answer) {
                (0, StoredIntakeAnswer::Skip) => {
                    upto = Some(waiting.at.get());
                    continue;
                }
                (0, StoredIntakeAnswer::Replace(data)) => with_data(&waiting.event, data)?,
                _ => waiting.event.clone(),
            };
            if number >= most {
                goes_on = most > 0;
                // A release that does not go on by itself shows this.
                let others = "those before it were taken in: retry the others".to_owned();
                stopped = Some(refusal.clone().filter(|_| !goes_on).unwrap_or(others));
                break;
            }
            let place = event.place().map_err(FeedError::from)?;
            match self.translator.translate(log, place, &event) {
                Translation::Events(made) => events.extend(made),
                Translation::LeftOut => {}
                Translation::Failed(reason) => {
                    stopped = Some(shortened(reason));
                    break;
                }
            }
            (upto, taken) = (Some(waiting.at.get()), taken + 1);
        }
        let intake = self.shared.intake.clone();
        let subject = subject.to_owned();
        let record = ResumedRecord { intake, subject, upto, reason: stopped, goes_on };
        Ok(Resumption { events, record, taken })
    }
}

/// A published event with the payload that an operator gave.
///
/// # Errors
/// [`IntakeInterruption::Stopped`] if the payload cannot be written as JSON.
fn with_data(event: &CloudEvent, data: &Value) -> Result<CloudEvent, IntakeInterruption> {
    let data = to_raw_value(data).map_err(|error| {
        IntakeInterruption::Stopped(format!("the payload of an answer cannot be written: {error}"))
    })?;
    Ok(CloudEvent { data, ..event.clone() })
}
