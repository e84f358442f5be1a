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
    HistoryPoint, Key, Metadata, Position, SyncError, Synced, Timestamp, Unavailable,
};
use serde::Serialize;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use super::{
    Command, ExecuteError, Invalid, KeyReused, Lane, OutcomeUnknown,
    core::Core,
    decide::{Decided, Expected, Outcome, Request, decide},
    error::Failure,
    note::{check_key, note_key},
};
use crate::{
    App, Receipt, Recorded, Session, SessionToken, digest::request_digest, lineage::Claims,
    meters::CommandMeters,
};

/// A command on its way: say more about it, then await it.
///
/// Awaited, it answers with the [`Receipt`] once its events are durable. Dropped before that, it
/// may still commit; under a [`key`](Execute::key) it is safe to send it again. Once polled it is
/// to be polled on or dropped: what it holds meanwhile others on its boundary wait for, a tenth of
/// a second at most, and [`App::stop`] waits for it to end.
#[must_use = "a command does nothing until it is awaited"]
pub struct Execute<C> {
    app: App,
    lane: Option<Lane>,
    request: Request<C>,
    session: Option<Session>,
    /// The tokens and sessions that its sender carries along.
    claims: Claims,
    /// Something that was said about it makes no sense.
    failed: Option<Failure>,
}

impl<C: Command> Execute<C> {
    pub(crate) fn new(app: App, lane: Option<Lane>, command: C) -> Execute<C> {
        let metadata = Metadata { occurred_at: command.occurred_at(), ..Metadata::default() };
        let request = Request { command, key: None, metadata, expected: None };
        let (session, claims, failed) = (None, Claims::default(), None);
        Execute { app, lane, request, session, claims, failed }
    }

    /// At most once, however often it is sent: the key is remembered with the commit for ever.
    ///
    /// The same command under the same key gets the receipt of the first commit, also where the
    /// rule would now reject it. Another command under it is [`ExecuteError::KeyReused`]: the
    /// two are told apart by their serialised content, with the name of the type as serde knows
    /// it. A command that was rejected, or wrote nothing, is not remembered.
    ///
    /// A key that begins with `diptych:` is [`ExecuteError::Invalid`]: those are for
    /// [`note_of`](Execute::note_of).
    pub fn key(self, key: impl AsRef<str>) -> Execute<C>
    where
        C: Serialize,
    {
        let key = key.as_ref();
        let made = match check_key(key) {
            Ok(()) => request_digest(&self.request.command)
                .map(|digest| Key::new(key, digest))
                .map_err(|error| Invalid::new("key", format!("the command has no key: {error}"))),
            Err(invalid) => Err(invalid),
        };
        self.under(made)
    }

    /// Puts on record, once, that a command which was sent under `key` was rejected: this command
    /// is the note.
    ///
    /// However often the same command is sent under the same key and rejected for the same reason,
    /// it is noted once; for another reason it is noted again. The note is kept under a key made
    /// of a digest of all three, which begins with `diptych:`. No caller can
    /// [choose](Execute::key) such a key, so none can prevent a note by using its key first, or by
    /// the length of its own.
    pub fn note_of<N, R>(self, key: impl AsRef<str>, command: &N, rejection: &R) -> Execute<C>
    where
        N: Serialize + ?Sized,
        R: Serialize + ?Sized,
    {
        let made = note_key(key.as_ref(), command, rejection);
        self.under(
            made.map_err(|error| Invalid::new("key", format!("the rejection has no key: {error}"))),
        )
    }

    fn under(mut self, key: Result<Key, Invalid>) -> Execute<C> {
        match key {
            Ok(key) => self.request.key = Some(key),
            Err(invalid) => self.failed = Some(Failure::Invalid(invalid)),
        }
        self
    }

    /// Who sends it.
    pub fn actor(mut self, actor: impl AsRef<str>) -> Execute<C> {
        self.request.metadata.actor = Some(CompactString::new(actor));
        self
    }

    /// When it was so, where that differs from when it is recorded, and from what the command
    /// [says itself](Command::occurred_at).
    pub fn occurred_at(mut self, instant: Timestamp) -> Execute<C> {
        self.request.metadata.occurred_at = Some(instant);
        self
    }

    /// The conversation that it belongs to.
    pub fn correlation(mut self, id: Uuid) -> Execute<C> {
        self.request.metadata.correlation = Some(id);
        self
    }

    /// What caused it.
    pub fn causation(mut self, id: Uuid) -> Execute<C> {
        self.request.metadata.causation = Some(id);
        self
    }

    /// This event caused it: what comes of the command names it as its cause, and belongs to the
    /// same conversation.
    pub fn caused_by<E>(self, event: &Recorded<E>) -> Execute<C> {
        self.causation(event.id).correlation(event.correlation())
    }

    /// Whatever else should be known about what comes of it.
    pub fn further(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Execute<C> {
        let (name, value) = (CompactString::new(name), CompactString::new(value));
        self.request.metadata.further.insert(name, value);
        self
    }

    /// Only if nothing in the boundary came after this position: that of an answer or receipt
    /// that the sender of the command had before its eyes. Otherwise it is a
    /// [`Conflict`](ExecuteError::Conflict) that lists what was missed, and not decided again.
    ///
    /// A command whose boundary has no events, because it has no state for example, is refused
    /// with [`BoundaryError::NoBoundary`](super::BoundaryError::NoBoundary): the expectation would
    /// hold whatever happened.
    pub fn unchanged_since(mut self, position: Position) -> Execute<C> {
        self.request.expected = Some(Expected::Position(position));
        self
    }

    /// Only if the stream has this many events. The boundary has to be one tag: the stream.
    /// Otherwise it is a [`Conflict`](ExecuteError::Conflict) that lists what was missed.
    pub fn expected_revision(mut self, revision: u64) -> Execute<C> {
        self.request.expected = Some(Expected::Revision(revision));
        self
    }

    /// Decided on everything that was written and seen in this session, which notes what comes of
    /// it (*writes follow reads*): where that was written, or, of a rejection, what it rests on.
    pub fn session(mut self, session: &Session) -> Execute<C> {
        self.session = Some(session.clone());
        self.claims.session(self.app.lineage(), session, session.known());
        self
    }

    /// Decided on everything that another session wrote and saw, up to when this token was taken.
    pub fn token(self, token: &SessionToken) -> Execute<C> {
        token.logs().fold(self, |execute, (point, _)| execute.knowing(point))
    }

    /// Decided on what this command wrote.
    pub fn after(self, receipt: &Receipt) -> Execute<C> {
        self.knowing(receipt.point())
    }

    /// A decision knows everything up to the head, so a position below it is known.
    fn knowing(mut self, point: HistoryPoint) -> Execute<C> {
        self.claims.point(self.app.lineage(), point);
        self
    }

    /// Waits until the command is decided and has its place, not until it is durable: that is
    /// what awaiting the [`Pending`] answer is for.
    pub async fn submit(self) -> Pending<C::Rejection> {
        let (app, session) = (self.app.clone(), self.session.clone());
        let observed = Observed::begin(&app.core, &self);
        let span = observed.span.clone();
        let answerable = match app.core.running.begin() {
            Ok(_running) => self.decide(&app.core).instrument(span).await,
            Err(failure) => Answerable { decided: Err(failure), key: None },
        };
        let wait = match answerable.decided {
            Ok(Decided::Accepted { receipt, sync }) => Wait::Sync { receipt, sync, waiting: None },
            _ => {
                let session = session.clone();
                let finished = async move { finish(&app.core, answerable, session.as_ref()).await };
                Wait::Finish(Box::pin(finished))
            }
        };
        Pending { wait, session, observed: Some(observed) }
    }

    async fn decide(self, core: &Core) -> Answerable<C::Rejection> {
        let Execute { lane, request, claims, failed, .. } = self;
        let failed = match failed {
            None if !claims.are_settled() => {
                claims.settle(&core.lineage).await.err().map(Into::into)
            }
            failed => failed,
        };
        let decided = match (failed, &lane) {
            (Some(failure), _) => Err(failure),
            (None, None) => decide(core, &request).await,
            (None, Some(lane)) => lane.decide(core, &request).await,
        };
        Answerable { decided, key: request.key }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<C: Command> IntoFuture for Execute<C> {
    type Output = Result<Receipt, ExecuteError<C::Rejection>>;
    type IntoFuture = Boxed<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (app, session) = (self.app.clone(), self.session.clone());
            let _running = app.core.running.begin()?;
            let observed = Observed::begin(&app.core, &self);
            let span = observed.span.clone();
            let answer = async {
                let answerable = self.decide(&app.core).await;
                finish(&app.core, answerable, session.as_ref()).await
            };
            let answer = answer.instrument(span).await;
            observed.end(&answer);
            if let (Ok(receipt), Some(session)) = (&answer, &session) {
                session.wrote(receipt);
            }
            answer
        })
    }
}

impl<C> fmt::Debug for Execute<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("key", &self.request.key)
            .field("metadata", &self.request.metadata)
            .finish_non_exhaustive()
    }
}

/// The answer to a command that was [submitted](Execute::submit): comes when it is durable.
///
/// Dropping it changes nothing: the command is decided, and what it wrote will be there.
#[must_use = "the command is not durable before its answer is there"]
pub struct Pending<R: Error + 'static> {
    wait: Wait<R>,
    session: Option<Session>,
    /// Until it is answered.
    observed: Option<Observed>,
}

/// What an answer waits for. The one that is almost always there costs nothing before it is
/// asked for, when it is often ready.
enum Wait<R: Error + 'static> {
    Sync { receipt: Receipt, sync: Synced, waiting: Option<Boxed<Result<(), SyncError>>> },
    Finish(Boxed<Result<Receipt, ExecuteError<R>>>),
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

impl<R: Error + 'static> Wait<R> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Receipt, ExecuteError<R>>> {
        let (receipt, synced) = match self {
            Wait::Finish(finish) => return finish.as_mut().poll(context),
            Wait::Sync { receipt, sync, .. } if sync.is_done() => (*receipt, Ok(())),
            Wait::Sync { receipt, sync, waiting } => {
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

/// A command as it is seen from outside: how long it takes, and in which span.
struct Observed {
    span: Span,
    /// Since when, and where that is told.
    measured: Option<(Instant, Arc<CommandMeters>)>,
}

impl Observed {
    fn begin<C: Command>(core: &Core, execute: &Execute<C>) -> Observed {
        let Metadata { correlation, causation, .. } = &execute.request.metadata;
        let span = tracing::debug_span!(
            "execute",
            command = type_name::<C>(),
            correlation = correlation.map(tracing::field::display),
            causation = causation.map(tracing::field::display),
            first = Empty,
            last = Empty,
            error = Empty,
        );
        Observed { span, measured: core.meters.now().zip(core.meters.command::<C>()) }
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

/// What is left of a command when it has its place.
struct Answerable<R> {
    decided: Result<Decided<R>, Failure>,
    key: Option<Key>,
}

/// Waits for what the answer rests on.
async fn finish<R: Error + Send + 'static>(
    core: &Core,
    decided: Answerable<R>,
    session: Option<&Session>,
) -> Result<Receipt, ExecuteError<R>> {
    let Answerable { decided, key } = decided;
    let decided = match decided {
        // What fails now may have been done before, by a program that could.
        Err(failure) if key.is_some() && failure.is_mistake() => {
            let rests_on = core.last_accepted();
            Decided::Settled { outcome: Outcome::Failed(failure), rests_on }
        }
        decided => decided?,
    };
    let (outcome, rests_on) = match decided {
        Decided::Duplicate(receipt) => return Ok(receipt),
        Decided::Accepted { receipt, sync } if sync.is_done() => return Ok(receipt),
        Decided::Accepted { receipt, sync } => {
            let synced = sync.wait().await;
            core.unsynced.tidy(core.head.position());
            return match synced {
                Ok(()) => Ok(receipt),
                Err(error) => Err(unknown(receipt, error).into()),
            };
        }
        Decided::Settled { outcome, rests_on } => (outcome, rests_on),
    };
    core.published_upto(rests_on).await?;
    // Only now, because what it was decided from may be the first sending of this command.
    if let Some(key) = key
        && let Some(receipt) = core.committed_under(&key).await?
    {
        return Ok(receipt);
    }
    if !matches!(outcome, Outcome::Failed(_)) && core.head.is_ended() {
        // The log may have gone on elsewhere, and no append would have noticed.
        return Err(Failure::from(core.head.ended().unwrap_or(Unavailable::Closed)).into());
    }
    // A rejection tells what was seen, too.
    if let Some(session) = session {
        session.saw(rests_on);
    }
    match outcome {
        Outcome::Rejected(rejection) => Err(ExecuteError::Rejected(rejection)),
        Outcome::Empty => Ok(core.receipt(rests_on.plus(1), rests_on).await?),
        Outcome::Failed(failure) => Err(failure.into()),
    }
}

fn unknown(receipt: Receipt, error: SyncError) -> Failure {
    let (first, last) = (receipt.first(), receipt.last());
    Failure::OutcomeUnknown(OutcomeUnknown { first, last, cause: error.cause })
}

impl Core {
    pub(crate) async fn published_upto(&self, position: Position) -> Result<(), Failure> {
        if self.head.position() < position {
            self.head.after(position.before()).await?;
        }
        Ok(())
    }

    async fn committed_under(&self, key: &Key) -> Result<Option<Receipt>, Failure> {
        let Some(commit) = self.store.keyed(&key.name).await? else { return Ok(None) };
        let (first, last) = (commit.first, commit.last);
        if commit.digest != key.digest {
            let key = key.name.to_string();
            return Err(Failure::KeyReused(KeyReused { key, first, last }));
        }
        Ok(Some(self.receipt(first, last).await?))
    }

    /// The receipt of what is in the log from `first` to `last`.
    pub(crate) async fn receipt(
        &self,
        first: Position,
        last: Position,
    ) -> Result<Receipt, Failure> {
        Ok(Receipt::new(first, self.lineage.point(last).await?))
    }
}
