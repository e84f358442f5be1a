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
};
use crate::{command::context::RuleClock, event::Schema};

/// Number of events that are read at once.
const PAGE: usize = 512;

/// The calls and commands that a process would ask for if it were started now. Nothing is sent or
/// stored.
///
/// It is a list of first actions: nothing that an answer, a command or a timer would cause is in it.
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

    fn park(&mut self, id: &InstanceId, reason: String) {
        if self.parked.len() < ProcessPreview::PARKED {
            self.parked.push((id.instance.to_string(), reason));
        }
    }
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
    let mut preview = ProcessPreview {
        calls: Vec::new(),
        gateways: BTreeMap::new(),
        commands: BTreeMap::new(),
        parked: Vec::new(),
        upto,
    };
    // An instance that would be parked takes no more triggers.
    let mut instances: HashMap<InstanceId, Option<Instance<P>>, RandomState> = HashMap::default();
    let filter = reader.events();
    while after < upto {
        let batch = store.read(&filter, Read::after(after).upto(upto).limit(PAGE)).await?;
        for event in batch.iter() {
            let recorded_at = event.recorded_at();
            for (id, read) in reader.read(&event)? {
                let instance = match instances.entry(id.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => match Instance::new() {
                        Ok(instance) => new.insert(Some(instance)),
                        Err(reason) => {
                            preview.park(&id, reason);
                            new.insert(None)
                        }
                    },
                };
                let Some(of) = instance else { continue };
                let reacted = match read {
                    InstanceEvent::Trigger(_, trigger) => {
                        let behind = upto.get().saturating_sub(event.position().get());
                        let (now, phase) = (clock.now(), Phase::CatchingUp { behind });
                        let cx = ReactionContext::new(now, phase, id.value());
                        of.apply(&trigger).and_then(|_| of.react(&trigger, &cx))
                    }
                    InstanceEvent::Unreadable(_, error) => Err(error.to_string()),
                    _ => continue,
                };
                let actions = match reacted {
                    Ok(actions) => actions,
                    Err(reason) => {
                        preview.park(&id, reason);
                        *instance = None;
                        continue;
                    }
                };
                of.note(&actions, Some(event.position()));
                for action in actions {
                    let (gateway, call) = match action {
                        Action::Call { gateway, body } => (gateway, body),
                        Action::Send { command, .. } => {
                            *preview.commands.entry(command).or_default() += 1;
                            continue;
                        }
                        _ => continue,
                    };
                    let entry = gateways.named(&gateway);
                    let now = clock.now();
                    let is_withheld = entry.is_some_and(|of| of.withholds(recorded_at, now));
                    let counts = preview.gateways.entry(gateway.clone()).or_default();
                    match is_withheld {
                        true => counts.withheld += 1,
                        false => counts.sent += 1,
                    }
                    if preview.calls.len() < most {
                        preview.calls.push(PreviewedCall {
                            instance: id.instance.to_string(),
                            gateway,
                            call,
                            trigger: event.position(),
                            recorded_at,
                            is_withheld,
                        });
                    }
                }
            }
        }
        after = batch.upto();
    }
    Ok(preview)
}
