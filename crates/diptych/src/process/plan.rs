//! Processes before the start of their app.

use std::{
    any::type_name,
    collections::{BTreeSet, HashSet},
    marker::PhantomData,
    sync::Arc,
};

use diptych_store::Store;
use tokio::task::JoinSet;

use super::{
    Process,
    carrier::Carrier,
    command::CommandsByName,
    entry::Gateways,
    options::{ProcessOptions, ProcessStart},
    reactor::Reactor,
    reader::ProcessReader,
    registry::{ProcessDeclaration, ProcessStartError, check_name, enrolled},
    running::RunningShards,
    shard::ProcessShard,
    shared::{AnyProcess, ProcessShared},
    status::StatusCell,
    timers::TimerTask,
};
use crate::{
    command::context::RuleClock,
    event::{Event, EventType, Schema},
};

/// The processes that an app is to start.
#[derive(Default)]
pub(crate) struct ProcessPlans(Vec<ProcessPlan>);

/// A process before the start of its app.
pub(crate) struct ProcessPlan {
    name: &'static str,
    starting: Box<dyn StartingProcess>,
}

/// The parts of an app that its processes use.
pub(crate) struct AppParts {
    pub(crate) store: Store,
    pub(crate) schema: Arc<Schema>,
    pub(crate) clock: RuleClock,
    pub(crate) commands: Arc<dyn CommandsByName>,
    pub(crate) gateways: Gateways,
    /// Names of processes in the log that the app leaves alone.
    pub(crate) retired: Vec<String>,
}

/// The tasks of the processes of an app.
pub(super) struct StartedProcesses {
    pub(super) processes: Vec<Arc<dyn AnyProcess>>,
    pub(super) tasks: JoinSet<()>,
}

trait StartingProcess: Send {
    fn start<'a>(
        self: Box<Self>,
        parts: &'a AppParts,
        run: &'a [String],
        started: &'a mut StartedProcesses,
    ) -> BoxedStart<'a>;
}

type BoxedStart<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<(), ProcessStartError>> + Send + 'a>>;

struct TypedPlan<P> {
    start: ProcessStart,
    options: ProcessOptions,
    process: PhantomData<fn() -> P>,
}

impl ProcessPlan {
    pub(crate) fn new<P: Process>(start: ProcessStart, options: ProcessOptions) -> ProcessPlan {
        let starting = Box::new(TypedPlan::<P> { start, options, process: PhantomData });
        ProcessPlan { name: P::NAME, starting }
    }
}

impl ProcessPlans {
    pub(crate) fn add(&mut self, plan: ProcessPlan) {
        self.0.push(plan);
    }

    pub(crate) fn append(&mut self, mut other: ProcessPlans) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// # Errors
    /// [`ProcessStartError`] if a name is not one, or stands there twice.
    pub(crate) fn check(&self) -> Result<(), ProcessStartError> {
        let mut seen = HashSet::new();
        for plan in &self.0 {
            check_name(plan.name)?;
            if !seen.insert(plan.name) {
                return Err(ProcessStartError::Twice { name: plan.name });
            }
        }
        Ok(())
    }

    pub(super) async fn start(
        self,
        parts: &AppParts,
    ) -> Result<StartedProcesses, ProcessStartError> {
        let names = self.0.iter().map(|plan| plan.name.to_owned());
        let run: Vec<_> = names.chain(parts.retired.iter().cloned()).collect();
        let mut started = StartedProcesses { processes: Vec::new(), tasks: JoinSet::new() };
        for plan in self.0 {
            plan.starting.start(parts, &run, &mut started).await?;
        }
        Ok(started)
    }
}

impl<P: Process> StartingProcess for TypedPlan<P> {
    fn start<'a>(
        self: Box<Self>,
        parts: &'a AppParts,
        run: &'a [String],
        started: &'a mut StartedProcesses,
    ) -> BoxedStart<'a> {
        Box::pin(async move {
            let TypedPlan { start, options, .. } = *self;
            let (name, tag) = (P::NAME, P::TAG);
            let types = P::Event::types();
            if !types.iter().any(|known: &EventType| known.tags.contains(&tag)) {
                return Err(ProcessStartError::NoTag { name, tag });
            }
            let types = ProcessReader::<P>::types();
            let renamed_from = options.renamed_from.as_deref();
            let shards = options.shards;
            let declared = ProcessDeclaration { name, tag, types, start, shards, renamed_from };
            let record = enrolled(&parts.store, &declared, run).await?;
            let numbers = options.only_shards.clone().unwrap_or_else(|| (0..shards).collect());
            if let Some(shard) = numbers.iter().copied().find(|number| *number >= shards) {
                return Err(ProcessStartError::NoShard { name, shard, shards });
            }
            tracing::debug!(process = name, rust = type_name::<P>(), "a process starts");
            let mut running = RunningShards {
                process: record.process.clone(),
                store: parts.store.clone(),
                shards: Vec::new(),
            };
            for number in numbers.into_iter().collect::<BTreeSet<_>>() {
                let (schema, store) = (parts.schema.clone(), parts.store.clone());
                let reader = ProcessReader::<P>::new(schema, store, record.process.clone())?;
                if running.shards.is_empty() {
                    reader.check_tag().await?;
                }
                let shared = Arc::new(ProcessShared {
                    reader,
                    shard: ProcessShard { number, of: shards },
                    options: options.clone(),
                    clock: parts.clock.clone(),
                    commands: parts.commands.clone(),
                    gateways: parts.gateways.clone(),
                    status: StatusCell::new(),
                    begin: record.after,
                });
                started.tasks.spawn(Reactor::new(shared.clone()).run());
                started.tasks.spawn(Carrier::new(shared.clone()).run());
                started.tasks.spawn(TimerTask::new(shared.clone()).run());
                running.shards.push(shared);
            }
            started.processes.push(Arc::new(running));
            Ok(())
        })
    }
}
