//! Metrics of commands, through the `metrics` facade.
//!
//! An app looks for a recorder once, when it is started, so a recorder has to be installed before
//! that. Without a recorder nothing is measured, not even the time.

use std::{
    any::{TypeId, type_name},
    cell::Cell,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use metrics::{Counter, Histogram, IntoF64, counter, gauge, histogram};
use parking_lot::RwLock;

use super::{Command, error::ExecuteError};
use crate::token::Receipt;

/// The metrics of the left panel.
pub(crate) struct CommandMetrics {
    /// Decisions that a concurrent commit invalidated.
    pub(crate) conflicts: Counter,
    /// The time until the store accepts or refuses a commit.
    append: Histogram,
    /// Whether the program installed a recorder.
    is_recorded: bool,
    commands: RwLock<HashMap<TypeId, Arc<OneCommandMetrics>, RandomState>>,
}

/// The metrics of commands of one Rust type.
pub(crate) struct OneCommandMetrics {
    seconds: Histogram,
    receipts: Counter,
    rejections: Counter,
    failures: Counter,
}

/// The metrics of the cache of decision states.
pub(crate) struct CacheMetrics {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
}

impl CommandMetrics {
    pub(crate) fn new() -> CommandMetrics {
        let is_recorded = Cell::new(false);
        gauge!("diptych_up").set(Up(&is_recorded));
        CommandMetrics {
            conflicts: counter!("diptych_conflicts_total"),
            append: histogram!("diptych_append_seconds"),
            is_recorded: is_recorded.get(),
            commands: RwLock::default(),
        }
    }

    /// The time, if there is a recorder.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.is_recorded.then(Instant::now)
    }

    pub(crate) fn appended(&self, began: Option<Instant>) {
        if let Some(began) = began {
            self.append.record(began.elapsed());
        }
    }

    /// The metrics of commands of this type, if there is a recorder.
    pub(crate) fn command<C: Command>(&self) -> Option<Arc<OneCommandMetrics>> {
        self.is_recorded.then(|| self.metrics_of::<C>())
    }

    fn metrics_of<C: Command>(&self) -> Arc<OneCommandMetrics> {
        if let Some(known) = self.commands.read().get(&TypeId::of::<C>()) {
            return known.clone();
        }
        let command = type_name::<C>();
        let outcome = |outcome: &'static str| {
            let labels = [("command", command), ("outcome", outcome)];
            counter!("diptych_commands_total", &labels)
        };
        let metrics = Arc::new(OneCommandMetrics {
            seconds: histogram!("diptych_command_seconds", "command" => command),
            receipts: outcome("receipt"),
            rejections: outcome("rejection"),
            failures: outcome("failure"),
        });
        self.commands.write().insert(TypeId::of::<C>(), metrics.clone());
        metrics
    }
}

/// The value 1 for a gauge. Only a recorder reads the value, so a read shows that there is a
/// recorder.
struct Up<'a>(&'a Cell<bool>);

impl IntoF64 for Up<'_> {
    fn into_f64(self) -> f64 {
        self.0.set(true);
        1.0
    }
}

impl OneCommandMetrics {
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

impl CacheMetrics {
    pub(crate) fn new() -> CacheMetrics {
        let hits = counter!("diptych_decision_cache_hits_total");
        CacheMetrics { hits, misses: counter!("diptych_decision_cache_misses_total") }
    }
}
