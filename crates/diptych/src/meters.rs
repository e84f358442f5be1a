//! What is measured, through the `metrics` facade: names, and where they are counted.
//!
//! Handles are made once, when an app is started: a recorder has to be installed before that.
//! Without one nothing is measured, not even the time.

use std::{
    any::{TypeId, type_name},
    cell::Cell,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use metrics::{Counter, Gauge, Histogram, IntoF64, counter, gauge, histogram};
use parking_lot::RwLock;

use crate::{
    command::{Command, ExecuteError},
    follow::{FollowState, Lag},
    token::Receipt,
};

/// Of the left panel.
pub(crate) struct Meters {
    /// Decisions that something came in between of.
    pub(crate) conflicts: Counter,
    /// Until the store has accepted a commit or refused it.
    append: Histogram,
    /// Whether anybody is told.
    is_recorded: bool,
    commands: RwLock<HashMap<TypeId, Arc<CommandMeters>, RandomState>>,
}

/// Of the commands of one type.
pub(crate) struct CommandMeters {
    seconds: Histogram,
    receipts: Counter,
    rejections: Counter,
    failures: Counter,
}

/// Of the cache of decision states.
pub(crate) struct CacheMeters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
}

/// Of one view or projection.
pub(crate) struct FollowerMeters {
    lag_positions: Gauge,
    lag_seconds: Gauge,
    stopped: Gauge,
    events: Counter,
}

impl Meters {
    pub(crate) fn new() -> Meters {
        let is_recorded = Cell::new(false);
        gauge!("diptych_up").set(Up(&is_recorded));
        Meters {
            conflicts: counter!("diptych_conflicts_total"),
            append: histogram!("diptych_append_seconds"),
            is_recorded: is_recorded.get(),
            commands: RwLock::default(),
        }
    }

    /// The time, if anybody is told.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.is_recorded.then(Instant::now)
    }

    pub(crate) fn appended(&self, began: Option<Instant>) {
        if let Some(began) = began {
            self.append.record(began.elapsed());
        }
    }

    /// Those of a command of this type, if anybody is told.
    pub(crate) fn command<C: Command>(&self) -> Option<Arc<CommandMeters>> {
        self.is_recorded.then(|| self.command_meters::<C>())
    }

    fn command_meters<C: Command>(&self) -> Arc<CommandMeters> {
        if let Some(known) = self.commands.read().get(&TypeId::of::<C>()) {
            return known.clone();
        }
        let command = type_name::<C>();
        let outcome = |outcome: &'static str| {
            let labels = [("command", command), ("outcome", outcome)];
            counter!("diptych_commands_total", &labels)
        };
        let meters = Arc::new(CommandMeters {
            seconds: histogram!("diptych_command_seconds", "command" => command),
            receipts: outcome("receipt"),
            rejections: outcome("rejection"),
            failures: outcome("failure"),
        });
        self.commands.write().insert(TypeId::of::<C>(), meters.clone());
        meters
    }
}

/// 1, for a gauge. No gauge asks for it where no recorder is: that tells whether there is one.
struct Up<'a>(&'a Cell<bool>);

impl IntoF64 for Up<'_> {
    fn into_f64(self) -> f64 {
        self.0.set(true);
        1.0
    }
}

impl CommandMeters {
    pub(crate) fn answered<R: std::error::Error + 'static>(
        &self,
        answer: &Result<Receipt, ExecuteError<R>>,
        took: Duration,
    ) {
        self.seconds.record(took);
        match answer {
            Ok(_) => self.receipts.increment(1),
            Err(ExecuteError::Rejected(_)) => self.rejections.increment(1),
            Err(_) => self.failures.increment(1),
        }
    }
}

impl CacheMeters {
    pub(crate) fn new() -> CacheMeters {
        let hits = counter!("diptych_decision_cache_hits_total");
        CacheMeters { hits, misses: counter!("diptych_decision_cache_misses_total") }
    }
}

impl FollowerMeters {
    /// `kind` is `view` or `projection`.
    pub(crate) fn new(kind: &'static str, name: &str) -> FollowerMeters {
        let name = name.to_owned();
        let labels = [("kind", kind.to_owned()), ("name", name)];
        FollowerMeters {
            lag_positions: gauge!("diptych_lag_positions", &labels),
            lag_seconds: gauge!("diptych_lag_seconds", &labels),
            stopped: gauge!("diptych_stopped", &labels),
            events: counter!("diptych_events_folded_total", &labels),
        }
    }

    pub(crate) fn took_in(&self, events: usize) {
        self.events.increment(events as u64);
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
