//! The calls that a new process would ask for over old events, before it is started.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use diptych_store::{Position, Read, Store, Timestamp};
use foldhash::fast::RandomState;

use super::{
    Process,
    actions::Action,
    context::{Phase, ReactionContext},
    entry::Gateways,
    instance::Instance,
    options::ProcessStart,
    reader::{InstanceEvent, ProcessReader},
    registry::ProcessStartError,
    stored::InstanceId,
    trigger::Trigger,
};
use crate::{command::context::RuleClock, event::Schema};

/// Number of events that are read at once.
const PAGE: usize = 512;

/// The calls and commands that a process would ask for if it were started now. Nothing is sent or
/// stored.
///
/// It is a list of first actions: nothing that an answer, a command or a timer would cause is in
/// it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProcessPreview {
    /// The first calls, in the order of their triggers.
    pub calls: Vec<PreviewedCall>,
    /// The number of calls of each gateway.
    pub gateways: BTreeMap<String, CallCounts>,
    /// The number of commands of each name.
    pub commands: BTreeMap<String, u64>,
    /// Instances that would be parked, each with the reason. At most
    /// [`ProcessPreview::PARKED`] are listed.
    pub parked: Vec<(String, String)>,
    /// The end of the log for this preview.
    pub upto: Position,
}

/// The number of calls of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallCounts {
    /// Calls that would be sent.
    pub sent: u64,
    /// Calls that [`CallsFrom`](super::CallsFrom) would withhold.
    pub withheld: u64,
}

/// A call that a process would ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviewedCall {
    /// The tag of the instance, such as `order:7`.
    pub instance: String,
    /// The name of the gateway.
    pub gateway: String,
    /// The call as JSON.
    pub call: String,
    /// The position of the trigger.
    pub trigger: Position,
    /// When the trigger was recorded.
    pub recorded_at: Timestamp,
    /// Whether the gateway would withhold it.
    pub is_withheld: bool,
}

impl ProcessPreview {
    /// Maximum number of parked instances that a preview lists.
    pub const PARKED: usize = 100;
}

/// Reacts to the events of the log, and lists the first `most` calls.
///
/// # Errors
/// [`ProcessStartError`] if the process does not fit the log.
pub(crate) async fn preview<P: Process>(
    schema: &Arc<Schema>,
    store: &Store,
    clock: &RuleClock,
    gateways: &Gateways,
    start: ProcessStart,
    most: usize,
) -> Result<ProcessPreview, ProcessStartError> {
    let reader = ProcessReader::<P>::new(schema.clone(), store.clone(), Arc::from(P::NAME))?;
    reader.check_tag().await?;
    let upto = store.fresh_head().await?;
    let mut after = match start {
        ProcessStart::Beginning => Position::START,
        ProcessStart::Now => upto,
        ProcessStart::After(after) => after,
    };
    let preview = ProcessPreview {
        calls: Vec::new(),
        gateways: BTreeMap::new(),
        commands: BTreeMap::new(),
        parked: Vec::new(),
        upto,
    };
    let instances = HashMap::default();
    let mut run = PreviewRun::<P> { clock, gateways, most, preview, instances };
    let filter = reader.events();
    while after < upto {
        let batch = store.read(&filter, Read::after(after).upto(upto).limit(PAGE)).await?;
        for event in batch.iter() {
            let (at, recorded_at) = (event.position(), event.recorded_at());
            for (id, read) in reader.read(&event)? {
                let actions = match read {
                    InstanceEvent::Trigger(_, trigger) => run.react(&id, at, &trigger),
                    InstanceEvent::Unreadable(_, error) => Err(error.to_string()),
                    _ => continue,
                };
                match actions {
                    Ok(actions) => run.list(&id, at, recorded_at, actions),
                    Err(reason) => run.park(id, reason),
                }
            }
        }
        after = batch.upto();
    }
    Ok(run.preview)
}

/// A run of the process in memory.
struct PreviewRun<'a, P> {
    clock: &'a RuleClock,
    gateways: &'a Gateways,
    most: usize,
    preview: ProcessPreview,
    /// An instance that would be parked takes no more triggers.
    instances: HashMap<InstanceId, Option<Instance<P>>, RandomState>,
}

impl<P: Process> PreviewRun<'_, P> {
    /// # Errors
    /// The reason why the instance would be parked.
    fn react(
        &mut self,
        id: &InstanceId,
        at: Position,
        trigger: &Trigger<P::Event>,
    ) -> Result<Vec<Action>, String> {
        let instance = match self.instances.entry(id.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Some(Instance::new()?)),
        };
        let Some(instance) = instance else { return Ok(Vec::new()) };
        let behind = self.preview.upto.get().saturating_sub(at.get());
        let phase = Phase::CatchingUp { behind };
        let cx = ReactionContext::new(self.clock.now(), phase, id.value());
        instance.apply(trigger)?;
        let actions = instance.react(trigger, &cx)?;
        instance.note(&actions, Some(at));
        Ok(actions)
    }

    fn park(&mut self, id: InstanceId, reason: String) {
        let parked = &mut self.preview.parked;
        if parked.len() < ProcessPreview::PARKED {
            parked.push((id.instance.to_string(), reason));
        }
        self.instances.insert(id, None);
    }

    fn list(
        &mut self,
        id: &InstanceId,
        trigger: Position,
        recorded_at: Timestamp,
        actions: Vec<Action>,
    ) {
        for action in actions {
            let (gateway, call) = match action {
                Action::Call { gateway, body } => (gateway, body),
                Action::Send { command, .. } => {
                    *self.preview.commands.entry(command).or_default() += 1;
                    continue;
                }
                _ => continue,
            };
            let entry = self.gateways.named(&gateway);
            let now = self.clock.now();
            let is_withheld = entry.is_some_and(|entry| entry.withholds(recorded_at, now));
            let counts = self.preview.gateways.entry(gateway.clone()).or_default();
            match is_withheld {
                true => counts.withheld += 1,
                false => counts.sent += 1,
            }
            if self.preview.calls.len() < self.most {
                let instance = id.instance.to_string();
                self.preview.calls.push(PreviewedCall {
                    instance,
                    gateway,
                    call,
                    trigger,
                    recorded_at,
                    is_withheld,
                });
            }
        }
    }
}
