//! The task of an intake: it asks the source, translates, and commits events and place together.

use std::{convert::Infallible, mem, pin::pin, sync::Arc, time::Duration};

use diptych_store::{
    AcceptedCommit, Append, AppendError, LogIdentity, Metadata, Position, RawEvent, Tracking,
};
use tokio::time::{Sleep, sleep, timeout};

use super::{
    cloud_event::{CloudEvent, EventPlace},
    intake::{Intake, IntakeOptions, IntakeStart},
    interruption::IntakeInterruption,
    keeper::Keeper,
    metrics::IntakeOutcome,
    page::{FeedCursor, FeedPage, FeedRead, FeedSource},
    page_check::new_events,
    parked::WaitingSubjects,
    shared::IntakeShared,
    status::IntakeState,
    stored::{PARKED, ParkedRecord, place_source, record},
    translator::{Translation, Translator},
};
use crate::stored_text::shortened;

/// The pause between two looks for the answers of operators.
const ANSWER_CHECK: Duration = Duration::from_millis(100);
/// A commit of an intake has at most this part of the bytes that a commit may have. The rest is
/// room for tags, metadata and copies.
const PART_OF_BYTES: usize = 4;

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

/// The events that one position of the other log becomes.
struct StagedPosition {
    position: Position,
    foreign: Vec<ForeignOutcome>,
    made: Vec<RawEvent>,
}

/// A published event with its place and its outcome.
struct ForeignOutcome {
    place: EventPlace,
    event: CloudEvent,
    outcome: IntakeOutcome,
}

impl ForeignOutcome {
    fn is_left_out(&self) -> bool {
        self.outcome == IntakeOutcome::LeftOut
    }
}

impl StagedPosition {
    fn at(position: Position) -> StagedPosition {
        StagedPosition { position, foreign: Vec::new(), made: Vec::new() }
    }

    fn count(&self, outcome: IntakeOutcome) -> usize {
        self.foreign.iter().filter(|foreign| foreign.outcome == outcome).count()
    }
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
                    self.shared.status.interrupted(IntakeState::Stopped { reason });
                    return;
                }
            };
            let is_standby = state == IntakeState::Standby;
            self.shared.status.interrupted(state);
            let rest = sleep(self.wait.mul_f64(0.5 + fastrand::f64() / 2.0));
            match is_standby {
                true => rest.await,
                false => self.answer_during(rest).await,
            }
            self.wait = (self.wait * 2).min(self.options.longest_wait);
        }
    }

    async fn follow(&mut self) -> Result<Infallible, IntakeInterruption> {
        let store = self.shared.store.clone();
        store.fresh_head().await?;
        let tracked = store.tracked(&self.place_source).await?;
        self.place = tracked.and_then(|tracked| Some((tracked.position, tracked.origin?)));
        self.waiting = WaitingSubjects::default();
        // Before the position: a status with the place never lacks the events that wait there.
        self.look_at_waiting().await?;
        self.shared.status.begins_at(self.place.map_or(Position::START, |(position, _)| position));
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

    /// Follows the answers of operators while the source is away.
    async fn answer_during(&mut self, rest: Sleep) {
        let mut rest = pin!(rest);
        while !self.waiting.is_empty() {
            tokio::select! {
                () = &mut rest => return,
                () = sleep(ANSWER_CHECK) => {
                    let place = self.place;
                    if let Err(interruption) = self.keeper().follow_answers(place).await {
                        let intake = self.shared.name;
                        tracing::debug!(intake, ?interruption, "answers are followed later");
                        break;
                    }
                }
            }
        }
        rest.await;
    }

    fn keeper(&mut self) -> Keeper<'_, I> {
        Keeper { shared: &self.shared, translator: &self.translator, waiting: &mut self.waiting }
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
                // Parked events wait in the log now, and are counted there.
                parked.clear();
                (bytes, count) = (0, 0);
            }
            let (made, outcome) = self.translate(log, place, &event, &mut parked)?;
            bytes += made.iter().map(|raw| raw.payload.len()).sum::<usize>();
            count += made.len();
            if starts {
                staged.push(StagedPosition::at(place.position));
            }
            if let Some(last) = staged.last_mut() {
                last.foreign.push(ForeignOutcome { place, event, outcome });
                last.made.extend(made);
            }
        }
        self.commit_staged(staged, log).await
    }

    /// The events that a published event becomes, and its outcome. `parked` are the subjects that
    /// were parked and are not committed yet.
    fn translate(
        &self,
        log: LogIdentity,
        place: EventPlace,
        event: &CloudEvent,
        parked: &mut Vec<String>,
    ) -> Result<(Vec<RawEvent>, IntakeOutcome), IntakeInterruption> {
        let subject = event.subject.clone().unwrap_or_default();
        let reason = match self.waiting.holds(&subject) || parked.contains(&subject) {
            true => None,
            false => match self.translator.translate(log, place, event) {
                Translation::Events(made) => return Ok((made, IntakeOutcome::Taken)),
                Translation::LeftOut => {
                    if self.shared.status.left_out(&event.event_type) {
                        let (intake, event_type) = (self.shared.name, &event.event_type);
                        tracing::warn!(intake, event_type, "an intake leaves out unknown events");
                    }
                    return Ok((Vec::new(), IntakeOutcome::LeftOut));
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
        parked.push(subject.clone());
        Ok((vec![self.parked(subject, reason, event.clone())?], IntakeOutcome::Parked))
    }

    /// The event that keeps a published event which waits. It belongs to the same flow.
    fn parked(
        &self,
        subject: String,
        reason: Option<String>,
        event: CloudEvent,
    ) -> Result<RawEvent, IntakeInterruption> {
        let intake = self.shared.intake.clone();
        let (correlation, causation) = (event.correlationid, event.eventid);
        let metadata = Metadata { correlation, causation, ..Metadata::default() };
        let of = ParkedRecord { intake, subject, reason, event };
        Ok(record(PARKED, &self.shared.intake, &of, metadata)?)
    }

    /// Commits these positions together. If the store cannot hold one of them, each is committed
    /// alone, and that one is parked.
    async fn commit_staged(
        &mut self,
        mut staged: Vec<StagedPosition>,
        log: LogIdentity,
    ) -> Result<(), IntakeInterruption> {
        let Some(upto) = staged.last().map(|last| last.position) else { return Ok(()) };
        let count = |outcome| staged.iter().map(|position| position.count(outcome)).sum::<usize>();
        let (taken, parked) = (count(IntakeOutcome::Taken), count(IntakeOutcome::Parked));
        let made = staged.iter_mut().flat_map(|position| mem::take(&mut position.made));
        let made: Vec<_> = made.collect();
        if made.is_empty() {
            self.shared.status.count(IntakeOutcome::Taken, taken as u64);
            return Ok(());
        }
        match self.append(made, upto, log).await {
            Ok(()) => {}
            Err(AppendError::Invalid(_)) if staged.len() > 1 => {
                return self.commit_each(staged, log).await;
            }
            Err(AppendError::Invalid(invalid)) => {
                return self.park_position(staged, &invalid.to_string(), log).await;
            }
            Err(error) => return Err(error.into()),
        }
        self.shared.status.count(IntakeOutcome::Taken, taken as u64);
        self.shared.status.count(IntakeOutcome::Parked, parked as u64);
        match parked {
            0 => Ok(()),
            _ => self.look_at_waiting().await,
        }
    }

    /// Commits each of these positions alone. Its events are translated again, because one before
    /// them may have been parked since, and then those of its subject wait behind it.
    async fn commit_each(
        &mut self,
        staged: Vec<StagedPosition>,
        log: LogIdentity,
    ) -> Result<(), IntakeInterruption> {
        for StagedPosition { position, foreign, .. } in staged {
            let (mut alone, mut parked) = (StagedPosition::at(position), Vec::new());
            // An event that is left out was counted, and has nothing to commit.
            let kept = foreign.into_iter().filter(|foreign| !foreign.is_left_out());
            for ForeignOutcome { place, event, .. } in kept {
                let (made, outcome) = self.translate(log, place, &event, &mut parked)?;
                alone.foreign.push(ForeignOutcome { place, event, outcome });
                alone.made.extend(made);
            }
            Box::pin(self.commit_staged(vec![alone], log)).await?;
        }
        Ok(())
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
            let kept = foreign.into_iter().filter(|foreign| !foreign.is_left_out());
            for ForeignOutcome { event, .. } in kept {
                let subject = event.subject.clone().unwrap_or_default();
                records.push(self.parked(subject, Some(reason.to_owned()), event)?);
            }
            let parked = records.len() as u64;
            self.commit(records, position, log).await?;
            self.shared.status.count(IntakeOutcome::Parked, parked);
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
