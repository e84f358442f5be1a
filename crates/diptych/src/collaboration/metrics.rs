//! Metrics of feeds and intakes, through the `metrics` facade.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};

/// The outcome of a published event at an intake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntakeOutcome {
    /// It became events of this service, or needs none.
    Taken,
    /// It waits for an operator, or behind another one that does.
    Parked,
    /// The intake does not know its type.
    LeftOut,
    /// It waited, and was taken in after an answer.
    Resumed,
    /// It waited, and an operator left it out.
    Skipped,
}

/// The metrics of an intake.
#[derive(Debug)]
pub(super) struct IntakeMetrics {
    intake: &'static str,
    lag_positions: Gauge,
    lag_seconds: Gauge,
    stopped: Gauge,
    waiting: Gauge,
    states: [Gauge; STATES.len()],
    outcomes: [Counter; OUTCOMES.len()],
    pages: Counter,
    failures: Counter,
}

/// Maximum number of characters of a type as a label.
const LABEL_CHARS: usize = 100;
/// The label of an intake that stopped.
const STOPPED: &str = "stopped";
/// The labels of the states of an intake.
const STATES: [&str; 5] = ["catching-up", "live", "standby", "stalled", STOPPED];
/// The labels of [`IntakeOutcome`], in its order.
const OUTCOMES: [&str; 5] = ["taken", "parked", "left-out", "resumed", "skipped"];

impl IntakeMetrics {
    pub(super) fn new(intake: &'static str) -> IntakeMetrics {
        let labels = [("kind", "intake"), ("name", intake)];
        let own = [("intake", intake)];
        let state = |state| {
            let labels = [("intake", intake), ("state", state)];
            gauge!("diptych_intake_state", &labels)
        };
        let outcome = |outcome| {
            let labels = [("intake", intake), ("outcome", outcome)];
            counter!("diptych_intake_events_total", &labels)
        };
        IntakeMetrics {
            intake,
            lag_positions: gauge!("diptych_lag_positions", &labels),
            lag_seconds: gauge!("diptych_lag_seconds", &labels),
            stopped: gauge!("diptych_stopped", &labels),
            waiting: gauge!("diptych_intake_waiting", &own),
            states: STATES.map(state),
            outcomes: OUTCOMES.map(outcome),
            pages: counter!("diptych_intake_pages_total", &own),
            failures: counter!("diptych_intake_failures_total", &own),
        }
    }

    pub(super) fn lag(&self, positions: u64, time: Duration) {
        self.lag_positions.set(positions as f64);
        self.lag_seconds.set(time.as_secs_f64());
    }

    /// Shows the state of this label.
    pub(super) fn state(&self, state: &str) {
        for (label, gauge) in STATES.iter().zip(&self.states) {
            gauge.set(f64::from(u8::from(*label == state)));
        }
        self.stopped.set(f64::from(u8::from(state == STOPPED)));
    }

    pub(super) fn waiting(&self, events: usize) {
        self.waiting.set(events as f64);
    }

    pub(super) fn count(&self, outcome: IntakeOutcome, events: u64) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.increment(events);
        }
    }

    /// Counts an event of a type that the intake does not know. The caller bounds the number of
    /// types.
    pub(super) fn left_out(&self, event_type: &str) {
        self.count(IntakeOutcome::LeftOut, 1);
        // Another service chose the type, so it is no longer than a label may be.
        let shown: String = event_type.chars().take(LABEL_CHARS).collect();
        let labels = [("intake", self.intake.to_owned()), ("type", shown)];
        counter!("diptych_intake_left_out_total", &labels).increment(1);
    }

    pub(super) fn page(&self) {
        self.pages.increment(1);
    }

    pub(super) fn failure(&self) {
        self.failures.increment(1);
    }
}

/// The metrics of a feed.
pub(super) struct FeedMetrics {
    reads: Counter,
    events: Counter,
    failures: Counter,
}

impl FeedMetrics {
    pub(super) fn new(feed: &'static str) -> FeedMetrics {
        let own = [("feed", feed)];
        FeedMetrics {
            reads: counter!("diptych_feed_reads_total", &own),
            events: counter!("diptych_feed_events_total", &own),
            failures: counter!("diptych_feed_failures_total", &own),
        }
    }

    pub(super) fn read(&self, events: u64) {
        self.reads.increment(1);
        self.events.increment(events);
    }

    pub(super) fn failure(&self) {
        self.reads.increment(1);
        self.failures.increment(1);
    }
}
