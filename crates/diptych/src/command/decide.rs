//! Carries out one command: brings its states up to date, decides, and appends on the condition
//! that no unknown event came in between.
//!
//! The subtle point is how an answer is proven. For events, the store checks the condition of the
//! append. A rejection or an empty outcome is not appended, so the command itself checks that the
//! log has no event that a state lacks. If a state contains events that are not synced yet, the
//! answer waits for their sync.

use std::{
    any::type_name,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, CommitSync, ContentChecksum,
    EventChecksum, Filter, HistoryPoint, Key, Metadata, Position, RawEvent, Refusal, Timestamp,
    Tracking,
};

use super::{
    Command, CommandPanic, Conflict, Folds, KeyReused,
    catch_up::{catch_up, overtaken},
    context::{DecisionContext, stamp},
    error::{CommandError, refused},
    expectation::{Expectation, boundary, expected, missed, union},
    folds::newest,
    gates::Hashes,
    panel::LeftPanel,
};
use crate::{
    event::{BoundaryError, Event, MarkedRead, Reading, Schema, SchemaError, encoded},
    panics::{caught, panic_text},
    token::Receipt,
};

/// A command with its options.
pub(crate) struct CommandRequest<C> {
    pub(crate) command: C,
    pub(crate) key: Option<Key>,
    pub(crate) metadata: Metadata,
    pub(crate) expected: Option<Expectation>,
    pub(crate) tracking: Option<Tracking>,
}

/// The decision of a command. Its place among other decisions is fixed, but it may not be durable
/// yet.
pub(crate) enum Decision<R> {
    Accepted {
        receipt: Receipt,
        sync: CommitSync,
    },
    /// The command was committed before, under its key.
    Duplicate(Receipt),
    /// Nothing was written. The outcome rests on the events up to `rests_on`.
    Settled {
        outcome: SettledOutcome<R>,
        rests_on: Position,
    },
}

pub(crate) enum SettledOutcome<R> {
    Rejected(R),
    Empty,
    Failed(CommandError),
}

pub(crate) async fn decide<C: Command>(
    panel: &LeftPanel,
    request: &CommandRequest<C>,
) -> Result<Decision<C::Rejection>, CommandError> {
    if let Err(invalid) = request.command.validate() {
        let outcome = SettledOutcome::Failed(CommandError::Invalid(invalid));
        return Ok(Decision::Settled { outcome, rests_on: Position::START });
    }
    let boundary = request.command.boundary();
    let mut gates = Hashes::default();
    <C::State as Folds>::gates(&boundary, &mut |hash| gates.push(hash));
    let _entered = panel.gates.enter(gates).await;
    let mut boundary = Some(boundary);
    let (mut slots, decided) = loop {
        // This position has to be taken before the states are opened. So each state knows the
        // retagged keys up to here.
        let retags_known = panel.schema.retags().known();
        let boundary = boundary.take().unwrap_or_else(|| request.command.boundary());
        let mut slots = <C::State as Folds>::open(boundary, &panel.states())?;
        for slot in <C::State as Folds>::slots(&mut slots).into_iter().flatten() {
            if let Some(declared) = slot.unchecked() {
                panel.sees_older(&*declared, slot.boundary()).await?;
            }
        }
        // If a key was retagged meanwhile, the states may lack older events, and are dropped.
        if let Some(decided) = attempts(panel, request, &mut slots, retags_known).await? {
            break (slots, decided);
        }
    };
    if panel.snapshots.is_some() {
        for slot in <C::State as Folds>::slots(&mut slots).into_iter().flatten() {
            slot.snapshot_if_due(panel.identity).into_iter().for_each(|due| panel.save(due));
        }
    }
    <C::State as Folds>::keep(slots, &panel.cache);
    Ok(decided)
}

/// The outcome of one attempt.
enum Attempt<R> {
    Decision(Decision<R>),
    /// The decision knew the events up to `after`, and the log has a relevant event at `at`.
    Overtaken {
        at: Position,
        after: Position,
    },
    /// Older events got a tag later, and the states do not know that yet.
    Retagged,
}

/// The decision, or `None` if the states have to be opened again.
async fn attempts<C: Command>(
    panel: &LeftPanel,
    request: &CommandRequest<C>,
    slots: &mut <C::State as Folds>::Slots,
    retags_known: Position,
) -> Result<Option<Decision<C::Rejection>>, CommandError> {
    let narrowed = request.command.conflicts_with();
    let narrowed = narrowed.map(|filter| narrow::<C>(&panel.schema, slots, &filter)).transpose()?;
    // A state may be behind only if the store notices that and another attempt can follow. With a
    // narrower condition the store does not notice it. With a single attempt the caller would get a
    // conflict, although the event came before the command.
    let behind = narrowed.is_none() && panel.retries.attempts > 1;
    let mut need = if behind { Position::START } else { panel.store.fresh_head().await? };
    let mut attempt = 1;
    loop {
        for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
            catch_up(panel, slot, need).await?;
        }
        let expected = match request.expected {
            Some(expectation) => Some(expected::<C>(panel, slots, expectation).await?),
            None => None,
        };
        let tried = match expected {
            Some(Err(failure)) => return Ok(Some(settled(failure))),
            Some(Ok(condition)) => {
                try_once(panel, request, slots, &narrowed, condition, retags_known).await?
            }
            None => try_once(panel, request, slots, &narrowed, None, retags_known).await?,
        };
        let (at, after) = match tried {
            Attempt::Decision(decided) => return Ok(Some(decided)),
            Attempt::Retagged => return Ok(None),
            Attempt::Overtaken { at, after } => (at, after),
        };
        panel.conflict();
        if attempt >= panel.retries.attempts {
            let filter = union::<C>(slots);
            panel.published_upto(at).await?;
            let boundary = boundary::<C>(slots);
            let missed =
                missed(panel, &MarkedRead::new(filter, Vec::new()), &boundary, after, at).await?;
            let conflict = Conflict { at, after, attempts: attempt, missed };
            return Ok(Some(settled(CommandError::Conflict(conflict))));
        }
        panel.retries.wait_before(attempt).await;
        if panel.store.has_other_writers() {
            // The states are read up to the head, so it has to be beyond the conflict.
            panel.store.fresh_head().await?;
        }
        // Read to the head and not only to the conflict, because other states may be further
        // behind.
        need = Position::MAX;
        attempt += 1;
    }
}

fn settled<R>(failure: CommandError) -> Decision<R> {
    Decision::Settled { outcome: SettledOutcome::Failed(failure), rests_on: Position::START }
}

async fn try_once<C: Command>(
    panel: &LeftPanel,
    request: &CommandRequest<C>,
    slots: &mut <C::State as Folds>::Slots,
    narrowed: &Option<Filter>,
    expected: Option<AppendCondition>,
    retags_known: Position,
) -> Result<Attempt<C::Rejection>, CommandError> {
    let newest = newest::<C::State>(slots);
    let (answer, decided_at) = {
        let states = <C::State as Folds>::states(slots);
        let context = DecisionContext::new(panel.clock.clone(), newest, &request.metadata);
        let decide = AssertUnwindSafe(|| request.command.decide(states, &context));
        (catch_unwind(decide), context.decided_at())
    };
    let outcome = match answer {
        Ok(Ok(events)) if !events.is_empty() => {
            let reading = panel.schema.reading::<C::Event>()?;
            let events = encode(&reading, &events, &request.metadata, decided_at)?;
            if let Some(outdated) = panel.schema.outdated_among(reading.types(), &events) {
                return Ok(Attempt::Decision(settled(outdated.into())));
            }
            let (filter, after) = (panel.schema.retags().filter(), retags_known);
            let retags = AppendCondition { fail_if: filter.clone(), after };
            return append(panel, request, slots, narrowed, expected, retags, events).await;
        }
        Ok(Ok(_)) => SettledOutcome::Empty,
        Ok(Err(rejection)) => SettledOutcome::Rejected(rejection),
        Err(panic) => SettledOutcome::Failed(CommandError::Panicked(CommandPanic {
            command: type_name::<C>(),
            message: panic_text(&*panic),
        })),
    };
    // Without an append no condition is checked, so commits of others have to be known here.
    let head = panel.store.fresh_head().await?;
    if panel.schema.retags().is_behind(&panel.store, retags_known, head).await? {
        return Ok(Attempt::Retagged);
    }
    let refs = <C::State as Folds>::slots(slots);
    let newest = refs.iter().flatten().map(|slot| slot.position()).max();
    let newest = newest.unwrap_or(Position::START);
    let mut rests_on = newest;
    for slot in refs.into_iter().flatten() {
        let after = slot.position();
        if let Some(at) = overtaken(panel, slot, newest).await? {
            return Ok(Attempt::Overtaken { at, after });
        }
        rests_on = rests_on.max(slot.position());
    }
    if let SettledOutcome::Failed(failure) = outcome {
        // A rule that panicked may have left a state half changed, so the states are not kept.
        return Err(failure);
    }
    Ok(Attempt::Decision(Decision::Settled { outcome, rests_on }))
}

async fn append<C: Command>(
    panel: &LeftPanel,
    request: &CommandRequest<C>,
    slots: &mut <C::State as Folds>::Slots,
    narrowed: &Option<Filter>,
    expected: Option<AppendCondition>,
    retags: AppendCondition,
    events: Vec<RawEvent>,
) -> Result<Attempt<C::Rejection>, CommandError> {
    let mut conditions = Vec::with_capacity(2);
    let mut known = Position::MAX;
    let mut all_read = false;
    for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
        // The slot decodes the events as a check: an event that cannot be read again must not be
        // written.
        all_read |= slot.prepare(&events)? == events.len();
        known = known.min(slot.position());
        if narrowed.is_none() && !slot.filter().items().is_empty() {
            let (fail_if, after) = (slot.filter().clone(), slot.position());
            conditions.push(AppendCondition { fail_if, after });
        }
    }
    if !all_read {
        read_again(&*panel.schema.reading::<C::Event>()?, &events)?;
    }
    // An empty filter matches no event, so its condition is left out.
    if let Some(filter) = narrowed.as_ref().filter(|filter| !filter.items().is_empty()) {
        conditions.push(AppendCondition { fail_if: filter.clone(), after: known });
    }
    conditions.extend(expected);
    let retags_known = retags.after;
    conditions.push(retags);
    let kept: Option<Arc<[RawEvent]>> = panel.keeps_accepted().then(|| events.as_slice().into());
    let content = events.last().map(ContentChecksum::of);
    let (key, tracking) = (request.key.clone(), request.tracking.clone());
    let append = Append { events, conditions, key, tracking, ..Append::default() };
    let began = panel.metrics.now();
    let answer = panel.store.append(append).await;
    panel.metrics.appended(began);
    let accepted = match answer {
        Ok(accepted) => accepted,
        Err(AppendError::Refused(refusal)) => {
            return after_refusal(panel, request, refusal, retags_known).await;
        }
        // The states are still current, so the decision returns normally and they are kept.
        Err(error @ AppendError::Invalid(_)) => {
            return Ok(Attempt::Decision(settled(error.into())));
        }
        Err(error) => return Err(error.into()),
    };
    panel.accepted(&accepted, kept);
    panel.schema.retags().has_none_upto(accepted.last);
    let AcceptedCommit { first, last, recorded_at, sync } = accepted;
    for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
        // With a narrower condition, events that the state lacks may have come in between.
        if narrowed.is_some() && first.before() != slot.position() {
            continue;
        }
        if let Err(error) = slot.advance(first, last, recorded_at) {
            // The commit stands. The next command that needs the state gets the error.
            tracing::error!(%error, "an event that was just written cannot be folded");
            slot.poison();
        }
    }
    let checksum = content.map_or(EventChecksum::START, |content| content.at(last, recorded_at));
    panel.lineage.note(last, checksum);
    let point = HistoryPoint { log: panel.identity, position: last, checksum };
    let receipt = Receipt::new(first, point);
    Ok(Attempt::Decision(Decision::Accepted { receipt, sync }))
}

/// The outcome of an append that the store refused.
async fn after_refusal<C: Command>(
    panel: &LeftPanel,
    request: &CommandRequest<C>,
    refusal: Refusal,
    retags_known: Position,
) -> Result<Attempt<C::Rejection>, CommandError> {
    match refusal {
        Refusal::Conflict { at, after } => {
            // A commit of a command has no fence and no completion, so the wait is seldom needed.
            if after == retags_known && !panel.accepted_window.has(at) {
                panel.published_upto(at).await?;
                if panel.schema.retags().is_behind(&panel.store, retags_known, at).await? {
                    return Ok(Attempt::Retagged);
                }
            }
            Ok(Attempt::Overtaken { at, after })
        }
        Refusal::KeyTaken { first, last } => {
            let receipt = panel.receipt(first, last).await?;
            Ok(Attempt::Decision(Decision::Duplicate(receipt)))
        }
        Refusal::KeyReused { first, last } => {
            let key = request.key.as_ref().map_or_else(String::new, |key| key.name.to_string());
            let reused = KeyReused { key, first, last };
            Ok(Attempt::Decision(settled(CommandError::KeyReused(reused))))
        }
        // The states are still current, so the decision returns normally and they are kept.
        refusal @ (Refusal::AlreadyTracked { .. } | Refusal::OriginChanged { .. }) => {
            Ok(Attempt::Decision(settled(CommandError::Tracking(refusal))))
        }
        refusal @ Refusal::Rows { .. } => {
            Ok(Attempt::Decision(settled(CommandError::Rows(refusal))))
        }
        other => Err(refused(other)),
    }
}

/// Decodes the events that are about to be written, as a check. This is needed if no state of the
/// command decodes all events.
pub(crate) fn read_again<E: Event>(
    reading: &Reading<E>,
    events: &[RawEvent],
) -> Result<(), CommandError> {
    events.iter().try_for_each(|event| reading.decode(&encoded(event)).map(drop))?;
    Ok(())
}

/// The events as they are written, with the metadata that the sender of the command gave.
pub(crate) fn encode<E: Event>(
    reading: &Reading<E>,
    events: &[E],
    metadata: &Metadata,
    decided_at: Option<Timestamp>,
) -> Result<Vec<RawEvent>, CommandError> {
    let mut encoded = Vec::with_capacity(events.len());
    for event in events {
        let failed = |reason| SchemaError::Encode { what: type_name::<E>(), reason };
        let mut event = caught(|| event.encode()).map_err(failed)??;
        reading.check(&event)?;
        add_metadata(&mut event.metadata, metadata);
        stamp(&mut event.metadata, decided_at);
        encoded.push(event);
    }
    Ok(encoded)
}

/// Metadata of `execute` applies to every event. Where it is not set, the event's own value stays.
pub(crate) fn add_metadata(own: &mut Metadata, given: &Metadata) {
    own.occurred_at = given.occurred_at.or(own.occurred_at);
    own.correlation = given.correlation.or(own.correlation);
    own.causation = given.causation.or(own.causation);
    if given.actor.is_some() {
        own.actor.clone_from(&given.actor);
    }
    for (name, value) in &given.extra {
        own.extra.insert(name.clone(), value.clone());
    }
}

/// Narrows the filter of [`Command::conflicts_with`] to the events of the command's folds.
pub(crate) fn narrow<C: Command>(
    schema: &Schema,
    slots: &mut <C::State as Folds>::Slots,
    filter: &Filter,
) -> Result<Filter, CommandError> {
    schema.check_tags(filter)?;
    let mut narrowed = Filter::nothing();
    for item in filter.items() {
        let one = Filter::from(item.clone());
        let mut refused = None;
        let mut known = false;
        for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
            match slot.narrow(&one) {
                Ok(filter) => {
                    // A fold without event types takes any filter, and no event can match it.
                    known |= !filter.items().is_empty();
                    narrowed = narrowed.or(filter);
                }
                Err(error) => refused = Some(error),
            }
        }
        if !known {
            let conflicts = filter.to_string();
            return Err(refused.unwrap_or(BoundaryError::NoState { conflicts }).into());
        }
    }
    Ok(narrowed)
}
