//! The conformance suite: each promise of [`EventStore`] is a small named case. The cases get their
//! stores from a function of the backend, so the test file of a backend is this:
//!
//! ```
//! use diptych_store::{Memory, testing::{Setup, TestStore}};
//!
//! fn fresh(setup: &Setup) -> Option<TestStore> {
//!     let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
//!     Some(TestStore::new(memory))
//! }
//! diptych_store::conformance!(fresh, lacks: [Reopening, Ending, SecondHandle]);
//! # fn main() {}
//! ```
//!
//! For a store that outlives its handles, the backend also provides a function that opens it again:
//! see [`TestStore::reopen`]. For a store that can be closed while handles exist, it provides a
//! function that closes it: see [`TestStore::end`]. For a store whose log can have other writers,
//! it provides a function that opens another handle on the log: see [`TestStore::second`].
//!
//! The macro makes one `#[test]` of each case. A backend lists in `lacks` the needs that it cannot
//! meet. A case with such a [`Need`] is then reported as not applicable. The list must be exact: a
//! test fails if the backend cannot meet a need that is not listed, or meets one that is listed.
//!
//! Cases poll futures on plain threads, and give up after a bounded wait. A backend that needs an
//! async runtime enters it inside its own methods.
//!
//! For each case there is a store in [`wrong`] that fails it, which proves the case.
//!
//! The module [`history`] records concurrent clients with kills in between, and checks the record.

// Cases are test code: they panic if an expectation is not met, and the panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr)]

mod append;
mod cases;
mod checks;
mod commits;
mod concurrent;
mod condition;
mod end;
mod extremes;
mod filter;
mod handles;
mod head;
pub mod history;
mod hostile;
mod key;
mod limits;
mod lookup;
mod model;
mod oracle;
mod page;
mod probe;
mod publish;
mod read;
mod reopen;
mod subscribe;
mod time;
mod tracking;
mod wrapped;
pub mod wrong;

use std::{
    any::Any,
    fmt,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

pub use cases::cases;
use probe::Probe;
pub use wrapped::{Call, Reply, WrappedStore};

use crate::{
    limits::Limits,
    store::{EventStore, Store},
    time::TimeSource,
};

/// The settings of the store that a case needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// The limits of the store.
    pub limits: Limits,
    /// The source of its `recorded_at`.
    pub time: TimeSource,
}

/// A store under test, with functions that reopen and end it.
pub struct TestStore {
    store: Store,
    hooks: Hooks,
}

#[derive(Default)]
struct Hooks {
    reopen: Option<Box<dyn FnMut() -> Store + Send>>,
    end: Option<Box<dyn FnOnce() + Send>>,
    second: Option<Box<dyn FnMut() -> Store + Send>>,
}

impl TestStore {
    /// A store that can be neither reopened nor ended.
    pub fn new(store: impl EventStore) -> TestStore {
        TestStore { store: Store::new(store), hooks: Hooks::default() }
    }

    /// Sets the function that opens the store again with the same setup. Before a case calls this
    /// function, the case waits for its commits, and drops its handles and the
    /// [end](TestStore::end) function.
    #[must_use]
    pub fn reopen(mut self, open: impl FnMut() -> Store + Send + 'static) -> TestStore {
        self.hooks.reopen = Some(Box::new(open));
        self
    }

    /// Sets the function that closes the store, or makes it fail, while handles exist.
    #[must_use]
    pub fn end(mut self, end: impl FnOnce() + Send + 'static) -> TestStore {
        self.hooks.end = Some(Box::new(end));
        self
    }

    /// Sets the function that opens another handle on the log, as another process would have it.
    /// Its head may be behind that of the first handle for any time, and the other way round.
    #[must_use]
    pub fn second(mut self, open: impl FnMut() -> Store + Send + 'static) -> TestStore {
        self.hooks.second = Some(Box::new(open));
        self
    }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestStore")
            .field("store", &self.store)
            .field("reopens", &self.hooks.reopen.is_some())
            .field("ends", &self.hooks.end.is_some())
            .field("has_second", &self.hooks.second.is_some())
            .finish()
    }
}

/// An ability that some cases need, and that a backend may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// [`TestStore::reopen`]: the store outlives its handles.
    Reopening,
    /// [`TestStore::end`]: the store can be closed, or made to fail, while handles exist.
    Ending,
    /// [`TestStore::second`]: the log can have other writers.
    SecondHandle,
    /// A store with [`TimeSource::Caller`].
    CallerTime,
    /// A store with smaller limits than the defaults.
    SmallLimits,
}

/// The settings of a run: the function that makes stores, and the longest wait.
pub struct Suite<'a> {
    fresh: &'a dyn Fn(&Setup) -> Option<TestStore>,
    patience: Duration,
}

impl<'a> Suite<'a> {
    /// Takes fresh, empty stores from this function. It returns `None` if the backend has no store
    /// with that setup.
    pub fn new(fresh: &'a dyn Fn(&Setup) -> Option<TestStore>) -> Suite<'a> {
        Suite { fresh, patience: Duration::from_secs(60) }
    }

    /// Sets the longest time of one wait. A store that needs longer fails the case.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Suite<'a> {
        self.patience = patience;
        self
    }

    fn has(&self, need: Need) -> bool {
        let default = Setup::default();
        match need {
            Need::Reopening => {
                (self.fresh)(&default).is_some_and(|test_store| test_store.hooks.reopen.is_some())
            }
            Need::Ending => {
                (self.fresh)(&default).is_some_and(|test_store| test_store.hooks.end.is_some())
            }
            Need::SecondHandle => {
                (self.fresh)(&default).is_some_and(|test_store| test_store.hooks.second.is_some())
            }
            Need::CallerTime => (self.fresh)(&probe::caller_time()).is_some(),
            Need::SmallLimits => (self.fresh)(&probe::small()).is_some(),
        }
    }

    fn probe(&self) -> Probe {
        self.probe_with(&Setup::default())
    }

    fn probe_with(&self, setup: &Setup) -> Probe {
        let test_store = (self.fresh)(setup).expect("the backend makes a store with this setup");
        Probe::new(test_store, self.patience)
    }
}

impl fmt::Debug for Suite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// One promise of a store, with its test.
#[derive(Debug)]
pub struct Case {
    /// Its name, unique among all cases.
    pub name: &'static str,
    /// The promise.
    pub proves: &'static str,
    /// The abilities that it needs, and that a backend may lack.
    pub needs: &'static [Need],
    run: fn(&Suite<'_>),
}

/// The result of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The store keeps the promise.
    Passed,
    /// The case did not run, because the backend lacks this ability.
    NotApplicable(Need),
    /// The store breaks the promise, as this text describes.
    Failed(String),
}

impl Case {
    /// Runs the case on fresh stores.
    pub fn run(&self, suite: &Suite<'_>) -> Outcome {
        if let Some(&need) = self.needs.iter().find(|need| !suite.has(**need)) {
            return Outcome::NotApplicable(need);
        }
        match panic::catch_unwind(AssertUnwindSafe(|| (self.run)(suite))) {
            Ok(()) => Outcome::Passed,
            Err(panic) => Outcome::Failed(message(&*panic)),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    text.unwrap_or_else(|| "it panicked without a message".to_owned())
}

/// Runs every case and returns its outcome.
pub fn run_all(suite: &Suite<'_>) -> Vec<(&'static Case, Outcome)> {
    let outcomes = cases().iter().map(|case| (case, case.run(suite)));
    outcomes.collect()
}

/// Runs the case of this name for [`conformance!`](crate::conformance).
///
/// # Panics
/// Panics if the case fails, or if `lacks` is wrong.
pub fn check(name: &str, fresh: &dyn Fn(&Setup) -> Option<TestStore>, lacks: &[Need]) {
    let case = cases().iter().find(|case| case.name == name);
    let case = case.expect("the case exists");
    let suite = Suite::new(fresh);
    if let Some(need) = lacks.iter().find(|need| case.needs.contains(need)) {
        let found = suite.has(*need);
        assert!(!found, "the store does not lack {need:?}: remove it from `lacks`");
    }
    match case.run(&suite) {
        Outcome::Passed => {}
        Outcome::NotApplicable(need) if lacks.contains(&need) => {
            eprintln!("not applicable, the store lacks {need:?}: {}", case.proves);
        }
        Outcome::NotApplicable(need) => {
            panic!("the store lacks {need:?}: provide it, or write `lacks: [{need:?}]`")
        }
        Outcome::Failed(how) => panic!("broken promise: {}\n{how}", case.proves),
    }
}

/// Makes one `#[test]` of every case of the suite; see [`testing`](crate::testing).
///
/// `conformance!(fresh)` takes a `fn(&Setup) -> Option<TestStore>`.
/// `conformance!(fresh, lacks: [Reopening])` also lists the needs that the backend cannot meet.
#[macro_export]
macro_rules! conformance {
    ($fresh:expr) => {
        $crate::conformance!($fresh, lacks: []);
    };
    ($fresh:expr, lacks: $lacks:tt) => {
        $crate::__conformance_cases! { ($crate::__conformance_tests) ($fresh, $lacks) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    (
        ($fresh:expr, $lacks:tt)
        $($name:ident: $group:ident, $needs:tt, $proves:literal;)*
    ) => {
        $(
            #[test]
            fn $name() {
                #[allow(unused_imports)]
                use $crate::testing::Need::*;
                $crate::testing::check(stringify!($name), &$fresh, &$lacks);
            }
        )*
    };
}
