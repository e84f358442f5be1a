//! Carrying out one command: bring its states up to date, decide, append on the condition that
//! nothing came which the decision did not know.
//!
//! The subtle thing is what an answer rests on. Events rest on the append's condition, which the
//! store checks. A rejection or an empty outcome has nothing to check it, so a state from the
//! cache is confirmed by the last position of its filter first; and where the state has events
//! that are not synced yet, the answer waits for them.

use std::{
    any::type_name,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, CommitSync, ContentChecksum,
    EventChecksum, Filter, HistoryPoint, InvalidRequest, Key, Metadata, Position, RawEvent, Read,
    Refusal, Tag,
};

use super::{
    BoundaryError, Command, Conflict, Folds, KeyReused, Panicked,
    core::Core,
    error::{Failure, refused},
    folds::Slot,
    gates::Hashes,
    unsynced::{Above, Within},
};
use crate::{
    event::{Event, Reading, Recorded, Schema, SchemaError, encoded},
    fold::{caught, panic_text},
    snapshot::{self, Snapshots},
    token::Receipt,
};

/// A command with everything that was said about it.
pub(crate) struct Request<C> {
    pub(crate) command: C,
    pub(crate) key: Option<Key>,
    pub(crate) metadata: Metadata,
    pub(crate) expected: Option<Expected>,
}

/// What the caller of a command believes to be the end of the boundary.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Position(Position),
    Revision(u64),
}

/// A command that was decided. Its place among others is fixed, and it is not durable yet.
pub(crate) enum Decided<R> {
    Accepted {
        receipt: Receipt,
        sync: CommitSync,
    },
    /// It was committed before, under its key.
    Duplicate(Receipt),
    /// Nothing was written, for a reason that rests on everything up to here.
    Settled {
        outcome: Outcome<R>,
        rests_on: Position,
    },
}

pub(crate) enum Outcome<R> {
    Rejected(R),
    Empty,
    Failed(Failure),
}

pub(crate) async fn decide<C: Command>(
    core: &Core,
    request: &Request<C>,
) -> Result<Decided<C::Rejection>, Failure> {
    if let Err(invalid) = request.command.validate() {
        let outcome = Outcome::Failed(Failure::Invalid(invalid));
        return Ok(Decided::Settled { outcome, rests_on: Position::START });
    }
    let boundary = request.command.boundary();
    let mut gates = Hashes::default();
    <C::State as Folds>::gates(&boundary, &mut |hash| gates.push(hash));
    let _entered = core.gates.enter(gates).await;
    let mut slots = <C::State as Folds>::open(boundary, &core.schema, Some(&core.cache))?;
    for slot in <C::State as Folds>::slots(&mut slots).into_iter().flatten() {
        if let Some(declared) = slot.unchecked() {
            core.sees_older(&*declared, slot.boundary()).await?;
        }
    }
    let decided = attempts(core, request, &mut slots).await?;
    if core.snapshots.is_some() {
        for slot in <C::State as Folds>::slots(&mut slots).into_iter().flatten() {
            slot.due(core.identity).into_iter().for_each(|due| core.save(due));
        }
    }
    <C::State as Folds>::keep(slots, &core.cache);
    Ok(decided)
}

/// What one try came to.
enum Tried<R> {
    Decided(Decided<R>),
    /// Something came that the decision did not know, up to here.
    Overtaken {
        at: Position,
        after: Position,
    },
}

async fn attempts<C: Command>(
    core: &Core,
    request: &Request<C>,
    slots: &mut <C::State as Folds>::Slots,
) -> Result<Decided<C::Rejection>, Failure> {
    let narrowed = request.command.conflicts_with();
    let narrowed = narrowed.map(|filter| narrow::<C>(&core.schema, slots, &filter)).transpose()?;
    let begun = core.head.position();
    // With a narrower condition the store does not notice a state that is behind. With one try
    // what it notices is a conflict, and what came before the command is none.
    let behind = narrowed.is_none() && core.retries.attempts > 1;
    let mut need = if behind { Position::START } else { begun };
    let mut attempt = 1;
    loop {
        for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
            core.catch_up(slot, need).await?;
        }
        let expected = match request.expected {
            Some(expected) => Some(core.expected::<C>(slots, expected).await?),
            None => None,
        };
        let tried = match expected {
            Some(Err(failure)) => return Ok(settled(failure)),
            Some(Ok(condition)) => try_once(core, request, slots, &narrowed, condition).await?,
            None => try_once(core, request, slots, &narrowed, None).await?,
        };
        let (at, after) = match tried {
            Tried::Decided(decided) => return Ok(decided),
            Tried::Overtaken { at, after } => (at, after),
        };
        core.conflict();
        if attempt >= core.retries.attempts {
            let filter = union::<C>(slots);
            core.published_upto(at).await?;
            let missed = core.missed(&filter, after, at).await?;
            return Ok(settled(Failure::Conflict(Conflict {
                at,
                after,
                attempts: attempt,
                missed,
            })));
        }
        core.retries.wait_before(attempt).await;
        // Not only up to what was noticed: other states may be behind by more.
        need = Position::MAX;
        attempt += 1;
    }
}

fn settled<R>(failure: Failure) -> Decided<R> {
    Decided::Settled { outcome: Outcome::Failed(failure), rests_on: Position::START }
}

async fn try_once<C: Command>(
    core: &Core,
    request: &Request<C>,
    slots: &mut <C::State as Folds>::Slots,
    narrowed: &Option<Filter>,
    expected: Option<AppendCondition>,
) -> Result<Tried<C::Rejection>, Failure> {
    let states = <C::State as Folds>::states(slots);
    let answer = catch_unwind(AssertUnwindSafe(|| request.command.decide(states)));
    let outcome = match answer {
        Ok(Ok(events)) if !events.is_empty() => {
            return append(core, request, slots, narrowed, expected, &events).await;
        }
        Ok(Ok(_)) => Outcome::Empty,
        Ok(Err(rejection)) => Outcome::Rejected(rejection),
        Err(panic) => Outcome::Failed(Failure::Panicked(Panicked {
            command: type_name::<C>(),
            message: panic_text(&*panic),
        })),
    };
    let refs = <C::State as Folds>::slots(slots);
    let newest = refs.iter().flatten().map(|slot| slot.position()).max();
    let newest = newest.unwrap_or(Position::START);
    let mut rests_on = newest;
    for slot in refs.into_iter().flatten() {
        let after = slot.position();
        if let Some(at) = core.overtaken(slot, newest).await? {
            return Ok(Tried::Overtaken { at, after });
        }
        rests_on = rests_on.max(slot.position());
    }
    if let Outcome::Failed(failure) = outcome {
        // A rule that panicked may have left its state half changed: it is not kept.
        return Err(failure);
    }
    Ok(Tried::Decided(Decided::Settled { outcome, rests_on }))
}

async fn append<C: Command>(
    core: &Core,
    request: &Request<C>,
    slots: &mut <C::State as Folds>::Slots,
    narrowed: &Option<Filter>,
    expected: Option<AppendCondition>,
    events: &[C::Event],
) -> Result<Tried<C::Rejection>, Failure> {
    let reading = core.schema.reading::<C::Event>()?;
    let events = encode(&reading, events, &request.metadata)?;
    let mut conditions = Vec::with_capacity(2);
    let mut known = Position::MAX;
    let mut all_read = false;
    for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
        // Here, because what cannot be read again must not be written.
        all_read |= slot.prepare(&events)? == events.len();
        known = known.min(slot.position());
        if narrowed.is_none() && !slot.filter().items().is_empty() {
            let (fail_if, after) = (slot.filter().clone(), slot.position());
            conditions.push(AppendCondition { fail_if, after });
        }
    }
    if !all_read {
        read_again(&reading, &events)?;
    }
    // A condition that nothing violates needs no place in the request.
    if let Some(filter) = narrowed.as_ref().filter(|filter| !filter.items().is_empty()) {
        conditions.push(AppendCondition { fail_if: filter.clone(), after: known });
    }
    conditions.extend(expected);
    let kept: Option<Arc<[RawEvent]>> = core.keeps_accepted().then(|| events.as_slice().into());
    let content = events.last().map(ContentChecksum::of);
    let append = Append { events, conditions, key: request.key.clone(), ..Append::default() };
    let began = core.meters.now();
    let answer = core.store.append(append).await;
    core.meters.appended(began);
    let accepted = match answer {
        Ok(accepted) => accepted,
        Err(AppendError::Refused(refusal)) => return overtaken(core, request, refusal).await,
        // The states are as true as before, and kept.
        Err(error @ AppendError::Invalid(_)) => return Ok(Tried::Decided(settled(error.into()))),
        Err(error) => return Err(error.into()),
    };
    core.accepted(&accepted, kept);
    let AcceptedCommit { first, last, recorded_at, sync } = accepted;
    for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
        // With a narrower condition something may have come between that is not in the state.
        if narrowed.is_some() && first.before() != slot.position() {
            continue;
        }
        if let Err(error) = slot.advance(first, last, recorded_at) {
            // The commit stands. Whoever needs the state next meets the error.
            tracing::error!(%error, "an event that was just written cannot be folded");
            slot.spoil();
        }
    }
    let checksum = content.map_or(EventChecksum::START, |content| content.at(last, recorded_at));
    core.lineage.note(last, checksum);
    let point = HistoryPoint { log: core.identity, position: last, checksum };
    let receipt = Receipt::new(first, point);
    Ok(Tried::Decided(Decided::Accepted { receipt, sync }))
}

async fn overtaken<C: Command>(
    core: &Core,
    request: &Request<C>,
    refusal: Refusal,
) -> Result<Tried<C::Rejection>, Failure> {
    match refusal {
        Refusal::Conflict { at, after } => Ok(Tried::Overtaken { at, after }),
        Refusal::KeyTaken { first, last } => {
            let receipt = core.receipt(first, last).await?;
            Ok(Tried::Decided(Decided::Duplicate(receipt)))
        }
        Refusal::KeyReused { first, last } => {
            let key = request.key.as_ref().map_or_else(String::new, |key| key.name.to_string());
            let reused = KeyReused { key, first, last };
            Ok(Tried::Decided(settled(Failure::KeyReused(reused))))
        }
        other => Err(refused(other)),
    }
}

/// Reads what is about to be written, which no state of the command has read as a whole.
fn read_again<E: Event>(reading: &Reading<E>, events: &[RawEvent]) -> Result<(), Failure> {
    events.iter().try_for_each(|event| reading.decode(&encoded(event)).map(drop))?;
    Ok(())
}

fn encode<E: Event>(
    reading: &Reading<E>,
    events: &[E],
    metadata: &Metadata,
) -> Result<Vec<RawEvent>, Failure> {
    let mut encoded = Vec::with_capacity(events.len());
    for event in events {
        let failed = |reason| SchemaError::Encode { what: type_name::<E>(), reason };
        let mut event = caught(|| event.encode()).map_err(failed)??;
        reading.check(&event)?;
        add_metadata(&mut event.metadata, metadata);
        encoded.push(event);
    }
    Ok(encoded)
}

/// What was said on `execute` is about every event; what the event says of itself stays where
/// nothing was said.
fn add_metadata(own: &mut Metadata, given: &Metadata) {
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

/// What a command narrows its condition to has to be something that its folds know.
pub(crate) fn narrow<C: Command>(
    schema: &Schema,
    slots: &mut <C::State as Folds>::Slots,
    filter: &Filter,
) -> Result<Filter, Failure> {
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

fn union<C: Command>(slots: &mut <C::State as Folds>::Slots) -> Filter {
    let slots = <C::State as Folds>::slots(slots).into_iter().flatten();
    slots.fold(Filter::nothing(), |union, slot| union.or(slot.filter().clone()))
}

impl Core {
    /// Brings a state up to everything published at least up to `need`, and to what this process
    /// had accepted since.
    pub(crate) async fn catch_up(
        &self,
        slot: &mut dyn Slot,
        need: Position,
    ) -> Result<(), Failure> {
        if slot.is_cold() {
            let head = self.head.position();
            if let Some(place) = &self.snapshots {
                self.recall(slot, &**place, head).await?;
            }
            self.read(slot, head).await?;
        } else {
            let head = self.head.position();
            let wanted = match self.unsynced.may_have_written(slot.filter(), slot.position()) {
                true => head,
                false => need,
            };
            // What is needed may be accepted and not published: then it is found below.
            self.read(slot, wanted.min(head)).await?;
        }
        loop {
            let head = self.head.position();
            match self.unsynced.above(slot.filter(), slot.position(), head) {
                Above::Nothing => return Ok(()),
                Above::Known { found, upto } => slot.fold_accepted(&found, upto)?,
                Above::Unknown { .. } if slot.position() < head => self.read(slot, head).await?,
                Above::Unknown { until } => {
                    // What was waited for is nowhere but in the log now.
                    let head = self.head.after(until.before()).await?;
                    self.read(slot, head).await?;
                }
            }
        }
    }

    /// Begins from what was kept outside the log, if that is of the history that the log has.
    async fn recall(
        &self,
        slot: &mut dyn Slot,
        place: &dyn Snapshots,
        head: Position,
    ) -> Result<(), Failure> {
        let Some(HistoryPoint { position, checksum, .. }) = slot.recall(place, self.identity, head)
        else {
            return Ok(());
        };
        if self.lineage.checksum(position).await? != Some(checksum) {
            slot.forget(place, &snapshot::of_a_lost_history(position));
        }
        Ok(())
    }

    async fn read(&self, slot: &mut dyn Slot, upto: Position) -> Result<(), Failure> {
        while slot.position() < upto || slot.is_cold() {
            let read = Read::after(slot.position()).upto(upto.max(slot.position()));
            let batch = self.store.read(slot.filter(), read).await?;
            let done = batch.upto() >= upto;
            slot.fold(&batch)?;
            if !done {
                // A long history is folded in turns with what else runs on this thread.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Whether something came that is not in the state, as far as is published and up to
    /// `newest`, the end of the newest state of the same decision: then where.
    ///
    /// A state beyond what is published is complete up to its own position and no further, so
    /// beside one that is newer it might never have been.
    async fn overtaken(
        &self,
        slot: &mut dyn Slot,
        newest: Position,
    ) -> Result<Option<Position>, Failure> {
        loop {
            let head = self.head.position();
            if slot.position() < head {
                let last = self.store.last(slot.filter(), head).await?;
                if let Some(at) = last.filter(|at| *at > slot.position()) {
                    return Ok(Some(at));
                }
                slot.considered(head);
            }
            if slot.position() >= newest {
                return Ok(None);
            }
            match self.unsynced.within(slot.filter(), slot.position(), newest) {
                Within::Nothing => slot.considered(newest),
                Within::Match(at) => return Ok(Some(at)),
                Within::Unknown => self.published_upto(newest).await?,
            }
        }
    }

    /// The caller's expectation as a condition of the append, or why it does not hold already.
    ///
    /// An expectation that no event could violate is a mistake: a caller who states one believes
    /// that it protects a decision, and would get a receipt for a lost update.
    async fn expected<C: Command>(
        &self,
        slots: &mut <C::State as Folds>::Slots,
        expected: Expected,
    ) -> Result<Result<Option<AppendCondition>, Failure>, Failure> {
        let (filter, after) = match expected {
            Expected::Position(after) => match union::<C>(slots) {
                filter if filter.items().is_empty() => {
                    return Err(BoundaryError::NoBoundary { since: after }.into());
                }
                filter => (filter, after),
            },
            Expected::Revision(revision) => {
                let tag = stream::<C>(slots)?;
                match self.at_revision(&tag, revision).await? {
                    Ok(after) => (Filter::tag(tag), after),
                    Err(conflict) => return Ok(Err(Failure::Conflict(conflict))),
                }
            }
        };
        let head = self.published(&filter).await?;
        if after > head {
            // A rejection and an empty outcome are not appended, so the store cannot refuse it.
            let above = InvalidRequest::AboveHead { position: after, head };
            return Ok(Err(Failure::NotTaken(above)));
        }
        let last = self.store.last(&filter, head).await?;
        match last.filter(|at| *at > after) {
            None => Ok(Ok(Some(AppendCondition { fail_if: filter, after: head }))),
            Some(at) => {
                let missed = self.missed(&filter, after, at).await?;
                let conflict = Conflict { at, after, attempts: 1, missed };
                Ok(Err(Failure::Conflict(conflict)))
            }
        }
    }

    /// Where the stream of this tag has this revision: the position of its event of that rank.
    async fn at_revision(
        &self,
        tag: &Tag,
        revision: u64,
    ) -> Result<Result<Position, Conflict>, Failure> {
        let stream = Filter::tag(tag.clone());
        let head = self.published(&stream).await?;
        let events = self.store.count(tag, head).await?;
        if events < revision {
            // The caller has seen more than there is: it was another log, or another stream.
            let at = self.store.last(&stream, head).await?.unwrap_or(Position::START);
            return Ok(Err(Conflict { at, after: at, attempts: 1, missed: Vec::new() }));
        }
        // The lowest position up to which there are so many; the stream may be long.
        let (mut low, mut high) = (0, head.get());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store.count(tag, Position::new(middle)).await? < revision {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(Ok(Position::new(low)))
    }

    /// Waits until what this process had accepted in the filter is published.
    async fn published(&self, filter: &Filter) -> Result<Position, Failure> {
        loop {
            let head = self.head.position();
            match self.unsynced.above(filter, head, head) {
                Above::Nothing => return Ok(head),
                Above::Known { upto: until, .. } | Above::Unknown { until } => {
                    self.head.after(until.before()).await?;
                }
            }
        }
    }

    /// The events that a decision did not know.
    async fn missed(
        &self,
        filter: &Filter,
        after: Position,
        at: Position,
    ) -> Result<Vec<Recorded<RawEvent>>, Failure> {
        let mut missed = Vec::new();
        let mut from = after;
        while from < at && missed.len() < Conflict::MISSED_EVENTS {
            let limit = Conflict::MISSED_EVENTS - missed.len();
            let batch = self.store.read(filter, Read::after(from).upto(at).limit(limit)).await?;
            from = batch.upto();
            missed.extend(batch.iter().map(|event| self.recorded(&event)));
        }
        Ok(missed)
    }
}

/// The tag of a boundary that is one stream.
fn stream<C: Command>(slots: &mut <C::State as Folds>::Slots) -> Result<Tag, Failure> {
    let mut tags: Vec<Tag> = Vec::new();
    let mut one_each = true;
    for slot in <C::State as Folds>::slots(slots).into_iter().flatten() {
        for item in slot.boundary().items() {
            one_each &= item.tags.len() == 1;
            tags.extend(item.tags.iter().cloned());
        }
    }
    tags.dedup();
    match tags.pop() {
        Some(tag) if one_each && tags.is_empty() => Ok(tag),
        _ => Err(Failure::Boundary(BoundaryError::NotOneStream)),
    }
}
