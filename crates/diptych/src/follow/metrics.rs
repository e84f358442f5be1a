//! Metrics of followers, through the `metrics` facade. A recorder has to be installed before the
//! app is started.

use metrics::{Counter, Gauge, counter, gauge};

use super::state::{FollowState, Lag};

/// The metrics of one view or projection.
pub(crate) struct FollowerMetrics {
    lag_positions: Gauge,
    lag_seconds: Gauge,
    stopped: Gauge,
    events: Counter,
    poisoned_keys: Gauge,
}

impl FollowerMetrics {
    /// `kind` is `view` or `projection`.
    pub(crate) fn new(kind: &'static str, name: &str) -> FollowerMetrics {
        let name = name.to_owned();
        let labels = [("kind", kind.to_owned()), ("name", name)];
        FollowerMetrics {
            lag_positions: gauge!("diptych_lag_positions", &labels),
            lag_seconds: gauge!("diptych_lag_seconds", &labels),
            stopped: gauge!("diptych_stopped", &labels),
            poisoned_keys: gauge!("diptych_poisoned_keys", &labels),
            events: counter!("diptych_events_folded_total", &labels),
        }
    }

    pub(crate) fn count_events(&self, events: usize) {
        self.events.increment(events as u64);
    }

    pub(crate) fn poisoned(&self, keys: usize) {
        self.poisoned_keys.set(keys as f64);
    }

    pub(crate) fn lag(&self, lag: Lag) {
        self.lag_positions.set(lag.positions as f64);
        self.lag_seconds.set(lag.time.as_secs_f64());
    }

    pub(crate) fn state(&self, state: &FollowState) {
        let stopped = matches!(state, FollowState::Stopped(_));
        self.stopped.set(f64::from(u8::from(stopped)));
    }
}
