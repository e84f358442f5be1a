use std::{
    any::type_name,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use compact_str::CompactString;
use diptych_store::{
    CommitSync, HistoryPoint, Key, Metadata, Position, SyncError, Timestamp, Tracking, Unavailable,
};
use serde::Serialize;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use super::{
    Command, ExecuteError, Invalid, OutcomeUnknown,
    context::check_extra,
    decide::{CommandRequest, Decision, SettledOutcome, decide},
    error::CommandError,
    expectation::Expectation,
    lane_order::LaneOrder,
    metrics::OneCommandMetrics,
    note::{check_key, note_key},
    ordinals::{Ordinal, OrdinalPlace},
    panel::LeftPanel,
};
use crate::{
    digest::request_digest,
    event::{Recorded, Trail},
    request::{BoxFuture, Request},
    token::{Claims, Receipt, Session, SessionToken},
};

/// A command being built: add options, then await it.
///
/// It owns what it needs of the app, so it can be spawned as a task of its own. Awaiting it returns
/// the [`Receipt`] once its events are durable. If it is dropped before that, it may still commit;
/// under a [`key`](Execute::key) it is safe to send it again. Once polled, keep polling it or drop
/// it. If you do neither, other commands on its boundary wait for up to a tenth of a second each,
/// and [`App::stop`](crate::App::stop) waits up to its [limit](crate::AppBuilder::stop_within).
#[must_use = "a command does nothing until it is awaited"]
pub struct Execute<C: Command>(Request<CommandParts<C>, CommandAnswer<C>>);

type CommandAnswer<C> = Result<Receipt, ExecuteError<<C as Command>::Rejection>>;

/// The parts of a command that is not sent yet.
struct CommandParts<C> {
    panel: Arc<LeftPanel>,
    lane: Option<LaneOrder>,
    request: CommandRequest<C>,
    session: Option<Session>,
    /// The tokens that its sender passes.
    claims: Claims,
    /// Its place among the commands of its client.
    ordinal: Option<Ordinal>,
    /// The error of an invalid option.
    failed: Option<CommandError>,
}

impl<C: Command> Execute<C> {
    pub(crate) fn new(panel: Arc<LeftPanel>, lane: Option<LaneOrder>, command: C) -> Execute<C> {
        let metadata = Metadata { occurred_at: command.occurred_at(), ..Metadata::default() };
        let (key, expected, tracking) = (None, None, None);
        let request = CommandRequest { command, key, metadata, expected, tracking };
        let (session, ordinal, claims, failed) = (None, None, Claims::default(), None);
        let parts = CommandParts { panel, lane, request, session, claims, ordinal, failed };
        Execute(Request::Building(parts))
    }

    fn with(self, change: impl FnOnce(&mut CommandParts<C>)) -> Execute<C> {
        Execute(self.0.with(change))
    }

    fn metadata(self, change: impl FnOnce(&mut Metadata)) -> Execute<C> {
        self.with(|parts| change(&mut parts.request.metadata))
    }

    /// Makes the command idempotent: it commits at most once under this key. The log keeps the key
    /// with the commit for ever.
    ///
    /// A retry under the same key gets the receipt of the first commit, even if the rule would now
    /// reject the command. A different command under the key is [`CommandError::KeyReused`].
    /// Commands are compared by their serialised content, with the name of the type as serde knows
    /// it. A command that was rejected, or wrote nothing, is not remembered.
    ///
    /// Hash sets in the command are compared without their order if serde gets each set as a whole,
    /// as from `#[derive(Serialize)]`. If a hand-written `Serialize` passes the elements of a hash
    /// set one by one, they look like a list whose order differs each time. A retry would then be
    /// [`CommandError::KeyReused`]. Let such code call `collect_seq`, or use a `BTreeSet`.
    ///
    /// A key that begins with `diptych:` is [`CommandError::Invalid`]: such keys are reserved for
    /// [`note_of`](Execute::note_of).
    pub fn key(self, key: impl AsRef<str>) -> Execute<C>
    where
        C: Serialize,
    {
        let key = key.as_ref();
        self.with(|parts| {
            let made = match check_key(key) {
                Ok(()) => request_digest(&parts.request.command)
                    .map(|digest| Key::new(key, digest))
                    .map_err(|error| {
                        Invalid::new("key", format!("the command has no key: {error}"))
                    }),
                Err(invalid) => Err(invalid),
            };
            parts.under(made);
        })
    }

    /// Decides the command after all commands of its client with lower numbers (*monotonic
    /// writes*), whatever connections they come over, and once.
    ///
    /// A command that comes too early waits for those before it, at most [`Ordinal::WAIT`]. A
    /// command that was decided before gets its receipt again. If it was rejected, or had nothing
    /// to do, the answer is [`OrdinalError::Passed`](super::OrdinalError::Passed): the rule is not
    /// asked again, because later commands may have been decided since. A command that failed
    /// otherwise, as by a conflict, keeps its place, and can be sent again.
    ///
    /// The order also holds across a restart. One app at a time takes the commands of a client: two
    /// apps on one log execute each number once, and do not know the order of the other. The
    /// command needs no [`key`](Execute::key), and cannot have one.
    pub fn ordinal(self, ordinal: Ordinal) -> Execute<C>
    where
        C: Serialize,
    {
        self.with(|parts| {
            let key = ordinal.key(&parts.request.command);
            parts.ordinal = Some(ordinal);
            parts.under(key);
        })
    }

    /// Makes this command a note, which records once that `command`, sent under `key`, was
    /// rejected.
    ///
    /// If the same command is rejected again under the same key for the same reason, nothing is
    /// written. Another reason is noted again. The note has a key of its own: `diptych:` and a
    /// digest of the key, the command and the rejection. No caller can [choose](Execute::key) such
    /// a key. So no caller can prevent a note by using the note's key first, or by sending the
    /// command under a very long key.
    pub fn note_of<N, R>(self, key: impl AsRef<str>, command: &N, rejection: &R) -> Execute<C>
    where
        N: Serialize + ?Sized,
        R: Serialize + ?Sized,
    {
        let made = note_key(key.as_ref(), command, rejection);
        self.with(|parts| parts.under(made))
    }

    /// Sets the sender of the command.
    pub fn actor(self, actor: impl AsRef<str>) -> Execute<C> {
        self.metadata(|metadata| metadata.actor = Some(CompactString::new(actor)))
    }

    /// Sets when the facts occurred, if that differs from the time of recording. It overrides the
    /// command's [own instant](Command::occurred_at).
    pub fn occurred_at(self, instant: Timestamp) -> Execute<C> {
        self.metadata(|metadata| metadata.occurred_at = Some(instant))
    }

    /// Sets the conversation that the command belongs to.
    pub fn correlation(self, id: Uuid) -> Execute<C> {
        self.metadata(|metadata| metadata.correlation = Some(id))
    }

    /// Sets the id of the cause.
    pub fn causation(self, id: Uuid) -> Execute<C> {
        self.metadata(|metadata| metadata.causation = Some(id))
    }

    /// Names this event as the cause. The command's events carry its id as their causation, and
    /// join its conversation.
    pub fn caused_by<E>(self, event: &Recorded<E>) -> Execute<C> {
        let caused = self.causation(event.id).correlation(event.correlation());
        caused.metadata(|metadata| Trail::carry(&event.metadata, metadata))
    }

    /// Stores this place in a source of events together with the events of the command: for a
    /// worker that reacts to events ([`Events::tracking`](crate::subscribe::Events::tracking)), or
    /// an import from elsewhere. The log refuses a second command for the same place or an earlier
    /// one: [`CommandError::Tracking`]. `None` changes nothing.
    ///
    /// A command that is rejected, or has nothing to do, stores no place. If the worker starts
    /// again before a later place is stored, it meets that event again.
    pub fn tracking(self, place: impl Into<Option<Tracking>>) -> Execute<C> {
        self.with(|parts| parts.request.tracking = place.into().or(parts.request.tracking.take()))
    }

    /// Adds extra metadata to the command's events. A name that begins with `diptych:` is
    /// [`CommandError::Invalid`]: such names are reserved.
    pub fn extra(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Execute<C> {
        let checked = check_extra(name.as_ref());
        let (name, value) = (CompactString::new(name), CompactString::new(value));
        self.with(|parts| match checked {
            Ok(()) => drop(parts.request.metadata.extra.insert(name, value)),
            Err(invalid) => parts.failed = Some(CommandError::Invalid(invalid)),
        })
    }

    /// Requires that no event in the boundary came after this position, which the sender took from
    /// an answer or a receipt. Otherwise the command fails with a
    /// [`Conflict`](CommandError::Conflict) that lists the missed events, and is not decided again.
    ///
    /// A command whose boundary has no events, because it has no state for example, is refused with
    /// [`BoundaryError::NoBoundary`](crate::event::BoundaryError::NoBoundary): the expectation
    /// would always hold. A position above the head is an error too.
    ///
    /// A position does not say to which history of the log it belongs. An older copy of the log may
    /// have been put back, and may have grown past the position. If that is possible, also pass the
    /// receipt ([`after`](Execute::after)) or the [`token`](Execute::token) that the position came
    /// with. These name the event, and are errors in another history.
    pub fn unchanged_since(self, position: Position) -> Execute<C> {
        self.with(|parts| parts.request.expected = Some(Expectation::Position(position)))
    }

    /// Requires that the stream has exactly `revision` events. The boundary has to be one tag, the
    /// stream. Otherwise the command fails with a [`Conflict`](CommandError::Conflict) that lists
    /// the missed events.
    pub fn expected_revision(self, revision: u64) -> Execute<C> {
        self.with(|parts| parts.request.expected = Some(Expectation::Revision(revision)))
    }

    /// Decides on a state that includes everything written and seen in this session (*writes follow
    /// reads*). The session records the position of the commit, or the position that a rejection
    /// rests on.
    pub fn session(self, session: &Session) -> Execute<C> {
        self.with(|parts| {
            parts.session = Some(session.clone());
            parts.claims.session(&parts.panel.lineage, session, session.known());
        })
    }

    /// Decides on a state that includes everything that another session wrote and saw until this
    /// token was taken.
    pub fn token(self, token: &SessionToken) -> Execute<C> {
        token.logs().fold(self, |execute, (point, _)| execute.knowing(point))
    }

    /// Decides on a state that includes the events of this earlier command.
    pub fn after(self, receipt: &Receipt) -> Execute<C> {
        self.knowing(receipt.point())
    }

    /// Decisions rest on all events up to the head, so a point of this log only has to be checked.
    /// Sends the command as an action of a process, under the reserved key of the action.
    pub(crate) fn of_process(self, key: Key, metadata: Metadata) -> Execute<C> {
        self.with(|parts| {
            parts.request.key = Some(key);
            parts.request.metadata.correlation = metadata.correlation;
            parts.request.metadata.causation = metadata.causation;
            parts.request.metadata.extra.extend(metadata.extra);
        })
    }

    fn knowing(self, point: HistoryPoint) -> Execute<C> {
        self.with(|parts| {
            parts.claims.point(&parts.panel.lineage, point);
        })
    }

    /// Waits until the command is decided and has its positions. To wait until it is durable, await
    /// the [`Pending`] answer.
    ///
    /// # Panics
    /// If the command was awaited before, and has its answer.
    pub async fn submit(self) -> Pending<C::Rejection> {
        let parts = match self.0 {
            Request::Building(parts) => parts,
            // It was polled before, and is decided already or will be.
            Request::Running(running) => {
                let wait = AnswerWait::Finish(running);
                return Pending { wait, session: None, observed: None };
            }
            Request::Ended => panic!("a command that was answered cannot be sent again"),
        };
        let (panel, session) = (parts.panel.clone(), parts.session.clone());
        let observed = Observation::begin(&panel, &parts);
        let span = observed.span.clone();
        let answerable = match panel.running.begin() {
            Ok(_running) => parts.decide(&panel).instrument(span).await,
            Err(failure) => Answerable { decided: Err(failure), key: None },
        };
        let wait = match answerable.decided {
            Ok(Decision::Accepted { receipt, sync }) => {
                AnswerWait::Sync { receipt, sync, waiting: None }
            }
            _ => {
                let session = session.clone();
                let finished = async move { finish(&panel, answerable, session.as_ref()).await };
                AnswerWait::Finish(Box::pin(finished))
            }
        };
        Pending { wait, session, observed: Some(observed) }
    }
}

impl<C: Command> CommandParts<C> {
    fn under(&mut self, key: Result<Key, Invalid>) {
        match key {
            Ok(_) if self.request.key.is_some() && self.ordinal.is_some() => {
                let problem = "a command with an ordinal has its key from that: leave the key out";
                self.failed = Some(CommandError::Invalid(Invalid::new("key", problem)));
            }
            Ok(key) => self.request.key = Some(key),
            Err(invalid) => self.failed = Some(CommandError::Invalid(invalid)),
        }
    }

    /// Carries out the command, and waits until it is durable.
    async fn carry_out(self) -> CommandAnswer<C> {
        let (panel, session) = (self.panel.clone(), self.session.clone());
        let _running = panel.running.begin()?;
        let observed = Observation::begin(&panel, &self);
        let span = observed.span.clone();
        let answer = async {
            let answerable = self.decide(&panel).await;
            finish(&panel, answerable, session.as_ref()).await
        };
        let answer = answer.instrument(span).await;
        observed.end(&answer);
        if let (Ok(receipt), Some(session)) = (&answer, &session) {
            session.wrote(receipt);
        }
        answer
    }

    async fn decide(self, panel: &LeftPanel) -> Answerable<C::Rejection> {
        let CommandParts { lane, request, claims, ordinal, failed, .. } = self;
        let failed = match failed {
            // It cannot be decided on a state that may be old.
            None if panel.store.is_replica() => {
                panel.store.fresh_head().await.err().map(Into::into)
            }
            None if !claims.are_settled() => {
                claims.settle(&panel.lineage).await.err().map(Into::into)
            }
            failed => failed,
        };
        let decided = match (failed, &lane) {
            (Some(failure), _) => Err(failure),
            (None, _) if ordinal.is_some() => in_order(panel, &request, lane, ordinal).await,
            (None, None) => decide(panel, &request).await,
            (None, Some(lane)) => lane.decide(panel, &request).await,
        };
        Answerable { decided, key: request.key }
    }
}

/// Decides a command in the order of its client's commands.
async fn in_order<C: Command>(
    panel: &LeftPanel,
    request: &CommandRequest<C>,
    lane: Option<LaneOrder>,
    ordinal: Option<Ordinal>,
) -> Result<Decision<C::Rejection>, CommandError> {
    let Some((ordinal, key)) = ordinal.zip(request.key.as_ref()) else {
        return decide(panel, request).await;
    };
    let is_committed = |key: String| async move { panel.is_committed(&key).await };
    let turn = match panel.ordinals.enter(&ordinal, is_committed).await? {
        OrdinalPlace::Turn(turn) => turn,
        OrdinalPlace::Past => {
            // The log shows the key once the commit is published.
            panel.published_upto(panel.last_accepted()).await?;
            let receipt = panel.committed_under(key).await?;
            return receipt.map(Decision::Duplicate).ok_or_else(|| ordinal.passed().into());
        }
    };
    let decision = match &lane {
        Some(lane) => lane.decide(panel, request).await?,
        None => decide(panel, request).await?,
    };
    // A failure is no decision: the command keeps its turn.
    if !matches!(&decision, Decision::Settled { outcome: SettledOutcome::Failed(_), .. }) {
        turn.decided();
    }
    Ok(decision)
}

// No field is pinned.
impl<C: Command> Unpin for Execute<C> {}

impl<C: Command> Future for Execute<C> {
    type Output = CommandAnswer<C>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context, |parts| Box::pin(parts.carry_out()))
    }
}

impl<C: Command> fmt::Debug for Execute<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut execute = f.debug_struct("Execute");
        if let Some(parts) = self.0.parts() {
            execute.field("key", &parts.request.key).field("metadata", &parts.request.metadata);
        }
        execute.finish_non_exhaustive()
    }
}

/// The answer to a [submitted](Execute::submit) command, which completes once the command is
/// durable.
///
/// Dropping it cancels nothing: the command is decided, and its events are accepted.
#[must_use = "the command is not durable before its answer is there"]
pub struct Pending<R: Error + 'static> {
    wait: AnswerWait<R>,
    session: Option<Session>,
    /// Present until the command is answered.
    observed: Option<Observation>,
}

/// The future that an answer waits for. The common case, `Sync`, allocates only if the sync is not
/// done at the first poll.
enum AnswerWait<R: Error + 'static> {
    Sync { receipt: Receipt, sync: CommitSync, waiting: Option<BoxFuture<Result<(), SyncError>>> },
    Finish(BoxFuture<Result<Receipt, ExecuteError<R>>>),
}

impl<R: Error + 'static> Future for Pending<R> {
    type Output = Result<Receipt, ExecuteError<R>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(answer) = self.wait.poll(context) else { return Poll::Pending };
        if let Some(observed) = self.observed.take() {
            observed.end(&answer);
        }
        if let (Ok(receipt), Some(session)) = (&answer, &self.session) {
            session.wrote(receipt);
        }
        Poll::Ready(answer)
    }
}

impl<R: Error + 'static> AnswerWait<R> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Receipt, ExecuteError<R>>> {
        let (receipt, synced) = match self {
            AnswerWait::Finish(finish) => return finish.as_mut().poll(context),
            AnswerWait::Sync { receipt, sync, .. } if sync.is_done() => (*receipt, Ok(())),
            AnswerWait::Sync { receipt, sync, waiting } => {
                let waiting = waiting.get_or_insert_with(|| Box::pin(sync.clone().wait()));
                match waiting.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(synced) => (*receipt, synced),
                }
            }
        };
        Poll::Ready(synced.map(|()| receipt).map_err(|error| unknown(receipt, error).into()))
    }
}

impl<R: Error + 'static> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// Observes a command for metrics and tracing.
struct Observation {
    span: Span,
    /// The start of the command, and its metrics.
    measured: Option<(Instant, Arc<OneCommandMetrics>)>,
}

impl Observation {
    fn begin<C: Command>(panel: &LeftPanel, parts: &CommandParts<C>) -> Observation {
        let Metadata { correlation, causation, .. } = &parts.request.metadata;
        let span = tracing::debug_span!(
            "execute",
            command = type_name::<C>(),
            correlation = correlation.map(tracing::field::display),
            causation = causation.map(tracing::field::display),
            first = Empty,
            last = Empty,
            error = Empty,
        );
        Observation { span, measured: panel.metrics.now().zip(panel.metrics.command::<C>()) }
    }

    fn end<R: Error + 'static>(self, answer: &Result<Receipt, ExecuteError<R>>) {
        if let Some((began, meters)) = &self.measured {
            meters.answered(answer, began.elapsed());
        }
        if self.span.is_disabled() {
            return;
        }
        match answer {
            Ok(receipt) => {
                self.span.record("first", receipt.first().get());
                self.span.record("last", receipt.last().get());
            }
            Err(error) => {
                self.span.record("error", tracing::field::display(error));
            }
        }
    }
}

/// The parts of a command that are needed after its decision.
struct Answerable<R> {
    decided: Result<Decision<R>, CommandError>,
    key: Option<Key>,
}

/// Waits until the events that the answer rests on are durable.
async fn finish<R: Error + Send + 'static>(
    panel: &LeftPanel,
    decided: Answerable<R>,
    session: Option<&Session>,
) -> Result<Receipt, ExecuteError<R>> {
    let Answerable { decided, key } = decided;
    let decided = match decided {
        // An earlier program without this mistake may have committed the command under its key.
        Err(failure) if key.is_some() && failure.is_mistake() => {
            let rests_on = panel.last_accepted();
            Decision::Settled { outcome: SettledOutcome::Failed(failure), rests_on }
        }
        decided => decided?,
    };
    let (outcome, rests_on) = match decided {
        Decision::Duplicate(receipt) => return Ok(receipt),
        Decision::Accepted { receipt, sync } if sync.is_done() => return Ok(receipt),
        Decision::Accepted { receipt, sync } => {
            let synced = sync.wait().await;
            panel.accepted_window.tidy(panel.head.position());
            return match synced {
                Ok(()) => Ok(receipt),
                Err(error) => Err(unknown(receipt, error).into()),
            };
        }
        Decision::Settled { outcome, rests_on } => (outcome, rests_on),
    };
    panel.published_upto(rests_on).await?;
    // The key is looked up only now. The decision may rest on events that this command wrote when
    // it was sent before, and these are published by now.
    if let Some(key) = key
        && let Some(receipt) = panel.committed_under(&key).await?
    {
        return Ok(receipt);
    }
    panel.store.check_history().map_err(CommandError::from)?;
    if !matches!(outcome, SettledOutcome::Failed(_)) && panel.head.is_ended() {
        // The outcome may rest on an outdated state: nothing was appended, so no condition
        // confirmed the state.
        return Err(CommandError::from(panel.head.ended().unwrap_or(Unavailable::Closed)).into());
    }
    // A rejection also shows the state to the session.
    if let Some(session) = session {
        session.saw(rests_on);
    }
    match outcome {
        SettledOutcome::Rejected(rejection) => Err(ExecuteError::Rejected(rejection)),
        SettledOutcome::Empty => Ok(panel.receipt(rests_on.plus(1), rests_on).await?),
        SettledOutcome::Failed(failure) => Err(failure.into()),
    }
}

fn unknown(receipt: Receipt, error: SyncError) -> CommandError {
    let (first, last) = (receipt.first(), receipt.last());
    CommandError::OutcomeUnknown(OutcomeUnknown { first, last, cause: error.cause })
}
