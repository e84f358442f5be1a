//! The conformance suite: what every [`EventStore`] promises, as many small named cases over a
//! function that makes fresh stores. A backend's test file is this:
//!
//! ```
//! use diptych_store::{Memory, testing::{Setup, TestStore}};
//!
//! fn fresh(setup: &Setup) -> Option<TestStore> {
//!     let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
//!     Some(TestStore::new(memory))
//! }
//! diptych_store::conformance!(fresh, lacks: [Reopening, Ending]);
//! # fn main() {}
//! ```
//!
//! A store that outlives its handles says how it is opened again, and one that can be closed
//! while it is held says how: see [`TestStore::reopen`] and [`TestStore::end`].
//!
//! The macro makes one `#[test]` of every case. What a backend cannot do it says with `lacks`;
//! a case that needs it is then reported as not applicable. A case that is not applicable
//! without such a word fails, and so does a word that is not true.
//!
//! Cases poll futures on plain threads and give up after a bounded wait: a backend that needs a
//! runtime enters it inside its own methods.
//!
//! Every case is proven by a store of [`wrong`] that fails it.

// Cases are test code: a broken expectation panics, and the panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr)]

mod append;
mod cases;
mod checks;
mod concurrent;
mod condition;
mod end;
mod filter;
mod head;
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
pub use wrapped::{Call, Reply, Wrapped};

use crate::{
    limits::Limits,
    store::{EventStore, Store},
    time::TimeSource,
};

/// How a case wants its store to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// What the store takes at most.
    pub limits: Limits,
    /// Where it takes `recorded_at` from.
    pub time: TimeSource,
}

/// A store under test, and what can be done with it besides using it.
pub struct TestStore {
    store: Store,
    hooks: Hooks,
}

#[derive(Default)]
struct Hooks {
    reopen: Option<Box<dyn FnMut() -> Store + Send>>,
    end: Option<Box<dyn FnOnce() + Send>>,
}

impl TestStore {
    /// This store, which can neither be reopened nor ended.
    pub fn new(store: impl EventStore) -> TestStore {
        TestStore { store: Store::new(store), hooks: Hooks::default() }
    }

    /// The same, and this opens it again with the same setup. The case has waited for its
    /// commits, and dropped its handles and the [end](TestStore::end) hook with what that holds.
    #[must_use]
    pub fn reopen(mut self, open: impl FnMut() -> Store + Send + 'static) -> TestStore {
        self.hooks.reopen = Some(Box::new(open));
        self
    }

    /// The same, and this closes it, or makes it fail, while handles are held.
    #[must_use]
    pub fn end(mut self, end: impl FnOnce() + Send + 'static) -> TestStore {
        self.hooks.end = Some(Box::new(end));
        self
    }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestStore")
            .field("store", &self.store)
            .field("reopens", &self.hooks.reopen.is_some())
            .field("ends", &self.hooks.end.is_some())
            .finish()
    }
}

/// What a case needs that a backend may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// [`TestStore::reopen`]: the store outlives its handles.
    Reopening,
    /// [`TestStore::end`]: the store can be closed, or made to fail, while it is held.
    Ending,
    /// A store with [`TimeSource::Caller`].
    CallerTime,
    /// A store with smaller limits than the defaults.
    SmallLimits,
}

/// Where cases get their stores from, and how long they wait.
pub struct Suite<'a> {
    fresh: &'a dyn Fn(&Setup) -> Option<TestStore>,
    patience: Duration,
}

impl<'a> Suite<'a> {
    /// Fresh, empty stores from this function; `None` where the backend has no such store.
    pub fn new(fresh: &'a dyn Fn(&Setup) -> Option<TestStore>) -> Suite<'a> {
        Suite { fresh, patience: Duration::from_secs(60) }
    }

    /// The same with this bound on every single wait; a store that takes longer hangs.
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

/// One promise of a store, and how to find out whether it is kept.
#[derive(Debug)]
pub struct Case {
    /// Its name, unique among all cases.
    pub name: &'static str,
    /// The promise.
    pub proves: &'static str,
    /// What it needs that a backend may lack.
    pub needs: &'static [Need],
    run: fn(&Suite<'_>),
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The promise is kept.
    Passed,
    /// The backend lacks this, so there is nothing to find out.
    NotApplicable(Need),
    /// The promise is broken, in this way.
    Failed(String),
}

impl Case {
    /// Runs the case on fresh stores of this suite.
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

/// Runs every case; what came of each.
pub fn run_all(suite: &Suite<'_>) -> Vec<(&'static Case, Outcome)> {
    let outcomes = cases().iter().map(|case| (case, case.run(suite)));
    outcomes.collect()
}

/// Runs the case of this name for [`conformance!`](crate::conformance).
///
/// # Panics
/// If the case fails, or if `lacks` is not what the backend lacks.
pub fn check(name: &str, fresh: &dyn Fn(&Setup) -> Option<TestStore>, lacks: &[Need]) {
    let case = cases().iter().find(|case| case.name == name);
    let case = case.expect("the case exists");
    let suite = Suite::new(fresh);
    if let Some(need) = lacks.iter().find(|need| case.needs.contains(need)) {
        let found = suite.has(*need);
        assert!(!found, "the store does not lack {need:?}: leave the word out");
    }
    match case.run(&suite) {
        Outcome::Passed => {}
        Outcome::NotApplicable(need) if lacks.contains(&need) => {
            eprintln!("not applicable, the store lacks {need:?}: {}", case.proves);
        }
        Outcome::NotApplicable(need) => {
            panic!("the store lacks {need:?}: give what it takes, or say `lacks: [{need:?}]`")
        }
        Outcome::Failed(how) => panic!("broken promise: {}\n{how}", case.proves),
    }
}

/// Makes one `#[test]` of every case of the suite; see [`testing`](crate::testing).
///
/// `conformance!(fresh)` takes a `fn(&Setup) -> Option<TestStore>`;
/// `conformance!(fresh, lacks: [Reopening])` says what the backend cannot do.
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
