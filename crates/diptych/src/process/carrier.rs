//! The task that carries out the commands of reactions: one after another within an instance, side
//! by side across instances.
//!
//! It reads the reactions from the log, so it carries out only what is durable, and a restart finds
//! what is left. Each action has a key. The events of its command are committed under it, or else
//! the event that tells why there are none. So the action has one outcome, and a second program
//! that carries it out finds that outcome.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use diptych_store::{
    Append, AppendError, Batch, EventRef, Filter, FilterItem, Head, Metadata, Position, Read,
    Refusal, Tracking,
};
use foldhash::fast::RandomState;
use tokio::task::JoinSet;

use super::{
    Process,
    actions::Action,
    calls::Calling,
    command::{ActionKey, SendAction, SendFailure, SentCommand},
    places::Places,
    reader::InstanceEvent,
    shared::{Interruption, ProcessShared, Waits},
    status::ProcessState,
    stored::{
        CALL_RESENT, InstanceId, PROCESS, REACTED, REACTIONS, ResentCall, carried_source, decode,
        process_tag,
    },
    trigger::ActionOutcome,
    work::{Work, settle},
    worklist::reaction_at,
};
use crate::{command::error::CommandError, event::Trail};

/// Number of reactions that are read at once.
const PAGE: usize = 256;

pub(super) struct Carrier<P: Process> {
    shared: Arc<ProcessShared<P>>,
    places: Arc<Places>,
    source: String,
    head: Head,
    /// The waiting work of each instance that has work under way.
    instances: HashMap<InstanceId, VecDeque<Work>, RandomState>,
    /// Work whose instance has none under way, waiting for a place.
    ready: VecDeque<Work>,
    running: JoinSet<Result<(InstanceId, Position), Interruption>>,
    /// The positions of reactions that are not carried out.
    outstanding: BTreeSet<Position>,
    /// The place that the log has.
    recorded: Position,
    carried: u64,
    waits: Waits,
}

impl<P: Process> Carrier<P> {
    pub(super) fn new(shared: Arc<ProcessShared<P>>) -> Carrier<P> {
        Carrier {
            source: carried_source(shared.reader.process(), shared.shard.number),
            head: shared.reader.store().head(),
            instances: HashMap::default(),
            ready: VecDeque::new(),
            running: JoinSet::new(),
            outstanding: BTreeSet::new(),
            recorded: Position::START,
            carried: 0,
            waits: Waits::new(&shared.options),
            places: Arc::new(Places::new(shared.options.commands_at_once)),
            shared,
        }
    }

    /// Carries out reactions until the process stops.
    pub(super) async fn run(mut self) {
        loop {
            let Err(interruption) = self.follow().await;
            // The work under way is carried out again, and finds its outcome.
            self.running = JoinSet::new();
            self.instances.clear();
            self.ready.clear();
            self.outstanding.clear();
            match interruption {
                Interruption::Overtaken => {}
                Interruption::Later(reason) => {
                    tracing::warn!(process = P::NAME, reason, "a process waits with its actions");
                }
                Interruption::Stopped(reason) => {
                    tracing::error!(process = P::NAME, reason, "a process stopped");
                    self.shared.status.state(ProcessState::Stopped { reason });
                    return;
                }
            }
            self.waits.wait().await;
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, Interruption> {
        let store = self.shared.reader.store().clone();
        let old_upto = store.fresh_head().await?;
        let tracked = store.tracked(&self.source).await?;
        self.recorded = tracked.map_or(self.shared.begin, |tracked| tracked.position);
        let mut after = self.recorded;
        let own = FilterItem::everything().or_type(REACTED).or_type(CALL_RESENT);
        let filter = Filter::from(own.and_tag(process_tag(self.shared.reader.process())));
        loop {
            let has_room = self.has_room();
            if has_room && after < self.head.position() {
                let Some(batch) = self.page(&filter, after).await? else { continue };
                for event in batch.iter() {
                    let metadata = self.metadata_of_effects(&event);
                    if event.event_type() == CALL_RESENT {
                        let resent: ResentCall =
                            Interruption::at(event.position(), decode(&event))?;
                        if let Some(record) = reaction_at(&store, resent.reaction).await? {
                            self.add(Work {
                                id: record.id(),
                                place: event.position(),
                                position: resent.reaction,
                                record,
                                metadata,
                                is_old: true,
                                only: Some(resent.action),
                                first_claim: resent.claim,
                            });
                        }
                        continue;
                    }
                    for (id, read) in
                        Interruption::at(event.position(), self.shared.reader.read(&event))?
                    {
                        if let InstanceEvent::Reacted { at, record } = read {
                            let (metadata, is_old) = (metadata.clone(), at <= old_upto);
                            let (only, first_claim) = (None, 0);
                            let (place, position) = (at, at);
                            self.add(Work {
                                id,
                                place,
                                position,
                                record,
                                metadata,
                                is_old,
                                only,
                                first_claim,
                            });
                        }
                    }
                }
                after = batch.upto();
                self.start();
                self.waits.reset();
                tokio::task::yield_now().await;
            } else if let Some(ended) = self.next(has_room.then_some(after)).await? {
                let (id, position) = ended?;
                self.ended(&id, position);
                self.start();
            }
            self.shared.status.carrying(self.outstanding.len());
            self.mark(after).await?;
        }
    }

    /// The metadata of whatever this reaction causes.
    fn metadata_of_effects(&self, reaction: &EventRef<'_>) -> Metadata {
        let causation = reaction.id();
        let causation = causation.unwrap_or_else(|| self.shared.reader.id_at(reaction.position()));
        let mut metadata = reaction.metadata();
        let is_kept = |name: &str| name == REACTIONS || name == PROCESS || Trail::is_part(name);
        metadata.extra.retain(|name, _| is_kept(name));
        metadata.causation = Some(causation);
        metadata
    }

    /// The next events, or `None` if the store could not be asked.
    async fn page(
        &mut self,
        filter: &Filter,
        after: Position,
    ) -> Result<Option<Batch>, Interruption> {
        let store = self.shared.reader.store();
        let page = self.unless_later(store.read(filter, Read::after(after).limit(PAGE)).await)?;
        if page.is_none() {
            self.waits.wait().await;
        }
        Ok(page)
    }

    /// The answer of the store, or `None` if the store is to be asked again later. The work under
    /// way goes on meanwhile: a call that leaves must not lose its answer.
    fn unless_later<T, E>(&self, answer: Result<T, E>) -> Result<Option<T>, Interruption>
    where
        Interruption: From<E>,
    {
        match answer.map_err(Interruption::from) {
            Ok(answer) => Ok(Some(answer)),
            Err(Interruption::Later(reason)) => {
                tracing::warn!(process = P::NAME, reason, "a process waits with its actions");
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Waits until work ends, or until the log has more than `after`.
    #[allow(clippy::type_complexity)]
    async fn next(
        &mut self,
        after: Option<Position>,
    ) -> Result<Option<Result<(InstanceId, Position), Interruption>>, Interruption> {
        let mut news = after.map(|after| self.head.after(after));
        let mut rested = pin!(self.places.rested());
        let running = &mut self.running;
        poll_fn(|context| {
            // Without running work the set is ready with nothing, and only the log has news.
            if let Poll::Ready(Some(ended)) = running.poll_join_next(context) {
                let ended = ended.unwrap_or_else(|error| {
                    Err(Interruption::Later(format!("a command did not end: {error}")))
                });
                return Poll::Ready(Ok(Some(ended)));
            }
            // There may be room for more now.
            if rested.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(None));
            }
            match news.as_mut().map(|news| Pin::new(news).poll(context)) {
                Some(Poll::Ready(Ok(_))) => Poll::Ready(Ok(None)),
                Some(Poll::Ready(Err(why))) => Poll::Ready(Err(why.into())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    fn add(&mut self, work: Work) {
        let is_other = !self.shared.shard.has(&work.id);
        if is_other || !work.record.actions.iter().any(Action::leaves) {
            return;
        }
        self.outstanding.insert(work.place);
        match self.instances.get_mut(&work.id) {
            Some(waiting) => waiting.push_back(work),
            None => {
                self.instances.insert(work.id.clone(), VecDeque::new());
                self.ready.push_back(work);
            }
        }
    }

    /// Whether further reactions are read. Calls that rest do not count, and neither do the
    /// reactions behind them. They have a bound of their own.
    fn has_room(&self) -> bool {
        let options = &self.shared.options;
        let (most, resting) = (options.waiting_reactions.max(1), self.places.resting());
        let behind = if resting > 0 { options.resting_reactions } else { 0 };
        let under_way = self.running.len().saturating_sub(resting);
        under_way < most && self.outstanding.len() < most.saturating_add(behind)
    }

    fn start(&mut self) {
        while let Some(work) = self.ready.pop_front() {
            let (shared, places) = (self.shared.clone(), self.places.clone());
            self.running.spawn(async move {
                let (mut work, mut waits) = (work, Waits::new(&shared.options));
                loop {
                    match carry_out(&shared, &places, &work).await {
                        Ok(()) => return Ok((work.id, work.place)),
                        // The work of other instances goes on.
                        Err(Interruption::Later(reason)) => {
                            shared.status.trouble(&work.id.instance, Some(reason));
                            work.is_old = true;
                            waits.wait().await;
                            shared.status.trouble(&work.id.instance, None);
                        }
                        Err(other) => return Err(other),
                    }
                }
            });
        }
    }

    fn ended(&mut self, id: &InstanceId, position: Position) {
        self.outstanding.remove(&position);
        self.carried += 1;
        match self.instances.get_mut(id).and_then(VecDeque::pop_front) {
            Some(next) => self.ready.push_back(next),
            None => drop(self.instances.remove(id)),
        }
    }

    /// Stores the place up to which everything is carried out, if that is due.
    async fn mark(&mut self, after: Position) -> Result<(), Interruption> {
        if self.carried < self.shared.options.reactions_without_mark.max(1) {
            return Ok(());
        }
        self.carried = 0;
        let upto = self.outstanding.first().map_or(after, |first| first.before());
        if upto <= self.recorded {
            return Ok(());
        }
        let append = Append::default().tracking(Tracking::new(&self.source, upto));
        match self.shared.reader.store().append(append).await {
            Ok(_) => self.recorded = upto,
            // Another program has carried out as much.
            Err(AppendError::Refused(Refusal::AlreadyTracked { .. })) => {}
            // The next mark stores more.
            Err(error) => drop(self.unless_later(Err::<(), _>(error))?),
        }
        Ok(())
    }
}

/// Carries out the commands and calls of a reaction in order. A command that fails is tried again.
async fn carry_out<P: Process>(
    shared: &ProcessShared<P>,
    places: &Places,
    work: &Work,
) -> Result<(), Interruption> {
    let trigger = work.record.trigger;
    for (action, number) in work.record.actions.iter().zip(0_u32..) {
        if !action.leaves() || work.only.is_some_and(|only| only != number) {
            continue;
        }
        let key = ActionKey::new(&work.id, trigger.position.get(), trigger.part, number);
        if work.is_old && is_done(shared, work, &key).await? {
            continue;
        }
        let (mut waits, mut had_trouble) = (Waits::new(&shared.options), false);
        loop {
            let tried = match action {
                Action::Send { command, body } => {
                    // The semaphore is never closed.
                    let _place = places.commands.acquire().await.ok();
                    send(shared, work, number, &key, (command, body)).await?
                }
                Action::Call { gateway, body } => match shared.gateways.named(gateway) {
                    Some(entry) => {
                        let (key, action) = (&key, number);
                        Calling { shared, places, work, action, key, entry, body }.run().await?;
                        // It may have noted a trouble on the way.
                        had_trouble = true;
                        Ok(())
                    }
                    None => Err(format!("the app has no gateway {gateway:?}")),
                },
                _ => Ok(()),
            };
            let Err(reason) = tried else { break };
            had_trouble = true;
            tracing::warn!(process = P::NAME, reason, "an action of a process failed");
            shared.status.trouble(&work.id.instance, Some(reason));
            waits.wait().await;
        }
        if had_trouble {
            shared.status.trouble(&work.id.instance, None);
        }
    }
    Ok(())
}

/// Whether an earlier run carried out the action, or listed it for an operator.
async fn is_done<P: Process>(
    shared: &ProcessShared<P>,
    work: &Work,
    key: &ActionKey,
) -> Result<bool, Interruption> {
    let store = shared.reader.store();
    let is_settled = store.keyed(key.name()).await?.is_some();
    Ok(is_settled || store.keyed(&key.unknown(work.first_claim)).await?.is_some())
}

/// Sends one command. `Ok(Err(reason))` if it failed, and may succeed later.
async fn send<P: Process>(
    shared: &ProcessShared<P>,
    work: &Work,
    action: u32,
    key: &ActionKey,
    (command, body): (&str, &str),
) -> Result<Result<(), String>, Interruption> {
    let prepared = match shared.commands.prepare(command, body) {
        Ok(prepared) => prepared,
        Err(reason) => return Ok(Err(reason)),
    };
    let sent = prepared(SendAction { key: key.of_command(), metadata: work.metadata.clone() });
    let outcome = match sent.await {
        Ok(SentCommand::Committed) => return Ok(Ok(())),
        Ok(SentCommand::NothingToDo) => ActionOutcome::NothingToDo,
        Err(SendFailure::Rejected(rejection)) => ActionOutcome::Rejected(rejection),
        // It is settled: the event that tells why has its key.
        Err(SendFailure::Failed(CommandError::KeyReused(_))) => return Ok(Ok(())),
        Err(SendFailure::Failed(CommandError::Stopped)) => {
            return Err(Interruption::Stopped("the app was stopped".to_owned()));
        }
        Err(SendFailure::Failed(error)) => return Ok(Err(format!("{command}: {error}"))),
    };
    settle(shared, work, action, command, key, outcome).await.map(Ok)
}
