//! Metrics of processes, through the `metrics` facade.

use metrics::{Gauge, gauge};

use super::status::{ProcessState, ProcessStatus};
use crate::command::context::RuleClock;

/// The metrics of a process.
pub(super) struct ProcessGauges {
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
    pub(super) fn new(process: &'static str) -> ProcessGauges {
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

    pub(super) fn measure(&self, status: &ProcessStatus, clock: &RuleClock) {
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
