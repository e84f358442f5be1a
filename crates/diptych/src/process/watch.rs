//! The task that counts what waits for an operator, for the status and the metrics of a process.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use diptych_store::{EventRef, Filter, FilterItem, Position, Read, ReadError};
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    command::ActionKey,
    shared::AnyProcess,
    status::{ProcessState, ProcessStatus},
    stored::{
        CALL_RESENT, CALL_UNKNOWN, InstanceId, PARKED, ParkingRecord, RELEASED, ReleaseRecord,
        ResentCall, SETTLED, SettlementRecord, UnknownCall, decode, process_tag,
    },
    worklist::reaction_at,
};
use crate::{command::context::RuleClock, follow::Lag};

/// The longest time between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two measurements, however fast the log grows.
const PAUSE: Duration = Duration::from_millis(50);

/// The counts of a process, which its task keeps up to date.
#[derive(Default)]
pub(super) struct ProcessWatch(Mutex<WatchCounts>);

#[derive(Default)]
struct WatchCounts {
    /// Parked instances, each with the position of its letter.
    parked: HashMap<Arc<str>, Position>,
    /// The reactions and the numbers of the actions of calls that wait for an operator.
    calls: HashSet<(Position, u32)>,
    /// Since when the process is behind the head.
    behind_since: Option<Instant>,
}

impl ProcessWatch {
    /// The status with the counts of this watch.
    pub(super) fn complete(&self, process: &dyn AnyProcess) -> ProcessStatus {
        let status = process.status();
        let head = process.store().head().position();
        let counts = self.0.lock();
        let positions = head.get().saturating_sub(status.position.get());
        let time = match (positions, counts.behind_since) {
            (0, _) | (_, None) => Duration::ZERO,
            (_, Some(since)) => since.elapsed(),
        };
        ProcessStatus {
            lag: Lag { positions, time },
            parked: counts.parked.len(),
            unknown_calls: counts.calls.len(),
            ..status
        }
    }

    /// Counts until the process stops.
    pub(super) async fn run(
        self: Arc<ProcessWatch>,
        process: Arc<dyn AnyProcess>,
        clock: RuleClock,
    ) {
        let gauges = ProcessGauges::new(process.name());
        loop {
            let Err(error) = self.follow(&*process, &clock, &gauges).await;
            tracing::debug!(process = process.name(), %error, "a process is not measured");
            gauges.measure(&self.complete(&*process), &clock);
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn follow(
        &self,
        process: &dyn AnyProcess,
        clock: &RuleClock,
        gauges: &ProcessGauges,
    ) -> Result<std::convert::Infallible, ReadError> {
        let (store, name) = (process.store(), process.process());
        *self.0.lock() = WatchCounts::default();
        let own = FilterItem::everything().or_type(PARKED).or_type(RELEASED);
        let own = own.or_type(CALL_UNKNOWN).or_type(CALL_RESENT);
        let start = store.fresh_head().await?;
        // Outcomes of actions are many. Those before the start are found by the keys of the calls.
        let rare = Filter::from(own.clone().and_tag(process_tag(name)));
        self.take(process, &rare, Position::START, start).await?;
        let waiting: Vec<_> = self.0.lock().calls.iter().copied().collect();
        for (reaction, action) in waiting {
            let Some(record) = reaction_at(store, reaction).await? else { continue };
            let place = record.trigger;
            let key = ActionKey::new(&record.id(), place.position.get(), place.part, action);
            if store.keyed(key.name()).await?.is_some() {
                self.0.lock().calls.remove(&(reaction, action));
            }
        }
        let all = Filter::from(own.or_type(SETTLED).and_tag(process_tag(name)));
        let (head, mut after) = (store.head(), start);
        loop {
            self.note_lag(process);
            gauges.measure(&self.complete(process), clock);
            tokio::time::sleep(PAUSE).await;
            if let Ok(news) = tokio::time::timeout(INTERVAL, head.after(after)).await {
                news.map_err(ReadError::Unavailable)?;
                let upto = head.position();
                self.take(process, &all, after, upto).await?;
                after = upto;
            }
        }
    }

    fn note_lag(&self, process: &dyn AnyProcess) {
        let is_behind = process.status().position < process.store().head().position();
        let mut counts = self.0.lock();
        match is_behind {
            true => drop(counts.behind_since.get_or_insert_with(Instant::now)),
            false => counts.behind_since = None,
        }
    }

    /// Counts the events between two positions.
    async fn take(
        &self,
        process: &dyn AnyProcess,
        filter: &Filter,
        mut after: Position,
        upto: Position,
    ) -> Result<(), ReadError> {
        while after < upto {
            let batch = process.store().read(filter, Read::after(after).upto(upto)).await?;
            let mut counts = self.0.lock();
            for event in batch.iter() {
                counts.count(&event, process.process());
            }
            after = batch.upto();
        }
        Ok(())
    }
}

impl WatchCounts {
    /// An event that cannot be read counts nothing, and stops nothing.
    fn count(&mut self, event: &EventRef<'_>, process: &str) {
        let is_own = |id: &InstanceId| *id.process == *process;
        match event.event_type() {
            PARKED => {
                if let Ok(ParkingRecord { process, instance, .. }) = decode(event)
                    && is_own(&InstanceId { process, instance: instance.clone() })
                {
                    self.parked.insert(instance, event.position());
                }
            }
            RELEASED => {
                if let Ok(ReleaseRecord { instance, parked_at, .. }) = decode(event)
                    && self.parked.get(&instance) == Some(&parked_at)
                {
                    self.parked.remove(&instance);
                }
            }
            CALL_UNKNOWN => {
                if let Ok(UnknownCall { reaction, action, .. }) = decode(event) {
                    self.calls.insert((reaction, action));
                }
            }
            CALL_RESENT => {
                if let Ok(ResentCall { reaction, action, .. }) = decode(event) {
                    self.calls.remove(&(reaction, action));
                }
            }
            _ => {
                if let Ok(SettlementRecord { reaction, action, .. }) = decode(event) {
                    self.calls.remove(&(reaction, action));
                }
            }
        }
    }
}

/// The metrics of a process.
struct ProcessGauges {
    lag_positions: Gauge,
    lag_seconds: Gauge,
    stopped: Gauge,
    parked: Gauge,
    unknown_calls: Gauge,
    carrying: Gauge,
    timers: Gauge,
    timer_late_seconds: Gauge,
}

impl ProcessGauges {
    fn new(process: &'static str) -> ProcessGauges {
        let labels = [("kind", "process"), ("name", process)];
        let own = [("process", process)];
        ProcessGauges {
            lag_positions: gauge!("diptych_lag_positions", &labels),
            lag_seconds: gauge!("diptych_lag_seconds", &labels),
            stopped: gauge!("diptych_stopped", &labels),
            parked: gauge!("diptych_process_parked", &own),
            unknown_calls: gauge!("diptych_process_calls_unknown", &own),
            carrying: gauge!("diptych_process_carrying", &own),
            timers: gauge!("diptych_process_timers", &own),
            timer_late_seconds: gauge!("diptych_process_timer_late_seconds", &own),
        }
    }

    fn measure(&self, status: &ProcessStatus, clock: &RuleClock) {
        let late = status.next_timer.and_then(|due| clock.now().since(due)).unwrap_or_default();
        self.lag_positions.set(status.lag.positions as f64);
        self.lag_seconds.set(status.lag.time.as_secs_f64());
        let stopped = matches!(status.state, ProcessState::Stopped { .. });
        self.stopped.set(f64::from(u8::from(stopped)));
        self.parked.set(status.parked as f64);
        self.unknown_calls.set(status.unknown_calls as f64);
        self.carrying.set(status.carrying as f64);
        self.timers.set(status.timers as f64);
        self.timer_late_seconds.set(late.as_secs_f64());
    }
}
