//! Sending a plan: through one lane, so that the log has the order of the plan whatever is synced
//! when.
//!
//! Each command has a key, and leaves a commit under it whether a rule refused it or not. So what
//! was sent before is found in the log and not sent again, and a load that was interrupted, by a
//! kill too, goes on where it was.

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
    App, Command, Event, EventType, ExecuteError, Filter, Lane, LaneOptions, Pending, Position,
    Read, ReadError, Timestamp,
};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use crate::{
    commands::{
        NameAirline, NameAirport, NoteLoaded, NoteOpened, ObserveWeather, OnRecord, RegisterPlane,
    },
    events::{Happening, SourceLoaded, SourceOpened},
    plan::{Plan, Planned, Step},
    views::RefusalsByRule,
};

/// How a plan is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadOptions {
    /// How fast.
    pub pace: Pace,
    /// Commands that are decided and not durable, at most.
    pub in_flight: usize,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { pace: Pace::Max, in_flight: 4096 }
    }
}

/// How fast time goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as can be.
    Max,
    /// So many times as fast as it did. What is before the first departure is sent at once.
    Times(f64),
}

/// How far a load has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Commands that are durable, with those that were before.
    pub settled: usize,
    /// Commands of the plan.
    pub total: usize,
    /// The instant that it has come to.
    pub instant: Option<Timestamp>,
    /// Commands that a rule refused, as far as the view of them knows.
    pub refused: u64,
}

/// What came of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Commands that are durable, with those that were before.
    pub settled: usize,
    /// Commands that were durable before, and were not sent again.
    pub found: usize,
    /// Commands of the plan. Where fewer are settled, the load was told to stop.
    pub total: usize,
}

impl Loaded {
    /// Whether everything is there.
    pub fn is_whole(&self) -> bool {
        self.settled == self.total
    }
}

/// Why a load did not go on. What is settled stays; the same load goes on from there.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A command could not be carried out.
    #[error("{key} could not be carried out after {settled} commands: {cause}")]
    Command {
        /// The key of the command.
        key: String,
        /// Commands that are durable.
        settled: usize,
        /// What happened.
        #[source]
        cause: ExecuteError<Infallible>,
    },
    /// The log is of another program.
    #[error(
        "the log in this folder begins with {event_type:?}, an event of another program: give the \
         demo a folder of its own"
    )]
    Foreign {
        /// The type of the first event.
        event_type: String,
    },
    /// The log could not be asked what is there.
    #[error("the log could not be asked for {key}: {cause}")]
    Read {
        /// The key of a command.
        key: String,
        /// What happened.
        #[source]
        cause: ReadError,
    },
}

/// Between two reports of how far it has come.
const BETWEEN_REPORTS: Duration = Duration::from_millis(50);
/// Between two looks whether it is to stop.
const STEPS_BETWEEN_LOOKS: usize = 64;

/// Whether a whole file of this digest was taken in: then there is nothing to read in it.
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

/// Notes which days a plan's file is about, unless that is noted already. From then on the rules
/// keep out flights of other times, so it comes before anything that others may send.
///
/// # Errors
/// [`LoadError`] if it cannot be noted, or the log is of another program.
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

/// All that a log of the demo has.
fn own_types() -> Vec<EventType> {
    [Happening::types(), SourceOpened::types(), SourceLoaded::types()].concat()
}

/// Sends a plan, and answers when everything in it is durable, or as much as was sent when `stop`
/// came.
///
/// # Errors
/// [`LoadError`] if a command cannot be carried out. What rules say is no such error.
pub async fn load(
    app: &App,
    plan: &Plan,
    options: LoadOptions,
    progress: &watch::Sender<Progress>,
    stop: impl Future<Output = ()>,
) -> Result<Loaded, LoadError> {
    open(app, plan).await?;
    let total = plan.commands();
    if plan.is_whole() && is_loaded(app, plan.source()).await? {
        progress.send_modify(|progress| (progress.settled, progress.total) = (total, total));
        return Ok(Loaded { settled: total, found: total, total });
    }
    let mut loading = Loading::new(app, plan, options, progress);
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

/// A load on its way.
struct Loading<'a> {
    app: &'a App,
    plan: &'a Plan,
    lane: Lane,
    options: LoadOptions,
    /// Whether something may be there already.
    resumes: bool,
    /// When the first flight leaves: what is before is sent at once.
    first_departure: Option<Timestamp>,
    /// When the clock was set, and to which instant.
    clock: Option<(Instant, Timestamp)>,
    /// The key of the command that is being sent.
    key: String,
    /// What was sent and is not known to be durable, in order.
    pending: VecDeque<(Step, Pending<Infallible>)>,
    settled: usize,
    found: usize,
    reports: Reports<'a>,
}

impl<'a> Loading<'a> {
    fn new(
        app: &'a App,
        plan: &'a Plan,
        options: LoadOptions,
        progress: &'a watch::Sender<Progress>,
    ) -> Loading<'a> {
        let in_flight = options.in_flight.max(1);
        Loading {
            app,
            plan,
            lane: app.lane_with(LaneOptions { in_flight }),
            options: LoadOptions { in_flight, ..options },
            // The first is the note of what is taken in.
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

    /// Sends what is not there. Answers whether it came to the end before it was to stop.
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

    /// Whether this key has a commit.
    async fn is_there(&self) -> Result<bool, LoadError> {
        let found = self.app.store().keyed(&self.key).await;
        let failed = |cause| LoadError::Read { key: self.key.clone(), cause };
        Ok(found.map_err(failed)?.is_some())
    }

    /// Waits for the instant of this step. Answers whether it came before the load was to stop.
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
        // With some paces it never comes.
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

    async fn send(&mut self, step: Step, planned: Planned) -> Result<(), LoadError> {
        let pending = match planned {
            Planned::Airline(named) => self.submit(step, NameAirline(named)).await,
            Planned::Airport(named) => self.submit(step, NameAirport(named)).await,
            Planned::Plane(registered) => self.submit(step, RegisterPlane(registered)).await,
            Planned::Weather(_, observed) => self.submit(step, ObserveWeather(observed)).await,
            Planned::Schedule(schedule) => self.submit(step, OnRecord(schedule)).await,
            Planned::Depart(depart) => self.submit(step, OnRecord(depart)).await,
            Planned::Cancel(cancel) => self.submit(step, OnRecord(cancel)).await,
            Planned::Land(land) => self.submit(step, OnRecord(land)).await,
            Planned::Divert(divert) => self.submit(step, OnRecord(divert)).await,
        };
        self.pending.push_back((step, pending));
        if self.pending.len() >= self.options.in_flight {
            // Half of them, so that the lane has work while others are waited for.
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

    /// Waits until at most so many are not durable.
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

    async fn end(mut self) -> Result<Loaded, LoadError> {
        self.settle(0).await?;
        let Loading { settled, found, plan, mut reports, .. } = self;
        let total = plan.commands();
        reports.last = None;
        reports.report(settled, total).await;
        Ok(Loaded { settled, found, total })
    }
}

/// Tells how far it has come, now and then.
struct Reports<'a> {
    app: &'a App,
    progress: &'a watch::Sender<Progress>,
    /// The instant that it has come to.
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

/// Whether a future is there, without waiting for it.
async fn is_ready(mut future: Pin<&mut impl Future<Output = ()>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}
