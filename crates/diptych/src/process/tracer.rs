//! Walks through a flow, from each cause to its effects.
//!
//! The log has no index of causes. But each effect of a process is found without one: a reaction by
//! the tag of its instance, the outcome of a command or call by the key of its action, and the
//! firing of a timer by the tag of the timer.

use std::collections::{BTreeSet, HashMap, HashSet};

use diptych_store::{Batch, EventRef, Filter, FilterItem, LogId, Position, Read, ReadError, Store};
use uuid::Uuid;

use super::{
    actions::Action,
    command::ActionKey,
    instances::last_of,
    known::KnownProcess,
    stored::{
        FiringRecord, InstanceId, PARKED, ParkingRecord, REACTED, RELEASED, ReactionRecord,
        ReleaseRecord, SETTLED, SettlementRecord, StoredAnswer, TIMER_FIRED, UnknownCall, decode,
    },
    trace::{
        CallOutcome, CommandOutcome, OperatorAnswer, OperatorNote, StepKind, TimerOutcome, Trace,
        TraceError, TraceOptions, TraceStep, TraceTarget,
    },
    traced::{cause_in, foreign_parked, json, operator},
    trigger::{ActionOutcome, ActionRejection},
    worklist::{only, resent_name},
};
use crate::{
    collaboration::{FeedOrigin, keeps_parked},
    event::{derived_id, is_reserved},
};

/// Number of events of an instance that are read at once.
const PAGE: usize = 64;
/// Number of events that a search reads at once.
const SEARCH_PAGE: usize = 1_024;
/// Maximum number of steps from an event to the begin of its flow.
const MOST_CAUSES: usize = 10_000;
/// Maximum number of claims of one call that are looked up.
const MOST_CLAIMS: u64 = 1_000;

/// The flow of an event.
///
/// # Errors
/// [`TraceError`] if there is no such event, or the log cannot be read.
pub(super) async fn trace(
    store: &Store,
    processes: Vec<KnownProcess>,
    target: TraceTarget,
    options: TraceOptions,
) -> Result<Trace, TraceError> {
    let head = store.fresh_head().await?;
    let tracer = Tracer {
        store,
        log: store.identity().id,
        head,
        processes,
        options,
        steps: Vec::new(),
        remarks: Vec::new(),
        seen: HashSet::new(),
        caused: HashMap::new(),
        is_searched: false,
    };
    tracer.run(target).await
}

struct Tracer<'a> {
    store: &'a Store,
    log: LogId,
    head: Position,
    processes: Vec<KnownProcess>,
    options: TraceOptions,
    steps: Vec<TraceStep>,
    remarks: Vec<String>,
    /// The positions of the events and reactions in the tree.
    seen: HashSet<Position>,
    /// Events of the flow by the cause that they name, from a search of the log.
    caused: HashMap<Uuid, Vec<Position>>,
    /// The search for the correlation has read the events of the flow, with their causes.
    is_searched: bool,
}

/// A step that is to be added, at this depth.
struct Visit {
    depth: u32,
    what: Subject,
}

enum Subject {
    Event(Position),
    Reaction { at: Position, record: ReactionRecord },
    Action { id: InstanceId, at: Position, record: ReactionRecord, number: u32 },
    Ready(Box<StepKind>),
}

impl Tracer<'_> {
    async fn run(mut self, target: TraceTarget) -> Result<Trace, TraceError> {
        let (correlation, roots) = match target {
            TraceTarget::Position(position) => self.of_event(position).await?,
            TraceTarget::Id(id) => match self.position_of(id) {
                Some(position) => self.of_event(position).await?,
                None => self.of_id(id).await?,
            },
        };
        let mut rest = BTreeSet::new();
        if self.options.whole_log
            && !self.is_searched
            && let Some(first) = roots.first()
        {
            rest = self.search_causes(correlation, *first).await?;
        }
        rest.extend(roots);
        for root in rest {
            if self.seen.contains(&root) {
                continue;
            }
            if !self.walk(root).await? {
                break;
            }
        }
        let Tracer { steps, remarks, log, .. } = self;
        Ok(Trace { correlation, log: Uuid::from_bytes(log.to_bytes()), steps, remarks })
    }

    /// The correlation and the begin of the flow of an event.
    async fn of_event(&mut self, position: Position) -> Result<(Uuid, Vec<Position>), TraceError> {
        if position == Position::START || position > self.head {
            return Err(TraceError::NoSuchPosition { position, head: self.head });
        }
        let mut at = position;
        for _ in 0..MOST_CAUSES {
            let batch = self.event(at).await?;
            let Some(event) = batch.get(0) else { break };
            let metadata = event.metadata();
            let begin = metadata.correlation.and_then(|id| self.position_of(id));
            if let Some(begin) = begin.filter(|begin| *begin <= at) {
                at = begin;
                break;
            }
            match cause_in(&event).or_else(|| self.position_of(metadata.causation?)) {
                Some(cause) if cause < at => at = cause,
                _ => {
                    let is_own =
                        FeedOrigin::of(&metadata).is_none() && !keeps_parked(event.event_type());
                    if let Some(cause) = metadata.causation.filter(|_| is_own) {
                        self.remarks.push(format!(
                            "the cause of the event at position {at} is the event {cause}, whose \
                             id has no index: trace that id to search for it"
                        ));
                    }
                    break;
                }
            }
        }
        let batch = self.event(at).await?;
        let correlation = batch.get(0).map_or(Uuid::nil(), |event| self.correlation(&event));
        Ok((correlation, vec![at]))
    }

    /// Searches the log for an id that has no index, from the end.
    async fn of_id(&mut self, id: Uuid) -> Result<(Uuid, Vec<Position>), TraceError> {
        let everything = Filter::everything();
        let (mut upto, mut left) = (self.head, self.options.searched_events);
        let (mut flow, mut own, mut causes) = (Vec::new(), None, Vec::new());
        while upto > Position::START && left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(SEARCH_PAGE);
            let batch =
                self.store.read(&everything, Read::backwards().upto(upto).limit(most)).await?;
            for event in batch.iter() {
                if self.correlation(&event) == id {
                    flow.push(event.position());
                    let cause = event.metadata().causation;
                    causes.extend(cause.map(|cause| (cause, event.position())));
                } else if event.id() == Some(id) {
                    own = Some(event.position());
                }
            }
            left = left.saturating_sub(batch.len() as u64);
            upto = batch.upto().before();
        }
        if upto > Position::START {
            self.remarks.push(format!("the events up to position {upto} were not searched"));
        }
        flow.reverse();
        if self.options.whole_log && !flow.is_empty() {
            self.is_searched = true;
            for (cause, effect) in causes.into_iter().rev() {
                self.caused.entry(cause).or_default().push(effect);
            }
        }
        match (flow.is_empty(), own) {
            (false, _) => Ok((id, flow)),
            (true, Some(own)) => self.of_event(own).await,
            (true, None) => Err(TraceError::NoSuchId { id, from: upto.plus(1) }),
        }
    }

    /// Reads the log from a position on for events of a flow, and notes the causes that they name.
    async fn search_causes(
        &mut self,
        correlation: Uuid,
        from: Position,
    ) -> Result<BTreeSet<Position>, TraceError> {
        let everything = Filter::everything();
        let (mut after, mut left) = (from.before(), self.options.searched_events);
        let mut found = BTreeSet::new();
        while after < self.head && left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(SEARCH_PAGE);
            let read = Read::after(after).upto(self.head).limit(most);
            let batch = self.store.read(&everything, read).await?;
            for event in batch.iter() {
                if self.correlation(&event) != correlation {
                    continue;
                }
                if let Some(cause) = event.metadata().causation {
                    self.caused.entry(cause).or_default().push(event.position());
                }
                if !is_reserved(event.event_type()) || keeps_parked(event.event_type()) {
                    found.insert(event.position());
                }
            }
            left = left.saturating_sub(batch.len() as u64);
            after = batch.upto();
        }
        if after < self.head {
            self.remarks.push(format!("the events after position {after} were not searched"));
        }
        Ok(found)
    }

    /// Adds everything that follows from an event. Returns whether there is room for more.
    async fn walk(&mut self, root: Position) -> Result<bool, TraceError> {
        let mut left = vec![Visit { depth: 0, what: Subject::Event(root) }];
        while let Some(Visit { depth, what }) = left.pop() {
            if self.steps.len() >= self.options.steps {
                self.remarks.push(format!(
                    "the flow has more than these {} steps: ask for more, or trace a later event",
                    self.steps.len()
                ));
                return Ok(false);
            }
            let effects = match what {
                Subject::Event(at) => self.visit_event(depth, at).await?,
                Subject::Reaction { at, record } => self.visit_reaction(depth, at, record).await?,
                Subject::Action { id, at, record, number } => {
                    self.visit_action(depth, (&id, at, &record), number).await?
                }
                Subject::Ready(kind) => {
                    self.steps.push(TraceStep { depth, kind: *kind });
                    Vec::new()
                }
            };
            let below = |what| Visit { depth: depth.saturating_add(1), what };
            left.extend(effects.into_iter().rev().map(below));
        }
        Ok(true)
    }

    async fn visit_event(&mut self, depth: u32, at: Position) -> Result<Vec<Subject>, TraceError> {
        if !self.seen.insert(at) {
            return Ok(Vec::new());
        }
        let batch = self.event(at).await?;
        let Some(event) = batch.get(0) else { return Ok(Vec::new()) };
        // A search also finds events of processes. Those are steps of their own kind.
        if event.event_type() == REACTED
            && let Ok(record) = decode::<ReactionRecord>(&event)
        {
            self.seen.remove(&at);
            return self.visit_reaction(depth, at, record).await;
        }
        if is_reserved(event.event_type()) {
            let parked = foreign_parked(self.store, &event).await?;
            self.steps.extend(parked.map(|kind| TraceStep { depth, kind }));
            return Ok(Vec::new());
        }
        let metadata = event.metadata();
        let id = event.id().unwrap_or_else(|| derived_id(self.log, at));
        let tags: Vec<String> = event.tags().map(str::to_owned).collect();
        let kind = StepKind::Event {
            position: at,
            id,
            event_type: event.event_type().to_owned(),
            tags: tags.clone(),
            at: event.recorded_at(),
            origin: FeedOrigin::of(&metadata),
            actor: metadata.actor.map(|actor| actor.as_str().to_owned()),
            published: Vec::new(),
        };
        self.steps.push(TraceStep { depth, kind });
        let mut effects = Vec::new();
        for process in &self.processes {
            let is_key =
                |tag: &&String| tag.split_once(':').is_some_and(|(key, _)| key == process.tag);
            for tag in tags.iter().filter(is_key).filter(|_| at > process.after) {
                let process = process.first_name.as_str().into();
                let id = InstanceId { process, instance: tag.as_str().into() };
                effects.extend(self.reactions(&id, at).await?);
            }
        }
        effects.extend(self.caused.remove(&id).into_iter().flatten().map(Subject::Event));
        Ok(effects)
    }

    async fn visit_reaction(
        &mut self,
        depth: u32,
        at: Position,
        record: ReactionRecord,
    ) -> Result<Vec<Subject>, TraceError> {
        if !self.seen.insert(at) {
            return Ok(Vec::new());
        }
        let recorded_at =
            self.event(at).await?.get(0).map_or(record.at, |event| event.recorded_at());
        let id = record.id();
        let kind = StepKind::Reaction {
            process: self.name(&id),
            instance: id.instance.to_string(),
            position: at,
            at: recorded_at,
        };
        self.steps.push(TraceStep { depth, kind });
        let numbers = (0_u32..).take(record.actions.len());
        let action = |number| {
            let (id, record) = (id.clone(), record.clone());
            Subject::Action { id, at, record, number }
        };
        Ok(numbers.map(action).collect())
    }

    /// Adds an action of a reaction with its outcome, and returns its effects.
    async fn visit_action(
        &mut self,
        depth: u32,
        (id, at, record): (&InstanceId, Position, &ReactionRecord),
        number: u32,
    ) -> Result<Vec<Subject>, TraceError> {
        let action = usize::try_from(number).ok().and_then(|number| record.actions.get(number));
        let Some(action) = action else { return Ok(Vec::new()) };
        let trigger = record.trigger;
        let key = ActionKey::new(id, trigger.position.get(), trigger.part, number);
        let (kind, effects) = match action {
            Action::Send { command, body } => self.command(id, &key, command, body).await?,
            Action::Call { gateway, body } => self.call(id, &key, gateway, body).await?,
            Action::Hold { timer, gateway, .. } => {
                let (timer, gateway) = (timer.clone(), gateway.clone());
                (StepKind::CallHeld { timer, gateway }, Vec::new())
            }
            Action::SetTimer { timer, due, .. } => {
                let (outcome, effects) = self.timer(id, at, timer).await?;
                (StepKind::Timer { timer: timer.clone(), due: *due, outcome }, effects)
            }
            Action::CancelTimer { timer } => {
                (StepKind::TimerCancelled { timer: timer.clone() }, Vec::new())
            }
            Action::End => (StepKind::End, Vec::new()),
        };
        self.steps.push(TraceStep { depth, kind });
        Ok(effects)
    }

    async fn command(
        &self,
        id: &InstanceId,
        key: &ActionKey,
        command: &str,
        body: &str,
    ) -> Result<(StepKind, Vec<Subject>), TraceError> {
        let (mut outcome, mut effects) = (CommandOutcome::Waiting, Vec::new());
        if let Some(commit) = self.store.keyed(key.name()).await? {
            let (first, last) = (commit.first, commit.last);
            match self.settled_at(first).await? {
                Some((settled, _)) => {
                    outcome = match settled {
                        ActionOutcome::Rejected(ActionRejection { text, json }) => {
                            CommandOutcome::Rejected { position: first, text, json }
                        }
                        _ => CommandOutcome::NothingToDo { position: first },
                    };
                    effects = self.reactions(id, first).await?;
                }
                None => {
                    outcome = CommandOutcome::Committed { first, last };
                    let events = (first.get()..=last.get()).take(self.options.steps);
                    effects = events.map(|at| Subject::Event(Position::new(at))).collect();
                }
            }
        }
        Ok((StepKind::Command { command: command.to_owned(), body: json(body), outcome }, effects))
    }

    async fn call(
        &self,
        id: &InstanceId,
        key: &ActionKey,
        gateway: &str,
        body: &str,
    ) -> Result<(StepKind, Vec<Subject>), TraceError> {
        let (mut outcome, mut effects) = (CallOutcome::Waiting, Vec::new());
        let mut began_at = Vec::new();
        for number in 0..MOST_CLAIMS {
            let began = self.store.keyed(&key.claim(number)).await?;
            let listed = self.store.keyed(&key.unknown(number)).await?;
            let resent = self.store.keyed(&resent_name(key.name(), number)).await?;
            if began.or(listed).or(resent).is_none() {
                break;
            }
            began_at.extend(began.map(|commit| commit.first));
            if let Some(listed) = listed {
                let batch = self.event(listed.first).await?;
                let record = batch.get(0).and_then(|event| decode::<UnknownCall>(&event).ok());
                let reason = record.map_or_else(String::new, |record| record.reason);
                outcome = CallOutcome::Unknown { listed_at: listed.first, reason };
            }
            if let Some(resent) = resent {
                let batch = self.event(resent.first).await?;
                let by = batch.get(0).and_then(|event| operator(event.metadata()));
                outcome = CallOutcome::SendingAgain { position: resent.first, by };
            }
        }
        if let Some(commit) = self.store.keyed(key.name()).await?
            && let Some((settled, by)) = self.settled_at(commit.first).await?
        {
            let position = commit.first;
            outcome = match settled {
                ActionOutcome::Answered(answer) => CallOutcome::Answered { position, answer, by },
                ActionOutcome::Rejected(ActionRejection { text, json }) => {
                    CallOutcome::Refused { position, text, json, by }
                }
                ActionOutcome::Withheld | ActionOutcome::NothingToDo => {
                    CallOutcome::Withheld { position }
                }
            };
            effects = self.reactions(id, position).await?;
        }
        let key = key.outside(self.store.identity().id);
        let (gateway, body) = (gateway.to_owned(), json(body));
        Ok((StepKind::Call { gateway, body, key, began_at, outcome }, effects))
    }

    /// The next event about a timer tells its outcome.
    async fn timer(
        &self,
        id: &InstanceId,
        set_at: Position,
        timer: &str,
    ) -> Result<(TimerOutcome, Vec<Subject>), TraceError> {
        let filter = Filter::tag(id.timer_tag(timer));
        let mut after = set_at;
        while after < self.head {
            let batch =
                self.store.read(&filter, Read::after(after).upto(self.head).limit(1)).await?;
            if let Some(event) = batch.get(0) {
                let position = event.position();
                if event.event_type() != TIMER_FIRED {
                    return Ok((TimerOutcome::Replaced { position }, Vec::new()));
                }
                if let Ok(record) = decode::<FiringRecord>(&event)
                    && record.set_at == set_at
                {
                    let fired = TimerOutcome::Fired { position, at: record.fired_at };
                    return Ok((fired, self.reactions(id, position).await?));
                }
            }
            after = batch.upto();
        }
        Ok((TimerOutcome::Pending, Vec::new()))
    }

    /// The reactions of an instance to the event at `trigger`, and its parked letters about it. The
    /// reactions of an instance stand in the order of their triggers.
    async fn reactions(
        &self,
        id: &InstanceId,
        trigger: Position,
    ) -> Result<Vec<Subject>, TraceError> {
        let own = FilterItem::everything().or_type(REACTED).or_type(PARKED);
        let filter = Filter::from(own.and_tag(id.tag()));
        let (mut after, mut found) = (trigger, Vec::new());
        'log: while after < self.head {
            let read = Read::after(after).upto(self.head).limit(PAGE);
            let batch = self.store.read(&filter, read).await?;
            for event in batch.iter() {
                let at = event.position();
                if event.event_type() == PARKED {
                    if let Ok(record) = decode::<ParkingRecord>(&event)
                        && record.trigger.position == trigger
                    {
                        let parked = self.parked(id, at, record).await?;
                        found.push(Subject::Ready(Box::new(parked)));
                    }
                    continue;
                }
                let Ok(record) = decode::<ReactionRecord>(&event) else { continue };
                if record.trigger.position > trigger {
                    break 'log;
                }
                if record.trigger.position == trigger && record.id() == *id {
                    found.push(Subject::Reaction { at, record });
                }
            }
            after = batch.upto();
        }
        if found.is_empty()
            && let Some(batch) = last_of(self.store, id, &[PARKED, RELEASED]).await?
            && let Some(event) = batch.get(0).filter(|event| event.event_type() == PARKED)
            && let Ok(record) = decode::<ParkingRecord>(&event)
            && record.trigger.position < trigger
        {
            let (process, instance) = (self.name(id), id.instance.to_string());
            let behind = StepKind::Behind { process, instance, letter: event.position() };
            found.push(Subject::Ready(Box::new(behind)));
        }
        Ok(found)
    }

    /// A parked letter, with its answer.
    async fn parked(
        &self,
        id: &InstanceId,
        position: Position,
        record: ParkingRecord,
    ) -> Result<StepKind, TraceError> {
        let own = FilterItem::everything().or_type(RELEASED).and_tag(id.tag());
        let (filter, mut after) = (Filter::from(own), position);
        let (mut answered_at, mut answer, mut by) = (None, None, None);
        'log: while after < self.head {
            let batch =
                self.store.read(&filter, Read::after(after).upto(self.head).limit(PAGE)).await?;
            for event in batch.iter() {
                let Ok(released) = decode::<ReleaseRecord>(&event) else { continue };
                if released.parked_at == position {
                    answered_at = Some(event.position());
                    answer = Some(match released.answer {
                        StoredAnswer::Retry => OperatorAnswer::Retry,
                        StoredAnswer::Skip => OperatorAnswer::Skip,
                        StoredAnswer::Replace(_) => OperatorAnswer::Replace,
                    });
                    by = Some(OperatorNote { who: released.who, why: released.why });
                    break 'log;
                }
            }
            after = batch.upto();
        }
        let (process, instance) = (self.name(id), id.instance.to_string());
        let reason = record.reason;
        Ok(StepKind::Parked { process, instance, position, reason, answered_at, answer, by })
    }

    /// The outcome that the event at a position tells, and the operator who gave it.
    async fn settled_at(
        &self,
        at: Position,
    ) -> Result<Option<(ActionOutcome, Option<OperatorNote>)>, ReadError> {
        let batch = self.event(at).await?;
        let event = batch.get(0).filter(|event| event.event_type() == SETTLED);
        Ok(event.and_then(|event| {
            let record: SettlementRecord = decode(&event).ok()?;
            Some((record.outcome, operator(event.metadata())))
        }))
    }

    async fn event(&self, at: Position) -> Result<Batch, ReadError> {
        self.store.read(&Filter::everything(), only(at)).await
    }

    /// The newest name of the process of an instance.
    fn name(&self, id: &InstanceId) -> String {
        let known = self.processes.iter().find(|known| *known.first_name == *id.process);
        known.map_or_else(|| id.process.to_string(), |known| known.name.clone())
    }

    fn correlation(&self, event: &EventRef<'_>) -> Uuid {
        let own = || event.id().unwrap_or_else(|| derived_id(self.log, event.position()));
        event.metadata().correlation.unwrap_or_else(own)
    }

    /// The position of the event of this log that has this id, if it follows from the id.
    fn position_of(&self, id: Uuid) -> Option<Position> {
        let (_, low) = id.as_u64_pair();
        let position = Position::new(low & (u64::MAX >> 2));
        let is_own = derived_id(self.log, position) == id;
        (is_own && position > Position::START && position <= self.head).then_some(position)
    }
}
