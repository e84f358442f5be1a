//! The task of an intake: it asks the source, translates, and commits events and place together.

use std::{convert::Infallible, mem, sync::Arc, time::Duration};

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, Filter, FilterItem, LogIdentity,
    Metadata, Position, RawEvent, ReadError, Refusal, Store, Tracking, Unavailable,
};
use tokio::time::{sleep, timeout};

use super::{
    cloud_event::{CloudEvent, EventPlace},
    intake::{Intake, IntakeOptions, IntakeStart},
    page::{FeedCursor, FeedError, FeedPage, FeedRead, FeedSource},
    page_check::new_events,
    parked::WaitingSubjects,
    status::{IntakeState, IntakeStatusCell},
    stored::{
        PARKED, ParkedRecord, RESUMED, ResumedRecord, StoredIntakeAnswer, intake_tag, place_source,
        record,
    },
    translator::{Translation, Translator},
};
use crate::{event::SchemaError, stored_text::shortened};

/// The pause between two looks for the answers of operators.
const ANSWER_CHECK: Duration = Duration::from_millis(100);
/// Maximum number of waiting events that are taken in by one commit.
const RESUMED_AT_ONCE: usize = 100;
/// A commit of an intake has at most this part of the bytes that a commit may have. The rest is
/// room for tags, metadata and copies.
const PART_OF_BYTES: usize = 4;

/// The parts of a running intake that its task and its control share.
pub(super) struct IntakeShared {
    pub(super) name: &'static str,
    /// The name under which the log keeps the place.
    pub(super) intake: String,
    pub(super) source: String,
    pub(super) store: Store,
    pub(super) status: IntakeStatusCell,
}

/// Takes in the events of a feed.
pub(super) struct IntakeTask<I: Intake, S> {
    shared: Arc<IntakeShared>,
    source: S,
    translator: Translator<I>,
    start: IntakeStart,
    options: IntakeOptions,
    place_source: String,
    /// Everything up to here is in the log, together with this identity of the source.
    place: Option<(Position, LogIdentity)>,
    waiting: WaitingSubjects,
    wait: Duration,
}

/// Why the task cannot go on where it is.
enum IntakeInterruption {
    /// Another program takes in events for this intake.
    Overtaken,
    /// The source or the store does not answer for now.
    Later(String),
    /// A person has to act first.
    Stopped(String),
}

/// The events that one position of the other log becomes.
struct StagedPosition {
    position: Position,
    foreign: Vec<(EventPlace, CloudEvent)>,
    made: Vec<RawEvent>,
    parks: bool,
}

impl<I: Intake, S: FeedSource> IntakeTask<I, S> {
    pub(super) fn new(
        shared: Arc<IntakeShared>,
        source: S,
        translator: Translator<I>,
        start: IntakeStart,
        options: IntakeOptions,
    ) -> IntakeTask<I, S> {
        IntakeTask {
            place_source: place_source(&shared.intake),
            place: None,
            waiting: WaitingSubjects::default(),
            wait: options.first_wait,
            shared,
            source,
            translator,
            start,
            options,
        }
    }

    /// Takes in events until the intake stops.
    pub(super) async fn run(mut self) {
        loop {
            let Err(interruption) = self.follow().await;
            let intake = self.shared.name;
            let state = match interruption {
                IntakeInterruption::Overtaken => IntakeState::Standby,
                IntakeInterruption::Later(reason) => {
                    tracing::warn!(intake, reason, "an intake waits");
                    IntakeState::Stalled { reason }
                }
                IntakeInterruption::Stopped(reason) => {
                    tracing::error!(intake, reason, "an intake stopped");
                    self.shared.status.state(IntakeState::Stopped { reason });
                    return;
                }
            };
            self.shared.status.state(state);
            sleep(self.wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            self.wait = (self.wait * 2).min(self.options.longest_wait);
        }
    }

    async fn follow(&mut self) -> Result<Infallible, IntakeInterruption> {
        let store = self.shared.store.clone();
        store.fresh_head().await?;
        let tracked = store.tracked(&self.place_source).await?;
        self.place = tracked.and_then(|tracked| Some((tracked.position, tracked.origin?)));
        self.waiting = WaitingSubjects::default();
        self.look_at_waiting().await?;
        // Until a commit, the place up to which the source was considered is only known here.
        let mut considered = self.place.map(|(position, _)| position);
        loop {
            let after = match (considered, self.start) {
                (Some(position), _) | (None, IntakeStart::After(position)) => {
                    FeedCursor::Position(position)
                }
                (None, IntakeStart::Beginning) => FeedCursor::Position(Position::START),
                (None, IntakeStart::Now) => FeedCursor::End,
            };
            let page = self.ask(after).await?;
            self.check_log(&page)?;
            let (log, upto, head) = (page.log, page.upto, page.head);
            let known = match after {
                FeedCursor::Position(position) => position,
                _ => upto,
            };
            self.take(known, page).await?;
            let stored = self.place.map_or(Position::START, |(position, _)| position);
            let most = self.options.positions_without_commit.max(1);
            if self.place.is_none() || upto.get() - stored.get() >= most {
                self.commit(Vec::new(), upto, log).await?;
            }
            considered = Some(upto);
            self.wait = self.options.first_wait;
            self.shared.status.at(upto, head);
            // A source in memory never waits, and other tasks of the thread have to run, too.
            tokio::task::yield_now().await;
        }
    }

    /// Asks for the next page, and follows the answers of operators meanwhile.
    async fn ask(&mut self, after: FeedCursor) -> Result<FeedPage, IntakeInterruption> {
        let IntakeOptions { page, wait, quiet_time, .. } = self.options;
        // The first question has no wait, so that the status tells soon whether it has everything.
        let wait = match self.place {
            Some(_) => wait,
            None => Duration::ZERO,
        };
        let source = &self.source;
        let read = source.read(FeedRead::after(after).limit(page).wait(wait));
        let mut answer = Box::pin(timeout(wait + quiet_time, read));
        let answered = loop {
            tokio::select! {
                answered = &mut answer => break answered,
                () = sleep(ANSWER_CHECK), if !self.waiting.is_empty() => {
                    let mut keeper = Keeper {
                        shared: &self.shared,
                        translator: &self.translator,
                        waiting: &mut self.waiting,
                    };
                    keeper.follow_answers(self.place).await?;
                }
            }
        };
        match answered {
            Ok(page) => page.map_err(IntakeInterruption::from),
            Err(_) => {
                Err(IntakeInterruption::Later(format!("no answer within {:?}", wait + quiet_time)))
            }
        }
    }

    /// Checks that the page belongs to the history that the place belongs to.
    fn check_log(&self, page: &FeedPage) -> Result<(), IntakeInterruption> {
        match self.place {
            Some((position, known)) if known != page.log => {
                let (now, source) = (page.log, &self.shared.source);
                Err(IntakeInterruption::Stopped(match known.id == now.id {
                    true => format!(
                        "{source} was restored, or lost events: it is in epoch {} now, and this \
                         intake took its events up to {position} in epoch {}; compare what both \
                         services know, then give the intake a new name that begins after the \
                         last position that both have",
                        now.epoch, known.epoch
                    ),
                    false => format!(
                        "{source} is another log now: {now} instead of {known}; correct the \
                         address, or give the intake a new name"
                    ),
                }))
            }
            _ => Ok(()),
        }
    }

    /// Takes in a page.
    async fn take(&mut self, after: Position, page: FeedPage) -> Result<(), IntakeInterruption> {
        let log = page.log;
        let events = new_events(page, after)?;
        if events.is_empty() {
            return Ok(());
        }
        let limits = self.shared.store.limits();
        let (most_events, most_bytes) =
            (limits.commit_events / 2, limits.commit_bytes / PART_OF_BYTES);
        let (mut staged, mut bytes, mut count) = (Vec::<StagedPosition>::new(), 0, 0);
        let mut parked = Vec::new();
        for (place, event) in events {
            let starts = staged.last().is_none_or(|last| last.position != place.position);
            if starts && (count >= most_events || bytes >= most_bytes) {
                self.commit_staged(mem::take(&mut staged), log).await?;
                (bytes, count) = (0, 0);
            }
            let (made, parks) = self.translate(log, place, &event, &mut parked)?;
            bytes += made.iter().map(|raw| raw.payload.len()).sum::<usize>();
            count += made.len();
            if starts {
                let (foreign, made) = (Vec::new(), Vec::new());
                let position = place.position;
                staged.push(StagedPosition { position, foreign, made, parks: false });
            }
            if let Some(last) = staged.last_mut() {
                last.foreign.push((place, event));
                last.made.extend(made);
                last.parks |= parks;
            }
        }
        self.commit_staged(staged, log).await
    }

    /// The events that a published event becomes, and whether it is parked. `parked` are the
    /// subjects that were parked and are not committed yet.
    fn translate(
        &self,
        log: LogIdentity,
        place: EventPlace,
        event: &CloudEvent,
        parked: &mut Vec<String>,
    ) -> Result<(Vec<RawEvent>, bool), IntakeInterruption> {
        let subject = event.subject.clone().unwrap_or_default();
        let reason = match self.waiting.holds(&subject) || parked.contains(&subject) {
            true => None,
            false => match self.translator.translate(log, place, event) {
                Translation::Events(made) => return Ok((made, false)),
                Translation::LeftOut => {
                    if self.shared.status.left_out(&event.event_type) {
                        let (intake, event_type) = (self.shared.name, &event.event_type);
                        tracing::warn!(intake, event_type, "an intake leaves out unknown events");
                    }
                    return Ok((Vec::new(), false));
                }
                Translation::Failed(reason) => Some(shortened(reason)),
            },
        };
        let most = self.options.waiting_events;
        if self.waiting.count() + parked.len() >= most {
            return Err(IntakeInterruption::Stopped(format!(
                "{most} events wait behind parked ones: answer these first, then start again"
            )));
        }
        if let Some(reason) = &reason {
            let (intake, id) = (self.shared.name, &event.id);
            tracing::warn!(intake, subject, id, reason, "a published event is parked");
        }
        let intake = self.shared.intake.clone();
        let of = ParkedRecord { intake, subject: subject.clone(), reason, event: event.clone() };
        let raw = record(PARKED, &self.shared.intake, &of, Metadata::default())?;
        parked.push(subject);
        Ok((vec![raw], true))
    }

    /// Commits these positions together. If the store cannot hold one of them, each is committed
    /// alone, and that one is parked.
    async fn commit_staged(
        &mut self,
        staged: Vec<StagedPosition>,
        log: LogIdentity,
    ) -> Result<(), IntakeInterruption> {
        let Some(upto) = staged.last().map(|last| last.position) else { return Ok(()) };
        let parks = staged.iter().any(|position| position.parks);
        let all: Vec<_> = staged.iter().flat_map(|position| position.made.clone()).collect();
        if all.is_empty() {
            return Ok(());
        }
        match self.append(all, upto, log).await {
            Ok(()) => {}
            Err(AppendError::Invalid(_)) if staged.len() > 1 => {
                for position in staged {
                    Box::pin(self.commit_staged(vec![position], log)).await?;
                }
                return Ok(());
            }
            Err(AppendError::Invalid(invalid)) => {
                let reason = invalid.to_string();
                self.park_position(staged, &reason, log).await?;
            }
            Err(error) => return Err(error.into()),
        }
        match parks {
            true => self.look_at_waiting().await,
            false => Ok(()),
        }
    }

    /// Parks the published events of a position that the store cannot hold.
    async fn park_position(
        &mut self,
        staged: Vec<StagedPosition>,
        reason: &str,
        log: LogIdentity,
    ) -> Result<(), IntakeInterruption> {
        for StagedPosition { position, foreign, .. } in staged {
            let mut records = Vec::new();
            for (_, event) in foreign {
                let subject = event.subject.clone().unwrap_or_default();
                let (intake, reason) = (self.shared.intake.clone(), Some(reason.to_owned()));
                let of = ParkedRecord { intake, subject, reason, event };
                records.push(record(PARKED, &self.shared.intake, &of, Metadata::default())?);
            }
            self.commit(records, position, log).await?;
        }
        self.look_at_waiting().await
    }

    async fn commit(
        &mut self,
        events: Vec<RawEvent>,
        upto: Position,
        log: LogIdentity,
    ) -> Result<(), IntakeInterruption> {
        Ok(self.append(events, upto, log).await?)
    }

    /// Commits these events together with the place.
    async fn append(
        &mut self,
        events: Vec<RawEvent>,
        upto: Position,
        log: LogIdentity,
    ) -> Result<(), AppendError> {
        let tracking = Tracking::new(&self.place_source, upto).origin(log);
        let append = Append::events(events).tracking(tracking);
        let accepted: AcceptedCommit = self.shared.store.append(append).await?;
        accepted.synced().await?;
        self.place = Some((upto, log));
        Ok(())
    }

    async fn look_at_waiting(&mut self) -> Result<(), IntakeInterruption> {
        self.waiting.catch_up(&self.shared.store, &self.shared.intake).await?;
        self.shared.status.waiting(self.waiting.count());
        Ok(())
    }
}

/// Takes in the waiting events of a subject once an operator answered the first of them.
struct Keeper<'k, I: Intake> {
    shared: &'k IntakeShared,
    translator: &'k Translator<I>,
    waiting: &'k mut WaitingSubjects,
}

impl<I: Intake> Keeper<'_, I> {
    async fn follow_answers(
        &mut self,
        place: Option<(Position, LogIdentity)>,
    ) -> Result<(), IntakeInterruption> {
        self.waiting.catch_up(&self.shared.store, &self.shared.intake).await?;
        while let Some((subject, answer)) = self.waiting.next_answered() {
            let Some((_, log)) = place else { return Ok(()) };
            self.resume(&subject, answer, log).await?;
            self.waiting.catch_up(&self.shared.store, &self.shared.intake).await?;
        }
        self.shared.status.waiting(self.waiting.count());
        Ok(())
    }

    /// Takes in the events of a subject, as far as they can be taken in. If the store cannot hold
    /// so many at once, fewer are tried, down to none: then the first event waits on, with the
    /// reason.
    async fn resume(
        &mut self,
        subject: &str,
        answer: StoredIntakeAnswer,
        log: LogIdentity,
    ) -> Result<(), IntakeInterruption> {
        let (mut most, mut reason) = (RESUMED_AT_ONCE, None);
        loop {
            let (mut events, resumed) = self.resumed(subject, answer, log, (most, &reason))?;
            events.push(record(RESUMED, &self.shared.intake, &resumed, Metadata::default())?);
            // Another program of this intake may have followed the same answer.
            let about = FilterItem::everything().or_type(RESUMED);
            let about = about.and_tag(intake_tag(&resumed.intake));
            let after = self.waiting.upto;
            let condition = AppendCondition { fail_if: Filter::from(about), after };
            let append = Append::events(events).condition(condition);
            match self.shared.store.append(append).await {
                Ok(accepted) => drop(accepted.synced().await.map_err(AppendError::from)?),
                Err(AppendError::Refused(Refusal::Conflict { .. })) => {}
                Err(AppendError::Invalid(invalid)) if most > 0 => {
                    (most, reason) = (most / 2, Some(invalid.to_string()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    /// At most so many events of a subject, translated, and how far they go. The reason tells why
    /// it is no more.
    fn resumed(
        &self,
        subject: &str,
        answer: StoredIntakeAnswer,
        log: LogIdentity,
        (most, reason): (usize, &Option<String>),
    ) -> Result<(Vec<RawEvent>, ResumedRecord), IntakeInterruption> {
        let (mut events, mut upto, mut stopped) = (Vec::new(), None, None);
        for (number, waiting) in self.waiting.of_subject(subject).enumerate() {
            if number == 0 && answer == StoredIntakeAnswer::Skip {
                upto = Some(waiting.at.get());
                continue;
            }
            if number >= most {
                let many = || format!("{most} events were taken in: retry the others");
                stopped = Some(reason.clone().unwrap_or_else(many));
                break;
            }
            let place = waiting.event.place().map_err(FeedError::from)?;
            match self.translator.translate(log, place, &waiting.event) {
                Translation::Events(made) => events.extend(made),
                Translation::LeftOut => {}
                Translation::Failed(reason) => {
                    stopped = Some(shortened(reason));
                    break;
                }
            }
            upto = Some(waiting.at.get());
        }
        let intake = self.shared.intake.clone();
        let subject = subject.to_owned();
        Ok((events, ResumedRecord { intake, subject, upto, reason: stopped }))
    }
}

impl From<ReadError> for IntakeInterruption {
    fn from(error: ReadError) -> IntakeInterruption {
        match error {
            ReadError::Unavailable(why) => why.into(),
            other => IntakeInterruption::Stopped(other.to_string()),
        }
    }
}

impl From<Unavailable> for IntakeInterruption {
    fn from(why: Unavailable) -> IntakeInterruption {
        match why {
            Unavailable::Closed | Unavailable::Failed { .. } | Unavailable::HistoryChanged(_) => {
                IntakeInterruption::Stopped(why.to_string())
            }
            other => IntakeInterruption::Later(other.to_string()),
        }
    }
}

impl From<SchemaError> for IntakeInterruption {
    fn from(error: SchemaError) -> IntakeInterruption {
        IntakeInterruption::Stopped(error.to_string())
    }
}

impl From<AppendError> for IntakeInterruption {
    fn from(error: AppendError) -> IntakeInterruption {
        match error {
            AppendError::Refused(Refusal::AlreadyTracked { .. }) => IntakeInterruption::Overtaken,
            AppendError::Unavailable(why) => why.into(),
            // The stored place tells later whether the commit is in the log.
            AppendError::OutcomeUnknown(error) => IntakeInterruption::Later(error.to_string()),
            other => IntakeInterruption::Stopped(other.to_string()),
        }
    }
}

impl From<FeedError> for IntakeInterruption {
    fn from(error: FeedError) -> IntakeInterruption {
        match error {
            FeedError::AboveHead { .. } | FeedError::Refused { .. } | FeedError::Schema(_) => {
                IntakeInterruption::Stopped(error.to_string())
            }
            other => IntakeInterruption::Later(other.to_string()),
        }
    }
}
