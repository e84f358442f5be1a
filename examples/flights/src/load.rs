//! Sends a plan through one lane, so that the order in the log is the order of the plan, whichever
//! command is synced first.
//!
//! Each command has an idempotency key, and commits an event under this key even if a rule refuses
//! the command. If a load is interrupted or killed, the next load finds the earlier commits by
//! their keys, does not send these commands again, and continues after them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt::Write,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use diptych::{
    App, Command, Event, EventType, ExecuteError, Filter, Position, Timestamp,
    command::{Lane, LaneOptions, Pending},
    store::{Read, ReadError},
};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use crate::{
    commands::{
        NameAirline, NameAirport, NoteLoaded, NoteOpened, ObserveWeather, OnRecord, RegisterPlane,
    },
    events::{Happening, SourceLoaded, SourceOpened},
    plan::{Plan, Step},
    planned::PlannedCommand,
    views::RefusalsByRule,
};

/// Options of [`load`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadOptions {
    /// Speed.
    pub pace: Pace,
    /// The largest number of commands that are decided and not yet durable.
    pub in_flight: usize,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { pace: Pace::Max, in_flight: 4096 }
    }
}

/// The speed of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as possible.
    Max,
    /// A multiple of the original speed. Commands before the first departure are sent at once.
    Times(f64),
}

/// Progress of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of durable commands, from this load and from earlier ones.
    pub settled: usize,
    /// Number of commands in the plan.
    pub total: usize,
    /// The time of the newest durable command.
    pub instant: Option<Timestamp>,
    /// Number of refused commands, as far as their view has counted.
    pub refused: u64,
}

/// Result of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// Number of durable commands, from this load and from earlier ones.
    pub settled: usize,
    /// Number of commands that earlier loads have made durable. They were not sent again.
    pub found: usize,
    /// Number of commands in the plan. If `settled` is smaller, the load was stopped.
    pub total: usize,
}

impl LoadReport {
    /// Whether all commands of the plan are durable.
    pub fn is_whole(&self) -> bool {
        self.settled == self.total
    }
}

/// The reason why a load failed. Its durable commands stay. Run the load again: it continues after
/// them.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A command failed.
    #[error("{key} could not be carried out after {settled} commands: {cause}")]
    Command {
        /// The key of the command.
        key: String,
        /// Number of durable commands.
        settled: usize,
        /// The cause.
        #[source]
        cause: ExecuteError<Infallible>,
    },
    /// The log belongs to another program.
    #[error(
        "the log in this folder begins with {event_type:?}, an event of another program: give the \
         demo a folder of its own"
    )]
    Foreign {
        /// The type of the first event.
        event_type: String,
    },
    /// The log could not be read.
    #[error("the log could not be asked for {key}: {cause}")]
    Read {
        /// The key of the command whose commit was looked up.
        key: String,
        /// The cause.
        #[source]
        cause: ReadError,
    },
}

/// Pause between two reports of the progress.
const BETWEEN_REPORTS: Duration = Duration::from_millis(50);
/// Number of steps between two checks of `stop`.
const STEPS_BETWEEN_LOOKS: usize = 64;

/// Whether a whole file with this digest was loaded earlier. If so, `load` need not send it.
///
/// # Errors
/// [`LoadError::Read`] if the log cannot be read.
pub async fn is_loaded(app: &App, source: &str) -> Result<bool, LoadError> {
    let key = loaded_key(source);
    let found = app.store().keyed(&key).await;
    found.map(|commit| commit.is_some()).map_err(|cause| LoadError::Read { key, cause })
}

fn loaded_key(source: &str) -> String {
    format!("loaded/{source}")
}

/// Records the days that the file of the plan covers, unless they are recorded already. From then
/// on the rules refuse flights on other days, so call this before clients can send commands.
///
/// # Errors
/// [`LoadError`] if the event cannot be recorded, or if the log belongs to another program.
pub async fn open(app: &App, plan: &Plan) -> Result<(), LoadError> {
    let Some((first, last)) = plan.days() else { return Ok(()) };
    let source = plan.source().to_owned();
    let key = format!("opened/{source}");
    let begin = app.store().read(&Filter::everything(), Read::all().limit(1)).await;
    let begin = begin.map_err(|cause| LoadError::Read { key: key.clone(), cause })?;
    let is_own = |name| own_types().iter().any(|of| of.name == name);
    if let Some(event) = begin.get(0).filter(|event| !is_own(event.event_type())) {
        return Err(LoadError::Foreign { event_type: event.event_type().to_owned() });
    }
    let noted = app.execute(NoteOpened(SourceOpened { source, first, last })).key(&key).await;
    noted.map(drop).map_err(|cause| LoadError::Command { key, settled: 0, cause })
}

/// All event types that a log of the demo contains.
fn own_types() -> Vec<EventType> {
    [Happening::types(), SourceOpened::types(), SourceLoaded::types()].concat()
}

/// Sends a plan, and returns when all its commands are durable. When `stop` completes first, it
/// returns when the commands sent until then are durable.
///
/// # Errors
/// [`LoadError`] if a command fails. A refusal by a rule is not a failure.
pub async fn load(
    app: &App,
    plan: &Plan,
    options: LoadOptions,
    progress: &watch::Sender<Progress>,
    stop: impl Future<Output = ()>,
) -> Result<LoadReport, LoadError> {
    open(app, plan).await?;
    let total = plan.commands();
    if plan.is_whole() && is_loaded(app, plan.source()).await? {
        progress.send_modify(|progress| (progress.settled, progress.total) = (total, total));
        return Ok(LoadReport { settled: total, found: total, total });
    }
    let mut loading = Loader::new(app, plan, options, progress);
    if !loading.send_all(pin!(stop)).await? {
        return loading.end().await;
    }
    let loaded = loading.end().await?;
    if plan.is_whole() {
        let (source, commands) = (plan.source().to_owned(), total as u64);
        let key = loaded_key(&source);
        let noted = app.execute(NoteLoaded(SourceLoaded { source, commands })).key(&key).await;
        noted.map_err(|cause| LoadError::Command { key, settled: total, cause })?;
    }
    Ok(loaded)
}

/// A load in progress.
struct Loader<'a> {
    app: &'a App,
    plan: &'a Plan,
    lane: Lane,
    options: LoadOptions,
    /// Whether an earlier load may have sent some of the commands.
    resumes: bool,
    /// The time of the first departure. Commands before it are sent at once.
    first_departure: Option<Timestamp>,
    /// The time at which the load began to follow the pace, and the instant of the command that was
    /// due then.
    clock: Option<(Instant, Timestamp)>,
    /// The key of the current command. Reused, so that a command costs no allocation.
    key: String,
    /// Commands that were sent and may not be durable yet, in order.
    pending: VecDeque<(Step, Pending<Infallible>)>,
    settled: usize,
    found: usize,
    reports: Reports<'a>,
}

impl<'a> Loader<'a> {
    fn new(
        app: &'a App,
        plan: &'a Plan,
        options: LoadOptions,
        progress: &'a watch::Sender<Progress>,
    ) -> Loader<'a> {
        let in_flight = options.in_flight.max(1);
        Loader {
            app,
            plan,
            lane: app.lane_with(LaneOptions { in_flight }),
            options: LoadOptions { in_flight, ..options },
            // Event 1 is the [`SourceOpened`] of this load.
            resumes: app.head() > Position::new(1),
            first_departure: plan.first_departure(),
            clock: None,
            key: String::new(),
            pending: VecDeque::with_capacity(in_flight),
            settled: 0,
            found: 0,
            reports: Reports { app, progress, instant: None, last: None },
        }
    }

    /// Sends all commands that the log does not have. Returns false if `stop` completed first.
    async fn send_all(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, LoadError> {
        let plan = self.plan;
        for (at, step) in plan.steps().iter().enumerate() {
            if at % STEPS_BETWEEN_LOOKS == 0 && is_ready(stop.as_mut()).await {
                return Ok(false);
            }
            let planned = plan.command(step);
            self.key.clear();
            // Writing to a string does not fail.
            let _ = write!(self.key, "{planned}");
            if self.resumes && self.is_there().await? {
                self.found += 1;
                self.settled += 1;
                continue;
            }
            if !self.wait_until_due(step, stop.as_mut()).await? {
                return Ok(false);
            }
            self.send(*step, planned).await?;
        }
        Ok(true)
    }

    /// Whether the log has a commit under the current key.
    async fn is_there(&self) -> Result<bool, LoadError> {
        let found = self.app.store().keyed(&self.key).await;
        let failed = |cause| LoadError::Read { key: self.key.clone(), cause };
        Ok(found.map_err(failed)?.is_some())
    }

    /// Waits for the time of this step. Returns false if `stop` completed first.
    async fn wait_until_due(
        &mut self,
        step: &Step,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, LoadError> {
        let Pace::Times(times) = self.options.pace else { return Ok(true) };
        if self.first_departure.is_some_and(|first| step.at() < first) {
            return Ok(true);
        }
        let (began, from) = *self.clock.get_or_insert_with(|| (Instant::now(), step.at()));
        let micros = step.at().as_micros().saturating_sub(from.as_micros()).max(0);
        let wait = Duration::try_from_secs_f64(micros as f64 / 1e6 / times);
        // A tiny pace can put the time beyond the range of the clock.
        let due = wait.ok().and_then(|wait| began.checked_add(wait));
        if due.is_some_and(|due| due <= Instant::now()) {
            return Ok(true);
        }
        self.settle(0).await?;
        let is_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.as_mut() => Ok(false),
            () = is_due => Ok(true),
        }
    }

    async fn send(&mut self, step: Step, planned: PlannedCommand) -> Result<(), LoadError> {
        let pending = match planned {
            PlannedCommand::Airline(named) => self.submit(step, NameAirline(named)).await,
            PlannedCommand::Airport(named) => self.submit(step, NameAirport(named)).await,
            PlannedCommand::Plane(registered) => self.submit(step, RegisterPlane(registered)).await,
            PlannedCommand::Weather(_, observed) => {
                self.submit(step, ObserveWeather(observed)).await
            }
            PlannedCommand::Schedule(schedule) => self.submit(step, OnRecord(schedule)).await,
            PlannedCommand::Depart(depart) => self.submit(step, OnRecord(depart)).await,
            PlannedCommand::Cancel(cancel) => self.submit(step, OnRecord(cancel)).await,
            PlannedCommand::Land(land) => self.submit(step, OnRecord(land)).await,
            PlannedCommand::Divert(divert) => self.submit(step, OnRecord(divert)).await,
        };
        self.pending.push_back((step, pending));
        if self.pending.len() >= self.options.in_flight {
            // Waits for half of them only, so that the lane has work meanwhile.
            self.settle(self.options.in_flight / 2).await?;
        }
        Ok(())
    }

    async fn submit<C>(&self, step: Step, command: C) -> Pending<Infallible>
    where
        C: Command<Rejection = Infallible> + Serialize,
    {
        self.lane.execute(command).key(&self.key).occurred_at(step.at()).submit().await
    }

    /// Waits until at most `left` commands are not durable.
    async fn settle(&mut self, left: usize) -> Result<(), LoadError> {
        while self.pending.len() > left {
            let Some((step, pending)) = self.pending.pop_front() else { break };
            if let Err(cause) = pending.await {
                let key = self.plan.command(&step).to_string();
                return Err(LoadError::Command { key, settled: self.settled, cause });
            }
            self.settled += 1;
            self.reports.instant = Some(step.at());
        }
        self.reports.report(self.settled, self.plan.commands()).await;
        Ok(())
    }

    async fn end(mut self) -> Result<LoadReport, LoadError> {
        self.settle(0).await?;
        let Loader { settled, found, plan, mut reports, .. } = self;
        let total = plan.commands();
        reports.last = None;
        reports.report(settled, total).await;
        Ok(LoadReport { settled, found, total })
    }
}

/// Reports the progress at most every [`BETWEEN_REPORTS`].
struct Reports<'a> {
    app: &'a App,
    progress: &'a watch::Sender<Progress>,
    /// The time of the newest durable command.
    instant: Option<Timestamp>,
    last: Option<Instant>,
}

impl Reports<'_> {
    async fn report(&mut self, settled: usize, total: usize) {
        if self.last.is_some_and(|last| last.elapsed() < BETWEEN_REPORTS) {
            return;
        }
        self.last = Some(Instant::now());
        let refused = self.app.query(RefusalsByRule { top: Some(0) }).await;
        let refused = refused.map_or(0, |answer| answer.total);
        let instant = self.instant;
        self.progress.send_replace(Progress { settled, total, instant, refused });
    }
}

/// Polls a future once. Returns whether it is ready.
async fn is_ready(mut future: Pin<&mut impl Future<Output = ()>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}
